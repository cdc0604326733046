//! Sees every outcome: logs it with the request's id, and counts what no version counts.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::{InferService, watched};
use crate::error::{Error, Kind, Result};
use crate::infer::{InferRequest, InferResponse, Trail};
use crate::telemetry::Telemetry;

/// Makes [`Observe`].
pub struct ObserveLayer {
    telemetry: Arc<Telemetry>,
    watched: bool,
}

impl ObserveLayer {
    /// Counts into `telemetry`, and notes in the trails of calls where they are `watched`.
    pub fn new(telemetry: Arc<Telemetry>, watched: bool) -> Self {
        Self { telemetry, watched }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, telemetry: Arc::clone(&self.telemetry), watched: self.watched }
    }
}

/// See the module.
#[derive(Clone)]
pub struct Observe<S> {
    inner: S,
    telemetry: Arc<Telemetry>,
    watched: bool,
}

impl<S: InferService> Service<InferRequest> for Observe<S> {
    type Response = InferResponse;
    type Error = Error;
    type Future = ObserveFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: InferRequest) -> Self::Future {
        let id = request.id.as_ref().or(request.trace_id.as_ref()).cloned();
        // The name is copied only where somebody reads it.
        let model = tracing::enabled!(tracing::Level::DEBUG).then(|| request.model.clone());
        let trail = self.watched.then(watched::current).flatten();
        if let Some(trail) = &trail {
            let mut notes = trail.notes();
            notes.model.clone_from(&request.model);
            notes.id = id.clone().unwrap_or_default();
            notes.decoded = Some(Instant::now());
        }
        ObserveFuture { inner: self.inner.call(request), telemetry: Arc::clone(&self.telemetry), id, model, trail }
    }
}

pin_project! {
    /// The future of [`Observe`].
    pub struct ObserveFuture<F> {
        #[pin]
        inner: F,
        telemetry: Arc<Telemetry>,
        id: Option<String>,
        model: Option<String>,
        trail: Option<Arc<Trail>>,
    }
}

impl<F: Future<Output = Result<InferResponse>>> Future for ObserveFuture<F> {
    type Output = Result<InferResponse>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.inner.poll(context));
        if let Some(trail) = this.trail {
            let mut notes = trail.notes();
            notes.answered = Some(Instant::now());
            if let Ok(response) = &outcome {
                notes.version = response.version.to_string();
                notes.timing = Some(response.timing);
            }
        }
        let id = this.id.as_deref().unwrap_or_default();
        match &outcome {
            Err(error) => note_error(this.telemetry, error, id),
            Ok(_) => tracing::debug!(model = this.model.as_deref(), request_id = id, "answered"),
        }
        Poll::Ready(outcome)
    }
}

fn note_error(telemetry: &Telemetry, error: &Error, id: &str) {
    // Every other kind is counted by the version that it happened at.
    if error.kind() == Kind::UnknownModel {
        telemetry.count_unrouted(error.kind());
    }
    let kind = error.kind().name();
    match error.kind() {
        // Our own failures are always worth a line; the caller's are told to the caller.
        Kind::Internal | Kind::Execution => tracing::error!(request_id = id, kind, "{error}"),
        _ => tracing::debug!(request_id = id, kind, "{error}"),
    }
}
