//! One request: chosen, sent on, answered. Bodies are passed through frame by frame, trailers included.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Uri, Version};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::watch;
use tokio::time::Instant;

use super::answer::{Answer, Refusal, refused};
use super::deadline;
use super::hold::{Holder, Pass, Turned};
use super::metrics::Metrics;
use super::shadow::{Sent, Shadows};
use super::table::{Backend, Hold, STEP, Table, mix, point_of};
use super::upstream::{Connector, Sockets};

/// How long connections to a revision are used: a Service gives each to one pod, so that pods which came since would get nothing of
/// callers that never pause. Longer than a scaled pod's first requests should keep others waiting, and thousands of requests.
const TURN: Duration = Duration::from_secs(10);
/// They are gone before it is their turn again; and long before the server's own 75 s, so that it is never the server that ends one
/// just as it is used again.
const IDLE: Duration = Duration::from_secs(5);
/// Connections for gRPC that are used in turn: HTTP/2 needs no more than one, which would be one pod.
const LANES: usize = 8;
/// The same where a revision's pods go when nobody asks: the connections are gone before the pods are, so that none ends under a request.
const IDLE_BEFORE_SLEEP: Duration = Duration::from_secs(1);
/// Idle connections to one revision: what a burst leaves behind, with room for the descriptors of as many callers.
const IDLE_MAX: usize = 1024;
/// Headers of one connection, not of the request (RFC 9110, section 7.6.1); `te` goes on where it says what gRPC needs.
const OF_A_CONNECTION: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "proxy-authorization"];
/// What a held request keeps beside its body: the buffers of a connection, and itself.
const KEPT: u64 = 8 << 10;
/// What is read ahead of a body that nobody asks for yet: HTTP/2's window, and about what HTTP/1's buffer grows to.
pub const READ_AHEAD: u32 = 64 << 10;
/// Tells who answered.
const REVISION: HeaderName = HeaderName::from_static("x-tensorgate-revision");

/// Connections that are used at the same time.
struct Side {
    http: Client<Connector, Sent>,
    grpc: [Client<Connector, Sent>; LANES],
}

/// Sends requests on.
pub struct Proxy {
    routes: watch::Receiver<Arc<Table>>,
    /// Used in turn, so that no connection is kept for ever.
    sides: [Side; 2],
    began: Instant,
    lane: AtomicUsize,
    shadows: Shadows,
    counter: AtomicU64,
    holder: Arc<Holder<Sockets>>,
    metrics: Metrics,
}

impl Proxy {
    /// For the revisions of `routes`.
    pub fn new(routes: watch::Receiver<Arc<Table>>, holder: Arc<Holder<Sockets>>, metrics: Metrics) -> Self {
        let idle = if routes.borrow().hold.is_some() { IDLE_BEFORE_SLEEP } else { IDLE };
        let client = |grpc: bool| {
            let connector = Connector::new(routes.clone(), grpc, metrics.diverted.clone(), holder.clone());
            let mut builder = Client::builder(TokioExecutor::new());
            builder.pool_timer(TokioTimer::new()).timer(TokioTimer::new()).pool_idle_timeout(idle).http2_only(grpc);
            builder.pool_max_idle_per_host(IDLE_MAX);
            builder.build::<_, Sent>(connector)
        };
        let side = || Side { http: client(false), grpc: std::array::from_fn(|_| client(true)) };
        let (sides, began, shadows) = ([side(), side()], Instant::now(), Shadows::new(metrics.clone()));
        Self { routes, sides, began, lane: AtomicUsize::new(0), shadows, counter: AtomicU64::new(0), holder, metrics }
    }

    /// Whose connections the next request goes by.
    fn client(&self, grpc: bool) -> &Client<Connector, Sent> {
        let turns = self.began.elapsed().as_secs() / TURN.as_secs();
        let side = &self.sides[usize::from(turns % 2 == 1)];
        match grpc {
            true => &side.grpc[self.lane.fetch_add(1, Ordering::Relaxed) % LANES],
            false => &side.http,
        }
    }

    /// Sends a request on, and gives the answer.
    pub async fn handle(&self, request: Request<Incoming>) -> Answer {
        let table = self.routes.borrow().clone();
        let grpc = is_grpc(request.headers());
        if let Some(hold) = &table.hold {
            return self.held(request, &table, hold, grpc).await;
        }
        let backend = table.pick(self.point(&table, request.headers()));
        self.sent(request, &table, backend, grpc).await
    }

    async fn sent(&self, request: Request<Incoming>, table: &Table, backend: &Backend, grpc: bool) -> Answer {
        let (mut head, body) = request.into_parts();
        let sampled = self.shadows.sample(table, &backend.revision, &mut head, grpc);
        let request = Request::from_parts(head, Sent::new(body, sampled.clone()));
        let outcome = match sent_on(request, &backend.revision, grpc) {
            Ok(request) => self.client(grpc).request(request).await.map_err(|error| shown(&error)),
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
                let answer = answer.map(BodyExt::boxed_unsync);
                match sampled {
                    Some(sampled) => sampled.watched(answer),
                    None => answer,
                }
            }
            Err(error) => {
                count("failed");
                tracing::warn!(revision = backend.revision, %error, "a request could not be sent on");
                refused(grpc, Refusal::Unavailable, &format!("revision '{}' did not answer: {error}", backend.revision))
            }
        }
    }

    /// Sends a request on once its revision has pods, and keeps count of it until its answer has been read.
    async fn held(&self, request: Request<Incoming>, table: &Table, hold: &Hold, grpc: bool) -> Answer {
        let arrived = Instant::now();
        let stated = deadline::stated(request.headers()).and_then(|own| arrived.checked_add(own));
        let longest = arrived + Duration::from_secs(hold.timeout_seconds.into());
        let deadline = stated.map_or(longest, |own| own.min(longest));
        let (backend, turn) = self.turn(request.headers(), grpc, deadline).await;
        let turned = |outcome: &str, refusal, message: String| {
            self.metrics.requests.with_label_values(&[backend.revision.as_str(), outcome]).inc();
            refused(grpc, refusal, &message)
        };
        let late = || {
            let waited = arrived.elapsed();
            turned(
                "late",
                Refusal::Late,
                format!(
                    "revision '{}' gave no answer within {waited:.1?}, which is all the time that there was",
                    backend.revision
                ),
            )
        };
        let mut pass = match turn {
            Ok(pass) => pass,
            Err(Turned::Late) => return late(),
            Err(Turned::Full) => {
                let message = format!(
                    "revision '{}' has no pods yet, and no more requests can wait for them; try again",
                    backend.revision
                );
                return turned("full", Refusal::Unavailable, message);
            }
        };
        let answer = match stated {
            Some(deadline) => tokio::time::timeout_at(deadline, self.sent(request, table, &backend, grpc)).await.ok(),
            None => Some(self.sent(request, table, &backend, grpc).await),
        };
        let Some(answer) = answer else {
            pass.went_badly();
            return late();
        };
        if is_overload(&answer) {
            pass.went_badly();
        }
        pass.answered();
        answer.map(|body| Passing { body, _pass: pass }.boxed_unsync())
    }

    /// Waits for the turn of a request, anew where the revision that was picked for it loses its share meanwhile.
    async fn turn(
        &self,
        headers: &HeaderMap,
        grpc: bool,
        deadline: Instant,
    ) -> (Backend, Result<Pass<Sockets>, Turned>) {
        let mut routes = self.routes.clone();
        let declared = headers.get("content-length").and_then(|own| own.to_str().ok()).and_then(|own| own.parse().ok());
        let ahead = declared.unwrap_or(u64::from(READ_AHEAD)).min(u64::from(READ_AHEAD));
        let kept = usize::try_from(KEPT + ahead).unwrap_or(usize::MAX);
        let point = self.point(&routes.borrow(), headers);
        loop {
            let backend = routes.borrow_and_update().pick(point).clone();
            let address = backend.address(grpc).to_owned();
            tokio::select! {
                turn = self.holder.enter(&backend.revision, &address, kept, deadline) => return (backend, turn),
                // The router ends with its routes; until then this one waits.
                Ok(()) = other_revision(&mut routes, &backend) => {}
            }
        }
    }

    fn point(&self, table: &Table, headers: &HeaderMap) -> u64 {
        let sticky = table.sticky_header.as_ref().and_then(|name| headers.get(name));
        sticky.map_or_else(|| mix(self.counter.fetch_add(STEP, Ordering::Relaxed)), |value| point_of(value.as_bytes()))
    }
}

/// Comes back when a revision has lost its share.
async fn other_revision(
    routes: &mut watch::Receiver<Arc<Table>>,
    own: &Backend,
) -> Result<(), watch::error::RecvError> {
    let has_share = |table: &Arc<Table>| {
        table.backends.iter().any(|other| other == own || (other.revision == own.revision && other.weight > 0))
    };
    routes.wait_for(|table| !has_share(table)).await.map(drop)
}

/// The server has too much to do, or could not be reached.
fn is_overload(answer: &Answer) -> bool {
    let grpc = answer.headers().get("grpc-status").map(HeaderValue::as_bytes);
    matches!(answer.status().as_u16(), 429 | 503) || matches!(grpc, Some(b"8" | b"14"))
}

/// The body of an answer, which counts until it has been read.
struct Passing {
    body: UnsyncBoxBody<Bytes, hyper::Error>,
    _pass: Pass<Sockets>,
}

impl Body for Passing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether a request is gRPC, by its content type.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The request as the revision gets it. Its name stands for its address, which the connector knows.
fn sent_on(request: Request<Sent>, revision: &str, grpc: bool) -> Result<Request<Sent>, String> {
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
pub fn remove_of_a_connection(headers: &mut HeaderMap) {
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
