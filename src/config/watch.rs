//! From the flags of what is told about requests to what holds.

use super::flags::WatchFlags;
use super::resolve::one_of;
use super::{Config, Fault};
use crate::export::{AccessLog, Endpoint, PayloadMode, PayloadOrigin, TraceFiles};

/// OTLP's port for HTTP, and its path for traces.
const OTLP: (u16, &str) = (4318, "/v1/traces");

pub(super) fn watch(flags: &WatchFlags, config: &mut Config, faults: &mut Vec<Fault>) {
    let watch = &mut config.server.watch;
    if let Some(path) = &flags.access_log {
        if let Err(cause) = AccessLog::check(path) {
            faults.push(Fault::new("--access-log", format!("{}: {cause}", path.display())));
        }
        watch.access_log = Some(path.clone());
    }
    if let Some(path) = &flags.trace_dir {
        if let Err(cause) = TraceFiles::check(path) {
            faults.push(Fault::new("--trace-dir", format!("{}: {cause}", path.display())));
        }
        watch.trace_directory = Some(path.clone());
    }
    watch.payload_origin = origin(flags, faults);
    watch.otlp = endpoint("--otlp-endpoint", flags.otlp_endpoint.as_deref(), OTLP, faults);
    watch.payload = endpoint("--payload-log", flags.payload_log.as_deref(), (80, "/"), faults);
    ratio("--trace-ratio", flags.trace_ratio, &mut watch.trace_ratio, faults);
    ratio("--payload-log-ratio", flags.payload_log_ratio, &mut watch.payload_ratio, faults);
    match flags.payload_log_mode.as_deref() {
        None | Some("all") => watch.payload_mode = PayloadMode::All,
        Some("request") => watch.payload_mode = PayloadMode::Request,
        Some("response") => watch.payload_mode = PayloadMode::Response,
        Some(other) => faults.push(one_of("--payload-log-mode", other, &["all", "request", "response"])),
    }
}

fn origin(flags: &WatchFlags, faults: &mut Vec<Fault>) -> PayloadOrigin {
    let usual = PayloadOrigin::default();
    let mut origin = PayloadOrigin {
        source: flags.payload_log_source.clone().unwrap_or(usual.source),
        service: flags.payload_log_service.clone(),
        namespace: flags.payload_log_namespace.clone(),
        component: flags.payload_log_component.clone().unwrap_or(usual.component),
        endpoint: flags.payload_log_endpoint.clone(),
        ..PayloadOrigin::default()
    };
    for name in &flags.payload_log_header {
        if let Err(fault) = origin.add_header(name) {
            faults.push(Fault::new("--payload-log-header", fault));
        }
    }
    let pairs: Option<Vec<_>> = flags.payload_log_annotation.iter().map(|given| given.split_once('=')).collect();
    match pairs {
        Some(pairs) => origin.annotate(&pairs),
        None => faults.push(Fault::new("--payload-log-annotation", "has no '=', expected KEY=VALUE")),
    }
    origin
}

fn endpoint(key: &str, given: Option<&str>, usual: (u16, &str), faults: &mut Vec<Fault>) -> Option<Endpoint> {
    match Endpoint::parse(given?, usual.1, usual.0) {
        Ok(endpoint) => Some(endpoint),
        Err(fault) => {
            faults.push(Fault::new(key, fault.to_string()));
            None
        }
    }
}

fn ratio(key: &str, given: Option<f64>, target: &mut f64, faults: &mut Vec<Fault>) {
    match given {
        None => {}
        Some(ratio) if (0.0..=1.0).contains(&ratio) => *target = ratio,
        Some(ratio) => faults.push(Fault::new(key, format!("is {ratio}, expected 0 to 1"))),
    }
}
