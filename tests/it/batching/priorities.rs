//! Priorities of requests, and what a refusal says of another try.

use std::sync::{Arc, Barrier};

use http::StatusCode;
use prost::Message;
use serde_json::{Value, json};
use tensorgate::contract::metrics as names;
use tensorgate::protocol::proto::infer_parameter::ParameterChoice;
use tensorgate::protocol::proto::{InferParameter, ModelInferRequest};
use tensorgate::protocol::status::{RetryInfo, RpcStatus};
use tensorgate::runtime::unhurriedly;
use tonic::Code;

use crate::support::tensors::*;
use crate::support::{Models, Server, eventually};

fn row() -> Named {
    named([("x", tensor([1, 4], [1_f32, 2., 3., 4.]))])
}

fn with_priority(priority: Value) -> String {
    let mut body = json_body(&row());
    body["parameters"] = json!({ "priority": priority });
    body.to_string()
}

fn message_with(name: &str, choice: ParameterChoice) -> ModelInferRequest {
    let mut message = message("m", &row());
    message.parameters.insert(name.into(), InferParameter { parameter_choice: Some(choice) });
    message
}

#[tokio::test]
async fn a_priority_is_one_of_the_models_levels_or_low_and_anything_else_is_refused_with_the_range() {
    let levels = "priority_levels = 3\ndefault_priority_level = 2";
    let server = Server::start(&Models::new().with_slow_identity("m", 0, levels)).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    for right in [json!(0), json!(1), json!(3), json!("2"), json!("low")] {
        assert_eq!(http.post("/v2/models/m/infer", with_priority(right)).await.status, 200);
    }
    grpc.model_infer(message_with("priority", ParameterChoice::Uint64Param(1))).await.unwrap();
    for wrong in [json!(4), json!(-1), json!("high"), json!(true), json!(1.5)] {
        let answer = http.post("/v2/models/m/infer", with_priority(wrong)).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let error = answer.error();
        assert!(error.contains("model 'm'") && error.contains("1 (first) to 3 (last)"), "{error}");
    }
    let status = grpc.model_infer(message_with("priority", ParameterChoice::Uint64Param(9))).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_configuration_tells_the_levels() {
    let config = "max_batch_size: 4\ndynamic_batching {\n priority_levels: 2 default_priority_level: 2\n\
        default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 500000 }\n\
        priority_queue_policy { key: 1 value { default_timeout_microseconds: 100000 } } }\n";
    let server = Server::start(&Models::of(&["identity_fp32"]).with_pbtxt("identity_fp32", config)).await;
    let config = server.http().await.get("/v2/models/identity_fp32/config").await.json();
    let batching = &config["dynamic_batching"];
    assert_eq!((&batching["priority_levels"], &batching["default_priority_level"]), (&json!(2), &json!(2)));
    assert_eq!(batching["default_queue_policy"]["timeout_action"], "DELAY");
    assert_eq!(batching["priority_queue_policy"]["1"]["default_timeout_microseconds"], 100_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_when_to_try_again_over_http_grpc_and_a_stream() {
    let full = "warm_up = false\nqueue_bytes_max = 1";
    let server = Server::start(&Models::new().with_slow_identity("m", 3000, full)).await;
    let mut busy = server.http().await;
    let running = tokio::spawn(async move { busy.infer("m", &json_body(&row())).await.status.as_u16() });
    eventually("the model to be busy", async || {
        (server.metrics().await.sum(names::IN_FLIGHT, &[]) == 1.0).then_some(())
    })
    .await;
    let answer = server.http().await.infer("m", &json_body(&row())).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, Some("1")));
    assert!(answer.error().contains("queue_bytes_max"), "{answer:?}");
    let mut grpc = server.grpc().await;
    let status = grpc.model_infer(message("m", &row())).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "1000");
    let details = RpcStatus::decode(status.details()).unwrap();
    assert_eq!((details.code, details.message.as_str()), (Code::ResourceExhausted as i32, status.message()));
    assert_eq!(details.details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");
    let info = RetryInfo::decode(&*details.details[0].value).unwrap();
    assert_eq!(info.retry_delay.unwrap().seconds, 1);
    let requests = futures_util::stream::iter([message("m", &row())]);
    let mut answers = grpc.model_stream_infer(requests).await.unwrap().into_inner();
    let refused = answers.message().await.unwrap().unwrap();
    assert!(refused.error_message.contains("queue_bytes_max"), "{refused:?}");
    let parameter = &refused.infer_response.unwrap().parameters["retry_after_ms"];
    assert_eq!(parameter.parameter_choice, Some(ParameterChoice::Uint64Param(1000)));
    assert_eq!(running.await.unwrap(), 200);
}

#[tokio::test]
async fn a_request_does_not_wait_for_low_work_before_it_that_no_idle_thread_gets_to() {
    let models = Models::new().with_slow_identity("m", 5, "weight = 1");
    let server = Server::start(&models).await;
    // As many as there are idle threads for such work.
    let busy = std::thread::available_parallelism().unwrap().get();
    let held = Arc::new(Barrier::new(busy + 1));
    for _ in 0..busy {
        let held = Arc::clone(&held);
        unhurriedly(move || {
            held.wait();
        });
    }
    let (mut first, mut second) = (server.http().await, server.http().await);
    let low = async {
        let path = "/v2/models/m/infer";
        first.post(path, with_priority(json!("low"))).await.status
    };
    let usual = async {
        let taken = async || (server.metrics().await.sum(names::IN_FLIGHT, &[("model", "m")]) == 1.0).then_some(());
        eventually("the low one to be there", taken).await;
        second.infer("m", &json_body(&row())).await.status
    };
    assert_eq!(tokio::join!(low, usual), (StatusCode::OK, StatusCode::OK));
    tokio::task::spawn_blocking(move || held.wait()).await.unwrap();
}
