//! The value that keeps a caller at a version: of a header, or over gRPC of metadata, or of a cookie.

use http::{HeaderMap, header};

use crate::model::traffic::Sticky;

/// What `headers` have at the place of `sticky`; empty values count as none.
pub(super) fn value<'a>(headers: &'a HeaderMap, sticky: &Sticky) -> Option<&'a [u8]> {
    let value = match sticky {
        Sticky::Header(name) => headers.get(name)?.as_bytes(),
        // HTTP/2 may spread cookies over several headers (RFC 9113, section 8.2.3).
        Sticky::Cookie(name) => {
            headers.get_all(header::COOKIE).iter().find_map(|line| cookie(line.as_bytes(), name))?
        }
    };
    (!value.is_empty()).then_some(value)
}

/// The value of the cookie called `name` (RFC 6265, section 4.2).
fn cookie<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    line.split(|&byte| byte == b';').find_map(|pair| {
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        (pair[..equals].trim_ascii() == name.as_bytes()).then(|| pair[equals + 1..].trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_and_over_several_headers() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; session=x=y ;b"));
        headers.append(header::COOKIE, HeaderValue::from_static("late=2"));
        let of = |name: &str| value(&headers, &Sticky::Cookie(name.into()));
        assert_eq!(of("session"), Some(&b"x=y"[..]));
        assert_eq!(of("late"), Some(&b"2"[..]));
        assert_eq!((of("b"), of("sess")), (None, None));
    }

    #[test]
    fn an_empty_header_is_no_key() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", HeaderValue::from_static(""));
        assert_eq!(value(&headers, &Sticky::Header("x-user".into())), None);
        headers.insert("x-user", HeaderValue::from_static("ann"));
        assert_eq!(value(&headers, &Sticky::Header("x-user".into())), Some(&b"ann"[..]));
    }
}
