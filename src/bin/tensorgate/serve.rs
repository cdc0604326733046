//! `tensorgate serve`.

use std::process::ExitCode;

use rustix::process::{Resource, getrlimit, setrlimit};
use tensorgate::app::App;
use tensorgate::config::Config;
use tensorgate::model::Device;
use tensorgate::repository::ModelSummary;
use tensorgate::telemetry::{LogFormat, init_logs};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) fn run(config: Config) -> ExitCode {
    if let Err(message) = init_logs(config.log_format, &config.log_level) {
        eprintln!("tensorgate: {message}");
        return ExitCode::from(super::USAGE);
    }
    let runtime = match super::runtime(&config) {
        Ok(runtime) => runtime,
        Err(cause) => {
            tracing::error!("cannot start threads: {cause}");
            return ExitCode::FAILURE;
        }
    };
    raise_descriptors(config.server.connections_max);
    let code = runtime.block_on(serve(config));
    // A batch that is still running was given up by everyone. Not shut down: that would let go of threads while they end,
    // which glibc may not survive (pthread_detach, its bug 19951); they end with the process.
    std::mem::forget(runtime);
    code
}

/// Raises the limit on descriptors to what the administrator allows: each connection takes one, and the usual soft limit of
/// 1024 is for programs that use select(2).
fn raise_descriptors(connections_max: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(cause) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit on descriptors cannot be raised: {cause}");
    }
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if descriptors < connections_max as u64 {
        tracing::warn!(
            descriptors,
            connections_max,
            "fewer descriptors than connections are allowed: raise the limit (ulimit -Hn, LimitNOFILE) or lower \
             --connections-max"
        );
    }
}

async fn serve(config: Config) -> ExitCode {
    let (Ok(terminate), Ok(interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("cannot listen for signals");
        return ExitCode::FAILURE;
    };
    let mut signals = Signals { terminate, interrupt };
    let human = config.log_format == LogFormat::Human;
    let app = match App::start(config).await {
        Ok(app) => app,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let stopped = tokio::select! {
        waits = signals.next() => Ok(waits),
        settled = app.settled() => Err(settled),
    };
    let waits = match stopped {
        Ok(waits) => waits,
        Err(Err(reason)) => {
            tracing::error!("nothing to serve: {reason}");
            app.stop(false).await;
            return ExitCode::FAILURE;
        }
        Err(Ok(())) => {
            let addresses = app.addresses();
            tracing::info!(http = %addresses.http, grpc = %addresses.grpc, "serving");
            if human {
                eprint!("{}", table(&app.repository().index()));
            }
            signals.next().await
        }
    };
    tokio::select! {
        finished = app.stop(waits) => {
            tracing::info!("stopped");
            if finished { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        _ = signals.next() => {
            tracing::warn!("second signal: stopping at once");
            ExitCode::FAILURE
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Waits for a signal to stop; gives whether routers should be given time: a person at the keyboard wants the prompt.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => false,
        }
    }
}

/// What is served where, for people.
fn table(models: &[ModelSummary]) -> String {
    let mut rows = vec![["MODEL", "VERSION", "STATE", "RUNTIME", "BATCH", "INPUTS -> OUTPUTS"].map(String::from)];
    for model in models {
        for status in &model.versions {
            let version = status.version.map(|version| version.to_string()).unwrap_or_default();
            let ready = model.ready.as_ref().filter(|ready| Some(ready.version()) == status.version);
            let (runtime, batch, signature) = match ready {
                Some(ready) => {
                    let list = |specs: &[tensorgate::model::TensorSpec]| {
                        specs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                    };
                    let signature = ready.signature();
                    let signature = format!("{} -> {}", list(&signature.inputs), list(&signature.outputs));
                    let runtime = match ready.device() {
                        Device::Cpu => ready.runtime().to_owned(),
                        gpu => format!("{} {gpu}", ready.runtime()),
                    };
                    (runtime, ready.rows_max().to_string(), signature)
                }
                None => Default::default(),
            };
            let detail = if ready.is_some() { signature } else { status.state.reason().to_owned() };
            rows.push([model.name.to_string(), version, status.state.to_string(), runtime, batch, detail]);
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::from("\n");
    for row in &rows {
        for (cell, width) in row.iter().zip(widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(&row[5]);
        text.push('\n');
    }
    text.push('\n');
    text
}
