//! How many pods each revision of a component has, and the Deployment that says so.

use serde_json::{Value, json};

use super::{Scene, Track};
use crate::api::keys;
use crate::plan::learned::{self, Learned};
use crate::plan::revision::{self, Revision};
use crate::plan::scale::{self, Scaler};
use crate::plan::traffic::Split;
use crate::plan::zero::{self, Calls, Sleeper, Wish};
use crate::plan::{health, keda, routing};
use crate::tree;

impl Scene<'_> {
    /// The replicas of a revision that may have none, and the seconds after which to look again.
    pub(super) fn asleep_or_awake(&self, revision: &str) -> Option<(i64, Option<u64>)> {
        // A shadow has to be there, though nobody asks for it.
        if !self.bounds.zero || self.is_shadow(revision) {
            return None;
        }
        let calls = self.cx.demand.map(|demand| {
            let own = demand.revisions.get(revision).cloned().unwrap_or_default();
            let known = demand.revisions.contains_key(revision);
            let idle_seconds = if known { own.idle_seconds } else { demand.up_seconds };
            Calls { waiting: own.waiting, running: own.running, idle_seconds }
        });
        let found = health::health(self.cx, revision, 0);
        let sleeper = Sleeper {
            replicas: found.exists.then_some(found.replicas),
            proven: self.is_proven(revision),
            held: routing::is_up(self.cx, self.kind),
            demand: calls,
        };
        let stated = tree::annotation(self.cx.service, keys::IDLE_SECONDS).and_then(|own| own.parse().ok());
        let of_target = self.view.scale_target.filter(|_| self.view.scale_metric.as_deref() == Some("concurrency"));
        let wish = Wish {
            min: self.bounds.min,
            max: self.bounds.max,
            concurrency: of_target.map(i64::from),
            capacity: self.capacity(revision),
            limit: self.view.container_concurrency,
            idle_seconds: stated.unwrap_or(zero::IDLE_SECONDS),
        };
        Some(zero::replicas(&sleeper, &wish))
    }

    /// Rows per second that one replica of a revision serves, where our own autoscaler knows: by what its servers tell, or told when
    /// there were some.
    fn capacity(&self, revision: &str) -> Option<f64> {
        if self.bounds.scaler != Scaler::Learned {
            return None;
        }
        let told = self.learned(revision).filter(|own| own.sure).map(|own| own.each);
        let is_own = |child: &&&Value| child["kind"] == "Deployment" && tree::name(child) == revision;
        let kept = || tree::annotation(self.cx.children.iter().find(is_own)?, keys::CAPACITY)?.parse().ok();
        told.or_else(kept).filter(|each| *each > 0.0)
    }

    /// What is known of a revision that our own autoscaler scales.
    fn learned(&self, revision: &str) -> Option<&Learned> {
        self.cx.learned.filter(|_| self.bounds.scaler == Scaler::Learned)?.get(revision)
    }

    /// Rows per second that arrive at all revisions.
    fn arriving(&self) -> f64 {
        self.kept.iter().filter_map(|own| self.learned(&own.name)).map(|own| own.arriving).sum()
    }

    /// Per cent that a revision is to get.
    fn goal(&self, revision: &str) -> i32 {
        if revision == self.latest.name {
            return self.percent.unwrap_or(100);
        }
        self.tracks.iter().find(|track| track.revision.name == revision).map_or(0, |track| track.percent)
    }

    /// The most per cent that the pods of a canary can serve, where that is less than it is to get.
    pub(super) fn most(&self, revision: &str) -> Option<i32> {
        let own = self.learned(revision)?;
        let (goal, share) = (self.goal(revision), self.share_before(revision));
        learned::most(own, self.health(revision).pods, self.arriving(), goal, share)
    }

    /// Why a canary gets less than it is to get, for a person.
    pub(super) fn shortage(&self, revision: &str, share: i32) -> Option<String> {
        let (goal, health) = (self.goal(revision), self.health(revision));
        // With less than that it waits for something else.
        self.most(revision).filter(|most| goal < 100 && share == *most && health.available)?;
        let (pods, each) = (health.pods, self.learned(revision)?.each);
        let arriving = self.arriving();
        Some(format!(
            "revision {revision} gets {share} % in place of {goal} %: {arriving:.1} rows/s arrive, and of {pods} ready pods each \
             serves {each:.1}"
        ))
    }

    /// The replicas that a revision needs before it gets the share that it is to get.
    pub(super) fn needed(&self, revision: &str) -> i64 {
        let goal = self.goal(revision);
        let is_canary = self.tracks.iter().any(|track| track.revision.name == revision);
        if (revision != self.latest.name && !is_canary) || self.share_before(revision) >= goal {
            return 1;
        }
        if self.bounds.scaler == Scaler::Fixed {
            return self.bounds.min;
        }
        let known = self.learned(revision).and_then(|own| learned::replicas(own, self.arriving(), goal));
        if let Some(known) = known {
            return known.clamp(self.bounds.min, self.bounds.max);
        }
        // What the one that has rolled out has for its share, carried over to the other's.
        let rolled = &self.old.latest_rolledout_revision;
        let share = i64::from(self.share_before(rolled));
        if rolled == revision || share == 0 || is_canary {
            return self.bounds.min;
        }
        let carried = (self.health(rolled).replicas * i64::from(goal) + share - 1) / share;
        carried.clamp(self.bounds.min, self.bounds.max)
    }

    /// The replicas of a canary, if the revision is one and not also the stable one.
    pub(super) fn canary_replicas(&self, revision: &str, split: &Split) -> Option<i64> {
        if revision == self.latest.name || split.rolled_out.as_deref() == Some(revision) {
            return None;
        }
        let track = self.tracks.iter().find(|track| track.revision.name == revision)?;
        Some(track.replicas.unwrap_or_else(|| scale::canary_replicas(self.bounds.min, track.percent)).max(1))
    }

    /// The fewest replicas of the stable revision: canaries that serve stand in for as many.
    pub(super) fn stable_min(&self, split: &Split) -> i64 {
        let serves =
            |track: &&Track| split.share(&track.revision.name) > 0 && self.health(&track.revision.name).available;
        let ready = self.tracks.iter().filter(serves);
        let stand_in: i64 = ready.filter_map(|track| self.canary_replicas(&track.revision.name, split)).sum();
        (self.bounds.min - stand_in).max(1)
    }

    /// The Deployment of a revision, and its autoscaler.
    pub(super) fn deployment(&self, own: &Revision, split: &Split, awake: Option<i64>) -> Vec<Value> {
        let strategy = self.view.deployment_strategy.as_ref().map(|own| Value::Object(own.fields.clone()));
        let mut deployment = render_deployment(own, strategy.unwrap_or_default());
        let canary = self.canary_replicas(&own.name, split);
        if let Some(replicas) = canary.filter(|_| self.bounds.scaler != Scaler::Learned) {
            deployment["spec"]["replicas"] = json!(if awake == Some(0) { 0 } else { replicas });
            return vec![deployment];
        }
        let stable_min = self.stable_min(split);
        // The step from none, and to it, is ours, and as long as no pod takes requests so is what those who wait wake.
        let now = health::health(self.cx, &own.name, 0);
        let step = awake.filter(|own| *own == 0 || now.replicas == 0 || (now.pods == 0 && *own > now.replicas));
        // One that is about to get more is first made as large as that takes.
        let min = canary.unwrap_or(stable_min).max(self.needed(&own.name));
        match self.bounds.scaler {
            Scaler::External => vec![deployment],
            Scaler::Fixed => {
                deployment["spec"]["replicas"] = json!(awake.unwrap_or(stable_min));
                vec![deployment]
            }
            Scaler::Learned => {
                if let Some(replicas) = step {
                    deployment["spec"]["replicas"] = json!(replicas);
                }
                // Nobody scales one that sleeps.
                if awake != Some(0) {
                    let orders = scale::orders(&self.view, min, self.bounds.max);
                    let orders = serde_json::to_string(&orders).unwrap_or_default();
                    deployment["metadata"]["annotations"] = json!({keys::SCALE: orders});
                }
                vec![deployment]
            }
            Scaler::Horizontal => {
                if let Some(replicas) = step {
                    deployment["spec"]["replicas"] = json!(replicas);
                }
                let autoscaler = scale::autoscaler(self.cx.service, &self.view, &own.name, min, self.bounds.max);
                vec![deployment, autoscaler]
            }
            Scaler::Keda => {
                if let Some(replicas) = step {
                    deployment["spec"]["replicas"] = json!(replicas);
                }
                // It would wake one that sleeps.
                if awake == Some(0) {
                    return vec![deployment];
                }
                let namespace = tree::text(self.cx.service, &["metadata", "namespace"]).unwrap_or("");
                vec![deployment, keda::scaled_object(&self.view, namespace, &own.name, min, self.bounds.max)]
            }
        }
    }
}

/// The Deployment of a revision, without its replicas.
pub fn render_deployment(own: &Revision, strategy: Value) -> Value {
    let mut deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": own.name, "labels": {keys::REVISION: own.name}},
        "spec": {
            "selector": {"matchLabels": {keys::APP: revision::app(&own.name)}},
            // History is in the ControllerRevisions; a Deployment's own ReplicaSets would never be gone back to.
            "revisionHistoryLimit": 0,
            "template": own.template,
        },
    });
    if strategy.is_object() {
        deployment["spec"]["strategy"] = strategy;
    }
    deployment
}
