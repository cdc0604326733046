//! A model that cannot be served says why, and is nobody else's problem.

use serde_json::Value;
use tensorgate::protocol::proto::RepositoryIndexRequest;
use tonic::Code;

use super::{Load, row, states};
use crate::support::tensors::*;
use crate::support::{Models, Server, eventually};

const NINE: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

fn reason(index: &Value, model: &str) -> String {
    let entry = index.as_array().unwrap().iter().find(|entry| entry["name"] == model).unwrap();
    entry["reason"].as_str().unwrap_or_default().to_owned()
}

/// The same reason in the index, the readiness and the refusal, over both doors.
async fn says_why(server: &Server, model: &str, why: &str) {
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    let index = http.post("/v2/repository/index", "").await.json();
    assert!(reason(&index, model).contains(why), "{index}");
    let ready = http.get(&format!("/v2/models/{model}/ready")).await;
    assert_eq!(ready.status, 503, "{ready:?}");
    assert_eq!((&ready.json()["name"], &ready.json()["ready"]), (&model.into(), &false.into()));
    assert!(ready.error().contains(why), "{ready:?}");
    let refused = http.infer(model, &json_body(&row())).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.error().contains(why) && refused.error().contains(model), "{refused:?}");
    let status = grpc.model_infer(message(model, &row())).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, refused.error().as_str()));
    let index = grpc.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner();
    let entry = index.models.iter().find(|entry| entry.name == model).unwrap();
    assert!(entry.state == "UNAVAILABLE" && entry.reason.contains(why), "{entry:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nine_models_serve_under_load_while_the_tenth_fails_again_and_again() {
    let models = NINE.iter().fold(Models::new(), |models, name| models.with(name, "identity_fp32"));
    let models = models.with("broken", "garbage");
    let server = Server::with(&models, |config| {
        config.repository.control = tensorgate::repository::Control::Explicit;
        config.repository.load_at_start = vec!["*".into()];
    })
    .await;
    let load = Load::start(&server, &NINE, |_| {}).await;
    let mut http = server.http().await;
    for attempt in 0..10 {
        // Garbage, then a file cut short, then none.
        models.put("broken", 1, ["garbage", "truncated", "empty", "unknown_op"][attempt % 4]);
        let answer = http.post("/v2/repository/models/broken/load", "").await;
        assert_eq!(answer.status, 503, "{answer:?}");
        load.more(20).await;
    }
    models.put("broken", 1, "garbage");
    assert_eq!(http.post("/v2/repository/models/broken/load", "").await.status, 503);
    says_why(&server, "broken", "broken/1/model.onnx").await;
    assert_eq!(http.get("/v2/health/ready").await.status, 200);
    load.stop().await;
    // Once it is whole, it serves.
    models.put("broken", 1, "identity_fp32");
    assert_eq!(http.post("/v2/repository/models/broken/load", "").await.status, 200);
    assert_eq!(http.infer("broken", &json_body(&row())).await.status, 200);
}

#[tokio::test]
async fn whatever_is_wrong_with_a_model_is_said_and_the_others_serve() {
    let models = Models::of(&["identity_fp32", "truncated", "empty", "unknown_op", "map_output", "int4_input"])
        .with_toml("typo", "max_bach_size = 4")
        .with("wrong_declaration", "identity_fp32")
        .with_toml("wrong_declaration", "[[inputs]]\nname = \"x\"\ndatatype = \"INT64\"\n")
        .with("other_name", "identity_fp32")
        .with_pbtxt("other_name", "name: \"something_else\"")
        .with("no_such_version", "identity_fp32")
        .with_toml("no_such_version", "versions = [3]");
    std::fs::create_dir_all(models.path().join("no_file/1")).unwrap();
    let server = Server::start(&models).await;
    for (model, why) in [
        ("truncated", "truncated/1/model.onnx"),
        ("empty", "empty/1/model.onnx"),
        ("unknown_op", "NoSuchOperator"),
        ("map_output", "'y'"),
        ("int4_input", "'x'"),
        ("typo", "did you mean 'max_batch_size'?"),
        ("wrong_declaration", "INT64"),
        ("other_name", "'something_else'"),
        ("no_such_version", "version 3"),
        ("no_file", "model.onnx"),
    ] {
        says_why(&server, model, why).await;
    }
    let mut http = server.http().await;
    assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
    assert_eq!(http.get("/v2/health/ready").await.status, 200);
    assert_eq!(http.get("/v2/health/live").await.status, 200);
}

#[tokio::test]
async fn a_model_that_loads_but_cannot_run_is_unavailable() {
    let server = Server::start(&Models::of(&["loads_but_cannot_run"])).await;
    says_why(&server, "loads_but_cannot_run", "warm-up").await;
    let mut http = server.http().await;
    // Nothing else is served, so this server is not ready, yet alive.
    assert_eq!(http.get("/v2/health/ready").await.status, 503);
    assert_eq!(http.get("/v2/health/live").await.status, 200);
}

#[tokio::test]
async fn a_model_in_two_repositories_is_served_from_neither() {
    let (one, other) = (Models::of(&["identity_fp32", "scalar"]), Models::of(&["identity_fp32"]));
    let server = Server::with(&one, |config| config.repository.repositories.push(other.path().into())).await;
    says_why(&server, "identity_fp32", "several repositories").await;
    assert_eq!(server.http().await.get("/v2/models/scalar/ready").await.status, 200);
}

#[tokio::test]
async fn a_server_answers_while_it_loads() {
    // 2.4 s of warm-up, during which the doors are open.
    let models = Models::of(&["identity_fp32"]).with_slow_identity("late", 800, "");
    let mut config = tensorgate::config::Config::default();
    (config.server.http_port, config.server.grpc_port) = (0, 0);
    config.repository.repositories.push(models.path().into());
    config.repository.cores = 2;
    let app = tensorgate::app::App::start(config).await.unwrap();
    let mut http = crate::support::Http::connect(app.addresses().http).await;
    assert_eq!(http.get("/v2/health/live").await.status, 200);
    assert_eq!(http.get("/v2/health/ready").await.status, 503);
    let refused = http.infer("late", &json_body(&row())).await;
    assert!(refused.status == 503 && refused.error().contains("loading"), "{refused:?}");
    let index = http.post("/v2/repository/index", "").await.json();
    assert!(states(&index).contains(&"late 1 LOADING".to_owned()), "{index}");
    eventually("the server to be ready", async || (http.get("/v2/health/ready").await.status == 200).then_some(()))
        .await;
}
