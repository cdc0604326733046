//! Settings of the trace extension: the server's, and what models have of their own.
//!
//! They are kept and told as Triton tells them, so that its clients can set them. No trace is written yet: who switches one
//! on finds that in the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// Names and defaults, in the order in which Triton tells them.
const DEFAULTS: [(&str, &str); 6] = [
    ("trace_level", "OFF"),
    ("trace_rate", "1000"),
    ("trace_count", "-1"),
    ("log_frequency", "0"),
    ("trace_file", ""),
    ("trace_mode", "triton"),
];

const LEVELS: [&str; 3] = ["OFF", "TIMESTAMPS", "TENSORS"];

/// One setting as it holds: `trace_level` is a list, the others have one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSetting {
    /// Its name on the wire.
    pub name: &'static str,
    /// Its values.
    pub values: Vec<String>,
}

impl TraceSetting {
    /// Whether it is told as a list.
    pub fn is_list(&self) -> bool {
        self.name == "trace_level"
    }
}

type Given = BTreeMap<&'static str, Vec<String>>;

#[derive(Default)]
struct Inner {
    server: Given,
    models: BTreeMap<String, Given>,
}

/// All of them. What a model does not set is the server's, what the server does not set has its default.
#[derive(Default)]
pub struct TraceSettings {
    inner: Mutex<Inner>,
}

impl TraceSettings {
    /// What holds for `model`, or for the server.
    pub fn of(&self, model: Option<&str>) -> Vec<TraceSetting> {
        let inner = self.lock();
        let own = model.and_then(|model| inner.models.get(model));
        let setting = |(name, default): (&'static str, &str)| {
            let given = own.and_then(|own| own.get(name)).or_else(|| inner.server.get(name));
            TraceSetting { name, values: given.cloned().unwrap_or_else(|| vec![default.into()]) }
        };
        DEFAULTS.map(setting).into()
    }

    /// Sets each name to its values, or takes it back where there are none. All of `changes` or none is done.
    ///
    /// `model` has to be one that there is, which the caller checks: the table grows by the names given.
    ///
    /// # Errors
    /// `InvalidRequest` for a name or value that is none; `Unsupported` for what cannot be set over the network.
    pub fn change(&self, model: Option<&str>, changes: Vec<(String, Vec<String>)>) -> Result<()> {
        let checked: Vec<_> = changes.into_iter().map(checked).collect::<Result<_>>()?;
        if checked.iter().any(|(name, values)| *name == "trace_level" && values.iter().any(|level| level != "OFF")) {
            tracing::warn!(model, "tracing was switched on: the settings are kept, but no trace is written");
        }
        let mut inner = self.lock();
        let given = match model {
            Some(model) => inner.models.entry(model.to_owned()).or_default(),
            None => &mut inner.server,
        };
        for (name, values) in checked {
            if values.is_empty() {
                given.remove(name);
            } else {
                given.insert(name, values);
            }
        }
        Ok(())
    }

    /// Drops the settings of a model that is gone.
    pub fn forget(&self, model: &str) {
        self.lock().models.remove(model);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn checked((name, values): (String, Vec<String>)) -> Result<(&'static str, Vec<String>)> {
    let Some((name, _)) = DEFAULTS.into_iter().find(|(known, _)| *known == name) else {
        let known = DEFAULTS.map(|(name, _)| name).join(", ");
        return Err(Error::invalid(format!("unknown trace setting '{name}', expected one of {known}")));
    };
    if values.is_empty() {
        return Ok((name, values));
    }
    if matches!(name, "trace_file" | "trace_mode") {
        return Err(Error::unsupported(format!("trace setting '{name}' cannot be changed over the network")));
    }
    let fits = match name {
        "trace_level" => {
            let known = values.iter().all(|level| LEVELS.contains(&level.as_str()));
            known && (values.len() == 1 || values.iter().all(|level| level != "OFF"))
        }
        "trace_count" => one(&values).is_some_and(|count| count >= -1),
        _ => one(&values).is_some_and(|number| (0..=i64::from(u32::MAX)).contains(&number)),
    };
    if fits {
        return Ok((name, values));
    }
    let expected = match name {
        "trace_level" => "OFF, or some of TIMESTAMPS and TENSORS",
        "trace_count" => "a whole number from -1, which stands for no limit",
        _ => "a whole number from 0",
    };
    Err(Error::invalid(format!("trace setting '{name}' is {values:?}, expected {expected}")))
}

fn one(values: &[String]) -> Option<i64> {
    let [value] = values else { return None };
    value.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn set(name: &str, values: &[&str]) -> Vec<(String, Vec<String>)> {
        vec![(name.into(), values.iter().map(ToString::to_string).collect())]
    }

    fn value(settings: &TraceSettings, model: Option<&str>, name: &str) -> String {
        let all = settings.of(model);
        all.into_iter().find(|setting| setting.name == name).unwrap().values.join("+")
    }

    #[test]
    fn a_model_has_the_servers_settings_until_it_has_its_own() {
        let settings = TraceSettings::default();
        assert_eq!(value(&settings, Some("m"), "trace_rate"), "1000");
        settings.change(None, set("trace_rate", &["5"])).unwrap();
        assert_eq!(value(&settings, Some("m"), "trace_rate"), "5");
        settings.change(Some("m"), set("trace_rate", &["7"])).unwrap();
        assert_eq!(
            (value(&settings, Some("m"), "trace_rate"), value(&settings, None, "trace_rate")),
            ("7".into(), "5".into())
        );
        settings.change(Some("m"), set("trace_rate", &[])).unwrap();
        settings.change(None, set("trace_rate", &[])).unwrap();
        assert_eq!(value(&settings, Some("m"), "trace_rate"), "1000");
    }

    #[test]
    fn values_that_are_none_change_nothing() {
        let settings = TraceSettings::default();
        for (name, values, kind) in [
            ("trace_level", &["LOUD"][..], Kind::InvalidRequest),
            ("trace_level", &["OFF", "TENSORS"], Kind::InvalidRequest),
            ("trace_rate", &["-1"], Kind::InvalidRequest),
            ("trace_rate", &["1", "2"], Kind::InvalidRequest),
            ("trace_count", &["-2"], Kind::InvalidRequest),
            ("log_frequency", &["often"], Kind::InvalidRequest),
            ("trace_colour", &["red"], Kind::InvalidRequest),
            ("trace_file", &["/tmp/x"], Kind::Unsupported),
        ] {
            let mut changes = set("trace_count", &["9"]);
            changes.extend(set(name, values));
            let error = settings.change(None, changes).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains(name), "{error}");
        }
        assert_eq!(settings.of(None), TraceSettings::default().of(None));
        settings.change(None, set("trace_level", &["TIMESTAMPS", "TENSORS"])).unwrap();
        assert_eq!(value(&settings, None, "trace_level"), "TIMESTAMPS+TENSORS");
    }
}
