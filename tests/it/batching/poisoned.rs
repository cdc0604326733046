//! Requests that fail alone, and models whose rows are not independent.

use tensorgate::contract::metrics as names;
use tensorgate::tensor::Tensor;
use tokio::task::JoinSet;

use crate::support::tensors::*;
use crate::support::{Models, Server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_request_fails_alone_and_its_company_succeeds() {
    // Sixteen rows make a full batch; until then everyone waits far longer than sixteen clients take.
    let settings = "max_batch_size: 16 dynamic_batching { max_queue_delay_microseconds: 30000000 }";
    let server = Server::start(&Models::of(&["gather_rows"]).with_pbtxt("gather_rows", settings)).await;
    let mut calls = JoinSet::new();
    for client in 0..16_i64 {
        let (mut http, mut grpc) = (server.http().await, server.grpc().await);
        calls.spawn(async move {
            let index = if client == 5 { 10 } else { client % 10 };
            let inputs = named([("index", tensor([1], [index]))]);
            let wanted = named([("y", tensor([1, 2], [index as f32, (index * index) as f32]))]);
            if client % 2 == 0 {
                let answer = http.infer("gather_rows", &json_body(&inputs)).await;
                assert_eq!(outputs_of(&answer), wanted);
                return;
            }
            match grpc.model_infer(message("gather_rows", &inputs)).await {
                Ok(answer) => assert_eq!(outputs_of_message(answer.get_ref()), wanted),
                Err(status) => {
                    assert_eq!((client, status.code()), (5, tonic::Code::Internal), "{status:?}");
                    assert!(status.message().contains("model 'gather_rows'"), "{status:?}");
                }
            }
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum(names::BATCH_RETRIES, &[]), 1.0);
    assert_eq!(metrics.sum(&format!("{}_bucket", names::BATCH_ROWS), &[("le", "8")]), 16.0, "{}", metrics.text());
    assert_eq!(metrics.sum(names::REQUESTS, &[("kind", "ok")]), 15.0);
    assert_eq!(metrics.sum(names::REQUESTS, &[("kind", "execution")]), 1.0);
}

/// Sends `count` requests of one row each, all at once; each has to be answered as if alone.
async fn answered_as_if_alone(server: &Server, model: &'static str, count: usize, alone: fn(f32) -> Tensor) {
    let mut calls = JoinSet::new();
    for i in 0..count {
        let mut http = server.http().await;
        calls.spawn(async move {
            let inputs = named([("x", tensor([1, 2], [i as f32, 1.]))]);
            let outputs = outputs_of(&http.infer(model, &json_body(&inputs)).await);
            assert_eq!(outputs[0].1, alone(i as f32));
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_whose_rows_touch_each_other_is_found_out_and_never_joined() {
    // Though its signature promises rows, and its settings ask for batches.
    let settings = "max_batch_size = 16\nmax_queue_delay = \"20ms\"";
    let server = Server::start(&Models::of(&["batch_mean"]).with_toml("batch_mean", settings)).await;
    answered_as_if_alone(&server, "batch_mean", 60, |_| tensor([1, 2], [0_f32, 0.])).await;
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum(&format!("{}_bucket", names::BATCH_ROWS), &[("le", "1")]), 60.0);
    // Rows that one request brings are that request's own, whatever the model does with them.
    let inputs = named([("x", tensor([2, 2], [1_f32, 2., 3., 6.]))]);
    let answer = server.http().await.infer("batch_mean", &json_body(&inputs)).await;
    assert_eq!(outputs_of(&answer)[0].1, tensor([2, 2], [-1_f32, -2., 1., 2.]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_with_an_output_that_has_no_rows_is_never_joined() {
    let server = Server::start(&Models::of(&["many_outputs"])).await;
    answered_as_if_alone(&server, "many_outputs", 60, |first| tensor([1, 2], [2. * first, 2.])).await;
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum(&format!("{}_bucket", names::BATCH_ROWS), &[("le", "1")]), 60.0);
}
