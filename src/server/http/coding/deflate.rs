//! Answers, compressed whole: they are there whole, and a length up front keeps them in one write.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::Coding;

/// zstd's quickest level: numbers as text shrink to about the same at every level, and the client waits.
const ZSTD_LEVEL: i32 = 1;

/// The segments in one body of `coding`.
pub(in crate::server::http) fn compress<'a>(
    coding: Coding,
    segments: impl Iterator<Item = &'a Bytes> + Clone,
) -> Bytes {
    let length: usize = segments.clone().map(Bytes::len).sum();
    let out = Vec::with_capacity(length / 2);
    let compressed = match coding {
        Coding::Gzip => feed(GzEncoder::new(out, Compression::fast()), segments).and_then(GzEncoder::finish),
        Coding::Deflate => feed(ZlibEncoder::new(out, Compression::fast()), segments).and_then(ZlibEncoder::finish),
        Coding::Zstd => zstd::Encoder::new(out, ZSTD_LEVEL)
            .and_then(|encoder| feed(encoder, segments))
            .and_then(zstd::Encoder::finish),
    };
    // Writing to memory cannot fail, and the levels are constants that exist.
    compressed.expect("memory takes what is written").into()
}

fn feed<'a, W: Write>(mut encoder: W, segments: impl Iterator<Item = &'a Bytes>) -> std::io::Result<W> {
    for segment in segments {
        encoder.write_all(segment)?;
    }
    Ok(encoder)
}
