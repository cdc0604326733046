//! HPACK (RFC 7541): decodes response headers down to the two fields that say whether a call succeeded, and builds
//! the header blocks of requests.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::huffman;
use super::tables::STATIC;
use crate::engine::protocol::Failure;

/// The dynamic table's size unless a SETTINGS frame changes it.
pub(crate) const TABLE_SIZE: usize = 4096;
/// What the table's accounting adds to each entry's name and value.
const ENTRY_OVERHEAD: usize = 32;

const BROKEN: Failure = Failure::Protocol("header block cannot be decoded");

/// What a field means for the outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Nothing,
    Status(u16),
    Grpc(u32),
}

/// What a header block says about the outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// `:status`
    pub(crate) status: Option<u16>,
    /// `grpc-status`
    pub(crate) grpc: Option<u32>,
}

struct Entry {
    name: Box<[u8]>,
    size: usize,
    meaning: Meaning,
}

/// The decoding side of one connection.
pub(crate) struct Decoder {
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
}

impl Decoder {
    /// With an empty dynamic table.
    pub(crate) fn new() -> Self {
        Self { entries: VecDeque::new(), size: 0, size_max: TABLE_SIZE }
    }

    /// Decodes a whole header block and brings the dynamic table up to date with it.
    pub(crate) fn decode(&mut self, block: &[u8]) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        let mut rest = block;
        while let Some(first) = rest.first().copied() {
            let meaning = if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                self.indexed(index)?
            } else if first & 0xe0 == 0x20 {
                let size = integer(&mut rest, 5)?;
                self.resize(size)?;
                Meaning::Nothing
            } else {
                let remembered = first & 0x40 != 0;
                self.literal(&mut rest, remembered)?
            };
            match meaning {
                Meaning::Status(code) => outcome.status = Some(code),
                Meaning::Grpc(code) => outcome.grpc = Some(code),
                Meaning::Nothing => {}
            }
        }
        Ok(outcome)
    }

    fn indexed(&self, index: usize) -> Result<Meaning, Failure> {
        match index {
            0 => Err(BROKEN),
            8..=14 => meaning(STATIC[index - 1].0.as_bytes(), STATIC[index - 1].1.as_bytes()),
            1..=61 => Ok(Meaning::Nothing),
            _ => self.entries.get(index - 62).map(|entry| entry.meaning).ok_or(BROKEN),
        }
    }

    fn literal(&mut self, rest: &mut &[u8], remembered: bool) -> Result<Meaning, Failure> {
        let index = integer(rest, if remembered { 6 } else { 4 })?;
        let name: Cow<'_, [u8]> = match index {
            0 => string(rest)?,
            1..=61 => Cow::Borrowed(STATIC[index - 1].0.as_bytes()),
            _ => Cow::Owned(self.entries.get(index - 62).ok_or(BROKEN)?.name.to_vec()),
        };
        let value = string(rest)?;
        let meaning = meaning(&name, &value)?;
        if remembered {
            let size = name.len() + value.len() + ENTRY_OVERHEAD;
            self.evict(self.size_max.saturating_sub(size));
            if size <= self.size_max {
                self.entries.push_front(Entry { name: name.into(), size, meaning });
                self.size += size;
            }
        }
        Ok(meaning)
    }

    fn resize(&mut self, size: usize) -> Result<(), Failure> {
        if size > TABLE_SIZE {
            return Err(BROKEN);
        }
        self.size_max = size;
        self.evict(size);
        Ok(())
    }

    fn evict(&mut self, target: usize) {
        while self.size > target {
            let Some(entry) = self.entries.pop_back() else { return };
            self.size -= entry.size;
        }
    }
}

/// A status that is not a number is an error: it must not pass as "no status".
fn meaning(name: &[u8], value: &[u8]) -> Result<Meaning, Failure> {
    let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse::<u32>().ok()).ok_or(BROKEN);
    match name {
        b":status" => Ok(Meaning::Status(u16::try_from(number()?).map_err(|_| BROKEN)?)),
        b"grpc-status" => Ok(Meaning::Grpc(number()?)),
        _ => Ok(Meaning::Nothing),
    }
}

/// An integer whose first byte shares its upper bits with flags (section 5.1).
fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, Failure> {
    let mask = (1usize << bits) - 1;
    let (first, mut tail) = rest.split_first().ok_or(BROKEN)?;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (byte, behind) = tail.split_first().ok_or(BROKEN)?;
            tail = behind;
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 28 {
                return Err(BROKEN);
            }
        }
    }
    *rest = tail;
    Ok(value)
}

/// A string literal, plain or Huffman-coded (section 5.2).
fn string<'a>(rest: &mut &'a [u8]) -> Result<Cow<'a, [u8]>, Failure> {
    let coded = rest.first().is_some_and(|byte| byte & 0x80 != 0);
    let length = integer(rest, 7)?;
    let (text, behind) = rest.split_at_checked(length).ok_or(BROKEN)?;
    *rest = behind;
    if coded { huffman::decode(text).map(Cow::Owned).ok_or(BROKEN) } else { Ok(Cow::Borrowed(text)) }
}

fn push_integer(out: &mut Vec<u8>, flags: u8, bits: u32, value: usize) {
    let mask = (1usize << bits) - 1;
    if value < mask {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | mask as u8);
    let mut left = value - mask;
    while left >= 0x80 {
        out.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// The header blocks of a connection's requests, which are all alike.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RequestBlocks {
    /// For the first request: puts every field into the server's dynamic table.
    pub(crate) first: Vec<u8>,
    /// For all further requests: only indices, as any client with a table would send.
    pub(crate) rest: Vec<u8>,
    /// Bytes of table that the fields need.
    pub(crate) table: usize,
}

/// Builds the blocks of a POST over plain HTTP/2 with these fields.
pub(crate) fn request_blocks(fields: &[(&str, &str)]) -> RequestBlocks {
    // `:method: POST` and `:scheme: http` stand in the static table.
    let (mut first, mut rest) = (vec![0x83, 0x86], vec![0x83, 0x86]);
    let table = fields.iter().map(|(name, value)| name.len() + value.len() + ENTRY_OVERHEAD).sum();
    let fits = table <= TABLE_SIZE;
    for (position, (name, value)) in fields.iter().enumerate() {
        let mut literal = vec![if fits { 0x40 } else { 0x00 }];
        for text in [name, value] {
            push_integer(&mut literal, 0, 7, text.len());
            literal.extend_from_slice(text.as_bytes());
        }
        first.extend_from_slice(&literal);
        if fits {
            // The last field inserted has the lowest dynamic index, 62.
            push_integer(&mut rest, 0x80, 7, 62 + fields.len() - 1 - position);
        } else {
            rest.extend_from_slice(&literal);
        }
    }
    RequestBlocks { first, rest, table: if fits { table } else { 0 } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_examples_of_the_rfc_decode_with_their_table() {
        // RFC 7541, C.5: a table of 256 bytes, from which entries are evicted.
        let mut decoder = Decoder::new();
        decoder.resize(256).unwrap();
        let first = b"\x48\x03302\x58\x07private\x61\x1dMon, 21 Oct 2013 20:13:21 GMT\x6e\x17https://www.example.com";
        assert_eq!(decoder.decode(first).unwrap().status, Some(302));
        assert_eq!((decoder.entries.len(), decoder.size), (4, 222));
        assert_eq!(decoder.decode(b"\x48\x03307\xc1\xc0\xbf").unwrap().status, Some(307));
        assert_eq!((decoder.entries.len(), decoder.size), (4, 222));
    }

    #[test]
    fn a_grpc_status_is_found_plain_indexed_and_huffman_coded() {
        let mut decoder = Decoder::new();
        let plain = b"\x40\x0bgrpc-status\x0214";
        assert_eq!(decoder.decode(plain).unwrap(), Outcome { status: None, grpc: Some(14) });
        assert_eq!(decoder.decode(b"\xbe").unwrap().grpc, Some(14));
        // The name from the dynamic table, the value "0" Huffman-coded, not remembered.
        assert_eq!(decoder.decode(b"\x0f\x2f\x81\x07").unwrap().grpc, Some(0));
        assert_eq!(decoder.decode(b"\x88").unwrap().status, Some(200));
        assert_eq!(decoder.decode(b"\x20\xbe"), Err(BROKEN), "the table was emptied");
    }

    #[test]
    fn a_block_cut_anywhere_is_an_error_or_a_shorter_block_but_never_a_panic() {
        let block = b"\x88\x40\x0bgrpc-status\x010\x7f\x80\x80\x80\x80\x80\x01";
        for end in 0..block.len() {
            let _ = Decoder::new().decode(&block[..end]);
        }
        assert!(Decoder::new().decode(block).is_err());
        for byte in 0..=255u8 {
            let _ = Decoder::new().decode(&[byte, byte, byte, byte]);
        }
        assert!(Decoder::new().decode(b"\x40\x0bgrpc-status\x01x").is_err(), "not a number");
    }

    #[test]
    fn later_requests_name_the_same_fields_by_index() {
        let blocks = request_blocks(&[(":path", "/a"), ("grpc-status", "7"), ("te", "trailers")]);
        let mut decoder = Decoder::new();
        assert_eq!(decoder.decode(&blocks.first).unwrap().grpc, Some(7));
        assert_eq!(decoder.decode(&blocks.rest).unwrap().grpc, Some(7));
        assert_eq!(blocks.rest, [0x83, 0x86, 0xc0, 0xbf, 0xbe]);
        assert_eq!(blocks.table, decoder.size);
        let long = "x".repeat(5_000);
        let blocks = request_blocks(&[("a", &long), ("grpc-status", "7")]);
        assert_eq!(blocks.first, blocks.rest);
        assert_eq!(Decoder::new().decode(&blocks.rest).unwrap().grpc, Some(7));
    }
}
