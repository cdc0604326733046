//! Flags for the bounds of the doors; the reasons for their defaults stand at `server::Bounds`.

use clap::Args;

/// Bounds on what one client may ask for.
#[derive(Args, Clone, Debug, Default)]
pub struct BoundsFlags {
    /// Most bytes that a compressed body may inflate to for each that came, above 1 MiB [default: 100]
    #[arg(long, value_name = "COUNT", env = "TENSORGATE_DECOMPRESSION_RATIO_MAX", help_heading = "Bounds")]
    pub decompression_ratio_max: Option<usize>,

    /// Most bytes of request bodies held at once, those of up to 64 KiB not counted [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "TENSORGATE_BUFFERED_MAX", help_heading = "Bounds")]
    pub buffered_max: Option<String>,

    /// Largest headers of a request, at most 256KiB [default: 32KiB]
    #[arg(long, value_name = "SIZE", env = "TENSORGATE_HEADER_BYTES_MAX", help_heading = "Bounds")]
    pub header_bytes_max: Option<String>,

    /// Most headers of a request, at most 100 [default: 64]
    #[arg(long, value_name = "COUNT", env = "TENSORGATE_HEADERS_MAX", help_heading = "Bounds")]
    pub headers_max: Option<usize>,

    /// Longest path and query, at most 32KiB [default: 8KiB]
    #[arg(long, value_name = "SIZE", env = "TENSORGATE_URI_MAX", help_heading = "Bounds")]
    pub uri_max: Option<String>,

    /// How long a body may take to come, and 1 s more for every 64 KiB of it [default: 60s]
    #[arg(long, value_name = "DURATION", env = "TENSORGATE_BODY_TIMEOUT", help_heading = "Bounds")]
    pub body_timeout: Option<String>,

    /// How long a client may leave an answer that is there, and 1 s more for every 64 KiB that it took [default: 60s]
    #[arg(long, value_name = "DURATION", env = "TENSORGATE_ANSWER_TIMEOUT", help_heading = "Bounds")]
    pub answer_timeout: Option<String>,

    /// How long a connection may stay open without a request [default: 75s]
    #[arg(long, value_name = "DURATION", env = "TENSORGATE_IDLE_TIMEOUT", help_heading = "Bounds")]
    pub idle_timeout: Option<String>,

    /// Most HTTP/2 streams of a connection open at once [default: 200]
    #[arg(long, value_name = "COUNT", env = "TENSORGATE_STREAMS_MAX", help_heading = "Bounds")]
    pub streams_max: Option<u32>,

    /// Most HTTP/2 streams of a connection that a client may reset before they are looked at [default: 200]
    #[arg(long, value_name = "COUNT", env = "TENSORGATE_RESETS_MAX", help_heading = "Bounds")]
    pub resets_max: Option<usize>,

    /// Deepest nesting of lists and objects in JSON [default: 64]
    #[arg(long, value_name = "COUNT", env = "TENSORGATE_JSON_DEPTH_MAX", help_heading = "Bounds")]
    pub json_depth_max: Option<usize>,

    /// Most inputs of a request [default: 1024]
    #[arg(long, value_name = "COUNT", env = "TENSORGATE_TENSORS_MAX", help_heading = "Bounds")]
    pub tensors_max: Option<usize>,

    /// Most outputs that a request may ask for [default: 1024]
    #[arg(long, value_name = "COUNT", env = "TENSORGATE_OUTPUTS_MAX", help_heading = "Bounds")]
    pub outputs_max: Option<usize>,

    /// Most parameters of a request, input or output [default: 256]
    #[arg(long, value_name = "COUNT", env = "TENSORGATE_PARAMETERS_MAX", help_heading = "Bounds")]
    pub parameters_max: Option<usize>,

    /// Longest name, id, datatype or parameter of a request [default: 16KiB]
    #[arg(long, value_name = "SIZE", env = "TENSORGATE_STRING_MAX", help_heading = "Bounds")]
    pub string_max: Option<String>,
}
