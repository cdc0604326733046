//! Elements of the protocol's datatypes: made up, as JSON, and as raw bytes.

use half::{bf16, f16};
use serde_json::{Number, Value};

use tensorgate_random::Random;

/// A datatype of the V2 protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Datatype {
    Bool,
    /// Signed, with this many bytes.
    Int(usize),
    /// Unsigned, with this many bytes.
    Uint(usize),
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Element {
    /// A boolean or whole number.
    Whole(i64),
    /// A floating-point number.
    Real(f64),
    /// A string.
    Text(String),
}

impl Datatype {
    /// Reads the protocol's word.
    pub(super) fn parse(word: &str) -> Result<Self, String> {
        let size = |bits: &str| match bits {
            "8" | "16" | "32" | "64" => bits.parse::<usize>().ok().map(|bits| bits / 8),
            _ => None,
        };
        match word {
            "BOOL" => Ok(Self::Bool),
            "FP16" => Ok(Self::Fp16),
            "BF16" => Ok(Self::Bf16),
            "FP32" => Ok(Self::Fp32),
            "FP64" => Ok(Self::Fp64),
            "BYTES" => Ok(Self::Bytes),
            _ => {
                let signed = word.strip_prefix("INT").and_then(size).map(Self::Int);
                let found = signed.or_else(|| word.strip_prefix("UINT").and_then(size).map(Self::Uint));
                found.ok_or_else(|| format!("the datatype '{word}' is not of the V2 protocol"))
            }
        }
    }

    /// A random value within `range`, both ends included. Without one, whole numbers are 0 or 1, which fits masks and
    /// is in every vocabulary; others lie between -1 and 1.
    pub(super) fn element(self, random: &mut Random, range: Option<(f64, f64)>, string_length: usize) -> Element {
        let whole = |random: &mut Random, (low, high): (f64, f64)| {
            let span = (high.floor() - low.ceil() + 1.0).clamp(1.0, f64::from(u32::MAX));
            Element::Whole(low.ceil() as i64 + random.below(span as u32 as usize) as i64)
        };
        match self {
            Self::Bool | Self::Int(_) | Self::Uint(_) => whole(random, range.unwrap_or((0.0, 1.0))),
            Self::Bytes => {
                let letter = |_| char::from(b'a' + random.below(26) as u8);
                Element::Text((0..string_length).map(letter).collect())
            }
            _ => {
                let (low, high) = range.unwrap_or((-1.0, 1.0));
                let value = low + (high - low) * random.below(10_001) as f64 / 1e4;
                // Few decimals, so that JSON is of the length that people's data has.
                Element::Real((value * 1e4).round() / 1e4)
            }
        }
    }

    /// As JSON; `None` for the two that the protocol sends only as raw bytes.
    pub(super) fn json(self, element: &Element) -> Option<Value> {
        match (self, element) {
            (Self::Fp16 | Self::Bf16, _) => None,
            (Self::Bool, Element::Whole(value)) => Some(Value::Bool(*value != 0)),
            (_, Element::Whole(value)) => Some(Value::from(*value)),
            (_, Element::Real(value)) => Number::from_f64(*value).map(Value::Number),
            (_, Element::Text(text)) => Some(Value::from(text.as_str())),
        }
    }

    /// Appends the raw form: little-endian, strings behind their length in four bytes.
    pub(super) fn write(self, element: &Element, out: &mut Vec<u8>) {
        match (self, element) {
            (Self::Bool, Element::Whole(value)) => out.push(u8::from(*value != 0)),
            // Two's complement: the low bytes are the same whatever the width.
            (Self::Int(size) | Self::Uint(size), Element::Whole(value)) => {
                out.extend_from_slice(&value.to_le_bytes()[..size]);
            }
            (Self::Fp16, Element::Real(value)) => out.extend_from_slice(&f16::from_f64(*value).to_le_bytes()),
            (Self::Bf16, Element::Real(value)) => out.extend_from_slice(&bf16::from_f64(*value).to_le_bytes()),
            (Self::Fp32, Element::Real(value)) => out.extend_from_slice(&(*value as f32).to_le_bytes()),
            (_, Element::Real(value)) => out.extend_from_slice(&value.to_le_bytes()),
            (_, Element::Text(text)) => {
                out.extend_from_slice(&(text.len() as u32).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            (_, Element::Whole(value)) => out.extend_from_slice(&value.to_le_bytes()),
        }
    }
}
