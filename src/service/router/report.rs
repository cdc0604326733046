//! What is told of a model's traffic: to whoever asks, and in metrics.

use std::sync::Arc;

use super::Router;
use super::canary::{Condition, Phase, Rollout};
use super::mirror::Compared;
use super::table::Split;
use crate::error::Result;
use crate::model::traffic::TrafficSettings;
use crate::model::{ModelState, Version};
use crate::telemetry::{CanaryTold, ComparedTold, TrafficTold};

/// Where a model's traffic comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nothing was stated: the newest version that is ready answers.
    Newest,
    /// Its settings.
    Settings,
    /// A caller.
    Set,
}

/// The traffic of one model.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where it comes from.
    pub source: Source,
    /// What was asked for.
    pub settings: Arc<TrafficSettings>,
    /// Every version, ascending.
    pub versions: Vec<VersionReport>,
    /// What the shadow has shown.
    pub shadow: Option<MirrorReport>,
    /// Where the canary is.
    pub canary: Option<CanaryReport>,
}

/// One version.
#[derive(Clone, Debug)]
pub struct VersionReport {
    /// Which one.
    pub version: Version,
    /// What it is doing.
    pub state: ModelState,
    /// The weight that it has now.
    pub weight: f64,
    /// The share of the requests that name no version which it gets, as long as the same versions are ready: what is not ready
    /// gets none, and its weight goes to the others.
    pub share: f64,
}

/// A version whose answers are compared.
#[derive(Clone, Debug)]
pub struct MirrorReport {
    /// Which one.
    pub version: Version,
    /// The share of the requests that it is asked too.
    pub share: f64,
    /// What was learned.
    pub compared: Compared,
}

/// A guarded canary.
#[derive(Clone, Debug)]
pub struct CanaryReport {
    /// The canary.
    pub version: Version,
    /// The version that it takes over from.
    pub stable: Version,
    /// Where it is.
    pub phase: Phase,
    /// The percentage of the requests that it gets.
    pub percent: f64,
    /// The percentages of its steps.
    pub steps: Vec<f64>,
    /// Why it is where it is.
    pub reason: String,
    /// How each condition stands.
    pub conditions: Vec<Condition>,
    /// What was compared, where answers are.
    pub compared: Option<Compared>,
}

impl CanaryReport {
    fn of(rollout: &Rollout, compared: Option<Compared>) -> Self {
        Self {
            version: rollout.settings().version,
            stable: rollout.stable(),
            phase: rollout.phase(),
            percent: rollout.percent(),
            steps: rollout.settings().steps.clone(),
            reason: rollout.reason().to_owned(),
            conditions: rollout.conditions(),
            compared,
        }
    }
}

impl Router {
    /// What there is to tell of the traffic of the model called `name`.
    ///
    /// # Errors
    /// `UnknownModel`.
    pub fn report(&self, name: &str) -> Result<Report> {
        let known = self.repository.versions(name)?;
        let split = match self.repository.resolve(name, None) {
            Ok(newest) => self.split(name, &newest),
            // What was set holds also while nothing is ready.
            Err(_) => self.splits.get(name).map(|split| Arc::clone(&split)),
        };
        let ready = self.repository.ready_versions(name);
        let shares = shares(split.as_deref(), &ready);
        let of = |shares: &[(Version, f64)], version| {
            shares.iter().find(|(known, _)| *known == version).map_or(0.0, |(_, share)| *share)
        };
        let weights = split.as_ref().map(|split| split.shares().clone()).unwrap_or_default();
        let versions = known.into_iter().filter_map(|status| {
            let version = status.version?;
            let (weight, share) = (of(&weights, version), of(&shares, version));
            Some(VersionReport { version, state: status.state, weight, share })
        });
        let shadow = split.as_ref().and_then(|split| split.shadow_compared());
        let canary = split.as_ref().and_then(|split| Some((split.rollout()?, split.canary_compared())));
        Ok(Report {
            source: match &split {
                None => Source::Newest,
                Some(split) if split.declared.is_some() => Source::Settings,
                Some(_) => Source::Set,
            },
            settings: split.map(|split| Arc::clone(&split.settings)).unwrap_or_default(),
            versions: versions.collect(),
            shadow: shadow.map(|(version, share, compared)| MirrorReport { version, share, compared }),
            canary: canary.map(|(rollout, compared)| CanaryReport::of(&rollout, compared)),
        })
    }

    /// What there is to tell in metrics, of models whose traffic is shared out; sorted by name.
    pub fn told(&self) -> Vec<TrafficTold> {
        let mut splits = self.splits();
        splits.sort_by(|(one, _), (other, _)| one.cmp(other));
        splits.iter().map(|(name, split)| self.told_of(name, split)).collect()
    }

    fn told_of(&self, name: &str, split: &Split) -> TrafficTold {
        let ready = self.repository.ready_versions(name);
        let canary = split.rollout().map(|rollout| CanaryTold {
            version: rollout.settings().version.to_string(),
            state: rollout.phase().name(),
            step: match rollout.phase() {
                Phase::Running(step) => step + 1,
                Phase::Promoted => rollout.settings().steps.len() + 1,
                Phase::RolledBack => 0,
            },
        });
        let shadow = split.shadow_compared().map(|(version, _, compared)| compared_told(version, &compared));
        let compared = split.rollout().zip(split.canary_compared());
        let compared = compared.map(|(rollout, compared)| compared_told(rollout.settings().version, &compared));
        TrafficTold {
            model: name.to_owned(),
            shares: shares(Some(split), &ready).iter().map(|(version, share)| (version.to_string(), *share)).collect(),
            compared: shadow.into_iter().chain(compared).collect(),
            canary,
        }
    }
}

fn compared_told(version: Version, compared: &Compared) -> ComparedTold {
    ComparedTold {
        version: version.to_string(),
        outcomes: [
            ("agreed", compared.agreed),
            ("disagreed", compared.disagreed),
            ("not_run", compared.not_run),
            ("dropped", compared.dropped),
        ],
        difference: compared.absolute,
        argmax: (compared.same_argmax, compared.rows),
    }
}

/// The share of each of the `ready` versions, ascending.
fn shares(split: Option<&Split>, ready: &[Version]) -> Vec<(Version, f64)> {
    let (weights, dark) = split.map_or_else(Default::default, |split| (split.shares().clone(), split.dark()));
    let weight = |version: Version| weights.iter().find(|(known, _)| *known == version).map_or(0.0, |(_, w)| *w);
    let total: f64 = ready.iter().map(|version| weight(*version)).sum();
    let instead = ready.iter().rev().find(|version| !dark.contains(version));
    let share = |version: Version| match total > 0.0 {
        true => weight(version) / total,
        false => f64::from(u8::from(instead == Some(&version))),
    };
    ready.iter().map(|&version| (version, share(version))).collect()
}
