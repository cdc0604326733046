//! Flags of what is told about requests.

use std::path::PathBuf;

use clap::Args;

/// Flags of the access log, traces and payloads.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Telemetry")]
pub struct WatchFlags {
    /// One JSON line for each request, into this file; "-" for standard output
    #[arg(long, value_name = "FILE", env = "TENSORGATE_ACCESS_LOG")]
    pub access_log: Option<PathBuf>,

    /// Send spans by OTLP over HTTP to this collector: http://host[:4318][/v1/traces]
    #[arg(long, value_name = "URL", env = "TENSORGATE_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,

    /// The share of traces recorded where the caller's traceparent does not say, 0 to 1 [default: 0.1]
    #[arg(long, value_name = "RATIO", env = "TENSORGATE_TRACE_RATIO")]
    pub trace_ratio: Option<f64>,

    /// Send payloads of inference over HTTP to this address, as CloudEvents like KServe's logger: http://host[:port][/path]
    #[arg(long, value_name = "URL", env = "TENSORGATE_PAYLOAD_LOG")]
    pub payload_log: Option<String>,

    /// Which payloads: all, request or response [default: all]
    #[arg(long, value_name = "MODE", env = "TENSORGATE_PAYLOAD_LOG_MODE")]
    pub payload_log_mode: Option<String>,

    /// The share of requests whose payloads are sent, 0 to 1 [default: 1]
    #[arg(long, value_name = "RATIO", env = "TENSORGATE_PAYLOAD_LOG_RATIO")]
    pub payload_log_ratio: Option<f64>,
}
