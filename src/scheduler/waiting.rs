//! Callers that wait, what their requests hold meanwhile, and what those are told that may not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::admission::Refusal;
use super::inbox::Inbox;
use super::planner::Due;
use crate::error::Error;

pub(super) fn refused(refusal: Refusal, due: Due, slack: Duration) -> Error {
    let Refusal { answer_in, retry_after } = refusal;
    let bound = match due {
        Due::Deadline(_) => "the request's deadline",
        Due::Objective(_) => "the model's latency objective",
    };
    let message = format!("an answer is predicted in {answer_in:.1?}, beyond {bound} in {slack:.1?}");
    Error::overloaded(message).with_retry_after(retry_after)
}

/// A caller that waits. One that goes away unanswered leaves its place in the queue at once, not when something else comes.
pub(super) struct Waiting<'a> {
    pub(super) inbox: &'a Inbox,
    pub(super) answered: bool,
    pub(super) _held: Held<'a>,
}

/// Bytes that count as held until this is dropped.
pub(super) struct Held<'a> {
    pub(super) all: &'a AtomicUsize,
    pub(super) bytes: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.inbox.leave();
        }
    }
}
