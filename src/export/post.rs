//! A client for one address, as simple as a sink needs: one connection, one request at a time.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long a receiver may take for one request. Beyond, what waits behind it is worth more.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// "host:port".
    authority: String,
    path: String,
}

/// No address to send to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointFault(String);

impl fmt::Display for EndpointFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EndpointFault {}

impl Endpoint {
    /// Parses "http://host[:port][/path]"; without a path it is `path`.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str, path: &str, default_port: u16) -> Result<Self, EndpointFault> {
        let wrong = || EndpointFault(format!("'{text}' is no address, expected http://host:port"));
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                let message = format!("'{text}': https is not spoken to sinks, use a collector beside this server");
                return Err(EndpointFault(message));
            }
            _ => return Err(wrong()),
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(default_port));
        let given = uri.path_and_query().map(|path| path.as_str()).filter(|path| *path != "/");
        Ok(Self { authority, path: given.unwrap_or(path).into() })
    }
}

/// Sends to an endpoint.
pub(super) struct Poster {
    endpoint: Endpoint,
    connection: Option<SendRequest<Full<Bytes>>>,
    failing: bool,
}

impl Poster {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, connection: None, failing: false }
    }

    /// Posts `body`; gives whether the receiver took it. The first of several failures is logged.
    pub(super) async fn post(&mut self, headers: HeaderMap, body: Bytes) -> bool {
        let outcome = match tokio::time::timeout(TIMEOUT, self.try_post(headers, body)).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(status)) => Err(format!("it answered {status}")),
            Ok(Err(cause)) => Err(cause),
            Err(_) => Err(format!("it took longer than {TIMEOUT:?}")),
        };
        if outcome.is_err() {
            self.connection = None;
        }
        if let (Err(cause), false) = (&outcome, self.failing) {
            tracing::warn!(receiver = %self.endpoint.authority, "telemetry is not taken: {cause}");
        }
        self.failing = outcome.is_err();
        outcome.is_ok()
    }

    async fn try_post(&mut self, headers: HeaderMap, body: Bytes) -> Result<StatusCode, String> {
        let kept = self.connection.as_mut().is_some_and(|connection| !connection.is_closed());
        if kept {
            // A receiver may close a connection that it kept just when it is used; a new one tells.
            if let Ok(status) = self.send(headers.clone(), body.clone()).await {
                return Ok(status);
            }
        }
        self.connect().await?;
        self.send(headers, body).await
    }

    async fn connect(&mut self) -> Result<(), String> {
        let stream = TcpStream::connect(&self.endpoint.authority).await.map_err(|cause| cause.to_string())?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|cause| cause.to_string())?;
        // It ends with its sender; how is no matter.
        tokio::spawn(async move { drop(connection.await) });
        self.connection = Some(sender);
        Ok(())
    }

    async fn send(&mut self, headers: HeaderMap, body: Bytes) -> Result<StatusCode, String> {
        let Some(connection) = &mut self.connection else { return Err("there is no connection".into()) };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.path.parse().map_err(|_| "its path is no path".to_owned())?;
        *request.headers_mut() = headers;
        let host = HeaderValue::from_str(&self.endpoint.authority).map_err(|cause| cause.to_string())?;
        request.headers_mut().insert(header::HOST, host);
        connection.ready().await.map_err(|cause| cause.to_string())?;
        let answer = connection.send_request(request).await.map_err(|cause| cause.to_string())?;
        let status = answer.status();
        // Read to its end, so that the connection can be used again.
        answer.into_body().collect().await.map_err(|cause| cause.to_string())?;
        Ok(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_a_port_and_a_path_of_its_own_or_the_usual_ones() {
        let of = |text| Endpoint::parse(text, "/v1/traces", 4318).map(|endpoint| (endpoint.authority, endpoint.path));
        let usual = "/v1/traces".to_owned();
        assert_eq!(of("http://collector"), Ok(("collector:4318".into(), usual.clone())));
        assert_eq!(of("http://10.0.0.1:80/"), Ok(("10.0.0.1:80".into(), usual)));
        assert_eq!(of("http://c:1/otlp?x=1"), Ok(("c:1".into(), "/otlp?x=1".into())));
        for text in ["", "collector:4318", "https://collector", "ftp://x", "http://"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
