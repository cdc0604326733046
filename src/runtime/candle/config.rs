//! `config.json` of a Hugging Face folder: sizes and names, each checked when it is asked for.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tensorgate_kernels::Activation;

use crate::error::{Error, Result};

/// Bytes that a JSON file of a model may have: the largest have the names of some ten thousand classes.
const JSON_BYTES_MAX: u64 = 16 << 20;

/// The largest number that a size may be, so that products of three of them can be counted: no vocabulary, context or layer in
/// the wild has a quarter of it.
const SIZE_MAX: u64 = 1 << 20;

/// The members of a JSON object, and the file that they are from.
pub(super) struct Config {
    path: PathBuf,
    members: Map<String, Value>,
}

/// Reads a JSON file, within [`JSON_BYTES_MAX`].
///
/// # Errors
/// `ModelUnavailable` that names the file, where it cannot be read or is no JSON.
pub(super) fn read_json(path: &Path) -> Result<Value> {
    let wrong = |why: String| Error::unavailable(format!("{}: {why}", path.display()));
    let file = File::open(path).map_err(|cause| wrong(format!("cannot be read: {cause}")))?;
    let mut text = Vec::new();
    file.take(JSON_BYTES_MAX + 1).read_to_end(&mut text).map_err(|cause| wrong(format!("cannot be read: {cause}")))?;
    if text.len() as u64 > JSON_BYTES_MAX {
        return Err(wrong(format!("has more than {JSON_BYTES_MAX} bytes")));
    }
    serde_json::from_slice(&text).map_err(|cause| wrong(format!("is not JSON: {cause}")))
}

impl Config {
    /// Reads the object in the file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self> {
        Self::of(path, read_json(path)?)
    }

    /// The object `value`, which is from the file at `path`.
    pub(super) fn of(path: &Path, value: Value) -> Result<Self> {
        match value {
            Value::Object(members) => Ok(Self { path: path.to_owned(), members }),
            other => {
                let found = told(&other);
                Err(Error::unavailable(format!("{}: is {found}, expected an object", path.display())))
            }
        }
    }

    /// An error about this file.
    pub(super) fn wrong(&self, why: impl std::fmt::Display) -> Error {
        Error::unavailable(format!("{}: {why}", self.path.display()))
    }

    fn unfit(&self, key: &str, value: &Value, expected: &str) -> Error {
        self.wrong(format!("'{key}' is {}, expected {expected}", told(value)))
    }

    /// A member that is there and not null.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.members.get(key).filter(|value| !value.is_null())
    }

    /// A size, at least 1.
    pub(super) fn size(&self, key: &str) -> Result<usize> {
        match self.size_maybe(key)? {
            Some(size) => Ok(size),
            None => Err(self.wrong(format!("has no '{key}', which this architecture needs"))),
        }
    }

    pub(super) fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.size_maybe(key)?.unwrap_or(default))
    }

    fn size_maybe(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let size = value.as_u64().filter(|size| (1..=SIZE_MAX).contains(size));
        let size = size.ok_or_else(|| self.unfit(key, value, &format!("a whole number from 1 to {SIZE_MAX}")))?;
        Ok(Some(size as usize))
    }

    /// A token's number.
    pub(super) fn token(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let token = value.as_u64().filter(|&token| token < SIZE_MAX);
        token.map(|token| Some(token as usize)).ok_or_else(|| self.unfit(key, value, "a token's number"))
    }

    /// A number above 0.
    pub(super) fn number_or(&self, key: &str, default: f32) -> Result<f32> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = value.as_f64().map(|number| number as f32).filter(|number| *number > 0.0 && number.is_finite());
        number.ok_or_else(|| self.unfit(key, value, "a number above 0"))
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(false) };
        value.as_bool().ok_or_else(|| self.unfit(key, value, "true or false"))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.unfit(key, value, "a string"))
    }

    /// A list; empty where there is none.
    pub(super) fn list(&self, key: &str) -> Result<&[Value]> {
        let Some(value) = self.get(key) else { return Ok(&[]) };
        value.as_array().map(Vec::as_slice).ok_or_else(|| self.unfit(key, value, "a list"))
    }

    /// An object within this one.
    pub(super) fn object(&self, key: &str) -> Result<Option<Config>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let members = value.as_object().ok_or_else(|| self.unfit(key, value, "an object"))?;
        Ok(Some(Config { path: self.path.clone(), members: members.clone() }))
    }

    /// Refuses a member that is anything but `served`.
    pub(super) fn only(&self, key: &str, served: &str) -> Result<()> {
        match self.text(key)? {
            Some(other) if other != served => {
                Err(self.wrong(format!("'{key}' is '{other}', only '{served}' is served")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a member that is true.
    pub(super) fn not(&self, key: &str) -> Result<()> {
        if self.flag(key)? {
            Err(self.wrong(format!("'{key}' is true, which is not served: only encoders are")))
        } else {
            Ok(())
        }
    }

    /// An activation by the name that the transformers package has for it.
    pub(super) fn activation(&self, key: &str, default: Activation) -> Result<Activation> {
        Ok(match self.text(key)? {
            None => default,
            Some("gelu") => Activation::Gelu,
            Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Activation::GeluTanh,
            Some("relu") => Activation::Relu,
            Some("silu" | "swish") => Activation::Silu,
            Some("tanh") => Activation::Tanh,
            Some(other) => {
                let known = "gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, relu, silu, swish, tanh";
                return Err(self.wrong(format!("'{key}' is '{other}', one of {known} is served")));
            }
        })
    }

    /// The names of a classifier's classes, by number: `id2label`, else as many as `num_labels`, of which transformers says two.
    pub(super) fn labels(&self) -> Result<Vec<String>> {
        let Some(names) = self.object("id2label")? else {
            return Ok((0..self.size_or("num_labels", 2)?).map(|class| format!("LABEL_{class}")).collect());
        };
        let count = names.members.len();
        if count == 0 {
            return Err(self.wrong("'id2label' is empty, expected a name for each class"));
        }
        let name = |class: usize| {
            let name = names.members.get(&class.to_string()).and_then(Value::as_str);
            // A label is a line where labels are listed.
            name.map(|name| name.replace(['\r', '\n'], " "))
                .ok_or_else(|| self.wrong(format!("'id2label' has {count} members and no name for class {class}")))
        };
        (0..count).map(name).collect()
    }
}

/// What a value is, in short.
fn told(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".into(),
        Value::Array(_) => "a list".into(),
        Value::String(text) if text.len() > 40 => "a long string".into(),
        other => other.to_string(),
    }
}
