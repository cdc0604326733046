//! Outputs as their best classes, over both doors.

use serde_json::json;
use tensorgate::protocol::proto::InferParameter;
use tensorgate::protocol::proto::infer_parameter::ParameterChoice;
use tensorgate::protocol::proto::model_infer_request::InferRequestedOutputTensor;
use tonic::Code;

use crate::support::tensors::*;
use crate::support::{Models, Server};

const LABELLED: &str = "[[outputs]]\nname = \"y\"\nlabels = \"labels.txt\"\n";

fn scores() -> Named {
    named([("x", tensor([2, 3], [0.1_f32, 0.75, 0.5, 3.0, -1.0, 2.0]))])
}

fn models() -> Models {
    let models = Models::of(&["identity_fp32", "identity_bytes"]).with_toml("identity_fp32", LABELLED);
    models.write("identity_fp32", "labels.txt", "cat\ndog\nbird\n");
    models
}

fn asked(count: impl Into<serde_json::Value>) -> serde_json::Value {
    let mut body = json_body(&scores());
    body["outputs"] = json!([{ "name": "y", "parameters": { "classification": count.into() } }]);
    body
}

#[tokio::test]
async fn the_best_classes_of_each_row_come_with_their_labels() {
    let server = Server::start(&models()).await;
    let mut http = server.http().await;
    let answer = http.infer("identity_fp32", &asked(2)).await;
    let expected = ["0.750000:1:dog", "0.500000:2:bird", "3.000000:0:cat", "2.000000:2:bird"];
    assert_eq!(outputs_of(&answer), named([("y", strings([2, 2], &expected))]));
    let answer = http.infer("identity_fp32", &asked(100)).await;
    assert_eq!(outputs_of(&answer)[0].1.shape().to_vec(), [2, 3]);
    let mut binary = asked(2);
    binary["outputs"][0]["parameters"]["binary_data"] = true.into();
    assert_eq!(outputs_of(&http.infer("identity_fp32", &binary).await)[0].1, strings([2, 2], &expected));
    let mut message = message("identity_fp32", &scores());
    let two = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(2)) };
    message.outputs =
        vec![InferRequestedOutputTensor { name: "y".into(), parameters: [("classification".to_owned(), two)].into() }];
    let answer = server.grpc().await.model_infer(message).await.unwrap().into_inner();
    assert_eq!((answer.outputs[0].datatype.as_str(), &answer.outputs[0].shape[..]), ("BYTES", &[2, 2][..]));
    assert_eq!(answer.raw_output_contents[0], strings([2, 2], &expected).data());
}

#[tokio::test]
async fn classes_of_what_is_no_number_and_numbers_that_are_none_are_refused() {
    let server = Server::start(&models()).await;
    let mut http = server.http().await;
    for count in [json!(-1), json!("2"), json!(true)] {
        let answer = http.infer("identity_fp32", &asked(count)).await;
        assert_eq!(answer.status, 400);
        assert!(answer.error().contains("'y'") && answer.error().contains("classification"), "{answer:?}");
    }
    let mut body = json_body(&named([("x", strings([1, 2], &["a", "b"]))]));
    body["outputs"] = json!([{ "name": "y", "parameters": { "classification": 1 } }]);
    let answer = http.infer("identity_bytes", &body).await;
    assert!(answer.status == 400 && answer.error().contains("BYTES"), "{answer:?}");
    // None at all is no wish.
    assert_eq!(outputs_of(&http.infer("identity_fp32", &asked(0)).await)[0].1, scores()[0].1);
}

#[tokio::test]
async fn a_label_file_that_is_not_there_keeps_its_model_from_loading() {
    let models = Models::of(&["identity_fp32"]).with_toml("identity_fp32", LABELLED);
    let server = Server::start(&models).await;
    let answer = server.http().await.infer("identity_fp32", &json_body(&scores())).await;
    assert!(answer.status == 503 && answer.error().contains("labels.txt"), "{answer:?}");
    let status = server.grpc().await.model_infer(message("identity_fp32", &scores())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}
