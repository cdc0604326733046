//! A cluster without a network: the store, the controller's plan, and somebody who says which pods are ready.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use tensorgate_controller::api::MANAGER;
use tensorgate_controller::demand::{Demand, RevisionDemand};
use tensorgate_controller::plan::children::CHILDREN;
use tensorgate_controller::plan::difference::{self, Changes};
use tensorgate_controller::plan::events::Event;
use tensorgate_controller::plan::learned::{AllLearned, Learned};
use tensorgate_controller::plan::storage::Vault;
use tensorgate_controller::plan::{self, Plan, Settings, Snapshot};
use tensorgate_controller::rollout::{Finding, Outcome};
use tensorgate_controller::tree;

use super::store::{Key, Store};

/// Where the first clock stands.
const START: i64 = 1_790_000_000;

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    seconds: i64,
    demand: Option<Demand>,
    learned: Option<AllLearned>,
    finding: Option<Finding>,
}

/// What the controller did until nothing was left to do.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) applied: Vec<Value>,
    pub(crate) deleted: Vec<String>,
    pub(crate) events: Vec<String>,
}

/// The documents of a YAML text.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let all = text.split("\n---\n").map(|part| part.strip_prefix("---\n").unwrap_or(part));
    let parse = |part: &str| serde_saphyr::from_str::<Value>(part).unwrap_or_else(|error| panic!("{error}\n{part}"));
    all.filter(|part| part.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#'))).map(parse).collect()
}

pub(crate) fn key(kind: &str, name: &str) -> Key {
    let namespace = if kind == "ClusterServingRuntime" { "" } else { "models" };
    (kind.into(), namespace.into(), name.into())
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        let (store, demand, learned) = (Store::default(), None, None);
        let mut world = Self { store, settings, seconds: START, demand, learned, finding: None };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for file in ["../deploy/base/runtime.yaml", "tests/golden/runtimes.yaml"] {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            documents(&text).into_iter().for_each(|object| world.write(object));
        }
        world
    }

    /// As `kubectl apply` would: what is there gets the spec, labels and annotations of `object`.
    pub(crate) fn write(&mut self, mut object: Value) {
        let key = key(object["kind"].as_str().unwrap(), tree::name(&object));
        if !key.1.is_empty() {
            object["metadata"]["namespace"] = json!(key.1);
        }
        self.store.apply(&key, &object, None, "kubectl", true).unwrap();
    }

    pub(crate) fn pass(&mut self, seconds: i64) {
        self.seconds += seconds;
    }

    pub(crate) fn service(&self, name: &str) -> Value {
        self.store.get(&key("InferenceService", name)).cloned().unwrap()
    }

    pub(crate) fn status(&self, name: &str) -> Value {
        self.service(name)["status"].clone()
    }

    pub(crate) fn all(&self, kind: &str) -> Vec<Value> {
        self.store.list(kind, None, "")
    }

    pub(crate) fn plan(&self, name: &str) -> (Plan, Changes) {
        let service = self.service(name);
        let children: Vec<Value> = CHILDREN
            .iter()
            .flat_map(|kind| self.all(kind.name))
            .filter(|own| tree::label(own, "serving.kserve.io/inferenceservice") == Some(name))
            .collect();
        let (runtimes, cluster, pods) =
            (self.all("ServingRuntime"), self.all("ClusterServingRuntime"), self.all("Pod"));
        let secrets = self.all("Secret");
        let account_name =
            tree::text(&service, &["spec", "predictor", "serviceAccountName"]).unwrap_or("default").to_owned();
        let account = self.store.get(&key("ServiceAccount", &account_name));
        let now = jiff::Timestamp::from_second(self.seconds).unwrap().to_string();
        let seen = Snapshot {
            runtimes: runtimes.iter().collect(),
            cluster_runtimes: cluster.iter().collect(),
            vault: Vault { account, secrets: &secrets },
            children: children.iter().collect(),
            pods: pods.iter().collect(),
            demand: self.demand.as_ref(),
            learned: self.learned.as_ref(),
            finding: self.finding.as_ref(),
            now: &now,
        };
        let plan = plan::plan(&self.settings, &service, &seen);
        let changes = plan.children.as_ref().map(|wanted| difference::changes(&service, wanted, &seen.children));
        (plan, changes.unwrap_or_default())
    }

    /// Plans and applies until nothing is left to do.
    pub(crate) fn settle(&mut self, name: &str) -> Done {
        let mut done = Done::default();
        for _ in 0..10 {
            let spec = self.service(name)["spec"].clone();
            let (plan, changes) = self.plan(name);
            let status = plan::render_status(&plan.status);
            let rest = status == self.status(name);
            if changes.is_empty() && rest {
                assert_eq!(plan.events, [], "nothing changed, and yet it is told");
                assert_eq!(self.service(name)["spec"], spec, "the spec is the user's");
                return done;
            }
            let tell = |event: &Event| {
                let kind = if event.warning { "Warning" } else { "Normal" };
                format!("{kind} {}: {}", event.reason, event.note)
            };
            if let Some(decided) = &plan.decided {
                done.events.extend(decided.event.iter().map(tell));
                self.write_status(name, &plan::render_status(&decided.status));
            }
            self.apply(&changes, &mut done);
            self.write_status(name, &status);
            done.events.extend(plan.events.iter().map(tell));
        }
        let (plan, changes) = self.plan(name);
        panic!("the plan never comes to rest: {changes:#?}\n{:#?}", plan.status);
    }

    fn write_status(&mut self, name: &str, status: &Value) {
        let body = json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "status": status});
        self.store.apply(&key("InferenceService", name), &body, Some("status"), MANAGER, true).unwrap();
    }

    fn apply(&mut self, changes: &Changes, done: &mut Done) {
        for (object, manager) in changes
            .hand_over
            .iter()
            .map(|own| (own, "tensorgate-controller-scale"))
            .chain(changes.apply.iter().map(|own| (own, MANAGER)))
        {
            let key = key(object["kind"].as_str().unwrap(), tree::name(object));
            self.store.apply(&key, object, None, manager, true).unwrap();
            if manager == MANAGER {
                done.applied.retain(|own| own["kind"] != object["kind"] || tree::name(own) != key.2);
                done.applied.push(object.clone());
            }
        }
        for object in &changes.delete {
            let key = key(object["kind"].as_str().unwrap(), tree::name(object));
            self.store.delete(&key, None).unwrap();
            done.deleted.push(format!("{} {}", key.0, key.2));
        }
    }

    /// What happens outside the controller: see [`Observation`].
    pub(crate) fn observe(&mut self, seen: &Observation) {
        self.pass(seen.seconds);
        for deployment in self.all("Deployment") {
            let name = tree::name(&deployment).to_owned();
            let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
            let ready = match (&seen.all_ready, seen.ready.get(&name)) {
                (_, Some(ready)) => *ready,
                (true, None) => wanted,
                (false, None) => continue,
            };
            self.set_ready(&name, wanted, ready);
        }
        for (revision, message) in &seen.crashed {
            self.crash(revision, message);
        }
        for route in self.all("HTTPRoute") {
            let Some(word) = &seen.routes else { continue };
            let (status, reason) = if word == "Accepted" { ("True", "Accepted") } else { ("False", word.as_str()) };
            let status = json!({"status": {"parents": [{"conditions": [
                {"type": "Accepted", "status": status, "reason": reason, "message": "", "observedGeneration": route["metadata"]["generation"]},
                {"type": "ResolvedRefs", "status": "True", "reason": "ResolvedRefs"},
            ]}]}});
            self.store.merge(&key("HTTPRoute", tree::name(&route)), &status, Some("status"), "gateway").unwrap();
        }
        for (name, replicas) in &seen.scaled {
            let scale = json!({"spec": {"replicas": replicas}});
            self.store
                .update(
                    &key("Deployment", name),
                    with_version(&self.store, name, scale),
                    Some("scale"),
                    "kube-controller-manager",
                )
                .unwrap();
        }
        if let Some(told) = &seen.demand {
            let revision = |(name, [waiting, running, idle_seconds]): (&String, &[usize; 3])| {
                let idle_seconds = u64::try_from(*idle_seconds).unwrap();
                (name.clone(), RevisionDemand { waiting: *waiting, running: *running, idle_seconds })
            };
            let revisions = told.iter().map(revision).collect();
            self.demand = Some(Demand { sequence: 1, up_seconds: 0, revisions });
        }
        self.learn(seen);
        if let Some(found) = &seen.found {
            let (step, words) = found.split_once(' ').unwrap();
            let (outcome, reason) = words.split_once(' ').unwrap();
            let outcome = match outcome {
                "pass" => Outcome::Pass,
                "fail" => Outcome::Fail,
                "hold" => Outcome::Hold,
                other => panic!("{other} is none of pass, fail and hold"),
            };
            let status = |own: &Value| own["status"]["components"]["predictor"]["latestCreatedRevision"].clone();
            let revision = self.all("InferenceService").iter().map(status).next().unwrap();
            let revision = revision.as_str().unwrap().to_owned();
            self.finding = Some(Finding { revision, step: step.parse().unwrap(), outcome, reason: reason.into() });
        }
        for gone in &seen.deleted {
            let (kind, name) = gone.split_once(' ').unwrap();
            self.store.delete(&key(kind, name), None).unwrap();
        }
    }

    fn learn(&mut self, seen: &Observation) {
        if let Some(told) = &seen.learned {
            let known = |(name, [each, arriving]): (&String, &[f64; 2])| {
                (name.clone(), Learned { each: *each, arriving: *arriving, sure: true })
            };
            self.learned = Some(told.iter().map(known).collect());
        }
        for (name, rows_per_second) in &seen.capacity {
            let patch = json!({"metadata": {"annotations": {"tensorgate.dev/capacity": rows_per_second}}});
            self.store.merge(&key("Deployment", name), &patch, None, "tensorgate-controller-scale").unwrap();
        }
    }

    pub(crate) fn set_ready(&mut self, name: &str, wanted: i64, ready: i64) {
        let available = ready * 4 >= wanted * 3 && ready > 0;
        let status = json!({"status": {
            "observedGeneration": self.store.get(&key("Deployment", name)).unwrap()["metadata"]["generation"],
            "replicas": wanted, "availableReplicas": ready, "readyReplicas": ready,
            "conditions": [{"type": "Available", "status": if available { "True" } else { "False" }}],
        }});
        self.store.merge(&key("Deployment", name), &status, Some("status"), "kube-controller-manager").unwrap();
    }

    fn crash(&mut self, revision: &str, message: &str) {
        let deployment = self.store.get(&key("Deployment", revision)).unwrap().clone();
        let name = format!("{revision}-0");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": deployment["spec"]["template"]["metadata"]["labels"]},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "kserve-container",
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}},
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": message, "finishedAt": "2026-09-21T14:13:20Z"}},
            }]},
        });
        self.store.create(key("Pod", &name), pod, "kubelet").unwrap();
    }
}

fn with_version(store: &Store, name: &str, mut scale: Value) -> Value {
    scale["metadata"] =
        json!({"resourceVersion": store.get(&key("Deployment", name)).unwrap()["metadata"]["resourceVersion"]});
    scale
}

/// What the kubelet, the Gateway, an autoscaler or an administrator did meanwhile.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Observation {
    /// Time that went by.
    pub(crate) seconds: i64,
    /// All pods are ready.
    pub(crate) all_ready: bool,
    /// Pods that are ready, by Deployment.
    pub(crate) ready: std::collections::BTreeMap<String, i64>,
    /// Revisions whose pods crash, and their last words.
    pub(crate) crashed: std::collections::BTreeMap<String, String>,
    /// `Accepted`, or why the Gateway refuses the routes.
    pub(crate) routes: Option<String>,
    /// Replicas that an autoscaler set.
    pub(crate) scaled: std::collections::BTreeMap<String, i64>,
    /// What the routers tell: requests that wait and run, and seconds without any, by revision.
    pub(crate) demand: Option<std::collections::BTreeMap<String, [usize; 3]>>,
    /// What servers have learned, by revision: rows per second that one replica serves, and that arrive.
    pub(crate) learned: Option<std::collections::BTreeMap<String, [f64; 2]>>,
    /// What our autoscaler has written of what one replica serves, by Deployment.
    pub(crate) capacity: std::collections::BTreeMap<String, String>,
    /// What was found of the rollout of the newest revision: `STEP pass|fail|hold REASON`.
    pub(crate) found: Option<String>,
    /// Objects that somebody deleted, `Kind name`.
    pub(crate) deleted: Vec<String>,
}
