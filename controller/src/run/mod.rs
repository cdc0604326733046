//! The controller at work: watches feed the index, changes the queue; the one that leads looks and writes.

pub mod demand;
pub mod index;
pub mod judge;
pub mod kinds;
pub mod lease;
pub mod metrics;
pub mod pods;
pub mod queue;
pub mod reconcile;
pub mod scaling;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use kube::Client;
use kube::runtime::WatchStreamExt;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::watcher;
use serde_json::Value;
use tokio::task::JoinSet;

use self::demand::Demands;
use self::index::Index;
use self::kinds::Kind;
use self::lease::Election;
use self::metrics::Metrics;
use self::queue::{Key, Queues};
use self::reconcile::Reconciler;
use self::scaling::learnings::Learnings;
use crate::admin;
use crate::api::MANAGER;
use crate::config::RunArgs;
use crate::plan::children::{ROUTE, SCALED_OBJECT};
use crate::scrape::Scraper;
use crate::tree;

/// However quiet it is, every service is looked at anew this often: once an hour costs nothing, and mends what no event told.
const RESYNC: Duration = Duration::from_secs(3600);
/// How long those who are at work may finish when the controller is to end, within a pod's usual 30 s.
const FINISH: Duration = Duration::from_secs(10);

/// Why the controller could not start, or ended.
#[derive(Debug)]
pub enum RunError {
    /// No way to the API server.
    Client(kube::Error),
    /// No kubeconfig, and not in a pod.
    Infer(kube::config::InferConfigError),
    /// The address of health and metrics is taken, or not ours.
    Listen(std::net::SocketAddr, std::io::Error),
    /// Metrics could not be made.
    Metrics(prometheus::Error),
    /// Another took the lease over.
    LeaseLost,
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client(error) => write!(f, "cannot reach the API server: {error}"),
            Self::Infer(error) => write!(f, "neither in a pod nor a kubeconfig (KUBECONFIG, ~/.kube/config): {error}"),
            Self::Listen(address, error) => write!(f, "cannot listen on {address} (--listen): {error}"),
            Self::Metrics(error) => write!(f, "metrics: {error}"),
            Self::LeaseLost => write!(f, "the lease was lost; another controller leads"),
        }
    }
}

impl std::error::Error for RunError {}

/// Runs until `stop` completes, then finishes what is under way and gives the lease up.
///
/// # Errors
/// If it cannot start, or loses the lease.
pub async fn run(args: RunArgs, stop: impl Future<Output = ()>) -> Result<(), RunError> {
    let config = kube::Config::infer().await.map_err(RunError::Infer)?;
    let client = Client::try_from(config).map_err(RunError::Client)?;
    let metrics = Arc::new(Metrics::new().map_err(RunError::Metrics)?);
    let (index, queues) = (Arc::new(Index::default()), Arc::new(Queues::default()));
    let kinds = kinds::all(args.gateway.is_some(), args.keda);

    let mut tasks = JoinSet::new();
    for kind in kinds.clone() {
        let (client, only) = (client.clone(), args.namespace.clone());
        tasks.spawn(follow(kind, client, only, index.clone(), queues.clone(), metrics.clone()));
    }
    let ready = {
        let (index, kinds) = (index.clone(), kinds.clone());
        move || index.is_complete(&kinds)
    };
    let text = {
        let metrics = metrics.clone();
        move || metrics.text()
    };
    let served = admin::serve(args.listen, text, ready.clone()).await;
    let (address, admin) = served.map_err(|error| RunError::Listen(args.listen, error))?;
    tracing::info!(%address, "health and metrics");

    let identity = args.identity.clone().unwrap_or_else(identity);
    let reporter = Reporter { controller: MANAGER.into(), instance: Some(identity.clone()) };
    let reconciler = Arc::new(Reconciler {
        client: client.clone(),
        settings: args.settings(),
        index: index.clone(),
        kinds,
        demands: Arc::new(Demands::default()),
        learnings: Learnings::default(),
        scraper: Scraper::default(),
        recorder: Recorder::new(client.clone(), reporter),
        judge: Arc::default(),
        metrics: metrics.clone(),
    });
    let mut election = Election::new(client, &args.lease_namespace, identity);
    let mut workers = JoinSet::new();
    let outcome = tokio::select! {
        () = stop => Ok(()),
        outcome = lead(&mut election, &mut workers, &args, reconciler, queues, ready) => outcome,
    };
    if outcome.is_ok() {
        // Who is at work finishes before the next may begin; after a lost lease another has begun already.
        let finished = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(FINISH, finished).await.is_err() {
            tracing::warn!("some were still at work; what they left undone is found at the next look");
        }
    }
    workers.shutdown().await;
    metrics.leading.set(0);
    tasks.shutdown().await;
    admin.abort();
    election.release().await;
    outcome
}

/// Waits for the lease, then works until it is lost.
async fn lead(
    election: &mut Election,
    workers: &mut JoinSet<()>,
    args: &RunArgs,
    reconciler: Arc<Reconciler>,
    queues: Arc<Queues>,
    ready: impl Fn() -> bool,
) -> Result<(), RunError> {
    election.win().await;
    tracing::info!("leading");
    reconciler.metrics.leading.set(1);
    let working = async {
        // A plan made of half a list would delete what it has not seen.
        while !ready() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Only who leads asks the routers: the others would do nothing with it.
        let asking = demand::follow(reconciler.index.clone(), reconciler.demands.clone(), queues.clone());
        let hold = Duration::from_secs(u64::from(args.scale_down_after));
        let judging = reconciler.judge.keep(&reconciler.scraper, &reconciler.index, &queues.services);
        tokio::select! {
            () = work(args.concurrency, workers, &reconciler, &queues) => {}
            () = asking => {}
            () = scaling::run(&reconciler, &queues.services, hold) => {}
            () = judging => {}
        }
    };
    tokio::select! {
        () = election.keep() => Err(RunError::LeaseLost),
        () = working => Ok(()),
    }
}

/// What is looked at.
#[derive(Debug, Clone)]
enum Subject {
    Service(Key),
    Graph(Key),
}

/// Looks at services and graphs as they become due, some at a time.
async fn work(concurrency: u16, workers: &mut JoinSet<()>, reconciler: &Arc<Reconciler>, queues: &Arc<Queues>) {
    let mut resync = tokio::time::interval(RESYNC);
    resync.tick().await;
    loop {
        let waiting = queues.services.len() + queues.graphs.len();
        reconciler.metrics.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        while workers.len() >= usize::from(concurrency) {
            let _finished = workers.join_next().await;
        }
        tokio::select! {
            key = queues.services.next() => {
                workers.spawn(look(Subject::Service(key), reconciler.clone(), queues.clone()));
            }
            key = queues.graphs.next() => {
                workers.spawn(look(Subject::Graph(key), reconciler.clone(), queues.clone()));
            }
            _ = resync.tick() => {
                for (kind, queue) in [("InferenceService", &queues.services), ("InferenceGraph", &queues.graphs)] {
                    for own in reconciler.index.all(kind) {
                        let namespace = tree::text(&own, &["metadata", "namespace"]).unwrap_or("").to_owned();
                        queue.touch((namespace, tree::name(&own).to_owned()));
                    }
                }
            }
            Some(_) = workers.join_next() => {}
        }
    }
}

async fn look(subject: Subject, reconciler: Arc<Reconciler>, queues: Arc<Queues>) {
    let metrics = &reconciler.metrics;
    let timer = metrics.seconds.start_timer();
    let (outcome, key, queue) = match &subject {
        Subject::Service(key) => (reconciler.reconcile(key).await, key, &queues.services),
        Subject::Graph(key) => (reconciler.reconcile_graph(key).await, key, &queues.graphs),
    };
    match outcome {
        Ok(again) => {
            metrics.reconciles.with_label_values(&["ok"]).inc();
            queue.succeeded(key);
            if let Some(after) = again {
                queue.after(key.clone(), after);
            }
        }
        Err(error) => {
            metrics.reconciles.with_label_values(&["error"]).inc();
            let delay = queue.failed(key.clone());
            tracing::warn!(namespace = key.0, name = key.1, %error, ?delay, "trying again");
            tell(&reconciler, &subject, &error).await;
        }
    }
    timer.observe_duration();
    count(&reconciler);
    queue.finished(key);
}

/// What the API server refuses, the service's owner should see: a field that no PodSpec has, a quota.
async fn tell(reconciler: &Reconciler, subject: &Subject, error: &reconcile::ApplyError) {
    let Some(note) = error.refusal() else { return };
    let owner = match subject {
        Subject::Service(key) => reconciler.index.around(key).service,
        Subject::Graph(key) => reconciler.index.around_graph(key).graph,
    };
    if let Some(owner) = owner {
        let event = crate::plan::events::Event { warning: true, reason: "ApplyFailed".into(), note };
        reconciler.publish(&owner, &event).await;
    }
}

fn count(reconciler: &Reconciler) {
    let services = reconciler.index.services();
    for wanted in ["True", "False", "Unknown"] {
        let ready = |own: &Value| {
            let conditions = tree::list(own, &["status", "conditions"]);
            let found = conditions.iter().find(|condition| condition["type"] == "Ready");
            found.map_or(wanted == "Unknown", |condition| condition["status"] == wanted)
        };
        let number = services.iter().filter(|own| ready(own)).count();
        reconciler.metrics.services.with_label_values(&[wanted]).set(i64::try_from(number).unwrap_or(i64::MAX));
    }
}

/// Follows one kind for ever; failures are waited out, longer each time, and what was missed is listed anew.
async fn follow(
    kind: Kind,
    client: Client,
    only: Option<String>,
    index: Arc<Index>,
    queues: Arc<Queues>,
    metrics: Arc<Metrics>,
) {
    let api = kind.everywhere(&client, only.as_deref());
    let mut events = std::pin::pin!(watcher(api, kind.watched()).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => index.take(&kind, event, &queues),
            Err(error) => {
                metrics.watch_errors.with_label_values(&[kind.name]).inc();
                // What is not ours may not be installed; its definition is waited for while everything else goes on.
                if [ROUTE.name, SCALED_OBJECT.name].contains(&kind.name) && is_unknown(&error) {
                    index.miss(&kind);
                }
                tracing::warn!(kind = kind.name, %error, "the watch failed; taking it up again");
            }
        }
    }
}

/// Whether a watch failed since the API server does not know the kind.
fn is_unknown(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(cause)
    | watcher::Error::WatchStartFailed(cause)
    | watcher::Error::WatchFailed(cause)) = error
    else {
        return false;
    };
    matches!(cause, kube::Error::Api(status) if status.code == 404)
}

fn identity() -> String {
    let host = std::env::var("HOSTNAME").ok().filter(|host| !host.is_empty());
    format!("{}-{}", host.unwrap_or_else(|| MANAGER.into()), std::process::id())
}
