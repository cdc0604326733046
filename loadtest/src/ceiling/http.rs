//! A bare hyper HTTP/1 server that answers with the body it was sent.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

/// Serves on loopback until the process ends.
pub(crate) fn serve(port: u16) -> io::Result<Infallible> {
    super::accept_forever(port, |stream| async move {
        // A client that goes away is not worth a word.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo)).await;
    })
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(Full::new(body)))
}
