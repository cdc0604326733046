//! THE table: what each kind of error is called over HTTP and over gRPC. Both doors read it, so they cannot drift apart.

use std::time::Duration;

use http::StatusCode;
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};
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

/// After how many milliseconds gRPC's own retries try again (gRFC A6).
const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// `error` as a gRPC status. Where another try makes sense after some time, that is told to gRPC's own retries and, as
/// `google.rpc.RetryInfo` in the details, to everybody else's.
pub fn to_grpc(error: &Error) -> Status {
    let code = of(error.kind()).1;
    let Some(after) = error.retry_after() else { return Status::new(code, error.message()) };
    let mut metadata = MetadataMap::new();
    metadata.insert(RETRY_PUSHBACK, MetadataValue::from(u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1)));
    let details = RpcStatus::retry(code, error.message(), after).encode_to_vec();
    Status::with_details_and_metadata(code, error.message(), details.into(), metadata)
}

/// `google.rpc.Status`, as `grpc-status-details-bin` holds it (googleapis, google/rpc/status.proto).
#[derive(Clone, PartialEq, Message)]
pub struct RpcStatus {
    /// The code once more.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// The message once more.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Messages that say more.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<RpcDetail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub struct RpcDetail {
    /// What it is.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.rpc.RetryInfo` (google/rpc/error_details.proto).
#[derive(Clone, PartialEq, Message)]
pub struct RetryInfo {
    /// How long to wait at least.
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<RpcDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct RpcDuration {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// The rest.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl RetryInfo {
    /// The name by which details say that they are one.
    pub const TYPE_URL: &str = "type.googleapis.com/google.rpc.RetryInfo";
}

impl RpcStatus {
    fn retry(code: Code, message: &str, after: Duration) -> Self {
        let seconds = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
        let retry_delay = Some(RpcDuration { seconds, nanos: after.subsec_nanos() as i32 });
        let value = RetryInfo { retry_delay }.encode_to_vec();
        let details = vec![RpcDetail { type_url: RetryInfo::TYPE_URL.into(), value }];
        Self { code: code.into(), message: message.into(), details }
    }
}

/// Whole seconds for a `Retry-After` header, rounded up; at least one, since zero invites a storm.
pub fn retry_after_seconds(error: &Error) -> Option<u64> {
    error.retry_after().map(|after| after.as_secs() + u64::from(after.subsec_nanos() > 0)).map(|seconds| seconds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_may_be_retried_says_when() {
        let error = Error::overloaded("full").with_retry_after(Duration::from_millis(1500));
        let status = to_grpc(&error);
        assert_eq!(status.metadata().get(RETRY_PUSHBACK).and_then(|value| value.to_str().ok()), Some("1500"));
        let details = RpcStatus::decode(status.details()).unwrap();
        assert_eq!((details.code, details.message.as_str()), (8, "full"));
        assert_eq!(details.details[0].type_url, RetryInfo::TYPE_URL);
        let info = RetryInfo::decode(&*details.details[0].value).unwrap();
        assert_eq!(info.retry_delay, Some(RpcDuration { seconds: 1, nanos: 500_000_000 }));
        assert!(to_grpc(&Error::invalid("no")).details().is_empty());
    }

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
