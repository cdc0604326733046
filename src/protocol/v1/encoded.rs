//! Bytes in V1's JSON: `{"b64": "..."}`, base64 as TensorFlow Serving has it, wherever a string may stand.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::Fields;
use super::values::ragged;
use crate::error::{Error, Result};
use crate::protocol::json::Limits;
use crate::tensor::BytesEncoder;

const KEY: &str = "b64";

/// Padding is written, and may be missing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether `text` may hold bytes in this form; false tells that it does not.
pub(super) fn possible(text: &str) -> bool {
    text.contains("\"b64\"")
}

/// Whether `text` is an object of this form and nothing else.
pub(super) fn is_alone(text: &str) -> bool {
    let fields =
        || serde_json::from_str::<Fields<'_>>(text).is_ok_and(|fields| fields.len() == 1 && fields.contains_key(KEY));
    text.starts_with('{') && possible(text) && fields()
}

/// `bytes` as a value.
pub(super) fn write(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"{\"b64\":\"");
    out.extend_from_slice(BASE64.encode(bytes).as_bytes());
    out.extend_from_slice(b"\"}");
}

/// Nested lists of strings and bytes: how they nest, and the elements.
///
/// # Errors
/// `InvalidRequest` for lists of different lengths beside each other, other values, and base64 that is none; `TooLarge` for
/// lists that nest deeper than `limits` allow.
pub(super) fn read(text: &str, limits: &Limits) -> Result<(Vec<usize>, BytesEncoder)> {
    let value: Value = serde_json::from_str(text).map_err(|cause| Error::invalid(format!("it is no JSON: {cause}")))?;
    let mut elements = Elements { sizes: Vec::new(), depth: None, encoder: BytesEncoder::with_capacity(1, text.len()) };
    elements.read(&value, 0, limits)?;
    Ok((elements.sizes, elements.encoder))
}

struct Elements {
    /// The length of the lists of each depth.
    sizes: Vec<usize>,
    /// How deep the elements are.
    depth: Option<usize>,
    encoder: BytesEncoder,
}

impl Elements {
    fn read(&mut self, value: &Value, depth: usize, limits: &Limits) -> Result<()> {
        let Value::Array(items) = value else {
            if *self.depth.get_or_insert(depth) != depth || self.sizes.len() > depth {
                return Err(ragged());
            }
            self.encoder.push(&bytes(value)?);
            return Ok(());
        };
        if depth >= limits.rank_max.min(limits.depth_max) {
            let most = limits.rank_max.min(limits.depth_max);
            return Err(Error::too_large(format!("its lists nest deeper than {most} (--json-depth-max)")));
        }
        match self.sizes.get(depth) {
            None if self.depth.is_some_and(|elements| elements <= depth) => return Err(ragged()),
            None => self.sizes.push(items.len()),
            Some(&size) if size == items.len() => {}
            Some(_) => return Err(ragged()),
        }
        items.iter().try_for_each(|item| self.read(item, depth + 1, limits))
    }
}

/// The bytes of one element.
fn bytes(value: &Value) -> Result<Cow<'_, [u8]>> {
    let object = match value {
        Value::String(text) => return Ok(text.as_bytes().into()),
        Value::Object(object) if object.len() == 1 => object.get(KEY).and_then(Value::as_str),
        _ => None,
    };
    let text = object.ok_or_else(|| {
        let shown: String = value.to_string().chars().take(40).collect();
        Error::invalid(format!("{shown} stands where a string or {{\"b64\": \"...\"}} is expected"))
    })?;
    BASE64
        .decode(text)
        .map(Into::into)
        .map_err(|cause| Error::invalid(format!("a value of 'b64' is no base64: {cause}")))
}
