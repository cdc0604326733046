//! The access log: one JSON line for each request, written by a thread of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use serde::Serialize;

use crate::telemetry::DropCounter;

/// Lines that may wait: a tenth of a second's at the highest rates, some 2 MB.
const LINES_MAX: usize = 8192;

/// One request.
#[derive(Debug, Serialize)]
pub struct AccessLine<'a> {
    /// When it was there, in RFC 3339.
    pub time: &'a str,
    /// "http" or "grpc".
    pub protocol: &'static str,
    /// The method of HTTP.
    pub method: &'a str,
    /// The path; over gRPC it is service and method.
    pub path: &'a str,
    /// The model, where the call is about one.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub model: &'a str,
    /// The version that answered.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub version: &'a str,
    /// HTTP's status, or gRPC's code.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// From the request's head until the end of the answer, in milliseconds.
    pub ms: f64,
    /// The name of the caller's key, where it has one.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub client: &'a str,
    /// The caller's address.
    pub peer: &'a str,
    /// The caller's id of the request: `x-request-id`, else the message's own.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub request_id: &'a str,
    /// The trace it belongs to.
    pub trace_id: &'a str,
}

/// Where lines go.
pub struct AccessLog {
    sender: Mutex<Option<SyncSender<String>>>,
    dropped: DropCounter,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AccessLog {
    /// Opens the file at `path` for appending; "-" is standard output.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn open(path: &Path, dropped: DropCounter) -> io::Result<Self> {
        let output: Box<dyn Write + Send> =
            if path.as_os_str() == "-" { Box::new(io::stdout()) } else { Box::new(append(path)?) };
        let (sender, lines) = sync_channel(LINES_MAX);
        let writer = thread::Builder::new().name("access-log".into()).spawn(move || write(&lines, output))?;
        Ok(Self { sender: Mutex::new(Some(sender)), dropped, writer: Mutex::new(Some(writer)) })
    }

    /// Whether the file at `path` can be written.
    ///
    /// # Errors
    /// Why not.
    pub fn check(path: &Path) -> io::Result<()> {
        if path.as_os_str() == "-" { Ok(()) } else { append(path).map(drop) }
    }

    /// Queues a line, or drops and counts it where the writer does not keep up.
    pub fn write(&self, line: &AccessLine<'_>) {
        let Ok(mut text) = serde_json::to_string(line) else { return };
        text.push('\n');
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.as_ref().is_none_or(|sender| sender.try_send(text).is_err()) {
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

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write(lines: &Receiver<String>, output: Box<dyn Write + Send>) {
    let mut output = BufWriter::new(output);
    let mut failing = false;
    while let Ok(line) = lines.recv() {
        let mut outcome = output.write_all(line.as_bytes());
        // Flushed when there is nothing more to write: a reader sees a quiet server's lines at once.
        while let (Ok(()), Ok(line)) = (&outcome, lines.try_recv()) {
            outcome = output.write_all(line.as_bytes());
        }
        let outcome = outcome.and_then(|()| output.flush());
        if let (Err(cause), false) = (&outcome, failing) {
            tracing::warn!("the access log cannot be written: {cause}");
        }
        failing = outcome.is_err();
    }
}
