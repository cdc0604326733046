//! What an answer holds: the outputs asked for, in the order asked for, the id, the model and its version.

use serde_json::{Value, json};
use tensorgate::protocol::proto::{ModelMetadataRequest, ServerMetadataRequest};
use tensorgate::tensor::Tensor;

use crate::support::tensors::*;
use crate::support::{Models, Server, models};

fn row() -> Tensor {
    tensor([1, 2], [1_f32, -2.])
}

fn names(outputs: &Named) -> Vec<&str> {
    outputs.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn requested_outputs_come_alone_and_in_the_order_asked_for() {
    let server = Server::start(&Models::of(&["many_outputs"])).await;
    let inputs = named([("x", row())]);
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    for wanted in [vec!["wide", "doubled"], vec!["positive"], vec!["shape", "total", "largest"]] {
        let mut body = json_body(&inputs);
        body["outputs"] = wanted.iter().map(|name| json!({ "name": name })).collect();
        let over_http = outputs_of(&http.infer("many_outputs", &body).await);
        assert_eq!(names(&over_http), wanted);
        let mut message = message("many_outputs", &inputs);
        message.outputs = asked(&wanted);
        let over_grpc = outputs_of_message(grpc.model_infer(message).await.unwrap().get_ref());
        assert_eq!(over_grpc, over_http);
    }
    let mut body = json_body(&inputs);
    body["outputs"] = json!([]);
    let all = outputs_of(&http.infer("many_outputs", &body).await);
    assert_eq!(names(&all), ["doubled", "total", "largest", "positive", "wide", "shape"]);
}

#[tokio::test]
async fn an_answer_names_the_model_its_version_and_the_request() {
    let server = Server::start(&Models::new().with_version("m", 7, "identity_fp32")).await;
    let inputs = named([("x", row())]);
    let mut body = json_body(&inputs);
    body["id"] = "call \u{1f980} \"7\"".into();
    let mut http = server.http().await;
    let answer = http.infer("m", &body).await.json();
    assert_eq!((&answer["model_name"], &answer["model_version"]), (&json!("m"), &json!("7")));
    assert_eq!(answer["id"], body["id"]);
    let without = http.infer("m", &json_body(&inputs)).await.json();
    assert_eq!(without.get("id"), None);
    let mut message = message("m", &inputs);
    message.id = "call 7".into();
    let answer = server.grpc().await.model_infer(message).await.unwrap().into_inner();
    assert_eq!((answer.model_name, answer.model_version, answer.id), ("m".into(), "7".into(), "call 7".into()));
}

#[tokio::test]
async fn metadata_is_the_same_over_both_doors() {
    let server = Server::start(&Models::of(&["two_inputs", "many_outputs", "scalar", "identity_bytes"])).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    for model in ["two_inputs", "many_outputs", "scalar", "identity_bytes"] {
        let over_http = http.get(&format!("/v2/models/{model}")).await.json();
        let asked = ModelMetadataRequest { name: model.into(), version: String::new() };
        let over_grpc = grpc.model_metadata(asked).await.unwrap().into_inner();
        let list = |tensors: &[tensorgate::protocol::proto::model_metadata_response::TensorMetadata]| {
            let one = |t: &tensorgate::protocol::proto::model_metadata_response::TensorMetadata| json!({ "name": t.name, "datatype": t.datatype, "shape": t.shape });
            tensors.iter().map(one).collect::<Value>()
        };
        let (inputs, outputs) = (list(&over_grpc.inputs), list(&over_grpc.outputs));
        let expected = json!({
            "name": model, "versions": ["1"], "platform": over_grpc.platform, "inputs": inputs, "outputs": outputs,
            "properties": over_grpc.properties,
        });
        assert_eq!(over_http, expected);
        assert!(over_grpc.properties["digest"].starts_with("sha256:"), "{over_grpc:?}");
    }
    let two = http.get("/v2/models/two_inputs/versions/1/").await.json();
    let first = json!({ "name": "a", "datatype": "FP32", "shape": [-1, 2] });
    assert_eq!(two["inputs"][0], first);
    let server_over_http = http.get("/v2").await.json();
    let server_over_grpc = grpc.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!(server_over_http["name"], server_over_grpc.name);
    assert_eq!(server_over_http["extensions"], json!(server_over_grpc.extensions));
}

#[tokio::test]
async fn a_lone_string_is_one_row_as_kserve_clients_send_it() {
    let models = Models::new()
        .with_toml("echo", "runtime = \"identity\"\n[[inputs]]\nname = \"text\"\ndatatype = \"BYTES\"\nshape = [-1]\n");
    let server = Server::start(&models).await;
    let body = json!({ "inputs": [{ "name": "text", "datatype": "BYTES", "shape": [], "data": ["hello"] }] });
    let answer = server.http().await.infer("echo", &body).await;
    assert_eq!(outputs_of(&answer), named([("text", strings([1], &["hello"]))]));
}

fn close(given: &Value, expected: &Value) -> bool {
    match (given, expected) {
        (Value::Number(given), Value::Number(expected)) => {
            let (given, expected) = (given.as_f64().unwrap(), expected.as_f64().unwrap());
            (given - expected).abs() <= 1e-4 + 1e-3 * expected.abs()
        }
        (Value::Array(given), Value::Array(expected)) => {
            given.len() == expected.len() && given.iter().zip(expected).all(|(given, expected)| close(given, expected))
        }
        (given, expected) => given == expected,
    }
}

fn flat(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        other => vec![other.clone()],
    }
}

#[tokio::test]
async fn the_sample_models_answer_their_examples() {
    let samples = std::fs::read_dir(models::sample("", "")).unwrap();
    let names = samples.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = names.filter(|name| models::sample(name, "example.json").exists()).collect();
    assert!(names.len() >= 5, "{names:?}");
    let server = Server::with(&Models::new(), |config| {
        config.repository.repositories = vec![models::sample("", "")];
    })
    .await;
    let mut http = server.http().await;
    for name in &names {
        let read = |file| std::fs::read_to_string(models::sample(name, file)).unwrap();
        let expected: Value = serde_json::from_str(&read("expected.json")).unwrap();
        let answer = http.post(&format!("/v2/models/{name}/infer"), read("example.json")).await;
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        let answer = answer.json();
        for output in expected.as_array().unwrap() {
            let outputs = answer["outputs"].as_array().unwrap();
            let given = outputs.iter().find(|given| given["name"] == output["name"]).unwrap();
            assert_eq!(given["shape"], output["shape"], "{name}");
            let (given, wanted) = (Value::Array(flat(&given["data"])), Value::Array(flat(&output["data"])));
            assert!(close(&given, &wanted), "{name}: {given} is not {wanted}");
        }
    }
}

#[tokio::test]
async fn no_rows_for_a_model_that_cannot_run_them_are_the_callers_mistake() {
    let server = Server::with(&Models::new(), |config| {
        config.repository.repositories = vec![models::sample("", "")];
    })
    .await;
    let mut http = server.http().await;
    for (model, status) in [("tickets", 400), ("iris", 200)] {
        let mut body: Value =
            serde_json::from_str(&std::fs::read_to_string(models::sample(model, "example.json")).unwrap()).unwrap();
        for input in body["inputs"].as_array_mut().unwrap() {
            input["shape"][0] = json!(0);
            input["data"] = json!([]);
        }
        let answer = http.infer(model, &body).await;
        assert_eq!(answer.status, status, "{model}: {answer:?}");
        if status == 400 {
            assert!(answer.error().contains("'tickets': it fails on 0 rows, expected at least 1"), "{answer:?}");
        }
    }
}
