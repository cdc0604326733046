//! Answers that the router gives itself, in the words of both doors.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};

/// What goes back to the caller.
pub type Answer = Response<UnsyncBoxBody<Bytes, hyper::Error>>;

/// Why a request is not sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 503 and UNAVAILABLE: to be tried again, as clients do.
    Unavailable,
    /// 504 and DEADLINE_EXCEEDED.
    Late,
    /// 501 and UNIMPLEMENTED.
    Unsupported,
}

impl Refusal {
    fn codes(self) -> (StatusCode, u8) {
        match self {
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, 14),
            Self::Late => (StatusCode::GATEWAY_TIMEOUT, 4),
            Self::Unsupported => (StatusCode::NOT_IMPLEMENTED, 12),
        }
    }
}

/// A body that is there whole.
pub fn whole(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    answer
}

/// `{"error": message}` with a status.
pub fn error(status: StatusCode, message: &str) -> Answer {
    json(status, &serde_json::json!({"error": message}))
}

/// JSON with a status.
pub fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    let mut answer = whole(status, body.to_string());
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
    }
    answer
}

/// A refusal as the caller's protocol has it.
pub fn refused(grpc: bool, refusal: Refusal, message: &str) -> Answer {
    let (status, code) = refusal.codes();
    if !grpc {
        return error(status, message);
    }
    let mut answer = super::grpc::refused(code, message);
    if refusal == Refusal::Unavailable {
        // As the server says it (gRPC's proposal A6): after a second, as `Retry-After` has it.
        answer.headers_mut().insert("grpc-retry-pushback-ms", HeaderValue::from_static("1000"));
    }
    answer
}

/// HTTP's statuses and gRPC's codes for the same, in the order in which they are looked for: the server's table, and what others send.
const CODES: [(u16, u8); 19] = [
    (400, 3),
    (401, 16),
    (403, 7),
    (404, 5),
    (409, 9),
    (429, 8),
    (499, 1),
    (500, 13),
    (501, 12),
    (503, 14),
    (504, 4),
    (405, 12),
    (408, 4),
    (413, 8),
    (414, 8),
    (431, 8),
    (502, 14),
    (400, 11),
    (409, 10),
];

/// gRPC's code for a status of HTTP.
pub fn code_of_status(status: u16) -> u8 {
    let other = if (400..500).contains(&status) { 3 } else { 13 };
    CODES.iter().find(|(own, _)| *own == status).map_or(other, |(_, code)| *code)
}

/// HTTP's status for a code of gRPC.
pub fn status_of_code(code: u8) -> u16 {
    CODES.iter().find(|(_, own)| *own == code).map_or(500, |(status, _)| *status)
}
