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
    fn codes(self) -> (StatusCode, &'static str) {
        match self {
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "14"),
            Self::Late => (StatusCode::GATEWAY_TIMEOUT, "4"),
            Self::Unsupported => (StatusCode::NOT_IMPLEMENTED, "12"),
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
    let mut answer = whole(StatusCode::OK, Bytes::new());
    let headers = answer.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(code));
    if refusal == Refusal::Unavailable {
        // As the server says it (gRPC's proposal A6): after a second, as `Retry-After` has it.
        headers.insert("grpc-retry-pushback-ms", HeaderValue::from_static("1000"));
    }
    // Printable ASCII but per cent signs: what the message is made of.
    if let Ok(message) = HeaderValue::from_str(&message.replace('%', "%25")) {
        headers.insert("grpc-message", message);
    }
    answer
}
