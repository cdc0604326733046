//! Whose memory a payload is in on its way through: that of the body, from the first decoded byte to the answer. One that
//! starts at an odd address is copied once more before it is executed, since runtimes read whole numbers.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tensorgate::config::Config;
use tensorgate::infer::{InferRequest, InferResponse};
use tensorgate::protocol::json::{self, Limits};
use tensorgate::protocol::proto::model_infer_request::InferInputTensor;
use tensorgate::protocol::proto::{self, ModelInferRequest};
use tensorgate::repository::{Repository, Runtimes};
use tensorgate::service::{self, Dispatch, Router};
use tensorgate::telemetry::Telemetry;
use tower::Service;

use crate::support::Models;

const IDENTITY: &str =
    "runtime = \"identity\"\n[[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 3, 224, 224]\n";
const SHAPE: [usize; 4] = [1, 3, 224, 224];
const BYTES: usize = 3 * 224 * 224 * 4;

/// The stack's answer to `request` for an identity model.
async fn answer(mut request: InferRequest) -> InferResponse {
    let models = Models::new().with_toml("identity", IDENTITY);
    let mut config = Config::default().repository;
    config.repositories.push(models.path().into());
    let telemetry = Arc::new(Telemetry::new());
    let repository = Repository::open(config, Arc::new(Runtimes::new(None)), Arc::clone(&telemetry)).await.unwrap();
    let repository = Arc::new(repository);
    repository.settled().await;
    request.model = "identity".into();
    let router = Router::start(repository, Dispatch::new(None));
    service::stack(router, telemetry, None, false).call(request).await.unwrap()
}

#[tokio::test]
async fn a_binary_tensor_is_answered_from_the_memory_of_the_body_that_brought_it() {
    let input =
        serde_json::json!({"name": "x", "shape": SHAPE, "datatype": "FP32", "parameters": {"binary_data_size": BYTES}});
    let json = serde_json::json!({"inputs": [input], "parameters": {"binary_data_output": true}}).to_string();
    // Whitespace is free, and the allocator gives memory that suits any number.
    let json = format!("{json:width$}", width = json.len().next_multiple_of(16));
    let body = Bytes::from([json.as_bytes(), &vec![1; BYTES]].concat());
    let (request, encoding) = json::decode_request(body.clone(), Some(json.len()), &Limits::default()).unwrap();
    assert_eq!(request.inputs[0].tensor.data().as_ptr(), body[json.len()..].as_ptr());
    let encoded = json::encode_response(&answer(request).await, &encoding).unwrap();
    let last = encoded.segments.last().unwrap();
    assert_eq!((last.as_ptr(), last.len()), (body[json.len()..].as_ptr(), BYTES));
}

#[tokio::test]
async fn raw_contents_are_answered_from_the_memory_of_the_message_that_brought_them() {
    let shape = SHAPE.map(|dim| dim as i64).to_vec();
    let input = InferInputTensor { name: "x".into(), datatype: "FP32".into(), shape, ..Default::default() };
    let message = |id: String| {
        let raw_input_contents = vec![vec![1; BYTES].into()];
        ModelInferRequest { id, inputs: vec![input.clone()], raw_input_contents, ..Default::default() }.encode_to_vec()
    };
    // An id of the right length puts the payload where a number may be.
    let message = (1..5).map(|length| message("i".repeat(length)));
    let message = Bytes::from(message.into_iter().find(|message| (message.len() - BYTES).is_multiple_of(4)).unwrap());
    // The last field of the message, and so its last bytes.
    let payload = message[message.len() - BYTES..].as_ptr();
    let request =
        proto::decode_request(ModelInferRequest::decode(message.clone()).unwrap(), &Limits::default()).unwrap();
    assert_eq!(request.inputs[0].tensor.data().as_ptr(), payload);
    let answer = proto::encode_response(answer(request).await);
    assert_eq!((answer.raw_output_contents[0].as_ptr(), answer.raw_output_contents[0].len()), (payload, BYTES));
}
