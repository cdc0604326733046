//! Typed contents (`InferTensorContents`) to tensor bytes.

use bytes::Bytes;

use super::InferTensorContents;
use crate::tensor::{AlignedBuffer, BytesEncoder, DataType, Shape, byte_count};

pub(super) fn is_empty(contents: &InferTensorContents) -> bool {
    *contents == InferTensorContents::default()
}

/// The bytes of a tensor of `datatype` and `shape`.
pub(super) fn decode(datatype: DataType, shape: &Shape, contents: InferTensorContents) -> Result<Bytes, String> {
    let elements = shape.elements().ok_or_else(|| format!("shape {shape} has more elements than can be addressed"))?;
    byte_count(datatype, shape).map_err(|cause| cause.to_string())?;
    let c = &contents;
    match datatype {
        DataType::Bool => pack(elements, "bool_contents", &c.bool_contents, |&value| Ok([u8::from(value)])),
        DataType::Int8 => {
            pack(elements, "int_contents", &c.int_contents, |&value| narrow::<_, i8>(value).map(i8::to_le_bytes))
        }
        DataType::Int16 => {
            pack(elements, "int_contents", &c.int_contents, |&value| narrow::<_, i16>(value).map(i16::to_le_bytes))
        }
        DataType::Int32 => pack(elements, "int_contents", &c.int_contents, |value| Ok(value.to_le_bytes())),
        DataType::Int64 => pack(elements, "int64_contents", &c.int64_contents, |value| Ok(value.to_le_bytes())),
        DataType::Uint8 => {
            pack(elements, "uint_contents", &c.uint_contents, |&value| narrow::<_, u8>(value).map(u8::to_le_bytes))
        }
        DataType::Uint16 => {
            pack(elements, "uint_contents", &c.uint_contents, |&value| narrow::<_, u16>(value).map(u16::to_le_bytes))
        }
        DataType::Uint32 => pack(elements, "uint_contents", &c.uint_contents, |value| Ok(value.to_le_bytes())),
        DataType::Uint64 => pack(elements, "uint64_contents", &c.uint64_contents, |value| Ok(value.to_le_bytes())),
        DataType::Fp32 => pack(elements, "fp32_contents", &c.fp32_contents, |value| Ok(value.to_le_bytes())),
        DataType::Fp64 => pack(elements, "fp64_contents", &c.fp64_contents, |value| Ok(value.to_le_bytes())),
        DataType::Fp16 | DataType::Bf16 if elements == 0 => Ok(Bytes::new()),
        DataType::Fp16 | DataType::Bf16 => {
            Err(format!("{datatype} has no typed contents, send it in raw_input_contents"))
        }
        DataType::Bytes => byte_strings(elements, &contents.bytes_contents),
    }
}

fn narrow<Wide: Copy + ToString, Narrow: TryFrom<Wide>>(value: Wide) -> Result<Narrow, String> {
    let name = std::any::type_name::<Narrow>();
    Narrow::try_from(value).map_err(|_| format!("value {} does not fit {name}", value.to_string()))
}

fn count(field: &str, expected: usize, given: usize) -> Result<(), String> {
    if expected == given { Ok(()) } else { Err(format!("{field} has {given} elements, expected {expected}")) }
}

fn pack<T, const N: usize>(
    elements: usize,
    field: &str,
    values: &[T],
    bytes: impl Fn(&T) -> Result<[u8; N], String>,
) -> Result<Bytes, String> {
    // Before the allocation, so that the size is bounded by what was received.
    count(field, elements, values.len())?;
    let mut data = AlignedBuffer::with_capacity(values.len() * N);
    for (index, value) in values.iter().enumerate() {
        data.extend(&bytes(value).map_err(|cause| format!("element {index} of {field}: {cause}"))?);
    }
    Ok(data.freeze())
}

fn byte_strings(elements: usize, values: &[Bytes]) -> Result<Bytes, String> {
    count("bytes_contents", elements, values.len())?;
    let mut encoder = BytesEncoder::with_capacity(values.len(), values.iter().map(Bytes::len).sum());
    for value in values {
        encoder.push(value);
    }
    Ok(encoder.finish())
}
