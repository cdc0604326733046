//! V1: `/v1/models`, `/v1/models/{model}` and `/v1/models/{model}:predict`.

use std::collections::BTreeSet;

use http::request::Parts;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use tower::Service;

use super::{JSON, as_json, read_body, with_body};
use crate::error::{Error, Result};
use crate::protocol::v1;
use crate::server::Doors;
use crate::server::body::ResponseBody;
use crate::server::head::Head;

#[derive(Serialize)]
struct Models {
    models: BTreeSet<String>,
}

/// The names of everything in the repository, ready or not, as KServe lists them.
pub(super) fn models(doors: &Doors) -> Response<ResponseBody> {
    let lines = doors.repository.index_lines(false);
    as_json(StatusCode::OK, &Models { models: lines.into_iter().map(|line| line.name.to_string()).collect() })
}

#[derive(Serialize)]
struct Status<'a> {
    name: &'a str,
    ready: bool,
}

/// Whether a model is ready.
pub(super) fn model(name: &str, version: Option<&str>, doors: &Doors) -> Result<Response<ResponseBody>> {
    match doors.repository.why_not_ready(name, version)? {
        None => Ok(as_json(StatusCode::OK, &Status { name, ready: true })),
        Some(error) => Err(error),
    }
}

/// Explanations need a model that gives them.
pub(super) fn explain(name: &str, version: Option<&str>, doors: &Doors) -> Error {
    match doors.repository.resolve(name, version) {
        Ok(_) => Error::unsupported(format!("model '{name}' gives no explanations, only predictions")),
        Err(error) => error,
    }
}

pub(super) async fn predict(
    model: String,
    version: Option<String>,
    parts: &Parts,
    head: Head,
    body: Incoming,
    doors: &Doors,
) -> Result<Response<ResponseBody>> {
    let (body, _held) = read_body(&parts.headers, head, body, doors.body_bytes_max, doors).await?;
    let trace_id = super::infer::trace_id(&parts.headers, head);
    let (mut request, form) = match doors.repository.resolve(&model, version.as_deref()) {
        Ok(ready) => {
            let decoded = v1::decode_predict(&body, ready.signature(), &doors.bounds.request);
            decoded.map_err(|error| error.within(format_args!("model '{model}'")))?
        }
        // The stack gives the same answer, and counts it.
        Err(_) => (Default::default(), v1::Form::Columns),
    };
    (request.model, request.version, request.trace_id) = (model, version, trace_id);
    let response = doors.stack.clone().call(request).await?;
    Ok(with_body(StatusCode::OK, JSON, v1::encode_predictions(&response, form)?))
}
