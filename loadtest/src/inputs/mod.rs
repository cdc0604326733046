//! Requests for any model, made from what its server tells of its inputs.

mod tensor;

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::tensor::{Datatype, Element};
use crate::payload::{Encoding, HttpBody};
use crate::proto::{Choice, InferInputTensor, InferParameter, ModelInferRequest, ModelMetadataResponse};
use tensorgate_random::Random;

/// Seed of the values: they do not change with the seed of arrivals.
const SEED: u64 = 0x7465_6e73_6f72;
/// The most elements of one input that are made up.
const ELEMENTS_MAX: i64 = 1 << 26;

/// An input as the metadata names it; -1 is a dimension that may vary.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(crate) struct Input {
    /// Its name.
    pub(crate) name: String,
    /// Its datatype in the protocol's words.
    pub(crate) datatype: String,
    /// Its shape.
    pub(crate) shape: Vec<i64>,
}

/// Inputs of a metadata answer over HTTP.
pub(crate) fn from_json(body: &[u8]) -> Result<Vec<Input>, String> {
    #[derive(Deserialize)]
    struct Metadata {
        inputs: Vec<Input>,
    }
    let metadata: Metadata =
        serde_json::from_slice(body).map_err(|error| format!("not a model's metadata: {error}"))?;
    Ok(metadata.inputs)
}

/// Inputs of a metadata answer over gRPC.
pub(crate) fn from_proto(message: &[u8]) -> Result<Vec<Input>, String> {
    let metadata =
        ModelMetadataResponse::decode(message).map_err(|error| format!("not a model's metadata: {error}"))?;
    let input = |input: InferInputTensor| Input { name: input.name, datatype: input.datatype, shape: input.shape };
    Ok(metadata.inputs.into_iter().map(input).collect())
}

/// What is not told by the metadata.
#[derive(Clone, Debug)]
pub(crate) struct Wishes {
    /// Shapes by input.
    pub(crate) shapes: Vec<(String, Vec<i64>)>,
    /// Least and greatest value by input.
    pub(crate) ranges: Vec<(String, f64, f64)>,
    /// Rows of a request, where the first dimension may vary.
    pub(crate) rows: i64,
    /// Characters of a string.
    pub(crate) string_length: usize,
    /// Parameters of every request.
    pub(crate) parameters: Vec<(String, Value)>,
    /// How many requests differ.
    pub(crate) distinct: usize,
}

/// One request's tensors.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    tensors: Vec<(Input, Datatype, Vec<Element>)>,
    parameters: Vec<(String, Value)>,
}

/// Makes requests that fit these inputs, the same on every call.
pub(crate) fn requests(inputs: &[Input], wishes: &Wishes) -> Result<Vec<Request>, String> {
    let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    let wished = wishes.shapes.iter().map(|(name, _)| name).chain(wishes.ranges.iter().map(|(name, ..)| name));
    for name in wished {
        if !names.contains(&name.as_str()) {
            return Err(format!("there is no input '{name}'; the model has {}", names.join(", ")));
        }
    }
    let mut fitted = Vec::new();
    for input in inputs {
        let given = wishes.shapes.iter().find(|(name, _)| *name == input.name).map(|(_, shape)| shape.as_slice());
        let shape = fit(input, given, wishes.rows)?;
        let range = wishes.ranges.iter().find(|(name, ..)| *name == input.name).map(|(_, low, high)| (*low, *high));
        fitted.push((Input { shape, ..input.clone() }, Datatype::parse(&input.datatype)?, range));
    }
    let mut random = Random::new(SEED);
    let mut request = || {
        let tensors = fitted.iter().map(|(input, datatype, range)| {
            let count = input.shape.iter().product::<i64>();
            let mut element = || datatype.element(&mut random, *range, wishes.string_length);
            (input.clone(), *datatype, (0..count).map(|_| element()).collect())
        });
        Request { tensors: tensors.collect(), parameters: wishes.parameters.clone() }
    };
    Ok((0..wishes.distinct.max(1)).map(|_| request()).collect())
}

/// The shape that is sent for an input, as perf_analyzer chooses it: a first dimension that may vary is the rows, and
/// every other one has to be given. A given shape may leave the rows out.
fn fit(input: &Input, given: Option<&[i64]>, rows: i64) -> Result<Vec<i64>, String> {
    let Input { name, shape, .. } = input;
    let by_rows = shape.first() == Some(&-1);
    let mut fitted = shape.clone();
    match given {
        Some(given) if given.len() == shape.len() => fitted = given.to_vec(),
        Some(given) if by_rows && given.len() + 1 == shape.len() => {
            fitted = [&[rows], given].concat();
        }
        Some(given) => return Err(format!("--shape {name}: {given:?} has another rank than {shape:?}")),
        None if by_rows => fitted[0] = rows,
        None if rows != 1 => return Err(format!("input '{name}' has the shape {shape:?}: it takes no --rows {rows}")),
        None => {}
    }
    if fitted.contains(&-1) {
        return Err(format!("input '{name}' has the shape {shape:?}: give what may vary as --shape {name}:DIMS"));
    }
    if fitted.iter().zip(shape).any(|(got, want)| *want != -1 && got != want) {
        return Err(format!("--shape {name}: {fitted:?} does not fit the model's {shape:?}"));
    }
    let elements = fitted.iter().try_fold(1i64, |product, dim| product.checked_mul(*dim));
    match elements {
        Some(0..=ELEMENTS_MAX) => Ok(fitted),
        _ => Err(format!("input '{name}': {fitted:?} has more than {ELEMENTS_MAX} elements")),
    }
}

impl Request {
    /// The body over HTTP.
    pub(crate) fn body(&self, encoding: Encoding) -> Result<HttpBody, String> {
        let (mut inputs, mut raw) = (Vec::new(), Vec::new());
        for (input, datatype, elements) in &self.tensors {
            let Input { name, datatype: word, shape } = input;
            if encoding == Encoding::Binary {
                let begin = raw.len();
                elements.iter().for_each(|element| datatype.write(element, &mut raw));
                let size = raw.len() - begin;
                let parameters = json!({"binary_data_size": size});
                inputs.push(json!({"name": name, "shape": shape, "datatype": word, "parameters": parameters}));
                continue;
            }
            let data: Option<Vec<Value>> = elements.iter().map(|element| datatype.json(element)).collect();
            let data = data.ok_or_else(|| format!("input '{name}' is {word}, which has no JSON: --encoding binary"))?;
            inputs.push(json!({"name": name, "shape": shape, "datatype": word, "data": data}));
        }
        let mut parameters: Map<String, Value> = self.parameters.iter().cloned().collect();
        if encoding == Encoding::Binary {
            parameters.insert("binary_data_output".to_owned(), Value::Bool(true));
        }
        let mut body = json!({"inputs": inputs});
        if !parameters.is_empty() {
            body["parameters"] = Value::Object(parameters);
        }
        let mut bytes = body.to_string().into_bytes();
        let json_length = (encoding == Encoding::Binary).then_some(bytes.len());
        bytes.extend_from_slice(&raw);
        Ok(HttpBody { bytes, json_length })
    }

    /// The message over gRPC, with raw contents.
    pub(crate) fn message(&self, model: &str, version: &str) -> Vec<u8> {
        let parameter = |value: &Value| match value {
            Value::Bool(value) => Choice::Bool(*value),
            Value::Number(number) => {
                number.as_i64().map_or_else(|| Choice::Double(number.as_f64().unwrap_or_default()), Choice::Int)
            }
            other => Choice::Text(other.as_str().map_or_else(|| other.to_string(), str::to_owned)),
        };
        let parameters: BTreeMap<_, _> = self
            .parameters
            .iter()
            .map(|(name, value)| (name.clone(), InferParameter { choice: Some(parameter(value)) }))
            .collect();
        let (mut inputs, mut raw_input_contents) = (Vec::new(), Vec::new());
        for (input, datatype, elements) in &self.tensors {
            let Input { name, datatype: word, shape } = input.clone();
            inputs.push(InferInputTensor { name, datatype: word, shape });
            let mut raw = Vec::new();
            elements.iter().for_each(|element| datatype.write(element, &mut raw));
            raw_input_contents.push(Bytes::from(raw));
        }
        let (model_name, model_version) = (model.to_owned(), version.to_owned());
        ModelInferRequest { model_name, model_version, parameters, inputs, raw_input_contents }.encode_to_vec()
    }
}

#[cfg(test)]
mod tests;
