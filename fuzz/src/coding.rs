//! Compressed bodies.

use bytes::Bytes;
use tensorgate::server::decoders::{deflate, inflate};

use super::tensors::blames_the_client;

const BYTES_MAX: usize = 3 << 20;
const RATIO_MAX: usize = 10;
/// What any body may inflate to, whatever its size.
const FREE_BYTES: usize = 1 << 20;

/// One byte tells the coding and how often it is repeated, the rest is the body.
pub fn coding(data: &[u8]) {
    let Some((&choice, body)) = data.split_first() else { return };
    let coding = ["gzip", "deflate", "zstd"][usize::from(choice % 3)];
    match inflate(coding, body, BYTES_MAX, RATIO_MAX) {
        Ok(inflated) => assert!(inflated.len() <= BYTES_MAX.min(FREE_BYTES.max(body.len() * RATIO_MAX))),
        Err(error) => blames_the_client(&error),
    }
    let plain = Bytes::from(body.repeat(1 + usize::from(choice / 3)));
    let packed = deflate(coding, &plain).expect("a coding that is served");
    match inflate(coding, &packed, BYTES_MAX, RATIO_MAX) {
        Ok(inflated) => assert_eq!(inflated, plain),
        Err(error) => assert!(plain.len() > FREE_BYTES, "within what any body may inflate to: {error}"),
    }
}
