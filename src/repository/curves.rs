//! Learned latency curves, kept in files so that a restart starts knowing.
//!
//! A file is for one artifact on one kind of hardware: its name is the digest of both, and its head says them, so that a
//! file is never taken for another's. It is replaced in one step, by whichever of several servers writes last; all have
//! learned the same. What cannot be read or written is one line of the log: a curve is learned anew soon enough.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ring::digest::{SHA256, digest};

use crate::scheduler::Curve;

/// The first line of a file; another number is another format.
const FORMAT: &str = "tensorgate latency curve 1";

/// How names of files end.
const ENDING: &str = "curve";

/// Files kept; the ones written longest ago go first. Some hundred bytes each, and more than a machine has models.
const FILES_MAX: usize = 1024;

/// Bytes of a file that are read: several times what the largest curve takes.
const BYTES_MAX: u64 = 64 << 10;

/// A directory of curves.
pub(super) struct CurveStore {
    directory: PathBuf,
    processor: String,
    files_max: usize,
    /// Set by the first write that fails, so that the log says it once.
    failed: AtomicBool,
    /// Makes names of files that are being written unique in this process.
    written: AtomicU64,
}

/// What a curve depends on.
#[derive(Clone, Debug)]
pub(super) struct CurveKey {
    /// Of the artifact; empty for a runtime that needs none.
    pub(super) digest: String,
    /// The runtime and its version.
    pub(super) runtime: String,
    /// Threads of one execution.
    pub(super) threads: usize,
    /// Cores of the process.
    pub(super) cores: usize,
    /// What the settings change about executions.
    pub(super) settings: String,
}

/// The file of one curve.
pub(super) struct CurveFile {
    store: Arc<CurveStore>,
    path: PathBuf,
    head: String,
    /// What the file holds, as far as this process knows.
    last: Mutex<String>,
}

impl CurveStore {
    /// The store in `directory`, which is made where it is missing; `None`, and a line in the log, where it cannot be.
    pub(super) fn open(directory: &Path) -> Option<Arc<Self>> {
        if let Err(cause) = fs::create_dir_all(directory) {
            tracing::warn!("{}: {cause}: learned latencies are not kept (--state-dir)", directory.display());
            return None;
        }
        Some(Arc::new(Self {
            directory: directory.to_owned(),
            processor: processor(),
            files_max: FILES_MAX,
            failed: AtomicBool::new(false),
            written: AtomicU64::new(0),
        }))
    }

    /// The file for `key` on this machine.
    pub(super) fn file(self: &Arc<Self>, key: &CurveKey) -> CurveFile {
        let CurveKey { digest: artifact, runtime, threads, cores, settings } = key;
        let artifact = if artifact.is_empty() { "none" } else { artifact };
        let head = format!(
            "{FORMAT}\nartifact {artifact}\nruntime {runtime}\nprocessor {}\ncores {cores}\nthreads {threads}\n\
             settings {}\n",
            self.processor,
            hexadecimal(settings.as_bytes())
        );
        let name = format!("{}.{ENDING}", hexadecimal(head.as_bytes()));
        CurveFile { store: Arc::clone(self), path: self.directory.join(name), head, last: Mutex::default() }
    }

    /// Removes the files written longest ago, down to the bound.
    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                files.push((entry.metadata()?.modified()?, path));
            }
        }
        files.sort();
        for (_, path) in &files[..files.len().saturating_sub(self.files_max)] {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

impl CurveFile {
    /// The curve in the file, if there is one.
    pub(super) fn read(&self) -> Option<Curve> {
        let text = match self.text() {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return None,
            Err(cause) => {
                tracing::warn!("{}: {cause}: latencies are learned anew", self.path.display());
                return None;
            }
        };
        let curve =
            text.strip_prefix(&self.head).ok_or_else(|| "it is of another format, artifact or machine".to_owned());
        match curve.and_then(Curve::from_text) {
            Ok(curve) => Some(curve),
            Err(cause) => {
                tracing::warn!("{}: {cause}: latencies are learned anew", self.path.display());
                None
            }
        }
    }

    fn text(&self) -> io::Result<String> {
        match fs::metadata(&self.path)?.len() {
            0..=BYTES_MAX => fs::read_to_string(&self.path),
            bytes => Err(io::Error::other(format!("it has {bytes} bytes, at most {BYTES_MAX} are read"))),
        }
    }

    /// Writes `curve`, unless it is what was written last, or nothing. Blocking.
    pub(super) fn save(&self, curve: &Curve) {
        if curve.is_empty() {
            return;
        }
        let text = format!("{}{}", self.head, curve.to_text());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == text {
            return;
        }
        match self.replace(&text) {
            Ok(()) => *last = text,
            Err(cause) if !self.store.failed.swap(true, Ordering::Relaxed) => {
                tracing::warn!("{}: {cause}: learned latencies are not kept (--state-dir)", self.path.display());
            }
            Err(_) => {}
        }
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let number = self.store.written.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.path.with_extension(format!("{}-{number}.new", std::process::id()));
        let is_new = !self.path.exists();
        let written = fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, &self.path));
        if written.is_err() {
            // It may not be there; what matters is told.
            let _ = fs::remove_file(&unfinished);
        }
        written?;
        if is_new { self.store.prune() } else { Ok(()) }
    }
}

/// The processor's model, as the kernel calls it; its architecture where it does not say.
fn processor() -> String {
    let described = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let line = described.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == key))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    // Arm has numbers for a name.
    let numbered = || Some(format!("{} {}", value("CPU implementer")?, value("CPU part")?));
    value("model name").or_else(numbered).unwrap_or_else(|| std::env::consts::ARCH.into())
}

/// The SHA-256 of `bytes`, shortened to 128 bits: names, not proofs.
fn hexadecimal(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    fn key(digest: &str) -> CurveKey {
        let (digest, runtime, settings) = (digest.into(), "onnx 1".into(), "none".into());
        CurveKey { digest, runtime, threads: 1, cores: 2, settings }
    }

    fn curve(micros: u64) -> Curve {
        let mut curve = Curve::default();
        curve.note(1, Duration::from_micros(micros));
        curve
    }

    #[test]
    fn a_curve_comes_back_for_the_same_key_alone() {
        let folder = TempDir::new().unwrap();
        let directory = folder.path().join("not/yet/there");
        let store = CurveStore::open(&directory).unwrap();
        assert_eq!(store.file(&key("a")).read(), None);
        store.file(&key("a")).save(&curve(100));
        // Another server on the same directory.
        let other = CurveStore::open(&directory).unwrap();
        assert!(other.file(&key("a")).read().unwrap().points().eq(curve(100).points()));
        assert_eq!(other.file(&key("b")).read(), None);
        assert_eq!(other.file(&CurveKey { threads: 2, ..key("a") }).read(), None);
        assert_eq!(other.file(&CurveKey { cores: 4, ..key("a") }).read(), None);
        assert_eq!(other.file(&CurveKey { settings: "pad".into(), ..key("a") }).read(), None);
        other.file(&key("a")).save(&curve(300));
        assert!(store.file(&key("a")).read().unwrap().points().eq(curve(300).points()));
        store.file(&key("c")).save(&Curve::default());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing half written, nothing empty");
    }

    #[test]
    fn a_file_that_is_broken_foreign_or_too_large_is_ignored_and_replaced() {
        let folder = TempDir::new().unwrap();
        let store = CurveStore::open(folder.path()).unwrap();
        let file = store.file(&key("a"));
        file.save(&curve(100));
        let good = fs::read_to_string(&file.path).unwrap();
        let broken = [
            String::new(),
            good[..good.len() / 2].to_owned(),
            good.replace("curve 1", "curve 2"),
            good.replace("artifact a", "artifact b"),
            format!("{good}{}", " ".repeat(100_000)),
        ];
        for text in broken {
            fs::write(&file.path, &text).unwrap();
            assert_eq!(store.file(&key("a")).read(), None, "{text}");
        }
        store.file(&key("a")).save(&curve(200));
        assert!(store.file(&key("a")).read().is_some());
    }

    #[test]
    fn a_directory_that_cannot_be_made_or_written_is_no_error() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(CurveStore::open(&folder.path().join("file/directory")).is_none());
        let store = CurveStore::open(&folder.path().join("gone")).unwrap();
        fs::remove_dir(folder.path().join("gone")).unwrap();
        store.file(&key("a")).save(&curve(100));
        assert_eq!(store.file(&key("a")).read(), None);
    }

    #[test]
    fn the_oldest_files_go_when_there_are_too_many() {
        let folder = TempDir::new().unwrap();
        let store = CurveStore::open(folder.path()).unwrap();
        let mut few = Arc::into_inner(store).unwrap();
        few.files_max = 3;
        let store = Arc::new(few);
        let files: Vec<CurveFile> = (0..5).map(|number| store.file(&key(&number.to_string()))).collect();
        for (age, file) in files.iter().enumerate() {
            file.save(&curve(100));
            let written = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(age as u64);
            fs::File::options().write(true).open(&file.path).unwrap().set_modified(written).unwrap();
        }
        let left: Vec<bool> = files.iter().map(|file| file.path.exists()).collect();
        assert_eq!(left, [false, false, true, true, true]);
    }
}
