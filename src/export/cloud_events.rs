//! Payloads as CloudEvents 1.0 over HTTP in binary mode, with the types and attributes of KServe's payload logger, so that
//! its receivers work unmodified.

use std::sync::Arc;
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

/// Where payloads come from, in the words of KServe's agent and its flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadOrigin {
    /// `ce-source`.
    pub source: String,
    /// `ce-inferenceservicename`; the model's name without one.
    pub service: Option<String>,
    /// `ce-namespace`.
    pub namespace: Option<String>,
    /// `ce-component`.
    pub component: String,
    /// `ce-endpoint`: "default" or "canary".
    pub endpoint: Option<String>,
    /// `ce-annotations`, as JSON.
    pub annotations: Option<String>,
    /// Headers of requests that go into `ce-metadata`.
    pub headers: Vec<HeaderName>,
}

impl Default for PayloadOrigin {
    fn default() -> Self {
        Self {
            source: "tensorgate".into(),
            service: None,
            namespace: None,
            component: "predictor".into(),
            endpoint: None,
            annotations: None,
            headers: Vec::new(),
        }
    }
}

impl PayloadOrigin {
    /// Has the header `name` told.
    ///
    /// # Errors
    /// Where that is no name of a header.
    pub fn add_header(&mut self, name: &str) -> Result<(), String> {
        let header = name.parse().map_err(|_| format!("'{name}' is no name of a header"))?;
        self.headers.push(header);
        Ok(())
    }

    /// Has these annotations told.
    pub fn annotate(&mut self, annotations: &[(&str, &str)]) {
        let told: serde_json::Map<_, _> =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        self.annotations = (!told.is_empty()).then(|| serde_json::Value::from(told).to_string());
    }

    /// The headers that are told of a request, as JSON of lists by name, KServe's form.
    pub fn metadata(&self, headers: &HeaderMap) -> Option<String> {
        let mut told = serde_json::Map::new();
        for name in &self.headers {
            let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
            if !values.is_empty() {
                told.insert(name.to_string(), values.into());
            }
        }
        (!told.is_empty()).then(|| serde_json::Value::from(told).to_string())
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
    /// The request's headers that are told, see [`PayloadOrigin::metadata`].
    pub metadata: Option<String>,
    /// The request's span, as the distributed tracing extension has it.
    pub traceparent: String,
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
    /// Where it comes from.
    pub origin: Arc<PayloadOrigin>,
    every: u64,
    queue: Queue<Payload>,
}

impl PayloadLog {
    /// Sends to `endpoint` the pairs of `ratio` (0 to 1) of the requests.
    pub fn start(
        endpoint: Endpoint,
        mode: PayloadMode,
        ratio: f64,
        origin: PayloadOrigin,
        clock: Clock,
        dropped: DropCounter,
    ) -> Self {
        let origin = Arc::new(origin);
        let own = Arc::clone(&origin);
        let run = |receiver| send(receiver, Poster::new(endpoint), own, clock);
        let queue = Queue::start(QUEUE_BYTES_MAX, dropped, run);
        // Of the range of a 64-bit number; the conversion saturates.
        Self { mode, origin, every: (ratio * u64::MAX as f64) as u64, queue }
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

async fn send(mut receiver: Receiver<Payload>, mut poster: Poster, origin: Arc<PayloadOrigin>, clock: Clock) {
    let mut payloads = Vec::new();
    while receiver.take(&mut payloads, 1).await > 0 {
        for payload in payloads.drain(..) {
            let headers = headers(&payload, &origin, &clock);
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
fn headers(payload: &Payload, origin: &PayloadOrigin, clock: &Clock) -> HeaderMap {
    let kind = match payload.kind {
        PayloadKind::Request => "org.kubeflow.serving.inference.request",
        PayloadKind::Response => "org.kubeflow.serving.inference.response",
    };
    let at = clock.rfc_3339(payload.at);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", Some("1.0")),
        ("ce-type", Some(kind)),
        ("ce-id", Some(&*payload.id)),
        ("ce-source", Some(&*origin.source)),
        ("ce-time", Some(&*at)),
        ("ce-recordedtime", Some(&*at)),
        ("ce-traceparent", Some(&*payload.traceparent)),
        ("ce-inferenceservicename", Some(origin.service.as_deref().unwrap_or(&payload.model))),
        ("ce-namespace", origin.namespace.as_deref()),
        ("ce-component", Some(&*origin.component)),
        ("ce-endpoint", origin.endpoint.as_deref()),
        ("ce-metadata", payload.metadata.as_deref()),
        ("ce-annotations", origin.annotations.as_deref()),
    ] {
        let Some(value) = value else { continue };
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
