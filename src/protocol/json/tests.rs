//! What the sections below share: the shortest way to a decoded tensor or an error.

mod binary;
mod decode;
mod encode;
mod numbers;
mod properties;

use bytes::Bytes;

use super::*;
use crate::error::{Error, Kind, Result};
use crate::infer::{InferRequest, InferResponse, Parameters, Timing};
use crate::model::{ModelName, Version};
use crate::tensor::{DataType, Shape, Tensor};

fn decode(body: impl Into<Vec<u8>>) -> Result<(InferRequest, OutputEncoding)> {
    decode_request(Bytes::from(body.into()), None, &Limits::default())
}

/// A request with binary tensors behind its JSON.
fn decode_binary(json: &str, tail: &[u8]) -> Result<(InferRequest, OutputEncoding)> {
    let body = [json.as_bytes(), tail].concat();
    decode_request(body.into(), Some(json.len()), &Limits::default())
}

/// The only input, `x`, of the given datatype, shape and data.
fn tensor(datatype: &str, shape: &str, data: &str) -> Result<Tensor> {
    let body = format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}"#);
    decode(body).map(|(request, _)| request.inputs[0].tensor.clone())
}

fn refused(result: Result<impl std::fmt::Debug>, kind: Kind, parts: &[&str]) {
    let error: Error = result.expect_err("refused");
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.message().contains(part), "'{part}' is not in: {error}");
    }
}

fn response(outputs: impl IntoIterator<Item = (&'static str, Tensor)>) -> InferResponse {
    InferResponse {
        model: ModelName::new("iris"),
        version: Version::ONE,
        id: None,
        parameters: Parameters::new(),
        outputs: outputs.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect(),
        places: Vec::new(),
        timing: Timing::default(),
    }
}

fn body(encoded: &EncodedResponse) -> Vec<u8> {
    encoded.segments.concat()
}

/// The tensor as a client reads it back: encoded as JSON, its text decoded as an input.
fn there_and_back(tensor: &Tensor) -> Tensor {
    let encoded = encode_response(&response([("x", tensor.clone())]), &OutputEncoding::default()).unwrap();
    assert_eq!(encoded.json_length, None);
    let text = String::from_utf8(body(&encoded)).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "strict parsers read it: {text}");
    let (request, _) = decode(text.replacen("outputs", "inputs", 1)).unwrap();
    request.inputs[0].tensor.clone()
}
