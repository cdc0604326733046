//! What is known of files in the cache beyond their names.

use std::collections::hash_map::RandomState;
use std::fmt::Display;
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};

use super::digest::{Digest, Sha256};
use super::failure::Failure;

/// The time of the file system.
const NOW: Timestamps = {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Timestamps { last_access: now, last_modification: now }
};

/// Dates a file now: what was used last goes last.
pub(super) fn touch(path: &Path) {
    let _ = File::options().append(true).open(path).map(|file| futimens(&file, &NOW));
}

/// What is known of blobs beyond their names: small files, each written whole.
#[derive(Clone, Debug)]
pub(super) struct Notes {
    root: Arc<Path>,
}

impl Notes {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    pub(super) fn at(&self, folder: &str, name: impl Display) -> PathBuf {
        self.root.join(folder).join(name.to_string())
    }

    pub(super) fn blob(&self, digest: Digest) -> PathBuf {
        self.at("blobs", digest)
    }

    /// A name that no other process has, nor had before it was killed.
    pub(super) fn new_tmp(&self) -> PathBuf {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let random = RandomState::new().hash_one(number);
        self.at("tmp", format_args!("{}-{number}-{random:016x}", std::process::id()))
    }

    pub(super) fn write(&self, path: &Path, content: impl AsRef<[u8]>) -> Result<(), Failure> {
        let tmp = self.new_tmp();
        fs::write(&tmp, content)
            .and_then(|()| fs::rename(&tmp, path))
            .map_err(|cause| Failure::disk(path.display(), &cause))
    }

    /// The blob that a note in `folder` names. Whoever reads it keeps it: those that nobody reads are removed some day.
    pub(super) fn named(&self, folder: &str, name: impl Display) -> Option<Digest> {
        let path = self.at(folder, name);
        let digest = Digest::from_hex(fs::read_to_string(&path).ok()?.trim())?;
        touch(&path);
        Some(digest)
    }

    /// The SHA-256 of a blob, which is read for it where that is not noted.
    pub(super) fn sha256_of(&self, digest: Digest) -> io::Result<Sha256> {
        let blob = self.blob(digest);
        let noted = fs::read_to_string(blob.with_extension("sha256")).ok();
        if let Some(sha256) = noted.and_then(|text| Sha256::from_hex(text.trim())) {
            return Ok(sha256);
        }
        let sha256 = Sha256::of_file(&blob)?;
        self.note_sha256(digest, sha256);
        Ok(sha256)
    }

    /// Notes the SHA-256 of a blob. Without the notes it is worked out again.
    pub(super) fn note_sha256(&self, digest: Digest, sha256: Sha256) {
        let _ = self.write(&self.blob(digest).with_extension("sha256"), format!("{sha256}\n"));
        let _ = self.write(&self.at("sha256", sha256), format!("{digest}\n"));
    }
}
