//! Reads a page of metrics from a pod.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// A page at most: a server of one model writes some 20 KiB.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// A server that needs longer for a page is in no state to be judged by it.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Below the server's own 75 s, so that it is never the server that ends a connection just as it is used again.
const IDLE: Duration = Duration::from_secs(60);

/// Reads pages over kept connections.
#[derive(Debug, Clone)]
pub struct Scraper(Client<HttpConnector, Empty<Bytes>>);

impl Default for Scraper {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(TIMEOUT));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(1);
        Self(builder.build(connector))
    }
}

impl Scraper {
    /// The page at `path` of `address`, host and port.
    ///
    /// # Errors
    /// Why there is none, naming the address.
    pub async fn page(&self, address: &str, path: &str) -> Result<String, String> {
        let failed = |cause: String| format!("http://{address}{path}: {cause}");
        let request = Request::get(format!("http://{address}{path}")).body(Empty::new());
        let request = request.map_err(|error| failed(error.to_string()))?;
        let reading = async {
            let answer = self.0.request(request).await.map_err(|error| match std::error::Error::source(&error) {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            })?;
            if answer.status() != StatusCode::OK {
                return Err(format!("answered {}", answer.status()));
            }
            let body = Limited::new(answer.into_body(), PAGE_BYTES_MAX).collect().await;
            let bytes = body.map_err(|error| error.to_string())?.to_bytes();
            String::from_utf8(bytes.into()).map_err(|_| "no text".to_owned())
        };
        match tokio::time::timeout(TIMEOUT, reading).await {
            Ok(page) => page.map_err(failed),
            Err(_) => Err(failed(format!("no answer within {} s", TIMEOUT.as_secs()))),
        }
    }
}
