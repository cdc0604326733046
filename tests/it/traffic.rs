//! Requests that name no version are shared out: split, sticky, shadowed, and to a canary that is guarded.

mod canary;
mod setting;
mod shadow;
mod split;

use http::Method;
use serde_json::{Value, json};

use crate::support::http::{Answer, request};
use crate::support::tensors::*;
use crate::support::{Http, Models};

/// Comes back as it is from `identity_fp32`, and as `[0, 2]` from `inner_shape_note`.
fn row() -> Named {
    named([("x", tensor([1, 2], [-1_f32, 2.]))])
}

/// Versions 1 and up of `m`, each a fixture, all served, with `more` in its settings.
fn versions(fixtures: &[&str], more: &str) -> Models {
    let models = Models::new().with_toml("m", &format!("versions = \"all\"\n{more}"));
    for (index, fixture) in fixtures.iter().enumerate() {
        models.put("m", index as u64 + 1, fixture);
    }
    models
}

async fn call(http: &mut Http, method: Method, body: &Value) -> Answer {
    let body = if *body == Value::Null { String::new() } else { body.to_string() };
    http.send(request(method, "/v2/models/m/traffic", &[], body)).await
}

/// Sets the traffic; gives how it is then.
async fn set(http: &mut Http, settings: Value) -> Value {
    let answer = call(http, Method::PUT, &settings).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn told(http: &mut Http) -> Value {
    let answer = call(http, Method::GET, &json!(null)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// The version that answers a request with `headers`.
async fn version(http: &mut Http, headers: &[(&str, &str)]) -> String {
    let body = json_body(&row()).to_string();
    let answer = http.send(request(Method::POST, "/v2/models/m/infer", headers, body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["model_version"].as_str().unwrap().to_owned()
}
