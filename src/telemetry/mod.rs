//! Metrics and logs: a registry, typed handles to its metrics, and the set-up of `tracing`.
//!
//! Handles are looked up when a model is loaded, never on the request path. No global registry: two servers can live in one
//! process.

mod doors;
mod logs;
mod metrics;
mod process;
mod text;
mod triton;

pub use doors::DoorMetrics;
pub use logs::{LogFormat, init as init_logs};
pub use metrics::{DropCounter, ModelMetrics, RequestTimer, Telemetry};
