//! The files of tests/golden, as requests.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::value::RawValue;
use tensorgate::error::Kind;
use tensorgate::protocol::proto::infer_parameter::ParameterChoice;
use tensorgate::protocol::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use tensorgate::protocol::proto::{InferParameter, InferTensorContents, ModelInferRequest};

use crate::support::http::request;
use crate::support::tensors::HEADER_LENGTH;

/// One request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Golden {
    pub(crate) name: String,
    http: Option<OverHttp>,
    grpc: Option<OverGrpc>,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OverHttp {
    path: String,
    #[serde(default)]
    headers: HashMap<String, String>,
    /// The JSON as it stands, or else `text`, which may be anything.
    body: Option<Box<RawValue>>,
    text: Option<String>,
    /// Bytes behind the JSON, in hexadecimal. The header that separates them is added where `headers` lacks it.
    tail: Option<String>,
}

/// A `ModelInferRequest`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OverGrpc {
    model_name: String,
    #[serde(default)]
    model_version: String,
    inputs: Vec<Input>,
    #[serde(default)]
    outputs: Vec<Output>,
    /// In hexadecimal.
    #[serde(default)]
    raw_input_contents: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: HashMap<String, Parameter>,
    contents: Option<Contents>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    name: String,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Parameter {
    StringParam(String),
    Int64Param(i64),
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Contents {
    int_contents: Vec<i32>,
    int64_contents: Vec<i64>,
    uint_contents: Vec<u32>,
    fp32_contents: Vec<f32>,
    fp64_contents: Vec<f64>,
    bytes_contents: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    kind: String,
    #[serde(default)]
    message: Vec<String>,
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hexadecimal.as_bytes().chunks(2).map(pair).collect()
}

impl Golden {
    /// The whole corpus, by name.
    pub(crate) fn all() -> Vec<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        files.sort();
        let read = |path: &std::path::PathBuf| {
            let text = std::fs::read_to_string(path).unwrap();
            serde_json::from_str(&text).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
        };
        files.iter().map(read).collect()
    }

    /// The kind of error that is expected; `None` for an answer.
    pub(crate) fn kind(&self) -> Option<Kind> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == self.expect.kind);
        assert!(kind.is_some() || self.expect.kind == "ok", "{}: no kind '{}'", self.name, self.expect.kind);
        kind
    }

    /// Whether an error's message says what it has to.
    pub(crate) fn check_message(&self, door: &str, message: &str) -> Result<(), String> {
        match self.expect.message.iter().find(|part| !message.contains(part.as_str())) {
            None => Ok(()),
            Some(part) => Err(format!("{door}: '{part}' is not in: {message}")),
        }
    }

    /// How HTTP is asked.
    pub(crate) fn http_request(&self) -> Option<Request<Full<Bytes>>> {
        let http = self.http.as_ref()?;
        let text = http.body.as_deref().map(RawValue::get).or(http.text.as_deref()).unwrap_or_default();
        let length = text.len().to_string();
        let mut body = text.as_bytes().to_vec();
        let mut headers: HashMap<&str, &str> =
            http.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if let Some(tail) = &http.tail {
            body.extend(bytes(tail));
            headers.entry(HEADER_LENGTH).or_insert(&length);
        }
        let headers: Vec<(&str, &str)> = headers.into_iter().collect();
        Some(request(Method::POST, &http.path, &headers, body))
    }

    /// How gRPC is asked.
    pub(crate) fn message(&self) -> Option<ModelInferRequest> {
        let grpc = self.grpc.as_ref()?;
        let outputs = grpc.outputs.iter().map(|output| {
            let name = output.name.clone();
            InferRequestedOutputTensor { name, ..InferRequestedOutputTensor::default() }
        });
        Some(ModelInferRequest {
            model_name: grpc.model_name.clone(),
            model_version: grpc.model_version.clone(),
            inputs: grpc.inputs.iter().map(Input::message).collect(),
            outputs: outputs.collect(),
            raw_input_contents: grpc.raw_input_contents.iter().map(|raw| bytes(raw).into()).collect(),
            ..ModelInferRequest::default()
        })
    }
}

impl Input {
    fn message(&self) -> InferInputTensor {
        let parameter = |(name, value): (&String, &Parameter)| {
            let choice = match value {
                Parameter::StringParam(value) => ParameterChoice::StringParam(value.clone()),
                Parameter::Int64Param(value) => ParameterChoice::Int64Param(*value),
            };
            (name.clone(), InferParameter { parameter_choice: Some(choice) })
        };
        InferInputTensor {
            name: self.name.clone(),
            datatype: self.datatype.clone(),
            shape: self.shape.clone(),
            parameters: self.parameters.iter().map(parameter).collect(),
            contents: self.contents.clone().map(Contents::message),
        }
    }
}

impl Contents {
    fn message(self) -> InferTensorContents {
        InferTensorContents {
            int_contents: self.int_contents,
            int64_contents: self.int64_contents,
            uint_contents: self.uint_contents,
            fp32_contents: self.fp32_contents,
            fp64_contents: self.fp64_contents,
            bytes_contents: self.bytes_contents.into_iter().map(Into::into).collect(),
            ..InferTensorContents::default()
        }
    }
}
