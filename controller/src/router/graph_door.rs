//! A graph served over HTTP as KServe's router does it: a POST to any path is a request to the graph's root.
//!
//! Bodies are read whole, since a graph sends them several times and looks into them. gRPC is refused: neither a Switch's conditions
//! nor an ensemble's answer have a form in V2's messages.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use regex_lite::Regex;
use tokio::time::Instant;

use super::answer::{self, Answer, Refusal};
use super::body::{Budget, HELD_MAX, Unread, discard};
use super::deadline;
use super::metrics::Metrics;
use super::table::{STEP, mix};
use crate::graph::evaluate::{Failure, World};
use crate::graph::message::{self, Message};
use crate::graph::{Graph, Program, Step};

/// KServe's default of `routerTimeouts.serverRead`.
const READ_TIMEOUT: u64 = 60;
/// KServe's default of `routerTimeouts.serverWrite`.
const WRITE_TIMEOUT: u64 = 60;
/// A Service without pods refuses at once; a node that is gone does not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Idle connections to one service: what a burst leaves behind.
const IDLE_MAX: usize = 64;
/// Below the server's own 75 s, so that it is never the server that ends a connection just as it is used again.
const IDLE: Duration = Duration::from_secs(60);
/// What tells of the request and not of its content: reaches every step.
const PROPAGATED: [&str; 8] =
    ["x-request-id", "traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled"];
/// What belongs to a connection or a body, and is never taken from the caller's request, whatever a pattern says.
const NEVER: [&str; 9] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "keep-alive",
    "upgrade",
    "te",
    "expect",
    "accept-encoding",
];
/// How much of a body is JSON, where binary tensors follow.
const JSON_LENGTH: &str = "inference-header-content-length";

/// Serves one graph.
pub struct GraphDoor {
    graph: Graph,
    propagate: Vec<Regex>,
    read: Duration,
    write: Duration,
    step: Option<Duration>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    budget: Budget,
    counter: AtomicU64,
    metrics: Metrics,
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
            propagate,
            read: seconds(timeouts.read, READ_TIMEOUT),
            // A longer time of the whole is stated on purpose; a shorter one counts.
            write: timeouts.request.map_or(write, |request| write.min(Duration::from_secs(request))),
            step: timeouts.step.map(Duration::from_secs),
            client: client(secure)?,
            budget: Budget::new(HELD_MAX),
            counter: AtomicU64::new(0),
            metrics,
        })
    }

    /// Answers a request.
    pub async fn handle(&self, request: Request<Incoming>) -> Answer {
        let answer = self.answer(request).await;
        let held = i64::try_from(self.budget.held()).unwrap_or(i64::MAX);
        self.metrics.graph_held.set(held);
        self.metrics.graph_requests.with_label_values(&[answer.status().as_str()]).inc();
        answer
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if super::proxy::is_grpc(request.headers()) {
            let message =
                "a graph is served over HTTP: POST to its root; its conditions and ensembles have no form in gRPC";
            return answer::refused(true, Refusal::Unsupported, message);
        }
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
        let stated = deadline::stated(&head.headers).map(|own| arrived + own);
        let deadline = stated.into_iter().chain([Instant::now() + self.write]).min().unwrap_or(arrived);
        let call = Call { door: self, headers: self.propagated(&head.headers), deadline };
        let message = Message { body, ..described };
        match tokio::time::timeout_at(deadline, self.graph.evaluate(&call, message)).await {
            Ok(Ok(answer)) => rendered(answer),
            Ok(Err(failure)) => failed(&failure),
            Err(_) => {
                let cause = format!("no answer within {:?}", deadline.saturating_duration_since(arrived));
                failed(&Failure { status: 504, cause })
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

fn client(secure: bool) -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, String> {
    let mut plain = HttpConnector::new();
    plain.enforce_http(false);
    plain.set_nodelay(true);
    plain.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let tls = if secure {
        HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| format!("steps are https, and the system has no certificates to trust: {error}"))?
    } else {
        let provider = rustls::crypto::ring::default_provider();
        let config = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        HttpsConnectorBuilder::new().with_tls_config(config)
    };
    let connector = tls.https_or_http().enable_http1().wrap_connector(plain);
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(IDLE_MAX);
    Ok(builder.build(connector))
}

fn status_of(unread: &Unread) -> StatusCode {
    match unread {
        Unread::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Unread::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
        Unread::Broken(_) => StatusCode::BAD_REQUEST,
    }
}

/// What headers say of a body. KServe takes a body without a type as JSON.
fn described(headers: &HeaderMap) -> Result<Message, ()> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let json_length = text(JSON_LENGTH).map(|text| text.parse()).transpose().map_err(|_| ())?;
    Ok(Message {
        body: Bytes::new(),
        content_type: text("content-type"),
        encoding: text("content-encoding"),
        json_length,
    })
}

fn describe(message: &Message, headers: &mut HeaderMap) {
    let kind = message.content_type.as_deref().unwrap_or("application/json");
    let length = message.json_length.map(|length| length.to_string());
    let all = [
        ("content-type", Some(kind)),
        ("content-encoding", message.encoding.as_deref()),
        (JSON_LENGTH, length.as_deref()),
    ];
    for (name, value) in all {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
}

fn rendered(answer: message::Answer) -> Answer {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut rendered = answer::whole(status, answer.message.body.clone());
    describe(&answer.message, rendered.headers_mut());
    rendered
}

/// KServe's form: what happened, and why.
fn body_of(cause: &str) -> serde_json::Value {
    serde_json::json!({"error": "Failed to process request", "cause": cause})
}

fn failed(failure: &Failure) -> Answer {
    let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer::json(status, &body_of(&failure.cause))
}

/// A request under way through the graph.
struct Call<'a> {
    door: &'a GraphDoor,
    headers: HeaderMap,
    deadline: Instant,
}

impl Call<'_> {
    async fn attempt(&self, url: &str, message: Message) -> Result<message::Answer, String> {
        let mut request =
            Request::post(url).body(Full::new(message.body.clone())).map_err(|error| error.to_string())?;
        request.headers_mut().extend(self.headers.clone());
        describe(&message, request.headers_mut());
        // What is left, so that no step works on an answer that would come too late.
        let left = self.deadline.saturating_duration_since(Instant::now()).as_millis();
        if let Ok(left) = HeaderValue::from_str(&format!("{left}ms")) {
            request.headers_mut().insert(deadline::REQUEST_TIMEOUT, left);
        }
        let answer = self.door.client.request(request).await.map_err(|error| super::proxy::shown(&error))?;
        let (head, mut body) = answer.into_parts();
        let described = described(&head.headers).map_err(|()| format!("its {JSON_LENGTH} is no number of bytes"))?;
        let body = self.door.budget.read(&mut body).await.map_err(|unread| unread.to_string())?;
        Ok(message::Answer { status: head.status.as_u16(), message: Message { body, ..described } })
    }
}

impl World for Call<'_> {
    async fn call(&self, step: &Step, url: &str, message: Message) -> message::Answer {
        let metrics = &self.door.metrics;
        let began = Instant::now();
        let bound = self.door.step.unwrap_or(self.door.write);
        let outcome = tokio::time::timeout(bound, self.attempt(url, message)).await;
        metrics.graph_seconds.with_label_values(&[step.label.as_str()]).observe(began.elapsed().as_secs_f64());
        let count = |outcome: &str| metrics.graph_steps.with_label_values(&[step.label.as_str(), outcome]).inc();
        let failed = |status: u16, cause: String| {
            tracing::warn!(step = step.label, url, cause, "a step could not be asked");
            message::Answer {
                status,
                message: Message::json(body_of(&format!("step {}: {cause}", step.label)).to_string()),
            }
        };
        match outcome {
            Ok(Ok(answer)) => {
                count(if answer.is_success() { "answered" } else { "refused" });
                answer
            }
            Ok(Err(cause)) => {
                count("unreachable");
                failed(503, format!("{url}: {cause}"))
            }
            Err(_) => {
                count("late");
                failed(504, format!("{url}: no answer within {bound:?}"))
            }
        }
    }

    fn draw(&self) -> u64 {
        mix(self.door.counter.fetch_add(STEP, Ordering::Relaxed))
    }
}
