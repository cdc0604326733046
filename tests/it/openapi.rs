//! The OpenAPI document that the server serves; `tests/clients/with_schemathesis` tests the server against it.

use std::path::PathBuf;

use http::Method;
use serde_json::{Value, json};
use tensorgate::server::{Door, Scope};

use crate::support::http::request;
use crate::support::{Models, Server};

#[tokio::test]
async fn the_document_is_served_and_its_plain_paths_answer() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let mut http = server.http().await;
    let document = http.get("/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 25, "{}", paths.len());
    for (path, operations) in paths.iter().filter(|(path, _)| !path.contains('{')) {
        // A body that has to be there is not nothing.
        let plain = |operation: &Value| operation["requestBody"]["required"] != json!(true);
        for (method, _) in operations.as_object().unwrap().iter().filter(|(_, operation)| plain(operation)) {
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = http.send(request(method.clone(), path, &[], "")).await;
            assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn the_document_has_no_calls_that_the_door_refuses() {
    let server = Server::with(&Models::of(&["identity_fp32"]), |config| {
        config.server.guard.refused = vec![(Door::Http, Scope::Admin), (Door::Grpc, Scope::Repository)];
        config.server.http.path_prefix = Some("/serving/ns/m".into());
    })
    .await;
    let mut http = server.http().await;
    let document = http.get("/serving/ns/m/openapi.json").await.json();
    assert_eq!(document["servers"], json!([{ "url": "/serving/ns/m" }]));
    assert!(document["paths"].get("/v2/logging").is_none());
    assert!(document["paths"].get("/v2/repository/models/{model}/load").is_some());
}

#[tokio::test]
async fn a_list_is_no_object_wherever_a_body_has_members() {
    let models = Models::of(&["identity_fp32"]);
    let folder = PathBuf::from(models.argument());
    let server = Server::with(&models, |config| {
        let regions = tensorgate::shared_memory::RegionsConfig::new(&folder, 4, 1 << 20);
        config.shared_memory = Some(regions.unwrap());
    })
    .await;
    let mut http = server.http().await;
    for (path, body) in [
        ("/v2/repository/index", "[true]"),
        ("/v2/repository/index", " []"),
        ("/v2/repository/models/identity_fp32/load", "[{}]"),
        ("/v2/systemsharedmemory/region/r/register", r#"["/x", 0, 16]"#),
        ("/v2/trace/setting", "[]"),
        ("/v2/logging", "null"),
        ("/v1/models/identity_fp32:predict", "[[[1]], null]"),
    ] {
        let answer = http.post(path, body).await;
        assert_eq!(answer.status, 400, "{path} {body}: {answer:?}");
    }
}

#[tokio::test]
async fn head_answers_on_every_path_as_get_does_without_the_body() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let mut http = server.http().await;
    let document = http.get("/openapi.json").await.json();
    for (path, operations) in document["paths"].as_object().unwrap() {
        if operations.get("get").is_none() {
            continue;
        }
        for (model, version) in [("identity_fp32", "1"), ("nowhere", "1"), ("identity_fp32", "7")] {
            let path = path.replace("{model}", model).replace("{version}", version);
            let head = http.send(request(Method::HEAD, &path, &[], "")).await;
            let get = http.get(&path).await;
            assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
            assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
            // What is counted may have another digit by the time it is asked for again.
            if !path.ends_with("metrics") {
                assert_eq!(head.header("content-length"), get.header("content-length"), "{path}");
            }
        }
    }
}
