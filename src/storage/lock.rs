//! Locks between servers that share a cache: flock(2) on files, which ends with the process however it ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// A lock, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Waits for a lock that nobody else holds.
    pub(super) fn alone(path: &Path) -> io::Result<Self> {
        take(path, FlockOperation::LockExclusive)
    }

    /// Waits for a lock that others may hold too.
    pub(super) fn shared(path: &Path) -> io::Result<Self> {
        take(path, FlockOperation::LockShared)
    }

    /// A lock that nobody else holds, if it can be had at once.
    pub(super) fn try_alone(path: &Path) -> io::Result<Option<Self>> {
        match take(path, FlockOperation::NonBlockingLockExclusive) {
            Ok(lock) => Ok(Some(lock)),
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// Removes the file, which is held alone.
    pub(super) fn remove(self, path: &Path) -> io::Result<()> {
        let removed = fs::remove_file(path);
        drop(self.file);
        removed
    }
}

fn take(path: &Path, operation: FlockOperation) -> io::Result<Lock> {
    loop {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        match flock(&file, operation) {
            Ok(()) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(cause) => return Err(cause.into()),
        }
        // Whoever held it before may have removed the file: then this is a lock on nothing.
        let held = file.metadata()?.ino();
        match fs::symlink_metadata(path) {
            Ok(there) if there.ino() == held => return Ok(Lock { file }),
            Ok(_) => {}
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_keeps_others_out_until_it_is_dropped_or_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let shared = Lock::shared(&path).unwrap();
        let other = Lock::shared(&path).unwrap();
        assert!(Lock::try_alone(&path).unwrap().is_none());
        drop((shared, other));
        let alone = Lock::try_alone(&path).unwrap().unwrap();
        assert!(Lock::try_alone(&path).unwrap().is_none());
        alone.remove(&path).unwrap();
        assert!(!path.exists());
        drop(Lock::alone(&path).unwrap());
    }
}
