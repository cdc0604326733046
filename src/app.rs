//! Builds the server from its configuration, bottom up, and gives back a handle to it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::error::Error;
use crate::repository::{Control, Repository, RepositoryConfig, Runtimes};
use crate::runtime::find_library;
use crate::server::{Addresses, BindError, Buffered, Doors, Drain, FileFault, Guard, Server, Tls, Watch};
use crate::service::{self, Dispatch, ResponseCache, Router};
use crate::shared_memory::Regions;
use crate::telemetry::Telemetry;

/// Why the server could not start.
#[derive(Debug)]
pub enum StartError {
    /// A port cannot be had.
    Bind(BindError),
    /// A file that the doors need cannot be used.
    File(FileFault),
    /// A repository cannot be read, or does not hold what is to be loaded.
    Repository(Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind(cause) => cause.fmt(f),
            StartError::File(fault) => fault.fmt(f),
            StartError::Repository(cause) => cause.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// A running server.
pub struct App {
    addresses: Addresses,
    repository: Arc<Repository>,
    router: Arc<Router>,
    watch: Option<Arc<Watch>>,
    stop: oneshot::Sender<Duration>,
    serving: JoinHandle<bool>,
    drain_delay: Duration,
    drain_timeout: Duration,
    one_model: bool,
}

impl App {
    /// Opens the doors and starts loading models. The doors are open at once: health answers while models load.
    ///
    /// # Errors
    /// [`StartError`]; a model that fails is none.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let tls = config.server.tls.clone().map(Tls::load).transpose().map_err(StartError::File)?.map(Arc::new);
        let guard = Guard::load(&config.server.guard).map_err(StartError::File)?.map(Arc::new);
        let server = Server::bind(config.server.clone()).map_err(StartError::Bind)?;
        let addresses = server.addresses();
        tracing::info!(http = %addresses.http, grpc = %addresses.grpc, "listening");
        let runtimes = Arc::new(runtimes());
        let telemetry = Arc::new(Telemetry::new().with_devices(Arc::clone(runtimes.devices())));
        let watch = Watch::start(&config.server.watch, &telemetry).map_err(StartError::File)?.map(Arc::new);
        let one_model = serves_one_model(&config.repository);
        let repository = Repository::open(config.repository, runtimes, Arc::clone(&telemetry)).await;
        let repository = Arc::new(repository.map_err(StartError::Repository)?);
        let regions = config.shared_memory.map(Regions::new).map(Arc::new);
        // What is mirrored lies in no region: clients may change what does.
        let router = Router::start(Arc::clone(&repository), Dispatch::new(None));
        let cache = ResponseCache::new(config.response_cache_bytes_max, Arc::clone(&telemetry));
        let doors = Arc::new(Doors {
            stack: service::stack(Arc::clone(&router), Arc::clone(&telemetry), regions.clone(), cache, watch.is_some()),
            router: Arc::clone(&router),
            regions,
            repository: Arc::clone(&repository),
            telemetry,
            drain: Drain::default(),
            body_bytes_max: config.server.body_bytes_max,
            tls,
            guard,
            watch: watch.clone(),
            buffered: Arc::new(Buffered::new(config.server.bounds.buffered_bytes_max)),
            bounds: config.server.bounds.clone(),
            http: config.server.http.clone(),
        });
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.run(doors, async move {
            match stopped.await {
                Ok(delay) => delay,
                // A handle that was dropped without a word does not stop the server.
                Err(_) => std::future::pending().await,
            }
        }));
        let (drain_delay, drain_timeout) = (config.server.drain_delay, config.server.drain_timeout);
        Ok(Self { addresses, repository, router, watch, stop, serving, drain_delay, drain_timeout, one_model })
    }

    /// Waits until everything wanted has been loaded or has failed.
    ///
    /// # Errors
    /// Why nothing is served, where the model of `--model-dir` or `--storage-uri` is all that there is to serve: whoever
    /// started this process for it learns of that by its end, as Kubernetes does. Of a repository others may serve, or come.
    pub async fn settled(&self) -> Result<(), String> {
        self.repository.settled().await;
        if !self.one_model || self.repository.ready(None, None).is_ok_and(|ready| !ready.is_empty()) {
            return Ok(());
        }
        let lines = self.repository.index_lines(false);
        let told = lines.iter().map(|line| match line.version {
            Some(version) => format!("model '{}' version {version}: {}", line.name, line.state.reason()),
            None => format!("model '{}': {}", line.name, line.state.reason()),
        });
        Err(told.collect::<Vec<_>>().join("; "))
    }

    /// The addresses that were bound.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The models.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// Goes the way down: not ready, serves on for the drain delay if `wait`, finishes what is under way. Gives whether
    /// every request was answered in time.
    pub async fn stop(self, wait: bool) -> bool {
        let delay = if wait { self.drain_delay } else { Duration::ZERO };
        // The task that serves waits for this; it cannot be gone unless it panicked, which the join shows.
        let _ = self.stop.send(delay);
        let finished = self.serving.await.unwrap_or(false);
        // Nobody waits for what is mirrored.
        self.router.close();
        self.repository.close(self.drain_timeout).await;
        if let Some(watch) = &self.watch {
            watch.close().await;
        }
        finished
    }
}

/// Whether a single model is all that can ever be served: nobody loads another, and no repository may get one.
fn serves_one_model(config: &RepositoryConfig) -> bool {
    let named = config.single.len() + config.remote.iter().filter(|(_, name)| name.is_some()).count();
    let places = config.repositories.len() + config.single.len() + config.remote.len();
    named == 1 && places == 1 && config.control == Control::None
}

/// The engines; the log says in one line what ONNX models run on.
fn runtimes() -> Runtimes {
    let library = find_library();
    match &library {
        Some(path) => tracing::info!(library = %path.display(), "ONNX models run on ONNX Runtime"),
        None => tracing::warn!("no libonnxruntime.so found (ORT_DYLIB_PATH, .onnxruntime/): ONNX models run on tract"),
    }
    Runtimes::new(library)
}
