//! From a manifest to predictions, through a canary and back, and through guarded rollouts, while callers never stop.
//!
//! With `TENSORGATE_TEST_KUBECONFIG` the same runs on that cluster, whose controller has `--router-image`, from where Services' names
//! are known: in a pod of it. `TENSORGATE_TEST_STORAGE` is a place that holds what `Cluster` has in its claim.

use serde_json::{Value, json};
use tensorgate_controller::tree;

use super::storm::{Question, Storm};
use super::{Cluster, PATIENCE, Site, inference_service, revision_of};
use crate::binary::Controller;

/// Answers by which a split is judged.
const WINDOW: u64 = 600;
/// Far more windows than it takes until the router has seen new weights, which it looks for every two seconds.
const WINDOWS_MAX: usize = 200;

/// The first two versions of the sample model differ in what they say of the second flower.
pub(super) fn iris() -> Question {
    let body = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/iris/example.json")).unwrap();
    let is_right = |revision: &str, answer: &Value| {
        let labels = tree::list(answer, &["outputs"]).iter().find(|own| own["name"] == "label");
        let second = if revision.ends_with('2') { 1 } else { 2 };
        labels.is_some_and(|own| own["data"] == json!([0, second, 2]))
    };
    let values = vec![5.1, 3.5, 1.4, 0.2, 6.7, 3.0, 5.0, 1.7, 5.9, 3.0, 5.1, 1.8];
    let body = serde_json::from_str(&body).unwrap();
    Question { model: "iris", body, name: "features", shape: vec![3, 4], values, is_right }
}

pub(super) fn echo() -> Question {
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1.0, 2.0, 3.0, 4.0]}]});
    let is_right = |_: &str, answer: &Value| answer["outputs"][0]["data"] == json!([1.0, 2.0, 3.0, 4.0]);
    Question { model: "echo", body, name: "x", shape: vec![1, 4], values: vec![1.0, 2.0, 3.0, 4.0], is_right }
}

/// Waits until answers come from revisions in these shares, within five standard deviations.
async fn until_split(storm: &Storm, name: &str, shares: &[(u32, f64)]) {
    let mut seen = Default::default();
    for _ in 0..WINDOWS_MAX {
        seen = storm.next(WINDOW).await;
        let all = seen.values().sum::<u64>() as f64;
        let fits = |(revision, share): &(u32, f64)| {
            let count = seen.get(&revision_of(name, *revision)).copied().unwrap_or(0) as f64;
            (count - all * share).abs() <= 5.0 * (all * share * (1.0 - share)).sqrt() + 1.0
        };
        let named = |revision: &String| shares.iter().any(|(own, _)| revision_of(name, *own) == *revision);
        if seen.keys().all(named) && shares.iter().all(fits) {
            return;
        }
    }
    panic!("answers never came in the shares {shares:?}: {seen:?}");
}

/// Callers of a service whose router is in front: only its answers say who gave them. A connection to a pod that was there before the
/// router stays with it, so that they are begun anew until none is.
pub(super) async fn storm(site: &Site, question: &Question, name: &str) -> Storm {
    let routed = async {
        loop {
            let (http, grpc) = (site.address(name, false).await, site.address(name, true).await);
            let storm = Storm::start(question, &http, &grpc, 3);
            if !storm.next(40).await.contains_key("") {
                return storm;
            }
        }
    };
    tokio::time::timeout(PATIENCE, routed).await.expect("the router in front")
}

pub(super) async fn until_routed(site: &Site, name: &str) {
    site.wait(name, "to be ready", |own| {
        let conditions = tree::list(own, &["status", "conditions"]);
        conditions.iter().any(|own| own["type"] == "Ready" && own["status"] == "True")
    })
    .await;
}

/// A canary at 0, 10, 50 and 100 per cent, and a way back from 10.
async fn canary(site: &Site) {
    let service = |place: &str, percent: Option<i32>| {
        let percent = percent.map_or(json!({}), |own| json!({"canaryTrafficPercent": own}));
        inference_service("iris", &format!("{}/samples/iris/{place}", site.storage), percent, json!({}))
    };
    site.apply(&service("1", None)).await;
    until_routed(site, "iris").await;
    let storm = storm(site, &iris(), "iris").await;
    until_split(&storm, "iris", &[(1, 1.0)]).await;
    for percent in [0, 10, 0, 10, 50] {
        site.apply(&service("2", Some(percent))).await;
        let shares = [(2, i64::from(percent)), (1, i64::from(100 - percent))];
        let shares = shares.into_iter().filter(|(_, share)| *share > 0).collect::<Vec<_>>();
        site.wait_for_shares("iris", &shares).await;
        let shares = shares.iter().map(|(revision, share)| (*revision, *share as f64 / 100.0)).collect::<Vec<_>>();
        until_split(&storm, "iris", &shares).await;
    }
    site.apply(&service("2", None)).await;
    let rolled_out = site.wait_for_shares("iris", &[(2, 100)]).await;
    until_split(&storm, "iris", &[(2, 1.0)]).await;
    let status = &rolled_out["status"]["components"]["predictor"];
    assert_eq!(status["previousRolledoutRevision"], revision_of("iris", 1));
    let counted = storm.stop().await;
    assert_eq!((counted.failed, &counted.failures), (0, &Vec::new()));
    for protocol in ["http", "grpc"] {
        let both = [1, 2].iter().all(|own| counted.answered.contains_key(&(protocol, revision_of("iris", *own))));
        assert!(both, "{:?}", counted.answered);
    }
}

/// A revision that is too slow is undone, and one that is as good is rolled out, by what their servers count.
async fn guarded(site: &Site) {
    let rollout = r#"{"steps": [20, 50], "stepRequests": 50, "stepTime": "1s", "errors": 0.05, "late": 0.05}"#;
    let service = |place: &str| {
        let uri = format!("{}/echo/{place}", site.storage);
        inference_service("echo", &uri, json!({}), json!({"tensorgate.dev/rollout": rollout}))
    };
    site.apply(&service("1")).await;
    until_routed(site, "echo").await;
    let storm = storm(site, &echo(), "echo").await;
    site.apply(&service("slow")).await;
    let phase = |phase: &'static str, number: u32| {
        move |own: &Value| {
            let rollout = tree::at(own, &["status", "components", "predictor", "rollout"]);
            rollout["phase"] == phase && rollout["revision"] == revision_of("echo", number)
        }
    };
    let undone = site.wait("echo", "the slow revision to be undone", phase("RolledBack", 2)).await;
    let message = undone["status"]["components"]["predictor"]["rollout"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("rolled back at step 1 of 2 (20 %), lat"), "{message}");
    site.wait_for_shares("echo", &[(1, 100)]).await;
    until_split(&storm, "echo", &[(1, 1.0)]).await;
    // What was decided is written before anything is done, the conditions afterwards.
    site.wait("echo", "the condition", |own| {
        let conditions = tree::list(own, &["status", "conditions"]);
        let is_told = |own: &Value| own["type"] == "CanaryAnalysis" && own["reason"] == "RolledBack";
        conditions.iter().any(|own| is_told(own) && own["status"] == "False" && own["message"].as_str().is_some())
    })
    .await;

    site.apply(&service("2")).await;
    site.wait("echo", "the good revision to be rolled out", phase("Promoted", 3)).await;
    site.wait_for_shares("echo", &[(3, 100)]).await;
    until_split(&storm, "echo", &[(3, 1.0)]).await;
    assert_eq!(
        site.get("echo").await["spec"],
        {
            let mut own = service("2");
            own["spec"].take()
        },
        "the spec is the user's"
    );
    let events = site.events().await;
    for (reason, told) in [
        ("RolledBack", "rolled back at step 1"),
        ("RolloutAdvanced", "gone on to 50 %"),
        ("RolloutPromoted", "promoted"),
    ] {
        assert!(events.iter().any(|own| own.starts_with(reason) && own.contains(told)), "{reason}: {events:#?}");
    }
    let counted = storm.stop().await;
    assert_eq!((counted.failed, &counted.failures), (0, &Vec::new()), "the slow revision was slow, and lost nothing");
}

/// A revision whose answers are other ones is undone at the shadow step, before anybody got one; the same model again is rolled out.
async fn shadowed(site: &Site) {
    let rollout = r#"{"steps": [50], "stepRequests": 50, "stepTime": "1s", "errors": 0.05, "late": 0.05, "latency": 20,
        "shadow": {"share": 1}}"#;
    let service = |place: &str, argument: &str| {
        let uri = format!("{}/samples/iris/{place}", site.storage);
        let mut own = inference_service("iris", &uri, json!({}), json!({"tensorgate.dev/rollout": rollout}));
        let arguments = &mut own["spec"]["predictor"]["model"]["args"];
        arguments.as_array_mut().unwrap().push(json!(argument));
        own
    };
    site.apply(&service("1", "--slo=500ms")).await;
    until_routed(site, "iris").await;
    let storm = storm(site, &iris(), "iris").await;
    let phase = |phase: &'static str, number: u32| {
        move |own: &Value| {
            let rollout = tree::at(own, &["status", "components", "predictor", "rollout"]);
            rollout["phase"] == phase && rollout["revision"] == revision_of("iris", number)
        }
    };
    site.apply(&service("2", "--slo=500ms")).await;
    let undone = site.wait("iris", "the other model to be undone", phase("RolledBack", 2)).await;
    let message = undone["status"]["components"]["predictor"]["rollout"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("rolled back at the shadow step") && message.contains("disagreement: "), "{message}");
    site.wait_for_shares("iris", &[(1, 100)]).await;
    until_split(&storm, "iris", &[(1, 1.0)]).await;

    site.apply(&service("1", "--slo=501ms")).await;
    site.wait("iris", "the same model to be rolled out", phase("Promoted", 3)).await;
    let events = site.events().await;
    let told = |reason: &str, part: &str| events.iter().any(|own| own.starts_with(reason) && own.contains(part));
    assert!(told("RolledBack", "shadow step") && told("RolloutAdvanced", "after the shadow step"), "{events:#?}");
    let counted = storm.stop().await;
    assert_eq!((counted.failed, &counted.failures), (0, &Vec::new()));
    assert!(!counted.by_revision().contains_key(&revision_of("iris", 2)), "{:?}", counted.answered);
}

/// The cluster that is named in the environment; else one of processes, with a controller.
async fn site() -> (Site, Option<(Cluster, Controller)>) {
    if let Some(path) = std::env::var_os("TENSORGATE_TEST_KUBECONFIG") {
        let file = kube::config::Kubeconfig::read_from(path).unwrap();
        let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
        let storage = std::env::var("TENSORGATE_TEST_STORAGE").expect("TENSORGATE_TEST_STORAGE, where the models are");
        return (Site { client: kube::Client::try_from(config).unwrap(), storage, proxies: None }, None);
    }
    let cluster = Cluster::start().await;
    for (place, milliseconds) in [("1", 0), ("2", 0), ("slow", 150)] {
        cluster.add_identity(&format!("echo/{place}"), milliseconds);
    }
    let controller = cluster.controller().await;
    (cluster.site().await, Some((cluster, controller)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_goes_through_canaries_and_back_while_nobody_loses_a_request() {
    let (site, _running) = site().await;
    canary(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_rollout_undoes_a_slow_revision_and_rolls_a_good_one_out_while_nobody_loses_a_request() {
    let (site, _running) = site().await;
    guarded(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_undoes_a_revision_with_other_answers_before_anybody_gets_one() {
    let (site, _running) = site().await;
    shadowed(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_be_loaded_says_so_in_the_status_and_leaves_what_serves() {
    let cluster = Cluster::start().await;
    cluster.add_identity("echo/1", 0);
    std::fs::create_dir_all(cluster.models.path().join("echo/broken")).unwrap();
    std::fs::write(cluster.models.path().join("echo/broken/model.onnx"), "no model").unwrap();
    let _controller = cluster.controller().await;
    let site = cluster.site().await;
    let service = |place: &str| inference_service("echo", &format!("pvc://models/echo/{place}"), json!({}), json!({}));
    site.apply(&service("1")).await;
    until_routed(&site, "echo").await;
    let storm = storm(&site, &echo(), "echo").await;
    site.apply(&service("broken")).await;
    let failed =
        site.wait("echo", "the failure", |own| own["status"]["modelStatus"]["lastFailureInfo"].is_object()).await;
    let failure = &failed["status"]["modelStatus"]["lastFailureInfo"];
    assert_eq!((&failure["reason"], &failure["exitCode"]), (&json!("ModelLoadFailed"), &json!(1)));
    assert!(failure["message"].as_str().unwrap().contains("model.onnx"), "{failure}");
    until_split(&storm, "echo", &[(1, 1.0)]).await;
    assert_eq!(storm.stop().await.failures, Vec::<String>::new());
}
