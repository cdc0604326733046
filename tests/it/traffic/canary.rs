//! A canary that is guarded takes over where it is as good, and goes where it is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use tensorgate::contract::metrics as names;
use tokio::task::JoinSet;

use super::{call, set, told, versions};
use crate::support::tensors::*;
use crate::support::{Http, Models, Server, eventually};

/// Clients over both doors that ask until they are told to stop.
struct Callers {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
    clients: JoinSet<()>,
}

impl Callers {
    async fn start(server: &Server, inputs: &Named) -> Self {
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = JoinSet::new();
        for _ in 0..2 {
            let (mut http, mut grpc) = (server.http().await, server.grpc().await);
            let (stop, failed, inputs) = (Arc::clone(&stop), Arc::clone(&failed), inputs.clone());
            clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let over_http = http.infer("m", &json_body(&inputs)).await.status == 200;
                    let over_grpc = grpc.model_infer(message("m", &inputs)).await.is_ok();
                    failed.fetch_add([over_http, over_grpc].iter().filter(|ok| !**ok).count(), Ordering::Relaxed);
                }
            });
        }
        Self { stop, failed, clients }
    }

    /// How many requests failed.
    async fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        self.failed.load(Ordering::Relaxed)
    }
}

async fn ended(http: &mut Http) -> Value {
    eventually("the canary to end", async || {
        let canary = told(http).await["canary"].clone();
        (canary["state"] != "running").then_some(canary)
    })
    .await
}

/// Has version 2 take over from version 1 in quick steps, with `more` conditions, while callers ask; gives the canary as it ended, and
/// the requests that failed.
async fn rollout(models: &Models, inputs: &Named, more: Value) -> (Value, usize) {
    let server = Server::start(models).await;
    let mut http = server.http().await;
    let mut canary = json!({
        "version": 2, "steps": [20, 50], "step_time": "0s", "step_requests": 50, "interval": "20ms", "errors": 0.05, "late": 0.05,
        // Threads of a busy machine are late by chance.
        "latency": 20,
    });
    for (key, value) in more.as_object().unwrap() {
        canary[key] = value.clone();
    }
    let callers = Callers::start(&server, inputs).await;
    set(&mut http, json!({ "canary": canary })).await;
    let ended = ended(&mut http).await;
    let failed = callers.stop().await;
    let told = told(&mut http).await;
    let [stable, canary] = [0, 1].map(|index| told["versions"][index]["share"].as_f64().unwrap());
    let promoted = ended["state"] == "promoted";
    assert_eq!((stable, canary), if promoted { (0.0, 1.0) } else { (1.0, 0.0) }, "{told}");
    let answer = http.infer("m", &json_body(inputs)).await.json();
    assert_eq!(answer["model_version"], if promoted { "2" } else { "1" });
    let metrics = server.metrics().await;
    let state = ended["state"].as_str().unwrap();
    assert_eq!(metrics.sum(names::CANARY_STATE, &[("model", "m"), ("version", "2"), ("state", state)]), 1.0);
    assert_eq!(metrics.sum(names::CANARY_STATE, &[]), 1.0);
    (ended, failed)
}

fn inputs(columns: usize) -> Named {
    named([("x", tensor([1, columns], vec![-1_f32; columns]))])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_canary_is_promoted_and_no_request_fails() {
    let models = versions(&["identity_fp32", "identity_fp32"], "");
    let (canary, failed) = rollout(&models, &inputs(2), json!({ "disagreement": 0.2, "share": 1 })).await;
    assert_eq!((&canary["state"], failed), (&json!("promoted"), 0), "{canary}");
    let reason = canary["reason"].as_str().unwrap();
    assert!(reason.starts_with("promoted after step 2 of 2 (50 %), errors: 0 of "), "{reason}");
    assert_eq!(canary["compared"]["disagreed"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_fails_is_rolled_back_and_the_reason_says_so() {
    let models = versions(&["identity_fp32", "loads_but_cannot_run"], "warm_up = false");
    let (canary, failed) = rollout(&models, &inputs(4), json!({})).await;
    assert_eq!(canary["state"], "rolled_back", "{canary}");
    let reason = canary["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("rolled back at step 1 of 2 (20 %), errors: ") && reason.contains("(100 %)"),
        "{reason}"
    );
    assert!(failed > 0, "those that the canary answered");
    assert_eq!(canary["conditions"][0]["verdict"], "bad");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_answers_otherwise_is_rolled_back_without_a_failed_request() {
    let models = versions(&["identity_fp32", "inner_shape_note"], "");
    let (canary, failed) = rollout(&models, &inputs(2), json!({ "disagreement": 0.05, "share": 1 })).await;
    assert_eq!((&canary["state"], failed), (&json!("rolled_back"), 0), "{canary}");
    assert!(canary["reason"].as_str().unwrap().contains("disagreement: "), "{canary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_canary_is_rolled_back() {
    let models = versions(&["identity_fp32", "slow"], "");
    let (canary, _) = rollout(&models, &inputs(1), json!({ "latency": 1.5 })).await;
    assert_eq!(canary["state"], "rolled_back", "{canary}");
    assert!(canary["reason"].as_str().unwrap().contains("latency: "), "{canary}");
}

#[tokio::test]
async fn a_canary_whose_version_goes_gives_its_share_back_and_is_held_and_another_hand_ends_it() {
    let models = versions(&["identity_fp32", "garbage"], "");
    let server = Server::start(&models).await;
    let mut http = server.http().await;
    set(&mut http, json!({ "canary": { "version": 2, "interval": "10ms" } })).await;
    let held = eventually("the canary to be held", async || {
        let canary = told(&mut http).await["canary"].clone();
        canary["reason"].as_str().is_some_and(|reason| reason.starts_with("held")).then_some(canary)
    })
    .await;
    assert!(held["reason"].as_str().unwrap().contains("model 'm' version 2 is not ready"), "{held}");
    for _ in 0..50 {
        assert_eq!(http.infer("m", &json_body(&inputs(2))).await.json()["model_version"], "1");
    }
    set(&mut http, json!({ "weights": { "1": 1 } })).await;
    assert_eq!(told(&mut http).await.get("canary"), None);
    assert_eq!(call(&mut http, http::Method::DELETE, &json!(null)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_of_the_settings_goes_on_through_a_reload_that_changes_nothing_of_it() {
    let canary = "[traffic.canary]\nversion = 2\nsteps = [50]\nstep_time = \"0s\"\ninterval = \"10ms\"\nerrors = 0.2\nlate = 0.2\nlatency = 50";
    let models = versions(&["identity_fp32", "identity_fp32"], canary);
    let server = Server::explicit(&models).await;
    let mut http = server.http().await;
    assert_eq!(http.post("/v2/repository/models/m/load", "").await.status, 200);
    let callers = Callers::start(&server, &inputs(2)).await;
    assert_eq!(ended(&mut http).await["state"], "promoted");
    models.put("m", 2, "inner_shape_note");
    assert_eq!(http.post("/v2/repository/models/m/load", "").await.status, 200);
    assert_eq!(told(&mut http).await["canary"]["state"], "promoted");
    assert_eq!(callers.stop().await, 0);
}
