//! What names bytes: BLAKE3 in the cache, and SHA-256 wherever people state or are told what files are.
//!
//! A BLAKE3 is the root of a tree over the file's bytes, of which each piece of a download is a subtree: what a piece comes to is
//! worked out while its bytes are at hand, on whichever thread has them, and the file's digest follows from those of its pieces.
//! A SHA-256 goes through a file from its first byte to its last, at some 1 GB/s, which is less than what a fast network brings.
//!
//! Source: O'Connor, Aumasson, Neves, Wilcox-O'Hearn, "BLAKE3: one function, fast everywhere" (2020), section 2.1.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use blake3::hazmat::{self, HasherExt, Mode};
use ring::digest::{Context, SHA256};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Small enough to stay in a core's cache, and large enough for all lanes of BLAKE3 (16 of 1 KiB).
const CHUNK_BYTES: usize = 128 << 10;

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// What 64 hexadecimal digits in lower case say.
            pub fn from_hex(text: &str) -> Option<Self> {
                let digits = <&[u8; 64]>::try_from(text.as_bytes()).ok()?;
                let mut bytes = [0; 32];
                for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
                    *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
                }
                Some(Self(bytes))
            }
        }

        /// 64 hexadecimal digits in lower case.
        impl fmt::Display for $name {
            fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(to, "{byte:02x}"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                Self::from_hex(&text).ok_or_else(|| D::Error::custom("expected 64 hexadecimal digits"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, to)
            }
        }
    };
}

digest_type! {
    /// A BLAKE3, by which files are kept and told apart.
    Digest
}

digest_type! {
    /// A SHA-256 (FIPS 180-4), as `SHA256SUMS` and the settings state and metadata tell.
    Sha256
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl Digest {
    /// That of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// That of a file, read by `each` too, in order.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn of_file(path: &Path, mut each: impl FnMut(&[u8])) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        read(path, |chunk| {
            hasher.update(chunk);
            each(chunk);
        })?;
        Ok(Self(*hasher.finalize().as_bytes()))
    }

    /// That of a file, from its nodes in order.
    pub(super) fn of_nodes(nodes: &[Node]) -> Self {
        match nodes {
            [] => Self::of(&[]),
            [only] => Self(*only),
            several => {
                let (left, right) = halves(several);
                Self(*hazmat::merge_subtrees_root(&node_of(left), &node_of(right), Mode::Hash).as_bytes())
            }
        }
    }
}

impl Sha256 {
    /// That of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::finished(ring::digest::digest(&SHA256, bytes).as_ref())
    }

    /// That of a file.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut hasher = Sha256Hasher::new();
        read(path, |chunk| hasher.update(chunk))?;
        Ok(hasher.finish())
    }

    fn finished(bytes: &[u8]) -> Self {
        let mut all = [0; 32];
        all.copy_from_slice(bytes);
        Self(all)
    }
}

/// A SHA-256 of bytes as they come.
pub struct Sha256Hasher(Context);

impl Sha256Hasher {
    #[expect(clippy::new_without_default, reason = "a hasher is begun, there is no default one")]
    /// One of no bytes yet.
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of all that were taken.
    pub fn finish(self) -> Sha256 {
        Sha256::finished(self.0.finish().as_ref())
    }
}

/// What a piece of a file comes to: its chaining value in the file's tree, or the file's digest where it is the only one. Pieces are
/// of one size, a power of two from 1 KiB on, but for the last.
pub(super) type Node = hazmat::ChainingValue;

/// A node as it is worked out.
pub(super) struct NodeHasher(blake3::Hasher);

impl NodeHasher {
    /// That of the piece that begins at `offset` bytes of its file.
    pub(super) fn at(offset: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(offset);
        Self(hasher)
    }

    /// Takes the next bytes of the piece.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of all that were taken, which are the file where they are `alone`.
    pub(super) fn node(&self, alone: bool) -> Node {
        if alone { *self.0.finalize().as_bytes() } else { self.0.finalize_non_root() }
    }
}

/// The left subtree has as many pieces as a power of two can (section 2.1 of the paper).
fn halves(nodes: &[Node]) -> (&[Node], &[Node]) {
    nodes.split_at(nodes.len().next_power_of_two() / 2)
}

fn node_of(nodes: &[Node]) -> Node {
    match nodes {
        [only] => *only,
        several => {
            let (left, right) = halves(several);
            hazmat::merge_subtrees_non_root(&node_of(left), &node_of(right), Mode::Hash)
        }
    }
}

fn read(path: &Path, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(()),
            count => each(&chunk[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_are_read_as_they_are_shown_and_nothing_else_is() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256::from_hex(abc), Some(Sha256::of(b"abc")));
        assert_eq!(Sha256::of(b"abc").to_string(), abc);
        // The first of the official test vectors: BLAKE3 of nothing.
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(Digest::of(b"").to_string(), empty);
        for wrong in [&abc[1..], &abc.to_uppercase(), &format!("{abc}0"), &abc.replace('a', "g"), "", "\u{e9}"] {
            assert_eq!(Digest::from_hex(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_digest_follows_from_its_pieces(pieces in 0_usize..20, last in 1_usize..=4096, seed: u8) {
            const PIECE_BYTES: usize = 4096;
            let bytes: Vec<u8> = (0..pieces * PIECE_BYTES + last).map(|at| seed.wrapping_mul((at % 251) as u8)).collect();
            let alone = bytes.len() <= PIECE_BYTES;
            let nodes = bytes.chunks(PIECE_BYTES).enumerate().map(|(piece, chunk)| {
                let mut hasher = NodeHasher::at((piece * PIECE_BYTES) as u64);
                // As it comes from the network.
                chunk.chunks(1000).for_each(|part| hasher.update(part));
                hasher.node(alone)
            });
            prop_assert_eq!(Digest::of_nodes(&nodes.collect::<Vec<_>>()), Digest::of(&bytes));
        }
    }
}
