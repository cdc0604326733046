//! Tensorgate: a KServe-compatible model inference server whose only knob is the latency objective.
//!
//! ARCHITECTURE.md tells the way through this crate; each room's module says what it does and what it does not.

pub use tensorgate_contract as contract;
pub use tensorgate_contract::{capacity, compare, verdict};

pub mod app;
pub mod config;
pub mod devices;
pub mod error;
pub mod export;
pub mod infer;
pub mod model;
pub mod protocol;
pub mod repository;
pub mod runtime;
pub mod scheduler;
pub mod server;
pub mod service;
pub mod shared_memory;
pub mod storage;
pub mod telemetry;
pub mod tensor;
pub mod text;
