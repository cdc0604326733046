//! A folder of fetched files, as whoever loads a model sees it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::digest::{Digest, Sha256};
use super::lock::Lock;
use super::notes::Notes;

/// A folder in the cache, which stays while this is held.
#[derive(Debug)]
pub struct Tree {
    pub(super) files: PathBuf,
    pub(super) digests: BTreeMap<String, Digest>,
    pub(super) notes: Notes,
    pub(super) _lock: Lock,
}

impl Tree {
    /// The folder.
    pub fn directory(&self) -> &Path {
        &self.files
    }

    /// The digest of a file, by its path in the folder.
    pub fn digest(&self, path: &str) -> Option<Digest> {
        self.digests.get(path).copied()
    }

    /// Every file's digest, by its path in the folder.
    pub fn digests(&self) -> &BTreeMap<String, Digest> {
        &self.digests
    }

    /// The SHA-256 of a file, by its path in the folder, which is read for it where nobody had to know it before.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn sha256(&self, path: &str) -> io::Result<Sha256> {
        let Some(digest) = self.digest(path) else { return Sha256::of_file(&self.files.join(path)) };
        self.notes.sha256_of(digest)
    }
}
