//! Answers that hyper gives by itself to a head that it cannot read, with the body that every error has.

use http::StatusCode;

use super::Bounds;
use crate::protocol::json;

/// How a refusal of hyper's begins; every answer of ours to a bad request has a body.
const START: &[u8] = b"HTTP/1.1 4";
/// What tells it from ours.
const NO_BODY: &str = "\r\ncontent-length: 0\r\n";
/// Bytes of the longest: status line, three headers.
const BYTES_MAX: usize = 200;

/// What is written instead.
pub(super) struct Refusal {
    status: u16,
    bytes: Vec<u8>,
    written: usize,
    /// Bytes of hyper's answer.
    replaced: usize,
}

impl Refusal {
    /// What to write instead of `data`, where it is a refusal without a body.
    pub(super) fn instead_of(data: &[u8], bounds: &Bounds) -> Option<Self> {
        if !data.starts_with(START) || data.len() > BYTES_MAX || !data.ends_with(b"\r\n\r\n") {
            return None;
        }
        let head = std::str::from_utf8(data).ok().filter(|head| head.matches("\r\n\r\n").count() == 1)?;
        let (before, after) = head.split_once(NO_BODY)?;
        let status: StatusCode = head.get(9..12)?.parse().ok()?;
        let body = json::encode_error(&message(status, bounds));
        let mut bytes =
            format!("{before}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{after}", body.len())
                .into_bytes();
        bytes.extend_from_slice(&body);
        Some(Self { status: status.as_u16(), bytes, written: 0, replaced: data.len() })
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// What is still to be written.
    pub(super) fn rest(&self) -> Option<&[u8]> {
        self.bytes.get(self.written..).filter(|rest| !rest.is_empty())
    }

    pub(super) fn wrote(&mut self, count: usize) {
        self.written += count;
    }

    pub(super) fn replaced(&self) -> usize {
        self.replaced
    }
}

fn message(status: StatusCode, bounds: &Bounds) -> String {
    match status {
        StatusCode::URI_TOO_LONG => {
            format!("the path is too long, at most {} bytes are accepted (--uri-max)", bounds.uri_bytes_max)
        }
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => format!(
            "the head is too large, at most {} headers of together {} bytes are accepted (--headers-max, \
             --header-bytes-max)",
            bounds.headers_max, bounds.header_bytes_max
        ),
        _ => {
            "the head is malformed, expected 'METHOD path HTTP/1.1', lines of 'name: value', at most one length of the \
              body, and an empty line"
                .into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYPERS: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\
        date: Mon, 23 Nov 2026 22:00:00 GMT\r\n\r\n";

    #[test]
    fn a_refusal_without_a_body_gets_one() {
        let mut refusal = Refusal::instead_of(HYPERS, &Bounds::default()).unwrap();
        let text = String::from_utf8(refusal.rest().unwrap().to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())) && head.contains("connection: close"));
        assert!(body.starts_with("{\"error\":\"the head is too large") && body.contains("--headers-max"), "{body}");
        refusal.wrote(text.len());
        assert_eq!((refusal.rest(), refusal.replaced(), refusal.status()), (None, HYPERS.len(), 431));
    }

    #[test]
    fn other_answers_are_left_alone() {
        let ours = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
        for data in [&ours[..], b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"", &HYPERS[..HYPERS.len() - 1]] {
            assert!(Refusal::instead_of(data, &Bounds::default()).is_none());
        }
    }
}
