//! Payloads as CloudEvents 1.0 over HTTP in binary mode, with the types and attributes of KServe's payload logger, so that
//! its receivers work unmodified.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::Instant;

use super::clock::Clock;
use super::otlp::random;
use super::post::{Endpoint, Poster};
use super::queue::{Queue, Receiver, Weighed};
use crate::telemetry::DropCounter;

/// Bytes of payloads that may wait.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// What is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PayloadMode {
    /// Requests and answers.
    #[default]
    All,
    /// Requests alone.
    Request,
    /// Answers alone.
    Response,
}

/// One of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// What was asked.
    Request,
    /// What was answered.
    Response,
}

impl PayloadMode {
    /// Whether `kind` is sent.
    pub fn wants(self, kind: PayloadKind) -> bool {
        match self {
            PayloadMode::All => true,
            PayloadMode::Request => kind == PayloadKind::Request,
            PayloadMode::Response => kind == PayloadKind::Response,
        }
    }
}

/// An event.
#[derive(Clone, Debug)]
pub struct Payload {
    /// Which of the pair.
    pub kind: PayloadKind,
    /// The pair's id.
    pub id: String,
    /// The model; KServe calls it the inference service.
    pub model: String,
    /// When it was there.
    pub at: Instant,
    /// Of `data`, where it is known.
    pub content_type: Option<HeaderValue>,
    /// How `data` is compressed, where it is: an answer is told as it was sent.
    pub content_encoding: Option<HeaderValue>,
    /// The body, in the pieces that it has; they are shared with the answer until they are sent.
    pub data: Vec<Bytes>,
}

impl Weighed for Payload {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.data.iter().map(Bytes::len).sum::<usize>()
    }
}

/// Sends payloads.
pub struct PayloadLog {
    /// What is sent.
    pub mode: PayloadMode,
    every: u64,
    queue: Queue<Payload>,
}

impl PayloadLog {
    /// Sends to `endpoint` the pairs of `ratio` (0 to 1) of the requests.
    pub fn start(endpoint: Endpoint, mode: PayloadMode, ratio: f64, clock: Clock, dropped: DropCounter) -> Self {
        let queue = Queue::start(QUEUE_BYTES_MAX, dropped, |receiver| send(receiver, Poster::new(endpoint), clock));
        // Of the range of a 64-bit number; the conversion saturates.
        Self { mode, every: (ratio * u64::MAX as f64) as u64, queue }
    }

    /// Whether the pair of a request is sent.
    pub fn samples(&self) -> bool {
        self.every == u64::MAX || random() < self.every
    }

    /// Queues an event.
    pub fn record(&self, payload: Payload) {
        self.queue.push(payload);
    }

    /// Sends what waits.
    pub async fn close(&self, timeout: Duration) {
        self.queue.close(timeout).await;
    }
}

async fn send(mut receiver: Receiver<Payload>, mut poster: Poster, clock: Clock) {
    let mut payloads = Vec::new();
    while receiver.take(&mut payloads, 1).await > 0 {
        for payload in payloads.drain(..) {
            let headers = headers(&payload, &clock);
            if !poster.post(headers, joined(payload.data)).await {
                receiver.dropped.add(1);
            }
        }
    }
}

fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() == 1 {
        return pieces.swap_remove(0);
    }
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
    whole.freeze()
}

/// The attributes as headers (CloudEvents HTTP binding 1.0, 3.1).
fn headers(payload: &Payload, clock: &Clock) -> HeaderMap {
    let kind = match payload.kind {
        PayloadKind::Request => "org.kubeflow.serving.inference.request",
        PayloadKind::Response => "org.kubeflow.serving.inference.response",
    };
    let at = clock.rfc_3339(payload.at);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-type", kind),
        ("ce-id", &payload.id),
        ("ce-source", "tensorgate"),
        ("ce-time", &at),
        ("ce-inferenceservicename", &payload.model),
        ("ce-component", "predictor"),
    ] {
        // Names of models and ids may hold what a header may not.
        let value = HeaderValue::from_str(value).or_else(|_| HeaderValue::from_str(&percent_encoded(value)));
        if let Ok(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    let usual = HeaderValue::from_static("application/json");
    headers.extend(payload.content_encoding.clone().map(|encoding| (header::CONTENT_ENCODING, encoding)));
    headers.insert(header::CONTENT_TYPE, payload.content_type.clone().unwrap_or(usual));
    headers
}

fn percent_encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::CONTROLS).to_string()
}
