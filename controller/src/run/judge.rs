//! Has guarded rollouts judged: reads what the pods of both revisions have counted, and has a service looked at when that says
//! something new.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::demand::ROUTERS;
use super::index::Index;
use super::pods;
use super::queue::{Key, Queue};
use crate::api::keys;
use crate::api::status::RolloutStatus;
use crate::rollout::analysis::Reading;
use crate::rollout::{Analysis, Compared, Finding, Guard, Outcome, ShadowAnalysis, Tally, shadow};
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

    /// Whose pages it is judged by.
    fn targets(&self) -> impl Iterator<Item = &Target> {
        let servers = self.canary.iter().chain(&self.stable).filter(|_| self.rollout.step > 0);
        servers.chain(&self.routers)
    }
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
            let targets = jobs.iter().flat_map(Job::targets).cloned().collect();
            let mut pages = scraper.read_all(targets, |page| Ok(page.to_owned())).await;
            for job in jobs {
                if self.observe(&job, &mut pages, Instant::now()) {
                    queue.touch(job.key);
                }
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
    let all = index.around(&key).pods;
    let of = |revision: &str| {
        let own = all.iter().filter(|pod| tree::label(pod, keys::REVISION) == Some(revision));
        own.filter(|pod| pods::is_ready(pod)).filter_map(|pod| pods::target(pod)).take(PODS_MAX).collect()
    };
    let routers = if rollout.step == 0 && guard.shadow.is_some() {
        let own = |pod: &&std::sync::Arc<Value>| {
            tree::text(pod, &["metadata", "namespace"]) == Some(&key.0)
                && tree::label(pod, keys::SERVICE) == Some(&key.1)
                && tree::label(pod, keys::COMPONENT) == Some("predictor-router")
        };
        let own = index.all(ROUTERS).iter().filter(own).filter(|pod| pods::is_ready(pod)).cloned().collect::<Vec<_>>();
        own.iter().filter_map(|pod| pods::admin(pod)).take(PODS_MAX).collect()
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
