//! Health and metrics over HTTP: /healthz, /readyz, /metrics.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at a time: a kubelet and a scraper or two.
const CONNECTIONS_MAX: usize = 64;
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
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let task = tokio::spawn(async move {
        loop {
            let Ok(place) = room.clone().acquire_owned().await else { return };
            let Ok((socket, _)) = listener.accept().await else { continue };
            let (metrics, ready) = (metrics.clone(), ready.clone());
            tokio::spawn(async move {
                let _place = place;
                let answer = service_fn(move |request| {
                    let answer = answer(&request, &metrics, ready());
                    async move { Ok::<_, Infallible>(answer) }
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
