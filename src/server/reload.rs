//! Files that may change while the server runs: looked at every few seconds, and at once on SIGHUP.
//!
//! What counts is their content, not their times: Kubernetes swaps a mounted secret through symbolic links, and other tools
//! restore times. A set that cannot be used, such as a certificate that was replaced before its key, changes nothing, is
//! logged once, and is tried again when any of the files changes again.

use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// A file, named by a flag, that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// The flag: "--tls-cert".
    pub flag: &'static str,
    /// The file, and what is wrong with it.
    pub message: String,
}

impl FileFault {
    pub(super) fn new(flag: &'static str, path: &Path, message: impl fmt::Display) -> Self {
        Self { flag, message: format!("{}: {message}", path.display()) }
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.flag, self.message)
    }
}

impl std::error::Error for FileFault {}

/// Something made from files.
pub(super) trait Reload: Send + Sync {
    /// What it is, for the log.
    fn what(&self) -> &'static str;
    /// The files.
    fn files(&self) -> Vec<PathBuf>;
    /// Makes it anew, or changes nothing where that fails.
    fn reload(&self) -> Result<(), FileFault>;
}

/// Reloads each of `things` when its files change. Runs until dropped. Where there are none, a SIGHUP still means this and
/// not the end of the process.
pub(super) async fn watch(things: Vec<Arc<dyn Reload>>, interval: Duration) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return tracing::error!("cannot listen for SIGHUP: files are not watched");
    };
    // Nothing seen yet: the first look finds what changed between the start and now.
    let mut seen: Vec<Option<u64>> = vec![None; things.len()];
    loop {
        let again = things.clone();
        // Disks may be slow; connections must not wait for them.
        let looked = tokio::task::spawn_blocking(move || {
            for (thing, seen) in again.iter().zip(&mut seen) {
                look(thing.as_ref(), seen);
            }
            seen
        });
        match looked.await {
            Ok(now) => seen = now,
            Err(cause) => return tracing::error!("files are not watched any more: {cause}"),
        }
        tokio::select! {
            () = tokio::time::sleep(interval), if !things.is_empty() => {}
            _ = hangup.recv() => tracing::info!(files = ?files(&things), "SIGHUP: what is made from files is looked at"),
        }
    }
}

fn files(things: &[Arc<dyn Reload>]) -> Vec<PathBuf> {
    things.iter().flat_map(|thing| thing.files()).collect()
}

fn look(thing: &dyn Reload, seen: &mut Option<u64>) {
    let now = contents(&thing.files());
    if *seen == Some(now) {
        return;
    }
    let first = seen.replace(now).is_none();
    match thing.reload() {
        Ok(()) if first => {}
        Ok(()) => tracing::info!("{} was loaded anew", thing.what()),
        Err(fault) => tracing::error!("{} cannot be used, the earlier one is kept: {fault}", thing.what()),
    }
}

fn contents(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        // A file that is missing for a moment is a change like any other.
        fs::read(file).ok().hash(&mut hasher);
    }
    hasher.finish()
}
