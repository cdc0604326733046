//! gRPC's messages within a body: a byte that says whether it is compressed, four of its length, and it.
//! Source: grpc.io, "gRPC over HTTP2", Length-Prefixed-Message.

use bytes::{BufMut, Bytes, BytesMut};

/// What is before each message.
pub const PREFIX: usize = 5;

/// Why a body is not one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unframed {
    /// It is compressed.
    Compressed,
    /// It is cut short, or there is more than one.
    Broken,
}

impl std::fmt::Display for Unframed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Compressed => {
                "the message is compressed, which is not read here; send it as it is (grpc-encoding: identity)"
            }
            Self::Broken => {
                "the body is not exactly one message: five bytes of its form and length, and as many as these say"
            }
        })
    }
}

/// The one message of a body, as a slice of it.
///
/// # Errors
/// If there is none, more than one, or it is compressed.
pub fn message(body: &Bytes) -> Result<Bytes, Unframed> {
    let prefix: [u8; PREFIX] = body.get(..PREFIX).and_then(|own| own.try_into().ok()).ok_or(Unframed::Broken)?;
    let [compressed, length @ ..] = prefix;
    match compressed {
        _ if body.len() - PREFIX != u32::from_be_bytes(length) as usize => Err(Unframed::Broken),
        0 => Ok(body.slice(PREFIX..)),
        1 => Err(Unframed::Compressed),
        _ => Err(Unframed::Broken),
    }
}

/// A body of one message.
pub fn framed(message: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(PREFIX + message.len());
    body.put_u8(0);
    // Bodies are bounded far below 4 GiB.
    body.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    body.extend_from_slice(message);
    body.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_exactly_one_message_that_is_not_compressed() {
        assert_eq!(message(&framed(b"abc")), Ok(Bytes::from_static(b"abc")));
        assert_eq!(message(&framed(b"")), Ok(Bytes::new()));
        let broken = [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\0a", b"\x02\0\0\0\0"];
        assert!(broken.iter().all(|own| message(&Bytes::from_static(own)) == Err(Unframed::Broken)));
        assert_eq!(message(&Bytes::from_static(b"\x01\0\0\0\x01a")), Err(Unframed::Compressed));
    }
}
