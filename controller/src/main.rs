//! `tensorgate-controller`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tensorgate_controller::api::crd;
use tensorgate_controller::config::RunArgs;
use tensorgate_controller::router::{self, RouterArgs};
use tensorgate_controller::run;
use tensorgate_controller::simulate::{self, SimulateArgs};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// KServe's InferenceService on plain Kubernetes
#[derive(Debug, Parser)]
#[command(name = "tensorgate-controller", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch InferenceServices and make the cluster follow
    Run(Box<RunArgs>),
    /// Split requests between the revisions of a component, by weights in a file
    Router(RouterArgs),
    /// Compare autoscalers on traces of requests, on a virtual clock
    Simulate(SimulateArgs),
    /// Print the custom resource definitions as YAML
    Crds,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Crds => match crd::yaml() {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
        Command::Simulate(args) => match simulate::run(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
        Command::Run(args) => {
            // Chosen here, since a second provider in the build would make rustls refuse to choose.
            let _chosen_already = rustls::crypto::ring::default_provider().install_default();
            start_logs(&args.log_format);
            block_on(async { run::run(*args, stop()).await.map_err(|error| error.to_string()) })
        }
        Command::Router(args) => {
            start_logs(&args.log_format);
            block_on(async { router::run(args, stop()).await.map_err(|error| error.to_string()) })
        }
    }
}

fn block_on(work: impl Future<Output = Result<(), String>>) -> ExitCode {
    let outcome = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => Err(format!("cannot start threads: {error}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Completes at SIGTERM or SIGINT.
async fn stop() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn start_logs(format: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube=warn"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        "json" => logs.json().init(),
        _ => logs.init(),
    }
}
