//! What a decision looks at: what is set for a revision, and what was seen of it.

use std::time::Duration;

use crate::model::Model;

/// The least time for which the highest need counts before replicas go, beside the time of a start.
pub const HOLD: Duration = Duration::from_secs(60);

/// The bounds of the replicas. The upper one goes before the lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// minReplicas; 0 lets the last one go.
    pub min: u32,
    /// maxReplicas.
    pub max: u32,
}

/// What a replica is to be loaded to, where somebody has set it (scaleMetric and scaleTarget).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Requests in flight.
    Concurrency(f64),
    /// Requests per second.
    Rate(f64),
}

/// What is set for a revision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The bounds.
    pub bounds: Bounds,
    /// In place of what the servers learned.
    pub target: Option<Target>,
    /// How much heavier bursts are taken to be than they are measured; 1 but where the effect of an error is looked at.
    pub bursts: f64,
    /// The least time for which the highest need counts before replicas go.
    pub hold: Duration,
    /// How long nobody has to have asked for the last replica to go, where somebody has set it; without it, it goes where the
    /// objective is kept all the same, see [`crate::idle`].
    pub idle: Option<Duration>,
}

impl Settings {
    /// Within bounds, by what the servers learned.
    pub fn within(min: u32, max: u32) -> Self {
        Self { bounds: Bounds { min, max }, target: None, bursts: 1.0, hold: HOLD, idle: None }
    }
}

/// What was seen since the last decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Replicas that are asked for now.
    pub current: u32,
    /// Pods that are ready.
    pub ready: u32,
    /// Pods that fail again and again.
    pub failing: u32,
    /// Ready pods whose metrics were read.
    pub reporting: u32,
    /// Rows that have arrived at those since the last decision, refused ones included.
    pub arrived: f64,
    /// Rows that wait at those.
    pub waiting: f64,
    /// Requests in flight at those, waiting ones included.
    pub in_flight: f64,
    /// Requests that ended at those since the last decision.
    pub ended: f64,
    /// Of them, those that were answered late, or refused for want of time.
    pub bad: f64,
    /// Requests that wait for a first replica, and those that came for one since the last decision.
    pub held: f64,
    /// See `held`.
    pub held_arrived: f64,
    /// What the servers have learned.
    pub model: Option<Model>,
    /// How long the pods took that became ready since the last decision.
    pub starts: Vec<Duration>,
}
