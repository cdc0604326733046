//! The router's side of its callers' connections: how many, how long they may do nothing, and how they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::answer::Answer;
use super::proxy::READ_AHEAD;

/// How long a connection may do nothing, or take for a head: the server's own, above the 60 s after which load balancers end theirs, so
/// that it is never the router that ends one just as it is used again.
pub(super) const IDLE: Duration = Duration::from_secs(75);
/// Connections at a time, with room below a container's usual limit of 65,536 descriptors for as many to the revisions.
const CONNECTIONS_MAX: usize = 20_000;
/// Streams of one connection, as the server has it.
const STREAMS_MAX: u32 = 200;
/// After a failed accept, so that a shortage of descriptors is not made worse by asking without pause.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What answers requests.
pub(super) trait Answers: Clone + Send + Sync + 'static {
    /// Answers one.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Answer> + Send;
}

/// Serves connections.
pub(super) struct Listening<D> {
    door: D,
    server: auto::Builder<TokioExecutor>,
    is_draining: Arc<AtomicBool>,
}

impl<D: Answers> Listening<D> {
    /// Requests go to `door`; where they are held there, little is read of those that nobody can answer yet.
    pub(super) fn new(door: D, idle: Duration, holds: bool) -> Self {
        let mut server = auto::Builder::new(TokioExecutor::new());
        server.http1().timer(TokioTimer::new()).header_read_timeout(idle);
        server.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
        if holds {
            server.http1().max_buf_size(READ_AHEAD as usize);
            server.http2().initial_stream_window_size(READ_AHEAD);
        }
        Self { door, server, is_draining: Arc::default() }
    }

    /// From now on every answer of HTTP/1 asks its caller to go on by another connection: one that is ended while nobody uses it may
    /// be ended just as somebody does. HTTP/2 says in time where it ends.
    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Takes connections for ever.
    pub(super) async fn accept(&self, listener: TcpListener, graceful: &GracefulShutdown) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = room.clone().acquire_owned().await else { return };
            // Out of descriptors, for one: those that end make room.
            let Ok((socket, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let _without_it_slower = socket.set_nodelay(true);
            let connection = self.serve(socket, graceful);
            tokio::spawn(async move {
                let _place = place;
                connection.await;
            });
        }
    }

    /// Serves one connection to its end.
    fn serve<S>(&self, socket: S, graceful: &GracefulShutdown) -> impl Future<Output = ()> + Send + use<S, D>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (door, is_draining) = (self.door.clone(), self.is_draining.clone());
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let (door, is_draining) = (door.clone(), is_draining.clone());
            let is_http1 = request.version() < Version::HTTP_2;
            async move {
                let mut answer = door.answer(request).await;
                if is_http1 && is_draining.load(Ordering::Relaxed) {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        let connection = graceful.watch(self.server.serve_connection(TokioIo::new(socket), service).into_owned());
        async move {
            // A client that goes away is none of our business.
            let _ended = connection.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::super::answer::whole;
    use super::*;

    #[derive(Clone)]
    struct Ok200;

    impl Answers for Ok200 {
        async fn answer(&self, _: Request<Incoming>) -> Answer {
            whole(StatusCode::OK, "x")
        }
    }

    /// Asks by a connection, and gives the answer as it comes; nothing where the connection has ended.
    async fn ask(socket: &mut DuplexStream) -> String {
        if socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.is_err() {
            return String::new();
        }
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nx") {
            let Ok(byte) = socket.read_u8().await else { break };
            answer.push(byte);
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_there_for_longer_than_load_balancers_leave_theirs_unused() {
        let (graceful, listening) = (GracefulShutdown::new(), Listening::new(Ok200, IDLE, false));
        let (mut caller, socket) = duplex(1 << 16);
        tokio::spawn(listening.serve(socket, &graceful));
        for _ in 0..3 {
            assert!(ask(&mut caller).await.starts_with("HTTP/1.1 200"));
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        tokio::time::sleep(IDLE).await;
        assert_eq!(ask(&mut caller).await, "", "nobody keeps one for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_answered_while_the_router_drains_is_asked_to_connect_elsewhere() {
        let (graceful, listening) = (GracefulShutdown::new(), Listening::new(Ok200, IDLE, false));
        let (mut caller, socket) = duplex(1 << 16);
        tokio::spawn(listening.serve(socket, &graceful));
        assert!(!ask(&mut caller).await.contains("connection: close"));
        listening.drain();
        assert!(ask(&mut caller).await.contains("connection: close"));
        assert_eq!(ask(&mut caller).await, "", "and the connection ends with the answer");
    }
}
