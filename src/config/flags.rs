//! What may be typed, and what help says of it. Every flag is an environment variable too: `TENSORGATE_` and its name.

mod guard;
mod watch;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::{BoundsFlags, StorageFlags};
pub use guard::GuardFlags;
pub use watch::WatchFlags;

/// Flags of `tensorgate serve` and `tensorgate check`.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// Directories that hold models, <REPOSITORY>/<model>/<version>/model.onnx or Hugging Face folders, or places like them in a
    /// store: s3://, gs://, az://, https:// or http://
    #[arg(value_name = "REPOSITORY", env = "TENSORGATE_REPOSITORIES", value_delimiter = ',')]
    pub repositories: Vec<PathBuf>,

    /// The same, as Triton names it; may be repeated
    #[arg(long, value_name = "REPOSITORY", env = "TENSORGATE_MODEL_REPOSITORY", value_delimiter = ',')]
    pub model_repository: Vec<PathBuf>,

    /// Serve a single model under this name, from --model-dir or --storage-uri
    #[arg(long, value_name = "NAME", env = "TENSORGATE_MODEL_NAME")]
    pub model_name: Option<String>,

    /// Where the model of --model-name lies: a folder with a model file or with versions, or the file itself
    #[arg(long, value_name = "DIR", env = "TENSORGATE_MODEL_DIR")]
    pub model_dir: Option<PathBuf>,

    /// Who decides what is loaded: "none" (everything, at start), "poll" (what the repositories hold, looked at again and
    /// again) or "explicit" (load and unload calls) [default: none]
    #[arg(long, value_name = "MODE", env = "TENSORGATE_MODEL_CONTROL")]
    pub model_control: Option<String>,

    /// With --model-control poll: how long after one look at the repositories the next begins [default: 15s]
    #[arg(long, value_name = "DURATION", env = "TENSORGATE_POLL_INTERVAL")]
    pub poll_interval: Option<String>,

    /// With --model-control explicit: load this model at start; may be repeated, "*" for all
    #[arg(long, value_name = "NAME", env = "TENSORGATE_LOAD_MODEL", value_delimiter = ',')]
    pub load_model: Vec<String>,

    /// With --model-control explicit: most that the files of all load calls may take on disk [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "TENSORGATE_UPLOADS_MAX")]
    pub uploads_max: Option<String>,

    /// Memory that loaded models may take together; those asked for least leave it for others [default: 75% of the cgroup's
    /// limit, or of the machine's]
    #[arg(long, value_name = "SIZE", env = "TENSORGATE_MEMORY_MAX")]
    pub memory_max: Option<String>,

    /// Memory of each GPU that models on it may take together, likewise [default: 80% of the GPU's]
    #[arg(long, value_name = "SIZE", env = "TENSORGATE_GPU_MEMORY_MAX")]
    pub gpu_memory_max: Option<String>,

    /// Address to listen on; images set 0.0.0.0 [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", env = "TENSORGATE_HOST", help_heading = "Doors")]
    pub host: Option<IpAddr>,

    /// Port of HTTP; gRPC is served beside it; 0 picks a free one [default: 8080]
    #[arg(long, value_name = "PORT", env = "TENSORGATE_HTTP_PORT", help_heading = "Doors")]
    pub http_port: Option<u16>,

    /// Port of gRPC; HTTP is served beside it; 0 picks a free one [default: 8081]
    #[arg(long, value_name = "PORT", env = "TENSORGATE_GRPC_PORT", help_heading = "Doors")]
    pub grpc_port: Option<u16>,

    /// Largest request body or message, such as 64MiB [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "TENSORGATE_BODY_MAX", help_heading = "Doors")]
    pub body_max: Option<String>,

    /// Most connections open at once, on each port [default: 20000]
    #[arg(long, value_name = "COUNT", env = "TENSORGATE_CONNECTIONS_MAX", help_heading = "Doors")]
    pub connections_max: Option<usize>,

    /// How long a client may take to send a request head, such as 30s [default: 30s]
    #[arg(long, value_name = "DURATION", env = "TENSORGATE_HEAD_TIMEOUT", help_heading = "Doors")]
    pub head_timeout: Option<String>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub bounds: BoundsFlags,

    /// Let web pages of this origin use the server, such as https://example.org; may be repeated, "*" for all
    #[arg(long, value_name = "ORIGIN", env = "TENSORGATE_CORS_ORIGIN", value_delimiter = ',', help_heading = "Doors")]
    pub cors_origin: Vec<String>,

    /// What a gateway puts before each path and leaves there, such as /serving/namespace/name
    #[arg(long, value_name = "PATH", env = "TENSORGATE_PATH_PREFIX", help_heading = "Doors")]
    pub path_prefix: Option<String>,

    /// After SIGTERM: how long to go on serving while routers learn of it [default: 5s]
    #[arg(long, value_name = "DURATION", env = "TENSORGATE_DRAIN_DELAY", help_heading = "Doors")]
    pub drain_delay: Option<String>,

    /// After that: how long requests under way may take to finish [default: 25s]
    #[arg(long, value_name = "DURATION", env = "TENSORGATE_DRAIN_TIMEOUT", help_heading = "Doors")]
    pub drain_timeout: Option<String>,

    /// Let clients on this machine leave tensors in files below this: a directory (/dev/shm), or one and how the names of
    /// files in it start (/dev/shm/tensors-) [default: no shared memory]
    #[arg(long, value_name = "PATH", env = "TENSORGATE_SHARED_MEMORY_PREFIX", help_heading = "Doors")]
    pub shared_memory_prefix: Option<PathBuf>,

    /// Most regions of shared memory registered at once [default: 256]
    #[arg(long, value_name = "COUNT", env = "TENSORGATE_SHARED_MEMORY_REGIONS_MAX", help_heading = "Doors")]
    pub shared_memory_regions_max: Option<usize>,

    /// Most bytes that kept answers of all models may take; a model keeps them with [response_cache] in its settings
    /// [default: 256MiB]
    #[arg(long, value_name = "SIZE", env = "TENSORGATE_RESPONSE_CACHE_BYTES_MAX")]
    pub response_cache_bytes_max: Option<String>,

    /// How models come from stores
    #[command(flatten)]
    pub storage: StorageFlags,

    /// What guards the doors
    #[command(flatten)]
    pub guard: GuardFlags,

    /// What is told about requests
    #[command(flatten)]
    pub watch: WatchFlags,

    /// The latency objective of models whose settings state none: the only knob [default: 100ms]
    #[arg(long, value_name = "DURATION", env = "TENSORGATE_SLO")]
    pub slo: Option<String>,

    /// Cores to use [default: the cgroup's quota]
    #[arg(long, value_name = "COUNT", env = "TENSORGATE_CORES")]
    pub cores: Option<usize>,

    /// Where learned latencies are kept, so that a restart starts knowing; "" for nowhere [default: tensorgate in
    /// $XDG_CACHE_HOME or ~/.cache]
    #[arg(long, value_name = "DIR", env = "TENSORGATE_STATE_DIR")]
    pub state_dir: Option<String>,

    /// Settings in TOML, below environment and flags
    #[arg(long, value_name = "FILE", env = "TENSORGATE_CONFIG")]
    pub config: Option<PathBuf>,

    /// Log lines for people ("human") or collectors ("json") [default: human]
    #[arg(long, value_name = "FORMAT", env = "TENSORGATE_LOG_FORMAT", help_heading = "Logs")]
    pub log_format: Option<String>,

    /// Which lines: error, warn, info, debug, trace, or a filter such as "info,tensorgate::scheduler=debug" [default: info]
    #[arg(long, value_name = "LEVEL", env = "TENSORGATE_LOG_LEVEL", help_heading = "Logs")]
    pub log_level: Option<String>,
}
