//! Live requests that a revision without a share is asked too, so that its answers can be compared before anybody gets them.
//!
//! Nobody waits for any of this: a request of the sample goes on as it comes, and what passes by is copied beside it. Copies and
//! requests under way have bounds; what is beyond them is dropped and counted. Without a shadow no body is looked at.

mod exchange;
mod judged;
pub mod told;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper::Method;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use tokio::sync::Semaphore;

use self::exchange::{Copy, Exchange, Room};
use self::judged::Asker;
use super::answer::Answer;
use super::grpc;
use super::metrics::Metrics;
use super::table::{STEP, Shadow, Table, mix};

/// Bytes of one request and its answer: far more than the tensors of most models, and little of what a router's pod has.
const EXCHANGE_MAX: usize = 4 << 20;
/// Bytes of all copies: an eighth of a router's pod.
const HELD_MAX: usize = 32 << 20;
/// Requests to the shadow at once: enough to learn, and no load that it would not have as a canary.
const RUNNING_MAX: usize = 8;

/// Samples requests, and has what came of them compared.
pub struct Shadows {
    counter: AtomicU64,
    held: Arc<AtomicUsize>,
    running: Arc<Semaphore>,
    asker: Arc<Asker>,
}

impl Shadows {
    /// That counts into `metrics`.
    pub fn new(metrics: Metrics) -> Self {
        Self {
            counter: AtomicU64::new(0),
            held: Arc::default(),
            running: Arc::new(Semaphore::new(RUNNING_MAX)),
            asker: Arc::new(Asker::new(metrics)),
        }
    }

    /// Takes a request that `revision` will answer into the sample, if it is one of those: then what passes by is to be copied.
    pub fn sample(&self, table: &Table, revision: &str, head: &mut Parts, is_grpc: bool) -> Option<Sampled> {
        let shadow = table.shadow.as_ref().filter(|shadow| shadow.revision != revision)?;
        let path = head.uri.path();
        let infers = if is_grpc {
            path == grpc::MODEL_INFER
        } else {
            path.starts_with("/v2/models/") && path.ends_with("/infer")
        };
        if !infers || head.method != Method::POST || is_compressed(&head.headers) {
            return None;
        }
        let point = mix(self.counter.fetch_add(STEP, Ordering::Relaxed));
        // The upper 53 bits are what an f64 has digits for.
        if (point >> 11) as f64 >= shadow.share * (1_u64 << 53) as f64 {
            return None;
        }
        // The answers are read here too, and only as they are.
        for name in ["accept-encoding", "grpc-accept-encoding"] {
            head.headers.remove(name);
        }
        let room = Room::new(self.held.clone());
        Some(Sampled {
            exchange: Arc::new(Exchange::new(shadow.clone(), is_grpc, head, room)),
            running: self.running.clone(),
            asker: self.asker.clone(),
        })
    }
}

fn is_compressed(headers: &HeaderMap) -> bool {
    let named = |name: &str| headers.get(name).is_some_and(|own| own != "identity");
    named("content-encoding") || named("grpc-encoding")
}

/// A request of the sample.
#[derive(Clone)]
pub struct Sampled {
    exchange: Arc<Exchange>,
    running: Arc<Semaphore>,
    asker: Arc<Asker>,
}

impl Sampled {
    /// The answer as it goes to the caller, copied as it passes by.
    pub fn watched(self, answer: Answer) -> Answer {
        let has_failed = answer.headers().get("grpc-status").is_some_and(|own| own != "0");
        if !answer.status().is_success() || has_failed || is_compressed(answer.headers()) {
            // What the live revision refuses says nothing about the other.
            return answer;
        }
        let headers = answer.headers().clone();
        answer.map(|body| {
            let copy = Some(Copy::default());
            http_body_util::BodyExt::boxed_unsync(Watched { body, headers, copy, sampled: self })
        })
    }

    /// Has the shadow asked what the caller has asked, now that he has his answer.
    fn answered(&self, headers: &HeaderMap, answer: Copy) {
        let shadow = self.exchange.shadow();
        let dropped = || self.asker.count(&shadow.revision, "dropped");
        let Some(live) = answer.whole(headers) else { return dropped() };
        let Ok(place) = self.running.clone().try_acquire_owned() else { return dropped() };
        let (exchange, asker) = (self.exchange.clone(), self.asker.clone());
        tokio::spawn(async move {
            let _place = place;
            asker.ask(&exchange, live).await;
        });
    }
}

/// A request's body on its way to a revision; copied where it is of the sample.
pub struct Sent {
    body: Incoming,
    sampled: Option<Sampled>,
}

impl Sent {
    /// With what it is to be copied for.
    pub fn new(body: Incoming, sampled: Option<Sampled>) -> Self {
        Self { body, sampled }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let (Some(sampled), Poll::Ready(polled)) = (&self.sampled, &polled) {
            match polled {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        sampled.exchange.sent(data);
                    }
                    if self.body.is_end_stream() {
                        sampled.exchange.sent_all();
                    }
                }
                None => sampled.exchange.sent_all(),
                Some(Err(_)) => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body on its way to the caller.
struct Watched<B> {
    body: B,
    headers: HeaderMap,
    /// None once it was handed on.
    copy: Option<Copy>,
    sampled: Sampled,
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let own = &mut *self;
        let polled = Pin::new(&mut own.body).poll_frame(cx);
        let ended = match &polled {
            Poll::Pending => false,
            Poll::Ready(None) => true,
            Poll::Ready(Some(Err(_))) => {
                own.copy = None;
                false
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(copy) = &mut own.copy {
                    match (frame.data_ref(), frame.trailers_ref()) {
                        (Some(data), _) => copy.add(data, own.sampled.exchange.room()),
                        (_, Some(trailers)) => copy.trailers = Some(trailers.clone()),
                        _ => {}
                    }
                }
                own.body.is_end_stream()
            }
        };
        if ended && let Some(copy) = own.copy.take() {
            own.sampled.answered(&own.headers, copy);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Exchange {
    /// Where it is asked, and what its answers are compared by.
    fn shadow(&self) -> &Shadow {
        &self.shadow
    }
}
