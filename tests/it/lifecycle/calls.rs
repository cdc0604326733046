//! Load, unload and index, in every dialect.

use serde_json::json;
use tensorgate::protocol::proto::{
    ModelReadyRequest, RepositoryIndexRequest, RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
    ServerReadyRequest,
};
use tonic::Code;

use super::{row, states};
use crate::support::process::{command, run_to_end};
use crate::support::tensors::*;
use crate::support::{Models, Process, Server};

#[tokio::test]
async fn models_are_loaded_and_unloaded_over_http() {
    let models = Models::of(&["identity_fp32", "inner_shape_note"]);
    let server = Server::explicit(&models).await;
    let mut http = server.http().await;
    let index = http.post("/v2/repository/index", "").await.json();
    assert_eq!(states(&index), ["identity_fp32 1 UNAVAILABLE", "inner_shape_note 1 UNAVAILABLE"]);
    let refused = http.infer("identity_fp32", &json_body(&row())).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.error().contains("not loaded"), "{refused:?}");
    let loaded = http.post("/v2/repository/models/identity_fp32/load", "").await;
    assert_eq!((loaded.status.as_u16(), loaded.json()), (200, json!({ "name": "identity_fp32", "load": true })));
    assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
    assert_eq!(http.get("/v2/models/identity_fp32/ready").await.status, 200);
    let ready = http.post("/v2/repository/index", json!({ "ready": true }).to_string()).await.json();
    assert_eq!(states(&ready), ["identity_fp32 1 READY"]);
    // Once more changes nothing.
    assert_eq!(http.post("/v2/repository/models/identity_fp32/load", "{}").await.status, 200);
    let body = json!({ "parameters": { "unload_dependents": true } }).to_string();
    let unloaded = http.post("/v2/repository/models/identity_fp32/unload", body).await;
    assert_eq!((unloaded.status.as_u16(), unloaded.json()), (200, json!({ "name": "identity_fp32", "unload": true })));
    let refused = http.infer("identity_fp32", &json_body(&row())).await;
    assert!(refused.status == 503 && refused.error().contains("unloaded"), "{refused:?}");
    assert_eq!(http.get("/v2/models/identity_fp32/ready").await.status, 503);
}

#[tokio::test]
async fn models_are_loaded_and_unloaded_over_grpc_in_both_dialects() {
    let models = Models::of(&["identity_fp32"]);
    let server = Server::explicit(&models).await;
    let mut grpc = server.grpc().await;
    let name = || String::from("identity_fp32");
    // KServe names the model in field 1, Triton in field 2, where field 1 is the repository.
    let dialects = [(name(), String::new()), (String::new(), name()), ("/srv/models".into(), name())];
    for (repository_name, model_name) in dialects {
        let load = RepositoryModelLoadRequest {
            repository_name: repository_name.clone(),
            model_name: model_name.clone(),
            ..RepositoryModelLoadRequest::default()
        };
        let answer = grpc.repository_model_load(load).await.unwrap().into_inner();
        assert_eq!((answer.model_name, answer.is_loaded), (name(), true));
        grpc.model_infer(message("identity_fp32", &row())).await.unwrap();
        let ready = ModelReadyRequest { name: name(), version: "1".into() };
        assert!(grpc.model_ready(ready.clone()).await.unwrap().into_inner().ready);
        let unload =
            RepositoryModelUnloadRequest { repository_name, model_name, ..RepositoryModelUnloadRequest::default() };
        let answer = grpc.repository_model_unload(unload).await.unwrap().into_inner();
        assert_eq!((answer.model_name, answer.is_unloaded), (name(), true));
        let status = grpc.model_infer(message("identity_fp32", &row())).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(!grpc.model_ready(ready).await.unwrap().into_inner().ready);
        let index = grpc.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner();
        assert_eq!((index.models[0].state.as_str(), index.models[0].reason.as_str()), ("UNAVAILABLE", "unloaded"));
    }
}

#[tokio::test]
async fn what_cannot_be_loaded_is_told_by_kind() {
    let models = Models::of(&["identity_fp32", "garbage"]);
    let server = Server::explicit(&models).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    let unknown = json!({ "parameters": { "warmth": 9 } }).to_string();
    for (model, call, body, status, code) in [
        ("nowhere", "load", "", 404, Code::NotFound),
        ("nowhere", "unload", "", 404, Code::NotFound),
        ("garbage", "load", "", 503, Code::Unavailable),
        ("identity_fp32", "load", &unknown, 501, Code::Unimplemented),
        ("identity_fp32", "load", "{", 400, Code::InvalidArgument),
    ] {
        let answer = http.post(&format!("/v2/repository/models/{model}/{call}"), body.to_owned()).await;
        assert_eq!(answer.status, status, "{model} {call}: {answer:?}");
        assert!(!answer.error().is_empty());
        if !body.is_empty() {
            continue;
        }
        let model_name = String::from(model);
        let outcome = if call == "load" {
            let load = RepositoryModelLoadRequest { model_name, ..RepositoryModelLoadRequest::default() };
            grpc.repository_model_load(load).await.map(drop)
        } else {
            let unload = RepositoryModelUnloadRequest { model_name, ..RepositoryModelUnloadRequest::default() };
            grpc.repository_model_unload(unload).await.map(drop)
        };
        assert_eq!(outcome.unwrap_err().code(), code, "{model} {call}");
    }
}

#[tokio::test]
async fn a_server_that_loads_everything_itself_refuses_to_load_and_unload() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    for call in ["load", "unload"] {
        let answer = http.post(&format!("/v2/repository/models/identity_fp32/{call}"), "").await;
        assert_eq!(answer.status, 409, "{answer:?}");
        assert!(answer.error().contains("--model-control explicit"), "{answer:?}");
    }
    let model_name = String::from("identity_fp32");
    let load = RepositoryModelLoadRequest { model_name: model_name.clone(), ..RepositoryModelLoadRequest::default() };
    assert_eq!(grpc.repository_model_load(load).await.unwrap_err().code(), Code::FailedPrecondition);
    let unload = RepositoryModelUnloadRequest { model_name, ..RepositoryModelUnloadRequest::default() };
    assert_eq!(grpc.repository_model_unload(unload).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
}

#[tokio::test]
async fn chosen_models_are_loaded_at_the_start() {
    let models = Models::of(&["identity_fp32", "inner_shape_note"]);
    let server = Server::with(&models, |config| {
        config.repository.control = tensorgate::repository::Control::Explicit;
        config.repository.load_at_start = vec!["inner_shape_note".into()];
    })
    .await;
    let index = server.http().await.post("/v2/repository/index", "").await.json();
    assert_eq!(states(&index), ["identity_fp32 1 UNAVAILABLE", "inner_shape_note 1 READY"]);
    assert!(server.grpc().await.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
}

#[tokio::test]
async fn one_model_is_served_as_kserve_mounts_it() {
    let models = Models::new();
    // A flat folder, a folder of versions, and the file itself.
    std::fs::copy(crate::support::models::fixture("identity_fp32"), models.path().join("model.onnx")).unwrap();
    let versions = Models::of(&["identity_fp32"]);
    let versions = versions.path().join("identity_fp32");
    let file = models.path().join("model.onnx");
    for directory in [models.path(), versions.as_path(), file.as_path()] {
        let directory = directory.to_str().unwrap();
        let process = Process::start(&["--model-name", "my model", "--model-dir", directory]).await;
        let mut http = process.http().await;
        crate::support::eventually("the server to be ready", async || {
            (http.get("/v2/health/ready").await.status == 200).then_some(())
        })
        .await;
        let answer = http.infer("my%20model", &json_body(&row())).await;
        assert_eq!(outputs_of(&answer), named([("y", row().remove(0).1)]), "{directory}");
        assert_eq!(answer.json()["model_name"], "my model");
        let answer = process.grpc().await.model_infer(message("my model", &row())).await.unwrap();
        assert_eq!(outputs_of_message(answer.get_ref())[0].1, row()[0].1);
    }
}

#[tokio::test]
async fn a_server_whose_only_model_cannot_be_loaded_ends_and_says_why() {
    let models = Models::new().with("broken", "garbage").with("cannot_run", "loads_but_cannot_run");
    for (model, why) in [("broken", "broken"), ("cannot_run", "warm-up"), ("missing", "missing")] {
        let directory = models.path().join(model);
        let flags = ["--model-name", "m", "--model-dir", directory.to_str().unwrap()];
        let ports = ["serve", "--http-port", "0", "--grpc-port", "0", "--log-format", "json"];
        let ended = run_to_end(&mut command(&[&ports[..], &flags[..]].concat())).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let last = ended.errors.lines().rfind(|line| line.contains("ERROR")).unwrap_or_default();
        assert!(last.contains("model 'm'") && last.contains(why), "{ended:?}");
    }
}

#[tokio::test]
async fn a_repository_of_a_broken_model_is_served_on_since_another_may_come() {
    let models = Models::of(&["garbage"]);
    let mut process = Process::start(&[models.argument()]).await;
    process.line("serving").await;
    assert_eq!(process.http().await.get("/v2/health/live").await.status, 200);
}
