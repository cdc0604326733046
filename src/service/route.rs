//! Picks the version that answers: the one the request names, else the newest that is ready. One that is not in memory is
//! brought in first.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::error::{Error, Result};
use crate::infer::{InferRequest, InferResponse};
use crate::repository::{Found, Model, Repository};

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
        let (name, version) = match self.repository.find(&request.model, request.version.as_deref()) {
            Ok(Found::Known(model)) if model.is_in_memory() => {
                return RouteFuture::Found { inner: self.inner.call(Routed { request, model }) };
            }
            Ok(Found::Known(model)) => (model.name().clone(), model.version()),
            Ok(Found::Cold(name, version)) => (name, version),
            Err(error) => return RouteFuture::Refused { refusal: ready(Err(error)) },
        };
        let (repository, mut inner) = (Arc::clone(&self.repository), self.inner.clone());
        let brought = async move {
            let model = repository.bring_in(&name, version, request.deadline).await?;
            inner.call(Routed { request, model }).await
        };
        RouteFuture::Brought { brought: Box::pin(brought) }
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
        /// It was found, and is brought into memory first.
        Brought {
            brought: Pin<Box<dyn Future<Output = Result<InferResponse>> + Send>>,
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
            RouteFutureProjection::Brought { brought } => brought.as_mut().poll(context),
            RouteFutureProjection::Refused { refusal } => refusal.poll(context),
        }
    }
}
