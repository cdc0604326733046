//! The messages of the V2 gRPC service that we fill and read, with the fields that we need of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{Message, Oneof};

/// The path of inference.
pub(crate) const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
/// The path of metadata.
pub(crate) const MODEL_METADATA: &str = "/inference.GRPCInferenceService/ModelMetadata";

/// A request for inference.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModelInferRequest {
    #[prost(string, tag = "1")]
    pub(crate) model_name: String,
    #[prost(string, tag = "2")]
    pub(crate) model_version: String,
    #[prost(btree_map = "string, message", tag = "4")]
    pub(crate) parameters: BTreeMap<String, InferParameter>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) inputs: Vec<InferInputTensor>,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub(crate) raw_input_contents: Vec<Bytes>,
}

/// The description of one input.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InferInputTensor {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) datatype: String,
    #[prost(int64, repeated, tag = "3")]
    pub(crate) shape: Vec<i64>,
}

/// A parameter of a request.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InferParameter {
    #[prost(oneof = "Choice", tags = "1, 2, 3, 4")]
    pub(crate) choice: Option<Choice>,
}

/// A parameter's value.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Choice {
    #[prost(bool, tag = "1")]
    Bool(bool),
    #[prost(int64, tag = "2")]
    Int(i64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(double, tag = "4")]
    Double(f64),
}

/// A request for a model's metadata.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModelMetadataRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
}

/// A model's metadata.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModelMetadataResponse {
    #[prost(message, repeated, tag = "4")]
    pub(crate) inputs: Vec<InferInputTensor>,
}
