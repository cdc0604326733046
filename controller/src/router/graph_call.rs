//! A step of a graph: its service is asked over HTTP, or over gRPC as V2 has it, whichever the message came in.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use super::answer::status_of_code;
use super::graph_door::{GraphDoor, body_of};
use super::table::{STEP, mix};
use super::{deadline, grpc};
use crate::graph::Step;
use crate::graph::check::grpc_place;
use crate::graph::evaluate::World;
use crate::graph::message::{Answer, Form, Message};
use crate::v2::{Side, elements, frame, json, proto};

/// A Service without pods refuses at once; a node that is gone does not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Idle connections to one service: what a burst leaves behind.
const IDLE_MAX: usize = 64;
/// Below the server's own 75 s, so that it is never the server that ends a connection just as it is used again.
const IDLE: Duration = Duration::from_secs(60);
/// How much of a body is JSON, where binary tensors follow.
pub(super) const JSON_LENGTH: &str = "inference-header-content-length";

/// Connections to the services of steps.
pub(super) struct Clients {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    grpc: Client<HttpConnector, Full<Bytes>>,
}

impl Clients {
    /// With the system's certificates where steps are https.
    ///
    /// # Errors
    /// If there are none.
    pub(super) fn new(secure: bool) -> Result<Self, String> {
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
        let connector = tls.https_or_http().enable_http1().wrap_connector(plain.clone());
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(IDLE_MAX);
        let http = builder.build(connector);
        builder.timer(TokioTimer::new()).http2_only(true);
        Ok(Self { http, grpc: builder.build(plain) })
    }
}

/// What headers say of a body. KServe takes a body without a type as JSON.
pub(super) fn described(headers: &HeaderMap) -> Result<Message, ()> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let json_length = text(JSON_LENGTH).map(|text| text.parse()).transpose().map_err(|_| ())?;
    Ok(Message {
        content_type: text("content-type"),
        encoding: text("content-encoding"),
        json_length,
        ..Message::default()
    })
}

pub(super) fn describe(message: &Message, headers: &mut HeaderMap) {
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

/// A request under way through the graph.
pub(super) struct Call<'a> {
    pub(super) door: &'a GraphDoor,
    /// What reaches every step.
    pub(super) headers: HeaderMap,
    pub(super) deadline: Instant,
    pub(super) over_grpc: bool,
}

/// Why a step has no answer of its own: HTTP's status, and the cause.
type Failed = (u16, String);

impl Call<'_> {
    async fn attempt(&self, url: &str, message: Message) -> Result<Answer, Failed> {
        match grpc_place(url) {
            Some((host, model)) => self.ask_over_grpc(host, model, message).await,
            None => self.ask_over_http(url, message).await,
        }
    }

    async fn ask_over_http(&self, url: &str, message: Message) -> Result<Answer, Failed> {
        let message = self.for_http(url, message)?;
        let unreachable = |cause: String| (503, cause);
        let request = Request::post(url).body(Full::new(message.body.clone()));
        let mut request = request.map_err(|error| unreachable(error.to_string()))?;
        request.headers_mut().extend(self.headers.clone());
        describe(&message, request.headers_mut());
        // What is left, so that no step works on an answer that would come too late.
        if let Ok(left) = HeaderValue::from_str(&format!("{}ms", self.milliseconds_left())) {
            request.headers_mut().insert(deadline::REQUEST_TIMEOUT, left);
        }
        let answer = self.door.clients.http.request(request).await;
        let (head, mut body) = answer.map_err(|error| unreachable(super::proxy::shown(&error)))?.into_parts();
        let described =
            described(&head.headers).map_err(|()| unreachable(format!("its {JSON_LENGTH} is no number of bytes")))?;
        let body = self.door.budget.read(&mut body).await.map_err(|unread| unreachable(unread.to_string()))?;
        Ok(Answer { status: head.status.as_u16(), message: Message { body, ..described } })
    }

    async fn ask_over_grpc(&self, host: &str, model: &str, message: Message) -> Result<Answer, Failed> {
        let call = message.as_request().map_err(|why| (400, format!("what it is sent is no request of V2: {why}")))?;
        let call = crate::v2::Call { model: model.to_owned(), version: String::new(), ..call };
        let unreachable = |cause: String| (503, cause);
        let body = self.kept(frame::framed(&proto::write(&call, Side::Request)))?;
        let request = Request::post(format!("http://{host}{}", grpc::MODEL_INFER)).body(Full::new(body));
        let mut request = request.map_err(|error| unreachable(error.to_string()))?;
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        // Eight digits at most.
        if let Ok(left) = HeaderValue::from_str(&format!("{}m", self.milliseconds_left().min(99_999_999))) {
            headers.insert("grpc-timeout", left);
        }
        let answer = self.door.clients.grpc.request(request).await;
        let (head, mut body) = answer.map_err(|error| unreachable(super::proxy::shown(&error)))?.into_parts();
        if head.status != StatusCode::OK {
            return Err(unreachable(format!("it answered {}, which is no answer of gRPC", head.status)));
        }
        let read = self.door.budget.read_to_trailers(&mut body).await;
        let (body, trailers) = read.map_err(|unread| unreachable(unread.to_string()))?;
        match grpc::outcome(&head.headers, &trailers) {
            Some((0, _)) => {
                let message = frame::message(&body).map_err(|why| (500, why.to_string()))?;
                Ok(Answer { status: 200, message: Message::grpc(message, Side::Answer) })
            }
            Some((code, told)) => {
                let told = Message::json(serde_json::json!({"error": told}).to_string());
                Ok(Answer { status: status_of_code(code), message: told })
            }
            None => Err((500, "its answer ended without a status".into())),
        }
    }

    /// A message as a service takes it over HTTP: V2's tensors where it came over gRPC, and where one V2 server's answer is the next one's
    /// request.
    fn for_http(&self, url: &str, message: Message) -> Result<Message, Failed> {
        let path = url.split(['?', '#']).next().unwrap_or(url);
        let is_v2 = path.contains("/v2/models/") && path.ends_with("/infer");
        let call = match (&message.form, message.was_answer) {
            (Form::Http, true) if is_v2 => match message.as_request() {
                Ok(call) => call,
                // Whatever it is, the service may know it.
                Err(_) => return Ok(message),
            },
            (Form::Http, _) => return Ok(message),
            _ if path.ends_with(":predict") || path.ends_with(":explain") => {
                let why = "it speaks V1, in which tensors that came over gRPC have no form; ask the graph over HTTP, or have it serve V2";
                return Err((501, why.into()));
            }
            _ => message.as_request().map_err(|why| (400, format!("what it is sent is no request of V2: {why}")))?,
        };
        if !self.over_grpc && call.tensors.iter().all(elements::has_text) {
            // Whoever asks in JSON is answered in JSON.
            return Ok(Message::json(self.kept(json::write_text(&call, Side::Request))?));
        }
        let (body, length) = json::write_request(&call);
        let content_type = Some("application/octet-stream".into());
        let body = self.kept(body)?;
        Ok(Message { body, content_type, json_length: Some(length), ..Message::default() })
    }

    /// Counts what was made for a step.
    fn kept(&self, body: Bytes) -> Result<Bytes, Failed> {
        self.door.budget.keep(body).map_err(|unread| (503, unread.to_string()))
    }

    fn milliseconds_left(&self) -> u128 {
        self.deadline.saturating_duration_since(Instant::now()).as_millis()
    }
}

impl World for Call<'_> {
    async fn call(&self, step: &Step, url: &str, message: Message) -> Answer {
        let metrics = &self.door.metrics;
        let began = Instant::now();
        let bound = self.door.step.unwrap_or(self.door.write);
        let outcome = tokio::time::timeout(bound, self.attempt(url, message)).await;
        metrics.graph_seconds.with_label_values(&[step.label.as_str()]).observe(began.elapsed().as_secs_f64());
        let count = |outcome: &str| metrics.graph_steps.with_label_values(&[step.label.as_str(), outcome]).inc();
        let failed = |status: u16, cause: String| {
            tracing::warn!(step = step.label, url, cause, "a step could not be asked");
            Answer { status, message: Message::json(body_of(&format!("step {}: {cause}", step.label)).to_string()) }
        };
        match outcome {
            Ok(Ok(answer)) => {
                count(if answer.is_success() { "answered" } else { "refused" });
                answer
            }
            Ok(Err((status, cause))) => {
                count(if status == 503 { "unreachable" } else { "unfit" });
                failed(status, format!("{url}: {cause}"))
            }
            Err(_) => {
                count("late");
                failed(504, format!("{url}: no answer within {bound:?}"))
            }
        }
    }

    fn is_over_grpc(&self) -> bool {
        self.over_grpc
    }

    fn draw(&self) -> u64 {
        mix(self.door.counter.fetch_add(STEP, Ordering::Relaxed))
    }
}
