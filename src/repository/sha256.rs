//! SHA-256 of artifacts: what settings pin, `SHA256SUMS` states and metadata tells.
//!
//! Nothing here needs it to serve a model, whose bytes are known by the digest of `digest.rs`, and it takes a second for each GB. So
//! it is worked out before a model serves where something is stated, or where that takes no time; else while it loads and serves.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::digest::Artifact;
use crate::error::{Error, Result};
use crate::runtime::give_way;
use crate::storage::{Digest, Sha256, Sha256Hasher, Tree};

/// Artifacts up to this many bytes are told at once: it takes 16 ms.
const AT_ONCE_BYTES: u64 = 16 << 20;

/// Files that are known. More are forgotten and worked out again; each takes 64 bytes.
const KNOWN_MAX: usize = 100_000;

/// The SHA-256 of files that somebody had to know, by their digests.
#[derive(Default)]
pub(super) struct Sha256s {
    known: Mutex<BTreeMap<Digest, Sha256>>,
    /// Whoever works one out while a model loads or serves, one after the other.
    turn: Mutex<()>,
}

/// What a model's bytes are.
#[derive(Clone)]
pub(super) struct Identity {
    /// By which they are told apart.
    pub(super) digest: Digest,
    /// As people are told, once it is known.
    sha256: Arc<OnceLock<Sha256>>,
}

impl Identity {
    /// As people are told, once it is known.
    pub(super) fn sha256(&self) -> Option<Sha256> {
        self.sha256.get().copied()
    }
}

impl Sha256s {
    fn known(&self) -> MutexGuard<'_, BTreeMap<Digest, Sha256>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That of the file at `path`, whose digest is `digest`.
    pub(super) fn of_file(&self, path: &Path, digest: Digest, tree: Option<&Tree>) -> io::Result<Sha256> {
        if let Some(known) = self.known().get(&digest) {
            return Ok(*known);
        }
        let fetched = tree.and_then(|tree| Some((tree, path.strip_prefix(tree.directory()).ok()?.to_str()?)));
        let sha256 = match fetched {
            Some((tree, inner)) => tree.sha256(inner)?,
            None => read(path, digest)?,
        };
        let mut known = self.known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(digest, sha256);
        Ok(sha256)
    }

    /// That of an artifact whose files lie in `folder`: the file's own where it is one, else that of the lines that `sha256sum`
    /// prints for all, sorted by their paths.
    ///
    /// # Errors
    /// `ModelUnavailable` with the file that cannot be read.
    pub(super) fn of(&self, artifact: &Artifact, folder: &Path, tree: Option<&Tree>) -> Result<Sha256> {
        let mut each = Vec::with_capacity(artifact.files.len());
        for (name, digest) in &artifact.files {
            let path = folder.join(name);
            let sha256 = self.of_file(&path, *digest, tree);
            let unreadable = |cause| Error::unavailable(format!("{}: cannot be read: {cause}", path.display()));
            each.push((name, sha256.map_err(unreadable)?));
        }
        Ok(match each.as_slice() {
            [(_, only)] => *only,
            several => {
                let lines: String = several.iter().map(|(name, sha256)| format!("{sha256}  {name}\n")).collect();
                Sha256::of(lines.as_bytes())
            }
        })
    }

    /// What the bytes of `artifact` are. Their SHA-256 is told at once where that takes no time, and else worked out meanwhile, on a
    /// thread that gives way to all others; what cannot be read stays untold.
    pub(super) fn identity(self: &Arc<Self>, artifact: Artifact, folder: &Path, tree: Option<&Arc<Tree>>) -> Identity {
        let identity = Identity { digest: artifact.digest(), sha256: Arc::default() };
        if self.unknown_bytes(&artifact, folder) <= AT_ONCE_BYTES {
            if let Ok(sha256) = self.of(&artifact, folder, tree.map(Arc::as_ref)) {
                let _ = identity.sha256.set(sha256);
            }
            return identity;
        }
        let (this, told) = (Arc::clone(self), Arc::clone(&identity.sha256));
        let (folder, tree) = (folder.to_owned(), tree.cloned());
        let work = move || {
            give_way();
            let _turn = this.turn.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(sha256) = this.of(&artifact, &folder, tree.as_deref()) {
                let _ = told.set(sha256);
            }
        };
        // Without the thread it stays untold.
        let _ = std::thread::Builder::new().name("sha256".into()).spawn(work);
        identity
    }

    /// Bytes that would have to be read.
    fn unknown_bytes(&self, artifact: &Artifact, folder: &Path) -> u64 {
        let known = self.known();
        let unknown = artifact.files.iter().filter(|(_, digest)| !known.contains_key(digest));
        unknown.filter_map(|(name, _)| Some(std::fs::metadata(folder.join(name)).ok()?.len())).sum()
    }
}

/// That of the file at `path`, which still has the bytes that `digest` is of.
fn read(path: &Path, digest: Digest) -> io::Result<Sha256> {
    let mut sha256 = Sha256Hasher::new();
    if Digest::of_file(path, |chunk| sha256.update(chunk))? != digest {
        return Err(io::Error::other("it was changed while it was read"));
    }
    Ok(sha256.finish())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn artifact(folder: &Path, files: &[(&str, Vec<u8>)]) -> Artifact {
        let keep = |(name, bytes): &(&str, Vec<u8>)| {
            fs::write(folder.join(name), bytes).unwrap();
            ((*name).to_owned(), Digest::of(bytes))
        };
        Artifact { files: files.iter().map(keep).collect() }
    }

    #[test]
    fn an_artifact_is_what_sha256sum_says_of_its_file_or_of_its_lines_for_several() {
        let (folder, sums) = (tempfile::tempdir().unwrap(), Sha256s::default());
        let one = artifact(folder.path(), &[("model.onnx", b"abc".to_vec())]);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sums.of(&one, folder.path(), None).unwrap().to_string(), abc);
        let two = artifact(folder.path(), &[("model.onnx", b"abc".to_vec()), ("w.bin", b"x".to_vec())]);
        let lines = format!("{abc}  model.onnx\n{}  w.bin\n", Sha256::of(b"x"));
        assert_eq!(sums.of(&two, folder.path(), None).unwrap(), Sha256::of(lines.as_bytes()));
    }

    #[test]
    fn what_is_known_of_some_bytes_is_not_read_again() {
        let (folder, sums) = (tempfile::tempdir().unwrap(), Sha256s::default());
        let one = artifact(folder.path(), &[("model.onnx", b"abc".to_vec())]);
        let first = sums.of(&one, folder.path(), None).unwrap();
        fs::remove_file(folder.path().join("model.onnx")).unwrap();
        assert_eq!(sums.of(&one, folder.path(), None).unwrap(), first);
        fs::write(folder.path().join("model.onnx"), "changed").unwrap();
        let other = Artifact { files: [("model.onnx".to_owned(), Digest::of(b"other"))].into() };
        assert!(sums.of(&other, folder.path(), None).unwrap_err().message().contains("model.onnx"));
    }

    #[test]
    fn a_small_artifact_is_told_at_once_and_a_large_one_when_it_was_read() {
        let (folder, sums) = (tempfile::tempdir().unwrap(), Arc::new(Sha256s::default()));
        let small = artifact(folder.path(), &[("model.onnx", b"abc".to_vec())]);
        assert!(sums.identity(small, folder.path(), None).sha256().is_some());
        let bytes = vec![7; AT_ONCE_BYTES as usize + 1];
        let expected = Sha256::of(&bytes);
        let large = artifact(folder.path(), &[("model.onnx", bytes)]);
        let digest = large.digest();
        let held = sums.turn.lock().unwrap();
        let identity = sums.identity(large.clone(), folder.path(), None);
        assert_eq!((identity.sha256(), identity.digest), (None, digest));
        drop(held);
        assert_eq!(*identity.sha256.wait(), expected);
        // Of another load of the same bytes it is known.
        assert_eq!(sums.identity(large, folder.path(), None).sha256(), Some(expected));
    }
}
