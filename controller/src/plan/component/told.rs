//! What a component's status says: who has which share, and why it does not serve as the spec asks.

use super::{NotReady, Scene, Track};
use crate::api::status::{CanaryStatus, ComponentStatus, ModelStatus, TrafficTarget};
use crate::plan::conditions::UNDER_PROVISIONED;
use crate::plan::guard;
use crate::plan::health::{self, Health};
use crate::plan::traffic::Split;

impl Scene<'_> {
    /// The canaries that get less than they are to get, since their pods could not serve it.
    pub(super) fn shortages(&self, split: &Split) -> Vec<String> {
        let canaries = self.tracks.iter().map(|track| &track.revision.name).filter(|name| **name != self.latest.name);
        let beside = (split.shares.len() > 1).then_some(&self.latest.name);
        beside.into_iter().chain(canaries).filter_map(|name| self.shortage(name, split.share(name))).collect()
    }

    pub(super) fn ready(&self, split: &Split, latest: &Health, model: &ModelStatus) -> Result<(), NotReady> {
        let without = split.shares.iter().find(|(name, share)| *share > 0 && !self.health(name).available);
        let is_shadow = self.is_shadow(&self.latest.name);
        let rolled_back = self.percent == Some(0) && split.share(&self.latest.name) == 0 && !is_shadow;
        let goal = self.percent.unwrap_or(100);
        let moved = split.rolled_out.as_ref() == Some(&self.latest.name) || split.share(&self.latest.name) >= goal;
        if without.is_none()
            && let Some(shortage) = self.shortage(&self.latest.name, split.share(&self.latest.name)).filter(|_| !moved)
        {
            return Err(NotReady { status: "Unknown", reason: UNDER_PROVISIONED, message: shortage });
        }
        if without.is_none() && latest.available && !moved {
            let needed = self.needed(&self.latest.name);
            let message = format!("{} of {needed} pods of revision {} are ready", latest.pods, self.latest.name);
            return Err(NotReady { status: "Unknown", reason: "TrafficHeld", message });
        }
        if without.is_none() && (latest.available || rolled_back) {
            return self.rollout.as_ref().and_then(guard::not_ready).map_or(Ok(()), Err);
        }
        if let Some(failure) = model.last_failure_info.as_ref().filter(|_| !latest.available) {
            let message = format!("revision {} failed: {}", self.latest.name, failure.message);
            return Err(NotReady { status: "False", reason: "RevisionFailed", message });
        }
        if !latest.available {
            let message = format!("waiting for revision {} to become ready", self.latest.name);
            return Err(NotReady { status: "Unknown", reason: "Deploying", message });
        }
        let name = without.map_or("", |(name, _)| name);
        Err(NotReady {
            status: "False",
            reason: "RevisionUnavailable",
            message: format!("no pod of revision {name} is ready"),
        })
    }

    pub(super) fn status(&self, split: &Split, latest: &Health) -> ComponentStatus {
        let latest_name = &self.latest.name;
        let still = |name: &str| self.kept.iter().any(|own| own.name == name);
        let target = |(name, percent): &(String, i32)| {
            let canary = self.tracks.iter().find(|track| track.revision.name == *name && name != latest_name);
            let beside = split.shares.len() > 1 && canary.is_none() && name != latest_name;
            TrafficTarget {
                revision_name: name.clone(),
                latest_revision: name == latest_name,
                percent: *percent,
                tag: canary
                    .map_or_else(|| if beside { "prev".into() } else { String::new() }, |track| track.name.clone()),
            }
        };
        ComponentStatus {
            latest_created_revision: latest_name.clone(),
            latest_ready_revision: if latest.available {
                latest_name.clone()
            } else {
                Some(self.old.latest_ready_revision.clone()).filter(|name| still(name)).unwrap_or_default()
            },
            latest_rolledout_revision: split.rolled_out.clone().unwrap_or_default(),
            previous_rolledout_revision: split.previous.clone().unwrap_or_default(),
            traffic: split.shares.iter().map(target).collect(),
            rollout: self.rollout.clone(),
            ..ComponentStatus::default()
        }
    }

    pub(super) fn canary_statuses(&self, split: &Split) -> Vec<CanaryStatus> {
        let status = |track: &Track| {
            let health = self.health(&track.revision.name);
            CanaryStatus {
                name: track.name.clone(),
                ready: health.available,
                traffic_percent: split.share(&track.revision.name),
                model_status: Some(health::model_status(self.cx, &track.revision.name, &health, health.available)),
            }
        };
        self.tracks.iter().map(status).collect()
    }
}
