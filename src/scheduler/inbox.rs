//! Where requests and finished batches wait for the dispatcher.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::dispatcher::Finished;
use super::queue::Job;

/// Filled by many, emptied by one. A lock held for a push or a swap, uncontended nearly always, costs less than a
/// channel's slot per request.
#[derive(Default)]
pub(super) struct Inbox {
    contents: Mutex<Contents>,
    arrived: Notify,
}

/// What has come in since the last look.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) jobs: Vec<Job>,
    pub(super) finished: Vec<Finished>,
    pub(super) closed: bool,
    abandoned: bool,
}

impl Inbox {
    /// Puts `job` in; one that nobody will take out any more is dropped, which its caller notices.
    pub(super) fn submit(&self, job: Job) {
        self.put(|contents| {
            if !contents.abandoned {
                contents.jobs.push(job);
            }
        });
    }

    pub(super) fn finish(&self, finished: Finished) {
        self.put(|contents| contents.finished.push(finished));
    }

    /// Has the dispatcher look again.
    pub(super) fn wake(&self) {
        self.arrived.notify_one();
    }

    /// Nobody takes anything out any more: callers that wait get an error instead of waiting for ever.
    pub(super) fn abandon(&self) {
        self.put(|contents| {
            contents.abandoned = true;
            contents.jobs.clear();
        });
    }

    /// No more jobs will come.
    pub(super) fn close(&self) {
        self.put(|contents| contents.closed = true);
    }

    fn put(&self, change: impl FnOnce(&mut Contents)) {
        change(&mut self.contents.lock().unwrap_or_else(PoisonError::into_inner));
        self.arrived.notify_one();
    }

    /// Moves what has come in into `into`, whose buffers are reused for what comes next.
    pub(super) fn take(&self, into: &mut Contents) {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        into.closed = contents.closed;
        std::mem::swap(&mut contents.jobs, &mut into.jobs);
        std::mem::swap(&mut contents.finished, &mut into.finished);
    }

    /// Waits until something has come in since the last wait.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}
