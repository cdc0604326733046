//! Watches requests where somebody asked for it: access log, spans, payloads. Off by default, and then nothing is made.
//!
//! A watched call is seen from its head to the last byte of its answer, however it ends: what there is to tell is told when
//! [`Seen`] is dropped, also where the client went away halfway.

mod seen;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, header};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::guard::{Door, Scope, scope_and_model};
use super::reload::FileFault;
use crate::export::{
    AccessLog, Clock, Endpoint, PayloadKind, PayloadLog, PayloadMode, PayloadOrigin, SpanId, TraceContext, TraceFiles,
    Tracer,
};
use crate::infer::Trail;
use crate::telemetry::{Telemetry, TraceSinks};

pub(super) use seen::{Pair, Seen, WatchedBody};

/// The content type of a gRPC message by itself.
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/protobuf");

/// The method whose messages are requests.
const STREAM: &str = "ModelStreamInfer";

/// How long the end of the process waits for each sink.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What is watched; nothing by default.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// A file for a line about each request; "-" is standard output.
    pub access_log: Option<PathBuf>,
    /// Where spans go.
    pub otlp: Option<Endpoint>,
    /// The share of traces that is recorded where the caller does not say. Default a tenth.
    pub trace_ratio: f64,
    /// The directory of traces in Triton's form, which the trace extension switches on.
    pub trace_directory: Option<PathBuf>,
    /// Where payloads of inference go.
    pub payload: Option<Endpoint>,
    /// What is told of where they come from.
    pub payload_origin: PayloadOrigin,
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
            trace_directory: None,
            payload: None,
            payload_origin: PayloadOrigin::default(),
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
    traces: Option<TraceFiles>,
    telemetry: Arc<Telemetry>,
    clock: Clock,
}

impl Watch {
    /// Starts the sinks that `config` asks for; `None` where that is none. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`FileFault`] about the access log's file or the traces' directory.
    pub fn start(config: &WatchConfig, telemetry: &Arc<Telemetry>) -> Result<Option<Self>, FileFault> {
        let WatchConfig { access_log, otlp, trace_directory, payload, .. } = config;
        telemetry.trace_settings().set_sinks(TraceSinks { directory: trace_directory.clone(), otlp: otlp.is_some() });
        if access_log.is_none() && otlp.is_none() && trace_directory.is_none() && payload.is_none() {
            return Ok(None);
        }
        let clock = Clock::start();
        let dropped = |sink| telemetry.dropped(sink);
        let open = |path: &PathBuf| {
            AccessLog::open(path, dropped("access_log")).map_err(|cause| FileFault::new("--access-log", path, cause))
        };
        let access = access_log.as_ref().map(open).transpose()?;
        let tracer = otlp.clone().map(|endpoint| Tracer::start(endpoint, config.trace_ratio, clock, dropped("otlp")));
        let payload = payload.clone().map(|endpoint| {
            let (mode, ratio, origin) = (config.payload_mode, config.payload_ratio, config.payload_origin.clone());
            PayloadLog::start(endpoint, mode, ratio, origin, clock, dropped("payload"))
        });
        let open = |path: &PathBuf| {
            TraceFiles::open(path, clock, dropped("trace")).map_err(|cause| FileFault::new("--trace-dir", path, cause))
        };
        let traces = trace_directory.as_ref().map(open).transpose()?;
        Ok(Some(Self { access, tracer, payload, traces, telemetry: Arc::clone(telemetry), clock }))
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
        // Of a stream each message is a request of its own.
        let infers = scope == Scope::Infer && !(door == Door::Grpc && path.ends_with(STREAM));
        let content_type = match door {
            Door::Http => headers.get(header::CONTENT_TYPE).cloned(),
            Door::Grpc => Some(PROTOBUF),
        };
        let pair = if infers { self.pair(headers, content_type) } else { None };
        let context = TraceContext::of(text(headers, "traceparent"));
        let id = text(headers, "x-request-id").unwrap_or_default();
        let mut seen = self.seen(door, infers, context, pair, id);
        seen.trail().notes().model = model;
        request.method().clone_into(&mut seen.method);
        request.uri().path().clone_into(&mut seen.path);
        (seen.peer, seen.line) = (peer, true);
        seen
    }

    /// Begins to watch a request of a stream that came with `headers`.
    pub(super) fn begin_message(self: &Arc<Self>, headers: &HeaderMap) -> Box<Seen> {
        let pair = self.pair(headers, Some(PROTOBUF));
        let context = TraceContext::of(text(headers, "traceparent"));
        let mut seen = self.seen(Door::Grpc, true, context, pair, "");
        seen.path = format!("/inference.GRPCInferenceService/{STREAM}");
        seen
    }

    /// What is told of a request's payloads, where they are sent.
    fn pair(&self, headers: &HeaderMap, content_type: Option<HeaderValue>) -> Option<Pair> {
        let payload = self.payload.as_ref().filter(|payload| payload.samples())?;
        let id = text(headers, "ce-id").map_or_else(|| TraceContext::of(None).trace.to_string(), str::to_owned);
        Some(Pair { id, content_type, metadata: payload.origin.metadata(headers) })
    }

    fn seen(
        self: &Arc<Self>,
        door: Door,
        infers: bool,
        context: TraceContext,
        pair: Option<Pair>,
        request_id: &str,
    ) -> Box<Seen> {
        let trail = Trail::default();
        trail.notes().keeps = pair.is_some();
        Box::new(Seen {
            watch: Arc::clone(self),
            door,
            line: false,
            method: Method::POST,
            path: String::new(),
            peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            request_id: request_id.to_owned(),
            context,
            span: SpanId::random(),
            infers,
            records: infers && self.tracer.as_ref().is_some_and(|tracer| tracer.records(&context)),
            pair,
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

    fn sends(&self, kind: PayloadKind) -> bool {
        self.payload.as_ref().is_some_and(|payload| payload.mode.wants(kind))
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
            if let Some(traces) = &this.traces {
                traces.close();
            }
        });
        // What is left then ends with the process.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
