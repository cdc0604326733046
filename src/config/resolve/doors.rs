//! What the doors accept, from flags.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::{BoundsFlags, Fault, Flags};
use crate::model::settings::{parse_duration, parse_size};
use crate::server::{Bounds, Cors, ServerConfig};

/// The largest body that can be asked for: lengths inside are 32-bit in places (BYTES elements, HTTP/2 messages).
const BODY_BYTES_MAX: usize = 2 << 30;

pub(super) fn resolve(flags: &Flags, server: &mut ServerConfig, faults: &mut Vec<Fault>) {
    server.host = flags.host.unwrap_or(server.host);
    server.http_port = flags.http_port.unwrap_or(server.http_port);
    server.grpc_port = flags.grpc_port.unwrap_or(server.grpc_port);
    if server.http_port == server.grpc_port && server.http_port != 0 {
        let message =
            format!("is {} like --http-port; each serves both protocols, but they are two ports", server.grpc_port);
        faults.push(Fault::new("--grpc-port", message));
    }
    let mut read = Reading { faults };
    read.count("--connections-max", flags.connections_max, 1..=usize::MAX, &mut server.connections_max);
    read.size("--body-max", &flags.body_max, 1..=BODY_BYTES_MAX, "2GiB, such as 64MiB", &mut server.body_bytes_max);
    read.duration("--head-timeout", &flags.head_timeout, &mut server.head_timeout);
    read.duration("--drain-delay", &flags.drain_delay, &mut server.drain_delay);
    read.duration("--drain-timeout", &flags.drain_timeout, &mut server.drain_timeout);
    bounds(&flags.bounds, &mut server.bounds, &mut read);
    server.http.cors = Cors::new(flags.cors_origin.clone());
    if let Some(origin) = flags.cors_origin.iter().find(|origin| !is_origin(origin)) {
        let message =
            format!("'{origin}' is no origin, expected \"*\" or scheme and host, such as https://example.org");
        read.faults.push(Fault::new("--cors-origin", message));
    }
    match flags.path_prefix.as_deref().map(|prefix| prefix.trim_end_matches('/')) {
        None | Some("") => {}
        Some(prefix) if prefix.starts_with('/') => server.http.path_prefix = Some(prefix.to_owned()),
        Some(prefix) => {
            read.faults.push(Fault::new("--path-prefix", format!("'{prefix}' has to start with a slash")));
        }
    }
}

fn bounds(flags: &BoundsFlags, bounds: &mut Bounds, read: &mut Reading<'_>) {
    let any = 1..=usize::MAX;
    read.count(
        "--decompression-ratio-max",
        flags.decompression_ratio_max,
        any.clone(),
        &mut bounds.decompression_ratio_max,
    );
    read.size(
        "--buffered-max",
        &flags.buffered_max,
        any.clone(),
        "what memory holds, such as 1GiB",
        &mut bounds.buffered_bytes_max,
    );
    // hyper's own bounds are above these.
    let head_max = 1..=256 << 10;
    read.size("--header-bytes-max", &flags.header_bytes_max, head_max, "256KiB", &mut bounds.header_bytes_max);
    read.count("--headers-max", flags.headers_max, 1..=100, &mut bounds.headers_max);
    read.size("--uri-max", &flags.uri_max, 1..=32 << 10, "32KiB", &mut bounds.uri_bytes_max);
    read.duration("--body-timeout", &flags.body_timeout, &mut bounds.body_timeout);
    read.duration("--answer-timeout", &flags.answer_timeout, &mut bounds.answer_timeout);
    read.duration("--idle-timeout", &flags.idle_timeout, &mut bounds.idle_timeout);
    read.count("--streams-max", flags.streams_max, 1..=u32::MAX, &mut bounds.streams_max);
    read.count("--resets-max", flags.resets_max, any.clone(), &mut bounds.resets_max);
    let request = &mut bounds.request;
    read.count("--json-depth-max", flags.json_depth_max, any.clone(), &mut request.depth_max);
    read.count("--tensors-max", flags.tensors_max, any.clone(), &mut request.tensors_max);
    read.count("--outputs-max", flags.outputs_max, any.clone(), &mut request.outputs_max);
    read.count("--parameters-max", flags.parameters_max, any.clone(), &mut request.parameters_max);
    read.size(
        "--string-max",
        &flags.string_max,
        any,
        "what memory holds, such as 16KiB",
        &mut request.string_bytes_max,
    );
}

/// Reads one flag after the other, and gathers what is wrong.
pub(in crate::config) struct Reading<'a> {
    pub(in crate::config) faults: &'a mut Vec<Fault>,
}

impl Reading<'_> {
    pub(in crate::config) fn count<T: PartialOrd + Display + Copy>(
        &mut self,
        key: &str,
        given: Option<T>,
        allowed: RangeInclusive<T>,
        target: &mut T,
    ) {
        match given {
            None => {}
            Some(count) if allowed.contains(&count) => *target = count,
            Some(count) if count < *allowed.start() => {
                self.faults.push(Fault::new(key, format!("is {count}, expected at least {}", allowed.start())));
            }
            Some(count) => self.faults.push(Fault::new(key, format!("is {count}, expected at most {}", allowed.end()))),
        }
    }

    pub(in crate::config) fn size(
        &mut self,
        key: &str,
        given: &Option<String>,
        allowed: RangeInclusive<usize>,
        most: &str,
        target: &mut usize,
    ) {
        let Some(text) = given else { return };
        match parse_size(text).filter(|size| allowed.contains(size)) {
            Some(bytes) => *target = bytes,
            None => self.faults.push(Fault::new(key, format!("'{text}' is no size from 1 to {most}"))),
        }
    }

    fn duration(&mut self, key: &str, given: &Option<String>, target: &mut Duration) {
        match given.as_deref().map(parse_duration) {
            None => {}
            Some(Ok(duration)) => *target = duration,
            Some(Err(message)) => self.faults.push(Fault::new(key, message)),
        }
    }
}

/// As browsers send it: scheme, host and port, no path.
fn is_origin(text: &str) -> bool {
    let host = text.split_once("://").map(|(_, host)| host);
    text == "*" || text == "null" || host.is_some_and(|host| !host.is_empty() && !host.contains('/'))
}
