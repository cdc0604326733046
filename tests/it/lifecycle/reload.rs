//! New files and new versions in place of old ones, under load.

use serde_json::json;
use tensorgate::contract::metrics as names;

use super::{Load, row, states};
use crate::support::tensors::*;
use crate::support::{Models, Server, eventually};

/// Row `[-1, 2]` comes back as it is from one fixture and as `[0, 2]` from the other.
fn one_or_the_other(answer: &crate::support::http::Answer) {
    let first = &answer.json()["outputs"][0]["data"][0];
    assert!([json!(-1.0), json!(0.0)].contains(first), "{first}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_files_are_taken_up_without_a_failed_request() {
    let models = Models::new().with("m", "identity_fp32");
    let server = Server::explicit(&models).await;
    let mut http = server.http().await;
    assert_eq!(http.post("/v2/repository/models/m/load", "").await.status, 200);
    let load = Load::start(&server, &["m"; 4], one_or_the_other).await;
    for turn in 0..10 {
        let (fixture, first) = [("inner_shape_note", 0.0), ("identity_fp32", -1.0)][turn % 2];
        models.put("m", 1, fixture);
        assert_eq!(http.post("/v2/repository/models/m/load", "").await.status, 200);
        // Once the load is answered, nobody gets the old model any more.
        let answer = http.infer("m", &json_body(&row())).await.json();
        assert_eq!(answer["outputs"][0]["data"][0], json!(first), "turn {turn}");
        load.more(20).await;
    }
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_version_takes_over_without_a_failed_request() {
    let models = Models::new().with("m", "identity_fp32");
    let server = Server::explicit(&models).await;
    let mut http = server.http().await;
    assert_eq!(http.post("/v2/repository/models/m/load", "").await.status, 200);
    let load = Load::start(&server, &["m"; 4], one_or_the_other).await;
    for version in 2..=6 {
        models.put("m", version, ["inner_shape_note", "identity_fp32"][version as usize % 2]);
        assert_eq!(http.post("/v2/repository/models/m/load", "").await.status, 200);
        let answer = http.infer("m", &json_body(&row())).await.json();
        assert_eq!(answer["model_version"], version.to_string());
        load.more(20).await;
    }
    load.stop().await;
    let index = http.post("/v2/repository/index", json!({ "ready": true }).to_string()).await.json();
    assert_eq!(states(&index), ["m 6 READY"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_version_that_is_broken_leaves_the_old_one_serving() {
    let models = Models::new().with("m", "identity_fp32");
    let server = Server::explicit(&models).await;
    let mut http = server.http().await;
    assert_eq!(http.post("/v2/repository/models/m/load", "").await.status, 200);
    let load = Load::start(&server, &["m"; 2], one_or_the_other).await;
    models.put("m", 2, "garbage");
    let refused = http.post("/v2/repository/models/m/load", "").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.error().contains("version 2"), "{refused:?}");
    load.more(20).await;
    let answer = http.infer("m", &json_body(&row())).await.json();
    assert_eq!(answer["model_version"], "1");
    let index = http.post("/v2/repository/index", "").await.json();
    assert_eq!(states(&index), ["m 1 READY", "m 2 UNAVAILABLE"]);
    // The files of the version that serves are no way to lose it either.
    models.put("m", 1, "truncated");
    std::fs::remove_dir_all(models.path().join("m/2")).unwrap();
    assert_eq!(http.post("/v2/repository/models/m/load", "").await.status, 503);
    load.more(20).await;
    load.stop().await;
    // Whole again, it is taken up.
    models.put("m", 1, "inner_shape_note");
    assert_eq!(http.post("/v2/repository/models/m/load", "").await.status, 200);
    assert_eq!(http.infer("m", &json_body(&row())).await.json()["outputs"][0]["data"][0], json!(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unload_waits_for_the_requests_under_way() {
    let models = Models::new().with_slow_identity("busy", 300, "");
    let server = Server::explicit(&models).await;
    let mut http = server.http().await;
    assert_eq!(http.post("/v2/repository/models/busy/load", "").await.status, 200);
    let mut other = server.http().await;
    let inputs = named([("x", tensor([1, 4], [1_f32; 4]))]);
    let body = json_body(&inputs);
    let call = tokio::spawn(async move { other.infer("busy", &body).await });
    eventually("the request to be under way", async || {
        (server.metrics().await.sum(names::IN_FLIGHT, &[]) == 1.0).then_some(())
    })
    .await;
    assert_eq!(http.post("/v2/repository/models/busy/unload", "").await.status, 200);
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum(names::REQUESTS, &[("kind", "ok")]), 1.0);
    assert_eq!(metrics.sum(names::IN_FLIGHT, &[]), 0.0);
    assert_eq!(outputs_of(&call.await.unwrap()), inputs);
    assert_eq!(http.infer("busy", &json_body(&inputs)).await.status, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_and_unloads_at_once_end_in_one_state() {
    let models = Models::new().with("m", "identity_fp32");
    let server = Server::explicit(&models).await;
    let mut calls = tokio::task::JoinSet::new();
    for call in 0..24 {
        let mut http = server.http().await;
        let path = format!("/v2/repository/models/m/{}", if call % 3 == 2 { "unload" } else { "load" });
        calls.spawn(async move { http.post(&path, "").await.status.as_u16() });
    }
    for status in calls.join_all().await {
        // A load that an unload overtook says so.
        assert!([200, 503].contains(&status), "{status}");
    }
    let mut http = server.http().await;
    assert_eq!(http.post("/v2/repository/models/m/load", "").await.status, 200);
    assert_eq!(http.infer("m", &json_body(&row())).await.status, 200);
    assert_eq!(http.post("/v2/repository/models/m/unload", "").await.status, 200);
    assert_eq!(http.infer("m", &json_body(&row())).await.status, 503);
}
