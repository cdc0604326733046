//! Texts in: models with a tokenizer beside them, through every API.

mod openai;
mod wrong;

use serde_json::{Value, json};
use tensorgate::infer::ParameterValue;
use tensorgate::protocol::proto::{InferParameter, infer_parameter::ParameterChoice};
use tensorgate::tensor::Tensor;

use crate::support::http::Answer;
use crate::support::tensors::*;
use crate::support::{Http, Models, Server};

/// Of different lengths, two of the same.
const TEXTS: [&str; 4] = ["Hello, world!", "hello", "anna lives by the river", "paris"];

async fn serve() -> Server {
    let models = ["encoder", "classifier", "ranker", "tagger"];
    Server::start(&models.into_iter().fold(Models::new(), Models::with_texts)).await
}

fn texts(values: &[&str]) -> Named {
    named([("text", strings([values.len()], values))])
}

/// The answer over HTTP, after that over gRPC was found to be the same.
async fn answered(server: &Server, model: &str, inputs: &Named) -> (Named, Value) {
    let answer = server.http().await.infer(model, &json_body(inputs)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let over_grpc = server.grpc().await.model_infer(message(model, inputs)).await.unwrap().into_inner();
    let outputs = outputs_of(&answer);
    let names = |outputs: &Named| outputs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&outputs), names(&outputs_of_message(&over_grpc)));
    for ((name, over_http), (_, over_grpc)) in outputs.iter().zip(&outputs_of_message(&over_grpc)) {
        assert!(is_close(over_http, over_grpc), "{name}");
    }
    let tokens = answer.json()["parameters"]["tokens"].clone();
    let counted = over_grpc.parameters.get("tokens").and_then(|counted| counted.parameter_choice.clone());
    assert_eq!(counted, Some(ParameterChoice::Int64Param(tokens.as_i64().unwrap())));
    (outputs, tokens)
}

/// Joined rows may differ from the same rows alone in their last bits.
fn is_close(one: &Tensor, other: &Tensor) -> bool {
    let alike = one.datatype() == other.datatype() && one.shape() == other.shape();
    match (one.clone().aligned().view::<f32>(), other.clone().aligned().view::<f32>()) {
        (Ok(one), Ok(other)) => alike && one.iter().zip(other).all(|(a, b)| (a - b).abs() < 1e-5),
        _ => alike && one == other,
    }
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.clone().aligned().view::<f32>().unwrap().to_vec()
}

fn words(tensor: &Tensor) -> Vec<String> {
    tensor.byte_strings().unwrap().map(|word| String::from_utf8(word.to_vec()).unwrap()).collect()
}

/// What the model's tensors say of one text with these tokens.
async fn tensors(http: &mut Http, model: &str, ids: &[i64], types: &[i64]) -> Vec<f32> {
    let (shape, ones) = ([1, ids.len()], vec![1_i64; ids.len()]);
    let inputs = named([
        ("input_ids", tensor(shape, ids)),
        ("attention_mask", tensor(shape, ones)),
        ("token_type_ids", tensor(shape, types)),
    ]);
    let answer = http.infer(model, &json_body(&inputs)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    floats(&outputs_of(&answer)[0].1)
}

/// The mean of tokens' vectors of eight values, of length one.
fn pooled(tokens: &[f32]) -> Vec<f32> {
    let count = (tokens.len() / 8) as f32;
    let mean: Vec<f32> = (0..8).map(|at| tokens.iter().skip(at).step_by(8).sum::<f32>() / count).collect();
    let length = mean.iter().map(|value| value * value).sum::<f32>().sqrt();
    mean.iter().map(|value| value / length).collect()
}

fn assert_near(given: &[f32], expected: &[f32]) {
    let near = given.len() == expected.len() && given.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(near, "{given:?}\n{expected:?}");
}

#[tokio::test]
async fn each_text_becomes_what_its_tokens_become_pooled_as_the_modules_say() {
    let server = serve().await;
    let (outputs, tokens) = answered(&server, "encoder", &texts(&TEXTS)).await;
    let [(name, vectors)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((name.as_str(), &vectors.shape()[..]), ("embedding", &[4, 8][..]));
    // As the tokenizers package has it: [CLS] hello , world ! [SEP], and so on.
    let ids: [&[i64]; 4] =
        [&[2, 87, 41, 88, 42, 3], &[2, 87, 3], &[2, 92, 15, 53, 66, 49, 95, 5, 69, 86, 93, 3], &[2, 91, 3]];
    assert_eq!(tokens, ids.iter().map(|ids| ids.len()).sum::<usize>());
    let mut http = server.http().await;
    for (vector, ids) in floats(vectors).chunks(8).zip(ids) {
        let alone = tensors(&mut http, "encoder", ids, &vec![0; ids.len()]).await;
        assert_near(vector, &pooled(&alone));
    }
}

#[tokio::test]
async fn a_text_may_come_under_any_name_and_in_one_column_as_clients_send_it() {
    let server = serve().await;
    let mut http = server.http().await;
    let usual = outputs_of(&http.infer("encoder", &json_body(&texts(&["hello"]))).await);
    for (name, shape) in [("input-0", vec![1]), ("text", vec![1, 1]), ("text", vec![]), ("text_input", vec![1, 1])] {
        let answer = http.infer("encoder", &json_body(&named([(name, strings(&shape, &["hello"]))]))).await;
        assert_eq!(answer.status, 200, "{name} {shape:?}: {answer:?}");
        assert!(is_close(&outputs_of(&answer)[0].1, &usual[0].1));
    }
}

#[tokio::test]
async fn a_classifier_tells_label_score_and_logits() {
    let server = serve().await;
    let (outputs, _) = answered(&server, "classifier", &texts(&TEXTS)).await;
    let [(_, labels), (_, scores), (_, logits)] = &outputs[..] else { panic!("{outputs:?}") };
    let alone = tensors(&mut server.http().await, "classifier", &[2, 87, 3], &[0; 3]).await;
    assert_near(&floats(logits)[3..6], &alone);
    for ((label, score), logits) in words(labels).iter().zip(floats(scores)).zip(floats(logits).chunks(3)) {
        let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
        let best = (0..3).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
        assert_eq!(label, ["bad", "fine", "good"][best]);
        assert!((score - logits[best].exp() / sum).abs() < 1e-5);
    }
    let mut http = server.http().await;
    let body = json!({ "inputs": [json_input("text", &strings([1], &["hello"]))],
                       "outputs": [{ "name": "logits", "parameters": { "classification": 1 } }, { "name": "label" }] });
    let answer = outputs_of(&http.infer("classifier", &body).await);
    let [best] = &words(&answer[0].1)[..] else { panic!("{answer:?}") };
    assert!(best.ends_with(&words(&answer[1].1)[0]) && best.contains(':'), "{best}");
}

#[tokio::test]
async fn v1_takes_texts_as_instances_and_as_columns() {
    let server = serve().await;
    let mut http = server.http().await;
    let whole = outputs_of(&http.infer("classifier", &json_body(&texts(&["hello", "paris"]))).await);
    let labels = words(&whole[0].1);
    for body in [
        json!({ "instances": ["hello", "paris"] }),
        json!({ "instances": [{ "text": "hello" }, { "text": "paris" }] }),
        json!({ "inputs": ["hello", "paris"] }),
        json!({ "inputs": { "text": ["hello", "paris"] } }),
    ] {
        let answer = http.post("/v1/models/classifier:predict", body.to_string()).await.json();
        let predictions = &answer["predictions"];
        let told = match predictions {
            Value::Array(rows) => rows.iter().map(|row| row["label"].clone()).collect(),
            columns => columns["label"].clone(),
        };
        assert_eq!(told, json!(labels), "{body}: {answer}");
    }
    // The tensors are there as they were.
    let tensors =
        json!({ "instances": [{ "input_ids": [2, 87, 3], "attention_mask": [1, 1, 1], "token_type_ids": [0, 0, 0] }] });
    let answer = http.post("/v1/models/classifier:predict", tensors.to_string()).await.json();
    assert_eq!(answer["predictions"][0].as_array().map(Vec::len), Some(3), "{answer}");
}

#[tokio::test]
async fn a_token_classifier_tells_each_token_its_label_and_its_place() {
    let server = serve().await;
    let (outputs, _) = answered(&server, "tagger", &texts(&["Anna é paris", "hello"])).await;
    let told: Vec<Value> = words(&outputs[0].1).iter().map(|tags| serde_json::from_str(tags).unwrap()).collect();
    let of = |tag: &Value| (tag["token"].as_str().unwrap().to_owned(), tag["start"].as_u64(), tag["end"].as_u64());
    let places: Vec<_> = told[0].as_array().unwrap().iter().map(of).collect();
    // In characters, of which é is one.
    let expected = [("anna", 0, 4), ("e", 5, 6), ("paris", 7, 12)];
    assert_eq!(places, expected.map(|(token, start, end)| (token.to_owned(), Some(start), Some(end))));
    assert_eq!(told[1].as_array().unwrap().len(), 1);
    let logits = tensors(&mut server.http().await, "tagger", &[2, 87, 3], &[0; 3]).await;
    let best = (0..3).max_by(|a, b| logits[3 + a].total_cmp(&logits[3 + b])).unwrap();
    assert_eq!(told[1][0]["label"], ["O", "PER", "LOC"][best]);
    assert_eq!(told[1][0]["index"], 1);
}

#[tokio::test]
async fn both_faces_are_in_the_metadata_and_none_of_their_inputs_has_to_be_sent_but_the_tensors() {
    let server = serve().await;
    let mut http = server.http().await;
    let told = http.get("/v2/models/encoder").await.json();
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|spec| spec["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&told["inputs"]), ["input_ids", "attention_mask", "token_type_ids", "text", "text_pair"]);
    assert_eq!(names(&told["outputs"]), ["last_hidden_state", "embedding"]);
    assert_eq!(told["outputs"][1], json!({ "name": "embedding", "datatype": "FP32", "shape": [-1, 8] }));
    let config = http.get("/v2/models/encoder/config").await.json();
    assert_eq!(config["input"][3]["optional"], json!(true));
    let told = http.get("/v2/models/classifier").await.json();
    assert_eq!(names(&told["outputs"]), ["logits", "label", "score"]);
}

#[tokio::test]
async fn texts_of_all_lengths_share_batches_and_count_as_one_request() {
    let server = serve().await;
    let long = "hello world ".repeat(9);
    let all: Vec<&str> = (1..=108).map(|end| &long[..end]).collect();
    let (outputs, _) = answered(&server, "encoder", &texts(&all)).await;
    assert_eq!(&outputs[0].1.shape()[..], [108, 8]);
    let alone = outputs_of(&server.http().await.infer("encoder", &json_body(&texts(&all[40..41]))).await);
    assert_near(&floats(&outputs[0].1)[40 * 8..41 * 8], &floats(&alone[0].1));
    let stats = server.http().await.get("/v2/models/encoder/stats").await.json();
    let stats = &stats["model_stats"][0];
    assert_eq!(stats["inference_stats"]["success"]["count"], json!(3));
    assert_eq!(stats["inference_count"], json!(217));
    assert!(stats["execution_count"].as_u64().unwrap() < 100, "{stats}");
}

#[tokio::test]
async fn kept_answers_tell_their_tokens_too() {
    let models = Models::new().with_texts("encoder").with_toml("encoder", "[response_cache]\nbytes_max = \"1MiB\"\n");
    let server = Server::start(&models).await;
    let mut http = server.http().await;
    let ask = json_body(&texts(&["hello"]));
    let (first, second) = (http.infer("encoder", &ask).await, http.infer("encoder", &ask).await);
    assert!(second.header("server-timing").is_some_and(|timing| timing.contains("hit")), "{second:?}");
    assert_eq!(first.json(), second.json());
}

#[tokio::test]
async fn versions_may_share_what_lies_above_them() {
    let models = Models::new().with_texts("encoder");
    let (model, version) = (models.path().join("encoder"), models.path().join("encoder/1"));
    for file in std::fs::read_dir(&version).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "model.onnx" {
            std::fs::rename(file.path(), model.join(file.file_name())).unwrap();
        }
    }
    let server = Server::start(&models).await;
    let answer: Answer = server.http().await.infer("encoder", &json_body(&texts(&["hello"]))).await;
    assert_eq!(answer.json()["parameters"]["tokens"], 3);
}

/// A message of texts with a parameter.
fn with_parameter(
    mut message: tensorgate::protocol::proto::ModelInferRequest,
    name: &str,
    value: ParameterValue,
) -> tensorgate::protocol::proto::ModelInferRequest {
    let choice = match value {
        ParameterValue::Bool(value) => ParameterChoice::BoolParam(value),
        ParameterValue::Int64(value) => ParameterChoice::Int64Param(value),
        other => panic!("{other:?}"),
    };
    message.parameters.insert(name.into(), InferParameter { parameter_choice: Some(choice) });
    message
}
