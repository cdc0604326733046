//! Picks the version that answers: the one the request names, else the newest that is ready.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::error::{Error, Result};
use crate::infer::{InferRequest, InferResponse};
use crate::repository::{Model, Repository};

/// A request and the version that answers it. Holding the version keeps it alive until the answer is there.
pub struct Routed {
    pub(super) request: InferRequest,
    pub(super) model: Arc<Model>,
}

/// Makes [`Route`].
pub struct RouteLayer {
    repository: Arc<Repository>,
}

impl RouteLayer {
    /// Looks versions up in `repository`.
    pub fn new(repository: Arc<Repository>) -> Self {
        Self { repository }
    }
}

impl<S> Layer<S> for RouteLayer {
    type Service = Route<S>;

    fn layer(&self, inner: S) -> Route<S> {
        Route { inner, repository: Arc::clone(&self.repository) }
    }
}

/// See the module.
#[derive(Clone)]
pub struct Route<S> {
    inner: S,
    repository: Arc<Repository>,
}

impl<S: Service<Routed, Response = InferResponse, Error = Error>> Service<InferRequest> for Route<S> {
    type Response = InferResponse;
    type Error = Error;
    type Future = RouteFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: InferRequest) -> Self::Future {
        match self.repository.resolve(&request.model, request.version.as_deref()) {
            Ok(model) => RouteFuture::Found { inner: self.inner.call(Routed { request, model }) },
            Err(error) => RouteFuture::Refused { refusal: ready(Err(error)) },
        }
    }
}

pin_project! {
    /// The future of [`Route`].
    #[project = RouteFutureProjection]
    pub enum RouteFuture<F> {
        /// A version was found and runs the request.
        Found {
            #[pin]
            inner: F,
        },
        /// There is none.
        Refused {
            #[pin]
            refusal: Ready<Result<InferResponse>>,
        },
    }
}

impl<F: Future<Output = Result<InferResponse>>> Future for RouteFuture<F> {
    type Output = Result<InferResponse>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            RouteFutureProjection::Found { inner } => inner.poll(context),
            RouteFutureProjection::Refused { refusal } => refusal.poll(context),
        }
    }
}
