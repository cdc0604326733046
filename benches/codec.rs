//! Decoding and encoding, in isolation: what a request costs before and after the model.

use bytes::Bytes;
use divan::{Bencher, counter::BytesCount};
use tensorgate::infer::{InferResponse, Parameters, Timing};
use tensorgate::model::{ModelName, Version};
use tensorgate::protocol::json::{self, Limits, OutputEncoding};
use tensorgate::tensor::{Shape, Tensor};

fn main() {
    divan::main();
}

/// A request body with one FP32 input of `shape`.
fn json_body(shape: &[usize]) -> Bytes {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.618_034).fract() * 2.0 - 1.0).collect();
    let body = serde_json::json!({"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": values}]});
    body.to_string().into()
}

fn binary_body(shape: &[usize]) -> (Bytes, usize) {
    let size = shape.iter().product::<usize>() * 4;
    let input =
        serde_json::json!({"name": "x", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": size}});
    let mut body = serde_json::json!({"inputs": [input]}).to_string().into_bytes();
    let length = body.len();
    body.resize(length + size, 0);
    (body.into(), length)
}

const SHAPES: [&[usize]; 3] = [&[1, 4], &[32, 512], &[1, 3, 224, 224]];

#[divan::bench(args = SHAPES)]
fn decode_json(bencher: Bencher<'_, '_>, shape: &[usize]) {
    let body = json_body(shape);
    let limits = Limits::default();
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| json::decode_request(body.clone(), None, &limits).map(|(request, _)| request.inputs.len()));
}

/// The yardstick: the same numbers read by serde_json into a vector, without a request around them.
#[divan::bench(args = SHAPES)]
fn decode_json_with_serde(bencher: Bencher<'_, '_>, shape: &[usize]) {
    let body = json_body(shape);
    let parsed: serde_json::Value = serde_json::from_slice(&body).expect("the body is JSON");
    let data = parsed["inputs"][0]["data"].to_string();
    bencher
        .counter(BytesCount::new(data.len()))
        .bench(|| serde_json::from_str::<Vec<f32>>(&data).map(|values| values.len()));
}

#[divan::bench(args = SHAPES)]
fn decode_binary(bencher: Bencher<'_, '_>, shape: &[usize]) {
    let (body, length) = binary_body(shape);
    let limits = Limits::default();
    bencher
        .bench(|| json::decode_request(body.clone(), Some(length), &limits).map(|(request, _)| request.inputs.len()));
}

fn response(shape: &[usize]) -> InferResponse {
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.618_034).fract()).collect();
    let tensor = Tensor::from_elements(Shape::from(shape), &values).expect("as many values as the shape has");
    InferResponse {
        model: ModelName::new("model"),
        version: Version::ONE,
        id: None,
        parameters: Parameters::new(),
        outputs: [("y".into(), tensor)].into_iter().collect(),
        places: Vec::new(),
        timing: Timing::default(),
    }
}

#[divan::bench(args = SHAPES)]
fn encode_json(bencher: Bencher<'_, '_>, shape: &[usize]) {
    let response = response(shape);
    let encoding = OutputEncoding::default();
    bencher.bench(|| json::encode_response(&response, &encoding).map(|encoded| encoded.body_length()));
}

#[divan::bench(args = SHAPES)]
fn encode_binary(bencher: Bencher<'_, '_>, shape: &[usize]) {
    let response = response(shape);
    let encoding = OutputEncoding { binary_default: true, ..OutputEncoding::default() };
    bencher.bench(|| json::encode_response(&response, &encoding).map(|encoded| encoded.body_length()));
}
