//! Weights, and keys that keep callers at a version.

use futures_util::stream;
use serde_json::json;
use tensorgate::contract::metrics as names;

use super::{call, row, set, told, version, versions};
use crate::support::Server;
use crate::support::tensors::*;

const TWO: [&str; 2] = ["identity_fp32", "inner_shape_note"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_split_by_weight_over_both_doors_and_one_that_names_a_version_is_not() {
    let server = Server::start(&versions(&TWO, "[traffic]\nweights = { 1 = 80, 2 = 20 }")).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    let mut second = 0_u32;
    for _ in 0..500 {
        second += u32::from(version(&mut http, &[]).await == "2");
        let answer = grpc.model_infer(message("m", &row())).await.unwrap().into_inner();
        second += u32::from(answer.model_version == "2");
    }
    // Five standard deviations of 1000 draws with p = 0.2.
    assert!(second.abs_diff(200) < 64, "{second}");
    for wanted in ["1", "2"] {
        let mut message = message("m", &row());
        message.model_version = wanted.into();
        assert_eq!(grpc.model_infer(message).await.unwrap().into_inner().model_version, wanted);
    }
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum(names::TRAFFIC_SHARE, &[("model", "m"), ("version", "2")]), 0.2);
    let answered = metrics.sum(names::REQUESTS, &[("version", "2"), ("kind", "ok")]);
    assert_eq!(answered, f64::from(second) + 1.0);
}

#[tokio::test]
async fn a_caller_stays_at_its_version_over_both_doors_and_streams_and_by_header_or_cookie() {
    let server =
        Server::start(&versions(&TWO, "[traffic]\nweights = { 1 = 1, 2 = 1 }\nsticky = { header = \"X-User\" }")).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    let mut seen = std::collections::BTreeSet::new();
    for user in 0..20 {
        let user = format!("user-{user}");
        let first = version(&mut http, &[("x-user", &user)]).await;
        for _ in 0..3 {
            assert_eq!(version(&mut http, &[("x-user", &user)]).await, first, "{user}");
        }
        let mut call = tonic::Request::new(message("m", &row()));
        call.metadata_mut().insert("x-user", user.parse().unwrap());
        assert_eq!(grpc.model_infer(call).await.unwrap().into_inner().model_version, first, "{user}");
        let mut call = tonic::Request::new(stream::iter([message("m", &row())]));
        call.metadata_mut().insert("x-user", user.parse().unwrap());
        let mut answers = grpc.model_stream_infer(call).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().infer_response.unwrap();
        assert_eq!(answer.model_version, first, "{user}");
        seen.insert(first);
    }
    assert_eq!(seen.len(), 2, "twenty users are at both versions");
    // Whoever is at the version that grows stays there.
    let mut at_second = Vec::new();
    for user in 0..20 {
        let user = format!("user-{user}");
        if version(&mut http, &[("x-user", &user)]).await == "2" {
            at_second.push(user);
        }
    }
    set(&mut http, json!({ "weights": { "1": 1, "2": 3 }, "sticky": { "cookie": "session" } })).await;
    for user in &at_second {
        assert_eq!(version(&mut http, &[("cookie", &format!("a=b; session={user}"))]).await, "2", "{user}");
    }
}

#[tokio::test]
async fn what_is_set_lasts_through_reloads_until_it_is_taken_back() {
    let models = versions(&TWO, "[traffic]\nweights = { 1 = 1 }");
    let server = Server::explicit(&models).await;
    let mut http = server.http().await;
    assert_eq!(http.post("/v2/repository/models/m/load", "").await.status, 200);
    assert_eq!(told(&mut http).await["source"], "settings");
    assert_eq!(version(&mut http, &[]).await, "1");
    let set = set(&mut http, json!({ "weights": { "1": 0, "2": 7 } })).await;
    assert_eq!(set["source"], "set");
    assert_eq!(set["versions"][1], json!({ "version": "2", "state": "READY", "weight": 7.0, "share": 1.0 }));
    models.put("m", 2, "identity_fp32");
    assert_eq!(http.post("/v2/repository/models/m/load", "").await.status, 200);
    assert_eq!(version(&mut http, &[]).await, "2");
    let taken_back = call(&mut http, http::Method::DELETE, &json!(null)).await.json();
    assert_eq!((&taken_back["source"], &taken_back["settings"]["weights"]), (&json!("settings"), &json!({ "1": 1.0 })));
    assert_eq!(version(&mut http, &[]).await, "1");
    // Settings that change are taken up with the load that reads them.
    models.write("m", "model.toml", "versions = \"all\"\n");
    assert_eq!(http.post("/v2/repository/models/m/load", "").await.status, 200);
    assert_eq!(told(&mut http).await["source"], "newest");
    assert_eq!(version(&mut http, &[]).await, "2");
}

#[tokio::test]
async fn what_is_not_served_gives_its_weight_to_the_others_and_a_version_without_weight_never_answers() {
    let models = versions(&["identity_fp32", "garbage", "inner_shape_note"], "[traffic]\nweights = { 1 = 1, 2 = 9 }");
    let server = Server::start(&models).await;
    let mut http = server.http().await;
    for _ in 0..20 {
        assert_eq!(version(&mut http, &[]).await, "1");
    }
    let told = told(&mut http).await;
    assert_eq!((&told["versions"][0]["share"], &told["versions"][1]["share"]), (&json!(1.0), &json!(0.0)), "{told}");
    assert_eq!(told["versions"][1]["state"], "UNAVAILABLE");
    assert!(told["versions"][1]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{told}");
    // Where none of them serves, the newest that was not left out does.
    set(&mut http, json!({ "weights": { "1": 0, "2": 1 } })).await;
    assert_eq!(version(&mut http, &[]).await, "3");
    set(&mut http, json!({ "weights": { "1": 0, "2": 1, "3": 0 } })).await;
    let refused = http.infer("m", &json_body(&row())).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.error().contains("version 1, 3 gets none"), "{refused:?}");
}

#[tokio::test]
async fn v1_is_split_too() {
    let server = Server::start(&versions(&TWO, "[traffic]\nweights = { 1 = 1, 2 = 1 }")).await;
    let mut http = server.http().await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let answer = http.post("/v1/models/m:predict", json!({ "instances": [[-1, 2]] }).to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        seen.insert(answer.json()["predictions"].to_string());
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}

#[tokio::test]
async fn a_model_without_traffic_is_answered_by_its_newest_version_beside_one_that_is_split() {
    let models = versions(&TWO, "[traffic]\nweights = { 1 = 1 }").with("plain", "identity_fp32");
    models.put("plain", 2, "inner_shape_note");
    let server = Server::start(&models).await;
    let mut http = server.http().await;
    assert_eq!(version(&mut http, &[]).await, "1");
    assert_eq!(http.infer("plain", &json_body(&row())).await.json()["model_version"], "2");
    let plain = http.get("/v2/models/plain/traffic").await.json();
    assert_eq!((&plain["source"], &plain["settings"]), (&json!("newest"), &json!({})));
    assert!(!server.metrics().await.has(names::TRAFFIC_SHARE, &[("model", "plain")]));
}
