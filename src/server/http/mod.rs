//! The HTTP door.

mod answers;
pub(super) use answers::{EXTENSIONS, SERVER_NAME, SERVER_VERSION, no_shared_memory};
mod infer;
mod routes;
mod settings;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Serialize;

use super::Doors;
use super::body::{self, ResponseBody};
use crate::error::{Error, Kind, Result};
use crate::protocol::{json, status};
use routes::Route;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Prometheus' text format.
const METRICS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Bytes of a body that is no inference: load parameters and index filters.
const SMALL_BODY_BYTES_MAX: usize = 1 << 20;

/// Answers any request; every failure is a JSON body `{"error": ...}`.
pub(super) async fn answer(request: Request<Incoming>, doors: &Doors) -> Response<ResponseBody> {
    let (head, body) = request.into_parts();
    let route = match routes::parse(head.uri.path()) {
        Ok(Some(route)) => route,
        Ok(None) => return refused(StatusCode::NOT_FOUND, &format!("unknown path {}", shown(head.uri.path()))),
        Err(error) => return failed(&error),
    };
    if !route.accepts(&head.method) {
        return method_not_allowed(&route, &head.method, head.uri.path());
    }
    let outcome = match route {
        Route::Infer { model, version } => infer::answer(model, version, &head.headers, body, doors).await,
        Route::Metrics => Ok(text(doors.telemetry.render())),
        Route::RepositoryIndex => index(body, doors).await,
        Route::Load { model } => load(model, body, doors).await,
        Route::Unload { model } => unload(model, body, doors).await,
        Route::TraceSetting { model } => settings::trace(model.as_deref(), &head.method, body, doors).await,
        Route::Logging => settings::logging(&head.method, body).await,
        other => answers::answer(&other, doors),
    };
    outcome.unwrap_or_else(|error| failed(&error))
}

async fn index(request: Incoming, doors: &Doors) -> Result<Response<ResponseBody>> {
    let body = body::read(request, SMALL_BODY_BYTES_MAX).await?;
    answers::index(&body, doors)
}

async fn load(model: String, request: Incoming, doors: &Doors) -> Result<Response<ResponseBody>> {
    let body = body::read(request, SMALL_BODY_BYTES_MAX).await?;
    let overrides = answers::load_overrides(&body)?;
    doors.repository.load(&model, overrides.iter().map(String::as_str)).await?;
    Ok(as_json(StatusCode::OK, &answers::LoadAnswer { name: &model, load: true }))
}

async fn unload(model: String, request: Incoming, doors: &Doors) -> Result<Response<ResponseBody>> {
    // Read, so that the connection stays usable; `unload_dependents` has nothing to act on.
    body::read(request, SMALL_BODY_BYTES_MAX).await?;
    doors.repository.unload(&model).await?;
    Ok(as_json(StatusCode::OK, &answers::UnloadAnswer { name: &model, unload: true }))
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
pub(super) fn failed(error: &Error) -> Response<ResponseBody> {
    let mut response = refused(status::of(error.kind()).0, error.message());
    if let Some(seconds) = status::retry_after_seconds(error) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.kind() == Kind::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn method_not_allowed(route: &Route, method: &Method, path: &str) -> Response<ResponseBody> {
    let allowed = route.methods();
    let message = format!("method {method} is not allowed for {}, expected {allowed}", shown(path));
    let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, &message);
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

/// A path short enough for a message.
fn shown(path: &str) -> String {
    path.chars().take(200).collect()
}
