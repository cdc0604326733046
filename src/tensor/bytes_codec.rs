//! BYTES tensors: each element is a 32-bit little-endian length and that many bytes (V2 binary tensor data extension).

use bytes::{BufMut, Bytes, BytesMut};

use super::TensorError;

const LENGTH_BYTES: usize = size_of::<u32>();

/// The elements of a checked BYTES tensor, in row-major order.
#[derive(Clone)]
pub struct BytesElements<'a> {
    rest: &'a [u8],
}

impl<'a> BytesElements<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }
}

impl<'a> Iterator for BytesElements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (element, rest) = split_first(self.rest)?;
        self.rest = rest;
        Some(element)
    }
}

/// The first element and what follows it; `None` where the data end within it.
fn split_first(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk::<LENGTH_BYTES>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// Checks that `data` holds exactly `count` elements.
pub(super) fn check(data: &[u8], count: usize) -> Result<(), TensorError> {
    let (end, _) = skip(data, count)?;
    if end == data.len() { Ok(()) } else { Err(TensorError::ByteCount { expected: end, given: data.len() }) }
}

/// The offset behind the first `count` elements, and `count`.
pub(super) fn skip(data: &[u8], count: usize) -> Result<(usize, usize), TensorError> {
    let mut rest = data;
    for index in 0..count {
        if rest.is_empty() {
            return Err(TensorError::ElementCount { expected: count, given: index });
        }
        (_, rest) = split_first(rest).ok_or(TensorError::TruncatedElement { index })?;
    }
    Ok((data.len() - rest.len(), count))
}

/// Writes BYTES elements.
pub struct BytesEncoder {
    data: BytesMut,
}

impl BytesEncoder {
    /// An encoder with room for `elements` elements of `bytes` bytes in all.
    pub fn with_capacity(elements: usize, bytes: usize) -> Self {
        Self { data: BytesMut::with_capacity(elements.saturating_mul(LENGTH_BYTES).saturating_add(bytes)) }
    }

    /// Appends one element.
    ///
    /// # Panics
    /// Where it is longer than 4 GiB, which no body limit lets through.
    pub fn push(&mut self, element: &[u8]) {
        let length = u32::try_from(element.len()).expect("a BYTES element is below 4 GiB");
        self.data.put_u32_le(length);
        self.data.put_slice(element);
    }

    /// The encoded elements.
    pub fn finish(self) -> Bytes {
        self.data.freeze()
    }
}
