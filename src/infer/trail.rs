//! Notes on one request, left on its way for whoever watches it; nobody does by default.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::time::Instant;

use super::Timing;

/// Shared by the door, which makes it and reads it at the end, and the service stack, which writes it.
#[derive(Debug, Default)]
pub struct Trail(Mutex<Notes>);

/// What is known of a request.
#[derive(Debug, Default)]
pub struct Notes {
    /// The model asked for.
    pub model: String,
    /// The version that answered.
    pub version: String,
    /// The caller's id.
    pub id: String,
    /// When it was decoded.
    pub decoded: Option<Instant>,
    /// When it had its answer, still to be encoded.
    pub answered: Option<Instant>,
    /// Where the time between went, for one that succeeded.
    pub timing: Option<Timing>,
    /// Whether the bodies are asked for.
    pub keeps: bool,
    /// The body of the request, where it is.
    pub body: Option<Bytes>,
    /// The message of the answer, where it is, and where the door does not see it go by.
    pub answer: Option<Bytes>,
}

impl Trail {
    /// The notes, to read or to write.
    pub fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
