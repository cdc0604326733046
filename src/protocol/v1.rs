//! V1 predictions, TensorFlow Serving's and KServe's first protocol, as V2 requests and back.
//!
//! V1 says neither datatypes nor shapes: both come from the model's signature and from how the lists nest, which is why a
//! signature is needed to read a body. `instances` are rows: `[row, ...]` for a model of one input, or objects by the
//! inputs' names. `inputs` are columns: one value for a model of one input, or an object of them. What comes back has the
//! same form under `predictions`.
//!
//! Bytes may be written as `{"b64": ...}` where a string may stand, and come back so where they are no
//! text. Requests may be CloudEvents ([`events`]). Not served: signatures by name.

mod encoded;
pub mod events;
mod predictions;
mod values;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::infer::texts::TEXT;
use crate::infer::{InferRequest, NamedTensor};
use crate::model::{Signature, TensorSpec};
use crate::protocol::json::Limits;

pub use predictions::encode_predictions;

/// How a request was written, and so how its answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `instances`, this many.
    Rows(usize),
    /// `inputs`.
    Columns,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
    #[serde(borrow)]
    inputs: Option<&'a RawValue>,
}

/// Names with the JSON of their values.
type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// Decodes the body of a prediction for a model with `signature`. Name, version and deadline stay empty.
///
/// # Errors
/// `InvalidRequest` for what is no such body or fits no input; `TooLarge` beyond `limits`.
pub fn decode_predict(body: &[u8], signature: &Signature, limits: &Limits) -> Result<(InferRequest, Form)> {
    // A derived reader would take a list of the members' values too.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::invalid("the body is no JSON object with 'instances' or 'inputs'"));
    }
    let not_json = |cause: serde_json::Error| Error::invalid(format!("the body is not the JSON expected: {cause}"));
    let body: Body<'_> = serde_json::from_slice(body).map_err(not_json)?;
    let (inputs, form) = match (body.instances, body.inputs) {
        (Some(instances), None) => rows(instances, signature, limits)?,
        (None, Some(inputs)) => (columns(inputs, signature, limits)?, Form::Columns),
        (None, None) => return Err(Error::invalid("the body has neither 'instances' nor 'inputs'")),
        (Some(_), Some(_)) => return Err(Error::invalid("the body has both 'instances' and 'inputs', expected one")),
    };
    Ok((InferRequest { inputs: inputs.into(), ..InferRequest::default() }, form))
}

/// The signature to read a body with that gives texts, out of `signature`, that of a model's text face; `None` for one that
/// gives tensors. Texts are strings, or objects with one under the name of the text input.
pub fn of_texts(body: &[u8], signature: &Signature) -> Option<Signature> {
    let body: Body<'_> = serde_json::from_slice(body).ok()?;
    let values = body.instances.or(body.inputs)?.get();
    let first = values.trim_start_matches(|opening: char| opening == '[' || opening.is_ascii_whitespace());
    let has_text = || serde_json::from_str::<Fields<'_>>(values).is_ok_and(|fields| fields.contains_key(TEXT));
    let rows_have_text = || {
        let rows: Vec<Fields<'_>> = serde_json::from_str(values).unwrap_or_default();
        rows.first().is_some_and(|fields| fields.contains_key(TEXT))
    };
    let inputs: Vec<TensorSpec> = match first.as_bytes().first()? {
        // The only input goes without its name.
        b'"' => signature.inputs.iter().filter(|spec| &*spec.name == TEXT).cloned().collect(),
        b'{' if has_text() || rows_have_text() => signature.inputs.clone(),
        _ => return None,
    };
    Some(Signature { inputs, outputs: signature.outputs.clone() })
}

fn rows(instances: &RawValue, signature: &Signature, limits: &Limits) -> Result<(Vec<NamedTensor>, Form)> {
    let list: Vec<&RawValue> = serde_json::from_str(instances.get())
        .map_err(|cause| Error::invalid(format!("'instances' is no list of instances: {cause}")))?;
    let form = Form::Rows(list.len());
    if !list.first().is_some_and(|first| is_object(first.get(), signature)) {
        let spec = only_input(signature, "each instance has to be an object with a value for each")?;
        return Ok((vec![values::read(spec, instances.get(), limits)?], form));
    }
    // Column by column: the values of one input, in the order of their rows, make one list.
    let mut columns: BTreeMap<Cow<'_, str>, (usize, String)> = BTreeMap::new();
    for (index, instance) in list.iter().enumerate() {
        let fields: Fields<'_> = serde_json::from_str(instance.get())
            .map_err(|cause| Error::invalid(format!("instance {index} is no object like those before it: {cause}")))?;
        for (name, value) in fields {
            let (count, text) = columns.entry(name).or_default();
            *count += 1;
            text.push(if text.is_empty() { '[' } else { ',' });
            text.push_str(value.get());
        }
    }
    limits.check_inputs(columns.len())?;
    let read = |(name, (count, mut text)): (Cow<'_, str>, (usize, String))| {
        if count != list.len() {
            let message = format!("only {count} of {} instances have a value for input '{name}'", list.len());
            return Err(Error::invalid(message));
        }
        text.push(']');
        named(signature, &name, &text, limits)
    };
    Ok((columns.into_iter().map(read).collect::<Result<_>>()?, form))
}

fn columns(inputs: &RawValue, signature: &Signature, limits: &Limits) -> Result<Vec<NamedTensor>> {
    if !is_object(inputs.get(), signature) {
        let spec = only_input(signature, "'inputs' has to be an object with a value for each")?;
        return Ok(vec![values::read(spec, inputs.get(), limits)?]);
    }
    let fields: Fields<'_> = serde_json::from_str(inputs.get())
        .map_err(|cause| Error::invalid(format!("'inputs' is no object of inputs: {cause}")))?;
    limits.check_inputs(fields.len())?;
    fields.iter().map(|(name, value)| named(signature, name, value.get(), limits)).collect()
}

/// Whether `text` is an object of inputs by name, and not the bytes of one.
fn is_object(text: &str, signature: &Signature) -> bool {
    text.starts_with('{') && (signature.input("b64").is_some() || !encoded::is_alone(text))
}

fn named(signature: &Signature, name: &str, text: &str, limits: &Limits) -> Result<NamedTensor> {
    match signature.input(name) {
        Some((_, spec)) => values::read(spec, text, limits),
        None => Err(Error::invalid(format!("unknown input '{name}', expected {}", names(signature)))),
    }
}

fn only_input<'a>(signature: &'a Signature, otherwise: &str) -> Result<&'a TensorSpec> {
    match &signature.inputs[..] {
        [only] => Ok(only),
        _ => Err(Error::invalid(format!("the model has the inputs {}: {otherwise}", names(signature)))),
    }
}

fn names(signature: &Signature) -> String {
    signature.inputs.iter().map(|spec| format!("'{}'", spec.name)).collect::<Vec<_>>().join(", ")
}
