//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::payload::{Encoding, ModelSpec};

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
    /// Load on an HTTP/1.1 server.
    Http(HttpArgs),
    /// Load on the gRPC ModelInfer method.
    Grpc(GrpcArgs),
    /// Run a ceiling: a bare echo server, or ONNX Runtime in this process.
    #[command(subcommand)]
    Ceiling(Ceiling),
    /// The whole performance table: starts servers, measures, prints ratios with the ceilings.
    Bench(BenchArgs),
    /// A server under good and malformed traffic: no panic, no growth, and what good clients see of it.
    Soak(SoakArgs),
}

/// How the load is applied.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Connections held open.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// The measured window.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Load before the window.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub(crate) warmup: Duration,
    /// Open loop: requests per second, each timed from when it was due. Without it, a closed loop.
    #[arg(long, value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Open connections at once, or evenly over a second.
    #[arg(long, value_enum, default_value = "burst")]
    pub(crate) connect: Connect,
    /// Core to run on.
    #[arg(long)]
    pub(crate) pin: Option<usize>,
    /// Observe the CPU time of this server process.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
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

/// Arguments of `http`.
#[derive(Debug, Args)]
pub(crate) struct HttpArgs {
    /// `http://HOST:PORT[/PATH]`; without a path, the preset model's infer path.
    pub(crate) url: String,
    /// File with a request body; several rotate.
    #[arg(long, required_unless_present = "model_preset")]
    pub(crate) body: Vec<PathBuf>,
    /// identity, iris, mlp, digits, compute, or NAME:INPUT:1x512: bodies of 64 varied rows.
    #[arg(long, value_parser = ModelSpec::parse, conflicts_with = "body")]
    pub(crate) model_preset: Option<ModelSpec>,
    /// How the preset's tensors travel.
    #[arg(long, value_enum, default_value = "json")]
    pub(crate) encoding: Encoding,
    /// Further header, `name:value`.
    #[arg(long, value_parser = header)]
    pub(crate) header: Vec<(String, String)>,
    /// The load.
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// Arguments of `grpc`.
#[derive(Debug, Args)]
pub(crate) struct GrpcArgs {
    /// `HOST:PORT`.
    pub(crate) address: String,
    /// identity, iris, mlp, digits, compute, or NAME:INPUT:1x512: messages of 64 varied rows.
    #[arg(long, value_parser = ModelSpec::parse, required_unless_present = "echo")]
    pub(crate) model: Option<ModelSpec>,
    /// Send bytes of this length, for `ceiling grpc`, instead of a model's request.
    #[arg(long, conflicts_with = "model")]
    pub(crate) echo: Option<usize>,
    /// Calls at once on each connection.
    #[arg(long, default_value_t = 8)]
    pub(crate) concurrency: usize,
    /// Further metadata, `name:value`.
    #[arg(long, value_parser = header)]
    pub(crate) header: Vec<(String, String)>,
    /// The load.
    #[command(flatten)]
    pub(crate) load: LoadArgs,
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

/// `500ms`, `5s` or `1m`.
fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number: f64 = text[..text.len() - unit.len()].parse().map_err(|_| format!("{text}: not like 500ms or 5s"))?;
    let seconds = match unit {
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        _ => return Err(format!("{text}: the unit is ms, s or m")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("{text}: {error}"))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| format!("{text}: a rate is a number above zero"))
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("{text}: a header is name:value"))?;
    let (name, value) = (name.trim(), value.trim());
    let valid = http::HeaderName::try_from(name).is_ok() && http::HeaderValue::try_from(value).is_ok();
    if valid { Ok((name.to_owned(), value.to_owned())) } else { Err(format!("{text}: not a valid header")) }
}

/// Host, address and path of an `http://` URL.
pub(crate) fn split_url(url: &str) -> Result<(&str, SocketAddr, &str), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url}: a URL begins with http://"))?;
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    Ok((host, resolve(host)?, path))
}

/// The first address behind `HOST:PORT`.
pub(crate) fn resolve(host: &str) -> Result<SocketAddr, String> {
    let addresses = std::net::ToSocketAddrs::to_socket_addrs(host).map_err(|error| format!("{host}: {error}"));
    addresses?.next().ok_or_else(|| format!("{host}: no address"))
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
    fn durations_headers_and_urls_are_read_or_refused() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert!(duration("5").is_err() && duration("s").is_err() && duration("-1s").is_err());
        assert_eq!(header("a: b:c"), Ok(("a".to_owned(), "b:c".to_owned())));
        assert!(header("a").is_err() && header("a\r\nb:c").is_err());
        let (host, address, path) = split_url("http://127.0.0.1:80/v2?x").unwrap();
        assert_eq!((host, address.port(), path), ("127.0.0.1:80", 80, "/v2?x"));
        assert!(split_url("https://127.0.0.1:80").is_err());
        assert!(rate("0").is_err() && rate("nan").is_err());
    }
}
