//! Reads the metrics of pods, many at a time, within bounds of time, number and size. Knows not what they mean.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A page at most: a server of one model writes some 20 KiB.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// A pod that takes longer is as good as silent: the next look is a second away.
const TIMEOUT: Duration = Duration::from_millis(800);
/// Pages that are read at a time: those of a thousand pods are through within a second, and descriptors are few.
const AT_ONCE: usize = 64;
/// Below the server's own 75 s, so that it is never the server that ends a connection just as it is used again.
const IDLE: Duration = Duration::from_secs(60);

/// Where a pod tells its metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The pod's uid.
    pub uid: String,
    /// Host and port.
    pub address: String,
    /// The path of the page.
    pub path: String,
}

/// Reads pages over kept connections; a clone shares them.
#[derive(Debug, Clone)]
pub struct Scraper {
    client: Client<HttpConnector, Empty<Bytes>>,
    places: Arc<Semaphore>,
}

impl Default for Scraper {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(TIMEOUT));
        connector.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(1);
        Self { client: builder.build(connector), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Scraper {
    /// What `read` makes of the pages of all `targets`, or why there is nothing to be read, by uid.
    pub async fn read_all<T: Send + 'static>(
        &self,
        targets: Vec<Target>,
        read: fn(&str) -> Result<T, String>,
    ) -> BTreeMap<String, Result<T, String>> {
        let mut asked = JoinSet::new();
        for target in targets {
            let scraper = self.clone();
            asked.spawn(async move {
                let _place = scraper.places.acquire().await;
                let found = scraper.page(&target).await.and_then(|page| read(&page));
                let named = found.map_err(|cause| format!("http://{}{}: {cause}", target.address, target.path));
                (target.uid, named)
            });
        }
        let mut all = BTreeMap::new();
        while let Some(done) = asked.join_next().await {
            all.extend(done);
        }
        all
    }

    async fn page(&self, target: &Target) -> Result<String, String> {
        let request = Request::get(format!("http://{}{}", target.address, target.path)).body(Empty::new());
        let request = request.map_err(|error| error.to_string())?;
        let reading = async {
            let answer =
                self.client.request(request).await.map_err(|error| match std::error::Error::source(&error) {
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
            Ok(page) => page,
            Err(_) => Err(format!("no answer within {} ms", TIMEOUT.as_millis())),
        }
    }
}
