//! `tensorgate`: parse, run, exit code.

mod check;
mod profile;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tensorgate::config::{Config, Fault, Flags, resolve};

/// ONNX Runtime allocates with the C library's allocator; this one is for our own small, short-lived allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Something is wrong with the command line or the configuration.
const USAGE: u8 = 2;

/// Serves models over the Open Inference Protocol (V2), HTTP and gRPC.
#[derive(Parser)]
#[command(version, about, long_about = LONG_ABOUT, after_long_help = EXAMPLES, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const LONG_ABOUT: &str = "Serves models over the Open Inference Protocol (V2), HTTP and gRPC.\n\n\
    A repository is a folder of models: <REPOSITORY>/<model>/<version>/model.onnx, as Triton has it, or a Hugging Face \
    folder in its place. A model needs no settings; model.toml or config.pbtxt beside its versions pin what should not be found out. Every flag can be given as \
    TENSORGATE_<FLAG> in the environment or as a key of --config, in that order below the command line.";

const EXAMPLES: &str = "Examples:\n  \
    tensorgate serve models                              serve a folder of models\n  \
    tensorgate serve --model-name m --model-dir /mnt/models    serve one model, as KServe mounts it\n  \
    tensorgate check models                              find every fault without serving\n  \
    tensorgate profile digits models                     latency and throughput by batch size\n\n\
    Exit codes: 0 stopped cleanly, 1 could not start or failed, 2 usage.";

#[derive(Subcommand)]
enum Command {
    /// Serve the models of one or more repositories
    Serve(Box<Flags>),
    /// Find every fault of a configuration and its repositories, without serving: exits 0, or 1 with a list
    Check(Box<Flags>),
    /// Measure a model by batch size, without serving: what it takes, and what it can serve within the objective
    Profile(Box<profile::ProfileFlags>),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(flags) => match resolve(&flags) {
            Ok(config) => serve::run(config),
            Err(faults) => usage("serve", &faults),
        },
        Command::Check(flags) => check::run(resolve(&flags)),
        Command::Profile(flags) => profile::run(*flags),
    }
}

fn usage(command: &str, faults: &[Fault]) -> ExitCode {
    for fault in faults {
        eprintln!("tensorgate: {fault}");
    }
    eprintln!("tensorgate: try 'tensorgate {command} --help'");
    ExitCode::from(USAGE)
}

/// A tokio runtime with as many workers as there are cores to use.
fn runtime(config: &Config) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.repository.cores)
        .thread_name("tensorgate")
        .enable_all()
        .build()
}
