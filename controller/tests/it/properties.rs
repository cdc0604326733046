//! What holds for every InferenceService, whatever it says and whichever pods are ready.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use tensorgate_controller::plan::Settings;
use tensorgate_controller::plan::difference::covers;
use tensorgate_controller::tree;

use super::golden::check;
use super::world::{Observation, World, key};

/// An edit of the spec.
fn any_spec() -> impl Strategy<Value = Value> {
    let model = (0..3)
        .prop_map(|number| json!({"modelFormat": {"name": "onnx"}, "storageUri": format!("s3://models/{number}")}));
    let percent = prop::option::of(0..=100);
    let canaries = prop::collection::btree_map("[ab]", (0..=50, 0..3), 0..=2);
    let replicas = (prop::option::of(1..4), prop::option::of(0..6));
    let recreate = any::<bool>();
    (model, percent, canaries, replicas, recreate).prop_map(|(model, percent, canaries, (min, max), recreate)| {
        let mut predictor = json!({"model": model, "futureField": {"a": [1, null]}});
        if let Some(min) = min {
            predictor["minReplicas"] = json!(min);
        }
        if let Some(max) = max.filter(|max| *max == 0 || *max >= min.unwrap_or(1)) {
            predictor["maxReplicas"] = json!(max);
        }
        if recreate {
            predictor["deploymentStrategy"] = json!({"type": "Recreate"});
        }
        let mut spec = json!({});
        if canaries.is_empty() {
            if let Some(percent) = percent {
                predictor["canaryTrafficPercent"] = json!(percent);
            }
        } else {
            let canary = |(name, (percent, number)): (String, (i32, i32))| {
                let model = json!({"storageUri": format!("s3://models/{number}")});
                json!({"trafficPercent": percent, "predictor": {"name": name, "model": model}})
            };
            spec["canary"] = json!(canaries.into_iter().map(canary).collect::<Vec<_>>());
        }
        spec["predictor"] = predictor;
        spec
    })
}

/// What happens next: an edit, or pods that come and go.
#[derive(Debug, Clone)]
enum Step {
    Edit(Value),
    /// By a number that picks a Deployment: ready pods, and time that goes by.
    Pods(Vec<(usize, i64)>, i64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let pods = prop::collection::vec((0..6_usize, 0..3_i64), 1..4);
    prop_oneof![
        any_spec().prop_map(Step::Edit),
        (pods, 0..40_i64).prop_map(|(pods, seconds)| Step::Pods(pods, seconds))
    ]
}

fn edit(world: &mut World, spec: &Value) {
    world.write(json!({
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "iris"}, "spec": spec,
    }));
}

/// Ready pods by the `app` label of their Deployment.
fn ready(world: &World) -> BTreeMap<String, i64> {
    let app = |own: &Value| tree::text(own, &["spec", "selector", "matchLabels", "app"]).unwrap().to_owned();
    let pods = |own: &Value| tree::number(own, &["status", "availableReplicas"]).unwrap_or(0);
    world.all("Deployment").iter().map(|own| (app(own), pods(own))).collect()
}

/// The share of each `app` by the route, and the one that callers inside the cluster reach.
fn reached(world: &World) -> (BTreeMap<String, i64>, Option<String>) {
    let services = world.all("Service");
    let app = |name: &Value| {
        let service = services.iter().find(|own| own["metadata"]["name"] == *name)?;
        tree::text(service, &["spec", "selector", "app"]).map(str::to_owned)
    };
    let mut shares = BTreeMap::new();
    if let Some(route) = world.all("HTTPRoute").first() {
        for backend in tree::list(&tree::list(route, &["spec", "rules"])[0], &["backendRefs"]) {
            *shares.entry(app(&backend["name"]).unwrap()).or_insert(0) += backend["weight"].as_i64().unwrap();
        }
    }
    (shares, app(&json!("iris-predictor")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn however_specs_and_pods_change_weights_add_up_and_nobody_without_pods_is_asked_while_another_could_answer(
        first in any_spec(), steps in prop::collection::vec(any_step(), 0..8),
    ) {
        let settings = Settings { gateway: Some(("kserve".into(), "gateway".into())), ..Settings::default() };
        let mut world = World::new(settings);
        edit(&mut world, &first);
        world.settle("iris");
        for step in &steps {
            match step {
                Step::Edit(spec) => edit(&mut world, spec),
                Step::Pods(pods, seconds) => {
                    let deployments = world.all("Deployment");
                    for (pick, ready) in pods {
                        let own = &deployments[pick % deployments.len()];
                        let wanted = own["spec"]["replicas"].as_i64().unwrap_or(1);
                        world.set_ready(tree::name(own), wanted, *ready.min(&wanted));
                    }
                    world.observe(&Observation { seconds: *seconds, ..Observation::default() });
                }
            }
            // Comes to rest, which says that the plan of a plan is empty.
            world.settle("iris");
            check(&world, "iris");
            let ready = ready(&world);
            let (shares, inside) = reached(&world);
            let answers = |app: &String| ready.get(app).is_some_and(|pods| *pods > 0);
            if shares.keys().any(answers) {
                for app in shares.keys() {
                    prop_assert!(answers(app), "{} is asked and has no pods: {:?} {:?}", app, shares, ready);
                }
            }
            if let Some(inside) = inside.filter(|_| shares.keys().any(answers)) {
                prop_assert!(answers(&inside), "callers inside reach {}, which has no pods: {:?}", inside, ready);
            }
            let status = world.status("iris");
            prop_assert_eq!(&status["observedGeneration"], &world.service("iris")["metadata"]["generation"]);
        }
    }

    #[test]
    fn fields_that_nobody_knows_reach_the_pods(
        field in "x[a-z]{1,8}", value in prop_oneof![any::<i32>().prop_map(Value::from), "[a-z]{1,8}".prop_map(Value::from)],
    ) {
        let mut world = World::new(Settings::default());
        let mut spec = json!({"predictor": {"model": {"modelFormat": {"name": "onnx"}, "storageUri": "s3://a/b"}}});
        spec["predictor"][&field] = value.clone();
        spec["predictor"]["model"][&field] = value.clone();
        edit(&mut world, &spec);
        world.settle("iris");
        let pod = &world.all("Deployment")[0]["spec"]["template"]["spec"];
        prop_assert_eq!(&pod[&field], &value);
        prop_assert_eq!(&pod["containers"][0][&field], &value);
        prop_assert!(covers(&world.service("iris")["spec"], &spec));
    }
}

#[test]
fn pods_are_made_from_what_is_kept_so_that_a_newer_controller_restarts_none() {
    let mut world = World::new(Settings::default());
    edit(&mut world, &json!({"predictor": {"model": {"modelFormat": {"name": "onnx"}, "storageUri": "s3://a/b"}}}));
    world.settle("iris");
    // As another version of the controller would have made it.
    let revision = key("ControllerRevision", "iris-predictor-00001");
    let mut older = world.store.delete(&revision, None).unwrap();
    older["data"]["template"]["spec"]["priorityClassName"] = json!("older");
    world.store.create(revision, older, "older").unwrap();
    world.settle("iris");
    assert_eq!(world.all("Deployment").len(), 1);
    assert_eq!(world.all("Deployment")[0]["spec"]["template"]["spec"]["priorityClassName"], "older");
}
