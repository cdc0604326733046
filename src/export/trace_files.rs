//! Traces in the form of Triton's files, which its summary tools read: a list of an object that names the request and one with
//! its times, for each trace. Written by a thread of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use serde_json::json;
use tokio::time::Instant;

use super::clock::Clock;
use crate::telemetry::DropCounter;

/// Traces that may wait, some 1 KB each.
const WAITING_MAX: usize = 4096;

/// Files that one process writes. Whoever may change the settings names them.
const FILES_MAX: usize = 64;

/// Bytes of all of them: some 300000 traces.
const BYTES_MAX: u64 = 256 << 20;

/// What a file ends with, so that it is whole at any time.
const END: &[u8] = b"\n]\n";

/// The trace of one request.
#[derive(Clone, Debug)]
pub struct FileTrace {
    /// Of the model.
    pub model: String,
    /// -1 where none answered.
    pub version: i64,
    /// The caller's id.
    pub request_id: String,
    /// Name and time of what happened, in order.
    pub times: Vec<(&'static str, Instant)>,
}

struct Job {
    name: String,
    frequency: u64,
    text: String,
}

/// Where traces go.
pub struct TraceFiles {
    sender: Mutex<Option<SyncSender<Job>>>,
    ids: AtomicU64,
    clock: Clock,
    dropped: DropCounter,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl TraceFiles {
    /// Writes into files of `directory`.
    ///
    /// # Errors
    /// Where there is no such directory, or no thread.
    pub fn open(directory: &Path, clock: Clock, dropped: DropCounter) -> io::Result<Self> {
        Self::check(directory)?;
        let (sender, jobs) = sync_channel(WAITING_MAX);
        let mut files = Files { directory: directory.to_owned(), open: BTreeMap::new(), bytes: 0, failing: false };
        let lost = dropped.clone();
        let writer = thread::Builder::new().name("trace-files".into()).spawn(move || files.run(&jobs, &lost))?;
        let (sender, writer) = (Mutex::new(Some(sender)), Mutex::new(Some(writer)));
        Ok(Self { sender, ids: AtomicU64::new(1), clock, dropped, writer })
    }

    /// Whether `directory` is one.
    ///
    /// # Errors
    /// Why not.
    pub fn check(directory: &Path) -> io::Result<()> {
        let is_directory = directory.metadata()?.is_dir();
        if is_directory { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    /// Queues a trace for the file `name`, of which a new one is begun after `frequency` traces unless that is 0; or drops and
    /// counts it where the writer does not keep up.
    pub fn write(&self, name: String, frequency: u64, trace: &FileTrace) {
        let id = self.ids.fetch_add(1, Relaxed);
        let FileTrace { model, version, request_id, times } = trace;
        let mut named = json!({"id": id, "model_name": model, "model_version": version});
        if !request_id.is_empty() {
            named["request_id"] = request_id.as_str().into();
        }
        let time = |(name, at): &(&str, Instant)| {
            // Nanoseconds since 1970 fit until 2554.
            json!({"name": name, "ns": self.clock.since_1970(*at).as_nanos() as u64})
        };
        let timestamps: Vec<_> = times.iter().map(time).collect();
        let text = format!("{named},\n{}", json!({"id": id, "timestamps": timestamps}));
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.as_ref().is_none_or(|sender| sender.try_send(Job { name, frequency, text }).is_err()) {
            self.dropped.add(1);
        }
    }

    /// Writes what waits, and takes nothing more.
    pub fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A writer that panicked has said so.
            let _ = writer.join();
        }
    }
}

/// A series of files of one name.
struct Series {
    file: File,
    /// In the file.
    traces: u64,
    /// Of the file in the series.
    index: u64,
}

struct Files {
    directory: PathBuf,
    open: BTreeMap<String, Series>,
    bytes: u64,
    failing: bool,
}

impl Files {
    fn run(&mut self, jobs: &Receiver<Job>, lost: &DropCounter) {
        while let Ok(job) = jobs.recv() {
            let outcome = self.write(&job);
            if outcome.is_err() {
                lost.add(1);
            }
            if let (Err(cause), false) = (&outcome, self.failing) {
                tracing::warn!(file = job.name, "traces cannot be written: {cause}");
            }
            self.failing = outcome.is_err();
        }
    }

    fn write(&mut self, job: &Job) -> io::Result<()> {
        if self.bytes + job.text.len() as u64 > BYTES_MAX {
            return Err(io::Error::other(format!("there are {BYTES_MAX} bytes of them already")));
        }
        let files: u64 = self.open.values().map(|series| series.index + 1).sum();
        let full = self.open.get(&job.name).map(|series| job.frequency > 0 && series.traces >= job.frequency);
        if full != Some(false) {
            if files >= FILES_MAX as u64 {
                return Err(io::Error::other(format!("there are {FILES_MAX} files of them already")));
            }
            let index = self.open.get(&job.name).map_or(0, |series| series.index + 1);
            let name = if job.frequency > 0 { format!("{}.{index}", job.name) } else { job.name.clone() };
            let file = File::create(self.directory.join(name))?;
            self.open.insert(job.name.clone(), Series { file, traces: 0, index });
        }
        let Some(series) = self.open.get_mut(&job.name) else { return Ok(()) };
        let before = if series.traces == 0 {
            "[\n"
        } else {
            series.file.seek(SeekFrom::End(-(END.len() as i64)))?;
            ",\n"
        };
        series.traces += 1;
        self.bytes += job.text.len() as u64;
        series.file.write_all(&[before.as_bytes(), job.text.as_bytes(), END].concat())
    }
}
