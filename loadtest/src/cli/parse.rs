//! Values of the command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

/// `200us`, `500ms`, `5s` or `1m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number: f64 = text[..text.len() - unit.len()].parse().map_err(|_| format!("{text}: not like 500ms or 5s"))?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        _ => return Err(format!("{text}: the unit is us, ms, s or m")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("{text}: {error}"))
}

/// A duration above zero.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|span| if span.is_zero() { Err(format!("{text}: has to be above zero")) } else { Ok(span) })
}

/// Requests per second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| format!("{text}: a rate is a number above zero"))
}

/// A share between 0 and 1, given so or in percent.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = text.strip_suffix('%').map_or((text, 1.0), |number| (number.trim(), 100.0));
    let share = number.parse::<f64>().ok().map(|number| number / unit).filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| format!("{text}: a share is above 0 and at most 1, such as 0.99 or 99%"))
}

/// `name:value`.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("{text}: a header is name:value"))?;
    let (name, value) = (name.trim(), value.trim());
    let valid = http::HeaderName::try_from(name).is_ok() && http::HeaderValue::try_from(value).is_ok();
    if valid { Ok((name.to_owned(), value.to_owned())) } else { Err(format!("{text}: not a valid header")) }
}

/// `NAME:1x512` or `NAME:1,512`.
pub(crate) fn shape(text: &str) -> Result<(String, Vec<i64>), String> {
    let wrong = || format!("{text}: a shape is NAME:1x512");
    let (name, dims) = text.rsplit_once(':').ok_or_else(wrong)?;
    let dims: Option<Vec<i64>> = dims.split(['x', ',']).map(|dim| dim.parse().ok().filter(|dim| *dim >= 0)).collect();
    Ok((name.to_owned(), dims.ok_or_else(wrong)?))
}

/// `NAME:LOW:HIGH`.
pub(crate) fn range(text: &str) -> Result<(String, f64, f64), String> {
    let wrong = || format!("{text}: a range is NAME:LOW:HIGH");
    let (rest, high) = text.rsplit_once(':').ok_or_else(wrong)?;
    let (name, low) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let bound = |text: &str| text.parse::<f64>().ok().filter(|bound| bound.is_finite());
    match (bound(low), bound(high)) {
        (Some(low), Some(high)) if low <= high => Ok((name.to_owned(), low, high)),
        _ => Err(wrong()),
    }
}

/// `NAME=VALUE`; a value that reads as a JSON boolean or number is one.
pub(crate) fn parameter(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text}: a parameter is NAME=VALUE"))?;
    let scalar = serde_json::from_str(value).ok().filter(|value: &Value| value.is_boolean() || value.is_number());
    Ok((name.to_owned(), scalar.unwrap_or_else(|| Value::from(value))))
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// HTTP/1.1.
    Http,
    /// gRPC over HTTP/2 in the clear.
    Grpc,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Url {
    /// How it is spoken to.
    pub(crate) scheme: Scheme,
    /// `HOST:PORT` as given.
    pub(crate) host: String,
    /// The first IPv4 address behind it, else the first.
    pub(crate) address: SocketAddr,
    /// What follows, without a slash at its end.
    pub(crate) path: String,
}

/// `http://HOST:PORT[/PATH]` or `grpc://HOST:PORT`.
pub(crate) fn url(text: &str) -> Result<Url, String> {
    let (scheme, rest) = match text.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("grpc", rest)) => (Scheme::Grpc, rest),
        _ => return Err(format!("{text}: a URL begins with http:// or grpc://")),
    };
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let addresses: Vec<SocketAddr> = host.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?.collect();
    // Of a name with both kinds, such as localhost, the one that more servers listen on.
    let address = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    let address = *address.ok_or_else(|| format!("{host}: no address"))?;
    let path = path.trim_end_matches('/').to_owned();
    if scheme == Scheme::Grpc && !path.is_empty() {
        return Err(format!("{text}: gRPC has no path; the model goes into --model"));
    }
    Ok(Url { scheme, host: host.to_owned(), address, path })
}

/// `NAME=URL`.
pub(crate) fn named_url(text: &str) -> Result<(String, Url), String> {
    let named = text.split_once('=').filter(|(name, _)| !name.is_empty() && !name.contains("://"));
    let (name, rest) = named.ok_or_else(|| format!("{text}: a server is NAME=URL"))?;
    Ok((name.to_owned(), url(rest)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_rates_and_shares_are_read_or_refused() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("200us"), Ok(Duration::from_micros(200)));
        assert!(duration("5").is_err() && duration("s").is_err() && duration("-1s").is_err());
        assert!(span("0s").is_err());
        assert!(rate("0").is_err() && rate("nan").is_err());
        assert_eq!((share("0.99"), share("99.5%")), (Ok(0.99), Ok(0.995)));
        assert!(share("99").is_err() && share("0").is_err());
    }

    #[test]
    fn headers_shapes_ranges_and_parameters_are_read_or_refused() {
        assert_eq!(header("a: b:c"), Ok(("a".to_owned(), "b:c".to_owned())));
        assert!(header("a").is_err() && header("a\r\nb:c").is_err());
        assert_eq!(shape("x:0:1x512"), Ok(("x:0".to_owned(), vec![1, 512])));
        assert_eq!(shape("x:3,4"), Ok(("x".to_owned(), vec![3, 4])));
        assert!(shape("x").is_err() && shape("x:1x-1").is_err() && shape("x:").is_err());
        assert_eq!(range("x:-1:2.5"), Ok(("x".to_owned(), -1.0, 2.5)));
        assert!(range("x:2:1").is_err() && range("x:1").is_err());
        assert_eq!(parameter("timeout=50"), Ok(("timeout".to_owned(), Value::from(50))));
        assert_eq!(parameter("who=me"), Ok(("who".to_owned(), Value::from("me"))));
    }

    #[test]
    fn urls_tell_the_protocol_the_address_and_the_path() {
        let found = url("http://127.0.0.1:80/v2/").unwrap();
        assert_eq!((found.scheme, found.address.port(), found.path.as_str()), (Scheme::Http, 80, "/v2"));
        assert!(url("http://localhost:80").unwrap().address.is_ipv4());
        assert!(url("http://[::1]:80").unwrap().address.is_ipv6());
        assert_eq!(named_url("a=grpc://127.0.0.1:81").unwrap().1.scheme, Scheme::Grpc);
        assert!(url("https://127.0.0.1:80").is_err() && url("grpc://127.0.0.1:80/x").is_err());
        assert!(named_url("http://127.0.0.1:80").is_err());
    }
}
