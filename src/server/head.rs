//! What the doors want to know of a request's headers, found out in one pass over them.
//!
//! A lookup by name hashes the name; most requests have none of the headers asked for here but the content type. The one
//! pass costs less than two lookups, and counts the bytes on the way.

use http::{HeaderMap, StatusCode, Uri};

use super::{Bounds, deadlines};

/// The id that a proxy or client gives a request, for its logs and ours.
pub(super) const REQUEST_ID: &str = "x-request-id";
/// Bytes of JSON before the binary tensors (V2 binary tensor data extension).
pub(super) const HEADER_LENGTH: &str = "inference-header-content-length";

/// Which headers are there. The values are looked up by whoever acts on them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    /// The content type is one of gRPC's.
    pub(super) grpc: bool,
    /// `grpc-encoding`: the client compresses its messages.
    pub(super) grpc_encoded: bool,
    /// `content-encoding`.
    pub(super) encoded: bool,
    /// `accept-encoding`.
    pub(super) accepts_encoding: bool,
    /// [`HEADER_LENGTH`].
    pub(super) split: bool,
    /// [`REQUEST_ID`].
    pub(super) request_id: bool,
    /// `transfer-encoding`: over HTTP/1, the body is chunked.
    pub(super) chunked: bool,
    /// A header of [`super::deadlines`].
    pub(super) deadline: bool,
    /// How many `host` headers there are.
    pub(super) hosts: usize,
    /// `origin`: a script of a web page sent it.
    pub(super) origin: bool,
    /// Bytes of all names and values.
    pub(super) bytes: usize,
}

impl Head {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut head = Self::default();
        for (name, value) in headers {
            let name = name.as_str();
            head.bytes += name.len() + value.len();
            match name {
                "content-type" => head.grpc = value.as_bytes().starts_with(b"application/grpc"),
                "grpc-encoding" => head.grpc_encoded = value != "identity",
                "content-encoding" => head.encoded = true,
                "accept-encoding" => head.accepts_encoding = true,
                HEADER_LENGTH => head.split = true,
                REQUEST_ID => head.request_id = true,
                "transfer-encoding" => head.chunked = true,
                deadlines::REQUEST_TIMEOUT | deadlines::ENVOY_TIMEOUT | deadlines::GRPC_TIMEOUT => head.deadline = true,
                "host" => head.hosts += 1,
                "origin" => head.origin = true,
                _ => {}
            }
        }
        head
    }

    /// Why a request with this head is not looked at further, and the HTTP status that says so.
    pub(super) fn refusal(self, headers: &HeaderMap, uri: &Uri, bounds: &Bounds) -> Option<(StatusCode, String)> {
        let uri_bytes = uri.path_and_query().map_or(0, |path| path.as_str().len());
        if uri_bytes > bounds.uri_bytes_max {
            let message =
                format!("the path has {uri_bytes} bytes, at most {} are accepted (--uri-max)", bounds.uri_bytes_max);
            return Some((StatusCode::URI_TOO_LONG, message));
        }
        let message = if headers.len() > bounds.headers_max {
            format!(
                "the request has {} headers, at most {} are accepted (--headers-max)",
                headers.len(),
                bounds.headers_max
            )
        } else if self.bytes > bounds.header_bytes_max {
            let Self { bytes, .. } = self;
            format!(
                "the headers have {bytes} bytes, at most {} are accepted (--header-bytes-max)",
                bounds.header_bytes_max
            )
        } else {
            return None;
        };
        Some((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message))
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    #[test]
    fn headers_are_found_and_counted_in_one_pass() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        headers.insert(REQUEST_ID, HeaderValue::from_static("7"));
        let head = Head::of(&headers);
        assert!(head.grpc && head.request_id && !head.encoded && !head.split && !head.origin);
        assert_eq!(head.bytes, "content-typeapplication/grpc+protox-request-id7".len());
    }
}
