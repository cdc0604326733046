//! `Accept-Encoding`: which coding the client likes best (RFC 9110, 12.5.3).

use http::{HeaderMap, header};

use super::Coding;

/// A weight in thousandths. Codings that are not listed and not covered by `*` are not acceptable.
type Weight = u16;

/// The coding of the answer; `None` for none.
pub(in crate::server::http) fn choose(headers: &HeaderMap) -> Option<Coding> {
    let (mut weights, mut identity, mut others) = ([None; Coding::ALL.len()], None, None);
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        let Ok(value) = value.to_str() else { continue };
        for item in value.split(',') {
            let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
            let (name, weight) = (name.trim(), weight(parameters));
            match Coding::named(name) {
                Some(coding) => weights[coding as usize] = Some(weight),
                None if name == "*" => others = Some(weight),
                None if name.eq_ignore_ascii_case("identity") => identity = Some(weight),
                None => {}
            }
        }
    }
    let mut best: Option<(Weight, Coding)> = None;
    for (coding, listed) in Coding::ALL.into_iter().zip(weights) {
        let weight = listed.or(others).unwrap_or(0);
        // The first of equals is the one that we like best.
        if weight > best.map_or(0, |(weight, _)| weight) {
            best = Some((weight, coding));
        }
    }
    best.filter(|(weight, _)| identity.is_none_or(|identity| *weight >= identity)).map(|(_, coding)| coding)
}

/// The weight in an item's parameters: 1 where there is none, 0 where it makes no sense, since no is the safe answer.
fn weight(parameters: &str) -> Weight {
    let q = parameters.split(';').filter_map(|parameter| parameter.trim().split_once('='));
    let Some((_, value)) = q.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("q")) else { return 1000 };
    let value: f32 = value.trim().parse().unwrap_or(0.0);
    if (0.0..=1.0).contains(&value) { (value * 1000.0).round() as Weight } else { 0 }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn chosen(value: &'static str) -> Option<Coding> {
        let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]);
        choose(&headers)
    }

    #[test]
    fn weights_decide_and_among_equals_the_server() {
        assert_eq!(chosen("gzip, deflate, br, zstd"), Some(Coding::Gzip));
        assert_eq!(chosen("gzip, deflate"), Some(Coding::Gzip));
        assert_eq!(chosen("gzip;q=0.5, deflate;q=0.8"), Some(Coding::Deflate));
        assert_eq!(chosen("X-GZIP ; Q=1.000"), Some(Coding::Gzip));
        assert_eq!(chosen("gzip;q=0.9, zstd"), Some(Coding::Zstd));
        assert_eq!(chosen("zstd, deflate"), Some(Coding::Zstd));
        assert_eq!(chosen("zstd;q=0, *"), Some(Coding::Gzip));
        assert_eq!(chosen("*;q=0.1"), Some(Coding::Gzip));
    }

    #[test]
    fn nothing_is_compressed_for_a_client_that_does_not_ask() {
        for value in ["", "br", "identity", "gzip;q=0", "*;q=0", "identity, gzip;q=0.5", "gzip;q=2", "gzip;q=x"] {
            assert_eq!(chosen(value), None, "{value}");
        }
    }
}
