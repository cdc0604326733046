//! Files that were fetched, by their digests, and the folders made of them.
//!
//! ```text
//! blobs/<blake3>           a file's bytes; blobs/<blake3>.seen: what they were known by when they were last read whole, and
//!                          blobs/<blake3>.sha256: their SHA-256, where somebody had to know
//! objects/<key>            which blob an object of a store is
//! sha256/<sha256>          which blob has this SHA-256
//! trees/<blake3>/files/    a folder of links to blobs; trees/<blake3>/manifest says which
//! listings/<key>           what a store held when it could last be asked
//! partial/, tmp/, locks/   downloads, what is being made, and who is at it
//! ```
//!
//! Everything appears by a rename, whole or not at all. A blob is trusted while its size and time of writing are those that it
//! was last read whole with, and the machine has not been started since: nothing is synced, so that a crash of the machine
//! may lose bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::digest::{Digest, Sha256};
use super::failure::{Class, Failure};
use super::lock::Lock;
use super::notes::{Notes, touch};
use super::partial::Partial;
use super::tree::Tree;
use crate::telemetry::StorageMetrics;

/// Left free on the disk: others write logs to it, and a file system that is full to the last block is slow.
const RESERVE_BYTES: u64 = 64 << 20;

/// After this, what a process left in `tmp` is nobody's any more: making a folder of links takes a moment.
const LEFT_AFTER: Duration = Duration::from_secs(3600);

/// After this, nobody comes back to a download that was broken off, nor to a note of what an object is that nobody read.
const STALE_AFTER: Duration = Duration::from_secs(30 * 86_400);

/// A directory of fetched files, shared with other servers.
pub(super) struct Cache {
    root: PathBuf,
    notes: Notes,
    bytes_max: Option<u64>,
    metrics: Arc<StorageMetrics>,
    boot: String,
}

/// A file of a folder to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
}

impl Cache {
    /// Opens the cache in `root`, which is made where it is not there, and removes what earlier processes left.
    ///
    /// # Errors
    /// Where it cannot be written to.
    pub(super) fn open(root: &Path, bytes_max: Option<u64>, metrics: Arc<StorageMetrics>) -> Result<Self, Failure> {
        let unusable =
            |cause: io::Error| Failure::disk(format_args!("--cache-dir {} cannot be used", root.display()), &cause);
        for folder in ["blobs", "objects", "sha256", "trees", "listings", "partial", "tmp", "locks"] {
            DirBuilder::new().recursive(true).mode(0o700).create(root.join(folder)).map_err(unusable)?;
        }
        // Outside Linux, blobs are trusted across starts of the machine.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let cache = Self { root: root.to_owned(), notes: Notes::new(root), bytes_max, metrics, boot };
        cache.sweep();
        cache.metrics.set_cache_bytes(cache.used());
        Ok(cache)
    }

    fn at(&self, folder: &str, name: impl Display) -> PathBuf {
        self.notes.at(folder, name)
    }

    fn new_tmp(&self) -> PathBuf {
        self.notes.new_tmp()
    }

    /// What stays after a process that was killed, or that nobody asks for any more. What cannot be removed stays.
    fn sweep(&self) {
        let Ok(now) = self.now() else { return };
        let is_older = |metadata: &fs::Metadata, age: Duration| {
            metadata.modified().is_ok_and(|written| now.duration_since(written).is_ok_and(|since| since > age))
        };
        let stale = ["partial", "objects", "sha256", "listings"].map(|folder| (folder, STALE_AFTER));
        for (folder, after) in stale.into_iter().chain([("tmp", LEFT_AFTER)]) {
            for (path, metadata) in entries(&self.root.join(folder)) {
                if is_older(&metadata, after) {
                    let _ = if metadata.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                }
            }
        }
        for (path, metadata) in entries(&self.root.join("locks")) {
            if is_older(&metadata, STALE_AFTER)
                && let Ok(Some(lock)) = Lock::try_alone(&path)
            {
                let _ = lock.remove(&path);
            }
        }
        // Files of which a folder was never made.
        for (path, metadata) in self.blobs() {
            if metadata.nlink() == 1 && is_older(&metadata, LEFT_AFTER) {
                self.remove_blob(&path);
            }
        }
    }

    fn remove_blob(&self, path: &Path) {
        let _ = fs::remove_file(path);
        for note in ["seen", "sha256"] {
            let _ = fs::remove_file(path.with_extension(note));
        }
    }

    fn blobs(&self) -> impl Iterator<Item = (PathBuf, fs::Metadata)> {
        entries(&self.root.join("blobs")).filter(|(path, _)| path.extension().is_none())
    }

    /// Bytes on disk: blobs, and what there is of downloads.
    fn used(&self) -> u64 {
        let blobs: u64 = self.blobs().map(|(_, metadata)| metadata.len()).sum();
        let partial: u64 = entries(&self.root.join("partial")).map(|(_, metadata)| metadata.blocks() * 512).sum();
        blobs + partial
    }

    /// The lock on what is known by `key`, for whoever downloads it.
    pub(super) fn lock(&self, key: &str) -> Result<Lock, Failure> {
        let path = self.at("locks", key);
        Lock::alone(&path).map_err(|cause| Failure::disk(path.display(), &cause))
    }

    /// The blob that an object is known to be, where it is there and sound.
    pub(super) fn known(&self, key: &str, bytes: u64) -> Option<Blob> {
        let blob = Blob { digest: self.notes.named("objects", key)?, bytes };
        self.is_sound(&blob).then_some(blob)
    }

    /// The blob that has this SHA-256, where it is there and sound.
    pub(super) fn of_sha256(&self, sha256: Sha256, bytes: u64) -> Option<Blob> {
        let blob = Blob { digest: self.notes.named("sha256", sha256)?, bytes };
        self.is_sound(&blob).then_some(blob)
    }

    /// Notes which blob an object is.
    pub(super) fn remember(&self, key: &str, blob: &Blob) -> Result<(), Failure> {
        self.notes.write(&self.at("objects", key), format!("{}\n", blob.digest))
    }

    /// The SHA-256 of a blob, which is read for it where that is not noted.
    pub(super) fn sha256_of(&self, blob: &Blob) -> Result<Sha256, Failure> {
        self.notes.sha256_of(blob.digest).map_err(|cause| Failure::disk(self.notes.blob(blob.digest).display(), &cause))
    }

    /// Notes the SHA-256 of a blob.
    pub(super) fn note_sha256(&self, blob: &Blob, sha256: Sha256) {
        self.notes.note_sha256(blob.digest, sha256);
    }

    /// Whether a blob is there with the bytes that it should have. It is read whole where that is not known.
    pub(super) fn is_sound(&self, blob: &Blob) -> bool {
        let path = self.notes.blob(blob.digest);
        let Ok(metadata) = fs::symlink_metadata(&path) else { return false };
        if !metadata.is_file() || metadata.len() != blob.bytes {
            self.remove_damaged(&path);
            return false;
        }
        if fs::read_to_string(path.with_extension("seen")).is_ok_and(|seen| seen == self.seen(&metadata)) {
            return true;
        }
        let sound = Digest::of_file(&path, |_| ()).is_ok_and(|digest| digest == blob.digest);
        if sound {
            self.note_seen(&path);
        } else {
            self.remove_damaged(&path);
        }
        sound
    }

    fn remove_damaged(&self, path: &Path) {
        tracing::warn!("{}: is not what it was when it was fetched, and is fetched again", path.display());
        self.remove_blob(path);
    }

    /// What a blob is known by while nobody writes to it.
    fn seen(&self, metadata: &fs::Metadata) -> String {
        format!("{} {} {}.{}\n", self.boot, metadata.len(), metadata.mtime(), metadata.mtime_nsec())
    }

    fn note_seen(&self, path: &Path) {
        if let Ok(metadata) = fs::symlink_metadata(path) {
            // Without the note it is read again.
            let _ = self.notes.write(&path.with_extension("seen"), self.seen(&metadata));
        }
    }

    /// What there is of a download.
    pub(super) fn partial(&self, key: &str, bytes: u64) -> Result<Partial, Failure> {
        let stem = self.at("partial", key);
        Partial::open(&stem, bytes).map_err(|cause| Failure::disk(stem.display(), &cause))
    }

    /// Makes a download that is whole a blob.
    pub(super) fn publish(&self, partial: &Partial, blob: &Blob) -> Result<(), Failure> {
        let path = self.notes.blob(blob.digest);
        partial.publish(&path).map_err(|cause| Failure::disk(path.display(), &cause))?;
        self.note_seen(&path);
        Ok(())
    }

    /// The folder of these files, by path: the one there is, or a new one.
    ///
    /// # Errors
    /// `Changed` where a blob has gone meanwhile, as another server made room; those of the disk.
    pub(super) fn tree(&self, files: &BTreeMap<String, Blob>) -> Result<Tree, Failure> {
        let manifest: String = files.iter().map(|(path, blob)| format!("{}  {path}\n", blob.digest)).collect();
        let name = Digest::of(manifest.as_bytes()).to_string();
        let (tree, lock_path) = (self.at("trees", &name), self.at("locks", &name));
        let disk = |cause: io::Error| match cause.kind() {
            io::ErrorKind::NotFound => {
                Failure::new(Class::Changed, format!("{}: a file of it has gone", tree.display()))
            }
            _ => Failure::disk(tree.display(), &cause),
        };
        let lock = Lock::shared(&lock_path).map_err(disk)?;
        let digests = files.iter().map(|(path, blob)| (path.clone(), blob.digest)).collect();
        let done = Tree { files: tree.join("files"), digests, notes: self.notes.clone(), _lock: lock };
        if !self.is_whole(&tree, files) {
            // Of links to blobs that are no more. Whoever reads it now has its files open.
            let _ = fs::rename(&tree, self.new_tmp());
            let made = self.new_tmp();
            self.make(&made, files, &manifest).map_err(disk)?;
            match fs::rename(&made, &tree) {
                Ok(()) => {}
                // Another server was quicker.
                Err(_) if self.is_whole(&tree, files) => drop(fs::remove_dir_all(&made)),
                Err(cause) => return Err(disk(cause)),
            }
        }
        // Which was used last goes last.
        touch(&tree.join("manifest"));
        self.metrics.set_cache_bytes(self.used());
        Ok(done)
    }

    /// Whether a folder is there whose files are the blobs of today.
    fn is_whole(&self, tree: &Path, files: &BTreeMap<String, Blob>) -> bool {
        files.iter().all(|(path, blob)| {
            let (there, blob) = (tree.join("files").join(path), self.notes.blob(blob.digest));
            match (fs::symlink_metadata(there), fs::symlink_metadata(blob)) {
                (Ok(there), Ok(blob)) => (there.dev(), there.ino()) == (blob.dev(), blob.ino()),
                _ => false,
            }
        })
    }

    fn make(&self, tree: &Path, files: &BTreeMap<String, Blob>, manifest: &str) -> io::Result<()> {
        let mut folders = DirBuilder::new();
        folders.recursive(true).mode(0o700).create(tree.join("files"))?;
        for (path, blob) in files {
            let path = tree.join("files").join(path);
            if let Some(parent) = path.parent() {
                folders.create(parent)?;
            }
            fs::hard_link(self.notes.blob(blob.digest), path)?;
        }
        fs::write(tree.join("manifest"), manifest)
    }

    /// The time by the clock of the file system, which is what files are dated with.
    fn now(&self) -> io::Result<SystemTime> {
        let path = self.new_tmp();
        let now = File::create(&path)?.metadata()?.modified();
        fs::remove_file(&path)?;
        now
    }

    /// The listing that was kept as `key`.
    pub(super) fn listing(&self, key: &str) -> Option<Vec<u8>> {
        fs::read(self.at("listings", key)).ok()
    }

    /// Keeps a listing.
    pub(super) fn keep_listing(&self, key: &str, listing: &[u8]) -> Result<(), Failure> {
        self.notes.write(&self.at("listings", key), listing)
    }

    /// Lets go of folders, those first that were used longest ago, until `bytes` more have room.
    ///
    /// # Errors
    /// `TooLarge` where they cannot have any.
    pub(super) fn make_room(&self, bytes: u64) -> Result<(), Failure> {
        if let Some(max) = self.bytes_max.filter(|&max| bytes > max) {
            let message = format!("{bytes} bytes are to be fetched, and the cache may have {max} (--cache-bytes-max)");
            return Err(Failure::new(Class::TooLarge, message));
        }
        let mut trees: Vec<(SystemTime, PathBuf)> = entries(&self.root.join("trees"))
            .map(|(path, _)| {
                let used = fs::metadata(path.join("manifest")).and_then(|manifest| manifest.modified());
                (used.unwrap_or(SystemTime::UNIX_EPOCH), path)
            })
            .collect();
        trees.sort();
        let mut trees = trees.into_iter();
        loop {
            let (used, free) = (self.used(), self.free()?);
            let within = self.bytes_max.is_none_or(|max| used.saturating_add(bytes) <= max);
            if within && free >= bytes.saturating_add(RESERVE_BYTES) {
                self.metrics.set_cache_bytes(used);
                return Ok(());
            }
            let Some((_, tree)) = trees.next() else {
                let place = self.root.display();
                return Err(match within {
                    true => Failure::new(
                        Class::Disk,
                        format!(
                            "{bytes} bytes are to be fetched, and the disk of {place} has {free} free, of which {RESERVE_BYTES} stay so"
                        ),
                    ),
                    false => Failure::new(
                        Class::TooLarge,
                        format!(
                            "{bytes} bytes are to be fetched; {place} has {used}, all in use, and may have {} (--cache-bytes-max)",
                            self.bytes_max.unwrap_or_default()
                        ),
                    ),
                });
            };
            self.evict(&tree);
        }
    }

    /// Removes a folder that nobody uses, and the blobs that only it had.
    fn evict(&self, tree: &Path) {
        let Some(name) = tree.file_name().and_then(|name| name.to_str()) else { return };
        let lock_path = self.at("locks", name);
        let Ok(Some(lock)) = Lock::try_alone(&lock_path) else { return };
        let manifest = fs::read_to_string(tree.join("manifest")).unwrap_or_default();
        let digests: BTreeSet<Digest> = manifest.lines().filter_map(|line| Digest::from_hex(line.get(..64)?)).collect();
        let gone = self.new_tmp();
        if fs::rename(tree, &gone).is_ok() {
            let _ = fs::remove_dir_all(&gone);
            for digest in digests {
                let path = self.notes.blob(digest);
                if fs::symlink_metadata(&path).is_ok_and(|blob| blob.nlink() == 1) {
                    self.remove_blob(&path);
                }
            }
            tracing::info!(tree = name, "let go of a cached version to make room");
            self.metrics.count_evicted();
        }
        let _ = lock.remove(&lock_path);
    }

    fn free(&self) -> Result<u64, Failure> {
        let disk =
            rustix::fs::statvfs(&self.root).map_err(|cause| Failure::disk(self.root.display(), &cause.into()))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// What is in a folder, without following links. What cannot be read is not there.
fn entries(folder: &Path) -> impl Iterator<Item = (PathBuf, fs::Metadata)> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
}
