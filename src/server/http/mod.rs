//! The HTTP door.

mod answers;
pub(super) use answers::{SERVER_NAME, SERVER_VERSION, extensions};
mod coding;
mod cors;
pub mod decoders;
mod infer;
mod openai;
mod openapi;
mod routes;
mod settings;
mod shared_memory;
mod traffic;
mod v1;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::Doors;
use super::body::{GuardedBody, ResponseBody};
use super::bounds::{Buffered, Charge};
use super::head::{Head, REQUEST_ID};
use crate::error::{Error, Kind, Result};
use crate::protocol::{self, json, status};
use crate::service;
use coding::{Coding, InflateBounds};
use routes::Route;

pub use cors::Cors;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Prometheus' text format.
const METRICS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Bytes of a body that is neither an inference nor a load: filters of the index, settings.
const SMALL_BODY_BYTES_MAX: usize = 1 << 20;

/// Bytes that a thread does not decode at the cost of whoever else is on it: one or two milliseconds of JSON, against some
/// tens of microseconds that moving the others takes.
const ASIDE_BYTES: usize = 512 << 10;

/// What the HTTP door does beyond answering. By default, nothing.
#[derive(Clone, Debug, Default)]
pub struct HttpConfig {
    /// Whose web pages may use this server.
    pub cors: Cors,
    /// Put before each path by a gateway that does not take it off: `/serving/ns/name`. Paths without it are served too.
    pub path_prefix: Option<String>,
}

/// Answers any request, also one that the guard refused; every failure is a JSON body `{"error": ...}`.
#[allow(clippy::manual_async_fn, reason = "an async fn would keep the request beside the parts that it is taken into")]
pub(super) fn answer(
    request: Request<Incoming>,
    head: Head,
    refusal: Option<Error>,
    doors: &Doors,
) -> impl Future<Output = Response<ResponseBody>> {
    let (parts, body) = request.into_parts();
    async move {
        let mut response = match (refusal, head.refusal(&parts.headers, &parts.uri, &doors.bounds)) {
            // RFC 9112, section 3.2.
            (None, None) if parts.version == Version::HTTP_11 && head.hosts != 1 => {
                let message =
                    format!("the request has {} host headers, expected one, as HTTP/1.1 asks for", head.hosts);
                refused(StatusCode::BAD_REQUEST, &message)
            }
            (None, None) => routed(&parts, head, body, doors).await,
            (_, Some((status, message))) => told(parts.uri.path(), refused(status, &message), &message, doors),
            (Some(error), None) => told(parts.uri.path(), failed(&error), error.message(), doors),
        };
        // The headers that most requests lack cost them nothing.
        if head.request_id {
            let id = parts.headers.get(REQUEST_ID).cloned();
            response.headers_mut().extend(id.map(|id| (HeaderName::from_static(REQUEST_ID), id)));
        }
        if head.origin {
            doors.http.cors.expose(&parts.headers, &mut response);
        }
        response
    }
}

async fn routed(parts: &Parts, head: Head, body: Incoming, doors: &Doors) -> Response<ResponseBody> {
    let path = without_prefix(parts.uri.path(), doors.http.path_prefix.as_deref());
    let route = match found(path, parts, doors) {
        Ok(route) => route,
        Err(answer) => return *answer,
    };
    // On the heap, here and below: the future of an inference, which is moved often, stays as small as it is.
    let small = |body| Box::pin(read_body(&parts.headers, head, body, SMALL_BODY_BYTES_MAX, doors));
    let outcome = match route {
        Route::Infer { model, version } => {
            compressed(infer::answer(model, version, parts, head, body, doors).await, parts, head)
        }
        Route::Predict { model, version } => {
            compressed(Box::pin(v1::predict(model, version, parts, head, body, doors)).await, parts, head)
        }
        ref of_openai @ (Route::Embeddings | Route::Rerank | Route::OpenAiModels | Route::OpenAiModel { .. }) => {
            Box::pin(openai::answer(of_openai, parts, head, body, doors)).await
        }
        Route::Explain { model, version } => Err(v1::explain(&model, version.as_deref(), doors)),
        Route::OpenApi => Ok(as_json(StatusCode::OK, &openapi::document(&openapi::Served::of(doors)))),
        Route::V1Models => Ok(v1::models(doors)),
        Route::V1Model { model, version } => v1::model(&model, version.as_deref(), doors),
        Route::Metrics => {
            let known = Box::pin(doors.repository.known()).await;
            let gpus = doors.telemetry.gpus().await;
            compressed(Ok(text(doors.telemetry.render(&known, &doors.router.told(), &gpus))), parts, head)
        }
        Route::Statistics { model, version } => {
            Box::pin(answers::statistics(model.as_deref(), version.as_deref(), doors)).await
        }
        Route::Model { ref model, ref version } | Route::Config { ref model, ref version } => {
            match Box::pin(doors.repository.learn(model, version.as_deref(), None)).await {
                Ok(()) => answers::answer(&route, doors),
                Err(error) => Err(error),
            }
        }
        Route::RepositoryIndex => match small(body).await {
            Ok((body, _)) => answers::index(&body, doors),
            Err(error) => Err(error),
        },
        Route::Load { model } => Box::pin(load(model, parts, head, body, doors)).await,
        // The body is read so that the connection stays usable; `unload_dependents` has nothing to act on.
        Route::Unload { model } => match small(body).await {
            Ok(_) => Box::pin(unload(model, doors)).await,
            Err(error) => Err(error),
        },
        Route::TraceSetting { model } => match small(body).await {
            Ok((body, _)) => settings::trace(model.as_deref(), &parts.method, &body, doors),
            Err(error) => Err(error),
        },
        Route::Traffic { model } => match small(body).await {
            Ok((body, _)) => traffic::answer(&model, &parts.method, &body, doors),
            Err(error) => Err(error),
        },
        Route::Logging => match small(body).await {
            Ok((body, _)) => settings::logging(&parts.method, &body),
            Err(error) => Err(error),
        },
        Route::SharedMemory { extension, call, region } => match small(body).await {
            Ok((body, _)) => shared_memory::answer(extension, call, region.as_deref(), &body, doors),
            Err(error) => Err(error),
        },
        other => answers::answer(&other, doors),
    };
    outcome.unwrap_or_else(|error| told(path, failed(&error), error.message(), doors))
}

/// A refusal of a call of `path` with `message`, in the form that its clients read.
#[cold]
fn told(path: &str, mut refusal: Response<ResponseBody>, message: &str, doors: &Doors) -> Response<ResponseBody> {
    if openai::speaks(without_prefix(path, doors.http.path_prefix.as_deref())) {
        *refusal.body_mut() = ResponseBody::from(protocol::openai::encode_error(refusal.status(), message));
    }
    refusal
}

/// What `path` asks for by a method that it takes, or else the answer.
fn found(path: &str, parts: &Parts, doors: &Doors) -> Result<Route, Box<Response<ResponseBody>>> {
    let unknown = || {
        let message = format!("unknown path {}", shown(path));
        told(path, refused(StatusCode::NOT_FOUND, &message), &message, doors)
    };
    let route = routes::parse(path).map_err(|error| told(path, failed(&error), error.message(), doors))?;
    let route = route.ok_or_else(unknown)?;
    match &parts.method {
        &Method::OPTIONS => Err(options(&route, parts, doors).into()),
        method if route.accepts(method) => Ok(route),
        method => Err(method_not_allowed(&route, method, path, doors).into()),
    }
}

/// `path` as the routes know it.
pub(super) fn without_prefix<'a>(path: &'a str, prefix: Option<&str>) -> &'a str {
    let rest = prefix.and_then(|prefix| path.strip_prefix(prefix));
    rest.filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(path)
}

/// An inference's answer, or the metrics, compressed where the client wants that. Other answers are not: tritonclient's asyncio client says that
/// it accepts compression with every call, and then reads metadata as they came.
fn compressed(outcome: Result<Response<ResponseBody>>, parts: &Parts, head: Head) -> Result<Response<ResponseBody>> {
    outcome.map(|mut response| {
        coding::compress(&mut response, head, &parts.headers);
        response
    })
}

/// Reads a body of at most `bytes_max` bytes, inflated where it is compressed. What it counts for lasts as long as the
/// second value.
async fn read_body<'a>(
    headers: &HeaderMap,
    head: Head,
    body: Incoming,
    bytes_max: usize,
    doors: &'a Doors,
) -> Result<(Bytes, Charge<&'a Buffered>)> {
    let coding = if head.encoded { Coding::of_request(headers)? } else { None };
    let body = GuardedBody::new(body, &*doors.buffered, doors.bounds.body_timeout);
    let (body, mut held) = body.read(bytes_max).await?;
    let Some(coding) = coding else {
        note(&body, doors);
        return Ok((body, held));
    };
    let bounds = InflateBounds { bytes_max, ratio_max: doors.bounds.decompression_ratio_max };
    // A bomb takes as long as what it inflates to.
    let inflated = aside(body.len() * 100, || coding::inflate(coding, &body, bounds, &mut held))?;
    note(&inflated, doors);
    Ok((inflated, held))
}

/// Does `work` on `bytes` bytes. Where that takes long, the tasks of this thread go to others meanwhile: a client with small
/// requests must not wait for one with large ones.
fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let others = || Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if bytes > ASIDE_BYTES && others() { tokio::task::block_in_place(work) } else { work() }
}

/// Keeps a body for whoever watches the call.
fn note(body: &Bytes, doors: &Doors) {
    if doors.watch.is_some() {
        service::note_body(|| body.clone());
    }
}

/// A load, whose body may hold a model.
async fn load(
    model: String,
    parts: &Parts,
    head: Head,
    body: Incoming,
    doors: &Doors,
) -> Result<Response<ResponseBody>> {
    let (body, mut held) = read_body(&parts.headers, head, body, doors.body_bytes_max, doors).await?;
    // Decoded, the files take at most as much once more.
    held.raise(body.len().saturating_mul(2))?;
    let parameters = json::decode_load(&body, &doors.bounds.request)?;
    doors.repository.load(&model, parameters).await?;
    Ok(as_json(StatusCode::OK, &answers::LoadAnswer { name: &model, load: true }))
}

async fn unload(model: String, doors: &Doors) -> Result<Response<ResponseBody>> {
    doors.repository.unload(&model).await?;
    Ok(as_json(StatusCode::OK, &answers::UnloadAnswer { name: &model, unload: true }))
}

/// What a path takes; for a browser that asks on behalf of a web page, whether that page may.
fn options(route: &Route, parts: &Parts, doors: &Doors) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allowed = HeaderValue::from_static(route.methods());
    doors.http.cors.preflight(&parts.headers, &allowed, &mut response);
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

/// A response of `content` as JSON.
fn as_json(status: StatusCode, content: &impl Serialize) -> Response<ResponseBody> {
    match serde_json::to_vec(content) {
        Ok(json) => with_body(status, JSON, json.into()),
        Err(cause) => failed(&Error::internal(format!("cannot write the answer: {cause}"))),
    }
}

fn text(content: String) -> Response<ResponseBody> {
    with_body(StatusCode::OK, METRICS_TEXT, content.into())
}

fn with_body(status: StatusCode, content_type: HeaderValue, content: Bytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(content));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

fn refused(status: StatusCode, message: &str) -> Response<ResponseBody> {
    with_body(status, JSON, json::encode_error(message))
}

/// The response for `error`, by the one table.
fn failed(error: &Error) -> Response<ResponseBody> {
    let mut response = refused(status::of(error.kind()).0, error.message());
    if let Some(seconds) = status::retry_after_seconds(error) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.kind() == Kind::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn method_not_allowed(route: &Route, method: &Method, path: &str, doors: &Doors) -> Response<ResponseBody> {
    let allowed = route.methods();
    let message = format!("method {method} is not allowed for {}, expected {allowed}", shown(path));
    let mut response = told(path, refused(StatusCode::METHOD_NOT_ALLOWED, &message), &message, doors);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// A path short enough for a message.
fn shown(path: &str) -> String {
    path.chars().take(200).collect()
}
