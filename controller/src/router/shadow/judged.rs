//! Asks the shadow what a caller has asked, and compares both answers.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{HeaderMap, HeaderValue};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tensorgate_contract::compare::{Difference, Output, Tolerance, compare};

use super::super::body::Budget;
use super::super::graph_call::JSON_LENGTH;
use super::super::metrics::Metrics;
use super::super::{deadline, grpc};
use super::exchange::{Answered, Exchange};
use super::{EXCHANGE_MAX, HELD_MAX};
use crate::v2::{Call, Side, Tensor, frame, json, proto};

/// How long the shadow has: an answer that takes longer says of itself that it is late.
const PATIENCE: Duration = Duration::from_secs(10);
/// A Service without pods refuses at once; a node that is gone does not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Below the server's own 75 s, so that it is never the server that ends a connection just as it is used again.
const IDLE: Duration = Duration::from_secs(60);
/// Bytes of an answer that are compared where it is: 256 KiB take some 100 us; more would hold up other requests of the thread.
const IN_PLACE_MAX: usize = 256 << 10;
/// Statuses and codes that say that a server has too much to do, is not there yet, or is late: nothing about its answers.
const NOT_RUN: [u16; 3] = [429, 503, 504];
const NOT_RUN_CODES: [u8; 3] = [4, 8, 14];

/// Asks shadows.
pub(super) struct Asker {
    http: Client<HttpConnector, Full<Bytes>>,
    grpc: Client<HttpConnector, Full<Bytes>>,
    budget: Budget,
    metrics: Metrics,
}

/// What came of asking the shadow.
enum Outcome {
    Answered(Answered),
    /// It says no where the live revision has answered.
    Failed(String),
    /// It could not be asked, or had no time.
    NotRun(String),
}

impl Asker {
    pub(super) fn new(metrics: Metrics) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        let http = builder.build(connector.clone());
        let grpc = builder.http2_only(true).build(connector);
        Self { http, grpc, budget: Budget::new(HELD_MAX), metrics }
    }

    pub(super) fn count(&self, revision: &str, outcome: &str) {
        self.metrics.shadow.requests.with_label_values(&[revision, outcome]).inc();
    }

    /// Asks, compares and counts.
    pub(super) async fn ask(&self, exchange: &Exchange, live: Answered) {
        let revision = &exchange.shadow().revision;
        let took = exchange.took();
        let Some(body) = exchange.request() else { return self.count(revision, "dropped") };
        let Ok(live) = read(exchange.is_grpc, &live) else { return self.count(revision, "unreadable") };
        let began = tokio::time::Instant::now();
        let asked = tokio::time::timeout(PATIENCE, self.answer(exchange, body)).await;
        let mirrored = began.elapsed();
        let outcome = asked.unwrap_or_else(|_| Outcome::NotRun(format!("no answer within {PATIENCE:?}")));
        let own = match outcome {
            Outcome::Answered(own) => read(exchange.is_grpc, &own),
            Outcome::Failed(told) => Err(told),
            Outcome::NotRun(told) => {
                tracing::debug!(revision, told, "a mirrored request was not run");
                return self.count(revision, "not_run");
            }
        };
        match own {
            Ok(own) => {
                let tolerance = exchange.shadow().compare.tolerance();
                let Some(difference) = differ(live, own, tolerance).await else {
                    return self.count(revision, "unreadable");
                };
                self.metrics.shadow.note(revision, &difference, difference.agrees(&tolerance), took, mirrored);
            }
            Err(told) => {
                tracing::warn!(revision, told, "a mirrored request failed that the live revision has answered");
                self.count(revision, "failed");
            }
        }
    }

    async fn answer(&self, exchange: &Exchange, body: Bytes) -> Outcome {
        let shadow = exchange.shadow();
        let address = shadow.grpc.as_ref().filter(|_| exchange.is_grpc).unwrap_or(&shadow.http);
        let request = Request::post(format!("http://{address}{}", exchange.path)).body(Full::new(body));
        let mut request = match request {
            Ok(request) => request,
            Err(error) => return Outcome::NotRun(error.to_string()),
        };
        *request.headers_mut() = headers(exchange);
        let client = if exchange.is_grpc { &self.grpc } else { &self.http };
        let answer = match client.request(request).await {
            Ok(answer) => answer,
            Err(error) => return Outcome::NotRun(super::super::proxy::shown(&error)),
        };
        let (head, mut body) = answer.into_parts();
        if NOT_RUN.contains(&head.status.as_u16()) {
            return Outcome::NotRun(format!("it answered {}", head.status));
        }
        let (body, trailers) = match self.budget.read_to_trailers(&mut body).await {
            Ok(read) => read,
            Err(unread) => return Outcome::NotRun(unread.to_string()),
        };
        if body.len() > EXCHANGE_MAX {
            return Outcome::Failed(format!("its answer has {} bytes", body.len()));
        }
        match grpc::outcome(&head.headers, &trailers).filter(|_| exchange.is_grpc) {
            Some((code, told)) if NOT_RUN_CODES.contains(&code) => return Outcome::NotRun(told),
            Some((code, told)) if code != 0 => return Outcome::Failed(told),
            _ => {}
        }
        if !head.status.is_success() {
            return Outcome::Failed(format!("it answered {}: {}", head.status, String::from_utf8_lossy(&body)));
        }
        Outcome::Answered(Answered { headers: head.headers, trailers, body })
    }
}

/// What the shadow is told of a request: all but what belongs to a connection, and the caller's deadline, which is past.
fn headers(exchange: &Exchange) -> HeaderMap {
    let mut headers = exchange.headers.clone();
    super::super::proxy::remove_of_a_connection(&mut headers);
    for name in ["host", "content-length", "expect", "grpc-timeout", "x-envoy-expected-rq-timeout-ms"] {
        headers.remove(name);
    }
    headers.insert(deadline::REQUEST_TIMEOUT, HeaderValue::from_static("10s"));
    if exchange.is_grpc {
        headers.insert("te", HeaderValue::from_static("trailers"));
    }
    headers
}

/// An answer's outputs.
fn read(is_grpc: bool, answer: &Answered) -> Result<Call, String> {
    if is_grpc {
        if !matches!(grpc::outcome(&answer.headers, &answer.trailers), Some((0, _))) {
            return Err("it ended with no status, or with another than OK".into());
        }
        return proto::read(&frame::message(&answer.body).map_err(|why| why.to_string())?, Side::Answer);
    }
    let length = answer.headers.get(JSON_LENGTH).and_then(|own| own.to_str().ok()).and_then(|own| own.parse().ok());
    json::read(&answer.body, length, Side::Answer)
}

/// What differs; none where that could not be found out, which would be a bug of ours and is in the log.
async fn differ(live: Call, own: Call, tolerance: Tolerance) -> Option<Difference> {
    let bytes: usize = live.tensors.iter().map(|tensor| tensor.data.len()).sum();
    let work = move || compare(&outputs(&live), &outputs(&own), &tolerance);
    if bytes <= IN_PLACE_MAX {
        return Some(work());
    }
    tokio::task::spawn_blocking(work).await.ok()
}

fn outputs(call: &Call) -> Vec<Output<'_>> {
    fn view(own: &Tensor) -> Output<'_> {
        Output { name: &own.name, datatype: own.datatype, shape: &own.shape, data: &own.data }
    }
    call.tensors.iter().map(view).collect()
}
