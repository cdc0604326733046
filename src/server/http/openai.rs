//! `/v1/embeddings`, `/rerank` and OpenAI's list of models, alone and behind KServe's `/openai`.

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::time::Instant;
use tower::Service;

use super::routes::Route;
use super::{JSON, as_json, compressed, read_body, with_body};
use crate::error::{Error, Result};
use crate::export::TraceContext;
use crate::infer::{InferRequest, InferResponse};
use crate::protocol::openai;
use crate::repository::Model;
use crate::server::body::ResponseBody;
use crate::server::guard::permit;
use crate::server::head::Head;
use crate::server::{Doors, deadlines, timing};
use crate::text::Form;

/// Who owns every model, in words that OpenAI's clients ask for.
const OWNER: &str = "tensorgate";

/// Whether errors under `path` are told in OpenAI's form.
pub(super) fn speaks(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    path.starts_with("/openai/") || ["/v1/embeddings", "/v1/rerank", "/rerank"].contains(&path)
}

/// Answers one of the routes of this module.
pub(super) async fn answer(
    route: &Route,
    parts: &Parts,
    head: Head,
    body: Incoming,
    doors: &Doors,
) -> Result<Response<ResponseBody>> {
    match route {
        Route::Embeddings => compressed(embeddings(parts, head, body, doors).await, parts, head),
        Route::Rerank => compressed(rerank(parts, head, body, doors).await, parts, head),
        Route::OpenAiModel { model: name } => model(name, doors).await,
        _ => Ok(models(doors)),
    }
}

async fn embeddings(parts: &Parts, head: Head, body: Incoming, doors: &Doors) -> Result<Response<ResponseBody>> {
    let (body, _held) = read_body(&parts.headers, head, body, doors.body_bytes_max, doors).await?;
    let asked = super::aside(body.len(), || openai::decode_embeddings(&body, &doors.bounds.request))?;
    let (response, answered) = run(asked.request, "embeddings", Form::embeds, parts, head, doors).await?;
    let encoded = openai::encode_embeddings(&response, asked.base64)?;
    Ok(timed(encoded, &response, answered))
}

async fn rerank(parts: &Parts, head: Head, body: Incoming, doors: &Doors) -> Result<Response<ResponseBody>> {
    let (body, _held) = read_body(&parts.headers, head, body, doors.body_bytes_max, doors).await?;
    let mut asked = super::aside(body.len(), || openai::decode_rerank(&body, &doors.bounds.request))?;
    let request = std::mem::take(&mut asked.request);
    let (response, answered) = run(request, "scores of pairs", Form::ranks, parts, head, doors).await?;
    let id = super::infer::trace_id(&parts.headers, head);
    let id = id.unwrap_or_else(|| format!("rerank-{}", TraceContext::of(None).trace));
    let encoded = openai::encode_rerank(&response, &asked, &id)?;
    Ok(timed(encoded, &response, answered))
}

/// Runs a request that only models whose text face `gives` what is wanted can answer.
async fn run(
    mut request: InferRequest,
    wanted: &str,
    gives: fn(&Form) -> bool,
    parts: &Parts,
    head: Head,
    doors: &Doors,
) -> Result<(InferResponse, Instant)> {
    permit(&parts.extensions, &request.model)?;
    request.deadline = if head.deadline { deadlines::of_http(&parts.headers)? } else { None };
    request.sticky = doors.sticky(&request.model, None, &parts.headers);
    request.trace_id = super::infer::trace_id(&parts.headers, head);
    // Whether it can be, and whether there is such a model, the stack tells too, and counts it.
    let _ = doors.repository.learn(&request.model, None, request.deadline).await;
    if let Ok(model) = doors.router.usual(&request.model, None) {
        has_face(&model, wanted, gives)?;
    }
    let response = doors.stack.clone().call(request).await?;
    Ok((response, Instant::now()))
}

fn has_face(model: &Model, wanted: &str, gives: fn(&Form) -> bool) -> Result<()> {
    let name = model.name();
    match model.text() {
        Some(face) if gives(face.form()) => Ok(()),
        Some(face) => {
            let outputs: Vec<&str> = face.form().signature().outputs.iter().map(|spec| &*spec.name).collect();
            let outputs = outputs.join(", ");
            Err(Error::invalid(format!("model '{name}' gives no {wanted}: what it gives for texts is {outputs}")))
        }
        None => {
            let why = "it takes no texts, since no tokenizer.json that fits lies beside it";
            Err(Error::invalid(format!("model '{name}' gives no {wanted}: {why}")))
        }
    }
}

fn timed(body: Bytes, response: &InferResponse, answered: Instant) -> Response<ResponseBody> {
    let timing = timing::value(&response.timing, answered.elapsed());
    let mut answer = with_body(StatusCode::OK, JSON, body);
    answer.headers_mut().extend(timing.map(|timing| (timing::SERVER_TIMING, timing)));
    answer
}

/// A model in OpenAI's words.
#[derive(Serialize)]
pub(super) struct Listed {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

impl Listed {
    /// Nobody keeps when a model was made: 1970 it is.
    pub(super) fn of(name: &str) -> Self {
        Self { id: name.to_owned(), object: "model", created: 0, owned_by: OWNER }
    }
}

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Listed>,
}

/// Models that are ready and take texts, in OpenAI's words.
pub(super) fn listed(doors: &Doors) -> Vec<Listed> {
    let models = doors.repository.index().into_iter();
    let takes_texts = models.filter(|model| model.ready.as_ref().is_some_and(|ready| ready.text().is_some()));
    takes_texts.map(|model| Listed::of(model.name.as_str())).collect()
}

/// OpenAI's list of models.
fn models(doors: &Doors) -> Response<ResponseBody> {
    as_json(StatusCode::OK, &List { object: "list", data: listed(doors) })
}

/// One of them.
async fn model(name: &str, doors: &Doors) -> Result<Response<ResponseBody>> {
    doors.repository.learn(name, None, None).await?;
    doors.repository.resolve(name, None)?;
    Ok(as_json(StatusCode::OK, &Listed::of(name)))
}
