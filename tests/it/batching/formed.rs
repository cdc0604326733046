//! Batches are formed, and rows go back to their owners.

use tensorgate::contract::metrics as names;
use tensorgate::tensor::Tensor;
use tokio::task::JoinSet;

use crate::support::tensors::*;
use crate::support::{Models, Server};

/// Waits for company, so that what is sent together runs together on any machine.
const JOINING: &str = "max_batch_size: 64 dynamic_batching { max_queue_delay_microseconds: 20000 }";

/// `rows` rows of `columns` that no other request has.
fn rows(request: usize, rows: usize, columns: usize) -> Tensor {
    let value = |i: usize| (request * 1000 + i) as f32;
    tensor([rows, columns], (0..rows * columns).map(value).collect::<Vec<_>>())
}

/// Sends one request for each `(rows, columns)`, half over HTTP and half over gRPC, all at once, and checks that each gets
/// its own rows back.
async fn everyone_gets_their_own(server: &Server, model: &'static str, shapes: impl Iterator<Item = (usize, usize)>) {
    let mut calls = JoinSet::new();
    let grpc = server.grpc().await;
    for (request, (height, width)) in shapes.enumerate() {
        let inputs = named([("x", rows(request, height, width))]);
        let (mut http, mut grpc) = (server.http().await, grpc.clone());
        calls.spawn(async move {
            let outputs = if request % 2 == 0 {
                outputs_of(&http.infer(model, &json_body(&inputs)).await)
            } else {
                outputs_of_message(grpc.model_infer(message(model, &inputs)).await.unwrap().get_ref())
            };
            assert_eq!(outputs[0].1, inputs[0].1, "request {request}");
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_requests_of_one_row_get_their_own_rows_and_share_batches() {
    let server = Server::start(&Models::of(&["identity_fp32"]).with_pbtxt("identity_fp32", JOINING)).await;
    everyone_gets_their_own(&server, "identity_fp32", (0..400).map(|_| (1, 3))).await;
    let metrics = server.metrics().await;
    let labels = [("model", "identity_fp32")];
    assert_eq!(metrics.sum(&format!("{}_sum", names::BATCH_ROWS), &labels), 400.0);
    let batches = metrics.sum(&format!("{}_count", names::BATCH_ROWS), &labels);
    assert!(batches <= 200.0, "{batches} batches of 400 rows");
    assert_eq!(metrics.sum(names::BATCH_RETRIES, &labels), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_none_one_and_many_rows_get_their_own_rows() {
    let server = Server::start(&Models::of(&["identity_fp32"]).with_pbtxt("identity_fp32", JOINING)).await;
    // Zero rows, one row, several, and more than a third of a batch, in an order that repeats nowhere soon.
    let shapes = (0..300).map(|request| ([1, 0, 5, 2, 1, 23, 0, 3][request * 7 % 8], 3));
    everyone_gets_their_own(&server, "identity_fp32", shapes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interleaved_shapes_are_each_joined_among_themselves() {
    let server = Server::start(&Models::of(&["identity_fp32"]).with_pbtxt("identity_fp32", JOINING)).await;
    everyone_gets_their_own(&server, "identity_fp32", (0..200).map(|request| (1, 3 + request / 2 % 2 * 4))).await;
    let metrics = server.metrics().await;
    let batches = metrics.sum(&format!("{}_count", names::BATCH_ROWS), &[]);
    assert!(batches <= 100.0, "{batches} batches of 200 rows of two shapes");
    assert_eq!(metrics.sum(names::BATCH_RETRIES, &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_without_settings_joins_what_comes_while_it_is_busy() {
    // 10 ms a batch, whatever its rows, on one instance: requests that come together have to wait, and share the next one.
    let text = "runtime = \"identity\"\nexecute_time = \"10ms\"\ninstances = 1\nslo = \"10s\"\n\
                [[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 1]\n";
    let server = Server::start(&Models::new().with_toml("slow", text)).await;
    everyone_gets_their_own(&server, "slow", (0..64).map(|_| (1, 1))).await;
    let metrics = server.metrics().await;
    let batches = metrics.sum(&format!("{}_count", names::BATCH_ROWS), &[]);
    assert!(batches < 64.0, "{batches} batches of 64 rows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_for_different_outputs_share_a_batch() {
    let server = Server::start(&Models::of(&["two_inputs", "sum_sequence"]).with_pbtxt("sum_sequence", JOINING)).await;
    // `many_outputs` has an output without rows, so its requests are never joined; ask the two of one that has.
    let x = |i: usize| named([("x", tensor([1, 2], [i as f32, 1.]))]);
    let mut calls = JoinSet::new();
    for i in 0..20 {
        let (mut grpc, inputs) = (server.grpc().await, x(i));
        calls.spawn(async move {
            let mut message = message("sum_sequence", &inputs);
            if i % 2 == 0 {
                message.outputs = asked(&["sum"]);
            }
            let answer = grpc.model_infer(message).await.unwrap();
            assert_eq!(outputs_of_message(answer.get_ref()), named([("sum", tensor([1], [i as f32 + 1.]))]));
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
}
