//! JSON requests with binary tensors behind them.

use bytes::Bytes;
use tensorgate::protocol::json;

use super::tensors::{are_equal, are_whole, blames_the_client, echo, limits, through_json};

/// Two bytes tell where the JSON ends, little-endian; the rest is the body.
pub fn binary(data: &[u8]) {
    let Some((length, body)) = data.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_le_bytes(*length));
    let body = Bytes::copy_from_slice(body);
    let request = match json::decode_request(body.clone(), Some(length), &limits()) {
        Ok((request, _)) => request,
        Err(error) => return blames_the_client(&error),
    };
    are_whole(&request);
    // What is behind the JSON is shared, every byte of it.
    let (start, end) = (body.as_ptr().addr() + length, body.as_ptr().addr() + body.len());
    let shared = request.inputs.iter().map(|input| input.tensor.data());
    let shared = shared.filter(|data| (start..end).contains(&data.as_ptr().addr())).map(Bytes::len).sum::<usize>();
    assert_eq!(shared, body.len() - length, "binary tensors are slices of the body");
    are_equal(&request, &through_json(&echo(&request), true).expect("binary tensors hold anything"));
    if let Some(again) = through_json(&echo(&request), false) {
        are_equal(&request, &again);
    }
}
