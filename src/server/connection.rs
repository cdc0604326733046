//! One connection: HTTP/1.1 or HTTP/2, found out from its first bytes, to its graceful end.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::watch;

use super::activity::{Activity, Ending, Framing, Patience};
use super::body::ResponseBody;
use super::drain::Phase;
use super::guard::{Door, Guard, client};
use super::head::Head;
use super::quiet::QuietBody;
use super::room::Room;
use super::streams::{StreamQueue, WithStreams};
use super::transport::Transport;
use super::wire::Wire;
use super::{Doors, Drain, ServerConfig, grpc, http as http_door};
use crate::error::Error;
use crate::service;
use crate::telemetry::ConnectionEnd;

/// Flow-control windows: large enough that a tensor of an image does not wait for window updates.
const WINDOW_BYTES: u32 = 4 << 20;

/// Bytes of one HTTP/2 frame: a small tensor is one frame.
const FRAME_BYTES_MAX: u32 = 1 << 20;

/// Bytes of headers that h2 reads; more it refuses itself. Our own bound, which tells its flag, is never above.
const HEADER_LIST_BYTES_MAX: u32 = 512 << 10;

/// What all connections share, and how many there are.
pub(super) struct Connections {
    doors: Arc<Doors>,
    grpc: grpc::Services,
    patience: Patience,
    open: watch::Sender<usize>,
}

/// Counts one connection until dropped.
pub(super) struct Open(Arc<Connections>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
        self.0.doors.telemetry.doors.connection(false);
    }
}

impl Connections {
    pub(super) fn new(doors: Arc<Doors>, config: &ServerConfig) -> Self {
        let grpc = grpc::Services::new(Arc::clone(&doors));
        let bounds = &doors.bounds;
        let patience = Patience { head: config.head_timeout, idle: bounds.idle_timeout, answer: bounds.answer_timeout };
        Self { doors, grpc, patience, open: watch::Sender::new(0) }
    }

    fn builder(&self, streams: StreamQueue) -> auto::Builder<StreamQueue> {
        let mut builder = auto::Builder::new(streams);
        let bounds = &self.doors.bounds;
        // `Activity` sees a head that does not end, without a timer for each request; `Wire` a client that has gone.
        // Not `pipeline_flush`: hyper 1.12 loses the last answer of a connection that it closes with more requests read.
        builder.http1().header_read_timeout(None).half_close(true);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(bounds.streams_max)
            .max_pending_accept_reset_streams(bounds.resets_max)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX);
        builder
    }

    pub(super) fn doors(&self) -> &Arc<Doors> {
        &self.doors
    }

    pub(super) fn drain(&self) -> Drain {
        self.doors.drain.clone()
    }

    pub(super) fn count(self: &Arc<Self>) -> Open {
        self.open.send_modify(|open| *open += 1);
        self.doors.telemetry.doors.connection(true);
        Open(Arc::clone(self))
    }

    /// Counts a connection that h2 ended. How a connection ends otherwise is the client's business.
    fn note_end(&self, ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
        let Err(error) = ended else { return };
        let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
        if cause.is_some_and(|cause| cause.is_library() && cause.is_go_away()) {
            self.doors.telemetry.doors.ended(ConnectionEnd::Protocol);
        }
    }

    pub(super) fn open(&self) -> usize {
        *self.open.borrow()
    }

    pub(super) async fn all_closed(&self) {
        // The sender lives in self, so the wait cannot fail.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }
}

/// One connection: what its requests share.
struct Connection {
    shared: Arc<Connections>,
    activity: Arc<Activity>,
    peer: IpAddr,
}

/// Serves `stream` until its client closes it or the way down ends it.
pub(super) async fn serve(
    stream: Transport,
    peer: IpAddr,
    connections: Arc<Connections>,
    room: &Room,
    last_request_wait: Duration,
) {
    let activity = Arc::new(Activity::default());
    let own = Arc::new(Connection { shared: Arc::clone(&connections), activity: Arc::clone(&activity), peer });
    let service = service_fn(move |request| answer(request, Arc::clone(&own)));
    let streams = StreamQueue::default();
    let builder = connections.builder(streams.clone());
    let stream = TokioIo::new(Wire::new(stream, Arc::clone(&activity), Arc::clone(&connections.doors)));
    let mut connection =
        pin!(WithStreams::new(builder.serve_connection(stream, service), streams, Arc::clone(&activity)));
    let drain = connections.drain();
    let metrics = &connections.doors.telemetry.doors;
    tokio::select! {
        biased;
        ended = connection.as_mut() => return connections.note_end(ended),
        ending = activity.ended(connections.patience) => {
            metrics.ended(reason(ending));
            if ending != Ending::Idle {
                return;
            }
            connection.as_mut().connection().graceful_shutdown();
            // A client that does not go when it is asked to is idle once more, whatever else it does.
            tokio::select! {
                _ = connection => {}
                _ = activity.ended(connections.patience) => {}
                () = drain.reached(Phase::Closed) => {}
            }
            return;
        }
        () = room.wanted_of(&activity) => {
            metrics.ended(ConnectionEnd::Room);
            connection.as_mut().connection().graceful_shutdown();
            // HTTP/1 is closed by that; HTTP/2 says goodbye.
            tokio::select! {
                _ = connection => {}
                () = tokio::time::sleep(last_request_wait) => {}
            }
            return;
        }
        () = drain.reached(Phase::Closing) => {}
    }
    // A request may be on the wire already; closing now would lose it. Whatever comes is answered, HTTP/1.1 answers close.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(last_request_wait) => {}
    }
    connection.as_mut().connection().graceful_shutdown();
    tokio::select! {
        _ = connection => {}
        () = drain.reached(Phase::Closed) => {}
    }
}

fn reason(ending: Ending) -> ConnectionEnd {
    match ending {
        Ending::Idle => ConnectionEnd::Idle,
        Ending::HeadStalled => ConnectionEnd::HeadTimeout,
        Ending::AnswerStalled => ConnectionEnd::AnswerTimeout,
    }
}

#[allow(clippy::manual_async_fn, reason = "an async fn would keep the request twice")]
fn answer(
    mut request: Request<Incoming>,
    connection: Arc<Connection>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
    async move {
        let _under_way = connection.activity.begin(request.version());
        let Connections { doors, grpc, .. } = &*connection.shared;
        let http1 = request.version() < Version::HTTP_2;
        let head = Head::of(request.headers());
        let framing = (http1 && head.chunked).then(|| connection.activity.framing(request.method()));
        let door = if head.grpc { Door::Grpc } else { Door::Http };
        let mut seen = doors.watch.as_ref().map(|watch| {
            let path = http_door::without_prefix(request.uri().path(), doors.http.path_prefix.as_deref());
            watch.begin(door, path, &request, connection.peer)
        });
        let refusal = (framing == Some(Framing::Both)).then(two_lengths);
        let refusal = refusal
            .or_else(|| doors.guard.as_ref().and_then(|guard| admit(guard, door, &mut request, &connection).err()));
        if let Some(seen) = &mut seen {
            seen.from(client(request.extensions()));
        }
        let quiet = door == Door::Grpc && grpc::may_be_quiet(request.uri().path());
        let trail = seen.as_ref().map(|seen| seen.trail());
        // A call that nobody watches is neither wrapped nor moved.
        let mut response = match (door, refusal, trail) {
            (Door::Grpc, Some(error), _) => grpc::refused(&error, doors),
            (Door::Grpc, None, None) => grpc.answer(request, head).await,
            (Door::Grpc, None, Some(trail)) => service::watched(Box::pin(grpc.answer(request, head)), trail).await,
            (Door::Http, refusal, None) => http_door::answer(request, head, refusal, doors).await,
            (Door::Http, refusal, Some(trail)) => {
                service::watched(Box::pin(http_door::answer(request, head, refusal, doors)), trail).await
            }
        };
        if door == Door::Http {
            doors.telemetry.doors.count_http(response.status().as_u16());
        }
        // The rest of a body that came too slowly is not waited for, nor what may be another request to somebody before us.
        let doubtful = framing.is_some_and(|framing| framing != Framing::Chunks);
        if http1 && (doors.drain.has_begun() || response.status() == StatusCode::REQUEST_TIMEOUT || doubtful) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if quiet {
            let activity = Arc::clone(&connection.activity);
            response = response.map(|body| ResponseBody::Quiet(Box::new(QuietBody::new(body, activity))));
        }
        if let Some(seen) = seen {
            response = seen.answered(response);
        }
        Ok(response)
    }
}

/// Why a request with two lengths is not taken: by which a proxy before this server went is not known, so where the next
/// request begins is not either (RFC 9112, 6.1).
fn two_lengths() -> Error {
    Error::invalid("the request has both content-length and transfer-encoding, expected one length of the body")
}

/// Has the guard look at a call; who it is from goes with it.
fn admit(guard: &Guard, door: Door, request: &mut Request<Incoming>, connection: &Connection) -> Result<(), Error> {
    // A browser asks with OPTIONS, without credentials, whether it may send them; the answer tells nothing else.
    if door == Door::Http && request.method() == Method::OPTIONS {
        return Ok(());
    }
    let path = match door {
        Door::Http => {
            http_door::without_prefix(request.uri().path(), connection.shared.doors.http.path_prefix.as_deref())
        }
        Door::Grpc => request.uri().path(),
    };
    let admitted = guard.admit(door, path, request.headers(), connection.peer)?;
    request.extensions_mut().insert(admitted);
    Ok(())
}
