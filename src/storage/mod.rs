//! Bytes behind URIs: what a store holds, and a folder on this machine with what is needed of it.
//!
//! A store is listed, never mirrored: a version is fetched when it is to be loaded. What was fetched stays in a cache
//! (`cache.rs`) by its digest. This room knows files and folders; what makes a model of them is the repository's.
//!
//! All of it blocks whoever asks, and works on threads of its own that give way to whatever else wants a core, so that a download
//! is hardly noticed by models that serve.

mod cache;
mod connector;
mod credentials;
mod digest;
mod failure;
mod fetch;
mod listing;
mod lock;
mod notes;
mod open;
mod partial;
mod progress;
mod retry;
mod source;
mod sums;
mod throttle;
mod tree;
mod uri;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};

use crate::telemetry::StorageMetrics;
use cache::Cache;
use connector::Connector;
use fetch::{Fetcher, Patience};
use throttle::Throttle;

pub use credentials::{Environment, S3Access};
pub use digest::{Digest, Sha256, Sha256Hasher};
pub use failure::{Class, Failure};
pub use listing::{Object, Snapshot};
pub use retry::RetryPolicy;
pub use source::{Source, Wanted};
pub use sums::{SUMS_BYTES_MAX, SUMS_FILE, Sums};
pub use tree::Tree;
pub use uri::{RemoteUri, StorageUri, Store, check_key};

/// How models are fetched and kept.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// Where fetched files are kept. Default `tensorgate/models` in the user's cache, else in `/var/cache`, which is where the
    /// Filesystem Hierarchy Standard has what services can fetch again.
    pub cache_directory: PathBuf,
    /// The most that they may take there; without it, what the disk has, but for 64 MiB.
    pub cache_bytes_max: Option<u64>,
    /// Requests for parts of files that are under way at once, of all models. Default 8: S3 gives some 90 MB/s to each, so
    /// that eight fill the usual 5 Gbit/s of a node.
    pub parallel: usize,
    /// A bound on what all of them bring together; without it, as fast as it goes.
    pub bytes_per_second: Option<u64>,
    /// When requests are made again.
    pub retry: RetryPolicy,
    /// How long an answer may take to begin, and 64 KiB of it to come. Default 30 s.
    pub stall: Duration,
    /// Variables with credentials.
    pub environment: Environment,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            cache_directory: "/var/cache/tensorgate/models".into(),
            cache_bytes_max: None,
            parallel: 8,
            bytes_per_second: None,
            retry: RetryPolicy::default(),
            stall: Duration::from_secs(30),
            environment: Environment::default(),
        }
    }
}

/// How far they give way: a thread that answers requests gets three times the processor time of one of them where both want it
/// (sched(7)), and a cold start on a busy machine still gets on.
const NICE: i32 = 5;

/// Threads that read answers. One keeps up with several GB/s; the second is for TLS.
const THREADS: usize = 2;

/// What all sources of a server share.
pub struct Storage {
    cache: Cache,
    fetcher: Arc<Fetcher>,
    environment: Environment,
    metrics: Arc<StorageMetrics>,
    closing: watch::Sender<bool>,
    /// Taken at the end.
    runtime: Option<Runtime>,
}

impl Storage {
    /// Opens the cache. No store is asked yet.
    ///
    /// # Errors
    /// Where the cache cannot be used, or `STORAGE_CONFIG` makes no sense.
    pub fn open(config: &StorageConfig, metrics: Arc<StorageMetrics>) -> Result<Arc<Self>, Failure> {
        let environment = config.environment.clone().with_storage_config();
        let environment = environment.map_err(|why| Failure::new(Class::Wrong, why))?;
        let cache = Cache::open(&config.cache_directory, config.cache_bytes_max, Arc::clone(&metrics))?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("storage")
            // Where it cannot be had, a download is merely more noticeable.
            .on_thread_start(|| {
                let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
            })
            .enable_all()
            .build()
            .map_err(|cause| Failure::disk("threads for downloads", &cause))?;
        let patience = Patience { policy: config.retry, stall: config.stall, metrics: Arc::clone(&metrics) };
        let fetcher = Arc::new(Fetcher {
            places: Semaphore::new(config.parallel.max(1)),
            at_once: config.parallel.max(1),
            throttle: Throttle::new(config.bytes_per_second),
            patience,
        });
        let (closing, _) = watch::channel(false);
        Ok(Arc::new(Self { cache, fetcher, environment, metrics, closing, runtime: Some(runtime) }))
    }

    /// The place that `uri` names.
    ///
    /// # Errors
    /// What is wrong with its credentials.
    pub fn source(self: &Arc<Self>, uri: RemoteUri) -> Result<Source, Failure> {
        let connector = Connector { metrics: Arc::clone(&self.metrics) };
        // Its clients start tasks when they are made.
        let _entered = self.runtime().map(Runtime::enter);
        let store = open::open(&uri, &self.environment, connector)?;
        Ok(Source::new(Arc::clone(self), store, uri))
    }

    /// A place in a store that is there already, called `uri`.
    pub fn source_in(self: &Arc<Self>, store: Arc<dyn object_store::ObjectStore>, uri: RemoteUri) -> Source {
        Source::new(Arc::clone(self), store, uri)
    }

    fn runtime(&self) -> Option<&Runtime> {
        self.runtime.as_ref()
    }

    /// Waits for `work`, on a thread that is not one of a runtime's.
    fn wait<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let stopped = || Failure::new(Class::Wrong, "the server is shutting down");
        let Some(runtime) = self.runtime() else { return Err(stopped()) };
        let mut closing = self.closing.subscribe();
        runtime.block_on(async {
            tokio::select! {
                done = work => done,
                _ = closing.wait_for(|closing| *closing) => Err(stopped()),
            }
        })
    }

    /// Breaks off whatever is under way, at the end of the process: it goes on after the next start.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // Whoever drops it may be a thread that must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
