//! Metrics and logs: a registry, typed handles to its metrics, and the set-up of `tracing`.
//!
//! Handles are looked up when a model is loaded, never on the request path. No global registry: two servers can live in one
//! process.

mod doors;
mod gpus;
mod known;
mod logs;
mod metrics;
mod of_model;
mod process;
mod spent;
mod statistics;
mod storage;
mod text;
mod trace;
mod traffic;
mod triton;

pub use doors::{ConnectionEnd, DoorMetrics};
pub use gpus::GpuTold;
pub use known::{Known, KnownPoint};
pub use logs::{LogFormat, LogSetting, LogSettings, change_logs, init as init_logs, log_settings};
pub use metrics::{DropCounter, Telemetry};
pub use of_model::{ModelMetrics, RequestTimer};
pub use spent::{Loading, Spent};
pub use statistics::{BatchSize, BatchSpent, Counted, Statistics, Summary};
pub use storage::StorageMetrics;
pub use trace::{TraceSetting, TraceSettings, TraceSinks, TraceTo};
pub use traffic::{CanaryTold, ComparedTold, TrafficTold};
