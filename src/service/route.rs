//! Has the router pick the version that answers, has it brought into memory where it is not, and tells the router what became of
//! the request where it wants to know.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::router::{Note, Router, Way};
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

impl<S> Service<InferRequest> for Route<S>
where
    S: Service<Routed, Response = InferResponse, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = InferResponse;
    type Error = Error;
    type Future = RouteFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: InferRequest) -> Self::Future {
        match self.router.route(request) {
            Ok(Way::Known(mut routed)) if routed.model.is_in_memory() => {
                let note = routed.note.take();
                RouteFuture::Found { inner: self.inner.call(routed), note }
            }
            Ok(way) => {
                let (router, inner) = (Arc::clone(&self.router), self.inner.clone());
                RouteFuture::Brought { brought: Box::pin(bring(router, inner, way)) }
            }
            Err(error) => RouteFuture::Refused { error: Some(error) },
        }
    }
}

/// Has the version that answers brought into memory, and runs the request.
async fn bring<S>(router: Arc<Router>, mut inner: S, way: Way) -> Result<InferResponse>
where
    S: Service<Routed, Response = InferResponse, Error = Error>,
{
    let mut routed = in_memory(&router, way).await?;
    let note = routed.note.take();
    let outcome = inner.call(routed).await;
    if let Some(mut note) = note {
        note.finish(&outcome);
    }
    outcome
}

/// The version that answers, in memory. Where the one that was picked cannot be had, others may answer, as where it was never there.
async fn in_memory(router: &Router, way: Way) -> Result<Routed> {
    let mut routed = router.known(way).await?;
    let mut failed = Vec::new();
    while !routed.model.is_in_memory() {
        let error = match router.bring_in(&routed.model, routed.request.deadline).await {
            Ok(model) => {
                routed.model = model;
                break;
            }
            Err(error) => error,
        };
        failed.push(routed.model.version());
        let note = routed.note.take();
        let again = match router.route(routed.request) {
            Ok(way) => router.known(way).await.ok(),
            Err(_) => None,
        };
        routed = match again.filter(|again| !failed.contains(&again.model.version())) {
            Some(again) => again,
            None => {
                // Whoever judges the version has to know what became of the request.
                if let Some(mut note) = note {
                    note.finish(&Err(error.clone()));
                }
                return Err(error);
            }
        };
    }
    Ok(routed)
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
        /// It was found, and is brought into memory first.
        Brought {
            brought: Pin<Box<dyn Future<Output = Result<InferResponse>> + Send>>,
        },
        /// There is none. Nothing as large as an answer, which would make every future larger.
        Refused {
            error: Option<Error>,
        },
    }
}

impl<F: Future<Output = Result<InferResponse>>> Future for RouteFuture<F> {
    type Output = Result<InferResponse>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            RouteFutureProjection::Found { inner, note } => {
                let outcome = ready!(inner.poll(context));
                if let Some(mut note) = note.take() {
                    note.finish(&outcome);
                }
                Poll::Ready(outcome)
            }
            RouteFutureProjection::Brought { brought } => brought.as_mut().poll(context),
            RouteFutureProjection::Refused { error } => {
                let error = error.take().unwrap_or_else(|| Error::internal("a refusal was polled twice"));
                Poll::Ready(Err(error))
            }
        }
    }
}
