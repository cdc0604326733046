//! One component: its revisions, who of them gets the traffic, and the children that make it so.

mod sizes;
mod told;
mod ways;

use serde::Deserialize;
use serde_json::Value;

pub use self::sizes::render_deployment;
use super::events::{self, Event};
use super::fault::Fault;
use super::health::{self, Health};
use super::network::{self, Backend};
use super::revision::{self, Revision};
use super::scale::{self, Bounds};
use super::traffic::{self, Candidate, Split, Wanted};
use super::{Context, guard, pod, retire, routing};
use crate::api::inference_service::Component;
use crate::api::status::{CanaryStatus, ComponentStatus, ModelStatus, RolloutStatus};
use crate::rollout::Shadow;
use crate::tree;

/// Revisions that are kept beyond those in use, so that an older manifest finds its own again: as many as somebody may remember.
const HISTORY: usize = 5;

/// A component's part of a plan.
pub struct Planned {
    /// Objects, without what all children have in common.
    pub children: Vec<Value>,
    /// Its part of the status.
    pub status: ComponentStatus,
    /// Who gets its requests.
    pub backends: Vec<Backend>,
    /// The port of its Service for gRPC, where it has one.
    pub grpc_port: Option<i64>,
    /// Whether it serves as the spec asks.
    pub ready: Result<(), NotReady>,
    /// A revision of it was ready once: there may be a route to it.
    pub has_served: bool,
    /// The model of the newest revision.
    pub model: ModelStatus,
    /// By canary.
    pub canaries: Vec<CanaryStatus>,
    /// The runtime and whether it is the cluster's.
    pub runtime: Option<(String, bool)>,
    /// Seconds after which something is to be done without any event.
    pub again_after: Option<i64>,
    /// Canaries that get less than they are to get, since their pods could not serve it.
    pub shortages: Vec<String>,
    /// What its status does not tell.
    pub events: Vec<Event>,
}

/// Why a component does not serve as the spec asks.
pub struct NotReady {
    /// `Unknown` on the way, `False` where it has failed.
    pub status: &'static str,
    /// One word.
    pub reason: &'static str,
    /// For the person who reads it.
    pub message: String,
}

/// A canary of the spec and its newest revision.
struct Track {
    name: String,
    percent: i32,
    replicas: Option<i64>,
    revision: Revision,
}

/// A component's revisions with what is known about them.
struct Scene<'a> {
    cx: &'a Context<'a>,
    kind: &'a str,
    view: Component,
    bounds: Bounds,
    kept: Vec<Revision>,
    latest: Revision,
    tracks: Vec<Track>,
    old: ComponentStatus,
    routed: bool,
    /// The guarded rollout of the newest revision.
    rollout: Option<RolloutStatus>,
    /// Per cent that the newest revision is to get.
    percent: Option<i32>,
    /// Seconds after which the rollout may go on.
    again_after: Option<i64>,
    /// Rollouts begin with a step in which answers are only compared, at the router.
    shadowed: bool,
    /// How they are, while that step lasts.
    shadow: Option<Shadow>,
}

/// Plans the component `kind`, written as `written`, with the canaries of the spec.
///
/// # Errors
/// If the spec contradicts itself or nothing can serve it; then nothing of the component should change.
pub fn plan(cx: &Context<'_>, kind: &str, written: &Value, canaries: &[Value]) -> Result<Planned, Fault> {
    let view = Component::deserialize(written).map_err(|error| Fault::invalid(format!("{kind}: {error}")))?;
    let mut bounds = scale::bounds(cx.service, &view, cx.settings.keda)?;
    // Without a router nothing would wake it: then 0 is taken as 1, as KServe's Standard mode does.
    bounds.zero &= cx.settings.router_image.is_some();
    let mut kept = revision::kept(cx.children, kind);
    let service = tree::name(cx.service);
    let stable = pod::build(cx, kind, written)?;
    let runtime = stable.runtime.as_ref().map(|chosen| (tree::name(chosen.object).to_owned(), chosen.cluster));
    let track = view.name.as_deref().filter(|name| !name.is_empty());
    let latest = revision::resolve(&mut kept, service, kind, track, &stable.inputs, stable.template);
    let mut tracks = Vec::new();
    for canary in canaries {
        tracks.push(canary_track(cx, kind, written, canary, &mut kept)?);
    }
    let old = cx.status.components.get(kind).cloned().unwrap_or_default();
    let shadowed = kind == "predictor" && guard::has_shadow(cx)?;
    let routed = routing::is_wanted(cx, bounds.zero, shadowed)?;
    let percent = view.canary_traffic_percent;
    let (rollout, again_after, shadow) = (None, None, None);
    let mut scene = Scene {
        cx,
        kind,
        view,
        bounds,
        kept,
        latest,
        tracks,
        old,
        routed,
        rollout,
        percent,
        again_after,
        shadowed,
        shadow,
    };
    if kind == "predictor" {
        scene.guard()?;
    }
    Ok(scene.plan(runtime))
}

/// A canary is the stable predictor with the canary's fields laid over it.
fn canary_track(
    cx: &Context<'_>,
    kind: &str,
    stable: &Value,
    canary: &Value,
    kept: &mut Vec<Revision>,
) -> Result<Track, Fault> {
    let over = pod::normalized(&canary["predictor"])?;
    let name = tree::text(&over, &["name"]).unwrap_or("").to_owned();
    let mut merged = pod::normalized(stable)?;
    tree::merge(&mut merged, &over);
    let built = pod::build(cx, kind, &merged)
        .map_err(|fault| Fault { message: format!("canary '{name}': {}", fault.message), ..fault })?;
    Ok(Track {
        percent: tree::number(canary, &["trafficPercent"]).and_then(|own| i32::try_from(own).ok()).unwrap_or(0),
        replicas: tree::number(&over, &["minReplicas"]),
        revision: revision::resolve(kept, tree::name(cx.service), kind, Some(&name), &built.inputs, built.template),
        name,
    })
}

impl Scene<'_> {
    /// Has a guarded rollout say how much the newest revision gets.
    fn guard(&mut self) -> Result<(), Fault> {
        let latest = self.health(&self.latest.name);
        let model = health::model_status(self.cx, &self.latest.name, &latest, false);
        let rolled_out = &self.old.latest_rolledout_revision;
        let is_kept = self.kept.iter().any(|own| own.name == *rolled_out);
        let seen = guard::Seen {
            old: &self.old,
            latest: &self.latest.name,
            rolled_out: if is_kept { rolled_out } else { "" },
            available: latest.available,
            failure: model.last_failure_info.as_ref().map(|own| own.message.as_str()),
            by_hand: self.view.canary_traffic_percent.is_some() || !self.tracks.is_empty(),
            recreates: self.recreates(),
        };
        let next = guard::next(self.cx, &seen)?;
        self.percent = guard::percent(next.rollout.as_ref()).or(self.percent);
        (self.rollout, self.again_after, self.shadow) = (next.rollout, next.again_after, next.shadow);
        Ok(())
    }

    fn plan(&self, runtime: Option<(String, bool)>) -> Planned {
        let split = self.split();
        let deployed = self.deployed(&split);
        let mut children = Vec::new();
        let mut again_after = self.again_after;
        let mut running: Vec<&Revision> = Vec::new();
        let mut told = Vec::new();
        for own in &deployed {
            let replicas = self.asleep_or_awake(&own.name);
            children.extend(self.deployment(own, &split, replicas.map(|(replicas, _)| replicas)));
            again_after = soonest(again_after, replicas.and_then(|(_, left)| i64::try_from(left?).ok()));
            let before = health::health(self.cx, &own.name, 0);
            if let Some((replicas, _)) = replicas.filter(|_| before.exists) {
                told.extend(events::sleep(self.kind, &own.name, before.replicas, replicas));
            }
            running.push(own);
        }
        for own in self.kept.iter().filter(|own| deployed.iter().all(|other| other.name != own.name)) {
            if let Some((rest, seconds)) = retire::linger(self.cx, own, self.retire_after()) {
                children.push(rest);
                running.push(own);
                again_after = soonest(again_after, Some(seconds));
            }
        }
        for own in &running {
            children.push(network::service(self.cx, &own.name, &own.name, &own.template));
        }
        children.extend(self.named_services(&split));
        if self.routed {
            children.extend(self.router(&split));
        }
        if self.bounds.max > 1 {
            children.push(scale::disruption_budget(tree::name(self.cx.service), self.kind));
        }
        children.extend(self.history(&running, &split));
        let latest = self.health(&self.latest.name);
        let serving = split.shares.iter().any(|(name, share)| *share > 0 && self.health(name).available);
        let model = health::model_status(self.cx, &self.latest.name, &latest, serving);
        Planned {
            ready: self.ready(&split, &latest, &model),
            status: self.status(&split, &latest),
            backends: self.reached(&split),
            grpc_port: network::ports(&self.primary(&split).template).grpc,
            has_served: split.rolled_out.is_some(),
            canaries: self.canary_statuses(&split),
            children,
            model,
            runtime,
            again_after,
            shortages: self.shortages(&split),
            events: told,
        }
    }

    /// Whether a revision is one whose answers are only compared.
    fn is_shadow(&self, revision: &str) -> bool {
        revision == self.latest.name
            && self.rollout.as_ref().is_some_and(|own| own.step == 0 && own.phase == RolloutStatus::RUNNING)
    }

    fn share_before(&self, revision: &str) -> i32 {
        self.old.traffic.iter().filter(|target| target.revision_name == revision).map(|target| target.percent).sum()
    }

    fn health(&self, revision: &str) -> Health {
        let health = health::health(self.cx, revision, self.share_before(revision));
        // Its requests wait at the router, and wake it: as good as there, unless it fails at that.
        let asleep = self.bounds.zero
            && self.is_proven(revision)
            && health.exists
            && health.pods == 0
            && health.stuck.is_none()
            && health::model_status(self.cx, revision, &health, true).last_failure_info.is_none();
        Health { available: health.available || asleep, ..health }
    }

    /// Was ready once.
    fn is_proven(&self, revision: &str) -> bool {
        self.old.latest_ready_revision == revision
            || self.old.latest_rolledout_revision == revision
            || self.old.previous_rolledout_revision == revision
    }

    fn candidate(&self, revision: &str) -> Candidate {
        let health = self.health(revision);
        Candidate {
            name: revision.to_owned(),
            available: health.available,
            // Three quarters, as Deployments have it while they roll.
            enough: health.pods * 4 >= self.needed(revision) * 3,
            most: self.most(revision),
            share: self.share_before(revision),
        }
    }

    /// Whether the old revision makes room before the new one is ready, as `deploymentStrategy: {type: Recreate}` asks.
    fn recreates(&self) -> bool {
        let strategy = self.view.deployment_strategy.as_ref().and_then(|own| own.fields.get("type"));
        strategy.is_some_and(|kind| kind == "Recreate") && self.view.canary_traffic_percent.is_none()
    }

    /// Seconds that a revision stays after its last share.
    fn retire_after(&self) -> i64 {
        match (self.recreates(), self.routed) {
            (true, _) => 0,
            (_, true) => self.cx.settings.retire_after.max(routing::RETIRE_AFTER_MIN),
            _ => self.cx.settings.retire_after,
        }
    }

    fn split(&self) -> Split {
        let known = |name: &str| self.kept.iter().any(|own| own.name == name).then(|| self.candidate(name));
        let mut wanted = Wanted {
            latest: self.candidate(&self.latest.name),
            rolled_out: known(&self.old.latest_rolledout_revision),
            previous: known(&self.old.previous_rolledout_revision),
            percent: self.percent,
            canaries: self.tracks.iter().map(|own| (self.candidate(&own.revision.name), own.percent)).collect(),
        };
        if self.recreates()
            && let Some(rolled) = wanted.rolled_out.take_if(|rolled| rolled.name != self.latest.name)
        {
            wanted.previous = Some(rolled);
        }
        traffic::split(&wanted)
    }

    /// The revisions that have pods: those with a share or the prospect of one.
    fn deployed(&self, split: &Split) -> Vec<Revision> {
        let wanted = |own: &&Revision| {
            own.name == self.latest.name
                || split.rolled_out.as_deref() == Some(&own.name)
                || split.share(&own.name) > 0
                || self.tracks.iter().any(|track| track.revision.name == own.name)
        };
        self.kept.iter().filter(wanted).cloned().collect()
    }

    /// The ControllerRevisions of all that is in use, and of the newest beyond.
    fn history(&self, running: &[&Revision], split: &Split) -> Vec<Value> {
        let used = |own: &Revision| {
            running.iter().any(|other| other.name == own.name) || split.previous.as_deref() == Some(own.name.as_str())
        };
        let spare: Vec<&Revision> = self.kept.iter().rev().filter(|own| !used(own)).take(HISTORY).collect();
        let keep = |own: &&Revision| used(own) || spare.iter().any(|other| other.name == own.name);
        self.kept.iter().filter(keep).map(|own| revision::render(own, self.kind)).collect()
    }
}

fn soonest(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    [one, other].into_iter().flatten().min()
}
