//! Has the router pick the version that answers, and tells it what became of the request where it wants to know.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready as ready_or_pending};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::router::{Note, Router};
use crate::error::{Error, Result};
use crate::infer::{InferRequest, InferResponse};
use crate::repository::Model;

/// A request and the version that answers it. Holding the version keeps it alive until the answer is there.
pub struct Routed {
    pub(super) request: InferRequest,
    pub(super) model: Arc<Model>,
    /// What the router wants to know of it.
    pub(super) note: Option<Box<Note>>,
}

/// Makes [`Route`].
pub struct RouteLayer {
    router: Arc<Router>,
}

impl RouteLayer {
    /// Has `router` pick.
    pub fn new(router: Arc<Router>) -> Self {
        Self { router }
    }
}

impl<S> Layer<S> for RouteLayer {
    type Service = Route<S>;

    fn layer(&self, inner: S) -> Route<S> {
        Route { inner, router: Arc::clone(&self.router) }
    }
}

/// See the module.
#[derive(Clone)]
pub struct Route<S> {
    inner: S,
    router: Arc<Router>,
}

impl<S: Service<Routed, Response = InferResponse, Error = Error>> Service<InferRequest> for Route<S> {
    type Response = InferResponse;
    type Error = Error;
    type Future = RouteFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: InferRequest) -> Self::Future {
        match self.router.route(request) {
            Ok(mut routed) => {
                let note = routed.note.take();
                RouteFuture::Found { inner: self.inner.call(routed), note }
            }
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
            note: Option<Box<Note>>,
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
            RouteFutureProjection::Found { inner, note } => {
                let outcome = ready_or_pending!(inner.poll(context));
                if let Some(mut note) = note.take() {
                    note.finish(&outcome);
                }
                Poll::Ready(outcome)
            }
            RouteFutureProjection::Refused { refusal } => refusal.poll(context),
        }
    }
}
