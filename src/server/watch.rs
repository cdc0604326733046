//! Watches requests where somebody asked for it: access log, spans, payloads. Off by default, and then nothing is made.
//!
//! A watched call is seen from its head to the last byte of its answer, however it ends: what there is to tell is told when
//! [`Seen`] is dropped, also where the client went away halfway.

use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::body::ResponseBody;
use super::guard::{Client, Door, Scope, scope_and_model};
use super::reload::FileFault;
use crate::export::{
    AccessLine, AccessLog, Clock, Endpoint, Payload, PayloadKind, PayloadLog, PayloadMode, Span, TraceContext, Tracer,
};
use crate::infer::{Notes, Trail};
use crate::telemetry::Telemetry;

/// How long the end of the process waits for each sink.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// gRPC's code for a call that its client gave up.
const CANCELLED: u16 = 1;
/// nginx's status for the same.
const CLIENT_CLOSED_REQUEST: u16 = 499;
/// gRPC's codes that are the server's failures (OpenTelemetry's conventions for gRPC servers).
const FAILURES: [u16; 6] = [2, 4, 12, 13, 14, 15];

/// What is watched; nothing by default.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// A file for a line about each request; "-" is standard output.
    pub access_log: Option<PathBuf>,
    /// Where spans go.
    pub otlp: Option<Endpoint>,
    /// The share of traces that is recorded where the caller does not say. Default a tenth.
    pub trace_ratio: f64,
    /// Where payloads of inference over HTTP go.
    pub payload: Option<Endpoint>,
    /// Which of them.
    pub payload_mode: PayloadMode,
    /// The share of requests whose payloads go there. Default all.
    pub payload_ratio: f64,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            access_log: None,
            otlp: None,
            trace_ratio: 0.1,
            payload: None,
            payload_mode: PayloadMode::default(),
            payload_ratio: 1.0,
        }
    }
}

/// Where what is seen goes.
pub struct Watch {
    access: Option<AccessLog>,
    tracer: Option<Tracer>,
    payload: Option<PayloadLog>,
    clock: Clock,
}

impl Watch {
    /// Starts the sinks that `config` asks for; `None` where that is none. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`FileFault`] about the access log's file.
    pub fn start(config: &WatchConfig, telemetry: &Telemetry) -> Result<Option<Self>, FileFault> {
        if config.access_log.is_none() && config.otlp.is_none() && config.payload.is_none() {
            return Ok(None);
        }
        let clock = Clock::start();
        let dropped = |sink| telemetry.dropped(sink);
        let open = |path: &PathBuf| {
            AccessLog::open(path, dropped("access_log")).map_err(|cause| FileFault::new("--access-log", path, cause))
        };
        let access = config.access_log.as_ref().map(open).transpose()?;
        let tracer =
            config.otlp.clone().map(|endpoint| Tracer::start(endpoint, config.trace_ratio, clock, dropped("otlp")));
        let payload = config.payload.clone().map(|endpoint| {
            PayloadLog::start(endpoint, config.payload_mode, config.payload_ratio, clock, dropped("payload"))
        });
        Ok(Some(Self { access, tracer, payload, clock }))
    }

    /// Begins to watch a call of `path`, as the doors' routes know it.
    pub(super) fn begin(
        self: &Arc<Self>,
        door: Door,
        path: &str,
        request: &Request<Incoming>,
        peer: IpAddr,
    ) -> Box<Seen> {
        let headers = request.headers();
        let (scope, model) = scope_and_model(door, path);
        let context = TraceContext::of(text(headers, "traceparent"));
        let infers = scope == Scope::Infer;
        let pays = infers && door == Door::Http && self.payload.as_ref().is_some_and(PayloadLog::samples);
        let id = || text(headers, "ce-id").map_or_else(|| TraceContext::of(None).trace.to_string(), str::to_owned);
        let trail = Trail::default();
        trail.notes().model = model;
        Box::new(Seen {
            watch: Arc::clone(self),
            door,
            method: request.method().clone(),
            peer,
            request_id: text(headers, "x-request-id").unwrap_or_default().to_owned(),
            context,
            records: infers && self.tracer.as_ref().is_some_and(|tracer| tracer.records(&context)),
            pays: pays.then(|| (id(), headers.get(header::CONTENT_TYPE).cloned())),
            path: request.uri().path().to_owned(),
            started: Instant::now(),
            trail: Arc::new(trail),
            client: None,
            status: None,
            encoded: None,
            content_type: None,
            content_encoding: None,
            bytes: 0,
            pieces: Vec::new(),
        })
    }

    /// Hands over what waits, for at most a few seconds. For the end of the process.
    pub async fn close(self: &Arc<Self>) {
        if let Some(tracer) = &self.tracer {
            tracer.close(CLOSE_TIMEOUT).await;
        }
        if let Some(payload) = &self.payload {
            payload.close(CLOSE_TIMEOUT).await;
        }
        let this = Arc::clone(self);
        let closing = tokio::task::spawn_blocking(move || {
            if let Some(access) = &this.access {
                access.close();
            }
        });
        // What is left then ends with the process.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A call under way; tells what there is to tell when dropped.
pub(super) struct Seen {
    watch: Arc<Watch>,
    door: Door,
    method: Method,
    path: String,
    peer: IpAddr,
    request_id: String,
    context: TraceContext,
    records: bool,
    /// Id and content type of the request's event, where its payload is sent.
    pays: Option<(String, Option<HeaderValue>)>,
    started: Instant,
    trail: Arc<Trail>,
    client: Option<Arc<Client>>,
    /// HTTP's status or gRPC's code, once it is known.
    status: Option<u16>,
    encoded: Option<Instant>,
    content_type: Option<HeaderValue>,
    content_encoding: Option<HeaderValue>,
    bytes: u64,
    /// Of the answer's body, where it is sent.
    pieces: Vec<Bytes>,
}

impl Seen {
    /// Where the service stack notes what the call is about.
    pub(super) fn trail(&self) -> Arc<Trail> {
        Arc::clone(&self.trail)
    }

    /// Notes who calls.
    pub(super) fn from(&mut self, client: Option<Arc<Client>>) {
        self.client = client;
    }

    /// Watches the answer to its end.
    pub(super) fn answered(mut self: Box<Self>, response: Response<ResponseBody>) -> Response<ResponseBody> {
        self.encoded = Some(Instant::now());
        self.content_type = response.headers().get(header::CONTENT_TYPE).cloned();
        self.content_encoding = response.headers().get(header::CONTENT_ENCODING).cloned();
        self.status = match self.door {
            Door::Http => Some(response.status().as_u16()),
            Door::Grpc => code(response.headers()),
        };
        response.map(|inner| ResponseBody::Watched(Box::new(WatchedBody { inner, seen: self })))
    }

    fn saw(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.bytes += data.len() as u64;
            if self.pays.is_some() && self.watch.sends(PayloadKind::Response) {
                self.pieces.push(data.clone());
            }
        }
        if let (Door::Grpc, Some(trailers)) = (self.door, frame.trailers_ref()) {
            self.status = code(trailers);
        }
    }

    fn tell_access(&self, notes: &Notes, status: u16, ended: Instant) {
        let Some(access) = &self.watch.access else { return };
        access.write(&AccessLine {
            time: &self.watch.clock.rfc_3339(self.started),
            protocol: self.door.name(),
            method: self.method.as_str(),
            path: &self.path,
            model: &notes.model,
            version: &notes.version,
            status,
            bytes: self.bytes,
            ms: (ended - self.started).as_secs_f64() * 1e3,
            client: self.client.as_ref().map_or("", |client| &client.name),
            peer: &self.peer.to_string(),
            request_id: if self.request_id.is_empty() { &notes.id } else { &self.request_id },
            trace_id: &self.context.trace.to_string(),
        });
    }

    fn tell_spans(&self, notes: &Notes, status: u16, ended: Instant) {
        let Some(tracer) = self.watch.tracer.as_ref().filter(|_| self.records) else { return };
        let failed = match self.door {
            Door::Http => status >= 500,
            Door::Grpc => FAILURES.contains(&status),
        };
        let mut parts = Vec::new();
        if let Some(decoded) = notes.decoded {
            parts.push(("decode", self.started, decoded));
            if let Some(timing) = notes.timing {
                let dispatched = decoded + timing.queue;
                parts.push(("queue", decoded, dispatched));
                parts.push(("execute", dispatched, dispatched + timing.execute));
            }
        }
        if let (Some(answered), Some(encoded)) = (notes.answered, self.encoded) {
            parts.push(("encode", answered, encoded));
        }
        let rows = notes.timing.map(|timing| timing.batch_rows.to_string());
        let attributes = [
            ("protocol", self.door.name().to_owned()),
            ("url.path", self.path.clone()),
            ("model", notes.model.clone()),
            ("version", notes.version.clone()),
            ("request.id", notes.id.clone()),
            ("status", status.to_string()),
            ("batch.rows", rows.unwrap_or_default()),
        ];
        let attributes = attributes.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let (context, started) = (self.context, self.started);
        tracer.record(Span { context, name: "infer", started, ended, failed, attributes, parts });
    }

    fn tell_payload(&mut self, notes: &mut Notes, status: u16, ended: Instant) {
        let (Some(payload), Some((id, content_type))) = (&self.watch.payload, self.pays.take()) else { return };
        let event = |kind, at, content_type, content_encoding, data| Payload {
            kind,
            id: id.clone(),
            model: notes.model.clone(),
            at,
            content_type,
            content_encoding,
            data,
        };
        if let (Some(body), true) = (notes.body.take(), payload.mode.wants(PayloadKind::Request)) {
            payload.record(event(PayloadKind::Request, self.started, content_type, None, vec![body]));
        }
        // As KServe does: answers that are errors are not payloads.
        if status == StatusCode::OK.as_u16() && payload.mode.wants(PayloadKind::Response) {
            let data = std::mem::take(&mut self.pieces);
            let (content_type, encoding) = (self.content_type.take(), self.content_encoding.take());
            payload.record(event(PayloadKind::Response, ended, content_type, encoding, data));
        }
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        let ended = Instant::now();
        let status = self.status.unwrap_or(match self.door {
            Door::Http => CLIENT_CLOSED_REQUEST,
            Door::Grpc => CANCELLED,
        });
        let trail = Arc::clone(&self.trail);
        let mut notes = trail.notes();
        self.tell_access(&notes, status, ended);
        self.tell_spans(&notes, status, ended);
        self.tell_payload(&mut notes, status, ended);
    }
}

impl Watch {
    fn sends(&self, kind: PayloadKind) -> bool {
        self.payload.as_ref().is_some_and(|payload| payload.mode.wants(kind))
    }
}

/// The code of headers or trailers that say one; a call that went well says so in its trailers alone.
fn code(headers: &HeaderMap) -> Option<u16> {
    text(headers, "grpc-status")?.parse().ok()
}

/// A body that is counted on its way.
pub(super) struct WatchedBody {
    inner: ResponseBody,
    seen: Box<Seen>,
}

impl WatchedBody {
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.seen.saw(frame);
        }
        frame
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
