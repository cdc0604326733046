//! Which versions are served, and which one answers.

use serde_json::{Value, json};
use tensorgate::protocol::proto::ModelMetadataRequest;

use crate::support::tensors::*;
use crate::support::{Http, Models, Server};

/// Versions 1, 2 and 3 of a model: y = x, y = relu(x), and y = x again.
fn three_versions() -> Models {
    let models = Models::new().with_version("m", 1, "identity_fp32").with_version("m", 2, "inner_shape_note");
    models.with_version("m", 3, "identity_fp32")
}

async fn answer_of(http: &mut Http, version: &str) -> Value {
    let body = json_body(&named([("x", tensor([1, 2], [-1_f32, 2.]))])).to_string();
    let answer = http.post(&format!("/v2/models/m{version}/infer"), body).await;
    match answer.status.as_u16() {
        200 => json!([answer.json()["model_version"], answer.json()["outputs"][0]["data"][0]]),
        status => json!(status),
    }
}

/// The versions that are served, by their answers to `-1`.
async fn answers(models: &Models) -> Value {
    let server = Server::start(models).await;
    let mut http = server.http().await;
    let mut answers = vec![answer_of(&mut http, "").await];
    for version in 1..=3 {
        answers.push(answer_of(&mut http, &format!("/versions/{version}")).await);
    }
    let asked = ModelMetadataRequest { name: "m".into(), version: String::new() };
    let metadata = server.grpc().await.model_metadata(asked).await.unwrap().into_inner();
    answers.push(json!(metadata.versions));
    answers.into()
}

#[tokio::test]
async fn without_settings_the_newest_version_is_served_alone() {
    let expected = json!([["3", -1.0], 404, 404, ["3", -1.0], ["3"]]);
    assert_eq!(answers(&three_versions()).await, expected);
}

#[tokio::test]
async fn the_latest_two_are_served_by_either_settings_file() {
    let expected = json!([["3", -1.0], 404, ["2", 0.0], ["3", -1.0], ["2", "3"]]);
    let toml = three_versions().with_toml("m", "versions = { latest = 2 }");
    assert_eq!(answers(&toml).await, expected);
    let pbtxt = three_versions().with_pbtxt("m", "version_policy: { latest { num_versions: 2 } }");
    assert_eq!(answers(&pbtxt).await, expected);
}

#[tokio::test]
async fn all_versions_are_served_by_either_settings_file() {
    let expected = json!([["3", -1.0], ["1", -1.0], ["2", 0.0], ["3", -1.0], ["1", "2", "3"]]);
    assert_eq!(answers(&three_versions().with_toml("m", "versions = \"all\"")).await, expected);
    assert_eq!(answers(&three_versions().with_pbtxt("m", "version_policy { all { } }")).await, expected);
}

#[tokio::test]
async fn chosen_versions_are_served_by_either_settings_file() {
    let expected = json!([["2", 0.0], ["1", -1.0], ["2", 0.0], 404, ["1", "2"]]);
    assert_eq!(answers(&three_versions().with_toml("m", "versions = [2, 1]")).await, expected);
    let pbtxt = three_versions().with_pbtxt("m", "version_policy: { specific: { versions: [1, 2] } }");
    assert_eq!(answers(&pbtxt).await, expected);
}

#[tokio::test]
async fn a_model_without_version_directories_is_version_1() {
    let models = Models::new();
    std::fs::create_dir(models.path().join("m")).unwrap();
    std::fs::copy(crate::support::models::fixture("inner_shape_note"), models.path().join("m/model.onnx")).unwrap();
    assert_eq!(answers(&models).await, json!([["1", 0.0], ["1", 0.0], 404, 404, ["1"]]));
}

#[tokio::test]
async fn a_version_in_the_message_is_the_one_that_answers() {
    let models = three_versions().with_toml("m", "versions = \"all\"");
    let server = Server::start(&models).await;
    let mut grpc = server.grpc().await;
    let inputs = named([("x", tensor([1, 2], [-1_f32, 2.]))]);
    for (version, first) in [("1", -1_f32), ("2", 0.), ("3", -1.)] {
        let mut message = message("m", &inputs);
        message.model_version = version.into();
        let answer = grpc.model_infer(message).await.unwrap().into_inner();
        assert_eq!(answer.model_version, version);
        assert_eq!(outputs_of_message(&answer), named([("y", tensor([1, 2], [first, 2.]))]));
    }
}
