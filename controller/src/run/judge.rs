//! Has guarded rollouts judged: reads what the pods of both revisions have counted, and has a service looked at when that says
//! something new.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::index::Index;
use super::queue::{Key, Queue};
use crate::api::status::RolloutStatus;
use crate::api::{CONTAINER, keys};
use crate::rollout::analysis::Reading;
use crate::rollout::{Analysis, Finding, Guard, Outcome, Tally};
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
    analysis: Analysis,
    /// What plans are made with, and since when.
    told: Option<(Finding, Instant)>,
}

/// A rollout that is under way, and where its pods are.
struct Job {
    key: Key,
    rollout: RolloutStatus,
    guard: Guard,
    at_random: bool,
    canary: Vec<Target>,
    stable: Vec<Target>,
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
                let canary = reading(&job.canary, &mut pages, &job.rollout.revision);
                let stable = reading(&job.stable, &mut pages, &job.rollout.stable);
                if self.observe(&job, canary, stable, Instant::now()) {
                    queue.touch(job.key);
                }
            }
        }
    }

    /// The pages of all pods, by uid.
    async fn read(&self, jobs: &[Job]) -> BTreeMap<String, Result<Tally, String>> {
        let mut targets: Vec<Target> =
            jobs.iter().flat_map(|job| job.canary.iter().chain(&job.stable)).cloned().collect();
        let (mut running, mut pages) = (JoinSet::new(), BTreeMap::new());
        loop {
            while running.len() < READ_AT_ONCE
                && let Some(target) = targets.pop()
            {
                let scraper = self.scraper.clone();
                running.spawn(async move {
                    let page = scraper.page(&target.address, &target.path).await;
                    let none =
                        || format!("http://{}{}: these are no metrics of Tensorgate", target.address, target.path);
                    (target.uid, page.and_then(|page| Tally::parse(&page).ok_or_else(none)))
                });
            }
            match running.join_next().await {
                Some(Ok((uid, page))) => drop(pages.insert(uid, page)),
                Some(Err(_)) => {}
                None => return pages,
            }
        }
    }

    /// Takes in what was read; gives whether that says something new.
    fn observe(&self, job: &Job, canary: Reading, stable: Reading, now: Instant) -> bool {
        let step = usize::try_from(job.rollout.step).unwrap_or(1);
        let revision = &job.rollout.revision;
        let new = || Judged { analysis: Analysis::new(&job.guard, revision, step, job.at_random), told: None };
        let mut services = self.lock();
        let judged = services.entry(job.key.clone()).or_insert_with(new);
        if !judged.analysis.is_of(&job.guard, revision, step, job.at_random) {
            *judged = new();
        }
        judged.analysis.observe(canary, stable);
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
    Some(Job {
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
    let conditions = tree::list(pod, &["status", "conditions"]);
    let ready = conditions.iter().any(|own| own["type"] == "Ready" && own["status"] == "True");
    if !ready || pod["metadata"].get("deletionTimestamp").is_some() {
        return None;
    }
    let ip = tree::text(pod, &["status", "podIP"])?;
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
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

/// What a revision's pods have counted; a pod that cannot be read is left out while others can.
fn reading(targets: &[Target], pages: &mut BTreeMap<String, Result<Tally, String>>, revision: &str) -> Reading {
    let mut tallies = BTreeMap::new();
    let mut failure = format!("no pod of revision {revision} is ready");
    for target in targets {
        match pages.remove(&target.uid) {
            Some(Ok(tally)) => drop(tallies.insert(target.uid.clone(), tally)),
            Some(Err(cause)) => failure = format!("the metrics of revision {revision} cannot be read: {cause}"),
            None => {}
        }
    }
    if tallies.is_empty() { Err(failure) } else { Ok(tallies) }
}
