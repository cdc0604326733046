//! `ModelStreamInfer`.

use futures_util::stream::{self, Stream};
use tensorgate::protocol::proto::infer_parameter::ParameterChoice;
use tensorgate::protocol::proto::{InferParameter, ModelInferRequest, ModelStreamInferResponse};
use tokio::sync::mpsc;
use tonic::{Code, Request, Status, Streaming};

use super::row;
use crate::support::tensors::*;
use crate::support::{Grpc, Models, Server, patiently};

fn message_with_id(model: &str, id: &str, inputs: &Named) -> ModelInferRequest {
    ModelInferRequest { id: id.into(), ..message(model, inputs) }
}

async fn open(
    grpc: &mut Grpc,
    requests: impl Stream<Item = ModelInferRequest> + Send + 'static,
) -> Streaming<ModelStreamInferResponse> {
    patiently("the stream", grpc.model_stream_infer(requests)).await.unwrap().into_inner()
}

async fn next(answers: &mut Streaming<ModelStreamInferResponse>) -> Result<Option<ModelStreamInferResponse>, Status> {
    patiently("the next answer", answers.message()).await
}

/// A stream of requests that goes on until the sender is dropped.
fn channel() -> (mpsc::UnboundedSender<ModelInferRequest>, impl Stream<Item = ModelInferRequest>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let requests = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    (sender, requests)
}

#[tokio::test]
async fn hundreds_of_requests_are_answered_in_their_order() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let input = |i: usize| named([("x", tensor([1, 2], [i as f32, 2.]))]);
    let requests = (0..500).map(move |i| message_with_id("identity_fp32", &i.to_string(), &input(i)));
    let mut answers = open(&mut server.grpc().await, stream::iter(requests)).await;
    for i in 0..500 {
        let answer = next(&mut answers).await.unwrap().unwrap();
        assert_eq!(answer.error_message, "");
        let response = answer.infer_response.unwrap();
        assert_eq!(response.id, i.to_string());
        assert_eq!(outputs_of_message(&response)[0].1, input(i)[0].1);
    }
    assert_eq!(next(&mut answers).await.unwrap(), None);
}

#[tokio::test]
async fn an_answer_comes_as_soon_as_it_is_there() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let (requests, stream) = channel();
    let mut answers = open(&mut server.grpc().await, stream).await;
    for id in ["first", "second"] {
        requests.send(message_with_id("identity_fp32", id, &row())).unwrap();
        assert_eq!(next(&mut answers).await.unwrap().unwrap().infer_response.unwrap().id, id);
    }
    drop(requests);
    assert_eq!(next(&mut answers).await.unwrap(), None);
}

#[tokio::test]
async fn a_request_that_fails_is_told_by_its_id_and_the_stream_goes_on() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let wrong = named([("z", tensor([1], [1_f32]))]);
    let requests = [
        message_with_id("identity_fp32", "wrong", &wrong),
        message_with_id("nowhere", "lost", &row()),
        message_with_id("identity_fp32", "right", &row()),
    ];
    let mut answers = open(&mut server.grpc().await, stream::iter(requests)).await;
    for (id, word) in [("wrong", "'z'"), ("lost", "'nowhere'")] {
        let answer = next(&mut answers).await.unwrap().unwrap();
        assert!(answer.error_message.contains(word), "{answer:?}");
        let response = answer.infer_response.unwrap();
        assert_eq!((response.id.as_str(), response.outputs.len()), (id, 0));
    }
    let answer = next(&mut answers).await.unwrap().unwrap();
    assert_eq!((answer.error_message.as_str(), answer.infer_response.unwrap().id.as_str()), ("", "right"));
    assert_eq!(next(&mut answers).await.unwrap(), None);
}

#[tokio::test]
async fn a_client_that_asks_for_a_status_gets_one_and_the_stream_ends() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let requests = [
        message_with_id("identity_fp32", "right", &row()),
        message_with_id("nowhere", "lost", &row()),
        message_with_id("identity_fp32", "too late", &row()),
    ];
    let mut request = Request::new(stream::iter(requests));
    request.metadata_mut().insert("triton_grpc_error", "true".parse().unwrap());
    let mut answers = server.grpc().await.model_stream_infer(request).await.unwrap().into_inner();
    assert_eq!(next(&mut answers).await.unwrap().unwrap().infer_response.unwrap().id, "right");
    let status = next(&mut answers).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "unknown model 'nowhere'"));
}

#[tokio::test]
async fn the_one_answer_of_a_request_says_that_it_is_the_last() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let mut asking = message_with_id("identity_fp32", "asking", &row());
    let yes = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    asking.parameters.insert("triton_enable_empty_final_response".into(), yes.clone());
    let requests = [asking, message_with_id("identity_fp32", "not asking", &row())];
    let mut answers = open(&mut server.grpc().await, stream::iter(requests)).await;
    for _ in 0..2 {
        let response = next(&mut answers).await.unwrap().unwrap().infer_response.unwrap();
        assert_eq!((response.parameters.get("triton_final_response"), response.outputs.len()), (Some(&yes), 1));
    }
    assert_eq!(next(&mut answers).await.unwrap(), None);
}

#[tokio::test]
async fn requests_of_one_stream_share_batches() {
    let models = Models::new().with_toml(
        "slow",
        "runtime = \"identity\"\nexecute_time = \"5ms\"\ninstances = 1\nmax_batch_size = 32\n\
         [[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 2]\n",
    );
    let server = Server::start(&models).await;
    let requests = (0..64).map(|i| message_with_id("slow", &i.to_string(), &row()));
    let mut answers = open(&mut server.grpc().await, stream::iter(requests)).await;
    for i in 0..64 {
        assert_eq!(next(&mut answers).await.unwrap().unwrap().infer_response.unwrap().id, i.to_string());
    }
    let stats = server.http().await.get("/v2/models/slow/stats").await.json();
    assert!(stats["model_stats"][0]["execution_count"].as_u64().unwrap() < 64, "{stats}");
}

#[tokio::test]
async fn a_message_above_the_limit_ends_its_stream_after_the_answers_before_it() {
    let models = Models::of(&["identity_fp32"]);
    let server = Server::with(&models, |config| config.server.body_bytes_max = 500).await;
    let large = named([("x", tensor([1, 200], [0_f32; 200]))]);
    let requests = [message_with_id("identity_fp32", "small", &row()), message("identity_fp32", &large)];
    let mut answers = open(&mut server.grpc().await, stream::iter(requests)).await;
    assert_eq!(next(&mut answers).await.unwrap().unwrap().infer_response.unwrap().id, "small");
    let status = next(&mut answers).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("500 bytes"), "{status}");
}

#[tokio::test]
async fn an_idle_stream_does_not_keep_the_server_from_stopping() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let (requests, stream) = channel();
    let mut answers = open(&mut server.grpc().await, stream).await;
    requests.send(message_with_id("identity_fp32", "before", &row())).unwrap();
    assert_eq!(next(&mut answers).await.unwrap().unwrap().infer_response.unwrap().id, "before");
    assert!(server.stop().await);
    let status = next(&mut answers).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the server is shutting down"));
}

#[tokio::test]
async fn what_is_under_way_on_a_stream_is_answered_before_the_server_stops() {
    let models = Models::new().with_slow_identity("slow", 300, "");
    let server = Server::start(&models).await;
    let (requests, stream) = channel();
    let mut answers = open(&mut server.grpc().await, stream).await;
    let inputs = named([("x", tensor([1, 4], [1_f32, 2., 3., 4.]))]);
    requests.send(message_with_id("slow", "under way", &inputs)).unwrap();
    let metrics = async || server.metrics().await.sum(tensorgate::contract::metrics::IN_FLIGHT, &[("model", "slow")]);
    crate::support::eventually("the request to be under way", async || (metrics().await == 1.0).then_some(())).await;
    let stopped = tokio::spawn(server.stop());
    assert_eq!(next(&mut answers).await.unwrap().unwrap().infer_response.unwrap().id, "under way");
    assert_eq!(next(&mut answers).await.unwrap_err().code(), Code::Unavailable);
    assert!(stopped.await.unwrap());
}
