//! Reads the metrics of pods, many at a time, within bounds of time and size.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tensorgate_contract::signals::{self, Signals};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Pods that are asked at a time: a thousand of them are through within a second, and descriptors are few.
const PARALLEL: usize = 64;

/// A pod that takes longer is as good as silent: the next look is a second away.
const TIMEOUT: Duration = Duration::from_millis(800);

/// Metrics of one server: a hundred times what one with a model tells.
const BYTES_MAX: usize = 4 << 20;

/// By model and version.
pub type Told = BTreeMap<(String, String), Signals>;

/// Reads metrics.
#[derive(Clone)]
pub struct Scraper {
    client: Client<HttpConnector, Empty<Bytes>>,
    places: Arc<Semaphore>,
}

impl Default for Scraper {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector);
        Self { client, places: Arc::new(Semaphore::new(PARALLEL)) }
    }
}

impl Scraper {
    /// Asks every pod at its address, by what it is known as; who does not answer is left out.
    pub async fn read_all(&self, pods: Vec<(String, String)>) -> BTreeMap<String, Told> {
        let mut asked = JoinSet::new();
        for (key, address) in pods {
            let scraper = self.clone();
            asked.spawn(async move {
                let _place = scraper.places.acquire().await;
                let read = tokio::time::timeout(TIMEOUT, scraper.read(&address)).await;
                match read.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
                    Ok(told) => Some((key, told)),
                    Err(error) => {
                        tracing::debug!(pod = key, address, error, "the metrics could not be read");
                        None
                    }
                }
            });
        }
        let mut all = BTreeMap::new();
        while let Some(done) = asked.join_next().await {
            all.extend(done.ok().flatten());
        }
        all
    }

    async fn read(&self, address: &str) -> Result<Told, String> {
        let uri = format!("http://{address}/metrics").parse().map_err(|_| "not an address".to_owned())?;
        let response = self.client.get(uri).await.map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("answered {}", response.status()));
        }
        let body = Limited::new(response.into_body(), BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
        let body = body.to_bytes();
        let text = std::str::from_utf8(&body).map_err(|_| "not UTF-8".to_owned())?;
        signals::read(text).map_err(|error| error.to_string())
    }
}
