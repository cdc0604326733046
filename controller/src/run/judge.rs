//! Has guarded rollouts judged: reads what the pods of both revisions have counted, and has a service looked at when that says
//! something new.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::demand::ROUTERS;
use super::index::Index;
use super::queue::{Key, Queue};
use crate::api::status::RolloutStatus;
use crate::api::{CONTAINER, keys};
use crate::rollout::analysis::Reading;
use crate::rollout::{Analysis, Compared, Finding, Guard, Outcome, ShadowAnalysis, Tally, shadow};
use crate::scrape::Scraper;
use crate::tree;

/// How often rollouts are judged. Services without one cost nothing.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often the status of a rollout that is held says what it is held for: each time is two requests to the API server.
const TOLD_EVERY: Duration = Duration::from_secs(15);
/// Pods of a revision that are read: as many as answer within a second, and far more than it takes to judge.
const PODS_MAX: usize = 64;
/// Pages that are read at a time.
const READ_AT_ONCE: usize = 32;

/// What was found of the rollouts that are under way.
#[derive(Debug, Default)]
pub struct Judge {
    scraper: Scraper,
    services: Mutex<BTreeMap<Key, Judged>>,
}

#[derive(Debug)]
struct Judged {
    analysis: Test,
    /// What plans are made with, and since when.
    told: Option<(Finding, Instant)>,
}

/// What a step is judged by.
#[derive(Debug)]
enum Test {
    /// What both revisions' pods have counted.
    Step(Box<Analysis>),
    /// What the routers have found of answers that nobody got.
    Shadow(Box<ShadowAnalysis>),
}

impl Test {
    /// Of the step that a job is about.
    fn new(job: &Job) -> Self {
        let (guard, revision) = (&job.guard, &job.rollout.revision);
        match guard.shadow.filter(|_| job.rollout.step == 0) {
            Some(shadow) => Self::Shadow(Box::new(ShadowAnalysis::new(guard, shadow, revision))),
            None => Self::Step(Box::new(Analysis::new(guard, revision, job.step(), job.at_random))),
        }
    }

    fn is_of(&self, job: &Job) -> bool {
        match self {
            Self::Step(own) => own.is_of(&job.guard, &job.rollout.revision, job.step(), job.at_random),
            Self::Shadow(own) => job.rollout.step == 0 && own.is_of(&job.guard, &job.rollout.revision),
        }
    }

    fn finding(&self) -> Finding {
        match self {
            Self::Step(own) => own.finding(),
            Self::Shadow(own) => own.finding(),
        }
    }
}

/// A page of metrics, by its pod's uid.
type Pages = BTreeMap<String, Result<String, String>>;

/// A rollout that is under way, and where its pods are.
struct Job {
    key: Key,
    rollout: RolloutStatus,
    guard: Guard,
    at_random: bool,
    canary: Vec<Target>,
    stable: Vec<Target>,
    /// At the shadow step, in place of these.
    routers: Vec<Target>,
}

impl Job {
    fn step(&self) -> usize {
        usize::try_from(self.rollout.step).unwrap_or(1)
    }
}

#[derive(Debug, Clone)]
struct Target {
    uid: String,
    address: String,
    path: String,
}

impl Judge {
    /// What was found of a service's rollout.
    pub fn finding(&self, key: &Key) -> Option<Finding> {
        self.lock().get(key).and_then(|judged| judged.told.as_ref()).map(|(finding, _)| finding.clone())
    }

    /// Judges all rollouts of `index` for ever.
    pub async fn keep(&self, index: &Index, queue: &Queue) {
        let mut look = tokio::time::interval(INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let jobs: Vec<Job> = index.services().iter().filter_map(|service| job(service, index)).collect();
            self.lock().retain(|key, _| jobs.iter().any(|job| job.key == *key));
            let mut pages = self.read(&jobs).await;
            for job in jobs {
                if self.observe(&job, &mut pages, Instant::now()) {
                    queue.touch(job.key);
                }
            }
        }
    }

    /// The pages of all pods, by uid.
    async fn read(&self, jobs: &[Job]) -> Pages {
        let of = |job: &Job| {
            let servers = job.canary.iter().chain(&job.stable).filter(|_| job.rollout.step > 0);
            servers.chain(&job.routers).cloned().collect::<Vec<_>>()
        };
        let mut targets: Vec<Target> = jobs.iter().flat_map(of).collect();
        let (mut running, mut pages) = (JoinSet::new(), BTreeMap::new());
        loop {
            while running.len() < READ_AT_ONCE
                && let Some(target) = targets.pop()
            {
                let scraper = self.scraper.clone();
                running.spawn(async move { (target.uid, scraper.page(&target.address, &target.path).await) });
            }
            match running.join_next().await {
                Some(Ok((uid, page))) => drop(pages.insert(uid, page)),
                Some(Err(_)) => {}
                None => return pages,
            }
        }
    }

    /// Takes in what was read; gives whether that says something new.
    fn observe(&self, job: &Job, pages: &mut Pages, now: Instant) -> bool {
        let new = || Judged { analysis: Test::new(job), told: None };
        let mut services = self.lock();
        let judged = services.entry(job.key.clone()).or_insert_with(new);
        if !judged.analysis.is_of(job) {
            *judged = new();
        }
        match &mut judged.analysis {
            Test::Step(analysis) => {
                let canary = reading(&job.canary, pages, &job.rollout.revision);
                analysis.observe(canary, reading(&job.stable, pages, &job.rollout.stable));
            }
            Test::Shadow(analysis) => analysis.observe(compared(job, pages)),
        }
        let finding = judged.analysis.finding();
        let fresh = match &judged.told {
            None => true,
            Some((told, _)) if told.outcome != finding.outcome => true,
            Some((told, since)) => {
                told.outcome == Outcome::Hold && told.reason != finding.reason && now - *since >= TOLD_EVERY
            }
        };
        if fresh {
            judged.told = Some((finding, now));
        }
        fresh
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Judged>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rollout of a service, where one is under way.
fn job(service: &Value, index: &Index) -> Option<Job> {
    let written = tree::at(service, &["status", "components", "predictor", "rollout"]);
    if tree::text(written, &["phase"]) != Some(RolloutStatus::RUNNING) {
        return None;
    }
    let rollout: RolloutStatus = serde_json::from_value(written.clone()).ok()?;
    let guard = Guard::parse(tree::annotation(service, keys::ROLLOUT)?).ok().flatten()?;
    let key =
        (tree::text(service, &["metadata", "namespace"]).unwrap_or("").to_owned(), tree::name(service).to_owned());
    let pods = index.around(&key).pods;
    let of = |revision: &str| {
        let own = pods.iter().filter(|pod| tree::label(pod, keys::REVISION) == Some(revision));
        own.filter_map(|pod| target(pod)).take(PODS_MAX).collect()
    };
    let routers = if rollout.step == 0 && guard.shadow.is_some() {
        let own = |pod: &&std::sync::Arc<Value>| {
            tree::text(pod, &["metadata", "namespace"]) == Some(&key.0)
                && tree::label(pod, keys::SERVICE) == Some(&key.1)
                && tree::label(pod, keys::COMPONENT) == Some("predictor-router")
        };
        index.all(ROUTERS).iter().filter(own).filter_map(|pod| router(pod)).take(PODS_MAX).collect()
    } else {
        Vec::new()
    };
    Some(Job {
        routers,
        canary: of(&rollout.revision),
        stable: of(&rollout.stable),
        at_random: tree::annotation(service, keys::STICKY_HEADER).is_none(),
        key,
        rollout,
        guard,
    })
}

/// Where a pod that takes requests tells its metrics: as KServe's annotations say, else at its first port.
fn target(pod: &Value) -> Option<Target> {
    let host = host(pod)?;
    let containers = tree::list(pod, &["spec", "containers"]);
    let server = containers.iter().find(|own| own["name"] == CONTAINER).or(containers.first());
    let first = server.and_then(|own| tree::number(tree::list(own, &["ports"]).first()?, &["containerPort"]));
    let stated = tree::annotation(pod, "prometheus.kserve.io/port").and_then(|port| port.parse::<u16>().ok());
    let port = stated.map_or_else(|| first.unwrap_or(8080), i64::from);
    Some(Target {
        uid: tree::text(pod, &["metadata", "uid"])?.to_owned(),
        address: format!("{host}:{port}"),
        path: tree::annotation(pod, "prometheus.kserve.io/path").unwrap_or("/metrics").to_owned(),
    })
}

/// Where a router tells its metrics: at the port that is named `admin`.
fn router(pod: &Value) -> Option<Target> {
    let host = host(pod)?;
    let ports = tree::list(pod, &["spec", "containers"]).iter().flat_map(|own| tree::list(own, &["ports"]));
    let port = ports.into_iter().find(|port| port["name"] == "admin")?;
    Some(Target {
        uid: tree::text(pod, &["metadata", "uid"])?.to_owned(),
        address: format!("{host}:{}", tree::number(port, &["containerPort"])?),
        path: "/metrics".to_owned(),
    })
}

/// The address of a pod that takes requests.
fn host(pod: &Value) -> Option<String> {
    let conditions = tree::list(pod, &["status", "conditions"]);
    let ready = conditions.iter().any(|own| own["type"] == "Ready" && own["status"] == "True");
    if !ready || pod["metadata"].get("deletionTimestamp").is_some() {
        return None;
    }
    let ip = tree::text(pod, &["status", "podIP"])?;
    Some(if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() })
}

/// What a revision's pods have counted; a pod that cannot be read is left out while others can.
fn reading(targets: &[Target], pages: &mut Pages, revision: &str) -> Reading {
    let none = format!("no pod of revision {revision} is ready");
    parsed(targets, pages, none, &format!("the metrics of revision {revision}"), Tally::parse)
}

/// What the routers have found of the new revision's answers.
fn compared(job: &Job, pages: &mut Pages) -> shadow::Reading {
    let revision = &job.rollout.revision;
    let none = "no router is ready, which would compare answers".to_owned();
    parsed(&job.routers, pages, none, "the metrics of the routers", |page| Compared::parse(page, revision))
}

fn parsed<T>(
    targets: &[Target],
    pages: &mut Pages,
    mut failure: String,
    what: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<BTreeMap<String, T>, String> {
    let mut all = BTreeMap::new();
    for target in targets {
        let Some(page) = pages.remove(&target.uid) else { continue };
        let none = || format!("http://{}{}: these are no metrics of Tensorgate", target.address, target.path);
        match page.and_then(|page| parse(&page).ok_or_else(none)) {
            Ok(own) => drop(all.insert(target.uid.clone(), own)),
            Err(cause) => failure = format!("{what} cannot be read: {cause}"),
        }
    }
    if all.is_empty() { Err(failure) } else { Ok(all) }
}
