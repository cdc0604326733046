//! Models that load requests bring: settings, and whole model directories.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tensorgate::protocol::proto::model_repository_parameter::ParameterChoice;
use tensorgate::protocol::proto::{ModelRepositoryParameter, RepositoryModelLoadRequest};
use tonic::Code;

use super::{Load, row, states};
use crate::support::http::Answer;
use crate::support::metrics::Metrics;
use crate::support::models::fixture;
use crate::support::tensors::*;
use crate::support::{Http, Models, Process, Server, eventually};

fn encoded(fixture_name: &str) -> String {
    STANDARD.encode(fs::read(fixture(fixture_name)).unwrap())
}

/// Loads `model` with these parameters over HTTP.
async fn load(http: &mut Http, model: &str, parameters: Value) -> Answer {
    let body = json!({ "parameters": parameters }).to_string();
    http.post(&format!("/v2/repository/models/{model}/load"), body).await
}

async fn index(http: &mut Http) -> Vec<String> {
    states(&http.post("/v2/repository/index", "").await.json())
}

async fn config(http: &mut Http, model: &str) -> Value {
    http.get(&format!("/v2/models/{model}/config")).await.json()
}

/// The folders of files that loads of the process `id` brought.
fn kept(id: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(std::env::temp_dir()).unwrap().map(|entry| entry.unwrap());
    let of_process = format!("tensorgate-{id}-");
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&of_process)).map(|e| e.path()).collect()
}

#[tokio::test]
async fn settings_of_a_load_hold_until_the_next_one() {
    let models = Models::of(&["identity_fp32"]).with_toml("identity_fp32", "max_batch_size = 4\n");
    let server = Server::explicit(&models).await;
    let mut http = server.http().await;
    assert_eq!(load(&mut http, "identity_fp32", json!({})).await.status, 200);
    assert_eq!(config(&mut http, "identity_fp32").await["max_batch_size"], 4);
    let settings = json!({ "name": "identity_fp32", "backend": "onnxruntime", "max_batch_size": 2 }).to_string();
    assert_eq!(load(&mut http, "identity_fp32", json!({ "config": settings })).await.status, 200);
    assert_eq!(config(&mut http, "identity_fp32").await["max_batch_size"], 2);
    assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
    // What is told of a model is fit to load it with, changed or not.
    let told = config(&mut http, "identity_fp32").await.to_string();
    assert_eq!(load(&mut http, "identity_fp32", json!({ "config": told })).await.status, 200);
    assert_eq!(config(&mut http, "identity_fp32").await["max_batch_size"], 2);
    assert_eq!(load(&mut http, "identity_fp32", json!({})).await.status, 200);
    assert_eq!(config(&mut http, "identity_fp32").await["max_batch_size"], 4);
}

#[tokio::test]
async fn files_of_a_load_are_a_model_that_no_repository_holds() {
    let models = Models::of(&["scalar"]);
    let process = Process::start(&["--model-control", "explicit", models.argument()]).await;
    let mut http = process.http().await;
    let files = json!({ "config": "{}", "file:7/model.onnx": encoded("identity_fp32") });
    let loaded = load(&mut http, "mine", files).await;
    assert_eq!(loaded.status, 200, "{loaded:?}");
    assert_eq!(kept(process.id()).len(), 1);
    let answer = http.infer("mine", &json_body(&row())).await;
    assert_eq!(outputs_of(&answer), named([("y", row().remove(0).1)]));
    assert_eq!(answer.json()["model_version"], "7");
    assert!(index(&mut http).await.contains(&"mine 7 READY".to_owned()));
    // There is nothing else to load under that name, and what serves goes on.
    assert_eq!(load(&mut http, "mine", json!({})).await.status, 404);
    assert_eq!(http.infer("mine", &json_body(&row())).await.status, 200);
    assert_eq!(http.post("/v2/repository/models/mine/unload", "").await.status, 200);
    assert!(!index(&mut http).await.iter().any(|line| line.starts_with("mine")));
    assert_eq!(http.infer("mine", &json_body(&row())).await.status, 404);
    eventually("the files to be removed", async || kept(process.id()).is_empty().then_some(())).await;
    // Names that only callers make up would otherwise let the registry grow without bound.
    let metrics = Metrics::of(&mut http).await;
    assert!(!metrics.text().contains("mine"), "{}", metrics.text());
}

#[tokio::test]
async fn files_stand_in_for_a_repositorys_model_until_a_plain_load_or_an_unload() {
    let models = Models::of(&["identity_fp32"]).with_version("identity_fp32", 2, "identity_fp32");
    let server = Server::explicit(&models).await;
    let mut http = server.http().await;
    let other = || json!({ "config": "{}", "file:5/model.onnx": encoded("identity_int64") });
    let ints = named([("x", tensor([1, 2], [1_i64, 2]))]);
    for plain_load in [true, false] {
        assert_eq!(load(&mut http, "identity_fp32", json!({})).await.status, 200);
        assert_eq!(load(&mut http, "identity_fp32", other()).await.status, 200);
        assert_eq!(http.infer("identity_fp32", &json_body(&ints)).await.status, 200);
        assert!(index(&mut http).await.contains(&"identity_fp32 5 READY".to_owned()));
        if plain_load {
            assert_eq!(load(&mut http, "identity_fp32", json!({})).await.status, 200);
            assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
            assert_eq!(index(&mut http).await, ["identity_fp32 2 READY"]);
        } else {
            assert_eq!(http.post("/v2/repository/models/identity_fp32/unload", "").await.status, 200);
            assert_eq!(index(&mut http).await, ["identity_fp32 2 UNAVAILABLE"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_take_over_and_give_way_without_a_failed_request() {
    let models = Models::new().with("m", "identity_fp32");
    let server = Server::explicit(&models).await;
    let mut http = server.http().await;
    assert_eq!(load(&mut http, "m", json!({})).await.status, 200);
    let requests = Load::start(&server, &["m"; 4], |_| {}).await;
    // As the repository's version, as another one, and by files after files.
    for version in [1, 2, 2, 1] {
        let files = json!({ "config": "{}", format!("file:{version}/model.onnx"): encoded("inner_shape_note") });
        for (parameters, version, first) in [(files, version, 0.0), (json!({}), 1, -1.0)] {
            assert_eq!(load(&mut http, "m", parameters).await.status, 200);
            let answer = http.infer("m", &json_body(&row())).await.json();
            assert_eq!(answer["model_version"], version.to_string());
            assert_eq!(answer["outputs"][0]["data"][0], json!(first));
            requests.more(20).await;
        }
    }
    requests.stop().await;
}

#[tokio::test]
async fn a_models_folder_may_hold_other_folders_and_files() {
    let models = Models::new();
    let server = Server::explicit(&models).await;
    let mut http = server.http().await;
    let own = "1/model.onnx/model.onnx";
    let files =
        json!({ "config": "{}", format!("file:{own}"): encoded("identity_fp32"), "file:1/weights.bin": "AAAA" });
    let loaded = load(&mut http, "m", files).await;
    assert_eq!(loaded.status, 200, "{loaded:?}");
    assert_eq!(http.infer("m", &json_body(&row())).await.status, 200);
}

#[tokio::test]
async fn a_load_that_brings_something_unfit_changes_nothing() {
    let models = Models::of(&["identity_fp32"]);
    let server = Server::explicit(&models).await;
    let mut http = server.http().await;
    assert_eq!(load(&mut http, "identity_fp32", json!({})).await.status, 200);
    let model = encoded("identity_fp32");
    for (parameters, status, word) in [
        (json!({ "config": "{" }), 400, "not a JSON object"),
        (json!({ "config": "{\"name\": \"other\"}" }), 400, "'other' must equal"),
        (json!({ "config": "{\"backend\": \"python\"}" }), 400, "'python' is not served"),
        (json!({ "config": "{\"version_policy\": {\"specific\": {\"versions\": [9]}}}" }), 400, "version 9"),
        (json!({ "config": 1 }), 400, "a string of JSON"),
        (json!({ "file:1/model.onnx": model }), 400, "without a 'config'"),
        (json!({ "config": "{}", "file:1/model.onnx": "%" }), 400, "base64"),
        (json!({ "config": "{}", "file:../1/model.onnx": model }), 400, "inside the model's directory"),
        (json!({ "config": "{}", "file:/etc/model.onnx": model }), 400, "inside the model's directory"),
        (json!({ "config": "{}", "file:notes.txt": "AAAA" }), 400, "no model file"),
        (json!({ "config": "{}", "file:1/model.onnx": "AAAA" }), 503, "failed to load"),
        (json!({ "warmth": 9 }), 501, "'warmth' is not served"),
    ] {
        let answer = load(&mut http, "identity_fp32", parameters.clone()).await;
        assert_eq!(answer.status, status, "{parameters}: {answer:?}");
        assert!(answer.error().contains(word), "{parameters}: {answer:?}");
        assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200, "{parameters}");
    }
    for name in ["..%2Fx", ".hidden", "a%2Fb"] {
        let answer = load(&mut http, name, json!({ "config": "{}", "file:1/model.onnx": model })).await;
        assert_eq!(answer.status, 400, "{name}: {answer:?}");
    }
    assert_eq!(load(&mut http, "nowhere", json!({ "config": "{}" })).await.status, 404);
    // What failed is told until it is unloaded.
    let broken = json!({ "config": "{}", "file:1/model.onnx": "AAAA" });
    assert_eq!(load(&mut http, "broken", broken).await.status, 503);
    assert!(index(&mut http).await.contains(&"broken 1 UNAVAILABLE".to_owned()));
    assert_eq!(http.post("/v2/repository/models/broken/unload", "").await.status, 200);
    assert_eq!(index(&mut http).await, ["identity_fp32 1 READY"]);
}

#[tokio::test]
async fn what_all_loads_bring_together_is_bounded() {
    let size = fs::metadata(fixture("identity_fp32")).unwrap().len() as usize;
    let server = Server::with(&Models::new(), |config| {
        config.repository.control = tensorgate::repository::Control::Explicit;
        config.repository.uploads_bytes_max = 2 * size - 1;
    })
    .await;
    let mut http = server.http().await;
    let files = || json!({ "config": "{}", "file:1/model.onnx": encoded("identity_fp32") });
    assert_eq!(load(&mut http, "one", files()).await.status, 200);
    let refused = load(&mut http, "two", files()).await;
    assert!(refused.status == 413 && refused.error().contains("--uploads-max"), "{refused:?}");
    assert_eq!(http.post("/v2/repository/models/one/unload", "").await.status, 200);
    eventually("room", async || (load(&mut http, "two", files()).await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn grpc_brings_settings_and_files_too() {
    let models = Models::of(&["scalar"]);
    let server = Server::explicit(&models).await;
    let mut grpc = server.grpc().await;
    let parameter = |choice| ModelRepositoryParameter { parameter_choice: Some(choice) };
    let request = |parameters: Vec<(&str, ParameterChoice)>| RepositoryModelLoadRequest {
        model_name: "mine".into(),
        parameters: parameters
            .into_iter()
            .map(|(name, choice)| (name.into(), parameter(choice)))
            .collect::<HashMap<_, _>>(),
        ..RepositoryModelLoadRequest::default()
    };
    let text = |text: &str| ParameterChoice::StringParam(text.into());
    let file = || ParameterChoice::BytesParam(fs::read(fixture("identity_fp32")).unwrap().into());
    for (parameters, code) in [
        (vec![("config", text("{}"))], Code::NotFound),
        (vec![("file:1/model.onnx", file())], Code::InvalidArgument),
        (vec![("config", text("{}")), ("file:1/model.onnx", text("x"))], Code::InvalidArgument),
        (vec![("config", text("{}")), ("file:../model.onnx", file())], Code::InvalidArgument),
        (vec![("warmth", ParameterChoice::Int64Param(9))], Code::Unimplemented),
    ] {
        assert_eq!(grpc.repository_model_load(request(parameters)).await.unwrap_err().code(), code);
    }
    let parameters = vec![("config", text(r#"{"max_batch_size": 2}"#)), ("file:3/model.onnx", file())];
    grpc.repository_model_load(request(parameters)).await.unwrap();
    let answer = grpc.model_infer(message("mine", &row())).await.unwrap().into_inner();
    assert_eq!(answer.model_version, "3");
    assert_eq!(config(&mut server.http().await, "mine").await["max_batch_size"], 2);
}

#[tokio::test]
async fn a_server_that_ends_leaves_no_files_behind() {
    let models = Models::new();
    let arguments = ["--model-control", "explicit", "--drain-delay", "0s", models.argument()];
    let process = Process::start(&arguments).await;
    let files = json!({ "config": "{}", "file:1/model.onnx": encoded("identity_fp32") });
    assert_eq!(load(&mut process.http().await, "mine", files).await.status, 200);
    let id = process.id();
    assert_eq!(kept(id).len(), 1);
    process.signal("TERM").await;
    assert_eq!(process.exit().await, Some(0));
    assert_eq!(kept(id), Vec::<PathBuf>::new());
}
