//! V2 over gRPC: `ModelInferRequest` and `ModelInferResponse`, and the small messages beside them (proto/inference.proto).
//!
//! Raw contents are slices of the message; typed ones become bytes of the same form.

use bytes::Bytes;

use super::elements::push_string;
use super::wire::{BROKEN, Reader, Value, Writer, bytes, text};
use super::{
    Call, DIMENSIONS_MAX, DataType, PARAMETERS_MAX, Parameter, Parameters, Requested, Side, TENSORS_MAX, Tensor,
    bounded, datatype,
};

/// A tensor before it is known where its bytes are.
struct Described {
    name: String,
    datatype: DataType,
    shape: Vec<usize>,
    parameters: Parameters,
    contents: Option<Bytes>,
}

/// Reads a message.
///
/// # Errors
/// If it is none of that side: where, and what would be right.
pub fn read(message: &Bytes, side: Side) -> Result<Call, String> {
    let mut call = Call::default();
    let (mut described, mut raw) = (Vec::new(), Vec::new());
    let mut reader = Reader::new(message.clone());
    let one_more = |count: usize, what: &str| match count < TENSORS_MAX {
        true => Ok(()),
        false => Err(format!("more than {TENSORS_MAX} {what}, which is the most that is possible")),
    };
    while let Some((field, value)) = reader.field()? {
        match (field, side) {
            (1, _) => call.model = text(value)?,
            (2, _) => call.version = text(value)?,
            (3, _) => call.id = text(value)?,
            (4, _) => parameter(bytes(value)?, &mut call.parameters)?,
            (5, _) => {
                one_more(described.len(), "tensors")?;
                described.push(describe(bytes(value)?)?);
            }
            (6, Side::Request) => {
                one_more(call.requested.len(), "outputs are asked for")?;
                call.requested.push(request(bytes(value)?)?);
            }
            (7, Side::Request) | (6, Side::Answer) => {
                one_more(raw.len(), "raw contents")?;
                raw.push(bytes(value)?);
            }
            _ => {}
        }
    }
    call.tensors = filled(described, raw)?;
    Ok(call)
}

/// Gives each tensor its bytes: all raw, in their order, or all their own.
fn filled(described: Vec<Described>, raw: Vec<Bytes>) -> Result<Vec<Tensor>, String> {
    let is_raw = !raw.is_empty();
    let tensors = described.len();
    if is_raw && raw.len() != tensors {
        return Err(format!("{} raw contents for {tensors} tensors; each needs its own", raw.len()));
    }
    let mut raw = raw.into_iter();
    let mut all = Vec::with_capacity(tensors);
    for own in described {
        let Described { name, datatype, shape, parameters, contents } = own;
        if parameters.contains_key("shared_memory_region") {
            return Err(format!("tensor '{name}' is in shared memory, which a step on another machine cannot read"));
        }
        let data = match (raw.next(), contents) {
            (Some(_), Some(contents)) if !contents.is_empty() => {
                return Err(format!("tensor '{name}' has contents, and raw ones too; give one of them"));
            }
            (Some(data), _) => data,
            (None, contents) => {
                let typed = typed(datatype, contents.unwrap_or_default());
                typed.map_err(|why| format!("tensor '{name}': {why}"))?.into()
            }
        };
        all.push(Tensor { name, datatype, shape, parameters, data }.checked()?);
    }
    Ok(all)
}

fn describe(message: Bytes) -> Result<Described, String> {
    let (mut name, mut named, mut shape) = (String::new(), String::new(), Vec::new());
    let (mut parameters, mut contents) = (Parameters::new(), None);
    let mut reader = Reader::new(message);
    while let Some((field, value)) = reader.field()? {
        match (field, value) {
            (1, value) => name = text(value)?,
            (2, value) => named = text(value)?,
            (3, Value::Varint(own)) => shape.push(own),
            (3, Value::Bytes(packed)) => {
                let mut packed = Reader::new(packed);
                while !packed.is_empty() && shape.len() <= DIMENSIONS_MAX {
                    shape.push(packed.varint()?);
                }
            }
            (4, value) => parameter(bytes(value)?, &mut parameters)?,
            (5, value) => contents = Some(bytes(value)?),
            _ => {}
        }
        if shape.len() > DIMENSIONS_MAX {
            return Err(format!("tensor '{name}' has more than {DIMENSIONS_MAX} dimensions"));
        }
    }
    let datatype = datatype(&name, &named)?;
    let whole = |own: u64| {
        // An int64 that is negative is beyond what is possible either way.
        usize::try_from(own).ok().filter(|_| own <= i64::MAX as u64)
    };
    let read: Option<Vec<usize>> = shape.iter().map(|own| whole(*own)).collect();
    let shape = read.ok_or_else(|| format!("tensor '{name}' has a dimension below 0"))?;
    Ok(Described { name, datatype, shape, parameters, contents })
}

fn request(message: Bytes) -> Result<Requested, String> {
    let (mut name, mut parameters) = (String::new(), Parameters::new());
    let mut reader = Reader::new(message);
    while let Some((field, value)) = reader.field()? {
        match field {
            1 => name = text(value)?,
            2 => parameter(bytes(value)?, &mut parameters)?,
            _ => {}
        }
    }
    Ok(Requested { name, parameters })
}

/// An entry of a map: a name, and an `InferParameter`.
fn parameter(entry: Bytes, all: &mut Parameters) -> Result<(), String> {
    let (mut name, mut found) = (String::new(), None);
    let mut reader = Reader::new(entry);
    while let Some((field, value)) = reader.field()? {
        match field {
            1 => name = text(value)?,
            2 => {
                let mut inner = Reader::new(bytes(value)?);
                while let Some((choice, value)) = inner.field()? {
                    found = match (choice, value) {
                        (1, Value::Varint(own)) => Some(Parameter::Bool(own != 0)),
                        (2, Value::Varint(own)) => Some(Parameter::Int(own.cast_signed())),
                        (3, value) => Some(Parameter::Text(text(value)?)),
                        (4, Value::Fixed64(bits)) => Some(Parameter::Double(f64::from_bits(bits))),
                        (5, Value::Varint(own)) => Some(Parameter::Uint(own)),
                        _ => found,
                    };
                }
            }
            _ => {}
        }
    }
    if let Some(found) = found {
        if all.len() >= PARAMETERS_MAX && !all.contains_key(&name) {
            return Err(format!("more than {PARAMETERS_MAX} parameters, which is the most that is possible"));
        }
        all.insert(name, found);
    }
    Ok(())
}

/// The bytes of typed contents, as `InferTensorContents` has them for a datatype.
fn typed(datatype: DataType, contents: Bytes) -> Result<Vec<u8>, String> {
    let (field, kind) = match datatype {
        DataType::Bool => (1, "bool_contents"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => (2, "int_contents"),
        DataType::Int64 => (3, "int64_contents"),
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 => (4, "uint_contents"),
        DataType::Uint64 => (5, "uint64_contents"),
        DataType::Fp32 => (6, "fp32_contents"),
        DataType::Fp64 => (7, "fp64_contents"),
        DataType::Bytes => (8, "bytes_contents"),
        DataType::Fp16 | DataType::Bf16 => (0, "raw contents, which alone have a form for it"),
    };
    let mut out = Vec::new();
    let mut reader = Reader::new(contents);
    while let Some((found, value)) = reader.field()? {
        if found != field {
            return Err(format!("{} is given by {kind}, and there are others", datatype.name()));
        }
        match (datatype, value) {
            (DataType::Bytes, value) => push_string(&mut out, &bytes(value)?),
            // Packed floats are their bytes already.
            (DataType::Fp32 | DataType::Fp64, Value::Bytes(packed)) => out.extend_from_slice(&packed),
            (DataType::Fp32, Value::Fixed32(bits)) => out.extend_from_slice(&bits.to_le_bytes()),
            (DataType::Fp64, Value::Fixed64(bits)) => out.extend_from_slice(&bits.to_le_bytes()),
            (_, Value::Bytes(packed)) => {
                let mut packed = Reader::new(packed);
                while !packed.is_empty() {
                    push(datatype, packed.varint()?, &mut out)?;
                    bounded(out.len())?;
                }
            }
            (_, Value::Varint(own)) => push(datatype, own, &mut out)?,
            _ => return Err(BROKEN.into()),
        }
        bounded(out.len())?;
    }
    Ok(out)
}

/// Adds a whole number as the datatype has it.
fn push(datatype: DataType, number: u64, out: &mut Vec<u8>) -> Result<(), String> {
    // Negative numbers are written as if they had 64 bits.
    let signed = number.cast_signed();
    let beyond = |_| format!("an element is beyond what {} holds", datatype.name());
    match datatype {
        DataType::Bool => out.push(u8::from(number != 0)),
        DataType::Uint8 => out.push(u8::try_from(number).map_err(beyond)?),
        DataType::Uint16 => out.extend(u16::try_from(number).map_err(beyond)?.to_le_bytes()),
        DataType::Uint32 => out.extend(u32::try_from(number).map_err(beyond)?.to_le_bytes()),
        DataType::Uint64 => out.extend(number.to_le_bytes()),
        DataType::Int8 => out.extend(i8::try_from(signed).map_err(beyond)?.to_le_bytes()),
        DataType::Int16 => out.extend(i16::try_from(signed).map_err(beyond)?.to_le_bytes()),
        DataType::Int32 => out.extend(i32::try_from(signed).map_err(beyond)?.to_le_bytes()),
        _ => out.extend(signed.to_le_bytes()),
    }
    Ok(())
}

/// Writes a message, its tensors as raw contents.
pub fn write(call: &Call, side: Side) -> Bytes {
    let data: usize = call.tensors.iter().map(|tensor| tensor.data.len() + 16).sum();
    let mut out = Writer::with_capacity(data + 256);
    out.text(1, &call.model);
    out.text(2, &call.version);
    out.text(3, &call.id);
    write_parameters(&mut out, 4, &call.parameters);
    for tensor in &call.tensors {
        out.message(5, |own| {
            own.text(1, &tensor.name);
            own.text(2, tensor.datatype.name());
            own.packed(3, tensor.shape.iter().map(|size| *size as u64));
            write_parameters(own, 4, &tensor.parameters);
        });
    }
    if side == Side::Request {
        for requested in &call.requested {
            out.message(6, |own| {
                own.text(1, &requested.name);
                write_parameters(own, 2, &requested.parameters);
            });
        }
    }
    let field = if side == Side::Request { 7 } else { 6 };
    for tensor in &call.tensors {
        out.bytes(field, &tensor.data);
    }
    out.finish()
}

fn write_parameters(out: &mut Writer, field: u32, parameters: &Parameters) {
    for (name, parameter) in parameters {
        out.message(field, |entry| {
            entry.text(1, name);
            entry.message(2, |own| match parameter {
                Parameter::Bool(value) => own.varint(1, u64::from(*value)),
                Parameter::Int(value) => own.varint(2, value.cast_unsigned()),
                Parameter::Text(value) => own.bytes(3, value.as_bytes()),
                Parameter::Double(value) => own.double(4, *value),
                Parameter::Uint(value) => own.varint(5, *value),
            });
        });
    }
}

/// The string of a message's field; empty where it has none.
///
/// # Errors
/// If it is no message, or the field no string.
pub fn string(message: Bytes, wanted: u32) -> Result<String, String> {
    let (mut reader, mut found) = (Reader::new(message), String::new());
    while let Some((field, value)) = reader.field()? {
        if field == wanted {
            found = text(value)?;
        }
    }
    Ok(found)
}
