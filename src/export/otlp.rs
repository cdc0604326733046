//! Traces: W3C trace context in, OTLP over HTTP with JSON out (OpenTelemetry protocol 1.x, "OTLP/HTTP").

use std::fmt;
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::clock::Clock;
use super::post::{Endpoint, Poster};
use super::queue::{Queue, Receiver, Weighed};
use crate::telemetry::DropCounter;

/// Bytes of spans that may wait: some 20000 requests.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// Requests whose spans go into one message.
const BATCH_MAX: usize = 256;

/// How long a batch is filled after its first span.
const BATCH_DELAY: Duration = Duration::from_millis(200);

/// The id of a trace; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

/// The id of a span; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(u64);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl SpanId {
    /// A new one.
    pub fn random() -> Self {
        Self(random() | 1)
    }
}

/// 64 bits that nobody else has. The standard library's keys are random for each thread and differ for each state made.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(())
}

/// Where a request belongs among other services' work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The caller's span, where it said so.
    pub parent: Option<SpanId>,
    /// Whether the caller records the trace, where it said so.
    pub sampled: Option<bool>,
}

impl TraceContext {
    /// The context of a `traceparent` header (W3C Trace Context, 3.2), or a new trace where it makes no sense.
    pub fn of(traceparent: Option<&str>) -> Self {
        traceparent.and_then(parse).unwrap_or_else(|| {
            let trace = TraceId((u128::from(random()) << 64) | u128::from(random()) | 1);
            Self { trace, parent: None, sampled: None }
        })
    }
}

impl TraceContext {
    /// The span `id` of this trace as `traceparent` and `traceresponse` tell it.
    pub fn header(&self, id: SpanId, recorded: bool) -> String {
        format!("00-{}-{id}-{:02x}", self.trace, u8::from(recorded))
    }
}

fn parse(text: &str) -> Option<TraceContext> {
    let mut parts = text.trim().split('-');
    let hex = |text: &str, digits: usize| {
        let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == digits && lower).then(|| u128::from_str_radix(text, 16).ok())?
    };
    let version = hex(parts.next()?, 2)?;
    let trace = hex(parts.next()?, 32).filter(|&id| id != 0)?;
    let parent = hex(parts.next()?, 16).filter(|&id| id != 0)? as u64;
    let flags = hex(parts.next()?, 2)?;
    // Later versions may have more parts; 255 is forbidden.
    if version == 255 || (version == 0 && parts.next().is_some()) {
        return None;
    }
    Some(TraceContext { trace: TraceId(trace), parent: Some(SpanId(parent)), sampled: Some(flags & 1 == 1) })
}

/// A request that was answered: one span, and one below it for each part of the time.
#[derive(Clone, Debug)]
pub struct Span {
    /// Where it belongs.
    pub context: TraceContext,
    /// Its own id.
    pub id: SpanId,
    /// "infer".
    pub name: &'static str,
    /// When the request was there.
    pub started: Instant,
    /// When the answer was.
    pub ended: Instant,
    /// Whether it failed on our side.
    pub failed: bool,
    /// What is known of it.
    pub attributes: Vec<(&'static str, String)>,
    /// Name, begin and end of its parts.
    pub parts: Vec<(&'static str, Instant, Instant)>,
}

impl Weighed for Span {
    fn bytes(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(|(_, value)| value.len() + 48).sum();
        size_of::<Self>() + attributes + self.parts.len() * 48
    }
}

/// Decides which requests are recorded, and sends their spans.
pub struct Tracer {
    ratio: f64,
    queue: Queue<Span>,
}

impl Tracer {
    /// Sends to `endpoint` the spans of `ratio` (0 to 1) of the traces that begin here, and of all that a caller records.
    pub fn start(endpoint: Endpoint, ratio: f64, clock: Clock, dropped: DropCounter) -> Self {
        let queue = Queue::start(QUEUE_BYTES_MAX, dropped, |receiver| send(receiver, Poster::new(endpoint), clock));
        Self { ratio, queue }
    }

    /// Whether a request is recorded: as its caller says, else by its trace's id, so that every service decides alike.
    pub fn records(&self, context: &TraceContext) -> bool {
        // 53 bits are what a float holds.
        let share = (context.trace.0 as u64 >> 11) as f64 / (1_u64 << 53) as f64;
        context.sampled.unwrap_or(share < self.ratio)
    }

    /// Queues a span.
    pub fn record(&self, span: Span) {
        self.queue.push(span);
    }

    /// Sends what waits.
    pub async fn close(&self, timeout: Duration) {
        self.queue.close(timeout).await;
    }
}

async fn send(mut receiver: Receiver<Span>, mut poster: Poster, clock: Clock) {
    let mut spans = Vec::new();
    while receiver.take(&mut spans, BATCH_MAX).await > 0 {
        let until = Instant::now() + BATCH_DELAY;
        while spans.len() < BATCH_MAX {
            let room = BATCH_MAX - spans.len();
            match tokio::time::timeout_at(until, receiver.take(&mut spans, room)).await {
                Ok(taken) if taken > 0 => {}
                // Time is up, or the queue is closed and empty.
                _ => break,
            }
        }
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let body = Bytes::from(message(&spans, &clock).to_string());
        if !poster.post(headers, body).await {
            receiver.dropped.add(spans.len() as u64);
        }
        spans.clear();
    }
}

/// An `ExportTraceServiceRequest` in OTLP's JSON: ids in hexadecimal, 64-bit numbers as strings.
fn message(spans: &[Span], clock: &Clock) -> Value {
    let spans: Vec<Value> = spans.iter().flat_map(|span| with_parts(span, clock)).collect();
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let resource = [text("service.name", "tensorgate"), text("service.version", env!("CARGO_PKG_VERSION"))];
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": {"name": "tensorgate"}, "spans": spans}],
    }]})
}

fn with_parts(span: &Span, clock: &Clock) -> Vec<Value> {
    /// `SPAN_KIND_INTERNAL`.
    const INTERNAL: u8 = 1;
    /// `SPAN_KIND_SERVER`.
    const SERVER: u8 = 2;
    /// `STATUS_CODE_ERROR`.
    const ERROR: u8 = 2;
    let own = span.id;
    let nanos = |at: Instant| clock.since_1970(at).as_nanos().to_string();
    let one = |id: SpanId, parent: Option<SpanId>, name: &str, kind: u8, from: Instant, to: Instant| {
        let mut parent_id = String::new();
        if let Some(parent) = parent {
            // Writing to a string cannot fail.
            let _ = write!(parent_id, "{parent}");
        }
        json!({
            "traceId": span.context.trace.to_string(), "spanId": id.to_string(), "parentSpanId": parent_id,
            "name": name, "kind": kind, "startTimeUnixNano": nanos(from), "endTimeUnixNano": nanos(to),
        })
    };
    let mut root = one(own, span.context.parent, span.name, SERVER, span.started, span.ended);
    let attributes = span.attributes.iter().map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}));
    root["attributes"] = attributes.collect();
    if span.failed {
        root["status"] = json!({"code": ERROR});
    }
    let part =
        |&(name, from, to): &(&str, Instant, Instant)| one(SpanId::random(), Some(own), name, INTERNAL, from, to);
    std::iter::once(root).chain(span.parts.iter().map(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_continued() {
        let context = TraceContext::of(Some(PARENT));
        assert_eq!(context.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.parent.unwrap().to_string(), "00f067aa0ba902b7");
        assert_eq!(context.sampled, Some(true));
        let later = PARENT.replacen("00", "cc", 1) + "-more";
        assert_eq!(TraceContext::of(Some(&later)), context);
    }

    #[test]
    fn a_traceparent_that_makes_no_sense_begins_a_trace() {
        for text in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            let context = TraceContext::of(Some(text));
            assert_eq!((context.parent, context.sampled), (None, None), "{text}");
        }
        assert_ne!(TraceContext::of(None).trace, TraceContext::of(None).trace);
    }

    #[tokio::test]
    async fn a_span_has_its_parts_below_it() {
        let clock = Clock::start();
        let at = Instant::now();
        let span = Span {
            context: TraceContext::of(Some(PARENT)),
            id: SpanId::random(),
            name: "infer",
            started: at,
            ended: at + Duration::from_millis(3),
            failed: true,
            attributes: vec![("model", "m".into())],
            parts: vec![("queue", at, at + Duration::from_millis(1))],
        };
        let message = message(&[span], &clock);
        let spans = &message["resourceSpans"][0]["scopeSpans"][0]["spans"];
        assert_eq!(spans[0]["parentSpanId"], "00f067aa0ba902b7");
        assert_eq!(spans[1]["parentSpanId"], spans[0]["spanId"]);
        assert_eq!(spans[1]["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(spans[0]["status"]["code"], 2);
        let nanos = |key: &str| spans[0][key].as_str().unwrap().parse::<u64>().unwrap();
        assert_eq!(nanos("endTimeUnixNano") - nanos("startTimeUnixNano"), 3_000_000);
    }
}
