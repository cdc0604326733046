//! What gRPC has around its messages: paths, statuses and trailers.
//! Source: grpc.io, "gRPC over HTTP2"; the statuses are the project's own table (`protocol/status.rs` of the server).

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue};

use super::answer::{Answer, whole};
use crate::v2::frame;

/// The one call that runs a model.
pub const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// What an answer says of its end, in its trailers or, where it has nothing else, in its headers: the code and the message.
pub fn outcome(headers: &HeaderMap, trailers: &HeaderMap) -> Option<(u8, String)> {
    let of = |all: &HeaderMap| {
        let code = all.get("grpc-status")?.to_str().ok()?.parse().ok()?;
        let told = all.get("grpc-message").map(|own| decoded(own.as_bytes())).unwrap_or_default();
        Some((code, told))
    };
    of(trailers).or_else(|| of(headers))
}

/// A message, and that all is well.
pub fn answered(message: &[u8]) -> Answer {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(frame::framed(message)).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut answer = Answer::new(body.map_err(|never| match never {}).boxed_unsync());
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    answer
}

/// A refusal, in the words of a code.
pub fn refused(code: u8, told: &str) -> Answer {
    let mut answer = whole(StatusCode::OK, Bytes::new());
    let headers = answer.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(u16::from(code)));
    if let Ok(told) = HeaderValue::from_str(&encoded(told)) {
        headers.insert("grpc-message", told);
    }
    answer
}

/// Letters of a message at most: what fits into the headers that clients take.
const MESSAGE_MAX: usize = 2000;

/// Printable ASCII as it is, anything else by its bytes.
fn encoded(told: &str) -> String {
    let mut text = String::with_capacity(told.len());
    for byte in told.bytes().take(MESSAGE_MAX) {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn decoded(told: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(told.len());
    let mut rest = told;
    while let Some((byte, behind)) = rest.split_first() {
        let escaped = behind.get(..2).filter(|_| *byte == b'%').and_then(|own| std::str::from_utf8(own).ok());
        match escaped.and_then(|own| u8::from_str_radix(own, 16).ok()) {
            Some(own) => {
                bytes.push(own);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_any_letters_come_back_and_the_trailers_go_first() {
        let told = "100 % déjà\nvu";
        assert_eq!(encoded(told), "100 %25 d%C3%A9j%C3%A0%0Avu");
        assert_eq!(decoded(encoded(told).as_bytes()), told);
        assert_eq!(decoded(b"%zz%4"), "%zz%4");
        let with = |code: &'static str| {
            let mut all = HeaderMap::new();
            all.insert("grpc-status", HeaderValue::from_static(code));
            all
        };
        assert_eq!(outcome(&HeaderMap::new(), &HeaderMap::new()), None);
        assert_eq!(outcome(&with("0"), &with("13")), Some((13, String::new())));
        assert_eq!(outcome(&with("5"), &HeaderMap::new()), Some((5, String::new())));
    }
}
