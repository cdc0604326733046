//! One component: its revisions, who of them gets the traffic, and the children that make it so.

use serde::Deserialize;
use serde_json::{Value, json};

use super::events::{self, Event};
use super::fault::Fault;
use super::health::{self, Health};
use super::network::{self, Backend};
use super::revision::{self, Revision};
use super::scale::{self, Bounds, Scaler};
use super::traffic::{self, Candidate, Split, Wanted};
use super::zero::{self, Calls, Sleeper, Wish};
use super::{Context, guard, pod, retire, routing};
use crate::api::inference_service::Component;
use crate::api::keys;
use crate::api::status::{CanaryStatus, ComponentStatus, ModelStatus, RolloutStatus, TrafficTarget};
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
    let mut bounds = scale::bounds(cx.service, &view)?;
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
            events: told,
        }
    }

    /// The router's children.
    fn router(&self, split: &Split) -> Vec<Value> {
        let backends = self.backends(split);
        let latest = &self.latest;
        let mirrored = |shadow| {
            let ports = network::ports(&latest.template);
            (Backend { service: latest.name.clone(), weight: 0, ports }, shadow)
        };
        let wish = routing::Wish {
            backends: &backends,
            primary: &self.primary(split).name,
            zero: self.bounds.zero,
            shadowed: self.shadowed,
            shadow: self.shadow.map(mirrored),
        };
        routing::children(self.cx, self.kind, &wish)
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

    /// The replicas of a revision that may have none, and the seconds after which to look again.
    fn asleep_or_awake(&self, revision: &str) -> Option<(i64, Option<u64>)> {
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
            concurrency: of_target.map(i64::from).or(self.view.container_concurrency),
            idle_seconds: stated.unwrap_or(zero::IDLE_SECONDS),
        };
        Some(zero::replicas(&sleeper, &wish))
    }

    fn candidate(&self, revision: &str) -> Candidate {
        let health = self.health(revision);
        Candidate {
            name: revision.to_owned(),
            available: health.available,
            // Three quarters, as Deployments have it while they roll.
            enough: health.pods * 4 >= self.needed(revision) * 3,
            share: self.share_before(revision),
        }
    }

    /// The replicas that a revision needs before it gets the share that it is to get.
    fn needed(&self, revision: &str) -> i64 {
        let goal = self.percent.unwrap_or(100);
        if revision != self.latest.name || self.share_before(revision) >= goal {
            return 1;
        }
        if self.bounds.scaler == Scaler::Fixed {
            return self.bounds.min;
        }
        // What the one that has rolled out has for its share, carried over to the other's.
        let rolled = &self.old.latest_rolledout_revision;
        let share = i64::from(self.share_before(rolled));
        if rolled == revision || share == 0 {
            return self.bounds.min;
        }
        let carried = (self.health(rolled).replicas * i64::from(goal) + share - 1) / share;
        carried.clamp(self.bounds.min, self.bounds.max)
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

    /// The replicas of a canary, if the revision is one and not also the stable one.
    fn canary_replicas(&self, revision: &str, split: &Split) -> Option<i64> {
        if revision == self.latest.name || split.rolled_out.as_deref() == Some(revision) {
            return None;
        }
        let track = self.tracks.iter().find(|track| track.revision.name == revision)?;
        Some(track.replicas.unwrap_or_else(|| scale::canary_replicas(self.bounds.min, track.percent)).max(1))
    }

    /// The fewest replicas of the stable revision: canaries that serve stand in for as many.
    fn stable_min(&self, split: &Split) -> i64 {
        let serves =
            |track: &&Track| split.share(&track.revision.name) > 0 && self.health(&track.revision.name).available;
        let ready = self.tracks.iter().filter(serves);
        let stand_in: i64 = ready.filter_map(|track| self.canary_replicas(&track.revision.name, split)).sum();
        (self.bounds.min - stand_in).max(1)
    }

    /// The Deployment of a revision, and its autoscaler.
    fn deployment(&self, own: &Revision, split: &Split, awake: Option<i64>) -> Vec<Value> {
        let strategy = self.view.deployment_strategy.as_ref().map(|own| Value::Object(own.fields.clone()));
        let mut deployment = render_deployment(own, strategy.unwrap_or_default());
        if let Some(replicas) = self.canary_replicas(&own.name, split) {
            deployment["spec"]["replicas"] = json!(if awake == Some(0) { 0 } else { replicas });
            return vec![deployment];
        }
        let mut min = self.stable_min(split);
        match self.bounds.scaler {
            Scaler::External => vec![deployment],
            Scaler::Learned => {
                // The step from none, and to it, is ours here too; nobody scales one that sleeps.
                let now = health::health(self.cx, &own.name, 0).replicas;
                if let Some(replicas) = awake.filter(|replicas| *replicas == 0 || now == 0) {
                    deployment["spec"]["replicas"] = json!(replicas);
                }
                if awake == Some(0) {
                    return vec![deployment];
                }
                // One that is about to get more is first made as large as that takes.
                let orders = scale::orders(&self.view, min.max(self.needed(&own.name)), self.bounds.max);
                let orders = serde_json::to_string(&orders).unwrap_or_default();
                deployment["metadata"]["annotations"] = json!({keys::SCALE: orders});
                vec![deployment]
            }
            Scaler::Fixed => {
                deployment["spec"]["replicas"] = json!(awake.unwrap_or(min));
                vec![deployment]
            }
            Scaler::Horizontal => {
                // One that is about to get more is first made as large as that takes.
                min = min.max(self.needed(&own.name));
                // An autoscaler lets those alone that have none, so the step from none, and to it, is ours.
                let now = health::health(self.cx, &own.name, 0).replicas;
                if let Some(replicas) = awake.filter(|replicas| *replicas == 0 || now == 0) {
                    deployment["spec"]["replicas"] = json!(replicas);
                }
                let autoscaler = scale::autoscaler(self.cx.service, &self.view, &own.name, min, self.bounds.max);
                vec![deployment, autoscaler]
            }
        }
    }

    /// The revision that callers inside the cluster reach: the one that has rolled out, while it has a share.
    fn primary(&self, split: &Split) -> &Revision {
        let rolled = split.rolled_out.as_deref().filter(|name| split.share(name) > 0);
        let largest = split.shares.iter().max_by_key(|(_, share)| *share).map(|(name, _)| name.as_str());
        let name = rolled.or(largest).unwrap_or(&self.latest.name);
        self.kept.iter().find(|own| own.name == name).unwrap_or(&self.latest)
    }

    /// Services whose names stay while revisions come and go.
    fn named_services(&self, split: &Split) -> Vec<Value> {
        let service = tree::name(self.cx.service);
        let primary = self.primary(split);
        let render = |name: String, own: &Revision| network::service(self.cx, &name, &own.name, &own.template);
        let mut services = vec![render(format!("{service}-{}", self.kind), primary)];
        if self.routed && routing::is_up(self.cx, self.kind) {
            services = services.into_iter().map(|own| routing::service(self.cx, self.kind, own)).collect();
        }
        let tracks = [primary, &self.latest].into_iter().chain(self.tracks.iter().map(|track| &track.revision));
        for own in tracks {
            let name = own.track.as_ref().map(|track| format!("{service}-{track}-{}", self.kind));
            if let Some(name) = name.filter(|name| services.iter().all(|other| tree::name(other) != name)) {
                services.push(render(name, own));
            }
        }
        services
    }

    /// Whom the Gateway sends requests to: the router, where there may be no pods behind it, or answers are to be compared there.
    fn reached(&self, split: &Split) -> Vec<Backend> {
        let compares = self.shadowed && routing::is_up(self.cx, self.kind);
        if !self.bounds.zero && !compares {
            return self.backends(split);
        }
        let service = format!("{}-{}", tree::name(self.cx.service), self.kind);
        vec![Backend { service, weight: 100, ports: network::ports(&self.primary(split).template) }]
    }

    fn backends(&self, split: &Split) -> Vec<Backend> {
        let find = |name: &str| self.kept.iter().find(|own| own.name == name);
        let shares = split.shares.iter().filter(|(_, share)| *share > 0);
        let backend = |(name, share): &(String, i32)| {
            Some(Backend { service: name.clone(), weight: *share, ports: network::ports(&find(name)?.template) })
        };
        shares.filter_map(backend).collect()
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

    fn ready(&self, split: &Split, latest: &Health, model: &ModelStatus) -> Result<(), NotReady> {
        let without = split.shares.iter().find(|(name, share)| *share > 0 && !self.health(name).available);
        let is_shadow = self.is_shadow(&self.latest.name);
        let rolled_back = self.percent == Some(0) && split.share(&self.latest.name) == 0 && !is_shadow;
        let goal = self.percent.unwrap_or(100);
        let moved = split.rolled_out.as_ref() == Some(&self.latest.name) || split.share(&self.latest.name) >= goal;
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

    fn status(&self, split: &Split, latest: &Health) -> ComponentStatus {
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

    fn canary_statuses(&self, split: &Split) -> Vec<CanaryStatus> {
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

fn soonest(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    [one, other].into_iter().flatten().min()
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
