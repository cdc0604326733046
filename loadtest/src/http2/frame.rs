//! HTTP/2 frames: heads, kinds, flags, and what a receiver strips from a payload (RFC 9113, sections 4 and 6).

use crate::engine::protocol::Failure;

/// Bytes of a frame head.
pub(crate) const HEAD: usize = 9;
/// The largest payload that either side may send unless told otherwise.
pub(crate) const PAYLOAD_MAX: usize = 16_384;

/// Frame kinds.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Frame flags.
pub(crate) mod flag {
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// Settings that this client sends or obeys.
pub(crate) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
}

/// A frame without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes of payload.
    pub(crate) length: usize,
    /// One of [`kind`], or an unknown kind to be skipped.
    pub(crate) kind: u8,
    /// Bits of [`flag`].
    pub(crate) flags: u8,
    /// The stream; 0 is the connection.
    pub(crate) stream: u32,
}

impl Head {
    /// Whether a flag is set.
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Appends the nine bytes.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let length = (self.length as u32).to_be_bytes();
        let stream = self.stream.to_be_bytes();
        out.extend_from_slice(&[
            length[1], length[2], length[3], self.kind, self.flags, stream[0], stream[1], stream[2], stream[3],
        ]);
    }
}

/// The first frame of `input` with its payload, once it is there whole.
pub(crate) fn read(input: &[u8]) -> Result<Option<(Head, &[u8])>, Failure> {
    let Some(head) = input.first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    if length > PAYLOAD_MAX {
        return Err(Failure::Protocol("a frame is longer than allowed"));
    }
    let Some(payload) = input.get(HEAD..HEAD + length) else {
        return Ok(None);
    };
    // The highest bit of the stream is reserved and ignored.
    let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
    Ok(Some((Head { length, kind: head[3], flags: head[4], stream }, payload)))
}

/// Appends a whole frame.
pub(crate) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    Head { length: payload.len(), kind, flags, stream }.write(out);
    out.extend_from_slice(payload);
}

/// A DATA or HEADERS payload without padding and priority.
pub(crate) fn content<'a>(head: &Head, payload: &'a [u8]) -> Result<&'a [u8], Failure> {
    let short = Failure::Protocol("a frame is shorter than its padding");
    let (mut content, mut padding) = (payload, 0);
    if head.has(flag::PADDED) {
        let (first, rest) = content.split_first().ok_or(short)?;
        (content, padding) = (rest, usize::from(*first));
    }
    if head.kind == kind::HEADERS && head.has(flag::PRIORITY) {
        content = content.get(5..).ok_or(short)?;
    }
    let length = content.len().checked_sub(padding).ok_or(short)?;
    Ok(&content[..length])
}

/// A payload that has to be one 32-bit number, without its reserved bit where `mask` drops it.
pub(crate) fn number(payload: &[u8], mask: u32) -> Result<u32, Failure> {
    let bytes: [u8; 4] = payload.try_into().map_err(|_| Failure::Protocol("a frame has a wrong length"))?;
    Ok(u32::from_be_bytes(bytes) & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_never_before_it_is_whole() {
        let mut bytes = Vec::new();
        write(&mut bytes, kind::DATA, flag::END_STREAM, 0x7fff_fffd, b"payload");
        write(&mut bytes, kind::PING, 0, 0, &[0; 8]);
        let first = HEAD + 7;
        for end in 0..=bytes.len() {
            match read(&bytes[..end]).unwrap() {
                None => assert!(end < first),
                Some((head, payload)) => {
                    assert!(end >= first);
                    let stream = 0x7fff_fffd;
                    assert_eq!(head, Head { length: 7, kind: kind::DATA, flags: flag::END_STREAM, stream });
                    assert_eq!(payload, b"payload");
                }
            }
        }
        assert_eq!(read(&bytes[first..]).unwrap().unwrap().0.kind, kind::PING);
    }

    #[test]
    fn padding_and_priority_are_stripped_and_a_lie_about_them_is_refused() {
        let head = |kind, flags, length| Head { length, kind, flags, stream: 1 };
        let padded = [2, b'a', b'b', 0, 0];
        assert_eq!(content(&head(kind::DATA, flag::PADDED, 5), &padded), Ok(&b"ab"[..]));
        let both = [1, 0, 0, 0, 0, 0, b'h', 0];
        assert_eq!(content(&head(kind::HEADERS, flag::PADDED | flag::PRIORITY, 8), &both), Ok(&b"h"[..]));
        assert!(content(&head(kind::DATA, flag::PADDED, 2), &[9, 0]).is_err());
        assert!(content(&head(kind::DATA, flag::PADDED, 0), &[]).is_err());
        assert!(read(&[0xff; HEAD]).is_err(), "16 MiB of payload");
    }
}
