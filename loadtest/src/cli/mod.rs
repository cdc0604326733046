//! The command line.

pub(crate) mod load;
pub(crate) mod parse;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use self::load::{CompareArgs, RunArgs, SweepArgs};
use self::parse::{duration, share, span};
use crate::arrivals::Arrivals;
use crate::capacity::Case;
use crate::payload::Encoding;

/// Load generator for V2 inference servers, with the ceilings to compare them against.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Load on one server: a closed loop, or an open one at each --rate.
    Run(RunArgs),
    /// The highest rate at which a server keeps its objective, and the curve of latency over throughput around it.
    Sweep(SweepArgs),
    /// Several servers under the same load in alternating turns.
    Compare(CompareArgs),
    /// Run a ceiling: a bare echo server, or ONNX Runtime in this process.
    #[command(subcommand)]
    Ceiling(Ceiling),
    /// The whole performance table: starts servers, measures, prints ratios with the ceilings.
    Bench(BenchArgs),
    /// What servers predict that they serve within their objective, beside what they do.
    Capacity(CapacityArgs),
    /// What the latency objective does, as one SVG file: servers of one model that differ in nothing but it.
    Picture(PictureArgs),
    /// Good clients beside malformed traffic, for a long time: nothing may fail, grow or panic.
    Soak(SoakArgs),
}

/// How connections are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Connect {
    /// All at once.
    Burst,
    /// Evenly over a second.
    Spread,
}

impl Connect {
    /// Time over which connections are opened.
    pub(crate) fn spread(self) -> Duration {
        if self == Self::Burst { Duration::ZERO } else { Duration::from_secs(1) }
    }
}

/// The ceilings.
#[derive(Debug, Subcommand)]
pub(crate) enum Ceiling {
    /// A bare hyper HTTP/1 echo server on one thread.
    Http(EchoArgs),
    /// A bare tonic unary echo server on one thread.
    Grpc(EchoArgs),
    /// ONNX Runtime in this process, one thread: rows per second for each batch size.
    Session(SessionArgs),
}

/// Arguments of the echo servers.
#[derive(Debug, Args)]
pub(crate) struct EchoArgs {
    /// Port on loopback.
    #[arg(long)]
    pub(crate) port: u16,
    /// Core to run on.
    #[arg(long)]
    pub(crate) pin: Option<usize>,
}

/// Arguments of `ceiling session`.
#[derive(Debug, Args)]
pub(crate) struct SessionArgs {
    /// The ONNX file.
    #[arg(long)]
    pub(crate) model: PathBuf,
    /// Distinct rows that rotate.
    #[arg(long, default_value_t = 2048)]
    pub(crate) rows: usize,
    /// Time for each batch size.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Core to run on.
    #[arg(long)]
    pub(crate) pin: Option<usize>,
}

/// Arguments of `soak`.
#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    /// How long.
    #[arg(long, default_value = "30m", value_parser = duration)]
    pub(crate) duration: Duration,
    /// The server's executable.
    #[arg(long, default_value = "target/release/tensorgate")]
    pub(crate) server: PathBuf,
    /// Folder of the sample models.
    #[arg(long, default_value = "models")]
    pub(crate) models: PathBuf,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Short windows, for a first impression.
    #[arg(long)]
    pub(crate) quick: bool,
    /// The server's executable.
    #[arg(long, default_value = "target/release/tensorgate")]
    pub(crate) server: PathBuf,
    /// Folder of the sample models.
    #[arg(long, default_value = "models")]
    pub(crate) models: PathBuf,
    /// Only cases whose name contains this.
    #[arg(long)]
    pub(crate) filter: Option<String>,
    /// Fail if a target is missed.
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Arguments of `capacity`.
#[derive(Debug, Args)]
pub(crate) struct CapacityArgs {
    /// Models and their objectives.
    #[arg(long = "case", value_name = "MODEL=SLO", value_delimiter = ',', default_value = "digits=10ms,mlp=20ms,compute=50ms,minilm=100ms", value_parser = Case::parse)]
    pub(crate) cases: Vec<Case>,
    /// Searches of each, of which the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(crate) searches: u64,
    /// Each window.
    #[arg(long, default_value = "3s", value_parser = span)]
    pub(crate) duration: Duration,
    /// Windows of each search.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(4..=1000))]
    pub(crate) windows: u64,
    /// How far apart the rates of windows are that follow each other.
    #[arg(long, default_value = "8%", value_parser = share)]
    pub(crate) step: f64,
    /// How tensors travel: in JSON they cost the server more.
    #[arg(long, value_enum, default_value_t = Encoding::Binary)]
    pub(crate) encoding: Encoding,
    /// Print the latency curve that was learned.
    #[arg(long)]
    pub(crate) curve: bool,
    /// The server's executable.
    #[arg(long, default_value = "target/release/tensorgate")]
    pub(crate) server: PathBuf,
    /// Folder of the sample models.
    #[arg(long, default_value = "models")]
    pub(crate) models: PathBuf,
    /// Fail if what the autoscaler counts on is more than 15 % off.
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Arguments of `picture`.
#[derive(Debug, Args)]
pub(crate) struct PictureArgs {
    /// The objectives.
    #[arg(long, value_delimiter = ',', default_value = "20ms,50ms,200ms", value_parser = span)]
    pub(crate) slo: Vec<Duration>,
    /// The file.
    #[arg(long, default_value = "loadtest/slo.svg")]
    pub(crate) svg: PathBuf,
    /// Each window.
    #[arg(long, default_value = "2s", value_parser = span)]
    pub(crate) duration: Duration,
    /// Windows of each objective at each load, in turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) turns: u64,
    /// As for `run`.
    #[arg(long, default_value = "poisson", value_parser = Arrivals::parse)]
    pub(crate) arrivals: Arrivals,
    /// Fixes the arrivals.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The server's executable.
    #[arg(long, default_value = "target/release/tensorgate")]
    pub(crate) server: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn an_open_loop_needs_a_rate_only_where_the_arrivals_have_none() {
        let parse = |line: &str| Cli::try_parse_from(line.split_whitespace());
        for line in [
            "loadtest run http://127.0.0.1:1 --model m",
            "loadtest run http://127.0.0.1:1 --model m --rate 10,20 --arrivals gamma:16 --slo 50ms",
            "loadtest run grpc://127.0.0.1:1 --echo 60 --concurrency 8",
            "loadtest sweep http://127.0.0.1:1 --model m --slo 50ms",
            "loadtest compare a=http://127.0.0.1:1 b=grpc://127.0.0.1:2 --model m --rate 10 --pid 1,2",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
        for line in [
            "loadtest run https://127.0.0.1:1 --model m",
            "loadtest run http://127.0.0.1:1 --model m --rate 0",
            "loadtest run http://127.0.0.1:1 --model m --preset iris",
            "loadtest sweep http://127.0.0.1:1 --model m",
            "loadtest compare a=http://127.0.0.1:1 --model m",
            "loadtest compare http://127.0.0.1:1 http://127.0.0.1:2 --model m",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
