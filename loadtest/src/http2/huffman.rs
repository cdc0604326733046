//! Decodes HPACK's Huffman strings, bit by bit: they are rare once the peer's dynamic table is filled.

use std::sync::LazyLock;

use super::tables::CODE_LENGTHS;

const LENGTH_MAX: usize = 30;
const END_MARK: u16 = 256;

/// The canonical code, by length: the first code, where its symbols begin, and how many there are.
struct Code {
    first: [u32; LENGTH_MAX + 1],
    offset: [usize; LENGTH_MAX + 1],
    count: [u32; LENGTH_MAX + 1],
    symbols: Vec<u16>,
}

static CODE: LazyLock<Code> = LazyLock::new(|| {
    let mut code = Code {
        first: [0; LENGTH_MAX + 1],
        offset: [0; LENGTH_MAX + 1],
        count: [0; LENGTH_MAX + 1],
        symbols: Vec::with_capacity(CODE_LENGTHS.len()),
    };
    let mut next = 0;
    for length in 1..=LENGTH_MAX {
        next <<= 1;
        code.first[length] = next;
        code.offset[length] = code.symbols.len();
        let symbols = (0..=END_MARK).filter(|symbol| usize::from(CODE_LENGTHS[usize::from(*symbol)]) == length);
        code.symbols.extend(symbols);
        code.count[length] = (code.symbols.len() - code.offset[length]) as u32;
        next += code.count[length];
    }
    code
});

/// The decoded string, or `None` if it holds the end mark or is not padded with fewer than eight ones.
pub(crate) fn decode(input: &[u8]) -> Option<Vec<u8>> {
    let table = &*CODE;
    let mut out = Vec::with_capacity(input.len() * 2);
    let (mut code, mut length) = (0u32, 0usize);
    for byte in input {
        for bit in (0..8).rev() {
            code = code << 1 | u32::from(byte >> bit & 1);
            length += 1;
            let at = code.wrapping_sub(table.first[length]);
            if at < table.count[length] {
                let symbol = table.symbols[table.offset[length] + at as usize];
                out.push(u8::try_from(symbol).ok()?);
                (code, length) = (0, 0);
            } else if length == LENGTH_MAX {
                return None;
            }
        }
    }
    let padded = length < 8 && code == (1 << length) - 1;
    padded.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_decode() {
        // RFC 7541, C.4.1 and C.6.1.
        let host = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decode(&host).unwrap(), b"www.example.com");
        let date = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66, 0xe0, 0x82,
            0xa6, 0x2d, 0x1b, 0xff,
        ];
        assert_eq!(decode(&date).unwrap(), b"Mon, 21 Oct 2013 20:13:21 GMT");
        assert_eq!(decode(&[]).unwrap(), b"");
    }

    #[test]
    fn bad_padding_and_the_end_mark_are_refused() {
        assert_eq!(decode(&[0x00, 0xfe]), None, "padded with a zero");
        assert_eq!(decode(&[0xff, 0xff]), None, "a whole byte of padding");
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), None, "the end mark");
    }
}
