//! A call that is watched, from its head to the last byte of its answer.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::super::body::ResponseBody;
use super::super::guard::{Client, Door};
use super::{PROTOBUF, Watch, text};
use crate::export::{AccessLine, FileTrace, Payload, PayloadKind, Span, SpanId, TraceContext};
use crate::infer::{Notes, Trail};
use crate::telemetry::TraceTo;

/// gRPC's code for a call that went well.
const GRPC_OK: u16 = 0;
/// gRPC's code for a call that its client gave up.
const CANCELLED: u16 = 1;
/// nginx's status for the same.
const CLIENT_CLOSED_REQUEST: u16 = 499;
/// gRPC's codes that are the server's failures (OpenTelemetry's conventions for gRPC servers).
const FAILURES: [u16; 6] = [2, 4, 12, 13, 14, 15];

/// A call under way; tells what there is to tell when dropped.
pub(in super::super) struct Seen {
    pub(super) watch: Arc<Watch>,
    pub(super) door: Door,
    /// Whether it is a line of the access log.
    pub(super) line: bool,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) peer: IpAddr,
    pub(super) request_id: String,
    pub(super) context: TraceContext,
    /// Its own span.
    pub(super) span: SpanId,
    /// Whether it is an inference.
    pub(super) infers: bool,
    /// Whether its spans are sent.
    pub(super) records: bool,
    /// What is told of its payloads, where they are sent.
    pub(super) pair: Option<Pair>,
    pub(super) started: Instant,
    pub(super) trail: Arc<Trail>,
    pub(super) client: Option<Arc<Client>>,
    pub(super) status: Option<u16>,
    pub(super) encoded: Option<Instant>,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) content_encoding: Option<HeaderValue>,
    pub(super) bytes: u64,
    /// Of the answer's body, where it is sent.
    pub(super) pieces: Vec<Bytes>,
}

/// What is told of a request's payloads.
pub(in super::super) struct Pair {
    pub(super) id: String,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) metadata: Option<String>,
}

impl Seen {
    /// Where the service stack notes what the call is about.
    pub(in super::super) fn trail(&self) -> Arc<Trail> {
        Arc::clone(&self.trail)
    }

    /// Notes who calls.
    pub(in super::super) fn from(&mut self, client: Option<Arc<Client>>) {
        self.client = client;
    }

    /// Watches the answer to its end.
    pub(in super::super) fn answered(
        mut self: Box<Self>,
        mut response: Response<ResponseBody>,
    ) -> Response<ResponseBody> {
        if self.records {
            // W3C Trace Context, level 2: where the caller finds what it has begun.
            let value = HeaderValue::from_str(&self.context.header(self.span, true));
            response.headers_mut().extend(value.map(|value| (HeaderName::from_static("traceresponse"), value)));
        }
        self.encoded = Some(Instant::now());
        self.content_type = response.headers().get(header::CONTENT_TYPE).cloned();
        self.content_encoding = response.headers().get(header::CONTENT_ENCODING).cloned();
        self.status = match self.door {
            Door::Http => Some(response.status().as_u16()),
            Door::Grpc => code(response.headers()),
        };
        response.map(|inner| ResponseBody::Watched(Box::new(WatchedBody { inner, seen: self })))
    }

    /// Notes that a message of a stream was answered, and with which of gRPC's codes.
    pub(in super::super) fn answered_message(mut self: Box<Self>, code: u16) {
        (self.status, self.encoded) = (Some(code), Some(Instant::now()));
    }

    fn saw(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.bytes += data.len() as u64;
            if self.door == Door::Http && self.pair.is_some() && self.watch.sends(PayloadKind::Response) {
                self.pieces.push(data.clone());
            }
        }
        if let (Door::Grpc, Some(trailers)) = (self.door, frame.trailers_ref()) {
            self.status = code(trailers);
        }
    }

    fn tell_access(&self, notes: &Notes, status: u16, ended: Instant) {
        let Some(access) = self.watch.access.as_ref().filter(|_| self.line) else { return };
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

    /// Traces as the trace extension asks for; gives whether spans are asked for.
    fn tell_trace(&self, notes: &Notes, ended: Instant) -> bool {
        let settings = self.watch.telemetry.trace_settings();
        let to = if self.infers { settings.sample(&notes.model) } else { None };
        let (name, frequency) = match to {
            Some(TraceTo::File { name, frequency }) => (name, frequency),
            other => return other.is_some(),
        };
        let [begun, read, sending, sent] = match self.door {
            Door::Http => ["HTTP_RECV_START", "HTTP_RECV_END", "HTTP_SEND_START", "HTTP_SEND_END"],
            Door::Grpc => ["GRPC_WAITREAD_START", "GRPC_WAITREAD_END", "GRPC_SEND_START", "GRPC_SEND_END"],
        };
        let dispatched = notes.decoded.zip(notes.timing).map(|(decoded, timing)| decoded + timing.queue);
        let computed = dispatched.zip(notes.timing).map(|(dispatched, timing)| dispatched + timing.execute);
        let times = [
            (begun, Some(self.started)),
            (read, notes.decoded),
            ("REQUEST_START", notes.decoded),
            ("QUEUE_START", dispatched.and(notes.decoded)),
            ("COMPUTE_START", dispatched),
            ("COMPUTE_END", computed),
            ("REQUEST_END", notes.answered),
            (sending, self.encoded),
            (sent, Some(ended)),
        ];
        let times = times.into_iter().filter_map(|(name, at)| Some((name, at?))).collect();
        let version = notes.version.parse().unwrap_or(-1);
        let trace = FileTrace { model: notes.model.clone(), version, request_id: notes.id.clone(), times };
        if let Some(traces) = &self.watch.traces {
            traces.write(name, frequency, &trace);
        }
        false
    }

    fn tell_spans(&self, notes: &Notes, status: u16, ended: Instant) {
        let Some(tracer) = &self.watch.tracer else { return };
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
        tracer.record(Span { context, id: self.span, name: "infer", started, ended, failed, attributes, parts });
    }

    fn tell_payload(&mut self, notes: &mut Notes, status: u16, ended: Instant) {
        let (Some(payload), Some(Pair { id, content_type, metadata })) = (&self.watch.payload, self.pair.take()) else {
            return;
        };
        let event = |kind, at, content_type, content_encoding, data| Payload {
            kind,
            id: id.clone(),
            model: notes.model.clone(),
            metadata: metadata.clone(),
            traceparent: self.context.header(self.span, self.records),
            at,
            content_type,
            content_encoding,
            data,
        };
        if let (Some(body), true) = (notes.body.take(), payload.mode.wants(PayloadKind::Request)) {
            payload.record(event(PayloadKind::Request, self.started, content_type, None, vec![body]));
        }
        // As KServe does: answers that are errors are not payloads.
        let answered = match self.door {
            Door::Http => status == StatusCode::OK.as_u16(),
            Door::Grpc => status == GRPC_OK,
        };
        if answered && payload.mode.wants(PayloadKind::Response) {
            let (data, content_type) = match self.door {
                Door::Http => (std::mem::take(&mut self.pieces), self.content_type.take()),
                Door::Grpc => (notes.answer.take().into_iter().collect(), Some(PROTOBUF)),
            };
            let encoding = self.content_encoding.take().filter(|_| self.door == Door::Http);
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
        if self.tell_trace(&notes, ended) || self.records {
            self.tell_spans(&notes, status, ended);
        }
        self.tell_payload(&mut notes, status, ended);
    }
}

/// The code of headers or trailers that say one; a call that went well says so in its trailers alone.
fn code(headers: &HeaderMap) -> Option<u16> {
    text(headers, "grpc-status")?.parse().ok()
}

/// A body that is counted on its way.
pub(in super::super) struct WatchedBody {
    inner: ResponseBody,
    seen: Box<Seen>,
}

impl WatchedBody {
    pub(in super::super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.seen.saw(frame);
        }
        frame
    }

    pub(in super::super) fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    pub(in super::super) fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
