//! Arguments of the commands that load servers.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::Connect;
use super::parse::{self, Url};
use crate::arrivals::Arrivals;
use crate::payload::{Encoding, ModelSpec};

/// What is asked.
#[derive(Clone, Debug, Args)]
#[group(id = "what")]
pub(crate) struct RequestArgs {
    /// Ask this model; its inputs are read from the server and filled with random values.
    #[arg(long, conflicts_with_all = ["preset", "body", "echo"])]
    pub(crate) model: Option<String>,
    /// Ask this version of it.
    #[arg(long, default_value = "")]
    pub(crate) model_version: String,
    /// identity, iris, mlp, digits, compute, or NAME:INPUT:1x512: varied rows without asking for metadata.
    #[arg(long, value_parser = ModelSpec::parse, conflicts_with_all = ["body", "echo"])]
    pub(crate) preset: Option<ModelSpec>,
    /// HTTP: file with a whole body; several rotate.
    #[arg(long, conflicts_with = "echo")]
    pub(crate) body: Vec<PathBuf>,
    /// gRPC: bytes of this length, for `ceiling grpc`.
    #[arg(long)]
    pub(crate) echo: Option<usize>,
    /// HTTP: how tensors travel.
    #[arg(long, value_enum, default_value = "json")]
    pub(crate) encoding: Encoding,
    /// Rows of a request, where an input's first dimension may vary.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) rows: i64,
    /// Shape of an input whose other dimensions may vary, NAME:DIMS such as ids:32 or ids:4x32.
    #[arg(long, value_parser = parse::shape)]
    pub(crate) shape: Vec<(String, Vec<i64>)>,
    /// Least and greatest value of an input, NAME:LOW:HIGH. Without it: whole numbers 0 to 1, others -1 to 1.
    #[arg(long, value_parser = parse::range)]
    pub(crate) range: Vec<(String, f64, f64)>,
    /// Characters of the strings of BYTES inputs.
    #[arg(long, default_value_t = 16)]
    pub(crate) string_length: usize,
    /// Parameter of every request, NAME=VALUE, such as timeout=50000.
    #[arg(long, value_parser = parse::parameter)]
    pub(crate) parameter: Vec<(String, Value)>,
    /// How many requests differ; they rotate, because one sent again and again flatters caches.
    #[arg(long, default_value_t = crate::BODIES)]
    pub(crate) distinct: usize,
    /// Further header or metadata, name:value, such as grpc-timeout:50m.
    #[arg(long, value_parser = parse::header)]
    pub(crate) header: Vec<(String, String)>,
}

/// How the load is applied.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    /// The measured window. For a recording: its length, unless given.
    #[arg(long, value_parser = parse::span)]
    pub(crate) duration: Option<Duration>,
    /// Load before the window.
    #[arg(long, default_value = "1s", value_parser = parse::duration)]
    pub(crate) warmup: Duration,
    /// How long answers to the window's requests are awaited after it; then they have failed.
    #[arg(long, default_value = "5s", value_parser = parse::duration)]
    pub(crate) drain: Duration,
    /// Open loop: uniform, poisson, gamma:CV2, onoff[:ON:OFF], step[:FACTOR], ramp[:FROM:TO], trace:FILE or
    /// counts:FILE. See the README.
    #[arg(long, default_value = "poisson", value_parser = Arrivals::parse)]
    pub(crate) arrivals: Arrivals,
    /// Fixes the arrivals.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Connections: in a closed loop as many as stay open (default 64), in an open loop those opened beforehand (16).
    #[arg(long)]
    pub(crate) connections: Option<usize>,
    /// Open loop: connections at most.
    #[arg(long, default_value_t = 1024)]
    pub(crate) connections_max: usize,
    /// gRPC: calls at once on a connection.
    #[arg(long, default_value_t = 8)]
    pub(crate) concurrency: usize,
    /// Closed loop: open connections at once, or evenly over a second.
    #[arg(long, value_enum, default_value = "burst")]
    pub(crate) connect: Connect,
    /// Closed loop: also report latencies corrected for requests that would have been sent at this interval.
    #[arg(long, value_parser = parse::span)]
    pub(crate) expected_interval: Option<Duration>,
    /// Core to run on.
    #[arg(long)]
    pub(crate) pin: Option<usize>,
    /// Observe the CPU time of this server process; for `compare` one for each server, in their order.
    #[arg(long, value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,
}

/// What comes out.
#[derive(Clone, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write a report as one HTML file that needs nothing else.
    #[arg(long)]
    pub(crate) html: Option<PathBuf>,
    /// Also write goodput and latency by offered rate as one SVG file.
    #[arg(long)]
    pub(crate) svg: Option<PathBuf>,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// `http://HOST:PORT[/PREFIX]`, or with the whole path of an infer endpoint; `grpc://HOST:PORT`.
    #[arg(value_parser = parse::url)]
    pub(crate) url: Url,
    /// Open loop: requests per second, each timed from when it was due; several are measured one after the other.
    /// Without it, a closed loop.
    #[arg(long, value_parser = parse::rate, value_delimiter = ',')]
    pub(crate) rate: Vec<f64>,
    /// Within which an answer is good.
    #[arg(long, value_parser = parse::span)]
    pub(crate) slo: Option<Duration>,
    /// The requests.
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    /// The load.
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// The output.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Arguments of `sweep`.
#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// As for `run`.
    #[arg(value_parser = parse::url)]
    pub(crate) url: Url,
    /// Within which an answer is good.
    #[arg(long, value_parser = parse::span)]
    pub(crate) slo: Duration,
    /// How many of the requests have to be good.
    #[arg(long, default_value = "99%", value_parser = parse::share)]
    pub(crate) share: f64,
    /// The first rate tried. Without it: half of what a closed loop reaches in a second.
    #[arg(long, value_parser = parse::rate)]
    pub(crate) from: Option<f64>,
    /// Windows that a rate has at most to hold in one; what disturbs the machine disturbs rarely twice.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tries: u32,
    /// The rate is found to this share of itself.
    #[arg(long, default_value = "5%", value_parser = parse::share)]
    pub(crate) precision: f64,
    /// The requests.
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    /// The load.
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// The output.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Servers as NAME=URL, two or more. The first is what the others are compared with.
    #[arg(required = true, num_args = 2.., value_parser = parse::named_url)]
    pub(crate) servers: Vec<(String, Url)>,
    /// As for `run`; every server meets every rate.
    #[arg(long, value_parser = parse::rate, value_delimiter = ',')]
    pub(crate) rate: Vec<f64>,
    /// Within which an answer is good.
    #[arg(long, value_parser = parse::span)]
    pub(crate) slo: Option<Duration>,
    /// Turns of each server at each rate.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) turns: u64,
    /// The requests.
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    /// The load.
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// The output.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
