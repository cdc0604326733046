//! Has guarded rollouts judged: reads what the pods of both revisions have counted, and has a service looked at when that says
//! something new.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::index::Index;
use super::pods;
use super::queue::{Key, Queue};
use crate::api::keys;
use crate::api::status::RolloutStatus;
use crate::rollout::analysis::Reading;
use crate::rollout::{Analysis, Finding, Guard, Outcome, Tally};
use crate::scrape::{Scraper, Target};
use crate::tree;

/// How often rollouts are judged. Services without one cost nothing.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often the status of a rollout that is held says what it is held for: each time is two requests to the API server.
const TOLD_EVERY: Duration = Duration::from_secs(15);
/// Pods of a revision that are read: as many as answer within a second, and far more than it takes to judge.
const PODS_MAX: usize = 64;

/// What was found of the rollouts that are under way.
#[derive(Debug, Default)]
pub struct Judge {
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

impl Judge {
    /// What was found of a service's rollout.
    pub fn finding(&self, key: &Key) -> Option<Finding> {
        self.lock().get(key).and_then(|judged| judged.told.as_ref()).map(|(finding, _)| finding.clone())
    }

    /// Judges all rollouts of `index` for ever.
    pub async fn keep(&self, scraper: &Scraper, index: &Index, queue: &Queue) {
        let mut look = tokio::time::interval(INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let jobs: Vec<Job> = index.services().iter().filter_map(|service| job(service, index)).collect();
            self.lock().retain(|key, _| jobs.iter().any(|job| job.key == *key));
            let targets = jobs.iter().flat_map(|job| job.canary.iter().chain(&job.stable)).cloned().collect();
            let mut pages = scraper.read_all(targets, tally).await;
            for job in jobs {
                let canary = reading(&job.canary, &mut pages, &job.rollout.revision);
                let stable = reading(&job.stable, &mut pages, &job.rollout.stable);
                if self.observe(&job, canary, stable, Instant::now()) {
                    queue.touch(job.key);
                }
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
    let all = index.around(&key).pods;
    let of = |revision: &str| {
        let own = all.iter().filter(|pod| tree::label(pod, keys::REVISION) == Some(revision));
        own.filter(|pod| pods::is_ready(pod)).filter_map(|pod| pods::target(pod)).take(PODS_MAX).collect()
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

fn tally(page: &str) -> Result<Tally, String> {
    Tally::parse(page).ok_or_else(|| "these are no metrics of Tensorgate".to_owned())
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
