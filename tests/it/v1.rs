//! V1: TensorFlow Serving's and KServe's first protocol, over the same models.

use http::Method;
use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::models::sample;
use crate::support::{Http, Models, Server};

async fn serve() -> Server {
    Server::start(&Models::of(&["identity_fp32", "many_outputs", "garbage"])).await
}

async fn predict(http: &mut Http, model: &str, body: &Value) -> (u16, Value) {
    let answer = http.post(&format!("/v1/models/{model}:predict"), body.to_string()).await;
    (answer.status.as_u16(), answer.json())
}

#[tokio::test]
async fn models_are_listed_and_tell_whether_they_are_ready() {
    let server = serve().await;
    let mut http = server.http().await;
    assert_eq!(http.get("/").await.json(), json!({ "status": "alive" }));
    let listed = http.get("/v1/models").await.json();
    assert_eq!(listed["models"], json!(["garbage", "identity_fp32", "many_outputs"]));
    let ready = http.get("/v1/models/identity_fp32").await.json();
    assert_eq!((&ready["name"], &ready["ready"]), (&json!("identity_fp32"), &json!(true)));
    assert_eq!(http.get("/v1/models/identity_fp32/versions/1").await.status, 200);
    assert_eq!(http.get("/v1/models/nowhere").await.status, 404);
    let broken = http.get("/v1/models/garbage").await;
    assert!(broken.status == 503 && broken.error().contains("garbage"), "{broken:?}");
}

#[tokio::test]
async fn instances_and_inputs_are_predicted_in_their_own_form() {
    let server = serve().await;
    let mut http = server.http().await;
    for body in [
        json!({ "instances": [[1, 2.5], [3, 4]] }),
        json!({ "instances": [{ "x": [1, 2.5] }, { "x": [3, 4] }] }),
        json!({ "inputs": [[1, 2.5], [3, 4]] }),
        json!({ "inputs": { "x": [[1, 2.5], [3, 4]] } }),
    ] {
        let expected = json!({ "predictions": [[1.0, 2.5], [3.0, 4.0]] });
        assert_eq!(predict(&mut http, "identity_fp32", &body).await, (200, expected), "{body}");
    }
    assert_eq!(http.post("/v1/models/identity_fp32/versions/1:predict", "{\"instances\": [[1]]}").await.status, 200);
}

#[tokio::test]
async fn inputs_of_many_columns_are_rows_of_objects_by_name() {
    let models = Models::new();
    for model in ["iris", "fraud"] {
        let directory = models.path().join(model).join("1");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::copy(sample(model, "1/model.onnx"), directory.join("model.onnx")).unwrap();
    }
    let server = Server::start(&models).await;
    let mut http = server.http().await;
    for model in ["iris", "fraud"] {
        // The example of V2, column by column: the same answer in the form of V1.
        let example: Value = serde_json::from_slice(&std::fs::read(sample(model, "example.json")).unwrap()).unwrap();
        let inputs = example["inputs"].as_array().unwrap();
        let v2 = http.infer(model, &json!({ "inputs": inputs })).await.json();
        let rows = inputs[0]["shape"][0].as_u64().unwrap() as usize;
        let row_of = |input: &Value, row: usize| {
            let flat = input["data"].as_array().unwrap();
            let width = flat.len() / rows;
            Value::from(flat[row * width..(row + 1) * width].to_vec())
        };
        let instance = |row: usize| -> Value {
            let fields = inputs.iter().map(|input| (input["name"].as_str().unwrap().to_owned(), row_of(input, row)));
            Value::Object(fields.collect())
        };
        let body = json!({ "instances": (0..rows).map(instance).collect::<Vec<_>>() });
        let (status, answer) = predict(&mut http, model, &body).await;
        assert_eq!(status, 200, "{model}: {answer}");
        let predictions = answer["predictions"].as_array().unwrap();
        assert_eq!(predictions.len(), rows);
        for output in v2["outputs"].as_array().unwrap() {
            let name = output["name"].as_str().unwrap();
            let values = output["data"].as_array().unwrap();
            let width = values.len() / rows;
            for (row, prediction) in predictions.iter().enumerate() {
                let expected = &values[row * width..(row + 1) * width];
                let found = &prediction[name];
                match found.as_array() {
                    Some(list) => assert_eq!(list, expected, "{model} {name}"),
                    None => assert_eq!(found, &expected[0], "{model} {name}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_predicted_is_told_as_everywhere() {
    let server = serve().await;
    let mut http = server.http().await;
    for (body, said) in [
        (json!({}), "'instances'"),
        (json!({ "instances": [[1, 2], [3]] }), "different lengths"),
        (json!({ "instances": [{ "z": [1] }] }), "unknown input 'z'"),
        (json!({ "instances": [["a"]] }), "input 'x'"),
    ] {
        let (status, answer) = predict(&mut http, "identity_fp32", &body).await;
        let message = answer["error"].as_str().unwrap();
        assert!(status == 400 && message.contains("identity_fp32") && message.contains(said), "{message}");
    }
    let one = json!({ "instances": [[1]] });
    assert_eq!(predict(&mut http, "nowhere", &one).await.0, 404);
    assert_eq!(predict(&mut http, "garbage", &one).await.0, 503);
    assert_eq!(http.post("/v1/models/identity_fp32:predict", "no json").await.status, 400);
    let answer = http.post("/v1/models/identity_fp32:explain", "{}").await;
    assert!(answer.status == 501 && answer.error().contains("identity_fp32"), "{answer:?}");
    let answer = http.send(request(Method::GET, "/v1/models/identity_fp32:predict", &[], "")).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("POST, OPTIONS")));
    assert_eq!(http.get("/v1/models/identity_fp32:reflect").await.status, 404);
}

#[tokio::test]
async fn bytes_go_in_and_out_in_base64() {
    let server = Server::start(&Models::of(&["identity_bytes"])).await;
    let mut http = server.http().await;
    let body = json!({ "instances": [[{ "b64": "AP8=" }, "text"]] });
    let expected = json!({ "predictions": [[{ "b64": "AP8=" }, "text"]] });
    assert_eq!(predict(&mut http, "identity_bytes", &body).await, (200, expected));
    let broken = json!({ "instances": [[{ "b64": "not base64" }]] });
    let (status, answer) = predict(&mut http, "identity_bytes", &broken).await;
    assert!(status == 400 && answer["error"].as_str().unwrap().contains("no base64"), "{answer}");
}

#[tokio::test]
async fn an_event_is_answered_by_an_event_in_its_own_mode() {
    let server = serve().await;
    let mut http = server.http().await;
    let path = "/v1/models/identity_fp32:predict";
    let data = json!({ "instances": [[1, 2.5]] });
    let predictions = json!({ "predictions": [[1.0, 2.5]] });
    let event = json!({ "specversion": "1.0", "id": "7", "source": "s", "type": "t", "data": data });
    let structured = [("content-type", "application/cloudevents+json; charset=utf-8")];
    let answer = http.send(request(Method::POST, path, &structured, event.to_string())).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some("application/cloudevents+json")));
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&told["specversion"], &told["data"]), (&json!("1.0"), &predictions));
    assert_eq!(told["source"], "io.kserve.inference.identity_fp32");
    assert_eq!(told["type"], "io.kserve.inference.response");
    let binary = [("ce-specversion", "1.0"), ("ce-id", "7"), ("ce-source", "s"), ("ce-type", "t")];
    let answer = http.send(request(Method::POST, path, &binary, data.to_string())).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, predictions.clone()));
    assert_eq!(answer.header("ce-type"), Some("io.kserve.inference.response"));
    assert!(answer.header("ce-time").is_some() && answer.header("ce-id") != told["id"].as_str());
    // Half of the headers are no event.
    let answer = http.send(request(Method::POST, path, &binary[..2], data.to_string())).await;
    assert_eq!((answer.json(), answer.header("ce-id")), (predictions, None));
    // What is wrong is told as everywhere.
    for body in [json!({ "specversion": "1.0", "data": data }), json!([event]), data] {
        let answer = http.send(request(Method::POST, path, &structured, body.to_string())).await;
        assert!(answer.status == 400 && answer.error().contains("vent"), "{body}: {answer:?}");
    }
}
