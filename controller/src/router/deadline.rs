//! When an answer becomes useless to the caller, as the headers of a request say it: those that the server reads (its
//! `server/deadlines.rs` has where each comes from). The earliest counts; what is no time is the server's to refuse, and left aside here.

use std::time::Duration;

use hyper::header::HeaderMap;

/// Ours: `50ms`, `1.5s`.
pub const REQUEST_TIMEOUT: &str = "request-timeout";

/// How long the caller waits, if he says so.
pub fn stated(headers: &HeaderMap) -> Option<Duration> {
    let read = |name: &str, parse: fn(&str) -> Option<Duration>| parse(headers.get(name)?.to_str().ok()?.trim());
    let all = [
        read("grpc-timeout", grpc_timeout),
        read(REQUEST_TIMEOUT, duration),
        read("x-envoy-expected-rq-timeout-ms", |text| text.parse().ok().map(Duration::from_millis)),
    ];
    all.into_iter().flatten().min()
}

/// At most eight digits and a unit (gRPC over HTTP/2, "Requests").
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok().filter(|_| digits.len() <= 8 && !digits.starts_with('+'))?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// A number and one of us, ms, s, m, h.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|own: char| own.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    Duration::try_from_secs_f64(number * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_of_all_headers_counts_and_what_is_no_time_is_left_aside() {
        let given = |pairs: &[(&'static str, &'static str)]| {
            stated(&pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect())
        };
        assert_eq!(given(&[]), None);
        assert_eq!(given(&[("grpc-timeout", "20m")]), Some(Duration::from_millis(20)));
        assert_eq!(given(&[("grpc-timeout", "1S"), ("request-timeout", "1.5ms")]), Some(Duration::from_micros(1500)));
        assert_eq!(
            given(&[("request-timeout", "2s"), ("x-envoy-expected-rq-timeout-ms", "700")]),
            Some(Duration::from_millis(700))
        );
        for odd in ["", "m", "+1m", "123456789m", "é", "1x"] {
            assert_eq!(grpc_timeout(odd), None, "{odd}");
        }
        for odd in ["", "5", "-1s", "1 day", "infs", "é"] {
            assert_eq!(duration(odd), None, "{odd}");
        }
    }
}
