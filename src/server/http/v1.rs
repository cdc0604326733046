//! V1: `/v1/models`, `/v1/models/{model}` and `/v1/models/{model}:predict`.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;
use percent_encoding::{CONTROLS, utf8_percent_encode};
use serde::Serialize;
use tokio::time::Instant;
use tower::Service;

use super::{JSON, as_json, openai, read_body, with_body};
use crate::error::{Error, Result};
use crate::export::{Clock, TraceContext};
use crate::protocol::v1::{self, events};
use crate::server::body::ResponseBody;
use crate::server::head::Head;
use crate::server::{Doors, deadlines, timing};

/// KServe's list, and OpenAI's, which has the same path.
#[derive(Serialize)]
struct Models {
    models: BTreeSet<String>,
    object: &'static str,
    data: Vec<openai::Listed>,
}

/// The names of everything in the repository, ready or not, as KServe lists them; in OpenAI's words what takes texts.
pub(super) fn models(doors: &Doors) -> Response<ResponseBody> {
    let lines = doors.repository.index_lines(false);
    let models = lines.into_iter().map(|line| line.name.to_string()).collect();
    as_json(StatusCode::OK, &Models { models, object: "list", data: openai::listed(doors) })
}

#[derive(Serialize)]
struct Status<'a> {
    name: &'a str,
    ready: bool,
    /// OpenAI's words for the same path.
    #[serde(flatten)]
    listed: openai::Listed,
}

/// Whether a model is ready.
pub(super) fn model(name: &str, version: Option<&str>, doors: &Doors) -> Result<Response<ResponseBody>> {
    match doors.repository.why_not_ready(name, version)? {
        None => Ok(as_json(StatusCode::OK, &Status { name, ready: true, listed: openai::Listed::of(name) })),
        Some(error) => Err(error),
    }
}

/// Explanations need a model that gives them.
pub(super) fn explain(name: &str, version: Option<&str>, doors: &Doors) -> Error {
    match doors.repository.why_not_ready(name, version).and_then(|why| why.map_or(Ok(()), Err)) {
        Ok(()) => Error::unsupported(format!("model '{name}' gives no explanations, only predictions")),
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
    let deadline = if head.deadline { deadlines::of_http(&parts.headers)? } else { None };
    let (body, _held) = read_body(&parts.headers, head, body, doors.body_bytes_max, doors).await?;
    let envelope = Envelope::of(&parts.headers);
    let body = if envelope == Envelope::Structured { events::data(&body)? } else { body };
    let trace_id = super::infer::trace_id(&parts.headers, head);
    // Whether it can be, the stack tells too.
    let _ = doors.repository.learn(&model, version.as_deref(), deadline).await;
    let (mut request, form) = match doors.router.usual(&model, version.as_deref()) {
        Ok(ready) => {
            let texts = ready.text().and_then(|face| v1::of_texts(&body, face.form().signature()));
            let signature = texts.as_ref().unwrap_or(ready.signature());
            let decoded = v1::decode_predict(&body, signature, &doors.bounds.request);
            decoded.map_err(|error| error.within(format_args!("model '{model}'")))?
        }
        // The stack gives the same answer, and counts it.
        Err(_) => (Default::default(), v1::Form::Columns),
    };
    request.sticky = doors.sticky(&model, version.as_deref(), &parts.headers);
    (request.model, request.version, request.trace_id) = (model, version, trace_id);
    request.deadline = deadline;
    let response = doors.stack.clone().call(request).await?;
    let answered = Instant::now();
    let predictions = v1::encode_predictions(&response, form)?;
    let timing = timing::value(&response.timing, answered.elapsed());
    let mut answer = envelope.around(response.model.as_str(), predictions);
    answer.headers_mut().extend(timing.map(|timing| (timing::SERVER_TIMING, timing)));
    Ok(answer)
}

/// How a request came, and so how its answer goes (CloudEvents' HTTP binding, 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Envelope {
    /// No event.
    None,
    /// The attributes are headers.
    Binary,
    /// The attributes stand around the data.
    Structured,
}

impl Envelope {
    fn of(headers: &HeaderMap) -> Self {
        let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case(events::STRUCTURED) {
            Envelope::Structured
        } else if ["ce-specversion", "ce-id", "ce-source", "ce-type"].iter().all(|name| headers.contains_key(*name)) {
            Envelope::Binary
        } else {
            Envelope::None
        }
    }

    fn around(self, model: &str, predictions: Bytes) -> Response<ResponseBody> {
        let attributes = || events::Attributes {
            id: TraceContext::of(None).trace.to_string(),
            time: Clock::start().rfc_3339(Instant::now()),
            model: model.to_owned(),
        };
        match self {
            Envelope::None => with_body(StatusCode::OK, JSON, predictions),
            Envelope::Structured => {
                let event = events::structured(&attributes(), &predictions);
                with_body(StatusCode::OK, HeaderValue::from_static(events::STRUCTURED), event)
            }
            Envelope::Binary => {
                let mut response = with_body(StatusCode::OK, JSON, predictions);
                for (name, value) in attributes().list() {
                    // A model's name may hold what a header may not.
                    let value = utf8_percent_encode(&value, CONTROLS).to_string();
                    let name = HeaderName::try_from(format!("ce-{name}"));
                    if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
                        response.headers_mut().insert(name, value);
                    }
                }
                response
            }
        }
    }
}
