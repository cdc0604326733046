//! The bodies of `/v2/models/{model}/traffic`: what is set, and what is told.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::model::traffic::{CanarySettings, CompareBy, CompareSettings, ShadowSettings, Sticky, TrafficSettings};

/// The traffic that a `PUT` asks for, with the keys and rules of the `[traffic]` table of `model.toml`; `{}` has the newest version
/// answer.
///
/// # Errors
/// [`crate::error::Kind::InvalidRequest`] with every fault.
pub fn decode_traffic(body: &[u8]) -> Result<TrafficSettings> {
    let text = std::str::from_utf8(body).map_err(|cause| Error::invalid(format!("the body is not UTF-8: {cause}")))?;
    TrafficSettings::from_json(text).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Error::invalid(faults.join("; "))
    })
}

/// The answer to all of them.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct TrafficAnswer {
    pub model_name: String,
    /// "newest", "settings" or "set".
    pub source: &'static str,
    pub settings: TrafficBody,
    pub versions: Vec<VersionShare>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryAnswer>,
}

/// The settings as a `PUT` would send them.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct TrafficBody {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<StickyBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare: Option<CompareBody>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum StickyBody {
    Header(String),
    Cookie(String),
}

#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct ShadowBody {
    pub version: String,
    pub share: f64,
}

#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct CanaryBody {
    pub version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<String>,
    pub steps: Vec<f64>,
    pub step_requests: u64,
    pub step_time: String,
    pub interval: String,
    pub errors: f64,
    pub late: f64,
    pub latency: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disagreement: Option<f64>,
    pub share: f64,
}

#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct CompareBody {
    pub by: &'static str,
    pub absolute: f64,
    pub relative: f64,
}

/// One version: its state, its weight now, and the share of the requests that it gets as things are.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct VersionShare {
    pub version: String,
    pub state: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    pub weight: f64,
    pub share: f64,
}

/// What the shadow has shown.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct ShadowAnswer {
    pub version: String,
    pub share: f64,
    #[serde(flatten)]
    pub compared: ComparedAnswer,
}

/// What comparing answers has come to.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct ComparedAnswer {
    pub agreed: u64,
    pub disagreed: u64,
    pub failed: u64,
    pub not_run: u64,
    pub dropped: u64,
    pub other_outputs: u64,
    pub other_datatypes: u64,
    pub other_shapes: u64,
    pub not_finite: u64,
    pub difference_max: f64,
    pub relative_difference_max: f64,
    /// The ratio of rows whose largest elements are at the same place, where there were rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argmax_agreement: Option<f64>,
    /// Means over the compared answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirrored_seconds: Option<f64>,
}

/// Where the canary is, and why.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct CanaryAnswer {
    pub version: String,
    pub stable: String,
    pub state: &'static str,
    /// From 1, while it is running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    pub percent: f64,
    pub steps: Vec<f64>,
    pub reason: String,
    pub conditions: Vec<ConditionAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<ComparedAnswer>,
}

/// How a condition stands in this step.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct ConditionAnswer {
    pub name: &'static str,
    /// "open", "good" or "bad".
    pub verdict: &'static str,
    pub evidence: String,
}

impl From<&TrafficSettings> for TrafficBody {
    fn from(settings: &TrafficSettings) -> Self {
        Self {
            weights: settings.weights.iter().map(|(version, weight)| (version.to_string(), *weight)).collect(),
            sticky: settings.sticky.as_ref().map(|sticky| match sticky {
                Sticky::Header(name) => StickyBody::Header(name.clone()),
                Sticky::Cookie(name) => StickyBody::Cookie(name.clone()),
            }),
            shadow: settings
                .shadow
                .as_ref()
                .map(|ShadowSettings { version, share }| ShadowBody { version: version.to_string(), share: *share }),
            canary: settings.canary.as_ref().map(CanaryBody::from),
            compare: (settings.compare != CompareSettings::default()).then_some(CompareBody {
                by: match settings.compare.by {
                    CompareBy::Values => "values",
                    CompareBy::Argmax => "argmax",
                },
                absolute: settings.compare.absolute,
                relative: settings.compare.relative,
            }),
        }
    }
}

impl From<&CanarySettings> for CanaryBody {
    fn from(canary: &CanarySettings) -> Self {
        // Exact, and read back as the same.
        let duration = |duration: std::time::Duration| match (duration.subsec_nanos(), duration.subsec_micros()) {
            (0, _) => format!("{}s", duration.as_secs()),
            (_, micros) if micros % 1000 == 0 => format!("{}ms", duration.as_millis()),
            _ => format!("{}.{:09}s", duration.as_secs(), duration.subsec_nanos()),
        };
        Self {
            version: canary.version.to_string(),
            stable: canary.stable.map(|stable| stable.to_string()),
            steps: canary.steps.clone(),
            step_requests: canary.step_requests,
            step_time: duration(canary.step_time),
            interval: duration(canary.interval),
            errors: canary.errors,
            late: canary.late,
            latency: canary.latency,
            disagreement: canary.disagreement,
            share: canary.share,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::error::Kind;

    fn decoded(body: &Value) -> Result<TrafficSettings> {
        decode_traffic(body.to_string().as_bytes())
    }

    #[test]
    fn what_is_told_can_be_set() {
        for body in [
            json!({}),
            json!({ "weights": { "1": 90.0, "2": 0.5 }, "sticky": { "header": "x-user" } }),
            json!({ "sticky": { "cookie": "Session" }, "shadow": { "version": "3", "share": 0.25 } }),
            json!({ "canary": { "version": 2, "steps": [0.5, 10, 100], "step_time": "1.5s", "interval": "10ms" } }),
            json!({
                "canary": { "version": "2", "stable": "1", "disagreement": 0.05, "step_requests": 7 },
                "compare": { "by": "argmax", "absolute": 0.1 },
            }),
        ] {
            let settings = decoded(&body).unwrap();
            let told = serde_json::to_value(TrafficBody::from(&settings)).unwrap();
            assert_eq!(decoded(&told).unwrap(), settings, "{told}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once_and_name_their_key() {
        let body = json!({
            "weights": { "0": 1 }, "stiky": 1, "sticky": { "header": "a b" }, "shadow": { "share": 2 },
            "canary": { "version": 2, "stable": "2", "steps": [5, 1], "interval": "1us", "errors": -1, "x": 1 },
        });
        let error = decoded(&body).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidRequest);
        for fault in [
            "weights: '0' is no version",
            "did you mean 'sticky'?",
            "'a b' is no name of a header",
            "shadow.share: must be from 0 to 1, got 2",
            "shadow.version: missing",
            "canary.stable: version 2 is the canary itself",
            "canary.steps: expected 1 to 100 percentages that ascend",
            "canary.interval: must be at least 10ms",
            "canary.errors: must be from 0 to 0.5, got -1",
            "canary.x: unknown key",
        ] {
            assert!(error.message().contains(fault), "{fault} is not in: {error}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (body, fault) in [
            (json!({ "weights": { "1": 0, "2": 0 } }), "at least one version has to answer"),
            (json!({ "weights": {} }), "expected 1 to 16"),
            (json!({ "weights": { "1": 1 }, "canary": { "version": 2 } }), "not beside a canary"),
            (json!({ "weights": { "1": 1 }, "shadow": { "version": 1 } }), "a shadow answers nobody"),
            (json!({ "canary": { "version": 2 }, "shadow": { "version": 2 } }), "answers already"),
            (json!({ "weights": null }), "line 1"),
            (json!([1]), "line 1"),
        ] {
            let error = decoded(&body).unwrap_err();
            assert!(error.message().contains(fault), "{fault} is not in: {error}");
        }
        assert!(decode_traffic(b"{\"weights\": {\"1\": 1}, \"weights\": {\"2\": 1}}").is_err());
        assert!(decode_traffic(b"\xff").is_err() && decode_traffic(b"").is_err());
    }

    proptest! {
        #[test]
        fn no_body_makes_this_panic(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ":", ",", "1", "-1", "1e308", "\"weights\"", "\"1\"", "\"canary\"", "\"version\"",
                    "\"sticky\"", "\"header\"", "\"steps\"", "\"shadow\"", "\"1s\"", "null", "true",
                ]),
                0..24,
            ),
            bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = decode_traffic(words.concat().as_bytes());
            let _ = decode_traffic(&bytes);
        }
    }
}
