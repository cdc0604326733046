//! How requests are shared out between versions, told when somebody asks.

use super::text::Text;
use crate::contract::metrics as names;

/// The states of a canary.
const STATES: [&str; 3] = ["running", "promoted", "rolled_back"];

/// The traffic of one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficTold {
    /// The model.
    pub model: String,
    /// The share of each version that is ready.
    pub shares: Vec<(String, f64)>,
    /// Versions whose answers are compared.
    pub compared: Vec<ComparedTold>,
    /// The guarded canary.
    pub canary: Option<CanaryTold>,
}

/// What comparing a version's answers has come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ComparedTold {
    /// The version.
    pub version: String,
    /// Mirrored requests by outcome.
    pub outcomes: [(&'static str, u64); 4],
    /// The largest difference of two elements.
    pub difference: f64,
    /// Rows whose largest elements are at the same place, and all.
    pub argmax: (u64, u64),
}

/// Where a canary is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CanaryTold {
    /// The version.
    pub version: String,
    /// Its state.
    pub state: &'static str,
    /// Its step.
    pub step: usize,
}

pub(super) fn write(told: &[TrafficTold], text: &mut Text) {
    if told.is_empty() {
        return;
    }
    text.family(names::TRAFFIC_SHARE, "gauge", "The share of the requests that name no version");
    for traffic in told {
        for (version, share) in &traffic.shares {
            text.sample(names::TRAFFIC_SHARE, &[("model", &traffic.model), ("version", version)], share);
        }
    }
    write_compared(told, text);
    let canaries = || told.iter().filter_map(|traffic| Some((&traffic.model, traffic.canary.as_ref()?)));
    if canaries().next().is_none() {
        return;
    }
    text.family(names::CANARY_STATE, "gauge", "1 for the state that a guarded canary is in");
    for (model, canary) in canaries() {
        for state in STATES {
            let labels = [("model", model.as_str()), ("version", &canary.version), ("state", state)];
            text.sample(names::CANARY_STATE, &labels, u8::from(state == canary.state));
        }
    }
    text.family(names::CANARY_STEP, "gauge", "The step that a guarded canary is at");
    for (model, canary) in canaries() {
        text.sample(names::CANARY_STEP, &[("model", model), ("version", &canary.version)], canary.step);
    }
}

fn write_compared(told: &[TrafficTold], text: &mut Text) {
    let compared = || told.iter().flat_map(|told| told.compared.iter().map(move |compared| (&told.model, compared)));
    if compared().next().is_none() {
        return;
    }
    text.family(names::MIRRORED, "counter", "Requests that a version was asked too, for comparison");
    for (model, compared) in compared() {
        for (outcome, count) in compared.outcomes {
            let labels = [("model", model.as_str()), ("version", &compared.version), ("outcome", outcome)];
            text.sample(names::MIRRORED, &labels, count);
        }
    }
    text.family(names::MIRRORED_DIFFERENCE, "gauge", "The largest difference of two elements");
    for (model, compared) in compared() {
        let labels = [("model", model.as_str()), ("version", &compared.version)];
        text.sample(names::MIRRORED_DIFFERENCE, &labels, compared.difference);
    }
    text.family(names::MIRRORED_ARGMAX, "counter", "Rows compared by the place of their largest element");
    for (model, compared) in compared() {
        let (same, all) = compared.argmax;
        for (is_same, count) in [("true", same), ("false", all - same)] {
            let labels = [("model", model.as_str()), ("version", &compared.version), ("same", is_same)];
            text.sample(names::MIRRORED_ARGMAX, &labels, count);
        }
    }
}
