//! Request bodies for the models we measure: varied rows, in the three encodings of the V2 protocol.
//!
//! Rows rotate because one row sent again and again flatters tree models: branch predictors and caches learn it.

use bytes::Bytes;
use prost::Message;
use serde_json::json;

use crate::proto::{InferInputTensor, ModelInferRequest};
use crate::random::Random;

/// What the values of a model's input look like.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Values {
    /// 0.0 to 7.9 with one decimal, as in the iris measurements.
    Tenths,
    /// Whole numbers 0 to 16, as in the digits images.
    Pixels,
    /// -1 to 1 with four decimals.
    Signed,
}

/// A model with one FP32 input, and how to make rows for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModelSpec {
    /// Name in the repository.
    pub(crate) name: String,
    /// Name of its input.
    pub(crate) input: String,
    /// Shape of one row, with its leading 1.
    pub(crate) shape: Vec<i64>,
    values: Values,
}

impl ModelSpec {
    /// A known model by its name, or any other as `NAME:INPUT:1x512`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let known = |input: &str, shape: &[i64], values| {
            Ok(Self { name: text.to_owned(), input: input.to_owned(), shape: shape.to_vec(), values })
        };
        match text {
            "identity" => return known("x", &[1, 4], Values::Tenths),
            "iris" => return known("features", &[1, 4], Values::Tenths),
            "mlp" | "compute" => return known("x", &[1, 512], Values::Signed),
            "digits" => return known("image", &[1, 1, 8, 8], Values::Pixels),
            _ => {}
        }
        let parts: Vec<_> = text.split(':').collect();
        let [name, input, shape] = parts[..] else {
            return Err(format!("{text}: not identity, iris, mlp, digits, compute or NAME:INPUT:1x512"));
        };
        let shape: Result<Vec<i64>, _> = shape.split('x').map(str::parse).collect();
        match shape {
            Ok(shape) if shape.iter().all(|dim| *dim > 0) => {
                Ok(Self { name: name.to_owned(), input: input.to_owned(), shape, values: Values::Signed })
            }
            _ => Err(format!("{text}: a shape is written as 1x512")),
        }
    }

    /// Elements of one row.
    pub(crate) fn row_len(&self) -> usize {
        self.shape.iter().product::<i64>() as usize
    }

    /// `count` rows behind each other, the same on every call.
    pub(crate) fn rows(&self, count: usize) -> Vec<f32> {
        let mut random = Random::new(0x7465_6e73_6f72);
        let value = |random: &mut Random| match self.values {
            Values::Tenths => random.below(80) as f32 / 10.0,
            Values::Pixels => random.below(17) as f32,
            Values::Signed => (random.below(20_001) as f32 - 10_000.0) / 10_000.0,
        };
        (0..count * self.row_len()).map(|_| value(&mut random)).collect()
    }

    /// The bodies of `count` single-row requests.
    pub(crate) fn bodies(&self, count: usize, encoding: Encoding) -> Vec<HttpBody> {
        self.rows(count).chunks(self.row_len()).map(|row| self.body(row, encoding)).collect()
    }

    fn body(&self, row: &[f32], encoding: Encoding) -> HttpBody {
        let Encoding::Binary = encoding else {
            let data: Vec<serde_json::Number> = row.iter().map(|value| decimal(*value)).collect();
            let input = json!({"name": self.input, "shape": self.shape, "datatype": "FP32", "data": data});
            return HttpBody { bytes: json!({"inputs": [input]}).to_string().into_bytes(), json_length: None };
        };
        let input = json!({
            "name": self.input, "shape": self.shape, "datatype": "FP32",
            "parameters": {"binary_data_size": row.len() * 4},
        });
        let request = json!({"inputs": [input], "parameters": {"binary_data_output": true}});
        let mut bytes = request.to_string().into_bytes();
        let json_length = Some(bytes.len());
        bytes.extend_from_slice(&little_endian(row));
        HttpBody { bytes, json_length }
    }

    /// The messages of `count` single-row calls.
    pub(crate) fn messages(&self, count: usize) -> Vec<Vec<u8>> {
        let message = |row: &[f32]| ModelInferRequest {
            model_name: self.name.clone(),
            inputs: vec![InferInputTensor {
                name: self.input.clone(),
                datatype: "FP32".to_owned(),
                shape: self.shape.clone(),
            }],
            raw_input_contents: vec![Bytes::from(little_endian(row))],
            ..ModelInferRequest::default()
        };
        self.rows(count).chunks(self.row_len()).map(|row| message(row).encode_to_vec()).collect()
    }
}

/// How tensors travel over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Encoding {
    /// Numbers in JSON.
    Json,
    /// The binary tensor extension, in both directions.
    Binary,
}

/// A request body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HttpBody {
    /// All of it.
    pub(crate) bytes: Vec<u8>,
    /// Length of the JSON part, if binary tensors follow it.
    pub(crate) json_length: Option<usize>,
}

/// A message of nothing but bytes, for the bare echo that a gRPC server is compared with.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Echo {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) data: Bytes,
}

impl Echo {
    /// An echo whose payload is as long as `message`.
    pub(crate) fn alike(message: &[u8]) -> Vec<u8> {
        Self { data: Bytes::copy_from_slice(message) }.encode_to_vec()
    }
}

/// Values as raw little-endian bytes, as both binary encodings carry them.
pub(crate) fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// An FP32 with its own shortest decimals; going through f64 would print digits that it does not have.
fn decimal(value: f32) -> serde_json::Number {
    let shortest = value.to_string().parse().ok();
    shortest.and_then(serde_json::Number::from_f64).unwrap_or_else(|| serde_json::Number::from(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encodings_carry_the_same_rows_and_rows_differ() {
        let spec = ModelSpec::parse("iris").unwrap();
        let rows = spec.rows(64);
        let json = spec.bodies(64, Encoding::Json);
        let binary = spec.bodies(64, Encoding::Binary);
        let messages = spec.messages(64);
        for (index, row) in rows.chunks(4).enumerate() {
            let value: serde_json::Value = serde_json::from_slice(&json[index].bytes).unwrap();
            let data = value["inputs"][0]["data"].as_array().unwrap();
            assert!(data.iter().zip(row).all(|(a, b)| a.as_f64().unwrap() as f32 == *b));
            let length = binary[index].json_length.unwrap();
            let (head, raw) = binary[index].bytes.split_at(length);
            let head: serde_json::Value = serde_json::from_slice(head).unwrap();
            assert_eq!(head["inputs"][0]["parameters"]["binary_data_size"], 16);
            assert_eq!(raw, little_endian(row));
            let message = ModelInferRequest::decode(&messages[index][..]).unwrap();
            assert_eq!(message.raw_input_contents, [little_endian(row)]);
            assert_eq!((message.model_name.as_str(), &message.inputs[0].shape), ("iris", &vec![1, 4]));
        }
        let distinct: std::collections::HashSet<_> = json.iter().map(|body| &body.bytes).collect();
        assert!(distinct.len() > 60);
    }

    #[test]
    fn decimals_stay_short() {
        let text = String::from_utf8(ModelSpec::parse("iris").unwrap().bodies(1, Encoding::Json).remove(0).bytes);
        let text = text.unwrap();
        assert!(text.len() < 100, "{text}");
    }

    #[test]
    fn a_model_is_named_or_described() {
        let spec = ModelSpec::parse("m:in:1x3x2").unwrap();
        assert_eq!((spec.name.as_str(), spec.input.as_str(), spec.row_len()), ("m", "in", 6));
        for wrong in ["unknown", "m:in", "m:in:1x-1", "m:in:", "m:in:1x0"] {
            assert!(ModelSpec::parse(wrong).is_err(), "{wrong}");
        }
    }
}
