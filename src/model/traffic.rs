//! How the requests that name no version are shared out between the versions of a model.

use std::time::Duration;

use super::Version;

/// Versions that may have weights: more than a person can tell apart.
pub const WEIGHTS_MAX: usize = 16;

/// Steps of a canary: one a percent would be a hundred.
pub const STEPS_MAX: usize = 100;

/// The `[traffic]` table of `model.toml`, and the body of `PUT /v2/models/{model}/traffic`. The default shares nothing out: the
/// newest version that is ready answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficSettings {
    /// What each version gets, in proportion to the sum; ascending by version, at least one above zero where there are any.
    /// Empty: all to the newest version that is ready, or to the canary and its stable.
    pub weights: Vec<(Version, f64)>,
    /// What keeps a caller at a version.
    pub sticky: Option<Sticky>,
    /// A version that answers nobody, but is asked too.
    pub shadow: Option<ShadowSettings>,
    /// A version that takes over by and by.
    pub canary: Option<CanarySettings>,
    /// When two answers are the same.
    pub compare: CompareSettings,
}

/// No number in there is NaN: none is read that is not within bounds.
impl Eq for TrafficSettings {}

impl TrafficSettings {
    /// The versions that are named, each once.
    pub fn named(&self) -> Vec<Version> {
        let canary = self.canary.iter().flat_map(|canary| canary.stable.into_iter().chain([canary.version]));
        let shadow = self.shadow.iter().map(|shadow| shadow.version);
        let mut named: Vec<Version> =
            self.weights.iter().map(|(version, _)| *version).chain(canary).chain(shadow).collect();
        named.sort_unstable();
        named.dedup();
        named
    }
}

/// Where the key is that keeps a caller at a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// The value of this header, or over gRPC of this metadata; in lower case.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
}

/// A version whose answers are compared and thrown away.
#[derive(Clone, Debug, PartialEq)]
pub struct ShadowSettings {
    /// Which one.
    pub version: Version,
    /// The share of the requests that it is asked too, above 0, at most 1. Default 0.1.
    pub share: f64,
}

/// The share that is mirrored where none is stated: ten of a hundred requests tell soon enough whether answers differ.
pub const SHARE: f64 = 0.1;

/// What makes two answers the same, and when they are: what the controller compares across pods by, too.
pub use crate::compare::{By as CompareBy, Tolerance as CompareSettings};

/// A version that takes over by steps, as long as it is as good as the one that serves.
#[derive(Clone, Debug, PartialEq)]
pub struct CanarySettings {
    /// The version that takes over.
    pub version: Version,
    /// The one that it takes over from. Without it, the newest other one that is ready, else that
    /// there is.
    pub stable: Option<Version>,
    /// The percentages that it gets one after the other, ascending, above 0 and below 100; all after the last. Default 1, 5, 25, 50.
    pub steps: Vec<f64>,
    /// Requests that it has to answer in a step. Default 100.
    pub step_requests: u64,
    /// How long a step takes at least. Default one minute: what shows only after a while has a while.
    pub step_time: Duration,
    /// How often it is judged. Default one second.
    pub interval: Duration,
    /// How much more of its requests than of the stable's may fail, as a ratio. Default 0.01.
    pub errors: f64,
    /// How much more may be answered later than the objective. Default 0.01.
    pub late: f64,
    /// How many times as long as the stable's its answers may take, told by the stable's 90th percentile; at least 1. Default
    /// 1.5.
    pub latency: f64,
    /// How many of its answers may differ from the stable's, as a ratio; where it is left out, any.
    pub disagreement: Option<f64>,
    /// The share of the stable's requests that it is asked too, where answers are compared. Default 0.1.
    pub share: f64,
}

impl CanarySettings {
    /// The defaults, for `version`.
    pub fn new(version: Version) -> Self {
        Self {
            version,
            stable: None,
            steps: vec![1.0, 5.0, 25.0, 50.0],
            step_requests: 100,
            step_time: Duration::from_secs(60),
            interval: Duration::from_secs(1),
            errors: 0.01,
            late: 0.01,
            latency: 1.5,
            disagreement: None,
            share: SHARE,
        }
    }
}
