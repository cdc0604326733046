//! `model.toml`: our own settings file. Every key is checked, and one that is not known is a fault with the name it
//! most likely means, because a slip that is ignored is found in production.

use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use ::toml::{Table, Value};

use super::{
    Fault, ModelSettings, Parsed, RuntimeChoice, TensorDeclaration, VersionPolicy, check_priorities, check_tensors,
    inner_file, nearest, parse_duration, parse_size, traffic,
};
use crate::model::{DeviceChoice, Dim, Version};
use crate::tensor::{DataType, Scalar};

/// Reads the text of a `model.toml`.
pub(super) fn read(text: &str) -> Result<Parsed, Vec<Fault>> {
    let table: Table = text.parse().map_err(|error| vec![syntax_fault(text, &error)])?;
    let mut faults = Vec::new();
    let mut root = Section::new(&table, "", &mut faults);
    let defaults = ModelSettings::default();
    let execute_time = root.take("execute_time", duration);
    let mut settings = ModelSettings {
        digest: root.take("digest", digest),
        runtime: root.take("runtime", runtime).unwrap_or_default(),
        device: root.take("device", |value| DeviceChoice::parse(text_of(value)?)).unwrap_or_default(),
        slo: root.take("slo", positive_duration),
        instances: root.take("instances", positive),
        threads: root.take("threads", positive),
        max_batch_rows: root.take("max_batch_size", natural),
        max_queue_delay: root.take("max_queue_delay", duration),
        queue_max: root.take("queue_max", positive).map(NonZeroUsize::get),
        queue_bytes_max: root.take("queue_bytes_max", size),
        queue_timeout: root.take("queue_timeout", positive_duration),
        priority_levels: root.take("priority_levels", level),
        default_priority_level: root.take("default_priority_level", level),
        weight: root.take("weight", weight),
        version_policy: root.take("versions", version_policy).unwrap_or_default(),
        model_file: root.take("file", |value| inner_file(text_of(value)?)),
        execute_time: execute_time.unwrap_or_default(),
        warm_up: root.take("warm_up", boolean).unwrap_or(defaults.warm_up),
        pin: root.take("pin", boolean).unwrap_or(defaults.pin),
        ..defaults
    };
    let inputs = root.take("inputs", tables).unwrap_or_default();
    let outputs = root.take("outputs", tables).unwrap_or_default();
    let traffic = root.take("traffic", table_of);
    let response_cache = root.take("response_cache", table_of);
    root.refuse_unknown();
    settings.traffic = traffic.map(|table| Arc::new(traffic::read(table, "traffic.", &mut faults)));
    settings.response_cache = response_cache.and_then(|table| cache_bytes(table, &mut faults));
    settings.inputs = declarations("inputs", &inputs, &mut faults);
    settings.outputs = declarations("outputs", &outputs, &mut faults);
    faults.extend(check_priorities(&settings));
    check_tensors("inputs", &settings, &settings.inputs, &mut faults);
    check_tensors("outputs", &settings, &settings.outputs, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut warnings = Vec::new();
    if execute_time.is_some() && settings.runtime != RuntimeChoice::Identity {
        warnings.push("execute_time is not used: it is for runtime = \"identity\"".to_owned());
    }
    if !settings.warm_up && settings.inputs.iter().any(|input| input.pad.is_some()) {
        warnings
            .push("pad is not used: with warm_up = false it is not verified, and requests are not joined".to_owned());
    }
    Ok(Parsed { settings, warnings })
}

fn syntax_fault(text: &str, error: &::toml::de::Error) -> Fault {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    Fault::new(format!("line {line}"), error.message().lines().collect::<Vec<_>>().join(", "))
}

/// A table whose keys are taken one by one; those that nobody takes are unknown.
pub(super) struct Section<'a, 'f> {
    table: &'a Table,
    /// What stands before a key in a fault: "" or "inputs[0].".
    path: &'f str,
    seen: Vec<&'static str>,
    faults: &'f mut Vec<Fault>,
}

impl<'a, 'f> Section<'a, 'f> {
    pub(super) fn new(table: &'a Table, path: &'f str, faults: &'f mut Vec<Fault>) -> Self {
        Self { table, path, seen: Vec::new(), faults }
    }

    /// The value at `key`, if it is there and `read` can read it.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'a Value) -> Result<T, String>,
    ) -> Option<T> {
        self.seen.push(key);
        match read(self.table.get(key)?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.faults.push(Fault::new(format!("{}{key}", self.path), message));
                None
            }
        }
    }

    pub(super) fn refuse_unknown(self) {
        for key in self.table.keys().filter(|key| !self.seen.contains(&key.as_str())) {
            let message = match nearest(key, self.seen.iter().copied()) {
                Some(meant) => format!("unknown key '{key}', did you mean '{meant}'?"),
                None => format!("unknown key '{key}', known are {}", self.seen.join(", ")),
            };
            self.faults.push(Fault::new(format!("{}{key}", self.path), message));
        }
    }
}

fn declarations(list: &'static str, tables: &[&Table], faults: &mut Vec<Fault>) -> Vec<TensorDeclaration> {
    let mut declarations = Vec::with_capacity(tables.len());
    for (i, table) in tables.iter().enumerate() {
        let path = format!("{list}[{i}].");
        let mut section = Section::new(table, &path, faults);
        let name = section.take("name", |value| text_of(value).map(str::to_owned));
        let datatype = section.take("datatype", datatype);
        let shape = section.take("shape", shape);
        // Requests may leave out inputs, or be padded in them; class names belong to outputs.
        let (mut optional, mut pad, mut labels) = (None, None, None);
        match list {
            "inputs" => {
                optional = section.take("optional", boolean);
                pad = section.take("pad", scalar);
            }
            _ => labels = section.take("labels", |value| inner_file(text_of(value)?)),
        }
        section.refuse_unknown();
        if !table.contains_key("name") {
            faults.push(Fault::new(format!("{path}name"), "missing: the name that the model file has for it"));
        }
        let Some(name) = name else { continue };
        let optional = optional.unwrap_or(false);
        declarations.push(TensorDeclaration { name, datatype, shape, rows_open: false, optional, pad, labels });
    }
    declarations
}

/// The bound of `[response_cache]`.
fn cache_bytes(table: &Table, faults: &mut Vec<Fault>) -> Option<NonZeroUsize> {
    let mut section = Section { table, path: "response_cache.", seen: Vec::new(), faults };
    let bytes_max = section.take("bytes_max", size);
    section.refuse_unknown();
    if !table.contains_key("bytes_max") {
        let message = "missing: the most that kept answers may take, such as \"64MiB\"";
        faults.push(Fault::new("response_cache.bytes_max", message));
    }
    bytes_max.and_then(NonZeroUsize::new)
}

pub(super) fn expected(what: &str, value: &Value) -> String {
    format!("expected {what}, got {} {}", article(value.type_str()), value.type_str())
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'i']) { "an" } else { "a" }
}

pub(super) fn text_of(value: &Value) -> Result<&str, String> {
    match value.as_str() {
        Some("") => Err("must not be empty".to_owned()),
        Some(text) => Ok(text),
        None => Err(expected("a string", value)),
    }
}

fn boolean(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| expected("true or false", value))
}

fn scalar(value: &Value) -> Result<Scalar, String> {
    match value {
        Value::Boolean(value) => Ok(Scalar::Bool(*value)),
        Value::Integer(value) => Ok(Scalar::Whole(*value)),
        Value::Float(value) => Ok(Scalar::Real(*value)),
        _ => Err(expected("a number, or true or false", value)),
    }
}

fn natural(value: &Value) -> Result<usize, String> {
    let number = value.as_integer().ok_or_else(|| expected("a whole number", value))?;
    usize::try_from(number).map_err(|_| format!("{number} is below zero"))
}

pub(super) fn positive(value: &Value) -> Result<NonZeroUsize, String> {
    let number = value.as_integer().ok_or_else(|| expected("a whole number", value))?;
    let positive = usize::try_from(number).ok().and_then(NonZeroUsize::new);
    positive.ok_or_else(|| format!("must be at least 1, got {number}; leave the key out to let the server choose"))
}

/// A SHA-256: "sha256:" and its digits.
fn digest(value: &Value) -> Result<String, String> {
    let text = text_of(value)?;
    let digits = text.strip_prefix("sha256:").map(str::to_ascii_lowercase);
    let is_digest = |digits: &String| digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits
        .filter(is_digest)
        .ok_or_else(|| format!("'{text}' is no digest, expected \"sha256:\" and 64 hexadecimal digits"))
}

/// A level of priorities.
fn level(value: &Value) -> Result<NonZeroU16, String> {
    let number = positive(value)?;
    NonZeroU16::try_from(number).map_err(|_| format!("{number} is too many, at most {} are served", u16::MAX))
}

/// A number of bytes, at least 1.
fn size(value: &Value) -> Result<usize, String> {
    let bytes = match value {
        Value::String(text) => parse_size(text),
        Value::Integer(number) => usize::try_from(*number).ok(),
        _ => None,
    };
    bytes.filter(|&bytes| bytes > 0).ok_or_else(|| format!("{value} is no size, expected one such as \"256MiB\""))
}

/// A number, whole or not.
pub(super) fn number(value: &Value) -> Result<f64, String> {
    let number = value.as_float().or_else(|| value.as_integer().map(|number| number as f64));
    number.ok_or_else(|| expected("a number", value))
}

/// A share beside others, in thousandths.
fn weight(value: &Value) -> Result<NonZeroU32, String> {
    let number = number(value)?;
    let thousandths = (0.001..=1000.0).contains(&number).then(|| (number * 1000.0).round() as u32);
    let thousandths = thousandths.and_then(NonZeroU32::new);
    thousandths.ok_or_else(|| format!("must be from 0.001 to 1000, got {number}; 1 is the usual share"))
}

pub(super) fn duration(value: &Value) -> Result<Duration, String> {
    match value {
        Value::String(text) => parse_duration(text),
        // The same words that a quoted number gets.
        Value::Integer(_) | Value::Float(_) => parse_duration(&value.to_string()),
        _ => Err(expected("a duration such as \"50ms\"", value)),
    }
}

pub(super) fn positive_duration(value: &Value) -> Result<Duration, String> {
    let duration = duration(value)?;
    if duration.is_zero() {
        return Err("must be longer than zero; leave the key out to set none".to_owned());
    }
    Ok(duration)
}

fn runtime(value: &Value) -> Result<RuntimeChoice, String> {
    let name = text_of(value)?;
    RuntimeChoice::parse(name).ok_or_else(|| {
        let names = RuntimeChoice::ALL.map(RuntimeChoice::name).join(", ");
        format!("unknown runtime '{name}', expected one of {names}")
    })
}

fn datatype(value: &Value) -> Result<DataType, String> {
    text_of(value)?.parse::<DataType>().map_err(|error| error.to_string())
}

fn table_of(value: &Value) -> Result<&Table, String> {
    value.as_table().ok_or_else(|| expected("a table with bytes_max", value))
}

fn tables(value: &Value) -> Result<Vec<&Table>, String> {
    let tables = value.as_array().and_then(|items| items.iter().map(Value::as_table).collect());
    tables.ok_or_else(|| "expected tables, each headed [[inputs]] or [[outputs]]".to_owned())
}

/// Sizes; -1 or a name for a dynamic dimension. Dimensions of one name are equal within a request.
fn shape(value: &Value) -> Result<Vec<Dim>, String> {
    let dims = value.as_array().ok_or_else(|| expected("an array such as [-1, 3, 224, 224]", value))?;
    dims.iter()
        .map(|dim| match dim {
            Value::Integer(-1) => Ok(Dim::ANY),
            Value::Integer(size @ 1..) => Ok(Dim::from_wire(*size)),
            Value::String(name) if !name.is_empty() => Ok(Dim::Dynamic(Some(name.as_str().into()))),
            _ => Err(format!("{dim} is no dimension: expected a size of at least 1, -1 for any, or a name")),
        })
        .collect()
}

fn version_policy(value: &Value) -> Result<VersionPolicy, String> {
    let wrong =
        || format!("{value} is no choice of versions: expected \"latest\", \"all\", {{ latest = 2 }} or [1, 3]");
    match value {
        Value::String(word) if word == "latest" => Ok(VersionPolicy::default()),
        Value::String(word) if word == "all" => Ok(VersionPolicy::All),
        Value::Table(table) if table.len() == 1 => {
            table.get("latest").ok_or_else(wrong).and_then(positive).map(VersionPolicy::Latest)
        }
        Value::Array(numbers) if !numbers.is_empty() => {
            let version = |number: &Value| {
                let number = number.as_integer().and_then(|number| u64::try_from(number).ok());
                number.and_then(Version::new).ok_or_else(wrong)
            };
            let mut versions = numbers.iter().map(version).collect::<Result<Vec<_>, _>>()?;
            versions.sort_unstable();
            versions.dedup();
            Ok(VersionPolicy::Specific(versions))
        }
        _ => Err(wrong()),
    }
}
