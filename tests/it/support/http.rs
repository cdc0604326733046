//! An HTTP client that keeps its one connection and never hides what happens to it.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::patiently;

/// The bytes of a connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// A connection.
pub(crate) struct Http {
    sender: Sender,
    host: String,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The server has not acted on it, and the client knows: the connection had ended before it was written, or the server
    /// said by HTTP/2's GOAWAY that it would not read it. Sending it elsewhere is always right (RFC 9113, 6.8).
    NotSent,
    /// The request may have been received.
    Sent(hyper::Error),
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    /// The body as JSON, which its content type has to say.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_slice(&self.body).unwrap_or_else(|cause| panic!("{cause}: {self:?}"))
    }

    /// The message of an error's body.
    pub(crate) fn error(&self) -> String {
        assert!(self.status.as_u16() >= 400, "{self:?}");
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no error in {self:?}")).to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Http {
    /// Connects with HTTP/1.1.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.unwrap()
    }

    /// Connects with HTTP/1.1, if something listens.
    pub(crate) async fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Self::over(stream, address).await
    }

    /// HTTP/1.1 over a connection that is there.
    pub(crate) async fn over<S: Stream>(stream: S, address: SocketAddr) -> std::io::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender: Sender::Http1(sender), host: address.to_string() })
    }

    /// Connects with HTTP/2, known beforehand.
    pub(crate) async fn connect_http2(address: SocketAddr) -> Self {
        Self::try_connect_http2(address).await.unwrap()
    }

    /// Connects with HTTP/2, if something listens.
    pub(crate) async fn try_connect_http2(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Self::http2_over(stream, address).await
    }

    /// HTTP/2 over a connection that is there.
    pub(crate) async fn http2_over<S: Stream>(stream: S, address: SocketAddr) -> std::io::Result<Self> {
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender: Sender::Http2(sender), host: address.to_string() })
    }

    /// Sends `request`, whose address is a path, and reads the answer.
    pub(crate) async fn try_send(&mut self, mut request: Request<Full<Bytes>>) -> Result<Answer, Lost> {
        let path = request.uri().clone();
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                request.headers_mut().insert("host", self.host.parse().unwrap());
                sender.ready().await.map_err(|_| Lost::NotSent)?;
                sender.try_send_request(request).await.map_err(lost)?
            }
            Sender::Http2(sender) => {
                *request.uri_mut() = format!("http://{}{path}", self.host).parse().unwrap();
                sender.ready().await.map_err(|_| Lost::NotSent)?;
                sender.try_send_request(request).await.map_err(lost)?
            }
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(Lost::Sent)?;
        // A gRPC call ends with trailers; they are shown with the headers.
        let mut headers = head.headers;
        headers.extend(body.trailers().cloned().unwrap_or_default());
        Ok(Answer { status: head.status, headers, body: body.to_bytes() })
    }

    /// Sends a request and reads the answer.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        patiently(&what, self.try_send(request)).await.unwrap_or_else(|lost| panic!("{what}: {lost:?}"))
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(request(Method::GET, path, &[], Bytes::new())).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(request(Method::POST, path, &[], body)).await
    }

    /// An inference with a body of JSON alone.
    pub(crate) async fn infer(&mut self, model: &str, body: &Value) -> Answer {
        self.post(&format!("/v2/models/{model}/infer"), body.to_string()).await
    }
}

fn lost(mut error: hyper::client::conn::TrySendError<Request<Full<Bytes>>>) -> Lost {
    if error.take_message().is_some() {
        return Lost::NotSent;
    }
    let error = error.into_error();
    // hyper shows h2's errors in words alone. A graceful GOAWAY fails only requests above the last one that is served.
    let going_away = format!("{error:?}").contains("GoAway(b\"\", NO_ERROR, Remote)");
    if going_away { Lost::NotSent } else { Lost::Sent(error) }
}

/// A request for `path`.
pub(crate) fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

/// Writes `bytes` to a new connection and reads until the server closes it.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    rest(stream).await
}

/// The same, but says that nothing will follow what was written.
pub(crate) async fn raw_to_end(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    rest(stream).await
}

async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is an end like any other.
    let _ = patiently("the connection's end", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}
