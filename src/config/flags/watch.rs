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

    /// Where clients may have traces written in Triton's form, by the trace extension: this directory alone
    #[arg(long, value_name = "DIR", env = "TENSORGATE_TRACE_DIR")]
    pub trace_dir: Option<PathBuf>,

    /// Send payloads of inference to this address, as CloudEvents like KServe's logger: http://host[:port][/path]
    #[arg(long, value_name = "URL", env = "TENSORGATE_PAYLOAD_LOG")]
    pub payload_log: Option<String>,

    /// Which payloads: all, request or response [default: all]
    #[arg(long, value_name = "MODE", env = "TENSORGATE_PAYLOAD_LOG_MODE")]
    pub payload_log_mode: Option<String>,

    /// The share of requests whose payloads are sent, 0 to 1 [default: 1]
    #[arg(long, value_name = "RATIO", env = "TENSORGATE_PAYLOAD_LOG_RATIO")]
    pub payload_log_ratio: Option<f64>,

    /// What the events are told to be from (ce-source) [default: tensorgate]
    #[arg(long, value_name = "URI", env = "TENSORGATE_PAYLOAD_LOG_SOURCE")]
    pub payload_log_source: Option<String>,

    /// The InferenceService that they are told to be of [default: the model]
    #[arg(long, value_name = "NAME", env = "TENSORGATE_PAYLOAD_LOG_SERVICE")]
    pub payload_log_service: Option<String>,

    /// Its namespace
    #[arg(long, value_name = "NAME", env = "TENSORGATE_PAYLOAD_LOG_NAMESPACE")]
    pub payload_log_namespace: Option<String>,

    /// Its component [default: predictor]
    #[arg(long, value_name = "NAME", env = "TENSORGATE_PAYLOAD_LOG_COMPONENT")]
    pub payload_log_component: Option<String>,

    /// Its endpoint, such as "canary"
    #[arg(long, value_name = "NAME", env = "TENSORGATE_PAYLOAD_LOG_ENDPOINT")]
    pub payload_log_endpoint: Option<String>,

    /// A header of requests that events tell (ce-metadata); may be repeated
    #[arg(long, value_name = "HEADER", env = "TENSORGATE_PAYLOAD_LOG_HEADER", value_delimiter = ',')]
    pub payload_log_header: Vec<String>,

    /// An annotation that events tell (ce-annotations), as KEY=VALUE; may be repeated
    #[arg(long, value_name = "ANNOTATION", env = "TENSORGATE_PAYLOAD_LOG_ANNOTATION", value_delimiter = ',')]
    pub payload_log_annotation: Vec<String>,
}
