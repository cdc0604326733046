//! One connection: HTTP/1.1 or HTTP/2, found out from its first bytes, to its graceful end.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::watch;

use super::body::ResponseBody;
use super::drain::Phase;
use super::guard::{Door, Guard, client};
use super::streams::{StreamQueue, WithStreams};
use super::transport::Transport;
use crate::service::Watched;

use super::{Doors, Drain, ServerConfig, grpc, http as http_door};

/// HTTP/2 streams that one connection may have open. Default of hyper; a client with more to do opens another connection.
const STREAMS_MAX: u32 = 200;

/// Flow-control windows: large enough that a tensor of an image does not wait for window updates.
const WINDOW_BYTES: u32 = 4 << 20;

/// Bytes of one HTTP/2 frame: a small tensor is one frame.
const FRAME_BYTES_MAX: u32 = 1 << 20;

/// What all connections share, and how many there are.
pub(super) struct Connections {
    doors: Arc<Doors>,
    grpc: grpc::Services,
    head_timeout: Duration,
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
        Self { doors, grpc, head_timeout: config.head_timeout, open: watch::Sender::new(0) }
    }

    fn builder(&self, streams: StreamQueue) -> auto::Builder<StreamQueue> {
        let mut builder = auto::Builder::new(streams);
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.head_timeout).pipeline_flush(true);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
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

    pub(super) fn open(&self) -> usize {
        *self.open.borrow()
    }

    pub(super) async fn all_closed(&self) {
        // The sender lives in self, so the wait cannot fail.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }
}

/// Serves `stream` until its client closes it or the way down ends it.
pub(super) async fn serve(stream: Transport, peer: IpAddr, connections: Arc<Connections>, last_request_wait: Duration) {
    let shared = Arc::clone(&connections);
    let service = service_fn(move |request| answer(request, peer, Arc::clone(&shared)));
    let streams = StreamQueue::default();
    let builder = connections.builder(streams.clone());
    let mut connection = pin!(WithStreams::new(builder.serve_connection(TokioIo::new(stream), service), streams));
    let drain = connections.drain();
    tokio::select! {
        // How a connection ends is the client's business.
        _ = connection.as_mut() => return,
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

async fn answer(
    mut request: Request<Incoming>,
    peer: IpAddr,
    connections: Arc<Connections>,
) -> Result<Response<ResponseBody>, Infallible> {
    let http1 = request.version() < Version::HTTP_2;
    let door = if grpc::is_grpc(&request) { Door::Grpc } else { Door::Http };
    let doors = &connections.doors;
    let mut seen = doors.watch.as_ref().map(|watch| watch.begin(door, &request, peer));
    let refusal = doors.guard.as_ref().and_then(|guard| admit(guard, door, &mut request, peer).err());
    if let Some(seen) = &mut seen {
        seen.from(client(request.extensions()));
    }
    let trail = seen.as_ref().map(|seen| seen.trail());
    let mut response = match (refusal, door) {
        (None, Door::Grpc) => Watched::new(connections.grpc.answer(request), trail).await,
        (None, Door::Http) => Watched::new(http_door::answer(request, doors), trail).await,
        (Some(error), Door::Grpc) => grpc::refused(&error, doors),
        (Some(error), Door::Http) => http_door::failed(&error),
    };
    if door == Door::Http {
        doors.telemetry.doors.count_http(response.status().as_u16());
    }
    if http1 && doors.drain.has_begun() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(match seen {
        None => response,
        Some(seen) => seen.answered(response),
    })
}

/// Has the guard look at a call; who it is from goes with it.
fn admit(guard: &Guard, door: Door, request: &mut Request<Incoming>, peer: IpAddr) -> crate::error::Result<()> {
    let admitted = guard.admit(door, request.uri().path(), request.headers(), peer)?;
    request.extensions_mut().insert(admitted);
    Ok(())
}
