//! A call whose trail is noted: between a door, which knows when a request came and went, and the stack, which knows what
//! it was about, without every decoder in between handing the trail on.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use crate::infer::Trail;

tokio::task_local! {
    static TRAIL: Arc<Trail>;
}

/// The trail of the call that is being polled.
pub(super) fn current() -> Option<Arc<Trail>> {
    TRAIL.try_with(Arc::clone).ok()
}

/// Keeps the body of the call that is being polled in its trail, where somebody asks for it.
pub fn note_body(body: impl FnOnce() -> Bytes) {
    if let Some(trail) = current().filter(|trail| trail.notes().keeps) {
        let body = body();
        trail.notes().body = Some(body);
    }
}

/// The same for the message of its answer.
pub fn note_answer(answer: impl FnOnce() -> Bytes) {
    if let Some(trail) = current().filter(|trail| trail.notes().keeps) {
        let answer = answer();
        trail.notes().answer = Some(answer);
    }
}

/// Makes `call`, and has the stack note in `trail` what it is about.
pub fn watched<F: Future>(call: F, trail: Arc<Trail>) -> impl Future<Output = F::Output> {
    TRAIL.scope(trail, call)
}
