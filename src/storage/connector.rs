//! object_store's own HTTP client, watched: requests are counted, and answers that say that a request failed become errors
//! which tell their status and `Retry-After`. The retries are ours (`retry.rs`), not the crate's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Limited};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

use super::failure::Answered;
use crate::telemetry::StorageMetrics;

/// Bytes of an error's body that are read: S3's XML has its code and message in the first.
const SAID_BYTES_MAX: usize = 4096;

/// Makes watched clients.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) metrics: Arc<StorageMetrics>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Watched { inner, metrics: Arc::clone(&self.metrics) }))
    }
}

struct Watched {
    inner: HttpClient,
    metrics: Arc<StorageMetrics>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watched")
    }
}

#[async_trait]
impl HttpService for Watched {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.metrics.count_request();
        let response = self.inner.execute(request).await?;
        let status = response.status().as_u16();
        if status < 400 {
            return Ok(response);
        }
        let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let (_, body) = response.into_parts();
        // What cannot be read says nothing.
        let said = Limited::new(body, SAID_BYTES_MAX).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        let answered = Answered { status, after: after.map(Duration::from_secs), said };
        Err(HttpError::new(HttpErrorKind::Unknown, answered))
    }
}
