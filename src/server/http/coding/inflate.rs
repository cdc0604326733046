//! Request bodies, inflated within bounds that hold before memory is taken.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use super::Coding;
use crate::error::{Error, Result};
use crate::server::bounds::{Buffered, Charge};

/// A body may always inflate to this much: it costs no more than a connection's buffers, and short texts that repeat
/// themselves reach high ratios by right.
const FREE_BYTES: usize = 1 << 20;

/// Bytes inflated at a time.
const CHUNK_BYTES: usize = 16 << 10;

/// The largest window that a zstd frame may ask for: 8 MiB, the bound of RFC 9659 for content codings. The decoder takes
/// that memory for a frame of any size.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What a body may inflate to.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) struct InflateBounds {
    /// Bytes, as for a body that comes as it is.
    pub(in crate::server) bytes_max: usize,
    /// Times the bytes that came.
    pub(in crate::server) ratio_max: usize,
}

/// Inflates `body`, which has to be one whole stream of `coding`, and counts the memory taken to `held`.
///
/// # Errors
/// `TooLarge` beyond `bounds`, `Overloaded` where `held` must not grow, `InvalidRequest` for a body that is no such stream or is cut off.
pub(in crate::server) fn inflate(
    coding: Coding,
    body: &[u8],
    bounds: InflateBounds,
    held: &mut Charge<&Buffered>,
) -> Result<Bytes> {
    let mut output = Output { inflated: Vec::new(), given: body.len(), bounds, held };
    match coding {
        Coding::Gzip => output.fill_from(coding, MultiGzDecoder::new(body))?,
        Coding::Deflate => output.fill_deflated(body)?,
        Coding::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(body).map_err(|cause| malformed(coding, &cause))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|cause| malformed(coding, &cause))?;
            output.fill_from(coding, decoder)?;
        }
    }
    Ok(output.inflated.into())
}

struct Output<'a, 'b> {
    inflated: Vec<u8>,
    given: usize,
    bounds: InflateBounds,
    held: &'a mut Charge<&'b Buffered>,
}

impl Output<'_, '_> {
    fn fill_from(&mut self, coding: Coding, mut reader: impl Read) -> Result<()> {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(read) => self.push(&chunk[..read])?,
                Err(cause) => return Err(malformed(coding, &cause)),
            }
        }
    }

    /// "deflate" is zlib's format (RFC 9110, 8.4.1.2); some clients send the bare stream that the name suggests, which is
    /// told by its first two bytes.
    fn fill_deflated(&mut self, mut body: &[u8]) -> Result<()> {
        let zlib = matches!(body, [cmf, flags, ..] if cmf & 15 == 8 && u16::from_be_bytes([*cmf, *flags]) % 31 == 0);
        let mut stream = Decompress::new(zlib);
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            let (read_before, made_before) = (stream.total_in(), stream.total_out());
            let status = stream.decompress(body, &mut chunk, FlushDecompress::None);
            let status = status.map_err(|cause| malformed(Coding::Deflate, &cause))?;
            // Differences within one body and one chunk.
            let (read, made) =
                ((stream.total_in() - read_before) as usize, (stream.total_out() - made_before) as usize);
            body = &body[read..];
            self.push(&chunk[..made])?;
            match status {
                Status::StreamEnd if body.is_empty() => return Ok(()),
                Status::StreamEnd => return Err(malformed(Coding::Deflate, &"bytes are left behind its end")),
                _ if read == 0 && made == 0 => return Err(malformed(Coding::Deflate, &"it ends early")),
                _ => {}
            }
        }
    }

    fn push(&mut self, data: &[u8]) -> Result<()> {
        let length = self.inflated.len() + data.len();
        if length > self.bounds.bytes_max {
            return Err(Error::too_large(format!(
                "the request body inflates to more than {} bytes (--body-max)",
                self.bounds.bytes_max
            )));
        }
        if length > self.given.saturating_mul(self.bounds.ratio_max).max(FREE_BYTES) {
            return Err(Error::too_large(format!(
                "the request body inflates to more than {} times its {} bytes (--decompression-ratio-max)",
                self.bounds.ratio_max, self.given
            )));
        }
        if length > self.inflated.capacity() {
            // Doubling, but never beyond what may come.
            let capacity = length.max(self.inflated.capacity() * 2).min(self.bounds.bytes_max);
            self.held.raise(self.given.saturating_add(capacity))?;
            self.inflated.reserve_exact(capacity - self.inflated.len());
        }
        self.inflated.extend_from_slice(data);
        Ok(())
    }
}

fn malformed(coding: Coding, cause: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!("the request body is no {} stream: {cause}", coding.name()))
}
