//! A call whose trail is noted: between a door, which knows when a request came and went, and the stack, which knows what
//! it was about, without every decoder in between handing the trail on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use pin_project_lite::pin_project;

use crate::infer::Trail;

tokio::task_local! {
    static TRAIL: Arc<Trail>;
}

/// The trail of the call that is being polled.
pub(super) fn current() -> Option<Arc<Trail>> {
    TRAIL.try_with(Arc::clone).ok()
}

/// Keeps the body of the call that is being polled in its trail, where it has one.
pub fn note_body(body: &Bytes) {
    if let Some(trail) = current() {
        trail.notes().body = Some(body.clone());
    }
}

pin_project! {
    /// A call, with its trail where it has one. Without one it is the call itself, but for a branch.
    pub struct Watched<F> {
        #[pin]
        call: F,
        trail: Option<Arc<Trail>>,
    }
}

impl<F> Watched<F> {
    /// Has the stack note what `call` is about in `trail`.
    pub fn new(call: F, trail: Option<Arc<Trail>>) -> Self {
        Self { call, trail }
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        match this.trail {
            None => this.call.poll(context),
            Some(trail) => TRAIL.sync_scope(Arc::clone(trail), || this.call.poll(context)),
        }
    }
}
