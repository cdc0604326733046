//! Manifests in, children and status out: `tests/golden/NAME.yaml` and `NAME.out`. `GOLDEN=write` writes what comes out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use tensorgate_controller::plan::Settings;
use tensorgate_controller::tree;

use super::world::{Done, Observation, World, documents};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn cases() -> Vec<PathBuf> {
    let all = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let is_case =
        |path: &PathBuf| path.extension().is_some_and(|own| own == "yaml") && !path.ends_with("runtimes.yaml");
    let mut cases: Vec<PathBuf> = all.filter(is_case).collect();
    cases.sort();
    cases
}

fn settings(stated: &Value) -> Settings {
    let mut settings = Settings::default();
    if let Some(gateway) = tree::text(stated, &["gateway"]) {
        let (namespace, name) = gateway.split_once('/').unwrap();
        settings.gateway = Some((namespace.into(), name.into()));
    }
    settings.node_cache = tree::text(stated, &["nodeCache"]).map(str::to_owned);
    settings.keda = stated["keda"] == true;
    settings.router_image = tree::text(stated, &["routerImage"]).map(str::to_owned);
    settings.storage_initializer = tree::text(stated, &["storageInitializer"]).map(str::to_owned);
    settings
}

/// Without what is the same for all children, or says only that the rest is so.
fn shown(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.remove("ownerReferences");
    metadata.remove("namespace");
    for (field, keys) in [
        ("labels", &["app.kubernetes.io/managed-by", "serving.kserve.io/inferenceservice", "tensorgate.dev/hash"][..]),
        ("annotations", &["tensorgate.dev/applied"][..]),
    ] {
        if let Some(all) = metadata.get_mut(field).and_then(Value::as_object_mut) {
            all.retain(|key, _| !keys.contains(&key.as_str()));
            if all.is_empty() {
                metadata.remove(field);
            }
        }
    }
    if object["kind"] == "ControllerRevision" {
        // Its pods are those of its Deployment.
        object.as_object_mut().unwrap().remove("data");
    }
    tree::prune(&mut object);
    object
}

/// Every step's weights add up, and lead to Services whose pods are there.
pub(crate) fn check(world: &World, name: &str) {
    let status = world.status(name);
    for (kind, component) in status["components"].as_object().into_iter().flatten() {
        let traffic = tree::list(component, &["traffic"]);
        let sum: i64 = traffic.iter().map(|target| target["percent"].as_i64().unwrap()).sum();
        assert!(traffic.is_empty() || sum == 100, "{kind}: the traffic adds up to {sum}");
    }
    let deployments = world.all("Deployment");
    let services = world.all("Service");
    for route in world.all("HTTPRoute") {
        for rule in tree::list(&route, &["spec", "rules"]) {
            let backends = tree::list(rule, &["backendRefs"]);
            assert_eq!(backends.iter().map(|own| own["weight"].as_i64().unwrap()).sum::<i64>(), 100, "{route:#}");
            for backend in backends {
                let service = services
                    .iter()
                    .find(|own| own["metadata"]["name"] == backend["name"])
                    .expect("the route's Service");
                let app = &service["spec"]["selector"]["app"];
                let deployment = deployments.iter().find(|own| own["spec"]["selector"]["matchLabels"]["app"] == *app);
                assert!(deployment.is_some(), "no pods behind {service:#}");
            }
        }
    }
}

fn step(what: &str, world: &World, name: &str, done: Done) -> Value {
    json!({
        "step": what,
        "applied": done.applied.iter().map(shown).collect::<Vec<_>>(),
        "deleted": done.deleted,
        "events": done.events,
        "status": world.status(name),
    })
}

fn outcome(text: &str) -> String {
    let mut documents = documents(text);
    let stated =
        documents.first().filter(|first| first.get("settings").is_some()).map(|first| first["settings"].clone());
    let mut world = World::new(settings(&stated.clone().unwrap_or_default()));
    if stated.is_some() {
        documents.remove(0);
    }
    let mut name = String::new();
    let mut out = String::new();
    for document in documents {
        let what = if let Some(seen) = document.get("observe") {
            world.observe(&Observation::deserialize(seen).unwrap());
            format!("observe {seen}")
        } else {
            let kind = document["kind"].as_str().unwrap().to_owned();
            let own = tree::name(&document).to_owned();
            world.write(document);
            if kind == "InferenceService" {
                name = own.clone();
            } else if name.is_empty() {
                continue;
            }
            format!("{kind} {own}")
        };
        let done = world.settle(&name);
        check(&world, &name);
        out.push_str("---\n");
        out.push_str(&serde_saphyr::to_string(&step(&what, &world, &name, done)).unwrap());
    }
    out
}

#[test]
fn every_manifest_becomes_the_children_and_status_that_are_written_beside_it() {
    let write = std::env::var("GOLDEN").is_ok_and(|word| word == "write");
    let mut faults = Vec::new();
    for case in cases() {
        let text = fs::read_to_string(&case).unwrap();
        let beside = case.with_extension("out");
        let out = std::panic::catch_unwind(|| outcome(&text)).unwrap_or_else(|_| panic!("in {}", case.display()));
        if write {
            fs::write(&beside, out).unwrap();
            continue;
        }
        let wanted = fs::read_to_string(&beside).unwrap_or_default();
        if out != wanted {
            let line = out.lines().zip(wanted.lines()).position(|(own, other)| own != other).unwrap_or(0);
            faults.push(format!(
                "{}, line {}: is\n  {}\nwas\n  {}",
                case.display(),
                line + 1,
                out.lines().nth(line).unwrap_or(""),
                wanted.lines().nth(line).unwrap_or("")
            ));
        }
    }
    assert!(faults.is_empty(), "{}\nGOLDEN=write writes what comes out", faults.join("\n"));
}

#[test]
fn there_are_at_least_forty_manifests_and_none_is_there_twice() {
    let mut texts = BTreeMap::new();
    for case in cases() {
        let other = texts.insert(fs::read_to_string(&case).unwrap(), case.clone());
        assert!(other.is_none(), "{} is {}", case.display(), other.unwrap().display());
    }
    assert!(texts.len() >= 40, "there are {}", texts.len());
}
