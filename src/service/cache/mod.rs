//! Answers of models whose settings keep them: a request that was answered before is answered from memory.
//!
//! [`key`] tells which requests are the same, [`store`] keeps answers within its bounds. Of the same requests at one time one
//! runs and the others wait for its answer; where it fails or its caller goes away, each runs for itself. A model that keeps
//! none pays for one comparison. Requests with tensors in shared memory go past: their answers lie elsewhere.

mod key;
mod store;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::route::Routed;
use crate::error::{Error, Result};
use crate::infer::{CacheNote, InferRequest, InferResponse, Timing};
use crate::repository::Model;

pub use store::ResponseCache;
use store::{Answer, Looked};

/// Makes [`Cache`].
pub struct CacheLayer {
    cache: Arc<ResponseCache>,
}

impl CacheLayer {
    /// Keeps answers in `cache`.
    pub fn new(cache: Arc<ResponseCache>) -> Self {
        Self { cache }
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cache<S>;

    fn layer(&self, inner: S) -> Cache<S> {
        Cache { inner, cache: Arc::clone(&self.cache) }
    }
}

/// See the module.
#[derive(Clone)]
pub struct Cache<S> {
    inner: S,
    cache: Arc<ResponseCache>,
}

impl<S> Service<Routed> for Cache<S>
where
    S: Service<Routed, Response = InferResponse, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = InferResponse;
    type Error = Error;
    type Future = CacheFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, routed: Routed) -> Self::Future {
        match routed.model.settings().response_cache {
            Some(bytes_max) if !is_placed(&routed.request) => {
                let (inner, cache) = (self.inner.clone(), Arc::clone(&self.cache));
                CacheFuture::Kept { kept: Box::pin(kept(inner, cache, bytes_max.get(), routed)) }
            }
            _ => CacheFuture::Past { inner: self.inner.call(routed) },
        }
    }
}

fn is_placed(request: &InferRequest) -> bool {
    !request.placed.is_empty() || request.outputs.iter().any(|output| output.place.is_some())
}

async fn kept<S>(mut inner: S, cache: Arc<ResponseCache>, bytes_max: usize, routed: Routed) -> Result<InferResponse>
where
    S: Service<Routed, Response = InferResponse, Error = Error>,
{
    let started = Instant::now();
    let key = key::of(&routed.request).await;
    let model = Arc::clone(&routed.model);
    let lead = match cache.look_up(model.life(), key) {
        Looked::Kept(answer) => return Ok(hit(&model, routed.request.id, &answer, started)),
        Looked::UnderWay(mut landing) => {
            // In a block of its own, so that what is borrowed is given back before anything else is waited for.
            let landed = landing.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone());
            match landed {
                Some(answer) => return Ok(hit(&model, routed.request.id, &answer, started)),
                // Who ran it failed or went away, which is nobody else's answer.
                None => return inner.call(routed).await,
            }
        }
        Looked::Unknown(lead) => lead,
    };
    let mut response = inner.call(routed).await?;
    lead.land(Answer::of(&response), bytes_max);
    model.metrics().statistics.note_cache(false, started.elapsed());
    response.timing.cache = CacheNote::Miss;
    Ok(response)
}

fn hit(model: &Model, id: Option<String>, answer: &Answer, started: Instant) -> InferResponse {
    model.metrics().note_answer(started);
    model.metrics().statistics.note_cache(true, started.elapsed());
    InferResponse {
        model: model.name().clone(),
        version: model.version(),
        id,
        parameters: answer.parameters.clone(),
        outputs: answer.outputs.clone(),
        places: Vec::new(),
        timing: Timing { cache: CacheNote::Hit, ..Timing::default() },
    }
}

pin_project! {
    /// The future of [`Cache`].
    #[project = CacheFutureProjection]
    pub enum CacheFuture<F> {
        /// The model keeps no answers.
        Past {
            #[pin]
            inner: F,
        },
        /// It does.
        Kept {
            kept: Pin<Box<dyn Future<Output = Result<InferResponse>> + Send>>,
        },
    }
}

impl<F: Future<Output = Result<InferResponse>>> Future for CacheFuture<F> {
    type Output = Result<InferResponse>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            CacheFutureProjection::Past { inner } => inner.poll(context),
            CacheFutureProjection::Kept { kept } => kept.as_mut().poll(context),
        }
    }
}
