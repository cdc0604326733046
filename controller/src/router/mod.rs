//! A router before the revisions of a component, for callers inside the cluster and clusters without a Gateway: HTTP and gRPC on one
//! port, each request by weight or by a header, bodies passed through as they come.

pub mod proxy;
pub mod table;
pub mod upstream;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use prometheus::{Encoder, IntCounter, IntCounterVec, Opts, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use self::proxy::Proxy;
use self::table::Table;
use crate::admin;

/// How often the file of routes is looked at. A ConfigMap's volume changes at most once in a minute or so.
const RELOAD: Duration = Duration::from_secs(2);
/// Connections at a time, with room below a container's usual limit of 65,536 descriptors for as many to the revisions.
const CONNECTIONS_MAX: usize = 20_000;
/// After a failed accept, so that a shortage of descriptors is not made worse by asking without pause.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The server's own bound, so that whoever dawdles over a head is refused here as there.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Flags of `tensorgate-controller router`.
#[derive(Debug, Clone, Args)]
pub struct RouterArgs {
    /// The file of routes, JSON; read again when it changes
    #[arg(long, env = "TENSORGATE_ROUTER_ROUTES")]
    pub routes: PathBuf,

    /// Where requests come in, HTTP/1.1 and HTTP/2
    #[arg(long, env = "TENSORGATE_ROUTER_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// Where health and metrics are served: /healthz, /readyz, /metrics
    #[arg(long, env = "TENSORGATE_ROUTER_ADMIN", default_value = "0.0.0.0:8081")]
    pub admin: SocketAddr,

    /// Seconds to serve on after SIGTERM, not ready, while callers learn of the end
    #[arg(long, env = "TENSORGATE_ROUTER_DRAIN_DELAY", default_value_t = 5)]
    pub drain_delay: u64,

    /// Seconds that requests under way may take after that
    #[arg(long, env = "TENSORGATE_ROUTER_DRAIN_TIMEOUT", default_value_t = 30)]
    pub drain_timeout: u64,

    /// How logs are written
    #[arg(long, env = "TENSORGATE_ROUTER_LOG_FORMAT", default_value = "human", value_parser = ["human", "json"])]
    pub log_format: String,
}

/// Why the router could not start.
#[derive(Debug)]
pub enum RouterError {
    /// The file of routes cannot be read or used.
    Routes(PathBuf, String),
    /// An address is taken, or not ours.
    Listen(SocketAddr, std::io::Error),
    /// Metrics could not be made.
    Metrics(prometheus::Error),
}

impl std::fmt::Display for RouterError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Routes(path, error) => write!(f, "--routes {}: {error}", path.display()),
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Metrics(error) => write!(f, "metrics: {error}"),
        }
    }
}

impl std::error::Error for RouterError {}

/// Counts of the router.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Requests by `revision` and `outcome`: answered, failed.
    pub requests: IntCounterVec,
    /// Connections that went to another revision than the one chosen, which did not take any.
    pub diverted: IntCounter,
}

impl Metrics {
    /// A registry with all of them.
    ///
    /// # Errors
    /// If two have one name, which would be a bug.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let requests = Opts::new("tensorgate_router_requests_total", "Requests by the revision that was chosen.");
        let requests = IntCounterVec::new(requests, &["revision", "outcome"])?;
        let diverted = IntCounter::new(
            "tensorgate_router_diverted_total",
            "Connections made to another revision, since the chosen one took none.",
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(diverted.clone()))?;
        Ok(Self { registry, requests, diverted })
    }

    fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }
}

/// Runs until `stop` completes, then drains.
///
/// # Errors
/// If it cannot start.
pub async fn run(args: RouterArgs, stop: impl Future<Output = ()>) -> Result<(), RouterError> {
    let unusable = |error| RouterError::Routes(args.routes.clone(), error);
    let text = std::fs::read_to_string(&args.routes).map_err(|error| unusable(error.to_string()))?;
    let table = Table::parse(&text).map_err(unusable)?;
    let metrics = Metrics::new().map_err(RouterError::Metrics)?;
    let routes = watch::Sender::new(Arc::new(table));
    let proxy = Arc::new(Proxy::new(routes.subscribe(), metrics.clone()));
    let draining = watch::Sender::new(false);
    let ready = draining.subscribe();
    let served = admin::serve(args.admin, move || metrics.text(), move || !*ready.borrow()).await;
    let (admin_address, admin) = served.map_err(|error| RouterError::Listen(args.admin, error))?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| RouterError::Listen(args.listen, error))?;
    let address = listener.local_addr().map_err(|error| RouterError::Listen(args.listen, error))?;
    tracing::info!(%address, %admin_address, "routing");

    let reloading = tokio::spawn(reload(args.routes.clone(), text, routes));
    let graceful = GracefulShutdown::new();
    let ended = async {
        stop.await;
        draining.send_replace(true);
        tokio::time::sleep(Duration::from_secs(args.drain_delay)).await;
    };
    tokio::select! {
        () = accept(listener, &proxy, &graceful) => {}
        () = ended => {}
    }
    if tokio::time::timeout(Duration::from_secs(args.drain_timeout), graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way after --drain-timeout");
    }
    reloading.abort();
    admin.abort();
    Ok(())
}

async fn accept(listener: TcpListener, proxy: &Arc<Proxy>, graceful: &GracefulShutdown) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    server.http2().timer(TokioTimer::new()).max_concurrent_streams(200);
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        // Out of descriptors, for one: those that end make room.
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let _without_it_slower = socket.set_nodelay(true);
        let proxy = proxy.clone();
        let service = hyper::service::service_fn(move |request| {
            let proxy = proxy.clone();
            async move { Ok::<_, std::convert::Infallible>(proxy.handle(request).await) }
        });
        let connection = graceful.watch(server.serve_connection(TokioIo::new(socket), service).into_owned());
        tokio::spawn(async move {
            let _place = place;
            // A client that goes away is none of our business.
            let _ended = connection.await;
        });
    }
}

/// Takes over what the file says when it changes; what cannot be used changes nothing.
async fn reload(path: PathBuf, mut text: String, routes: watch::Sender<Arc<Table>>) {
    let mut look = tokio::time::interval(RELOAD);
    loop {
        look.tick().await;
        let Some(new) = read(&path).await.filter(|new| *new != text) else { continue };
        match Table::parse(&new) {
            Ok(table) => {
                tracing::info!(routes = %table, "new routes");
                routes.send_replace(Arc::new(table));
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the new routes cannot be used; the old ones stay")
            }
        }
        text = new;
    }
}

async fn read(path: &Path) -> Option<String> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await.ok()?.ok()
}
