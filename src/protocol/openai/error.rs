//! Errors as OpenAI's clients read them: `{"error": {"message", "type", "param", "code"}}`.

use bytes::Bytes;
use http::StatusCode;

use crate::protocol::json::writer;

/// The body of a refusal with `status`.
pub fn encode_error(status: StatusCode, message: &str) -> Bytes {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    // The codes by which clients tell these apart; others have none.
    let code = match status.as_u16() {
        401 => Some("invalid_api_key"),
        404 => Some("model_not_found"),
        429 => Some("rate_limit_exceeded"),
        _ => None,
    };
    let mut out = Vec::with_capacity(message.len() + 96);
    out.extend_from_slice(b"{\"error\":{\"message\":");
    writer::string(&mut out, message);
    out.extend_from_slice(b",\"type\":");
    writer::string(&mut out, kind);
    out.extend_from_slice(b",\"param\":");
    out.extend_from_slice(if status == StatusCode::NOT_FOUND { b"\"model\"" } else { b"null" });
    out.extend_from_slice(b",\"code\":");
    match code {
        Some(code) => writer::string(&mut out, code),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b"}}");
    out.into()
}
