//! Health and metrics over HTTP: /healthz, /readyz, /metrics, and what else the one who serves has to tell. And who asks for it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at a time: a kubelet and a scraper or two.
const CONNECTIONS_MAX: usize = 64;
/// After a failed accept.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
/// Seconds that a head may take.
const HEAD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Binds, and serves until the returned task is aborted. `metrics` gives their text, `ready` whether to send anything here.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    metrics: impl Fn() -> Vec<u8> + Clone + Send + 'static,
    ready: impl Fn() -> bool + Clone + Send + 'static,
) -> std::io::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    serve_with(address, metrics, ready, |_: &Uri| None).await
}

/// What is told in time, as JSON.
pub type Told = Pin<Box<dyn Future<Output = Vec<u8>> + Send>>;

/// The same, with `more` that a GET may ask for by path and query.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve_with(
    address: SocketAddr,
    metrics: impl Fn() -> Vec<u8> + Clone + Send + 'static,
    ready: impl Fn() -> bool + Clone + Send + 'static,
    more: impl Fn(&Uri) -> Option<Told> + Clone + Send + 'static,
) -> std::io::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let task = tokio::spawn(async move {
        loop {
            let Ok(place) = room.clone().acquire_owned().await else { return };
            // Out of descriptors, for one: asking without pause would take a core for nothing.
            let Ok((socket, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (metrics, ready, more) = (metrics.clone(), ready.clone(), more.clone());
            tokio::spawn(async move {
                let _place = place;
                let answer = service_fn(move |request: Request<Incoming>| {
                    let told = if request.method() == Method::GET { more(request.uri()) } else { None };
                    let answer = if told.is_none() { Some(answer(&request, &metrics, ready())) } else { None };
                    async move {
                        Ok::<_, Infallible>(match (told, answer) {
                            (Some(told), _) => Response::new(Full::new(Bytes::from(told.await))),
                            (None, answer) => answer.unwrap_or_default(),
                        })
                    }
                });
                let mut server = hyper::server::conn::http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
                // A client that goes away is none of our business.
                let _ended = server.serve_connection(TokioIo::new(socket), answer).await;
            });
        }
    });
    Ok((bound, task))
}

fn answer(request: &Request<Incoming>, metrics: &impl Fn() -> Vec<u8>, ready: bool) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/healthz") => (StatusCode::OK, Bytes::from_static(b"ok\n")),
        (&Method::GET, "/readyz") if ready => (StatusCode::OK, Bytes::from_static(b"ok\n")),
        (&Method::GET, "/readyz") => (StatusCode::SERVICE_UNAVAILABLE, Bytes::from_static(b"starting or stopping\n")),
        (&Method::GET, "/metrics") => (StatusCode::OK, Bytes::from(metrics())),
        (_, "/healthz" | "/readyz" | "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, Bytes::from_static(b"GET it\n")),
        _ => (StatusCode::NOT_FOUND, Bytes::from_static(b"there are /healthz, /readyz and /metrics\n")),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}

/// What an answer may have: a name and three numbers for each of a few revisions.
const ANSWER_MAX: usize = 1 << 20;
/// A pod of the same cluster answers at once, or is gone.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// A connection to such an address, for one question after the other.
#[derive(Debug)]
pub struct Asker {
    sender: SendRequest<Empty<Bytes>>,
}

impl Asker {
    /// Connects.
    ///
    /// # Errors
    /// If nobody answers there.
    pub async fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
        let socket = connecting.await.map_err(|_| std::io::ErrorKind::TimedOut)??;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(std::io::Error::other)?;
        // Its end shows when the next question is asked.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// The answer to a GET, within `patience`.
    ///
    /// # Errors
    /// If there is none, or it is not 200.
    pub async fn ask(&mut self, path: &str, patience: std::time::Duration) -> std::io::Result<Bytes> {
        let request = Request::get(path).header("host", "router").body(Empty::new()).map_err(std::io::Error::other)?;
        let asking = async {
            let answer = self.sender.send_request(request).await.map_err(std::io::Error::other)?;
            if answer.status() != StatusCode::OK {
                return Err(std::io::Error::other(format!("{path} answers {}", answer.status())));
            }
            let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await.map_err(std::io::Error::other)?;
            Ok(body.to_bytes())
        };
        tokio::time::timeout(patience, asking).await.map_err(|_| std::io::ErrorKind::TimedOut)?
    }
}
