//! Texts, folders and parameters that cannot be served, each told in a way that helps.

use serde_json::json;
use tensorgate::infer::ParameterValue;
use tensorgate::tensor::{DataType, Tensor};

use super::{Models, Server, TEXTS, answered, serve, texts, with_parameter};
use crate::support::tensors::*;

/// The message of a refusal with 400, after that gRPC was found to say the same with INVALID_ARGUMENT.
async fn refused(server: &Server, model: &str, inputs: &Named, parameter: Option<(&str, ParameterValue)>) -> String {
    let mut message = message(model, inputs);
    if let Some((name, value)) = parameter {
        message = with_parameter(message, name, value);
    }
    let error = server.grpc().await.model_infer(message.clone()).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error:?}");
    // In binary, since JSON has no text that is no UTF-8.
    let parameters = message.parameters.iter().map(|(name, value)| {
        use tensorgate::protocol::proto::infer_parameter::ParameterChoice;
        let value = match value.parameter_choice.as_ref().unwrap() {
            ParameterChoice::BoolParam(value) => json!(value),
            ParameterChoice::Int64Param(value) => json!(value),
            other => panic!("{other:?}"),
        };
        (name.clone(), value)
    });
    let parameters: serde_json::Map<String, serde_json::Value> = parameters.collect();
    let answer =
        server.http().await.send(binary_request(model, inputs, json!({ "parameters": parameters }), |_| true)).await;
    assert_eq!((answer.status.as_u16(), answer.error()), (400, error.message().to_owned()));
    answer.error()
}

fn bytes(values: &[&[u8]]) -> Named {
    named([("text", Tensor::from_byte_strings([values.len()].into(), values).unwrap())])
}

#[tokio::test]
async fn texts_that_are_none_are_told_by_their_number() {
    let server = serve().await;
    let long = "hello ".repeat(40);
    let pairs = named([("text", strings([2], &["a", "b"])), ("text_pair", strings([3], &["a", "b", "c"]))]);
    let mixed = named([("text", strings([1], &["a"])), ("input_ids", tensor([1, 1], [2_i64]))]);
    for (inputs, parameter, said) in [
        (texts(&["a", ""]), None, "model 'encoder': text 1: it is empty"),
        (texts(&[]), None, "no texts, expected at least one"),
        (bytes(&[b"ok", b"caf\xe9"]), None, "text 1: it is no UTF-8 from its byte 3 on"),
        (
            texts(&["a", &long]),
            Some(("truncate", ParameterValue::Bool(false))),
            "text 1: it has 42 tokens, the model takes at most 32",
        ),
        (texts(&["a"]), Some(("truncate", ParameterValue::Int64(1))), "expected true or false"),
        (
            texts(&["a"]),
            Some(("dimensions", ParameterValue::Int64(5))),
            "'dimensions' is 5, expected 8, or one of 4, 8",
        ),
        (texts(&["a"]), Some(("dimensions", ParameterValue::Int64(-1))), "'dimensions' is -1"),
        (pairs, None, "input 'text' has 2 rows, 'text_pair' 3"),
        (mixed, None, "unknown input 'input_ids', expected 'text'"),
        (
            named([("text_pair", strings([1], &["a"])), ("token_ids", strings([1], &["aaaa"]))]),
            None,
            "and texts, expected one",
        ),
        (named([("text_pair", strings([1], &["a"]))]), None, "it has 'text_pair', but no 'text'"),
        (named([("token_ids", strings([1], &["abc"]))]), None, "token_ids 0: it has 3 bytes"),
        (named([("text", tensor([1], [1_i64]))]), None, "datatype INT64, expected BYTES"),
    ] {
        let told = refused(&server, "encoder", &inputs, parameter).await;
        assert!(told.contains(said), "{told}");
    }
    let told = refused(&server, "classifier", &texts(&["a"]), Some(("dimensions", ParameterValue::Int64(4)))).await;
    assert!(told.contains("gives no embeddings"), "{told}");
    // The same text is taken where it may lose its end; nothing was left behind.
    let (outputs, tokens) = answered(&server, "encoder", &texts(&[&long])).await;
    assert_eq!((outputs[0].1.datatype(), tokens), (DataType::Fp32, json!(32)));
}

#[tokio::test]
async fn an_unknown_output_names_those_of_texts() {
    let server = serve().await;
    let body =
        json!({ "inputs": [json_input("text", &strings([1], &["a"]))], "outputs": [{ "name": "last_hidden_state" }] });
    let answer = server.http().await.infer("encoder", &body).await;
    assert!(answer.error().contains("unknown output 'last_hidden_state', expected 'embedding'"), "{answer:?}");
}

#[tokio::test]
async fn a_folder_that_is_broken_fails_its_model_with_the_file_and_no_other() {
    let broken = [
        ("tokenizer", "tokenizer.json", "{\"version\": \"1.0\", \"model\": 5}", "tokenizer.json: is no tokenizer"),
        ("truncated", "tokenizer.json", "{\"version\":", "tokenizer.json: is no tokenizer"),
        ("config", "config.json", "[1, 2]", "config.json: is not the JSON"),
        (
            "pooling",
            "1_Pooling/config.json",
            "{\"pooling_mode\": \"best\"}",
            "1_Pooling/config.json: pooling_mode is 'best'",
        ),
        (
            "vocabulary",
            "config.json",
            "{\"vocab_size\": 50}",
            "has a token of id 95, but by config.json the model has a vocab_size of 50",
        ),
    ];
    let mut models = Models::new();
    for (name, file, text, _) in broken {
        models = models.with_texts("encoder");
        std::fs::rename(models.path().join("encoder"), models.path().join(name)).unwrap();
        models.write(name, &format!("1/{file}"), text);
    }
    let server = Server::start(&models.with_texts("encoder")).await;
    for (name, _, _, said) in broken {
        let answer = server.http().await.infer(name, &json_body(&texts(&["a"]))).await;
        assert!(answer.status == 503 && answer.error().contains(said), "{name}: {answer:?}");
    }
    answered(&server, "encoder", &texts(&TEXTS)).await;
}

#[tokio::test]
async fn a_model_whose_tensors_are_not_of_tokens_serves_them_alone() {
    let models = Models::of(&["identity_fp32"]).with_texts("encoder");
    let tokenizer = models.path().join("encoder/1/tokenizer.json");
    std::fs::copy(tokenizer, models.path().join("identity_fp32/1/tokenizer.json")).unwrap();
    let server = Server::start(&models).await;
    let mut http = server.http().await;
    let answer = http.infer("identity_fp32", &json_body(&texts(&["a"]))).await;
    assert!(answer.error().contains("unknown input 'text', expected 'x'"), "{answer:?}");
    assert_eq!(http.infer("identity_fp32", &json_body(&named([("x", tensor([1, 2], [1_f32, 2.]))]))).await.status, 200);
}
