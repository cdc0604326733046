//! `/metrics`: the documented names, and counts that are right.

use tensorgate::contract::metrics as names;

use crate::support::tensors::*;
use crate::support::{Models, Server};

fn row() -> Named {
    named([("x", tensor([1, 2], [1_f32, 2.]))])
}

#[tokio::test]
async fn every_documented_metric_is_there_in_the_text_format() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let answer = server.http().await.get("/metrics").await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    for (name, kind) in [
        (names::REQUESTS, "counter"),
        (names::REQUEST_SECONDS, "histogram"),
        (names::QUEUE_SECONDS, "histogram"),
        (names::EXECUTE_SECONDS, "histogram"),
        (names::BATCH_ROWS, "histogram"),
        (names::BATCH_RETRIES, "counter"),
        (names::BATCHES, "counter"),
        (names::MODEL_LATENCY, "gauge"),
        (names::MODEL_CAPACITY, "gauge"),
        (names::MODEL_ARRIVALS, "gauge"),
        (names::MODEL_OBJECTIVE, "gauge"),
        (names::IN_FLIGHT, "gauge"),
        (names::QUEUE_DEPTH, "gauge"),
        (names::LOAD_SECONDS, "gauge"),
        (names::MODEL_STATE, "gauge"),
    ] {
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name}: {text}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}: {text}");
    }
}

#[tokio::test]
async fn counts_are_right_after_traffic_that_is_known() {
    let server = Server::start(&Models::of(&["identity_fp32", "gather_rows"])).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    for _ in 0..3 {
        assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
        grpc.model_infer(message("identity_fp32", &row())).await.unwrap();
    }
    let three_rows = named([("x", tensor([3, 2], [0_f32; 6]))]);
    assert_eq!(http.infer("identity_fp32", &json_body(&three_rows)).await.status, 200);
    let wrong = named([("z", tensor([1], [1_f32]))]);
    assert_eq!(http.infer("identity_fp32", &json_body(&wrong)).await.status, 400);
    grpc.model_infer(message("identity_fp32", &wrong)).await.unwrap_err();
    let poison = named([("index", tensor([1], [99_i64]))]);
    assert_eq!(http.infer("gather_rows", &json_body(&poison)).await.status, 500);
    let metrics = server.metrics().await;
    let of = |model| [("model", model), ("version", "1")];
    let requests = |model, kind| metrics.sum(names::REQUESTS, &[("model", model), ("version", "1"), ("kind", kind)]);
    assert_eq!(requests("identity_fp32", "ok"), 7.0);
    assert_eq!(requests("identity_fp32", "invalid_request"), 2.0);
    assert_eq!(requests("identity_fp32", "execution"), 0.0);
    assert_eq!(requests("gather_rows", "execution"), 1.0);
    let count = |name: &str, model| metrics.sum(&format!("{name}_count"), &of(model));
    assert_eq!(count(names::REQUEST_SECONDS, "identity_fp32"), 9.0);
    assert_eq!(count(names::QUEUE_SECONDS, "identity_fp32"), 7.0);
    assert_eq!(count(names::EXECUTE_SECONDS, "identity_fp32"), count(names::BATCH_ROWS, "identity_fp32"));
    assert_eq!(metrics.sum(&format!("{}_sum", names::BATCH_ROWS), &of("identity_fp32")), 9.0);
    for gauge in [names::IN_FLIGHT, names::QUEUE_DEPTH] {
        assert_eq!(metrics.sum(gauge, &[]), 0.0, "{gauge}");
    }
    assert!(metrics.sum(names::LOAD_SECONDS, &of("identity_fp32")) > 0.0);
}

#[tokio::test]
async fn the_state_of_each_version_is_shown() {
    let models = Models::of(&["identity_fp32", "garbage"]);
    let server = Server::explicit(&models).await;
    let mut http = server.http().await;
    assert_eq!(http.post("/v2/repository/models/identity_fp32/load", "").await.status, 200);
    assert_eq!(http.post("/v2/repository/models/garbage/load", "").await.status, 503);
    let state = |metrics: &crate::support::metrics::Metrics, model| {
        let states = ["LOADING", "READY", "UNLOADING", "UNAVAILABLE"];
        states.map(|state| metrics.sum(names::MODEL_STATE, &[("model", model), ("version", "1"), ("state", state)]))
    };
    let metrics = server.metrics().await;
    assert_eq!(state(&metrics, "identity_fp32"), [0.0, 1.0, 0.0, 0.0]);
    assert_eq!(state(&metrics, "garbage"), [0.0, 0.0, 0.0, 1.0]);
    assert_eq!(http.post("/v2/repository/models/identity_fp32/unload", "").await.status, 200);
    assert_eq!(state(&server.metrics().await, "identity_fp32"), [0.0, 0.0, 0.0, 1.0]);
}

#[tokio::test]
async fn names_that_no_repository_holds_make_no_label_values() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    for stranger in 0..20 {
        let name = format!("stranger{stranger}");
        assert_eq!(http.infer(&name, &json_body(&row())).await.status, 404);
        assert_eq!(http.get(&format!("/v2/models/{name}/ready")).await.status, 404);
        grpc.model_infer(message(&name, &row())).await.unwrap_err();
        let mut versioned = message("identity_fp32", &row());
        versioned.model_version = (1000 + stranger).to_string();
        grpc.model_infer(versioned).await.unwrap_err();
    }
    let metrics = server.metrics().await;
    assert!(!metrics.text().contains("stranger"), "{}", metrics.text());
    assert!(!metrics.text().contains("version=\"10"), "{}", metrics.text());
    assert_eq!(metrics.sum(names::REQUESTS, &[("model", ""), ("kind", "unknown_model")]), 60.0);
    assert!(metrics.has(names::REQUESTS, &[("model", "identity_fp32")]));
}
