//! Load generator for V2 inference servers, and the ceilings to compare them against; see README.md.

mod arrivals;
mod ask;
mod bench;
mod capacity;
mod ceiling;
mod cli;
mod compare;
mod engine;
mod html;
mod http1;
mod http2;
mod inputs;
mod onnx_file;
mod payload;
mod picture;
mod process;
mod progress;
mod proto;
mod report;
mod run;
mod soak;
mod staircase;
mod sweep;
mod target;
mod tls;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use self::cli::{Ceiling, Cli, Command};
pub(crate) use self::proto::MODEL_INFER;

/// Distinct bodies that rotate.
const BODIES: usize = 64;
/// How long stragglers are awaited.
const DRAIN: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Sweep(args) => sweep::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Ceiling(ceiling) => serve(&ceiling),
        Command::Bench(args) => match bench::run(&args) {
            Ok(false) if args.strict => Err("a target was missed".into()),
            result => result.map(|_| ()),
        },
        Command::Capacity(args) => match capacity::run(&args) {
            Ok(false) if args.strict => Err("a prediction is off".into()),
            result => result.map(|_| ()),
        },
        Command::Picture(args) => picture::run(&args),
        Command::Soak(args) => match soak::run(&args) {
            Ok(false) => Err("the server did not hold".into()),
            result => result.map(|_| ()),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(ceiling: &Ceiling) -> Result<(), Box<dyn Error>> {
    let (Ceiling::Http(cli::EchoArgs { pin, .. })
    | Ceiling::Grpc(cli::EchoArgs { pin, .. })
    | Ceiling::Session(cli::SessionArgs { pin, .. })) = ceiling;
    if let Some(core) = pin {
        process::pin(*core)?;
    }
    match ceiling {
        Ceiling::Http(args) => match ceiling::http::serve(args.port)? {},
        Ceiling::Grpc(args) => match ceiling::grpc::serve(args.port)? {},
        Ceiling::Session(args) => ceiling::session::sweep(&args.model, args.rows, args.duration),
    }
}
