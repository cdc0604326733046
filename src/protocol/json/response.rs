//! A response into a body.

use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};
use smallvec::{SmallVec, smallvec};

use super::OutputEncoding;
use super::writer::{boolean, float, integer, key, list, parameters, string};
use crate::error::{Error, Result};
use crate::infer::{InferResponse, ParameterValue, Place};
use crate::tensor::{DataType, Tensor};

/// Binary outputs up to this size are copied behind the JSON: a copy of a page costs less than another segment does on its
/// way through the socket.
const COPIED_BYTES_MAX: usize = 4096;

/// A body, and where its JSON ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedResponse {
    /// The bytes of JSON, where binary outputs follow: the value of `Inference-Header-Content-Length`, and the content type
    /// is `application/octet-stream`. `None` where all is JSON.
    pub json_length: Option<usize>,
    /// The body. Large binary outputs are segments of their own that share the tensor's memory.
    pub segments: SmallVec<[Bytes; 2]>,
}

impl EncodedResponse {
    /// Bytes of the whole body.
    pub fn body_length(&self) -> usize {
        self.segments.iter().map(Bytes::len).sum()
    }
}

/// Encodes a V2 inference response: `model_name`, `model_version`, `id` and `parameters` where there are any, `outputs`
/// with flat row-major `data` or, behind the JSON in the order of `outputs`, raw bytes.
///
/// # Errors
/// [`crate::error::Kind::Unsupported`] where a BYTES output asked for as JSON is not UTF-8.
pub fn encode_response(response: &InferResponse, encoding: &OutputEncoding) -> Result<EncodedResponse> {
    let mut json = Vec::with_capacity(estimate(response, encoding));
    key_after(&mut json, b'{', "model_name");
    string(&mut json, response.model.as_str());
    key_after(&mut json, b',', "model_version");
    json.push(b'"');
    integer(&mut json, response.version.number());
    json.push(b'"');
    if let Some(id) = &response.id {
        key_after(&mut json, b',', "id");
        string(&mut json, id);
    }
    if !response.parameters.is_empty() {
        key_after(&mut json, b',', "parameters");
        parameters(&mut json, &response.parameters);
    }
    key_after(&mut json, b',', "outputs");
    json.push(b'[');
    let mut binary: SmallVec<[&Bytes; 2]> = SmallVec::new();
    for (i, (name, tensor)) in response.outputs.iter().enumerate() {
        if i > 0 {
            json.push(b',');
        }
        let how = match response.place(i) {
            Some(place) => Data::Placed(place),
            None if encoding.is_binary(name) => Data::Binary,
            None => Data::Json,
        };
        if matches!(how, Data::Binary) {
            binary.push(tensor.data());
        }
        output(&mut json, name, tensor, how)?;
    }
    json.extend_from_slice(b"]}");
    Ok(assemble(json, &binary))
}

/// An error body: `{"error": message}`.
pub fn encode_error(message: &str) -> Bytes {
    let mut json = Vec::with_capacity(message.len() + 16);
    key_after(&mut json, b'{', "error");
    string(&mut json, message);
    json.push(b'}');
    json.into()
}

fn key_after(out: &mut Vec<u8>, before: u8, name: &'static str) {
    out.push(before);
    key(out, name);
}

/// The JSON with the binary outputs behind it.
fn assemble(mut json: Vec<u8>, binary: &[&Bytes]) -> EncodedResponse {
    if binary.is_empty() {
        return EncodedResponse { json_length: None, segments: smallvec![json.into()] };
    }
    let json_length = Some(json.len());
    let small = binary.iter().take_while(|data| data.len() <= COPIED_BYTES_MAX).count();
    let (copied, shared) = binary.split_at(small);
    for data in copied {
        json.extend_from_slice(data);
    }
    let mut segments: SmallVec<[Bytes; 2]> = smallvec![json.into()];
    segments.extend(shared.iter().copied().cloned());
    EncodedResponse { json_length, segments }
}

/// How many bytes the first segment will take, about: too much costs little, too little a copy of it all.
fn estimate(response: &InferResponse, encoding: &OutputEncoding) -> usize {
    let output = |(name, tensor): &(Arc<str>, Tensor)| {
        let data = if encoding.is_binary(name) {
            tensor.data().len().min(COPIED_BYTES_MAX)
        } else {
            match tensor.datatype() {
                // Quotes and comma take less than the length that they replace.
                DataType::Bytes => tensor.data().len() + tensor.data().len() / 16,
                datatype => tensor.elements().saturating_mul(text_bytes(datatype)),
            }
        };
        // Keys, datatype and shape take the rest.
        name.len() + 96 + data
    };
    128 + response.model.as_str().len()
        + response.id.as_ref().map_or(0, String::len)
        + response.outputs.iter().map(output).sum::<usize>()
}

/// Bytes of text that a typical element takes, with its comma.
const fn text_bytes(datatype: DataType) -> usize {
    match datatype {
        DataType::Bool => 6,
        DataType::Uint8 | DataType::Int8 => 4,
        DataType::Uint16 | DataType::Int16 => 6,
        DataType::Uint32 | DataType::Int32 | DataType::Uint64 | DataType::Int64 => 8,
        DataType::Fp16 | DataType::Bf16 | DataType::Fp32 => 12,
        DataType::Fp64 => 20,
        DataType::Bytes => 16,
    }
}

/// Where an output's data are.
enum Data<'a> {
    Json,
    Binary,
    Placed(&'a Place),
}

fn output(out: &mut Vec<u8>, name: &str, tensor: &Tensor, how: Data<'_>) -> Result<()> {
    key_after(out, b'{', "name");
    string(out, name);
    key_after(out, b',', "datatype");
    string(out, tensor.datatype().name());
    key_after(out, b',', "shape");
    list(out, tensor.shape().iter(), |out, &dim| integer(out, dim));
    match how {
        Data::Json => {
            key_after(out, b',', "data");
            elements(out, name, tensor)?;
        }
        Data::Binary => {
            key_after(out, b',', "parameters");
            key_after(out, b'{', "binary_data_size");
            integer(out, tensor.data().len());
            out.push(b'}');
        }
        Data::Placed(place) => {
            key_after(out, b',', "parameters");
            // Nothing of it follows the JSON; Triton's C++ client takes no parameters without this one.
            let mut all = place.parameters();
            all.set("binary_data_size", ParameterValue::Int64(0));
            parameters(out, &all);
        }
    }
    out.push(b'}');
    Ok(())
}

/// Appends the elements of `tensor`, the output called `name`, as a flat list.
pub(in crate::protocol) fn elements(out: &mut Vec<u8>, name: &str, tensor: &Tensor) -> Result<()> {
    let data = tensor.data();
    match tensor.datatype() {
        DataType::Bool => numbers(out, data, |out, [byte]| boolean(out, byte != 0)),
        DataType::Uint8 => numbers(out, data, |out, le| integer(out, u8::from_le_bytes(le))),
        DataType::Uint16 => numbers(out, data, |out, le| integer(out, u16::from_le_bytes(le))),
        DataType::Uint32 => numbers(out, data, |out, le| integer(out, u32::from_le_bytes(le))),
        DataType::Uint64 => numbers(out, data, |out, le| integer(out, u64::from_le_bytes(le))),
        DataType::Int8 => numbers(out, data, |out, le| integer(out, i8::from_le_bytes(le))),
        DataType::Int16 => numbers(out, data, |out, le| integer(out, i16::from_le_bytes(le))),
        DataType::Int32 => numbers(out, data, |out, le| integer(out, i32::from_le_bytes(le))),
        DataType::Int64 => numbers(out, data, |out, le| integer(out, i64::from_le_bytes(le))),
        // The shortest f32 that reads back to the same half is not always the shortest text, but it is exact.
        DataType::Fp16 => numbers(out, data, |out, le| float(out, f16::from_le_bytes(le).to_f32())),
        DataType::Bf16 => numbers(out, data, |out, le| float(out, bf16::from_le_bytes(le).to_f32())),
        DataType::Fp32 => numbers(out, data, |out, le| float(out, f32::from_le_bytes(le))),
        DataType::Fp64 => numbers(out, data, |out, le| float(out, f64::from_le_bytes(le))),
        DataType::Bytes => return strings(out, name, tensor),
    }
    Ok(())
}

/// A list of `data`'s elements of `N` bytes each. By value, because a response's bytes may start at any address.
fn numbers<const N: usize>(out: &mut Vec<u8>, data: &[u8], write: impl Fn(&mut Vec<u8>, [u8; N])) {
    let (elements, _) = data.as_chunks::<N>();
    list(out, elements, |out, &element| write(out, element));
}

fn strings(out: &mut Vec<u8>, name: &str, tensor: &Tensor) -> Result<()> {
    let elements = tensor.byte_strings().map_err(|cause| Error::internal(cause.to_string()))?;
    out.push(b'[');
    for (i, element) in elements.enumerate() {
        let text = std::str::from_utf8(element).map_err(|_| {
            Error::unsupported(format!(
                "output '{name}': element {i} is not UTF-8 text, which JSON cannot hold: ask for it as binary data \
                 (\"parameters\": {{\"binary_data\": true}})"
            ))
        })?;
        if i > 0 {
            out.push(b',');
        }
        string(out, text);
    }
    out.push(b']');
    Ok(())
}
