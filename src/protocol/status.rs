//! THE table: what each kind of error is called over HTTP and over gRPC. Both doors read it, so they cannot drift apart.

use http::StatusCode;
use tonic::{Code, Status};

use crate::error::{Error, Kind};

/// nginx's status for a client that closed the request; the registry of HTTP statuses has none.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The HTTP status and the gRPC code of `kind`.
pub fn of(kind: Kind) -> (StatusCode, Code) {
    match kind {
        Kind::InvalidRequest => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
        Kind::Unauthenticated => (StatusCode::UNAUTHORIZED, Code::Unauthenticated),
        Kind::Forbidden => (StatusCode::FORBIDDEN, Code::PermissionDenied),
        Kind::UnknownModel => (StatusCode::NOT_FOUND, Code::NotFound),
        Kind::Conflict => (StatusCode::CONFLICT, Code::FailedPrecondition),
        Kind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
        Kind::Overloaded => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted),
        Kind::Cancelled => {
            (StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::BAD_REQUEST), Code::Cancelled)
        }
        Kind::SlowRequest => (StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded),
        Kind::Unsupported => (StatusCode::NOT_IMPLEMENTED, Code::Unimplemented),
        Kind::ModelUnavailable => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
        Kind::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded),
        Kind::Execution | Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal),
    }
}

/// `error` as a gRPC status.
pub fn to_grpc(error: &Error) -> Status {
    Status::new(of(error.kind()).1, error.message())
}

/// Whole seconds for a `Retry-After` header, rounded up; at least one, since zero invites a storm.
pub fn retry_after_seconds(error: &Error) -> Option<u64> {
    error.retry_after().map(|after| after.as_secs() + u64::from(after.subsec_nanos() > 0)).map(|seconds| seconds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_an_error_over_both_doors() {
        for kind in Kind::ALL {
            let (http, grpc) = of(kind);
            assert!(http.as_u16() >= 400, "{kind:?}");
            assert_ne!(grpc, Code::Ok, "{kind:?}");
        }
        assert_eq!(of(Kind::Cancelled).0.as_u16(), 499);
    }
}
