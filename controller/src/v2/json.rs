//! V2 over HTTP: JSON, and the binary extension's tensors behind it.
//! Source: Triton's extension_binary_data.md, and the protocol's own description.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Call, PARAMETERS_MAX, Parameter, Parameters, Requested, Side, TENSORS_MAX, Tensor, datatype, elements};

/// The parameter of a tensor that says how many of the bytes behind the JSON are its.
const SIZE: &str = "binary_data_size";
/// The parameter of a request that asks for all outputs as binary tensors.
const ALL_BINARY: &str = "binary_data_output";
/// The same of one output.
const BINARY: &str = "binary_data";

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(default)]
    model_name: Option<String>,
    #[serde(default)]
    model_version: Option<Value>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Option<BTreeMap<String, Value>>,
    #[serde(borrow, default)]
    inputs: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    outputs: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct JsonTensor<'a> {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    #[serde(default)]
    parameters: Option<BTreeMap<String, Value>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct JsonRequested {
    name: String,
    #[serde(default)]
    parameters: Option<BTreeMap<String, Value>>,
}

/// Reads a body whose JSON is `json_length` long; all of it, where that is not said.
///
/// # Errors
/// If it is no message of that side: where, and what would be right.
pub fn read(body: &Bytes, json_length: Option<usize>, side: Side) -> Result<Call, String> {
    let length = json_length.unwrap_or(body.len());
    let Some((json, _)) = body.split_at_checked(length) else {
        return Err(format!("its JSON is said to have {length} bytes, and the body has {}", body.len()));
    };
    let head: Head<'_> = serde_json::from_slice(json).map_err(|error| format!("it is no JSON of V2: {error}"))?;
    let (written, field) = match side {
        Side::Request => (&head.inputs, "inputs"),
        Side::Answer => (&head.outputs, "outputs"),
    };
    let written = written.as_ref().ok_or_else(|| format!("it has no {field}"))?;
    if written.len() > TENSORS_MAX {
        return Err(format!("{} {field}; at most {TENSORS_MAX} are possible", written.len()));
    }
    let mut behind = body.slice(length..);
    let mut tensors = Vec::with_capacity(written.len());
    for text in written {
        tensors.push(tensor(text, &mut behind)?);
    }
    if !behind.is_empty() {
        return Err(format!("{} bytes are behind its JSON that no tensor names by {SIZE}", behind.len()));
    }
    let mut requested = Vec::new();
    if side == Side::Request {
        for text in head.outputs.iter().flatten() {
            let own: JsonRequested = serde_json::from_str(text.get()).map_err(|error| format!("outputs: {error}"))?;
            requested.push(Requested { name: own.name, parameters: parameters(own.parameters)? });
        }
    }
    let version = match head.model_version {
        Some(Value::String(own)) => own,
        Some(Value::Number(own)) => own.to_string(),
        _ => String::new(),
    };
    Ok(Call {
        model: head.model_name.unwrap_or_default(),
        version,
        id: head.id.unwrap_or_default(),
        parameters: parameters(head.parameters)?,
        tensors,
        requested,
    })
}

fn tensor(text: &RawValue, behind: &mut Bytes) -> Result<Tensor, String> {
    let own: JsonTensor<'_> =
        serde_json::from_str(text.get()).map_err(|error| format!("a tensor is not as V2 has it: {error}"))?;
    let datatype = datatype(&own.name, &own.datatype)?;
    let mut stated = own.parameters.unwrap_or_default();
    let wrong = |why: String| format!("tensor '{}': {why}", own.name);
    let data = match (stated.remove(SIZE), own.data) {
        (Some(size), None) => {
            let size = size.as_u64().and_then(|size| usize::try_from(size).ok());
            let size = size
                .filter(|size| *size <= behind.len())
                .ok_or_else(|| wrong(format!("its {SIZE} is no number of the {} bytes that are left", behind.len())))?;
            behind.split_to(size)
        }
        (None, Some(data)) => elements::read(datatype, data).map_err(wrong)?.into(),
        (Some(_), Some(_)) => return Err(wrong(format!("it has data, and {SIZE} too; give one of them"))),
        (None, None) => {
            return Err(wrong(format!("it has neither data nor {SIZE}; tensors in shared memory stay there")));
        }
    };
    Tensor { name: own.name, datatype, shape: own.shape, parameters: parameters(Some(stated))?, data }.checked()
}

fn parameters(written: Option<BTreeMap<String, Value>>) -> Result<Parameters, String> {
    let written = written.unwrap_or_default();
    if written.len() > PARAMETERS_MAX {
        return Err(format!("{} parameters; at most {PARAMETERS_MAX} are possible", written.len()));
    }
    let mut all = Parameters::new();
    for (name, value) in written {
        let parameter = match &value {
            Value::Bool(own) => Parameter::Bool(*own),
            Value::String(own) => Parameter::Text(own.clone()),
            Value::Number(own) => match (own.as_i64(), own.as_u64()) {
                (Some(own), _) => Parameter::Int(own),
                (_, Some(own)) => Parameter::Uint(own),
                _ => Parameter::Double(own.as_f64().unwrap_or_default()),
            },
            Value::Null => continue,
            other => return Err(format!("parameter '{name}' is {other}; a truth value, number or string is possible")),
        };
        all.insert(name, parameter);
    }
    Ok(all)
}

fn rendered(parameters: &Parameters) -> Map<String, Value> {
    let value = |own: &Parameter| match own {
        Parameter::Bool(own) => Value::from(*own),
        Parameter::Int(own) => Value::from(*own),
        Parameter::Uint(own) => Value::from(*own),
        Parameter::Double(own) => Value::from(*own),
        Parameter::Text(own) => Value::from(own.as_str()),
    };
    parameters.iter().map(|(name, own)| (name.clone(), value(own))).collect()
}

/// A request whose tensors are binary, and that asks for such; with the length of its JSON.
pub fn write_request(call: &Call) -> (Bytes, usize) {
    let mut top = Map::new();
    let mut stated = rendered(&call.parameters);
    stated.insert(ALL_BINARY.into(), Value::Bool(true));
    top.insert("parameters".into(), Value::Object(stated));
    if !call.id.is_empty() {
        top.insert("id".into(), call.id.as_str().into());
    }
    if !call.requested.is_empty() {
        let output = |own: &Requested| {
            let mut stated = rendered(&own.parameters);
            stated.insert(BINARY.into(), Value::Bool(true));
            serde_json::json!({"name": own.name, "parameters": stated})
        };
        top.insert("outputs".into(), call.requested.iter().map(output).collect());
    }
    let (body, length) = written(top, "inputs", call, |_| true);
    let length = length.unwrap_or(body.len());
    (body, length)
}

/// An answer in JSON, with binary tensors behind it where JSON has no form for them; then with the length of its JSON.
pub fn write_answer(call: &Call) -> (Bytes, Option<usize>) {
    written(top_of(call), "outputs", call, |tensor| !elements::has_text(tensor))
}

/// A message in JSON alone, for conditions and ensembles: what has no form in it is written as what comes nearest.
pub fn write_text(call: &Call, side: Side) -> Bytes {
    let mut top = top_of(call);
    if !call.requested.is_empty() {
        let output = |own: &Requested| serde_json::json!({"name": own.name, "parameters": rendered(&own.parameters)});
        top.insert("outputs".into(), call.requested.iter().map(output).collect());
    }
    let field = if side == Side::Request { "inputs" } else { "outputs" };
    written(top, field, call, |_| false).0
}

fn top_of(call: &Call) -> Map<String, Value> {
    let mut top = Map::new();
    for (field, text) in [("model_name", &call.model), ("model_version", &call.version), ("id", &call.id)] {
        if !text.is_empty() {
            top.insert(field.into(), text.as_str().into());
        }
    }
    if !call.parameters.is_empty() {
        top.insert("parameters".into(), Value::Object(rendered(&call.parameters)));
    }
    top
}

/// The top's fields, then the tensors under `field`, then the data of those that are `binary`.
fn written(
    top: Map<String, Value>,
    field: &str,
    call: &Call,
    binary: impl Fn(&Tensor) -> bool,
) -> (Bytes, Option<usize>) {
    // Values of strings and numbers can always be written to memory.
    let mut out = serde_json::to_vec(&top).unwrap_or_default();
    out.pop();
    if !top.is_empty() {
        out.push(b',');
    }
    out.extend_from_slice(format!("\"{field}\":[").as_bytes());
    let mut behind: Vec<&Bytes> = Vec::new();
    for (index, tensor) in call.tensors.iter().enumerate() {
        let mut stated = rendered(&tensor.parameters);
        stated.remove(SIZE);
        let is_binary = binary(tensor);
        if is_binary {
            stated.insert(SIZE.into(), tensor.data.len().into());
            behind.push(&tensor.data);
        }
        let mut head =
            serde_json::json!({"name": tensor.name, "datatype": tensor.datatype.name(), "shape": tensor.shape});
        if !stated.is_empty() {
            head["parameters"] = Value::Object(stated);
        }
        if index > 0 {
            out.push(b',');
        }
        let _written = serde_json::to_writer(&mut out, &head);
        if !is_binary {
            out.pop();
            out.extend_from_slice(b",\"data\":");
            elements::write(tensor, &mut out);
            out.push(b'}');
        }
    }
    out.extend_from_slice(b"]}");
    let length = out.len();
    let is_mixed = !behind.is_empty();
    out.reserve_exact(behind.iter().map(|own| own.len()).sum());
    behind.into_iter().for_each(|data| out.extend_from_slice(data));
    (out.into(), is_mixed.then_some(length))
}

/// JSON that was parsed, with the elements of its binary tensors, which are `behind` it, as their `data`. What does not fit is left as it
/// is: whoever serves it will say so.
pub fn filled(mut json: Value, behind: &Bytes) -> Value {
    let mut rest = behind.clone();
    for field in ["inputs", "outputs"] {
        for written in json.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            let size = written["parameters"][SIZE].as_u64().and_then(|size| usize::try_from(size).ok());
            let Some(size) = size.filter(|size| *size <= rest.len()) else { continue };
            let data = rest.split_to(size);
            let name = written["name"].as_str().unwrap_or("").to_owned();
            let named = written["datatype"].as_str().and_then(|own| datatype(&name, own).ok());
            let shape: Option<Vec<usize>> = serde_json::from_value(written["shape"].clone()).ok();
            let (Some(datatype), Some(shape)) = (named, shape) else { continue };
            let Ok(tensor) = (Tensor { name, datatype, shape, parameters: Parameters::new(), data }).checked() else {
                continue;
            };
            let mut text = Vec::new();
            elements::write(&tensor, &mut text);
            written["data"] = serde_json::from_slice(&text).unwrap_or_default();
        }
    }
    json
}
