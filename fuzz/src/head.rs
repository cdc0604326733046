//! Heads of requests, and the small bodies of the trace and logging calls.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tensorgate::export::TraceContext;
use tensorgate::server::{Bounds, Rate, decoders};

use super::tensors::blames_the_client;

/// A head as HTTP/1.1 writes it, and behind an empty line a body. Lines that are none are left out, as hyper refuses them.
pub fn head(data: &[u8]) {
    let end = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let (head, body) = data.split_at(end);
    let body = body.get(2..).unwrap_or_default();
    let mut lines = head.split(|&byte| byte == b'\n');
    let mut start = lines.next().unwrap_or_default().split(|&byte| byte == b' ');
    let method = start.next().and_then(|text| Method::from_bytes(text).ok()).unwrap_or(Method::POST);
    let Some(uri) = start.next().and_then(|text| Uri::try_from(text).ok()) else { return };
    let header = |line: &[u8]| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let value = line[colon + 1..].trim_ascii();
        Some((HeaderName::from_bytes(&line[..colon]).ok()?, HeaderValue::from_bytes(value).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(header) {
        headers.append(name, value);
    }
    path_and_headers(&method, &uri, &headers);
    small_body(body);
}

fn path_and_headers(method: &Method, uri: &Uri, headers: &HeaderMap) {
    let read = match decoders::read_head(method, uri, headers, &Bounds::default()) {
        Ok(read) => read,
        Err(error) => return blames_the_client(&error),
    };
    // What the guard allowed is what the door then does.
    if let Some(asked) = &read.asked {
        assert_eq!((asked.scope, asked.model.as_deref().unwrap_or_default()), (read.guarded.0, &*read.guarded.1));
    }
    for error in [read.header_length.err(), read.coding.err()].into_iter().flatten() {
        blames_the_client(&error);
    }
    for value in headers.get_all("traceparent") {
        let Ok(text) = value.to_str() else { continue };
        let context = TraceContext::of(Some(text));
        let (trace, parent) = (context.trace.to_string(), context.parent.map(|parent| parent.to_string()));
        assert_eq!(trace.len(), 32);
        assert!(parent.is_none_or(|parent| parent.len() == 16 && text.contains(&parent) && text.contains(&trace)));
    }
    for value in headers.get_all("x-rate") {
        let _ = value.to_str().map(Rate::parse);
    }
}

fn small_body(body: &[u8]) {
    let traces = decoders::trace_changes(body);
    for error in [traces.err(), decoders::log_changes(body).err()] {
        error.iter().for_each(blames_the_client);
    }
}
