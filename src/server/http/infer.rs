//! `POST /v2/models/{model}[/versions/{version}]/infer`.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;
use tower::Service;

use super::JSON;
use crate::error::{Error, Result};
use crate::protocol::json::{self, Limits};
use crate::server::Doors;
use crate::server::body::{self, ResponseBody};
use crate::service::note_body;

/// Bytes of JSON before the binary tensors (V2 binary tensor data extension).
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

pub(super) async fn answer(
    model: String,
    version: Option<String>,
    headers: &HeaderMap,
    body: Incoming,
    doors: &Doors,
) -> Result<Response<ResponseBody>> {
    let header_length = header_length(headers)?;
    refuse_encoded(headers)?;
    let body = body::read(body, doors.body_bytes_max).await?;
    if doors.watch.is_some() {
        note_body(&body);
    }
    let (mut request, encoding) = json::decode_request(body, header_length, &Limits::default())?;
    request.model = model;
    request.version = version;
    let response = doors.stack.clone().call(request).await?;
    let encoded = json::encode_response(&response, &encoding)?;
    let mut answer = Response::new(ResponseBody::segments(encoded.segments));
    *answer.status_mut() = StatusCode::OK;
    let headers = answer.headers_mut();
    match encoded.json_length {
        None => drop(headers.insert(header::CONTENT_TYPE, JSON)),
        Some(length) => {
            headers.insert(header::CONTENT_TYPE, OCTETS);
            headers.insert(HEADER_LENGTH, HeaderValue::from(length));
        }
    }
    Ok(answer)
}

fn header_length(headers: &HeaderMap) -> Result<Option<usize>> {
    let Some(value) = headers.get(&HEADER_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or_else(|| {
        Error::invalid(format!("{HEADER_LENGTH} is {value:?}, expected the number of bytes of JSON before the tensors"))
    })
}

fn refuse_encoded(headers: &HeaderMap) -> Result<()> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            Err(Error::unsupported(format!("content-encoding {encoding:?} is not served, send the body as it is")))
        }
        _ => Ok(()),
    }
}
