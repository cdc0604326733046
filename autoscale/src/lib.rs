//! How many replicas a model needs so that its requests are answered within the latency objective.
//!
//! [`decide`] is pure: settings, state, what was seen since the last time, and the time, to a number of replicas, the next state
//! and why. The controller drives it with the real time; [`simulate`] drives the same function with a virtual one, beside the
//! rules of other autoscalers. Times are durations since any start that the caller keeps to. Knows no cluster and no metrics'
//! text.

pub mod chain;
pub mod decide;
pub mod demand;
pub mod idle;
pub mod model;
pub mod needs;
pub mod plan;
pub mod reasons;
pub mod sample;
pub mod simulate;
pub mod trim;

pub use decide::{Memory, State, decide};
pub use model::Model;
pub use plan::Plan;
pub use reasons::{Cause, Reasons};
pub use sample::{Bounds, Sample, Settings, Target};
