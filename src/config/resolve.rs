//! From what was given to what holds.

use std::time::Duration;

use super::guard::guard;
use super::watch::watch;
use super::{Config, Fault, File, Flags};
use crate::model::ModelName;
use crate::model::settings::{nearest, parse_duration};
use crate::repository::Control;
use crate::telemetry::LogFormat;

/// The largest body that can be asked for: lengths inside are 32-bit in places (BYTES elements, HTTP/2 messages).
const BODY_BYTES_MAX: usize = 2 << 30;

/// Merges and checks.
///
/// # Errors
/// Every fault, each with its key.
pub fn resolve(flags: &Flags) -> Result<Config, Vec<Fault>> {
    let mut faults = Vec::new();
    let flags = match flags.config.as_deref().map(File::read) {
        Some(Ok(file)) => file.under(flags),
        Some(Err(fault)) => {
            faults.push(fault);
            flags.clone()
        }
        None => flags.clone(),
    };
    let mut config =
        Config { log_level: flags.log_level.clone().unwrap_or_else(|| "info".into()), ..Config::default() };
    repository(&flags, &mut config, &mut faults);
    server(&flags, &mut config, &mut faults);
    guard(&flags.guard, &mut config, &mut faults);
    watch(&flags.watch, &mut config, &mut faults);
    if let Some(format) = &flags.log_format {
        match format.as_str() {
            "human" => config.log_format = LogFormat::Human,
            "json" => config.log_format = LogFormat::Json,
            other => faults.push(one_of("--log-format", other, &["human", "json"])),
        }
    }
    if faults.is_empty() { Ok(config) } else { Err(faults) }
}

fn repository(flags: &Flags, config: &mut Config, faults: &mut Vec<Fault>) {
    let repository = &mut config.repository;
    repository.repositories = flags.repositories.iter().chain(&flags.model_repository).cloned().collect();
    for given in &mut repository.repositories {
        match local_path(&given.to_string_lossy()) {
            Ok(path) => *given = path.into(),
            Err(message) => faults.push(Fault::new("REPOSITORY", message)),
        }
    }
    match (&flags.model_name, &flags.model_dir) {
        (Some(name), Some(directory)) => repository.single.push((ModelName::new(name), directory.clone())),
        (None, None) => {}
        (Some(_), None) => {
            faults.push(Fault::new("--model-name", "needs --model-dir, which says where the model lies"))
        }
        (None, Some(_)) => faults.push(Fault::new("--model-dir", "needs --model-name, the name to serve it under")),
    }
    match flags.model_control.as_deref() {
        None | Some("none") => {}
        Some("explicit") => repository.control = Control::Explicit,
        Some(other) => faults.push(one_of("--model-control", other, &["none", "explicit"])),
    }
    if repository.control == Control::None && !flags.load_model.is_empty() {
        faults.push(Fault::new("--load-model", "needs --model-control explicit; without it every model is loaded"));
    }
    repository.load_at_start = flags.load_model.clone();
    if let Some(cores) = flags.cores {
        if cores == 0 {
            faults.push(Fault::new("--cores", "is 0, expected at least 1"));
        }
        repository.cores = cores.max(1);
        repository.loads_at_once = repository.cores.div_ceil(2);
    }
}

/// The path of a repository on this machine.
fn local_path(given: &str) -> Result<String, String> {
    match given.split_once("://") {
        None => Ok(given.into()),
        Some(("file", path)) if path.starts_with('/') => Ok(path.into()),
        Some((scheme, _)) => Err(format!("'{given}': {scheme}:// is not served, expected a directory or file:///path")),
    }
}

fn server(flags: &Flags, config: &mut Config, faults: &mut Vec<Fault>) {
    let server = &mut config.server;
    server.host = flags.host.unwrap_or(server.host);
    server.http_port = flags.http_port.unwrap_or(server.http_port);
    server.grpc_port = flags.grpc_port.unwrap_or(server.grpc_port);
    if server.http_port == server.grpc_port && server.http_port != 0 {
        let message =
            format!("is {} like --http-port; each serves both protocols, but they are two ports", server.grpc_port);
        faults.push(Fault::new("--grpc-port", message));
    }
    if let Some(count) = flags.connections_max {
        if count == 0 {
            faults.push(Fault::new("--connections-max", "is 0, expected at least 1"));
        }
        server.connections_max = count.max(1);
    }
    if let Some(size) = &flags.body_max {
        match parse_size(size).filter(|size| (1..=BODY_BYTES_MAX).contains(size)) {
            Some(bytes) => server.body_bytes_max = bytes,
            None => faults.push(Fault::new("--body-max", format!("'{size}' is no size from 1 to 2GiB, such as 64MiB"))),
        }
    }
    duration("--head-timeout", &flags.head_timeout, &mut server.head_timeout, faults);
    duration("--drain-delay", &flags.drain_delay, &mut server.drain_delay, faults);
    duration("--drain-timeout", &flags.drain_timeout, &mut server.drain_timeout, faults);
}

/// Sets `target` where a duration is given.
pub(super) fn duration(key: &str, given: &Option<String>, target: &mut Duration, faults: &mut Vec<Fault>) {
    match given.as_deref().map(parse_duration) {
        None => {}
        Some(Ok(duration)) => *target = duration,
        Some(Err(message)) => faults.push(Fault::new(key, message)),
    }
}

/// A number of bytes: "4096", "512KiB", "64MiB", "1GiB"; KB, MB and GB are powers of 1000.
fn parse_size(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale: usize = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(scale)
}

pub(super) fn one_of(key: &str, given: &str, known: &[&str]) -> Fault {
    let hint =
        nearest(given, known.iter().copied()).map(|near| format!(", did you mean '{near}'?")).unwrap_or_default();
    Fault::new(key, format!("'{given}' is unknown, expected {}{hint}", known.join(" or ")))
}
