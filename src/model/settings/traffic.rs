//! The `[traffic]` table of `model.toml`, and the same as the body of a request: one reader, one set of rules.

use std::time::Duration;

use ::toml::{Table, Value};

use super::toml::{Section, duration, expected, number, positive, positive_duration, text_of};
use super::{Fault, without_mark};
use crate::model::Version;
use crate::model::traffic::{
    CanarySettings, CompareBy, CompareSettings, STEPS_MAX, ShadowSettings, Sticky, TrafficSettings, WEIGHTS_MAX,
};

/// More than anybody needs to tell shares apart.
const WEIGHT_MAX: f64 = 1_000_000.0;

/// A judgement costs microseconds, and counts of less time than this tell nothing.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Bytes of the name of a header or cookie.
const NAME_BYTES_MAX: usize = 128;

impl TrafficSettings {
    /// The settings in a JSON object, with the keys and rules of the table.
    ///
    /// # Errors
    /// What is wrong with the JSON, or every fault of the content.
    pub fn from_json(text: &str) -> Result<Self, Vec<Fault>> {
        let table: Table = serde_json::from_str(without_mark(text)?).map_err(|cause| {
            let key = format!("line {}", cause.line());
            vec![Fault::new(key, format!("expected a JSON object without null, {cause}"))]
        })?;
        let mut faults = Vec::new();
        let settings = read(&table, "", &mut faults);
        if faults.is_empty() { Ok(settings) } else { Err(faults) }
    }
}

/// Reads `table`; `path` stands before a key in a fault.
pub(super) fn read(table: &Table, path: &str, faults: &mut Vec<Fault>) -> TrafficSettings {
    let mut section = Section::new(table, path, faults);
    let weights = section.take("weights", weights).unwrap_or_default();
    let sticky = section.take("sticky", sticky);
    let [shadow, canary, compare] = ["shadow", "canary", "compare"].map(|key| section.take(key, inner));
    section.refuse_unknown();
    let shadow = shadow.and_then(|table| shadow_of(table, &format!("{path}shadow."), faults));
    let canary = canary.and_then(|table| canary_of(table, &format!("{path}canary."), faults));
    let compare = compare.map(|table| compare_of(table, &format!("{path}compare."), faults)).unwrap_or_default();
    let settings = TrafficSettings { weights, sticky, shadow, canary, compare };
    faults.extend(contradictions(&settings).map(|(key, message)| Fault::new(format!("{path}{key}"), message)));
    settings
}

fn inner(value: &Value) -> Result<&Table, String> {
    value.as_table().ok_or_else(|| expected("a table", value))
}

/// What goes wrong only together.
fn contradictions(settings: &TrafficSettings) -> impl Iterator<Item = (&'static str, String)> {
    let mut found = Vec::new();
    let TrafficSettings { weights, shadow, canary, .. } = settings;
    if let Some(canary) = canary {
        if !weights.is_empty() {
            found.push(("weights", "not beside a canary, which sets them itself: leave one of the two out".to_owned()));
        }
        if canary.stable == Some(canary.version) {
            found.push(("canary.stable", format!("version {} is the canary itself", canary.version)));
        }
    }
    if let Some(ShadowSettings { version, .. }) = shadow {
        if weights.iter().any(|(known, weight)| known == version && *weight > 0.0) {
            found.push(("shadow.version", format!("version {version} has a weight, but a shadow answers nobody")));
        }
        if canary.as_ref().is_some_and(|canary| canary.version == *version || canary.stable == Some(*version)) {
            found.push(("shadow.version", format!("version {version} answers already, as the canary or its stable")));
        }
    }
    found.into_iter()
}

fn shadow_of(table: &Table, path: &str, faults: &mut Vec<Fault>) -> Option<ShadowSettings> {
    let mut section = Section::new(table, path, faults);
    let named = section.take("version", version);
    let share = section.take("share", share).unwrap_or(crate::model::traffic::SHARE);
    section.refuse_unknown();
    missing_version(table, path, faults);
    named.map(|version| ShadowSettings { version, share })
}

fn canary_of(table: &Table, path: &str, faults: &mut Vec<Fault>) -> Option<CanarySettings> {
    let mut section = Section::new(table, path, faults);
    let named = section.take("version", version);
    // The defaults are of no version in particular.
    let defaults = CanarySettings::new(named.unwrap_or(Version::ONE));
    let canary = CanarySettings {
        version: defaults.version,
        stable: section.take("stable", version),
        steps: section.take("steps", steps).unwrap_or(defaults.steps),
        step_requests: section.take("step_requests", positive).map_or(defaults.step_requests, |n| n.get() as u64),
        step_time: section.take("step_time", duration).unwrap_or(defaults.step_time),
        interval: section.take("interval", interval).unwrap_or(defaults.interval),
        errors: section.take("errors", tolerance).unwrap_or(defaults.errors),
        late: section.take("late", tolerance).unwrap_or(defaults.late),
        latency: section.take("latency", times).unwrap_or(defaults.latency),
        disagreement: section.take("disagreement", bound),
        share: section.take("share", share).unwrap_or(defaults.share),
    };
    section.refuse_unknown();
    missing_version(table, path, faults);
    named.map(|_| canary)
}

fn missing_version(table: &Table, path: &str, faults: &mut Vec<Fault>) {
    if !table.contains_key("version") {
        faults.push(Fault::new(format!("{path}version"), "missing: the version that is meant"));
    }
}

fn compare_of(table: &Table, path: &str, faults: &mut Vec<Fault>) -> CompareSettings {
    let mut section = Section::new(table, path, faults);
    let defaults = CompareSettings::default();
    let compare = CompareSettings {
        by: section.take("by", compare_by).unwrap_or(defaults.by),
        absolute: section.take("absolute", difference).unwrap_or(defaults.absolute),
        relative: section.take("relative", difference).unwrap_or(defaults.relative),
    };
    section.refuse_unknown();
    compare
}

fn compare_by(value: &Value) -> Result<CompareBy, String> {
    match text_of(value)? {
        "values" => Ok(CompareBy::Values),
        "argmax" => Ok(CompareBy::Argmax),
        other => Err(format!("unknown way '{}', expected \"values\" or \"argmax\"", shown(other))),
    }
}

/// A version as a number, or as the string that the wire has.
fn version(value: &Value) -> Result<Version, String> {
    let version = match value {
        Value::Integer(number) => u64::try_from(*number).ok().and_then(Version::new),
        Value::String(text) => Version::parse(text),
        _ => None,
    };
    version.ok_or_else(|| format!("{} is no version, expected a whole number from 1", shown(&value.to_string())))
}

fn weights(value: &Value) -> Result<Vec<(Version, f64)>, String> {
    let table = value.as_table().ok_or_else(|| expected("a table of versions such as { 1 = 90, 2 = 10 }", value))?;
    if table.is_empty() || table.len() > WEIGHTS_MAX {
        return Err(format!("{} versions have weights, expected 1 to {WEIGHTS_MAX}", table.len()));
    }
    let mut weights = Vec::with_capacity(table.len());
    for (key, weight) in table {
        let version = Version::parse(key).ok_or_else(|| format!("'{}' is no version", shown(key)))?;
        let weight = between(weight, 0.0, WEIGHT_MAX).map_err(|fault| format!("version {version}: {fault}"))?;
        weights.push((version, weight));
    }
    weights.sort_unstable_by_key(|(version, _)| *version);
    if weights.iter().all(|(_, weight)| *weight == 0.0) {
        return Err("all are 0, at least one version has to answer".to_owned());
    }
    Ok(weights)
}

fn sticky(value: &Value) -> Result<Sticky, String> {
    let wrong = || {
        format!(
            "{} names no place, expected {{ header = \"x-user\" }} or {{ cookie = \"session\" }}",
            shown(&value.to_string())
        )
    };
    let table = value.as_table().filter(|table| table.len() == 1).ok_or_else(wrong)?;
    let (place, name) = table.iter().next().ok_or_else(wrong)?;
    let name = text_of(name)?;
    // Tokens of RFC 9110, section 5.6.2: the names of headers, and of cookies (RFC 6265, section 4.1.1).
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.len() > NAME_BYTES_MAX || !name.bytes().all(is_token) {
        return Err(format!("'{}' is no name of a {}", shown(name), shown(place)));
    }
    match place.as_str() {
        "header" => Ok(Sticky::Header(name.to_ascii_lowercase())),
        "cookie" => Ok(Sticky::Cookie(name.to_owned())),
        _ => Err(wrong()),
    }
}

fn steps(value: &Value) -> Result<Vec<f64>, String> {
    let list = value.as_array().ok_or_else(|| expected("a list of percentages such as [1, 5, 25, 50]", value))?;
    let mut steps = list.iter().map(|step| between(step, 0.0, 100.0)).collect::<Result<Vec<f64>, _>>()?;
    // All of it is what follows the last step anyway.
    if steps.last() == Some(&100.0) {
        steps.pop();
    }
    let ascend = steps.windows(2).all(|pair| pair[0] < pair[1]);
    if steps.is_empty() || steps.len() > STEPS_MAX || !ascend || steps[0] <= 0.0 {
        return Err(format!("expected 1 to {STEPS_MAX} percentages that ascend, above 0 and below 100"));
    }
    Ok(steps)
}

fn share(value: &Value) -> Result<f64, String> {
    let share = between(value, 0.0, 1.0)?;
    if share > 0.0 { Ok(share) } else { Err("must be above 0; leave the table out to mirror nothing".to_owned()) }
}

/// How much more of something is tolerated.
fn tolerance(value: &Value) -> Result<f64, String> {
    between(value, 0.0, 0.5)
}

/// How much of something is tolerated. None at all cannot be shown by any number of requests.
fn bound(value: &Value) -> Result<f64, String> {
    between(value, 0.0001, 0.9)
}

fn times(value: &Value) -> Result<f64, String> {
    between(value, 1.0, 1000.0)
}

fn difference(value: &Value) -> Result<f64, String> {
    between(value, 0.0, f64::MAX)
}

fn interval(value: &Value) -> Result<Duration, String> {
    let interval = positive_duration(value)?;
    if interval < INTERVAL_MIN {
        return Err(format!("must be at least {INTERVAL_MIN:?}, in less nothing can be told"));
    }
    Ok(interval)
}

fn between(value: &Value, from: f64, to: f64) -> Result<f64, String> {
    let given = number(value)?;
    if (from..=to).contains(&given) {
        return Ok(given);
    }
    let to = if to == f64::MAX { String::new() } else { format!(" to {to}") };
    Err(format!("must be from {from}{to}, got {given}"))
}

fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}
