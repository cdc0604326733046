//! From the flags of what guards the doors to what holds; the files they name are read, so that a fault is told at once.

use std::time::Duration;

use super::flags::GuardFlags;
use super::resolve::one_of;
use super::{Config, Fault};
use crate::model::settings::parse_duration;
use crate::server::{Door, FileFault, Guard, GuardConfig, Rate, Scope, Tls, TlsConfig, TlsVersion};

pub(super) fn guard(flags: &GuardFlags, config: &mut Config, faults: &mut Vec<Fault>) {
    tls(flags, config, faults);
    clients(flags, &mut config.server.guard, faults);
    duration("--reload-interval", &flags.reload_interval, &mut config.server.reload_interval, faults);
    if config.server.reload_interval.is_zero() {
        faults.push(Fault::new("--reload-interval", "is 0, expected at least 1ms"));
    }
}

fn tls(flags: &GuardFlags, config: &mut Config, faults: &mut Vec<Fault>) {
    let version_min = match flags.tls_min_version.as_deref() {
        None | Some("1.2") => TlsVersion::V1_2,
        Some("1.3") => TlsVersion::V1_3,
        Some(other) => {
            faults.push(one_of("--tls-min-version", other, &["1.2", "1.3"]));
            TlsVersion::default()
        }
    };
    let (cert, key) = match (&flags.tls_cert, &flags.tls_key) {
        (Some(cert), Some(key)) => (cert, key),
        (Some(_), None) => return faults.push(Fault::new("--tls-cert", "needs --tls-key")),
        (None, Some(_)) => return faults.push(Fault::new("--tls-key", "needs --tls-cert")),
        (None, None) => {
            // Silently without TLS is the one thing that whoever gave these does not want.
            for (key, given) in [
                ("--tls-client-ca", flags.tls_client_ca.is_some()),
                ("--tls-min-version", flags.tls_min_version.is_some()),
                ("--tls-handshake-timeout", flags.tls_handshake_timeout.is_some()),
            ] {
                if given {
                    faults.push(Fault::new(key, "needs --tls-cert and --tls-key"));
                }
            }
            return;
        }
    };
    let mut tls = TlsConfig { client_ca: flags.tls_client_ca.clone(), version_min, ..TlsConfig::new(cert, key) };
    duration("--tls-handshake-timeout", &flags.tls_handshake_timeout, &mut tls.handshake_timeout, faults);
    if let Err(FileFault { flag, message }) = Tls::load(tls.clone()) {
        faults.push(Fault::new(flag, message));
    }
    config.server.tls = Some(tls);
}

fn clients(flags: &GuardFlags, guard: &mut GuardConfig, faults: &mut Vec<Fault>) {
    guard.auth_file = flags.auth_file.clone();
    match flags.rate_limit.as_deref().map(Rate::parse) {
        None => {}
        Some(Ok(rate)) => guard.rate = Some(rate),
        Some(Err(message)) => faults.push(Fault::new("--rate-limit", message)),
    }
    for given in &flags.refuse {
        let (doors, group) = match given.split_once(':') {
            Some(("http", group)) => (&[Door::Http][..], group),
            Some(("grpc", group)) => (&[Door::Grpc][..], group),
            _ => (&[Door::Http, Door::Grpc][..], given.as_str()),
        };
        match Scope::parse(group) {
            Some(scope) => guard.refused.extend(doors.iter().map(|&door| (door, scope))),
            None => faults.push(one_of("--refuse", given, &Scope::GRANTED.map(Scope::name))),
        }
    }
    if let Err(FileFault { flag, message }) = Guard::load(guard) {
        faults.push(Fault::new(flag, message));
    }
}

/// Sets `target` where a duration is given.
fn duration(key: &str, given: &Option<String>, target: &mut Duration, faults: &mut Vec<Fault>) {
    match given.as_deref().map(parse_duration) {
        None => {}
        Some(Ok(duration)) => *target = duration,
        Some(Err(message)) => faults.push(Fault::new(key, message)),
    }
}
