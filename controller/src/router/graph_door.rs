//! A graph served over HTTP as KServe's router does it: a POST to any path is a request to the graph's root. And over gRPC, as the
//! model of its name.
//!
//! Bodies are read whole, since a graph sends them several times and looks into them.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use regex_lite::Regex;
use tokio::time::Instant;

use super::answer::{self, Answer};
use super::body::{Budget, HELD_MAX, Unread, discard};
use super::deadline;
use super::graph_call::{Call, Clients, JSON_LENGTH, describe, described};
use super::metrics::Metrics;
use crate::graph::evaluate::Failure;
use crate::graph::message::{self, Form, Message};
use crate::graph::{Graph, Program};
use crate::v2::{Side, json};

/// KServe's default of `routerTimeouts.serverRead`.
const READ_TIMEOUT: u64 = 60;
/// KServe's default of `routerTimeouts.serverWrite`.
const WRITE_TIMEOUT: u64 = 60;
/// What tells of the request and not of its content: reaches every step.
const PROPAGATED: [&str; 8] =
    ["x-request-id", "traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled"];
/// What belongs to a connection or a body, and is never taken from the caller's request, whatever a pattern says.
const NEVER: [&str; 12] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "keep-alive",
    "upgrade",
    "te",
    "expect",
    "accept-encoding",
    "grpc-timeout",
    "grpc-encoding",
    "grpc-accept-encoding",
];

/// Serves one graph.
pub struct GraphDoor {
    pub(super) graph: Graph,
    /// What gRPC's callers name as the model; any where there is none.
    pub(super) name: Option<String>,
    propagate: Vec<Regex>,
    pub(super) read: Duration,
    pub(super) write: Duration,
    pub(super) step: Option<Duration>,
    pub(super) clients: Clients,
    pub(super) budget: Budget,
    pub(super) counter: AtomicU64,
    pub(super) metrics: Metrics,
}

impl GraphDoor {
    /// For a checked graph.
    ///
    /// # Errors
    /// If a pattern of headers is none, or steps are https and the system has no certificates to trust.
    pub fn new(program: &Program, graph: Graph, metrics: Metrics) -> Result<Self, String> {
        let pattern = |text: &String| {
            // Names of headers are in lower case here, and in Go's spelling where the patterns come from.
            let whole = format!("(?i){text}");
            Regex::new(&whole).map_err(|error| format!("propagate '{text}' is no regular expression: {error}"))
        };
        let propagate = program.propagate.iter().map(pattern).collect::<Result<_, _>>()?;
        let secure = graph.services().any(|(_, url)| url.starts_with("https://"));
        let seconds = |own: Option<u64>, default: u64| Duration::from_secs(own.unwrap_or(default));
        let timeouts = &program.timeouts;
        let write =
            seconds(timeouts.write, WRITE_TIMEOUT).max(timeouts.request.map(Duration::from_secs).unwrap_or_default());
        Ok(Self {
            graph,
            name: program.name.clone(),
            propagate,
            read: seconds(timeouts.read, READ_TIMEOUT),
            // A longer time of the whole is stated on purpose; a shorter one counts.
            write: timeouts.request.map_or(write, |request| write.min(Duration::from_secs(request))),
            step: timeouts.step.map(Duration::from_secs),
            clients: Clients::new(secure)?,
            budget: Budget::new(HELD_MAX),
            counter: AtomicU64::new(0),
            metrics,
        })
    }

    /// Answers a request.
    pub async fn handle(&self, request: Request<Incoming>) -> Answer {
        let (status, answer) = if super::proxy::is_grpc(request.headers()) {
            self.answer_grpc(request).await
        } else {
            let answer = self.answer(request).await;
            (answer.status(), answer)
        };
        let held = i64::try_from(self.budget.held()).unwrap_or(i64::MAX);
        self.metrics.graph_held.set(held);
        self.metrics.graph_requests.with_label_values(&[status.as_str()]).inc();
        answer
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if request.method() != Method::POST {
            let mut refused = answer::error(StatusCode::METHOD_NOT_ALLOWED, "a graph is asked by POST to its root");
            refused.headers_mut().insert("allow", HeaderValue::from_static("POST"));
            return refused;
        }
        let arrived = Instant::now();
        let (head, mut incoming) = request.into_parts();
        let Ok(described) = described(&head.headers) else {
            return answer::error(StatusCode::BAD_REQUEST, &format!("{JSON_LENGTH} is no number of bytes"));
        };
        let body = match tokio::time::timeout(self.read, self.budget.read(&mut incoming)).await {
            Ok(Ok(body)) => body,
            Ok(Err(unread)) => {
                discard(incoming);
                return answer::error(status_of(&unread), &unread.to_string());
            }
            Err(_) => {
                let message = format!("the body did not come within {:?}", self.read);
                return answer::error(StatusCode::REQUEST_TIMEOUT, &message);
            }
        };
        match self.evaluate(&head.headers, arrived, false, Message { body, ..described }).await {
            Ok(answer) => rendered(answer),
            Err(failure) => failed(&failure),
        }
    }

    /// A request through the graph, within its own deadline and the graph's.
    pub(super) async fn evaluate(
        &self,
        headers: &HeaderMap,
        arrived: Instant,
        over_grpc: bool,
        message: Message,
    ) -> Result<message::Answer, Failure> {
        let stated = deadline::stated(headers).and_then(|own| arrived.checked_add(own));
        let deadline = stated.into_iter().chain([Instant::now() + self.write]).min().unwrap_or(arrived);
        let call = Call { door: self, headers: self.propagated(headers), deadline, over_grpc };
        match tokio::time::timeout_at(deadline, self.graph.evaluate(&call, message)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let cause = format!("no answer within {:?}", deadline.saturating_duration_since(arrived));
                Err(Failure { status: 504, cause })
            }
        }
    }

    fn propagated(&self, headers: &HeaderMap) -> HeaderMap {
        let goes = |name: &HeaderName| {
            let name = name.as_str();
            !NEVER.contains(&name)
                && (PROPAGATED.contains(&name) || self.propagate.iter().any(|pattern| pattern.is_match(name)))
        };
        headers.iter().filter(|(name, _)| goes(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

pub(super) fn status_of(unread: &Unread) -> StatusCode {
    match unread {
        Unread::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Unread::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
        Unread::Broken(_) => StatusCode::BAD_REQUEST,
    }
}

fn rendered(answer: message::Answer) -> Answer {
    let message = match over_http(answer.message) {
        Ok(message) => message,
        Err(cause) => {
            return failed(&Failure { status: 500, cause: format!("the answer cannot be given over HTTP: {cause}") });
        }
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut rendered = answer::whole(status, message.body.clone());
    describe(&message, rendered.headers_mut());
    rendered
}

/// What a step answered over gRPC, in the form of HTTP.
fn over_http(message: Message) -> Result<Message, String> {
    if message.form == Form::Http {
        return Ok(message);
    }
    let (body, json_length) = json::write_answer(&message.as_call(Side::Answer)?);
    let content_type = json_length.map_or("application/json", |_| "application/octet-stream");
    Ok(Message { body, json_length, content_type: Some(content_type.into()), ..Message::default() })
}

/// KServe's form: what happened, and why.
pub(super) fn body_of(cause: &str) -> serde_json::Value {
    serde_json::json!({"error": "Failed to process request", "cause": cause})
}

fn failed(failure: &Failure) -> Answer {
    let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer::json(status, &body_of(&failure.cause))
}
