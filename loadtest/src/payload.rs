//! Request bodies for the models we measure: varied rows, in the three encodings of the V2 protocol.
//!
//! Rows rotate because one row sent again and again flatters tree models: branch predictors and caches learn it.

use std::ops::Range;

use bytes::Bytes;
use prost::Message;
use serde_json::{Number, json};

use crate::proto::{InferInputTensor, ModelInferRequest};
use tensorgate_random::Random;

/// Words that the tokens of a transformer are taken from.
pub(crate) const VOCABULARY: u32 = 1_000;
/// Tokens of one row of the transformer.
const TOKENS: i64 = 32;
/// Tokens of its shortest and longest row where rows differ.
const TOKENS_MIXED: (i64, i64) = (8, 256);
/// Lengths are drawn for so many rows and come again, so that whoever takes enough rows has the same mixture.
const LENGTHS: usize = 64;

/// What the values of an input look like, and so its datatype.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Values {
    /// FP32, 0.0 to 7.9 with one decimal, as in the iris measurements.
    Tenths,
    /// FP32, whole numbers 0 to 16, as in the digits images.
    Pixels,
    /// FP32, -1 to 1 with four decimals.
    Signed,
    /// INT64, words of the vocabulary.
    Tokens,
    /// INT64, all 1: a mask that hides nothing.
    Ones,
}

/// An input of a model, and how to make rows for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    /// Its name.
    pub(crate) name: String,
    /// Shape of one row, with its leading 1.
    pub(crate) shape: Vec<i64>,
    values: Values,
    /// Whether rows have as many elements as it comes, and `shape` those of the longest.
    mixed: bool,
}

impl Field {
    fn new(name: &str, shape: &[i64], values: Values) -> Self {
        Self { name: name.to_owned(), shape: shape.to_vec(), values, mixed: false }
    }

    /// An FP32 input of any numbers.
    pub(crate) fn numbers(name: &str, shape: &[i64]) -> Self {
        Self::new(name, shape, Values::Signed)
    }

    /// An INT64 input of ones, which are good as tokens and as masks.
    pub(crate) fn ones(name: &str, shape: &[i64]) -> Self {
        Self::new(name, shape, Values::Ones)
    }

    fn datatype(&self) -> &'static str {
        if matches!(self.values, Values::Tokens | Values::Ones) { "INT64" } else { "FP32" }
    }

    /// Elements of the row in this place: alike in all inputs of a model, and on every call. Where rows differ, half of them have fewer
    /// than 20 and one in ten more than 130, as the questions and paragraphs have that people search with.
    pub(crate) fn elements(&self, row: usize) -> usize {
        if !self.mixed {
            return self.row_len();
        }
        let (least, most) = (TOKENS_MIXED.0 as f64, TOKENS_MIXED.1 as f64);
        let place = Random::new((row % LENGTHS) as u64).unit();
        (least * (most / least).powf(place * place)) as usize
    }

    /// The shape of the row in this place.
    fn shape(&self, row: usize) -> Vec<i64> {
        if self.mixed { vec![1, self.elements(row) as i64] } else { self.shape.clone() }
    }

    /// Where it lies among rows that each have room for the longest.
    fn range(&self, row: usize) -> Range<usize> {
        let start = row * self.row_len();
        start..start + self.elements(row)
    }

    /// Elements of one row, the longest where they differ.
    pub(crate) fn row_len(&self) -> usize {
        self.shape.iter().product::<i64>() as usize
    }

    /// `count` rows behind each other, the same on every call.
    fn column(&self, count: usize) -> Column {
        let random = &mut Random::new(0x7465_6e73_6f72);
        let elements = 0..count * self.row_len();
        match self.values {
            Values::Tenths => Column::Floats(elements.map(|_| random.below(80) as f32 / 10.0).collect()),
            Values::Pixels => Column::Floats(elements.map(|_| random.below(17) as f32).collect()),
            Values::Signed => {
                Column::Floats(elements.map(|_| (random.below(20_001) as f32 - 10_000.0) / 10_000.0).collect())
            }
            Values::Tokens => Column::Integers(elements.map(|_| random.below(VOCABULARY as usize) as i64).collect()),
            Values::Ones => Column::Integers(elements.map(|_| 1).collect()),
        }
    }
}

/// The values of an input, one row behind the other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Column {
    /// FP32.
    Floats(Vec<f32>),
    /// INT64.
    Integers(Vec<i64>),
}

impl Column {
    /// Some of the values as raw little-endian bytes.
    fn bytes(&self, range: Range<usize>) -> Vec<u8> {
        match self {
            Self::Floats(values) => little_endian(&values[range]),
            Self::Integers(values) => values[range].iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    /// Some of the values as JSON numbers.
    fn numbers(&self, range: Range<usize>) -> Vec<Number> {
        match self {
            Self::Floats(values) => values[range].iter().map(|value| decimal(*value)).collect(),
            Self::Integers(values) => values[range].iter().map(|value| Number::from(*value)).collect(),
        }
    }
}

/// A model, and how to make rows for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModelSpec {
    /// Name in the repository.
    pub(crate) name: String,
    /// Its inputs in the order of the model.
    pub(crate) inputs: Vec<Field>,
}

impl ModelSpec {
    /// A known model by its name, or any other with one FP32 input as `NAME:INPUT:1x512`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let known = |inputs: Vec<Field>| Ok(Self { name: text.to_owned(), inputs });
        match text {
            "identity" => return known(vec![Field::new("x", &[1, 4], Values::Tenths)]),
            "iris" => return known(vec![Field::new("features", &[1, 4], Values::Tenths)]),
            "mlp" | "compute" => return known(vec![Field::new("x", &[1, 512], Values::Signed)]),
            "wide" => return known(vec![Field::new("x", &[1, 256], Values::Signed)]),
            "digits" => return known(vec![Field::new("image", &[1, 1, 8, 8], Values::Pixels)]),
            "minilm" => {
                let field = |name, values| Field::new(name, &[1, TOKENS], values);
                return known(vec![field("input_ids", Values::Tokens), field("attention_mask", Values::Ones)]);
            }
            "sentences" => {
                let shape = [1, TOKENS_MIXED.1];
                let field = |name, values| Field { mixed: true, ..Field::new(name, &shape, values) };
                return known(vec![field("input_ids", Values::Tokens), field("attention_mask", Values::Ones)]);
            }
            _ => {}
        }
        let parts: Vec<_> = text.split(':').collect();
        let [name, input, shape] = parts[..] else {
            return Err(format!(
                "{text}: not identity, iris, mlp, digits, compute, wide, minilm, sentences or NAME:INPUT:1x512"
            ));
        };
        let shape: Result<Vec<i64>, _> = shape.split('x').map(str::parse).collect();
        match shape {
            Ok(shape) if shape.iter().all(|dim| *dim > 0) => {
                Ok(Self { name: name.to_owned(), inputs: vec![Field::numbers(input, &shape)] })
            }
            _ => Err(format!("{text}: a shape is written as 1x512")),
        }
    }

    /// How much of the first row's elements the shortest row has.
    pub(crate) fn shortest(&self) -> f64 {
        let of = |field: &Field| {
            let least = (0..LENGTHS).map(|row| field.elements(row)).min().unwrap_or(1);
            least as f64 / field.elements(0) as f64
        };
        self.inputs.iter().map(of).fold(1.0, f64::min)
    }

    /// `count` rows of each input, the same on every call.
    pub(crate) fn columns(&self, count: usize) -> Vec<Column> {
        self.inputs.iter().map(|input| input.column(count)).collect()
    }

    /// The bodies of `count` single-row requests.
    pub(crate) fn bodies(&self, count: usize, encoding: Encoding) -> Vec<HttpBody> {
        let columns = self.columns(count);
        (0..count).map(|row| self.body(&columns, row, encoding)).collect()
    }

    fn body(&self, columns: &[Column], row: usize, encoding: Encoding) -> HttpBody {
        let (mut inputs, mut raw) = (Vec::new(), Vec::new());
        for (field, column) in self.inputs.iter().zip(columns) {
            let range = field.range(row);
            let mut input = json!({"name": field.name, "shape": field.shape(row), "datatype": field.datatype()});
            if encoding == Encoding::Binary {
                let bytes = column.bytes(range);
                input["parameters"] = json!({"binary_data_size": bytes.len()});
                raw.extend_from_slice(&bytes);
            } else {
                input["data"] = column.numbers(range).into();
            }
            inputs.push(input);
        }
        if encoding == Encoding::Json {
            return HttpBody { bytes: json!({"inputs": inputs}).to_string().into_bytes(), json_length: None };
        }
        let request = json!({"inputs": inputs, "parameters": {"binary_data_output": true}});
        let mut bytes = request.to_string().into_bytes();
        let json_length = Some(bytes.len());
        bytes.extend_from_slice(&raw);
        HttpBody { bytes, json_length }
    }

    /// The messages of `count` single-row calls.
    pub(crate) fn messages(&self, count: usize) -> Vec<Vec<u8>> {
        let columns = self.columns(count);
        let input = |field: &Field, row: usize| InferInputTensor {
            name: field.name.clone(),
            datatype: field.datatype().to_owned(),
            shape: field.shape(row),
        };
        let raw = |row: usize| {
            let part = |(field, column): (&Field, &Column)| Bytes::from(column.bytes(field.range(row)));
            self.inputs.iter().zip(&columns).map(part).collect()
        };
        let message = |row: usize| ModelInferRequest {
            model_name: self.name.clone(),
            inputs: self.inputs.iter().map(|field| input(field, row)).collect(),
            raw_input_contents: raw(row),
            ..ModelInferRequest::default()
        };
        (0..count).map(|row| message(row).encode_to_vec()).collect()
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
fn decimal(value: f32) -> Number {
    let shortest = value.to_string().parse().ok();
    shortest.and_then(Number::from_f64).unwrap_or_else(|| Number::from(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encodings_carry_the_same_rows_and_rows_differ() {
        let spec = ModelSpec::parse("iris").unwrap();
        let columns = spec.columns(64);
        let [Column::Floats(rows)] = &columns[..] else { panic!("iris has one input of numbers") };
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
    fn a_transformer_gets_tokens_of_its_vocabulary_and_a_mask_in_every_encoding() {
        let spec = ModelSpec::parse("minilm").unwrap();
        let json: serde_json::Value = serde_json::from_slice(&spec.bodies(2, Encoding::Json)[1].bytes).unwrap();
        let data = |index: usize| {
            let data = json["inputs"][index]["data"].as_array().unwrap();
            data.iter().map(|value| value.as_i64().unwrap()).collect::<Vec<_>>()
        };
        assert!(data(0).iter().all(|token| (0..i64::from(VOCABULARY)).contains(token)));
        assert_eq!(data(1), [1; 32]);
        assert_eq!(json["inputs"][0]["datatype"], "INT64");
        let raw = |values: Vec<i64>| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let binary = &spec.bodies(2, Encoding::Binary)[1];
        assert_eq!(binary.bytes[binary.json_length.unwrap()..], [raw(data(0)), raw(data(1))].concat());
        let message = ModelInferRequest::decode(&spec.messages(2)[1][..]).unwrap();
        assert_eq!(message.raw_input_contents, [raw(data(0)), raw(data(1))]);
        assert_eq!(message.inputs[1].name, "attention_mask");
    }

    #[test]
    fn sentences_have_as_many_tokens_as_it_comes_and_as_many_places_in_their_mask() {
        let spec = ModelSpec::parse("sentences").unwrap();
        let messages: Vec<_> =
            spec.messages(500).iter().map(|one| ModelInferRequest::decode(&one[..]).unwrap()).collect();
        let mut tokens: Vec<i64> = messages.iter().map(|message| message.inputs[0].shape[1]).collect();
        for (message, tokens) in messages.iter().zip(&tokens) {
            assert_eq!(message.inputs[1].shape, [1, *tokens]);
            assert!(message.raw_input_contents.iter().all(|raw| raw.len() as i64 == 8 * tokens));
        }
        let shortest = tokens.iter().min().copied().unwrap_or(0) as f64 / tokens[0] as f64;
        assert!((spec.shortest() - shortest).abs() < 1e-9);
        tokens.sort_unstable();
        let quantile = |share: f64| tokens[(500.0 * share) as usize];
        assert!((8..=9).contains(&tokens[0]) && (15..30).contains(&quantile(0.5)), "{tokens:?}");
        assert!((90..200).contains(&quantile(0.9)) && (200..=256).contains(&tokens[499]), "{tokens:?}");
        let json: serde_json::Value = serde_json::from_slice(&spec.bodies(8, Encoding::Json)[7].bytes).unwrap();
        assert_eq!(json["inputs"][0]["data"].as_array().unwrap().len() as i64, messages[7].inputs[0].shape[1]);
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
        assert_eq!((spec.name.as_str(), spec.inputs[0].name.as_str(), spec.inputs[0].row_len()), ("m", "in", 6));
        for wrong in ["unknown", "m:in", "m:in:1x-1", "m:in:", "m:in:1x0"] {
            assert!(ModelSpec::parse(wrong).is_err(), "{wrong}");
        }
    }
}
