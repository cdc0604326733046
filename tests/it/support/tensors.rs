//! Tensors as either door sends and receives them.

use bytes::Bytes;
use half::{bf16, f16};
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tensorgate::protocol::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use tensorgate::protocol::proto::{InferTensorContents, ModelInferRequest, ModelInferResponse};
use tensorgate::tensor::{DataType, Element, Tensor};

use super::http::{Answer, request};

/// Tensors with their names.
pub(crate) type Named = Vec<(String, Tensor)>;

/// The header that separates JSON from binary tensors.
pub(crate) const HEADER_LENGTH: &str = "inference-header-content-length";

/// A tensor of `values`, of the datatype that is their type's own.
pub(crate) fn tensor<T: Element>(shape: impl AsRef<[usize]>, values: impl AsRef<[T]>) -> Tensor {
    Tensor::from_elements(shape.as_ref().into(), values.as_ref()).unwrap()
}

/// A BOOL tensor.
pub(crate) fn bools(shape: impl AsRef<[usize]>, values: &[u8]) -> Tensor {
    Tensor::new(DataType::Bool, shape.as_ref().into(), values.to_vec().into()).unwrap()
}

/// A BYTES tensor.
pub(crate) fn strings(shape: impl AsRef<[usize]>, values: &[&str]) -> Tensor {
    Tensor::from_byte_strings(shape.as_ref().into(), values).unwrap()
}

/// Names and tensors.
pub(crate) fn named<const N: usize>(tensors: [(&str, Tensor); N]) -> Named {
    tensors.map(|(name, tensor)| (name.to_owned(), tensor)).into()
}

fn number(value: f64) -> Value {
    match value {
        value if value.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        value => value.into(),
    }
}

fn viewed<T: Element>(tensor: &Tensor, value: impl Fn(T) -> Value) -> Value {
    tensor.clone().aligned().view::<T>().unwrap().iter().map(|&element| value(element)).collect()
}

/// The elements in JSON, flat.
pub(crate) fn to_json(tensor: &Tensor) -> Value {
    match tensor.datatype() {
        DataType::Bool => viewed(tensor, |value: u8| (value == 1).into()),
        DataType::Uint8 => viewed(tensor, |value: u8| value.into()),
        DataType::Uint16 => viewed(tensor, |value: u16| value.into()),
        DataType::Uint32 => viewed(tensor, |value: u32| value.into()),
        DataType::Uint64 => viewed(tensor, |value: u64| value.into()),
        DataType::Int8 => viewed(tensor, |value: i8| value.into()),
        DataType::Int16 => viewed(tensor, |value: i16| value.into()),
        DataType::Int32 => viewed(tensor, |value: i32| value.into()),
        DataType::Int64 => viewed(tensor, |value: i64| value.into()),
        DataType::Fp16 => viewed(tensor, |value: f16| number(value.to_f64())),
        DataType::Bf16 => viewed(tensor, |value: bf16| number(value.to_f64())),
        DataType::Fp32 => viewed(tensor, |value: f32| number(value.into())),
        DataType::Fp64 => viewed(tensor, number),
        DataType::Bytes => {
            let text = |bytes: &[u8]| Value::from(std::str::from_utf8(bytes).unwrap());
            tensor.byte_strings().unwrap().map(text).collect()
        }
    }
}

fn float(value: &Value) -> f64 {
    match value.as_str() {
        Some(word) => word.parse().unwrap(),
        None => value.as_f64().unwrap(),
    }
}

/// The tensor of an output in JSON.
fn from_json(datatype: DataType, shape: &[usize], data: &Value) -> Tensor {
    let values = data.as_array().unwrap();
    if datatype == DataType::Bytes {
        let words: Vec<&str> = values.iter().map(|value| value.as_str().unwrap()).collect();
        return strings(shape, &words);
    }
    let bytes = |value: &Value| match datatype {
        DataType::Bool => vec![u8::from(value.as_bool().unwrap())],
        DataType::Fp16 => f16::from_f64(float(value)).to_le_bytes().into(),
        DataType::Bf16 => bf16::from_f64(float(value)).to_le_bytes().into(),
        DataType::Fp32 => (float(value) as f32).to_le_bytes().into(),
        DataType::Fp64 => float(value).to_le_bytes().into(),
        // The low bytes of a 64-bit number are those of the narrower one.
        whole => {
            let wide = value.as_u64().or_else(|| value.as_i64().map(|value| value as u64)).unwrap();
            wide.to_le_bytes()[..whole.size().unwrap()].to_vec()
        }
    };
    let data: Vec<u8> = values.iter().flat_map(bytes).collect();
    Tensor::new(datatype, shape.into(), data.into()).unwrap()
}

/// An input in JSON.
pub(crate) fn json_input(name: &str, tensor: &Tensor) -> Value {
    json!({
        "name": name, "datatype": tensor.datatype().name(), "shape": tensor.shape().to_vec(), "data": to_json(tensor),
    })
}

/// A body of JSON alone.
pub(crate) fn json_body(inputs: &Named) -> Value {
    json!({ "inputs": inputs.iter().map(|(name, tensor)| json_input(name, tensor)).collect::<Value>() })
}

/// The same as clients write it: name, shape and datatype before the data. [`json_body`] sorts its keys, so that data come
/// first, which is right too.
pub(crate) fn usual_body(inputs: &Named) -> String {
    let input = |(name, tensor): &(String, Tensor)| {
        let (shape, datatype, data) = (tensor.shape(), tensor.datatype(), to_json(tensor));
        format!(r#"{{"name": "{name}", "shape": {shape}, "datatype": "{datatype}", "data": {data}}}"#)
    };
    format!(r#"{{"inputs": [{}]}}"#, inputs.iter().map(input).collect::<Vec<_>>().join(", "))
}

/// A request whose inputs are binary where `binary` says so for their position, and that asks for the parameters and
/// outputs of `more`.
pub(crate) fn binary_request(
    model: &str,
    inputs: &Named,
    more: Value,
    binary: impl Fn(usize) -> bool,
) -> Request<Full<Bytes>> {
    let (mut list, mut tail) = (Vec::new(), Vec::new());
    for (position, (name, tensor)) in inputs.iter().enumerate() {
        list.push(if binary(position) {
            tail.extend_from_slice(tensor.data());
            let size = json!({ "binary_data_size": tensor.data().len() });
            json!({
                "name": name, "datatype": tensor.datatype().name(), "shape": tensor.shape().to_vec(), "parameters": size,
            })
        } else {
            json_input(name, tensor)
        });
    }
    let mut body = more;
    body["inputs"] = list.into();
    let mut body = body.to_string().into_bytes();
    let length = body.len().to_string();
    body.extend(tail);
    request(Method::POST, &format!("/v2/models/{model}/infer"), &[(HEADER_LENGTH, &length)], body)
}

/// The outputs of an answer, in its order, JSON or binary.
pub(crate) fn outputs_of(answer: &Answer) -> Named {
    assert_eq!(answer.status, 200, "{answer:?}");
    let length = answer.header(HEADER_LENGTH).map_or(answer.body.len(), |length| length.parse().unwrap());
    let expected = if answer.header(HEADER_LENGTH).is_some() { "application/octet-stream" } else { "application/json" };
    assert_eq!(answer.header("content-type"), Some(expected));
    let (json, mut tail) = (&answer.body[..length], answer.body.slice(length..));
    let json: Value = serde_json::from_slice(json).unwrap();
    let outputs = json["outputs"].as_array().unwrap().iter().map(|output| {
        let datatype: DataType = output["datatype"].as_str().unwrap().parse().unwrap();
        let shape: Vec<usize> = serde_json::from_value(output["shape"].clone()).unwrap();
        let tensor = match output["parameters"]["binary_data_size"].as_u64() {
            Some(size) => Tensor::new(datatype, shape.as_slice().into(), tail.split_to(size as usize)).unwrap(),
            None => from_json(datatype, &shape, &output["data"]),
        };
        (output["name"].as_str().unwrap().to_owned(), tensor)
    });
    let outputs = outputs.collect();
    assert!(tail.is_empty(), "{} bytes too many", tail.len());
    outputs
}

/// A message whose inputs are raw.
pub(crate) fn message(model: &str, inputs: &Named) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.into(),
        inputs: inputs.iter().map(|(name, tensor)| input(name, tensor)).collect(),
        raw_input_contents: inputs.iter().map(|(_, tensor)| tensor.data().clone()).collect(),
        ..ModelInferRequest::default()
    }
}

/// A message whose inputs have typed contents.
pub(crate) fn typed_message(model: &str, inputs: &Named) -> ModelInferRequest {
    let mut message = message(model, inputs);
    message.raw_input_contents.clear();
    for (input, (_, tensor)) in message.inputs.iter_mut().zip(inputs) {
        input.contents = Some(contents(tensor));
    }
    message
}

fn input(name: &str, tensor: &Tensor) -> InferInputTensor {
    InferInputTensor {
        name: name.into(),
        datatype: tensor.datatype().name().into(),
        shape: tensor.shape().iter().map(|&dim| dim as i64).collect(),
        ..InferInputTensor::default()
    }
}

/// The outputs that a message asks for.
pub(crate) fn asked(names: &[&str]) -> Vec<InferRequestedOutputTensor> {
    let asked = |name: &&str| InferRequestedOutputTensor { name: (*name).into(), ..Default::default() };
    names.iter().map(asked).collect()
}

fn contents(tensor: &Tensor) -> InferTensorContents {
    fn values<T: Element, U>(tensor: &Tensor, wide: impl Fn(T) -> U) -> Vec<U> {
        tensor.clone().aligned().view::<T>().unwrap().iter().map(|&value| wide(value)).collect()
    }
    let mut contents = InferTensorContents::default();
    let (c, t) = (&mut contents, tensor);
    match tensor.datatype() {
        DataType::Bool => c.bool_contents = values(t, |value: u8| value == 1),
        DataType::Uint8 => c.uint_contents = values(t, |value: u8| value.into()),
        DataType::Uint16 => c.uint_contents = values(t, |value: u16| value.into()),
        DataType::Uint32 => c.uint_contents = values(t, |value: u32| value),
        DataType::Uint64 => c.uint64_contents = values(t, |value: u64| value),
        DataType::Int8 => c.int_contents = values(t, |value: i8| value.into()),
        DataType::Int16 => c.int_contents = values(t, |value: i16| value.into()),
        DataType::Int32 => c.int_contents = values(t, |value: i32| value),
        DataType::Int64 => c.int64_contents = values(t, |value: i64| value),
        DataType::Fp32 => c.fp32_contents = values(t, |value: f32| value),
        DataType::Fp64 => c.fp64_contents = values(t, |value: f64| value),
        DataType::Bytes => c.bytes_contents = t.byte_strings().unwrap().map(Bytes::copy_from_slice).collect(),
        DataType::Fp16 | DataType::Bf16 => panic!("no typed contents for {}", tensor.datatype()),
    }
    contents
}

/// The outputs of a message, in its order.
pub(crate) fn outputs_of_message(response: &ModelInferResponse) -> Named {
    assert_eq!(response.outputs.len(), response.raw_output_contents.len());
    let outputs = response.outputs.iter().zip(&response.raw_output_contents).map(|(output, data)| {
        let shape = output.shape.iter().map(|&dim| dim as usize).collect();
        let tensor = Tensor::new(output.datatype.parse().unwrap(), shape, data.clone()).unwrap();
        (output.name.clone(), tensor)
    });
    outputs.collect()
}
