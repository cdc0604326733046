//! `POST /v2/models/{model}[/versions/{version}]/infer`.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::body::{Body, Incoming};
use tokio::time::Instant;
use tower::Service;

use super::{JSON, aside, read_body};
use crate::error::{Error, Result};
use crate::protocol::json;
use crate::server::body::ResponseBody;
use crate::server::head::{HEADER_LENGTH, Head, REQUEST_ID};
use crate::server::{Doors, deadlines, timing};

/// A body announced to be larger is not read where its request would be refused for want of time anyway. Reading and
/// decoding a smaller one costs less than to look its model up twice.
const EARLY_BYTES: u64 = 64 << 10;

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

pub(super) async fn answer(
    model: String,
    version: Option<String>,
    parts: &Parts,
    head: Head,
    body: Incoming,
    doors: &Doors,
) -> Result<Response<ResponseBody>> {
    let header_length = if head.split { header_length(&parts.headers)? } else { None };
    let deadline = if head.deadline { deadlines::of_http(&parts.headers)? } else { None };
    if body.size_hint().lower() > EARLY_BYTES {
        doors.router.admit(&model, version.as_deref(), deadline)?;
    }
    let (body, _held) = read_body(&parts.headers, head, body, doors.body_bytes_max, doors).await?;
    // In a block, so that the request is not kept beside the future that it was moved into.
    let (response, encoding) = {
        let (mut request, encoding) =
            aside(body.len(), || json::decode_request(body, header_length, &doors.bounds.request))
                .map_err(|error| error.within(format_args!("model '{model}'")))?;
        request.sticky = doors.sticky(&model, version.as_deref(), &parts.headers);
        request.model = model;
        request.version = version;
        request.trace_id = trace_id(&parts.headers, head);
        request.deadline = deadline;
        (doors.stack.clone().call(request), encoding)
    };
    let response = response.await?;
    let answered = Instant::now();
    let encoded = json::encode_response(&response, &encoding)?;
    let timing = timing::value(&response.timing, answered.elapsed());
    let mut answer = Response::new(ResponseBody::segments(encoded.segments));
    *answer.status_mut() = StatusCode::OK;
    let headers = answer.headers_mut();
    if let Some(timing) = timing {
        headers.insert(timing::SERVER_TIMING, timing);
    }
    match encoded.json_length {
        None => drop(headers.insert(header::CONTENT_TYPE, JSON)),
        Some(length) => {
            headers.insert(header::CONTENT_TYPE, OCTETS);
            headers.insert(HEADER_LENGTH, HeaderValue::from(length));
        }
    }
    Ok(answer)
}

/// The id by which logs of proxies know the request.
pub(super) fn trace_id(headers: &HeaderMap, head: Head) -> Option<String> {
    let id = if head.request_id { headers.get(REQUEST_ID) } else { None };
    id.and_then(|id| id.to_str().ok()).map(Into::into)
}

pub(super) fn header_length(headers: &HeaderMap) -> Result<Option<usize>> {
    let Some(value) = headers.get(HEADER_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or_else(|| {
        Error::invalid(format!("{HEADER_LENGTH} is {value:?}, expected the number of bytes of JSON before the tensors"))
    })
}
