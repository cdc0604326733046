//! A file that is being downloaded, and what of it is there: it outlives the process, so that a download goes on where it was
//! broken off.
//!
//! The bytes are in a sparse file of the full size. A log beside it has an entry for each piece that is done: its number and
//! its node in the file's BLAKE3 tree, so that the digest of the file costs nothing more once all pieces are there. Nothing is
//! synced: what a crash of the machine loses shows as a piece whose bytes do not fit.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::digest::{Digest, Node, NodeHasher, Sha256, Sha256Hasher};

/// Bytes of a piece. What Amazon advises for parallel ranges (8 to 16 MiB); a piece that breaks off is not lost within a process,
/// and is this much between processes. A power of two, so that each is a subtree of the file's digest.
pub(super) const PIECE_BYTES: u64 = 8 << 20;

const NUMBER_BYTES: usize = size_of::<u32>();
const ENTRY_BYTES: usize = NUMBER_BYTES + size_of::<Node>();
const CHUNK_BYTES: usize = 256 << 10;

/// A file on its way.
pub(super) struct Partial {
    data: File,
    path: PathBuf,
    log_path: PathBuf,
    log: Mutex<File>,
    bytes: u64,
    progress: Mutex<Progress>,
    changed: Condvar,
}

struct Progress {
    /// Of those pieces that are there.
    nodes: Vec<Option<Node>>,
    /// The download has ended without the rest.
    given_up: bool,
}

impl Partial {
    /// Opens what there is of a file of `bytes` at `stem`, or begins it. Whoever does holds the lock on it.
    ///
    /// # Errors
    /// Those of the disk; a link in a file's place is one.
    pub(super) fn open(stem: &Path, bytes: u64) -> io::Result<Self> {
        let (path, log_path) = (stem.with_extension("data"), stem.with_extension("log"));
        let mut options = OpenOptions::new();
        // A link would have the bytes written elsewhere.
        options.read(true).write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let data = options.open(&path)?;
        let mut log = options.append(true).open(&log_path)?;
        data.set_len(bytes)?;
        let mut entries = Vec::new();
        log.read_to_end(&mut entries)?;
        // An entry that was not written to its end is none.
        log.set_len((entries.len() / ENTRY_BYTES * ENTRY_BYTES) as u64)?;
        let pieces = usize::try_from(bytes.div_ceil(PIECE_BYTES)).unwrap_or(usize::MAX);
        let progress = Mutex::new(Progress { nodes: vec![None; pieces], given_up: false });
        let partial = Self { data, path, log_path, log: Mutex::new(log), bytes, progress, changed: Condvar::new() };
        let noted = read_log(&entries, pieces);
        for (piece, noted) in noted.into_iter().enumerate().filter_map(|(piece, node)| Some((piece, node?))) {
            let there = partial.hashed(piece)?.node(pieces == 1);
            partial.progress().nodes[piece] = (there == noted).then_some(there);
        }
        Ok(partial)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pieces(&self) -> usize {
        self.progress().nodes.len()
    }

    /// The pieces that are not there, in order.
    pub(super) fn missing(&self) -> Vec<usize> {
        self.progress().nodes.iter().enumerate().filter(|(_, node)| node.is_none()).map(|(piece, _)| piece).collect()
    }

    /// Bytes of those.
    pub(super) fn missing_bytes(&self) -> u64 {
        self.missing().into_iter().map(|piece| self.range(piece)).map(|range| range.end - range.start).sum()
    }

    /// Where a piece lies in the file.
    pub(super) fn range(&self, piece: usize) -> Range<u64> {
        let start = piece as u64 * PIECE_BYTES;
        start..(start + PIECE_BYTES).min(self.bytes)
    }

    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.data.write_all_at(bytes, at)
    }

    /// Notes that a piece is there, with its bytes' hasher.
    pub(super) fn complete(&self, piece: usize, hasher: &NodeHasher) -> io::Result<()> {
        let node = hasher.node(self.pieces() == 1);
        let mut entry = [0; ENTRY_BYTES];
        // A file of 2^32 pieces would have 32 PiB.
        entry[..NUMBER_BYTES].copy_from_slice(&(piece as u32).to_le_bytes());
        entry[NUMBER_BYTES..].copy_from_slice(&node);
        self.log.lock().unwrap_or_else(PoisonError::into_inner).write_all(&entry)?;
        self.progress().nodes[piece] = Some(node);
        self.changed.notify_all();
        Ok(())
    }

    /// Notes that all of it is there.
    pub(super) fn complete_all(&self) -> io::Result<()> {
        for piece in 0..self.pieces() {
            self.complete(piece, &self.hashed(piece)?)?;
        }
        Ok(())
    }

    /// Tells [`Partial::sha256`] that no more comes.
    pub(super) fn give_up(&self) {
        self.progress().given_up = true;
        self.changed.notify_all();
    }

    fn hashed(&self, piece: usize) -> io::Result<NodeHasher> {
        let mut hasher = NodeHasher::at(self.range(piece).start);
        self.read(piece, |chunk| hasher.update(chunk))?;
        Ok(hasher)
    }

    fn read(&self, piece: usize, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let Range { start: mut at, end } = self.range(piece);
        let mut chunk = vec![0; CHUNK_BYTES];
        while at < end {
            let length = CHUNK_BYTES.min(usize::try_from(end - at).unwrap_or(CHUNK_BYTES));
            self.data.read_exact_at(&mut chunk[..length], at)?;
            take(&chunk[..length]);
            at += length as u64;
        }
        Ok(())
    }

    /// The digest of the file, all of whose pieces are there.
    pub(super) fn digest(&self) -> io::Result<Digest> {
        let nodes: Option<Vec<Node>> = self.progress().nodes.iter().copied().collect();
        nodes.map(|nodes| Digest::of_nodes(&nodes)).ok_or_else(|| io::Error::other("pieces of it are not there"))
    }

    /// The SHA-256 of the file, read piece by piece as they come, so that little is left to do when the last has come. `None`
    /// where the download was given up.
    pub(super) fn sha256(&self) -> io::Result<Option<Sha256>> {
        let mut all = Sha256Hasher::new();
        for piece in 0..self.pieces() {
            let waiting = |progress: &mut Progress| progress.nodes[piece].is_none() && !progress.given_up;
            let progress = self.changed.wait_while(self.progress(), waiting).unwrap_or_else(PoisonError::into_inner);
            if progress.nodes[piece].is_none() {
                return Ok(None);
            }
            drop(progress);
            self.read(piece, |chunk| all.update(chunk))?;
        }
        Ok(Some(all.finish()))
    }

    /// Moves the whole file to `to`, and the log away.
    pub(super) fn publish(&self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        fs::remove_file(&self.log_path)
    }

    /// Forgets what there is.
    pub(super) fn discard(&self) -> io::Result<()> {
        fs::remove_file(&self.log_path)?;
        fs::remove_file(&self.path)
    }
}

/// The last node noted for each piece. What names no piece of this file is skipped: the piece is then fetched again.
fn read_log(entries: &[u8], pieces: usize) -> Vec<Option<Node>> {
    let mut nodes = vec![None; pieces];
    for entry in entries.as_chunks::<ENTRY_BYTES>().0 {
        let (number, node) = entry.split_at(NUMBER_BYTES);
        let number = number.try_into().map(u32::from_le_bytes).unwrap_or(u32::MAX);
        if let Some(noted) = nodes.get_mut(number as usize) {
            *noted = node.try_into().ok();
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hashed(piece: u64, bytes: &[u8]) -> NodeHasher {
        let mut hasher = NodeHasher::at(piece * PIECE_BYTES);
        hasher.update(bytes);
        hasher
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn pieces_that_were_done_are_there_after_a_restart_and_those_that_do_not_fit_are_not() {
        let folder = folder();
        let stem = folder.path().join("x");
        let bytes = 2 * PIECE_BYTES + 5;
        let first = Partial::open(&stem, bytes).unwrap();
        assert_eq!((first.pieces(), first.missing_bytes()), (3, bytes));
        first.write(2 * PIECE_BYTES, b"12345").unwrap();
        first.complete(2, &hashed(2, b"12345")).unwrap();
        // As after a crash of the machine: noted, but the bytes are others.
        first.complete(0, &hashed(0, b"others")).unwrap();
        drop(first);
        // A process that was killed while it wrote.
        OpenOptions::new().append(true).open(stem.with_extension("log")).unwrap().write_all(&[1, 2, 3]).unwrap();
        let second = Partial::open(&stem, bytes).unwrap();
        assert_eq!((second.missing(), second.missing_bytes()), (vec![0, 1], 2 * PIECE_BYTES));
        second.complete(0, &hashed(0, &vec![0; PIECE_BYTES as usize])).unwrap();
        drop(second);
        assert_eq!(Partial::open(&stem, bytes).unwrap().missing(), [1]);
    }

    #[test]
    fn digests_follow_from_the_pieces_in_whatever_order_they_come() {
        let folder = folder();
        let zeros = vec![0; PIECE_BYTES as usize];
        let partial = Partial::open(&folder.path().join("x"), PIECE_BYTES + 3).unwrap();
        partial.write(PIECE_BYTES, b"abc").unwrap();
        let sha256 = std::thread::scope(|scope| {
            let sha256 = scope.spawn(|| partial.sha256().unwrap());
            partial.complete(1, &hashed(1, b"abc")).unwrap();
            assert!(partial.digest().is_err(), "a piece is not there");
            partial.complete(0, &hashed(0, &zeros)).unwrap();
            sha256.join().unwrap()
        });
        let whole = [&zeros[..], b"abc"].concat();
        assert_eq!((partial.digest().unwrap(), sha256), (Digest::of(&whole), Some(Sha256::of(&whole))));
        let other = Partial::open(&folder.path().join("y"), 3).unwrap();
        other.give_up();
        assert_eq!(other.sha256().unwrap(), None);
        // An empty file has no pieces, and one of a single piece is the piece.
        let empty = Partial::open(&folder.path().join("z"), 0).unwrap();
        assert_eq!((empty.digest().unwrap(), empty.sha256().unwrap()), (Digest::of(b""), Some(Sha256::of(b""))));
        other.write(0, b"abc").unwrap();
        other.complete_all().unwrap();
        assert_eq!(other.digest().unwrap(), Digest::of(b"abc"));
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let folder = folder();
        let outside = folder.path().join("outside");
        fs::write(&outside, "precious").unwrap();
        std::os::unix::fs::symlink(&outside, folder.path().join("x.data")).unwrap();
        assert!(Partial::open(&folder.path().join("x"), 3).is_err());
        assert_eq!(fs::read(&outside).unwrap(), b"precious");
    }

    proptest! {
        #[test]
        fn any_log_is_read_within_the_pieces(entries in prop::collection::vec(any::<u8>(), 0..200), pieces in 0_usize..5) {
            prop_assert_eq!(read_log(&entries, pieces).len(), pieces);
        }
    }
}
