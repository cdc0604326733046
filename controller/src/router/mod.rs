//! A router before the revisions of a component, for callers inside the cluster and clusters without a Gateway: HTTP and gRPC on one
//! port, each request by weight or by a header, bodies passed through as they come. Or before the services of an inference graph.

pub mod answer;
pub mod body;
pub mod deadline;
mod graph_call;
pub mod graph_door;
mod graph_grpc;
pub mod grpc;
pub mod hold;
mod listener;
pub mod metrics;
pub mod proxy;
pub mod shadow;
pub mod table;
pub mod upstream;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hyper::body::Incoming;
use hyper::{Request, Uri};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::answer::Answer;
use self::graph_door::GraphDoor;
use self::hold::gate::Limits;
use self::hold::{BYTES_MAX, Holder, REQUESTS_MAX};
use self::listener::{Answers, IDLE, Listening};
use self::metrics::Metrics;
use self::proxy::Proxy;
use self::table::Table;
use self::upstream::Sockets;
use crate::admin::{self, Told};
use crate::demand;
use crate::graph::Graph;

/// How often the file of routes is looked at. A ConfigMap's volume changes at most once in a minute or so.
const RELOAD: Duration = Duration::from_secs(2);
/// KServe's default of `routerTimeouts.serverIdle`.
const GRAPH_IDLE: u64 = 180;

/// Flags of `tensorgate-controller router`.
#[derive(Debug, Clone, Args)]
pub struct RouterArgs {
    /// The file of routes, JSON; read again when it changes
    #[arg(long, env = "TENSORGATE_ROUTER_ROUTES", required_unless_present = "graph", conflicts_with = "graph")]
    pub routes: Option<PathBuf>,

    /// Serve the inference graph of this file in place of routes; JSON, as the controller writes it
    #[arg(long, env = "TENSORGATE_ROUTER_GRAPH")]
    pub graph: Option<PathBuf>,

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
    /// The file of routes or of a graph cannot be read or used.
    File(&'static str, PathBuf, String),
    /// An address is taken, or not ours.
    Listen(SocketAddr, std::io::Error),
    /// Metrics could not be made.
    Metrics(prometheus::Error),
}

impl std::fmt::Display for RouterError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(flag, path, error) => write!(f, "{flag} {}: {error}", path.display()),
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Metrics(error) => write!(f, "metrics: {error}"),
        }
    }
}

impl std::error::Error for RouterError {}

/// What answers requests.
#[derive(Clone)]
enum Door {
    Routes(Arc<Proxy>),
    Graph(Arc<GraphDoor>),
}

impl Answers for Door {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        match self {
            Self::Routes(proxy) => proxy.handle(request).await,
            Self::Graph(graph) => graph.handle(request).await,
        }
    }
}

/// Runs until `stop` completes, then drains.
///
/// # Errors
/// If it cannot start.
pub async fn run(args: RouterArgs, stop: impl Future<Output = ()>) -> Result<(), RouterError> {
    let metrics = Metrics::new().map_err(RouterError::Metrics)?;
    let draining = watch::Sender::new(false);
    let ready = draining.subscribe();
    let holder = Holder::new(Sockets, Limits { requests_max: REQUESTS_MAX, bytes_max: BYTES_MAX });
    let opened = open(&args, &metrics, &holder)?;
    let text = told_metrics(metrics, holder.clone());
    let told = move |uri: &Uri| told_demand(&holder, uri);
    let served = admin::serve_with(args.admin, text, move || !*ready.borrow(), told).await;
    let (admin_address, admin) = served.map_err(|error| RouterError::Listen(args.admin, error))?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| RouterError::Listen(args.listen, error))?;
    let address = listener.local_addr().map_err(|error| RouterError::Listen(args.listen, error))?;
    tracing::info!(%address, %admin_address, "routing");

    let graceful = GracefulShutdown::new();
    let listening = Listening::new(opened.door, opened.idle, opened.holds);
    let ended = async {
        stop.await;
        draining.send_replace(true);
        listening.drain();
        tokio::time::sleep(Duration::from_secs(args.drain_delay)).await;
    };
    tokio::select! {
        () = listening.accept(listener, &graceful) => {}
        () = ended => {}
    }
    if tokio::time::timeout(Duration::from_secs(args.drain_timeout), graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way after --drain-timeout");
    }
    if let Some(reloading) = opened.reloading {
        reloading.abort();
    }
    admin.abort();
    Ok(())
}

/// The metrics with what is held just then.
fn told_metrics(metrics: Metrics, holder: Arc<Holder<Sockets>>) -> impl Fn() -> Vec<u8> + Clone + Send + 'static {
    move || {
        let (requests, bytes) = holder.held();
        metrics.held.set(i64::try_from(requests).unwrap_or(i64::MAX));
        metrics.held_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        metrics.text()
    }
}

/// The demand, as [`demand`] has it; none for another path.
fn told_demand(holder: &Arc<Holder<Sockets>>, uri: &Uri) -> Option<Told> {
    if uri.path() != demand::PATH {
        return None;
    }
    let seen = uri.query().and_then(|query| query.strip_prefix("seen=")).map(str::parse);
    let (seen, patience) = match seen {
        Some(Ok(seen)) => (Some(seen), demand::PATIENCE),
        // Whoever has seen nothing is told at once.
        _ => (None, Duration::ZERO),
    };
    let holder = holder.clone();
    Some(Box::pin(async move {
        let demand = holder.next_demand(seen, patience).await;
        serde_json::to_vec(&demand).unwrap_or_default()
    }))
}

/// What was made from the file that the flags name.
struct Opened {
    door: Door,
    /// How long a connection may do nothing, or take for a head.
    idle: Duration,
    reloading: Option<tokio::task::JoinHandle<()>>,
    /// Requests wait here: little is read of those that nobody can answer yet.
    holds: bool,
}

fn open(args: &RouterArgs, metrics: &Metrics, holder: &Arc<Holder<Sockets>>) -> Result<Opened, RouterError> {
    let (flag, path) = match (&args.graph, &args.routes) {
        (Some(path), _) => ("--graph", path),
        (None, Some(path)) => ("--routes", path),
        (None, None) => return Err(RouterError::File("--routes", PathBuf::new(), "a file is wanted".into())),
    };
    let unusable = |error| RouterError::File(flag, path.clone(), error);
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    if args.graph.is_some() {
        let (program, graph) = Graph::parse(&text).map_err(unusable)?;
        let door = GraphDoor::new(&program, graph, metrics.clone()).map_err(unusable)?;
        let idle = Duration::from_secs(program.timeouts.idle.unwrap_or(GRAPH_IDLE));
        return Ok(Opened { door: Door::Graph(Arc::new(door)), idle, reloading: None, holds: false });
    }
    let table = Table::parse(&text).map_err(unusable)?;
    let holds = table.hold.is_some();
    let routes = watch::Sender::new(Arc::new(table));
    let proxy = Proxy::new(routes.subscribe(), holder.clone(), metrics.clone());
    let reloading = tokio::spawn(reload(path.clone(), text, routes, holder.clone()));
    Ok(Opened { door: Door::Routes(Arc::new(proxy)), idle: IDLE, reloading: Some(reloading), holds })
}

/// Takes over what the file says when it changes; what cannot be used changes nothing.
async fn reload(path: PathBuf, mut text: String, routes: watch::Sender<Arc<Table>>, holder: Arc<Holder<Sockets>>) {
    let mut look = tokio::time::interval(RELOAD);
    loop {
        look.tick().await;
        let Some(new) = read(&path).await.filter(|new| *new != text) else { continue };
        match Table::parse(&new) {
            Ok(table) => {
                tracing::info!(routes = %table, "new routes");
                holder.keep(|revision| table.backends.iter().any(|own| own.revision == revision));
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
