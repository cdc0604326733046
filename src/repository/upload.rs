//! Model directories that load requests bring: private folders of this process, gone when nothing is loaded from them.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::error::{Error, Result};

/// Names tried for a new folder. Those of earlier processes of the same number that were killed are in the way.
const NAMES_MAX: usize = 10_000;

/// Where files are kept, and how much they take together.
#[derive(Debug)]
pub(super) struct Uploads {
    directory: PathBuf,
    bytes: AtomicUsize,
    bytes_max: usize,
    next: AtomicUsize,
    /// The folders that there are.
    kept: Mutex<BTreeSet<PathBuf>>,
}

impl Uploads {
    /// At most `bytes_max` bytes in folders of `directory`.
    pub(super) fn new(directory: PathBuf, bytes_max: usize) -> Self {
        Self { directory, bytes: AtomicUsize::new(0), bytes_max, next: AtomicUsize::new(0), kept: Mutex::default() }
    }

    /// Writes `files`, whose paths are relative and plain, into a new folder that only this user may read.
    ///
    /// # Errors
    /// `TooLarge` where all folders together would take too much; `ModelUnavailable` where they cannot be written.
    pub(super) fn keep(self: &Arc<Self>, files: &[(String, Bytes)]) -> Result<Upload> {
        let bytes = files.iter().map(|(_, content)| content.len()).sum();
        // Only the sum counts; nothing else is published with it.
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // From here on it is given back by whoever drops this.
        let mut upload = Upload { uploads: Arc::clone(self), directory: None, bytes };
        if before.saturating_add(bytes) > self.bytes_max {
            return Err(Error::too_large(format!(
                "the files of all load requests together would take more than {} bytes (--uploads-max)",
                self.bytes_max
            )));
        }
        let kept = self.new_directory().and_then(|directory| {
            upload.directory = Some(directory.clone());
            files.iter().try_for_each(|(path, content)| write(&directory.join(path), content))
        });
        match kept {
            Ok(()) => Ok(upload),
            Err(cause) => {
                let place = self.directory.display();
                let message = format!("the files of a load cannot be kept in {place} (TMPDIR names another): {cause}");
                Err(Error::unavailable(message).with_source(cause))
            }
        }
    }

    /// Removes all folders, whoever still uses one. For the end of the process, which does not wait for its threads.
    pub(super) fn remove_all(&self) {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        kept.iter().for_each(|directory| remove(directory));
    }

    fn new_directory(&self) -> io::Result<PathBuf> {
        for _ in 0..NAMES_MAX {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let directory = self.directory.join(format!("tensorgate-{}-{number}", std::process::id()));
            // Follows no link and takes over nothing that is there already.
            match DirBuilder::new().mode(0o700).create(&directory) {
                Ok(()) => {
                    self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(directory.clone());
                    return Ok(directory);
                }
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(cause),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many folders of earlier processes are in the way"))
    }
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(content)
}

/// One folder, removed when dropped.
#[derive(Debug)]
pub(super) struct Upload {
    uploads: Arc<Uploads>,
    directory: Option<PathBuf>,
    bytes: usize,
}

impl Upload {
    /// The folder, which is laid out as a model's in a repository.
    pub(super) fn directory(&self) -> &Path {
        self.directory.as_deref().unwrap_or(Path::new(""))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.uploads.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        let Some(directory) = &self.directory else { return };
        let mut kept = self.uploads.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // Not twice, nor a folder of a later process; and under the lock, so that the end of the process waits for it.
        if kept.remove(directory) {
            remove(directory);
        }
    }
}

fn remove(directory: &Path) {
    if let Err(cause) = fs::remove_dir_all(directory) {
        tracing::warn!("{}: cannot be removed: {cause}", directory.display());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::error::Kind;

    fn files(content: &'static [u8]) -> Vec<(String, Bytes)> {
        ["1/model.onnx", "labels.txt"].map(|path| (path.to_owned(), Bytes::from_static(content))).into()
    }

    #[test]
    fn files_are_there_for_this_user_alone_until_they_are_dropped() {
        let place = tempfile::tempdir().unwrap();
        let uploads = Arc::new(Uploads::new(place.path().into(), 100));
        let upload = uploads.keep(&files(b"12345")).unwrap();
        let (directory, other) = (upload.directory().to_owned(), uploads.keep(&files(b"")).unwrap());
        assert_ne!(directory, other.directory());
        assert_eq!(fs::read(directory.join("1/model.onnx")).unwrap(), b"12345");
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(directory.join("labels.txt")).unwrap().permissions().mode() & 0o777, 0o600);
        drop(upload);
        assert!(!directory.exists() && other.directory().exists());
        assert_eq!(uploads.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_end_of_the_process_waits_for_nobody_who_still_uses_a_folder() {
        let place = tempfile::tempdir().unwrap();
        let uploads = Arc::new(Uploads::new(place.path().into(), 100));
        let (used, gone) = (uploads.keep(&files(b"1")).unwrap(), uploads.keep(&files(b"2")).unwrap());
        drop(gone);
        uploads.remove_all();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        let other = used.directory().to_owned();
        fs::create_dir(&other).unwrap();
        drop(used);
        assert!(other.exists(), "it is somebody else's by now");
    }

    #[test]
    fn all_together_have_a_bound() {
        let place = tempfile::tempdir().unwrap();
        let uploads = Arc::new(Uploads::new(place.path().into(), 19));
        let first = uploads.keep(&files(b"12345")).unwrap();
        let error = uploads.keep(&files(b"12345")).unwrap_err();
        assert!(error.kind() == Kind::TooLarge && error.message().contains("--uploads-max"), "{error}");
        drop(first);
        uploads.keep(&files(b"12345")).unwrap();
    }

    #[test]
    fn nothing_is_left_of_files_that_cannot_be_written() {
        let place = tempfile::tempdir().unwrap();
        let uploads = Arc::new(Uploads::new(place.path().into(), 100));
        let mut clashing = files(b"x");
        clashing.push(("labels.txt/inner".into(), Bytes::new()));
        assert_eq!(uploads.keep(&clashing).unwrap_err().kind(), Kind::ModelUnavailable);
        assert_eq!(uploads.bytes.load(Ordering::Relaxed), 0);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
