//! A bare tonic unary echo on hyper: tonic's own codec and framing around a message of one bytes field.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

use crate::payload::Echo;

/// Serves on loopback until the process ends.
pub(crate) fn serve(port: u16) -> io::Result<Infallible> {
    super::accept_forever(port, |stream| async move {
        let service = service_fn(call);
        // A client that goes away is not worth a word.
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    })
}

/// What tonic's generated code does for a unary method.
async fn call(request: Request<Incoming>) -> Result<http::Response<tonic::body::Body>, Infallible> {
    let codec: ProstCodec<Echo, Echo> = ProstCodec::default();
    Ok(Grpc::new(codec).unary(EchoMethod, request).await)
}

struct EchoMethod;

impl UnaryService<Echo> for EchoMethod {
    type Response = Echo;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Echo>, tonic::Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Echo>) -> Self::Future {
        Box::pin(async move { Ok(tonic::Response::new(request.into_inner())) })
    }
}
