//! Protobuf messages of the V2 protocol, and their conversion.

mod contents;
mod enums;
mod load;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::infer::{
    InferRequest, InferResponse, NamedTensor, ParameterValue, Parameters, Place, PlacedInput, RequestedOutput,
};
use crate::model::TensorSpec;
use crate::protocol::json::Limits;
use crate::tensor::{self, Shape, Tensor, TensorError};

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/inference.rs"));
}
pub use enums::data_type_of;
// Under another name, because a tensor's datatype is what the short one means here.
pub use generated::DataType as ModelDataType;
pub use generated::*;
pub use load::decode_load;

/// The gRPC health checking protocol.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// Every message and service as a serialised `FileDescriptorSet`, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

use infer_parameter::ParameterChoice;
use model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use model_infer_response::InferOutputTensor;

/// A request from its message. Raw contents become tensors without a copy.
///
/// # Errors
/// `InvalidRequest` where datatype, shape and contents do not fit together; `TooLarge` for a shape beyond any machine and
/// for more than `limits` allow.
pub fn decode_request(mut message: ModelInferRequest, limits: &Limits) -> Result<InferRequest> {
    // Names are repeated in messages to the caller.
    limits.check_string("the model's name", &message.model_name)?;
    limits.check_string("the model's version", &message.model_version)?;
    let model = std::mem::take(&mut message.model_name);
    match decode_content(message, limits) {
        Ok(request) => Ok(InferRequest { model, ..request }),
        Err(error) => Err(error.within(format_args!("model '{model}'"))),
    }
}

fn decode_content(message: ModelInferRequest, limits: &Limits) -> Result<InferRequest> {
    check_limits(&message, limits)?;
    let ModelInferRequest { model_name, model_version, id, parameters, inputs, outputs, raw_input_contents } = message;
    let (in_message, placed) = split_placed(inputs, limits)?;
    if !raw_input_contents.is_empty() && raw_input_contents.len() != in_message.len() {
        return Err(Error::invalid(format!(
            "raw_input_contents has {} entries, expected one for each of the {} inputs{}",
            raw_input_contents.len(),
            in_message.len(),
            if placed.is_empty() { "" } else { " that are not in shared memory" }
        )));
    }
    let mut raw_contents = raw_input_contents.into_iter();
    let inputs = in_message.into_iter().map(|(input, parameters)| decode_input(input, parameters, raw_contents.next()));
    let outputs = outputs.into_iter().map(|InferRequestedOutputTensor { name, parameters }| {
        let mut parameters = decode_parameters(parameters);
        let place = Place::take(&mut parameters).map_err(|error| error.within(format_args!("output '{name}'")))?;
        Ok(RequestedOutput { name, parameters, place })
    });
    Ok(InferRequest {
        placed,
        model: model_name,
        version: (!model_version.is_empty()).then_some(model_version),
        id: (!id.is_empty()).then_some(id),
        trace_id: None,
        parameters: decode_parameters(parameters),
        inputs: inputs.collect::<Result<SmallVec<_>>>()?,
        outputs: outputs.collect::<Result<_>>()?,
        sticky: None,
        deadline: None,
    })
}

/// The bounds that both doors have. Messages have no nesting, and their tensors are no larger than what was received.
fn check_limits(message: &ModelInferRequest, limits: &Limits) -> Result<()> {
    limits.check_inputs(message.inputs.len())?;
    limits.check_outputs(message.outputs.len())?;
    limits.check_string("the request's id", &message.id)?;
    limits.check_parameters(message.parameters.len())?;
    for (name, parameters) in (message.inputs.iter().map(|input| (&input.name, &input.parameters)))
        .chain(message.outputs.iter().map(|output| (&output.name, &output.parameters)))
    {
        limits.check_string("a name", name)?;
        limits.check_parameters(parameters.len())?;
    }
    Ok(())
}

type InMessage = SmallVec<[(InferInputTensor, Parameters); 2]>;

/// Tells inputs whose data are in the message from those whose data are in shared memory, which have no raw contents.
fn split_placed(inputs: Vec<InferInputTensor>, limits: &Limits) -> Result<(InMessage, Vec<PlacedInput>)> {
    let (mut in_message, mut placed) = (SmallVec::with_capacity(inputs.len()), Vec::new());
    for mut input in inputs {
        let mut parameters = decode_parameters(std::mem::take(&mut input.parameters));
        let mut read = || {
            let Some(place) = Place::take(&mut parameters)? else { return Ok(None) };
            if input.contents.as_ref().is_some_and(|contents| !contents::is_empty(contents)) {
                return Err(Error::invalid("it has both contents and a place in shared memory"));
            }
            let (datatype, shape) = datatype_and_shape(&input)?;
            place.check(datatype, &shape, limits.tensor_bytes_max)?;
            Ok(Some((datatype, shape, place)))
        };
        match read().map_err(|error| error.within(format_args!("input '{}'", input.name)))? {
            None => in_message.push((input, parameters)),
            Some((datatype, shape, place)) => {
                placed.push(PlacedInput { name: input.name, datatype, shape, place, parameters });
            }
        }
    }
    Ok((in_message, placed))
}

fn datatype_and_shape(input: &InferInputTensor) -> Result<(tensor::DataType, Shape)> {
    let unknown = |cause: tensor::UnknownDataType| Error::invalid(cause.to_string());
    let datatype: tensor::DataType = input.datatype.parse().map_err(unknown)?;
    let dim = |&dim: &i64| usize::try_from(dim).map_err(|_| Error::invalid(format!("dimension {dim} is negative")));
    let shape = input.shape.iter().map(dim).collect::<Result<SmallVec<[usize; 4]>>>()?;
    Ok((datatype, shape.into_iter().collect()))
}

fn decode_input(input: InferInputTensor, parameters: Parameters, raw: Option<Bytes>) -> Result<NamedTensor> {
    let read = datatype_and_shape(&input);
    let InferInputTensor { name, contents, .. } = input;
    let (datatype, shape) = read.map_err(|error| error.within(format_args!("input '{name}'")))?;
    let bad = |cause: String| Error::invalid(format!("input '{name}': {cause}"));
    let data = match (raw, contents) {
        (Some(_), Some(contents)) if !contents::is_empty(&contents) => {
            return Err(bad("has typed contents although the request has raw_input_contents".into()));
        }
        (Some(raw), _) => raw,
        (None, contents) => contents::decode(datatype, &shape, contents.unwrap_or_default()).map_err(bad)?,
    };
    let tensor = Tensor::new(datatype, shape, data).map_err(|cause| match cause {
        TensorError::ShapeOverflow(_) => bad(cause.to_string()),
        TensorError::ByteCount { .. } => bad(format!("{cause} for its datatype {datatype} and shape")),
        other => bad(other.to_string()),
    })?;
    Ok(NamedTensor { name, tensor, parameters })
}

fn decode_parameters(parameters: HashMap<String, InferParameter>) -> Parameters {
    let mut decoded = Parameters::new();
    for (name, parameter) in parameters {
        let value = match parameter.parameter_choice {
            Some(ParameterChoice::BoolParam(value)) => ParameterValue::Bool(value),
            Some(ParameterChoice::Int64Param(value)) => ParameterValue::Int64(value),
            Some(ParameterChoice::Uint64Param(value)) => ParameterValue::Uint64(value),
            Some(ParameterChoice::DoubleParam(value)) => ParameterValue::Double(value),
            Some(ParameterChoice::StringParam(value)) => ParameterValue::String(value),
            None => continue,
        };
        decoded.set(name, value);
    }
    decoded
}

fn encode_parameters(parameters: &Parameters) -> HashMap<String, InferParameter> {
    let encode = |value: &ParameterValue| match value {
        ParameterValue::Bool(value) => ParameterChoice::BoolParam(*value),
        ParameterValue::Int64(value) => ParameterChoice::Int64Param(*value),
        ParameterValue::Uint64(value) => ParameterChoice::Uint64Param(*value),
        ParameterValue::Double(value) => ParameterChoice::DoubleParam(*value),
        ParameterValue::String(value) => ParameterChoice::StringParam(value.clone()),
    };
    let entry = |(name, value): (&str, &ParameterValue)| {
        (name.to_owned(), InferParameter { parameter_choice: Some(encode(value)) })
    };
    parameters.iter().map(entry).collect()
}

/// The message of an answer. Outputs are always raw: Triton's client understands nothing else, and raw shares the bytes.
pub fn encode_response(response: InferResponse) -> ModelInferResponse {
    let InferResponse { model, version, id, parameters, outputs, places, .. } = response;
    let mut places = places.into_iter();
    let mut raw_output_contents = Vec::with_capacity(outputs.len());
    let mut encoded = Vec::with_capacity(outputs.len());
    for (name, tensor) in outputs {
        let (datatype, shape, data) = tensor.into_parts();
        let place = places.next().flatten();
        encoded.push(InferOutputTensor {
            name: name.as_ref().into(),
            datatype: datatype.name().into(),
            shape: shape.iter().map(|&dim| dim as i64).collect(),
            parameters: place.as_ref().map(|place| encode_parameters(&place.parameters())).unwrap_or_default(),
            ..InferOutputTensor::default()
        });
        // An output in shared memory has an empty entry: clients count entries to find theirs.
        raw_output_contents.push(if place.is_some() { Bytes::new() } else { data });
    }
    ModelInferResponse {
        model_name: model.as_str().into(),
        model_version: version.to_string(),
        id: id.unwrap_or_default(),
        parameters: encode_parameters(&parameters),
        outputs: encoded,
        raw_output_contents,
    }
}

/// The metadata of an input or output.
pub fn encode_spec(spec: &TensorSpec) -> model_metadata_response::TensorMetadata {
    model_metadata_response::TensorMetadata {
        name: spec.name.as_ref().into(),
        datatype: spec.datatype.name().into(),
        shape: spec.wire_shape(),
    }
}
