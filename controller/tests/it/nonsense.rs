//! Manifests in which anything may stand anywhere: the API server keeps fields that a definition does not describe as they come, and one
//! manifest that nobody can make sense of must not end the work on all the others.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use tensorgate_controller::plan::graph::{self, GraphSnapshot};
use tensorgate_controller::plan::{self, Settings, Snapshot};

use super::world::documents;

const NOW: &str = "2026-09-21T14:13:20Z";

/// All manifests of these kinds beside the golden plans.
fn manifests(folder: &str, kinds: &[&str]) -> Vec<Value> {
    let all = if folder.ends_with("graphs") { &*GRAPHS } else { &*SERVICES };
    all.iter().filter(|own| kinds.iter().any(|kind| own["kind"] == *kind)).cloned().collect()
}

static SERVICES: LazyLock<Vec<Value>> = LazyLock::new(|| [read("tests/golden"), read("../deploy/base")].concat());
static GRAPHS: LazyLock<Vec<Value>> = LazyLock::new(|| read("tests/golden/graphs"));

fn read(folder: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|own| own == "yaml"));
    files.sort();
    let all = files.iter().flat_map(|path| documents(&std::fs::read_to_string(path).unwrap()));
    all.filter(|own| own["kind"].is_string() && own["metadata"].is_object()).map(written).collect()
}

/// As the API server gives it.
fn written(mut own: Value) -> Value {
    for (field, value) in [("namespace", json!("models")), ("uid", json!("uid-1")), ("generation", json!(1))] {
        own["metadata"][field] = value;
    }
    own
}

fn any_value() -> impl Strategy<Value = Value> {
    let texts = [
        "",
        "kserve-container",
        "kserve",
        "pvc://a/../b",
        "s3://",
        "{{",
        "{{.Name}}",
        "{{}}",
        "é",
        "grpc",
        "-1",
        "1e999",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![Just(i64::MIN), Just(i64::MAX), -3..200_i64].prop_map(Value::from),
        prop::sample::select(texts.to_vec()).prop_map(Value::from),
    ];
    let keys = [
        "name",
        "containers",
        "args",
        "env",
        "ports",
        "containerPort",
        "model",
        "predictor",
        "modelFormat",
        "spec",
        "status",
    ];
    leaf.prop_recursive(3, 12, 3, move |inner| {
        let key = prop::sample::select(keys.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..3).prop_map(|own| json!(own)),
        ]
    })
}

/// The JSON pointers of all that stands in a tree, itself left out.
fn places(tree: &Value, here: &str, found: &mut Vec<String>) {
    let step = |own: &str| format!("{here}/{}", own.replace('~', "~0").replace('/', "~1"));
    match tree {
        Value::Object(fields) => fields.iter().for_each(|(field, value)| {
            found.push(step(field));
            places(value, &step(field), found);
        }),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, value)| {
            found.push(step(&index.to_string()));
            places(value, &step(&index.to_string()), found);
        }),
        _ => {}
    }
}

/// Puts values into places of a manifest; who it is stays.
fn changed(mut manifest: Value, changes: &[(Index, Value)]) -> Value {
    for (place, value) in changes {
        let mut all: Vec<String> = Vec::new();
        for part in ["spec", "status"] {
            places(&manifest[part], &format!("/{part}"), &mut all);
        }
        for part in ["labels", "annotations"] {
            places(&manifest["metadata"][part], &format!("/metadata/{part}"), &mut all);
        }
        if !all.is_empty() {
            let place: &String = place.get(&all[..]);
            *manifest.pointer_mut(place).unwrap() = value.clone();
        }
    }
    manifest
}

fn settings() -> Settings {
    Settings {
        gateway: Some(("kserve".into(), "gateway".into())),
        storage_initializer: Some("init".into()),
        router_image: Some("router".into()),
        keda: true,
        ..Settings::default()
    }
}

fn any_changes() -> impl Strategy<Value = Vec<(Index, Value)>> {
    prop::collection::vec((any::<Index>(), any_value()), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_service_and_its_runtimes_say_there_is_a_plan(
        which in any::<Index>(), changes in any_changes(), of_runtimes in any_changes(), of_children in any_changes(),
    ) {
        let services = manifests("tests/golden", &["InferenceService"]);
        let mut service = changed(which.get(services.as_slice()).clone(), &changes);
        let runtimes = manifests("tests/golden", &["ServingRuntime", "ClusterServingRuntime"]);
        let runtimes: Vec<Value> = runtimes.into_iter().map(|own| changed(own, &of_runtimes)).collect();
        let mut children: Vec<Value> = Vec::new();
        // The second time from what came of the first.
        for _ in 0..2 {
            let seen = Snapshot {
                runtimes: runtimes.iter().collect(),
                cluster_runtimes: runtimes.iter().collect(),
                children: children.iter().collect(),
                now: NOW,
                ..Snapshot::default()
            };
            let plan = plan::plan(&settings(), &service, &seen);
            service["status"] = plan::render_status(&plan.status);
            children = plan.children.unwrap_or_default().into_iter().map(|own| changed(own, &of_children)).collect();
        }
    }

    #[test]
    fn whatever_a_graph_says_there_is_a_plan(
        which in any::<Index>(), changes in any_changes(), of_services in any_changes(),
    ) {
        let graphs = manifests("tests/golden/graphs", &["InferenceGraph"]);
        let mut own = changed(which.get(graphs.as_slice()).clone(), &changes);
        let services: Vec<Value> =
            manifests("tests/golden/graphs", &["InferenceService"]).into_iter().map(|own| changed(own, &of_services)).collect();
        let runtimes = manifests("tests/golden", &["ClusterServingRuntime"]);
        let mut children: Vec<Value> = Vec::new();
        for _ in 0..2 {
            let seen = GraphSnapshot {
                services: services.iter().collect(),
                runtimes: Vec::new(),
                cluster_runtimes: runtimes.iter().collect(),
                children: children.iter().collect(),
                now: NOW,
            };
            let plan = graph::plan(&settings(), &own, &seen);
            own["status"] = graph::render_status(&plan.status);
            children = plan.children.unwrap_or_default();
        }
    }
}
