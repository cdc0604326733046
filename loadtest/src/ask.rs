//! Single questions to a server before the load: through hyper, since these need not be fast.

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Further headers or metadata.
pub(crate) type Headers = [(String, String)];

fn block_on<T>(answer: impl Future<Output = Result<T, Box<dyn Error>>>) -> Result<T, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(ANSWER_MAX, answer).await? })
}

/// A GET over HTTP/1.1: status and body.
pub(crate) fn get(
    address: SocketAddr,
    host: &str,
    path: &str,
    headers: &Headers,
) -> Result<(u16, Bytes), Box<dyn Error>> {
    let mut request = Request::get(path).header("host", host);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::<Bytes>::default())?;
    block_on(async {
        let stream = TcpIo::new(TcpStream::connect(address).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        let driver = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        driver.abort();
        Ok((status, body))
    })
}

type TcpIo = TokioIo<TcpStream>;

/// A unary gRPC call: the answer's message. A status other than OK is an error with the server's words.
pub(crate) fn call(
    address: SocketAddr,
    authority: &str,
    path: &str,
    message: &[u8],
    headers: &Headers,
) -> Result<Bytes, Box<dyn Error>> {
    let mut request = Request::post(format!("http://{authority}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(name.to_ascii_lowercase(), value);
    }
    let prefix = (message.len() as u32).to_be_bytes();
    let request = request.body(Full::new(Bytes::from([&[0], &prefix[..], message].concat())))?;
    block_on(async {
        let stream = TcpIo::new(TcpStream::connect(address).await?);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
        let driver = tokio::spawn(connection);
        let answer = message_of(sender.send_request(request).await?).await;
        driver.abort();
        answer
    })
}

async fn message_of(response: Response<Incoming>) -> Result<Bytes, Box<dyn Error>> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?;
    // An error without a message comes in the head alone.
    let trailers = body.trailers().unwrap_or(&head.headers);
    let field = |name: &str| {
        let value = trailers.get(name).or_else(|| head.headers.get(name));
        value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let (status, reason) = (field("grpc-status"), field("grpc-message"));
    if status != "0" {
        return Err(format!("http {}, grpc status '{status}': {reason}", head.status.as_u16()).into());
    }
    let mut message = body.to_bytes();
    if message.len() < 5 {
        return Err("the answer has no message".into());
    }
    Ok(message.split_off(5))
}
