//! Graphs: manifests in, children and status out (`tests/golden/graphs`), properties of their plans, and the two binaries together:
//! what the controller writes is what the router serves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use tensorgate_controller::graph::Graph;
use tensorgate_controller::plan::Settings;
use tensorgate_controller::plan::children::CHILDREN;
use tensorgate_controller::plan::difference;
use tensorgate_controller::plan::graph::{self, GraphPlan, GraphSnapshot};
use tensorgate_controller::tree;

use super::store::Store;
use super::world::{documents, key};

/// What happened outside of the controller.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Observation {
    /// InferenceServices that have an address, and whether they are ready.
    services: BTreeMap<String, bool>,
    /// Routers of the newest graph that are ready, by Deployment.
    routers: BTreeMap<String, i64>,
    /// The Gateway has accepted the routes.
    routes: bool,
}

struct Graphs {
    store: Store,
    settings: Settings,
    name: String,
}

impl Graphs {
    fn new(stated: &Value) -> Self {
        let headers = tree::list(stated, &["graphHeaders"]).iter().map(|own| own.as_str().unwrap().to_owned());
        let mut settings = Settings {
            router_image: tree::text(stated, &["routerImage"]).map(str::to_owned),
            graph_headers: headers.collect(),
            ..Settings::default()
        };
        if let Some(gateway) = tree::text(stated, &["gateway"]) {
            let (namespace, name) = gateway.split_once('/').unwrap();
            settings.gateway = Some((namespace.into(), name.into()));
        }
        let mut graphs = Self { store: Store::default(), settings, name: String::new() };
        let runtime = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/base/runtime.yaml"));
        documents(&runtime.unwrap()).into_iter().for_each(|object| graphs.write(object));
        graphs
    }

    fn write(&mut self, object: Value) {
        if object["kind"] == "InferenceGraph" {
            self.name = tree::name(&object).to_owned();
        }
        let key = key(object["kind"].as_str().unwrap(), tree::name(&object));
        self.store.apply(&key, &object, None, "kubectl", true).unwrap();
    }

    fn graph(&self) -> Value {
        self.store.get(&key("InferenceGraph", &self.name)).cloned().unwrap()
    }

    fn children(&self) -> Vec<Value> {
        let all = CHILDREN.iter().flat_map(|kind| self.store.list(kind.name, None, ""));
        all.filter(|own| tree::label(own, "serving.kserve.io/inferencegraph") == Some(&self.name)).collect()
    }

    fn observe(&mut self, seen: &Observation) {
        for (name, ready) in &seen.services {
            let status = json!({"status": {
                "address": {"url": format!("http://{name}-predictor.models.svc.cluster.local")},
                "conditions": [{"type": "Ready", "status": if *ready { "True" } else { "False" }}],
            }});
            self.store.merge(&key("InferenceService", name), &status, Some("status"), "controller").unwrap();
        }
        for (name, ready) in &seen.routers {
            let key = key("Deployment", name);
            let deployment = self.store.get(&key).unwrap();
            let wanted = tree::number(deployment, &["spec", "replicas"]).unwrap_or(1);
            let available = if ready * 4 >= wanted * 3 && *ready > 0 { "True" } else { "False" };
            let status = json!({"status": {
                "observedGeneration": deployment["metadata"]["generation"], "replicas": wanted, "updatedReplicas": ready,
                "availableReplicas": ready, "conditions": [{"type": "Available", "status": available}],
            }});
            self.store.merge(&key, &status, Some("status"), "kube").unwrap();
        }
        for route in self.store.list("HTTPRoute", None, "").into_iter().filter(|_| seen.routes) {
            let status = json!({"status": {"parents": [{"conditions": [{"type": "Accepted", "status": "True"}]}]}});
            self.store.merge(&key("HTTPRoute", tree::name(&route)), &status, Some("status"), "gateway").unwrap();
        }
    }

    fn plan(&self) -> GraphPlan {
        let (services, runtimes) =
            (self.store.list("InferenceService", None, ""), self.store.list("ClusterServingRuntime", None, ""));
        let children = self.children();
        let seen = GraphSnapshot {
            services: services.iter().collect(),
            cluster_runtimes: runtimes.iter().collect(),
            children: children.iter().collect(),
            now: "2026-09-21T14:13:20Z",
            ..GraphSnapshot::default()
        };
        graph::plan(&self.settings, &self.graph(), &seen)
    }

    /// Plans and applies until nothing is left to do; gives what was applied, deleted and told.
    fn settle(&mut self) -> (Vec<Value>, Vec<String>, Vec<String>) {
        let (mut applied, mut deleted, mut events) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..5 {
            let plan = self.plan();
            let (graph, children) = (self.graph(), self.children());
            let observed: Vec<&Value> = children.iter().collect();
            let changes = plan.children.as_ref().map(|wanted| difference::changes(&graph, wanted, &observed));
            let changes = changes.unwrap_or_default();
            let status = graph::render_status(&plan.status);
            if changes.is_empty() && status == graph["status"] {
                assert_eq!(plan.events, [], "nothing changed, and yet it is told");
                return (applied, deleted, events);
            }
            for object in &changes.apply {
                let key = key(object["kind"].as_str().unwrap(), tree::name(object));
                self.store.apply(&key, object, None, "tensorgate-controller", true).unwrap();
                applied.push(object.clone());
            }
            for object in &changes.delete {
                self.store.delete(&key(object["kind"].as_str().unwrap(), tree::name(object)), None).unwrap();
                deleted.push(format!("{} {}", object["kind"].as_str().unwrap(), tree::name(object)));
            }
            let body = json!({"apiVersion": "serving.kserve.io/v1alpha1", "kind": "InferenceGraph", "status": status});
            let own = key("InferenceGraph", &self.name);
            self.store.apply(&own, &body, Some("status"), "tensorgate-controller", true).unwrap();
            for event in &plan.events {
                let kind = if event.warning { "Warning" } else { "Normal" };
                events.push(format!("{kind} {}: {}", event.reason, event.note));
            }
        }
        panic!("the plan never comes to rest: {:#?}", self.plan());
    }
}

/// Without what is the same for all children.
fn shown(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.remove("ownerReferences");
    metadata.remove("namespace");
    metadata["labels"].as_object_mut().unwrap().remove("app.kubernetes.io/managed-by");
    let annotations = metadata["annotations"].as_object_mut().unwrap();
    annotations.remove("tensorgate.dev/applied");
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    tree::prune(&mut object);
    object
}

fn outcome(text: &str) -> String {
    let mut documents = documents(text);
    let settings = documents.remove(0);
    let mut graphs = Graphs::new(&settings["settings"]);
    let mut out = String::new();
    for document in documents {
        let what = match document.get("observe") {
            Some(seen) => {
                graphs.observe(&Observation::deserialize(seen).unwrap());
                format!("observe {seen}")
            }
            None => {
                let what = format!("{} {}", document["kind"].as_str().unwrap(), tree::name(&document));
                graphs.write(document);
                what
            }
        };
        if graphs.name.is_empty() {
            continue;
        }
        let (applied, deleted, events) = graphs.settle();
        let step = json!({
            "step": what, "applied": applied.iter().map(shown).collect::<Vec<_>>(), "deleted": deleted, "events": events,
            "status": graphs.graph()["status"],
        });
        out.push_str("---\n");
        out.push_str(&serde_saphyr::to_string(&step).unwrap());
    }
    out
}

#[test]
fn every_graph_becomes_the_children_and_status_that_are_written_beside_it() {
    let write = std::env::var("GOLDEN").is_ok_and(|word| word == "write");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/graphs");
    let mut cases = 0;
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_none_or(|own| own != "yaml") {
            continue;
        }
        cases += 1;
        let out = outcome(&fs::read_to_string(&entry).unwrap());
        let beside = entry.with_extension("out");
        if write {
            fs::write(&beside, &out).unwrap();
        }
        let wanted = fs::read_to_string(&beside).unwrap_or_default();
        let line = out.lines().zip(wanted.lines()).position(|(own, other)| own != other).unwrap_or(0);
        assert!(
            out == wanted,
            "{}, line {}: is\n  {}\nwas\n  {}\nGOLDEN=write writes what comes out",
            entry.display(),
            line + 1,
            out.lines().nth(line).unwrap_or(""),
            wanted.lines().nth(line).unwrap_or("")
        );
    }
    assert!(cases >= 10, "{cases} manifests");
}

fn any_step() -> impl Strategy<Value = Value> {
    let target = prop_oneof![
        "(root|a|b|c)".prop_map(|node| json!({"nodeName": node})),
        "(iris|other)".prop_map(|service| json!({"serviceName": service})),
        Just(json!({"serviceUrl": "http://host/path"})),
        Just(json!({"serviceUrl": "nowhere"})),
    ];
    let condition = prop::option::of(prop_oneof![Just("a.#(b==1)"), Just("a.@reverse"), Just("{")]);
    (target, prop::option::of(0..=100_i64), condition, prop::option::of("(\\$request|\\$response|\\$other)")).prop_map(
        |(mut step, weight, condition, data)| {
            let given = [
                ("weight", weight.map(Value::from)),
                ("condition", condition.map(Value::from)),
                ("data", data.map(Value::from)),
            ];
            for (field, value) in given {
                if let Some(value) = value {
                    step[field] = value;
                }
            }
            step
        },
    )
}

fn any_nodes() -> impl Strategy<Value = Value> {
    let node = ("(Sequence|Splitter|Ensemble|Switch)", prop::collection::vec(any_step(), 0..3));
    let node = node.prop_map(|(kind, steps)| json!({"routerType": kind, "steps": steps}));
    prop::collection::btree_map("(root|a|b)", node, 0..3).prop_map(|nodes| json!(nodes))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_the_plan_comes_to_rest_and_what_serves_is_never_taken_down(edits in prop::collection::vec(any_nodes(), 1..4)) {
        let mut graphs = Graphs::new(&json!({"routerImage": "tensorgate:latest"}));
        let service = json!({"kind": "InferenceService", "metadata": {"name": "iris"}, "spec": {"predictor": {"model": {"modelFormat": {"name": "onnx"}}}}});
        graphs.write(service);
        graphs.observe(&Observation { services: [("iris".into(), true)].into(), ..Observation::default() });
        for nodes in &edits {
            graphs.write(json!({"kind": "InferenceGraph", "metadata": {"name": "g"}, "spec": {"nodes": nodes}}));
            let before = graphs.children();
            graphs.settle();
            let after = graphs.children();
            prop_assert!(after.len() >= before.len(), "an edit took something down");
            // What is there can be served, whatever was written last.
            for config in after.iter().filter(|own| own["kind"] == "ConfigMap") {
                prop_assert!(Graph::parse(config["data"]["graph.json"].as_str().unwrap()).is_ok());
            }
            let status = &graphs.graph()["status"];
            prop_assert_eq!(&status["observedGeneration"], &graphs.graph()["metadata"]["generation"]);
            if graphs.plan().children.is_none() {
                let ready = tree::list(status, &["conditions"]).iter().find(|own| own["type"] == "Ready").cloned().unwrap();
                prop_assert!(ready["status"] != "True" && !ready["message"].as_str().unwrap().is_empty(), "{ready}");
            }
        }
    }
}
