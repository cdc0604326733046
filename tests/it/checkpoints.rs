//! Hugging Face folders, served as they are.

use std::fs;

use serde_json::{Value, json};
use tensorgate::contract::metrics as names;
use tokio::task::JoinSet;

use crate::support::tensors::*;
use crate::support::{Models, Server, process};

/// A wait for company has what is sent together run together on any machine.
const TOGETHER: &str = "max_queue_delay = \"20ms\"\ninstances = 1\nslo = \"10s\"\n";

fn sentence(request: usize, length: usize, with_types: bool) -> Named {
    let ids: Vec<i64> = (0..length).map(|at| 3 + ((request * 7 + at * at * 3) % 29) as i64).collect();
    let mut inputs =
        named([("input_ids", tensor([1, length], ids)), ("attention_mask", tensor([1, length], vec![1_i64; length]))]);
    if with_types {
        inputs.push(("token_type_ids".into(), tensor([1, length], vec![1_i64; length])));
    }
    inputs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentences_of_all_lengths_share_batches_without_a_settings_file_and_are_answered_as_if_alone() {
    for fixture in ["bert", "sentences_first", "modernbert_tagger", "xlm_roberta_classifier"] {
        let models = Models::new()
            .with_checkpoint("joined", fixture)
            .with_toml("joined", TOGETHER)
            .with_checkpoint("alone", fixture)
            .with_toml("alone", "max_batch_size = 1\n");
        let server = Server::start(&models).await;
        let grpc = server.grpc().await;
        let mut calls = JoinSet::new();
        for request in 0..48 {
            let length = [9, 10, 17, 18, 19, 20, 1, 22][request % 8];
            let inputs = sentence(request, length, fixture == "bert" && request % 3 == 0);
            let (mut http, mut grpc) = (server.http().await, grpc.clone());
            calls.spawn(async move {
                let outputs = if request % 2 == 0 {
                    outputs_of(&http.infer("joined", &json_body(&inputs)).await)
                } else {
                    outputs_of_message(grpc.model_infer(message("joined", &inputs)).await.unwrap().get_ref())
                };
                (inputs, outputs)
            });
        }
        let mut http = server.http().await;
        for (inputs, outputs) in calls.join_all().await {
            let alone = outputs_of(&http.infer("alone", &json_body(&inputs)).await);
            for ((name, one), (_, other)) in outputs.iter().zip(&alone) {
                assert_eq!(one.shape(), other.shape(), "{fixture}, output '{name}'");
                let (one, other) = (one.clone().aligned(), other.clone().aligned());
                let mut pairs = one.view::<f32>().unwrap().iter().zip(other.view::<f32>().unwrap());
                assert!(pairs.all(|(one, other)| (one - other).abs() < 1e-4), "{fixture}, output '{name}'");
            }
        }
        let metrics = server.metrics().await;
        let batches = metrics.sum(&format!("{}_count", names::BATCH_ROWS), &[("model", "joined")]);
        assert!(batches < 48.0, "{fixture}: {batches} batches of 48 requests");
        let padding = metrics.sum(names::CELLS, &[("model", "joined"), ("use", "padding")]);
        assert!(padding > 0.0, "{fixture}: lengths were joined");
        assert_eq!(metrics.sum(names::BATCH_RETRIES, &[("model", "joined")]), 0.0);
    }
}

#[tokio::test]
async fn requests_without_a_mask_are_answered_in_their_own_length() {
    let models = Models::new().with_checkpoint("bert", "bert").with_toml("bert", TOGETHER);
    let server = Server::start(&models).await;
    let mut calls = JoinSet::new();
    for length in [3, 5, 5, 8] {
        let mut http = server.http().await;
        calls.spawn(async move {
            let inputs = sentence(0, length, false);
            let bare: Named = vec![inputs[0].clone()];
            let (bare, masked) =
                (http.infer("bert", &json_body(&bare)).await, http.infer("bert", &json_body(&inputs)).await);
            assert_eq!(outputs_of(&bare), outputs_of(&masked));
        });
    }
    calls.join_all().await;
}

#[tokio::test]
async fn classes_have_the_names_of_the_configuration() {
    let models = Models::new().with_checkpoint("mood", "bert_classifier");
    let server = Server::start(&models).await;
    let mut http = server.http().await;
    let inputs = sentence(1, 6, false);
    let logits = outputs_of(&http.infer("mood", &json_body(&inputs)).await)[0].1.clone().aligned();
    let logits = logits.view::<f32>().unwrap();
    let best = (0..3).max_by(|&one, &other| logits[one].total_cmp(&logits[other])).unwrap();
    let mut body = json_body(&inputs);
    body["outputs"] = json!([{ "name": "logits", "parameters": { "classification": 1 } }]);
    let answer = http.infer("mood", &body).await.json();
    let told = answer["outputs"][0]["data"][0].as_str().unwrap().to_owned();
    assert!(told.ends_with(&format!(":{best}:{}", ["sad", "so so", "glad"][best])), "{told}");
    let metadata = http.get("/v2/models/mood").await.json();
    assert_eq!((&metadata["platform"], &metadata["versions"]), (&"candle_safetensors".into(), &json!(["1"])));
}

#[tokio::test]
async fn tokens_that_a_model_has_no_word_for_are_that_requests_fault_alone() {
    let models = Models::new().with_checkpoint("bert", "bert").with_toml("bert", TOGETHER);
    let server = Server::start(&models).await;
    let mut calls = JoinSet::new();
    for request in 0..12 {
        let mut http = server.http().await;
        calls.spawn(async move {
            let mut inputs = sentence(request, 4, false);
            if request % 4 == 0 {
                inputs[0].1 = tensor([1, 4], [5_i64, 6, 32, 7]);
            }
            (request, http.infer("bert", &json_body(&inputs)).await)
        });
    }
    for (request, answer) in calls.join_all().await {
        if request % 4 == 0 {
            assert_eq!(answer.status, 400, "{}", answer.text());
            let told = "input 'input_ids' has 32 at place 2 of row 0, expected the vocabulary's 0 to 31";
            assert!(answer.error().contains(told), "{}", answer.text());
        } else {
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    let mut grpc = server.grpc().await;
    let long = sentence(0, 25, false);
    let refused = grpc.model_infer(message("bert", &long)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("rows of 25 tokens, expected 1 to 24"), "{refused}");
}

#[tokio::test]
async fn a_check_lists_what_is_wrong_with_each_folder_and_serves_the_others() {
    let models = Models::new()
        .with_checkpoint("sound", "distilbert")
        .with_checkpoint("cut", "bert")
        .with_checkpoint("other", "bert")
        .with_checkpoint("pickled", "bert")
        .with_checkpoint("unknown", "bert");
    let at = |model: &str, file: &str| models.path().join(model).join(file);
    let weights = fs::read(at("cut", "model.safetensors")).unwrap();
    fs::write(at("cut", "model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    fs::rename(at("pickled", "model.safetensors"), at("pickled", "pytorch_model.bin")).unwrap();
    for (model, key, value) in [("other", "hidden_size", json!(32)), ("unknown", "model_type", json!("llama"))] {
        let mut config: Value = serde_json::from_slice(&fs::read(at(model, "config.json")).unwrap()).unwrap();
        config[key] = value;
        fs::write(at(model, "config.json"), config.to_string()).unwrap();
    }
    let ended = process::run_to_end(&mut process::command(&["check", models.argument()])).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for (model, why) in [
        ("cut", "model.safetensors: has"),
        ("other", "has shape [24, 16], and config.json asks for [24, 32]"),
        ("pickled", "its weights are pickled (pytorch_model.bin)"),
        ("unknown", "'model_type' is 'llama', and the architectures served are bert, camembert, distilbert"),
    ] {
        let fault = format!("fault: {model}");
        let listed = ended.output.lines().any(|line| line.starts_with(&fault) && line.contains(why));
        assert!(listed, "{model}: {}", ended.output);
    }
    assert!(!ended.output.contains("fault: sound"), "{}", ended.output);
    let server = Server::start(&models).await;
    let mut http = server.http().await;
    assert_eq!(http.infer("sound", &json_body(&sentence(0, 3, false))).await.status, 200);
    assert_eq!(http.infer("cut", &json_body(&sentence(0, 3, false))).await.status, 503);
}
