//! What can be set, by whom, and what is said to whoever sets something else.

use http::Method;
use serde_json::json;

use super::{call, set, told, version, versions};
use crate::support::http::request;
use crate::support::{Models, Server};

const TWO: [&str; 2] = ["identity_fp32", "inner_shape_note"];

#[tokio::test]
async fn a_version_that_there_is_not_is_refused_with_those_that_there_are_and_nothing_changes() {
    let server = Server::start(&versions(&TWO, "")).await;
    let mut http = server.http().await;
    set(&mut http, json!({ "weights": { "1": 1 } })).await;
    for (body, fault) in [
        (json!({ "weights": { "1": 1, "7": 1, "9": 1 } }), "version: 7, 9 is not served, expected one of 1, 2"),
        (json!({ "shadow": { "version": 3 } }), "3 is not served"),
        (json!({ "canary": { "version": 2, "stable": 4 } }), "4 is not served"),
        (json!({ "weights": { "1": -1 }, "steps": [] }), "weights: version 1: must be from 0"),
        (json!({ "weights": { "1": -1 }, "steps": [] }), "unknown key 'steps'"),
        (json!("x"), "expected a JSON object"),
    ] {
        let refused = call(&mut http, Method::PUT, &body).await;
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.error().contains(fault), "{fault} is not in {refused:?}");
        assert_eq!(version(&mut http, &[]).await, "1");
    }
    let unknown = http.send(request(Method::PUT, "/v2/models/n/traffic", &[], "{}")).await;
    assert_eq!(unknown.status, 404, "{unknown:?}");
    let method = http.send(request(Method::POST, "/v2/models/m/traffic", &[], "{}")).await;
    assert_eq!((method.status.as_u16(), method.header("allow")), (405, Some("GET, HEAD, PUT, DELETE, OPTIONS")));
    // Nothing at all has the newest answer.
    let nothing = set(&mut http, json!({})).await;
    assert_eq!((&nothing["source"], &nothing["settings"]), (&json!("set"), &json!({})));
    assert_eq!(version(&mut http, &[]).await, "2");
}

#[tokio::test]
async fn a_canary_needs_another_version_to_take_over_from() {
    let server = Server::start(&versions(&TWO[..1], "")).await;
    let refused = call(&mut server.http().await, Method::PUT, &json!({ "canary": { "version": 1 } })).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.error().contains("no other version"), "{refused:?}");
}

#[tokio::test]
async fn faults_of_the_table_are_told_with_all_others_and_a_version_that_is_not_served_is_a_warning() {
    let text = "slo = 1\n[traffic]\nweights = { a = 1 }\n[traffic.canary]\nsteps = [0]";
    let models = versions(&TWO, "").with_toml("m", text).with("n", "identity_fp32");
    let models = models.with_toml("n", "[traffic]\nweights = { 1 = 1, 2 = 1 }");
    let server = Server::start(&models).await;
    let mut http = server.http().await;
    let error = http.get("/v2/models/m").await.error();
    for fault in [
        "slo: '1' has no unit",
        "traffic.weights: 'a' is no version",
        "traffic.canary.steps",
        "traffic.canary.version: missing",
    ] {
        assert!(error.contains(fault), "{fault} is not in {error}");
    }
    // The version that there is answers.
    let told = http.get("/v2/models/n/traffic").await.json();
    assert_eq!(told["versions"][0]["share"], 1.0, "{told}");
}

#[tokio::test]
async fn whoever_may_load_models_may_share_their_requests_out_and_nobody_else() {
    let models = versions(&TWO, "");
    let keys = "[[key]]\nname = \"ops\"\ntoken = \"ops\"\nscopes = [\"repository\"]\n\
                [[key]]\nname = \"app\"\ntoken = \"app\"\nscopes = [\"infer\", \"metadata\"]\n\
                [[key]]\nname = \"other\"\ntoken = \"other\"\nscopes = [\"repository\"]\nmodels = [\"n\"]\n";
    let file = models.path().join("keys.toml");
    std::fs::write(&file, keys).unwrap();
    let server = Server::with(&models, |config| config.server.guard.auth_file = Some(file)).await;
    let mut http = server.http().await;
    let body = json!({ "weights": { "1": 1 } }).to_string();
    for (key, status) in [("ops", 200), ("app", 403), ("other", 403), ("nobody", 401)] {
        let put = request(Method::PUT, "/v2/models/m/traffic", &[("x-api-key", key)], body.clone());
        assert_eq!(http.send(put).await.status, status, "{key}");
    }
}

#[tokio::test]
async fn what_was_set_is_forgotten_with_a_model_that_is_gone() {
    let models = Models::new();
    let server = Server::explicit(&models).await;
    let mut http = server.http().await;
    let bytes = std::fs::read(crate::support::models::fixture("identity_fp32")).unwrap();
    let file = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    let load = json!({ "parameters": { "config": "{}", "file:1/model.onnx": file } }).to_string();
    for _ in 0..2 {
        let answer = http.post("/v2/repository/models/m/load", load.clone()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(told(&mut http).await["source"], "newest");
        set(&mut http, json!({ "weights": { "1": 1 } })).await;
        assert_eq!(http.post("/v2/repository/models/m/unload", "").await.status, 200);
        assert_eq!(call(&mut http, Method::GET, &json!(null)).await.status, 404);
        // Whatever is set next sweeps up.
        models.put("other", 1, "identity_fp32");
        assert_eq!(http.post("/v2/repository/models/other/load", "").await.status, 200);
        let put = request(Method::PUT, "/v2/models/other/traffic", &[], "{}");
        assert_eq!(http.send(put).await.status, 200);
    }
}
