//! The trace and logging extensions: `GET` tells the settings, `POST` changes some and tells all.

use http::{Method, Response, StatusCode};
use serde_json::{Map, Value};

use super::answers::read_json;
use super::as_json;
use crate::error::{Error, Result};
use crate::server::Doors;
use crate::server::body::ResponseBody;
use crate::telemetry::{LogSetting, TraceSetting, change_logs, log_settings};

pub(super) fn trace(
    model: Option<&str>,
    method: &Method,
    body: &[u8],
    doors: &Doors,
) -> Result<Response<ResponseBody>> {
    model.map_or(Ok(()), |model| doors.repository.knows(model))?;
    let traces = doors.telemetry.trace_settings();
    if *method == Method::POST {
        traces.change(model, trace_changes(body)?)?;
    }
    let shown = |setting: TraceSetting| {
        let value = match setting.is_list() {
            true => Value::from(setting.values),
            false => Value::from(setting.values.concat()),
        };
        (setting.name.to_owned(), value)
    };
    Ok(as_json(StatusCode::OK, &traces.of(model).into_iter().map(shown).collect::<Map<_, _>>()))
}

pub(super) fn trace_changes(body: &[u8]) -> Result<Vec<(String, Vec<String>)>> {
    changes(body)?.into_iter().map(trace_values).collect()
}

/// A setting's values: a string, a number, or a list of them; null takes the setting back.
fn trace_values((name, value): (String, Value)) -> Result<(String, Vec<String>)> {
    let one = |value: Value| match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(Error::invalid(format!("trace setting '{name}' is {other}, expected strings"))),
    };
    let values = match value {
        Value::Null => Vec::new(),
        Value::Array(values) => values.into_iter().map(one).collect::<Result<_>>()?,
        value => vec![one(value)?],
    };
    Ok((name, values))
}

pub(super) fn logging(method: &Method, body: &[u8]) -> Result<Response<ResponseBody>> {
    let settings = if *method == Method::POST { change_logs(&log_changes(body)?)? } else { log_settings() };
    let shown = |(name, value): (&str, LogSetting)| {
        let value = match value {
            LogSetting::Switch(on) => on.into(),
            LogSetting::Number(number) => number.into(),
            LogSetting::Text(text) => Value::from(text),
        };
        (name.to_owned(), value)
    };
    Ok(as_json(StatusCode::OK, &settings.list().into_iter().map(shown).collect::<Map<_, _>>()))
}

pub(super) fn log_changes(body: &[u8]) -> Result<Vec<(String, LogSetting)>> {
    changes(body)?.into_iter().map(log_value).collect()
}

fn log_value((name, value): (String, Value)) -> Result<(String, LogSetting)> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    let value = match value {
        Value::Bool(on) => LogSetting::Switch(on),
        Value::String(text) => LogSetting::Text(text),
        other => match number {
            Some(number) => LogSetting::Number(number),
            None => {
                let expected = "true, false, a whole number from 0 or a string";
                return Err(Error::invalid(format!("log setting '{name}' is {other}, expected {expected}")));
            }
        },
    };
    Ok((name, value))
}

fn changes(body: &[u8]) -> Result<Map<String, Value>> {
    if body.is_empty() { Ok(Map::new()) } else { read_json(body) }
}
