//! When an answer becomes useless, as the head of a request says it.
//!
//! gRPC has one header for it, `grpc-timeout`; HTTP has none that is agreed upon. Taken here are ours, `request-timeout` in
//! the words of flags ("50ms", "1.5s"), the one that Envoy (and so Istio) tells a service how long it will wait by, and
//! gRPC's, which proxies that translate between the two pass on. The earliest counts.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::model::settings::parse_duration;

/// gRPC's: at most eight digits and a unit (gRPC over HTTP/2, "Requests").
pub(super) const GRPC_TIMEOUT: &str = "grpc-timeout";
/// Ours.
pub(super) const REQUEST_TIMEOUT: &str = "request-timeout";
/// Envoy's: milliseconds.
pub(super) const ENVOY_TIMEOUT: &str = "x-envoy-expected-rq-timeout-ms";

/// The deadline of a gRPC call. A time-out that is none is ignored, as gRPC's own servers do.
pub(super) fn of_grpc(headers: &HeaderMap) -> Option<Instant> {
    let timeout = grpc_timeout(headers.get(GRPC_TIMEOUT)?.to_str().ok()?)?;
    Instant::now().checked_add(timeout)
}

/// The deadline of an HTTP request.
///
/// # Errors
/// `InvalidRequest` where a header is there and is no time.
pub(super) fn of_http(headers: &HeaderMap) -> Result<Option<Instant>> {
    let mut timeout = None;
    for (name, expected, parse) in [
        (REQUEST_TIMEOUT, "a time such as 50ms", own_timeout as fn(&str) -> Option<Duration>),
        (ENVOY_TIMEOUT, "a whole number of milliseconds", |text| text.parse().ok().map(Duration::from_millis)),
        (GRPC_TIMEOUT, "digits and a unit, such as 50m", grpc_timeout),
    ] {
        let Some(value) = headers.get(name) else { continue };
        let given = value.to_str().ok().and_then(|text| parse(text.trim()));
        let given = given.ok_or_else(|| Error::invalid(format!("{name} is {value:?}, expected {expected}")))?;
        timeout = Some(timeout.map_or(given, |least: Duration| least.min(given)));
    }
    // One beyond the end of time is none.
    Ok(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
}

fn own_timeout(text: &str) -> Option<Duration> {
    parse_duration(text).ok()
}

fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let plain = digits.len() <= 8 && digits.bytes().all(|digit| digit.is_ascii_digit());
    let amount: u64 = digits.parse().ok().filter(|_| plain)?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
        given.iter().map(|&(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_of_all_headers_counts() {
        let after = |given| of_http(&headers(given)).unwrap().map(|at| (at - Instant::now()).as_millis());
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[(REQUEST_TIMEOUT, "1.5s")]), Some(1500));
        assert_eq!(after(&[(REQUEST_TIMEOUT, "1.5s"), (ENVOY_TIMEOUT, "250")]), Some(250));
        assert_eq!(after(&[(ENVOY_TIMEOUT, "250"), (GRPC_TIMEOUT, "7m")]), Some(7));
        assert_eq!(of_grpc(&headers(&[(GRPC_TIMEOUT, "2S")])).map(|at| (at - Instant::now()).as_secs()), Some(2));
    }

    #[test]
    fn a_header_that_is_no_time_is_refused_over_http_with_its_name() {
        for (name, value) in [(REQUEST_TIMEOUT, "soon"), (ENVOY_TIMEOUT, "-1"), (GRPC_TIMEOUT, "123456789m")] {
            let error = of_http(&headers(&[(name, value)])).unwrap_err();
            assert!(error.message().contains(name) && error.message().contains(value), "{error}");
        }
        assert_eq!(of_grpc(&headers(&[(GRPC_TIMEOUT, "x")])), None);
    }
}
