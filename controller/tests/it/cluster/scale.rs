//! Replicas that come and go under requests that come by the clock, whatever became of those before: from one to four, to none, and
//! back; and cold starts, many of them, of which none loses a request.
//!
//! `SCALE_CYCLES` is how many cold starts each of the five services goes through (2). What they took is printed, and not judged: it
//! depends on the machine.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tensorgate_controller::tree;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::scenario::{echo, until_routed};
use super::storm::{Counted, Question, ask_grpc, ask_http, note};
use super::{Cluster, NAMESPACE, Site, inference_service, revision_of};
use crate::store::{Key, Store};

/// Requests that are under way at once when somebody wakes a service.
const CALLERS: usize = 6;
/// Services that go to sleep and are woken at the same time.
const SLEEPERS: [&str; 5] = ["dozing", "dreaming", "napping", "resting", "snoring"];

/// Two callers' connections: HTTP/1.1 and gRPC.
#[derive(Clone)]
struct Callers {
    question: Arc<Question>,
    http: (Client<HttpConnector, Full<Bytes>>, String),
    grpc: (Client<HttpConnector, Full<Bytes>>, String),
}

impl Callers {
    /// Of a service whose router is in front, which is told by its answers.
    async fn in_front(site: &Site, question: Question) -> Self {
        let question = Arc::new(question);
        loop {
            let client = |http2: bool| Client::builder(TokioExecutor::new()).http2_only(http2).build_http();
            let (name, grpc) = (question.model, site.address(question.model, true).await);
            let http = (client(false), site.address(name, false).await);
            let own = Self { question: question.clone(), http, grpc: (client(true), grpc) };
            let named = |answer: Result<String, String>| answer.is_ok_and(|revision| !revision.is_empty());
            if named(own.ask(false).await) && named(own.ask(true).await) {
                return own;
            }
        }
    }

    async fn ask(&self, grpc: bool) -> Result<String, String> {
        match grpc {
            true => ask_grpc(&self.grpc.0, &self.grpc.1, &self.question).await,
            false => ask_http(&self.http.0, &self.http.1, &self.question).await,
        }
    }
}

/// Requests by the clock: none waits for another's answer.
struct Trace {
    counted: watch::Sender<Counted>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Trace {
    fn start(callers: &Callers, per_second: u32) -> Self {
        let (counted, (stop, mut stopped)) = (watch::Sender::new(Counted::default()), oneshot::channel());
        let (callers, noted) = (callers.clone(), counted.clone());
        let running = tokio::spawn(async move {
            let (mut due, mut under_way) = (tokio::time::interval(Duration::from_secs(1) / per_second), JoinSet::new());
            for number in 0_u64.. {
                tokio::select! {
                    _ = due.tick() => {}
                    _ = &mut stopped => break,
                }
                let (callers, noted, grpc) = (callers.clone(), noted.clone(), number % 2 == 0);
                under_way.spawn(async move {
                    note(&noted, if grpc { "grpc" } else { "http" }, callers.ask(grpc).await);
                });
            }
            while under_way.join_next().await.is_some() {}
        });
        Self { counted, stop, running }
    }

    /// Until so many have been answered.
    async fn answered(&self, wanted: u64) {
        let mut changes = self.counted.subscribe();
        let enough = changes.wait_for(|now| now.all() + now.failed >= wanted);
        tokio::time::timeout(super::PATIENCE, enough).await.expect("answers").unwrap();
    }

    /// Sends no more; gives what became of all.
    async fn stop(self) -> Counted {
        self.stop.send(()).unwrap();
        self.running.await.unwrap();
        self.counted.borrow().clone()
    }
}

fn key(kind: &str, name: &str) -> Key {
    (kind.into(), NAMESPACE.into(), name.into())
}

fn replicas(store: &Store, revision: &str) -> Option<i64> {
    tree::number(store.get(&key("Deployment", revision))?, &["spec", "replicas"])
}

fn ready(store: &Store, revision: &str) -> i64 {
    let deployment = store.get(&key("Deployment", revision));
    deployment.and_then(|own| tree::number(own, &["status", "availableReplicas"])).unwrap_or(0)
}

async fn until_ready(cluster: &Cluster, revision: &str, wanted: i64) {
    let is_so = |store: &Store| (ready(store, revision) == wanted).then_some(());
    cluster.server.wait(&format!("{wanted} pods of {revision}"), is_so).await;
}

/// Until a revision has no pods, and its Service refuses connections: a pod of a cluster serves on as long as anybody is led to it, but
/// these Services lead nowhere at once.
async fn until_asleep(cluster: &Cluster, revision: &str) {
    let asleep = |store: &Store| (replicas(store, revision) == Some(0) && ready(store, revision) == 0).then_some(());
    cluster.server.wait(&format!("{revision} to sleep"), asleep).await;
    let address = cluster.proxies.find(revision, 80).unwrap();
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

/// A service that may have from none to four pods, by what its servers learn.
fn scaled(name: &str, place: &str) -> Value {
    let annotations = json!({"serving.kserve.io/autoscalerClass": "tensorgate", "tensorgate.dev/idle-seconds": "2"});
    let uri = format!("pvc://models/{place}");
    inference_service(name, &uri, json!({"minReplicas": 0, "maxReplicas": 4}), annotations)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pod_becomes_four_then_none_then_one_and_no_request_that_comes_by_the_clock_fails() {
    let cluster = Cluster::start().await;
    // A pod serves 25 requests a second, and the objective leaves time for the others to start.
    cluster.add_model("echo/slow", "execute_time = \"40ms\"\ninstances = 1\nslo = \"10s\"");
    let (_controller, site) = (cluster.controller().await, cluster.site().await);
    site.apply(&scaled("echo", "echo/slow")).await;
    until_routed(&site, "echo").await;
    let revision = revision_of("echo", 1);
    let callers = Callers::in_front(&site, echo()).await;
    until_ready(&cluster, &revision, 1).await;

    let trace = Trace::start(&callers, 70);
    until_ready(&cluster, &revision, 4).await;
    let learned = |store: &Store| {
        let own = store.get(&key("Deployment", &revision))?;
        tree::annotation(own, "tensorgate.dev/capacity")?.parse::<f64>().ok()
    };
    let learned = cluster.server.wait("what a pod was learned to serve", learned).await;
    assert!(learned > 1.0 && learned <= 25.0, "{learned} a second, of at most 25");
    let before = trace.counted.borrow().all();
    trace.answered(before + 200).await;
    let counted = trace.stop().await;
    assert_eq!((counted.failed, &counted.failures), (0, &Vec::new()));

    until_asleep(&cluster, &revision).await;
    let trace = Trace::start(&callers, 2);
    trace.answered(4).await;
    let woken = trace.stop().await;
    assert_eq!((woken.failed, &woken.failures), (0, &Vec::new()));
    let events = site.events().await;
    for (reason, told) in [("ScaledUp", "to 4 replicas"), ("Asleep", &revision), ("Woken", "it is to have 1 pods")] {
        let is_so = |own: &String| own.starts_with(reason) && own.contains(told);
        assert!(events.iter().any(is_so), "{reason}: {events:#?}");
    }
}

/// What one cold start took: from the first request to the order for a pod, from there until it was ready, and from there to the
/// first answer.
#[derive(Debug, Clone, Copy)]
struct Woken {
    ordered: Duration,
    started: Duration,
    answered: Duration,
}

/// Wakes a service that sleeps; every request has to be answered well.
async fn wake(cluster: &Cluster, callers: &Callers, revision: &str) -> Woken {
    let asked = Instant::now();
    let mut under_way = JoinSet::new();
    for number in 0..CALLERS {
        let callers = callers.clone();
        under_way.spawn(async move { callers.ask(number % 2 == 0).await });
    }
    let answered = async {
        let mut first = None;
        while let Some(answer) = under_way.join_next().await {
            assert_eq!(answer.unwrap().as_deref(), Ok(revision));
            first.get_or_insert_with(Instant::now);
        }
        first.unwrap()
    };
    let is_ordered = |store: &Store| replicas(store, revision).filter(|own| *own > 0).map(|_| Instant::now());
    let is_ready = |store: &Store| (ready(store, revision) > 0).then(Instant::now);
    let (what, then) = (format!("{revision} to be woken"), format!("{revision} to be ready"));
    let (answered, ordered, ready) =
        tokio::join!(answered, cluster.server.wait(&what, is_ordered), cluster.server.wait(&then, is_ready));
    Woken { ordered: ordered - asked, started: ready - ordered, answered: answered.saturating_duration_since(ready) }
}

async fn sleep_and_wake(cluster: &Cluster, site: &Site, name: &'static str, cycles: usize) -> Vec<Woken> {
    site.apply(&scaled(name, "echo/quick")).await;
    until_routed(site, name).await;
    let callers = Callers::in_front(site, Question { model: name, ..echo() }).await;
    let (revision, mut all) = (revision_of(name, 1), Vec::new());
    for _ in 0..cycles {
        until_asleep(cluster, &revision).await;
        all.push(wake(cluster, &callers, &revision).await);
    }
    all
}

/// The middle and the largest of what is told of each.
fn shown(all: &[Woken], of: impl Fn(&Woken) -> Duration) -> String {
    let mut sorted: Vec<Duration> = all.iter().map(of).collect();
    sorted.sort_unstable();
    format!("{:?} (at most {:?})", sorted[sorted.len() / 2], sorted[sorted.len() - 1])
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_in_any_of_many_cold_starts() {
    let cycles = std::env::var("SCALE_CYCLES").map_or(2, |own| own.parse().unwrap());
    let cluster = Cluster::start().await;
    cluster.add_model("echo/quick", "execute_time = \"1ms\"");
    let (_controller, site) = (cluster.controller().await, cluster.site().await);
    let services = SLEEPERS.iter().map(|name| sleep_and_wake(&cluster, &site, name, cycles));
    let all = futures_util::future::join_all(services).await.concat();
    assert_eq!(all.len(), SLEEPERS.len() * cycles);
    eprintln!(
        "{} cold starts: {} to the order, {} until a pod was ready, {} from there to the first answer",
        all.len(),
        shown(&all, |own| own.ordered),
        shown(&all, |own| own.started),
        shown(&all, |own| own.answered)
    );
}
