//! One request: chosen, sent on, answered. Bodies are passed through frame by frame, trailers included.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Uri, Version};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::watch;

use super::answer::{Answer, Refusal, refused};
use super::metrics::Metrics;
use super::table::{STEP, Table, mix, point_of};
use super::upstream::Connector;

/// Below the server's own 75 s, so that it is never the server that ends a connection just as it is used again.
const IDLE: Duration = Duration::from_secs(60);
/// Headers of one connection, not of the request (RFC 9110, section 7.6.1); `te` goes on where it says what gRPC needs.
const OF_A_CONNECTION: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "proxy-authorization"];
/// Tells who answered.
const REVISION: HeaderName = HeaderName::from_static("x-tensorgate-revision");

/// Sends requests on.
pub struct Proxy {
    routes: watch::Receiver<Arc<Table>>,
    http: Client<Connector, Incoming>,
    grpc: Client<Connector, Incoming>,
    counter: AtomicU64,
    metrics: Metrics,
}

impl Proxy {
    /// For the revisions of `routes`.
    pub fn new(routes: watch::Receiver<Arc<Table>>, metrics: Metrics) -> Self {
        let client = |grpc: bool| {
            let connector = Connector::new(routes.clone(), grpc, metrics.diverted.clone());
            let mut builder = Client::builder(TokioExecutor::new());
            builder.pool_timer(TokioTimer::new()).timer(TokioTimer::new()).pool_idle_timeout(IDLE).http2_only(grpc);
            builder.build::<_, Incoming>(connector)
        };
        let (http, grpc) = (client(false), client(true));
        Self { routes, http, grpc, counter: AtomicU64::new(0), metrics }
    }

    /// Sends a request on, and gives the answer.
    pub async fn handle(&self, request: Request<Incoming>) -> Answer {
        let table = self.routes.borrow().clone();
        let grpc = is_grpc(request.headers());
        let backend = table.pick(self.point(&table, request.headers()));
        let outcome = match sent_on(request, &backend.revision, grpc) {
            Ok(request) => {
                if grpc { &self.grpc } else { &self.http }.request(request).await.map_err(|error| shown(&error))
            }
            Err(error) => Err(error),
        };
        let count =
            |outcome: &str| self.metrics.requests.with_label_values(&[backend.revision.as_str(), outcome]).inc();
        match outcome {
            Ok(mut answer) => {
                count("answered");
                remove_of_a_connection(answer.headers_mut());
                if let Ok(name) = HeaderValue::from_str(&backend.revision) {
                    answer.headers_mut().insert(REVISION, name);
                }
                *answer.version_mut() = Version::default();
                answer.map(BodyExt::boxed_unsync)
            }
            Err(error) => {
                count("failed");
                tracing::warn!(revision = backend.revision, %error, "a request could not be sent on");
                refused(grpc, Refusal::Unavailable, &format!("revision '{}' did not answer: {error}", backend.revision))
            }
        }
    }

    fn point(&self, table: &Table, headers: &HeaderMap) -> u64 {
        let sticky = table.sticky_header.as_ref().and_then(|name| headers.get(name));
        sticky.map_or_else(|| mix(self.counter.fetch_add(STEP, Ordering::Relaxed)), |value| point_of(value.as_bytes()))
    }
}

/// Whether a request is gRPC, by its content type.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The request as the revision gets it. Its name stands for its address, which the connector knows.
fn sent_on(request: Request<Incoming>, revision: &str, grpc: bool) -> Result<Request<Incoming>, String> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = Uri::builder()
        .scheme("http")
        .authority(revision)
        .path_and_query(path)
        .build()
        .map_err(|error| format!("the path cannot be sent on: {error}"))?;
    let wants_trailers = head.headers.get("te").is_some_and(|te| te.as_bytes() == b"trailers");
    remove_of_a_connection(&mut head.headers);
    if grpc && wants_trailers {
        head.headers.insert("te", HeaderValue::from_static("trailers"));
    }
    if grpc {
        // HTTP/2 has `:authority` for it.
        head.headers.remove("host");
        head.version = Version::HTTP_2;
    } else {
        head.version = Version::HTTP_11;
    }
    Ok(Request::from_parts(head, body))
}

/// Removes what belongs to a connection, and what its `Connection` header names beside.
fn remove_of_a_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all("connection")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in OF_A_CONNECTION {
        headers.remove(name);
    }
}

/// An error with its causes: the outermost says only that something failed.
pub fn shown(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
