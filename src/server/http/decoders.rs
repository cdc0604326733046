//! What the doors read themselves, before and beside `protocol`, as plain functions of bytes: for tests that feed them any
//! bytes, the fuzz targets above all. The doors call the same code; nothing is decided here.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};
use tokio::time::Instant;

use super::coding::{self, Coding, InflateBounds};
use super::routes::{self, Route};
use super::{infer, settings};
use crate::error::Result;
use crate::server::bounds::{Bounds, Buffered, Charge};
use crate::server::deadlines;
use crate::server::guard::{Door, Scope, scope_and_model};
use crate::server::head::Head;
use crate::telemetry::LogSetting;

/// What is read from a request's head.
#[derive(Debug)]
pub struct ReadHead {
    /// Why nothing further is looked at.
    pub refusal: Option<StatusCode>,
    /// What the path asks for.
    pub asked: Option<Asked>,
    /// Whether the path takes the method.
    pub accepted: bool,
    /// What the guard makes of the same path: its scope, and the model, if it names one.
    pub guarded: (Scope, String),
    /// Bytes of JSON before binary tensors.
    pub header_length: Result<Option<usize>>,
    /// The coding of the body, by name.
    pub coding: Result<Option<&'static str>>,
    /// The coding that the answer should have, by name.
    pub answer_coding: Option<&'static str>,
    /// When the client gives up, over gRPC.
    pub deadline: Option<Instant>,
    /// When the client gives up, over HTTP.
    pub own_deadline: Result<Option<Instant>>,
}

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The model named, decoded.
    pub model: Option<String>,
    /// The version named, decoded.
    pub version: Option<String>,
    /// What a client has to be allowed.
    pub scope: Scope,
}

/// Reads a request's head as the HTTP door does, and the gRPC door's time-out.
///
/// # Errors
/// `InvalidRequest` for a path whose names are not UTF-8 once decoded.
pub fn read_head(method: &Method, uri: &Uri, headers: &HeaderMap, bounds: &Bounds) -> Result<ReadHead> {
    let head = Head::of(headers);
    let path = super::without_prefix(uri.path(), None);
    let route = routes::parse(path)?;
    Ok(ReadHead {
        refusal: head.refusal(headers, uri, bounds).map(|(status, _)| status),
        accepted: route.as_ref().is_some_and(|route| route.accepts(method)),
        asked: route.map(asked),
        guarded: scope_and_model(Door::Http, path),
        header_length: infer::header_length(headers),
        coding: Coding::of_request(headers).map(|coding| coding.map(Coding::name)),
        answer_coding: coding::accept::choose(headers).map(Coding::name),
        deadline: deadlines::of_grpc(headers),
        own_deadline: deadlines::of_http(headers),
    })
}

fn asked(route: Route) -> Asked {
    let server = |scope| Asked { model: None, version: None, scope };
    let of = |model, version, scope| Asked { model: Some(model), version, scope };
    match route {
        Route::Alive | Route::Live | Route::Ready => server(Scope::Health),
        Route::V1Models
        | Route::OpenAiModels
        | Route::Server
        | Route::Models
        | Route::RepositoryIndex
        | Route::OpenApi => server(Scope::Metadata),
        // The body names the model.
        Route::Embeddings | Route::Rerank => server(Scope::Infer),
        Route::OpenAiModel { model } => of(model, None, Scope::Metadata),
        Route::Metrics => server(Scope::Metrics),
        Route::Logging | Route::SharedMemory { .. } => server(Scope::Admin),
        Route::V1Model { model, version } | Route::ModelReady { model, version } => of(model, version, Scope::Health),
        Route::Predict { model, version } | Route::Explain { model, version } | Route::Infer { model, version } => {
            of(model, version, Scope::Infer)
        }
        Route::Model { model, version } | Route::Config { model, version } => of(model, version, Scope::Metadata),
        Route::Statistics { model, version } => Asked { model, version, scope: Scope::Metadata },
        Route::Load { model } | Route::Unload { model } | Route::Traffic { model } => {
            of(model, None, Scope::Repository)
        }
        Route::TraceSetting { model } => Asked { model, version: None, scope: Scope::Admin },
    }
}

/// Inflates a body of the coding called `coding`, to at most `bytes_max` bytes and `ratio_max` times its own.
///
/// # Errors
/// `Unsupported` for another coding, `InvalidRequest` for a body that is none, `TooLarge` beyond the bounds.
pub fn inflate(coding: &str, body: &[u8], bytes_max: usize, ratio_max: usize) -> Result<Bytes> {
    let coding = coding_called(coding)?;
    let bounds = InflateBounds { bytes_max, ratio_max };
    coding::inflate(coding, body, bounds, &mut Charge::of(&Buffered::new(usize::MAX)))
}

/// Compresses a body as an answer is.
///
/// # Errors
/// `Unsupported` for another coding than those served.
pub fn deflate(coding: &str, body: &Bytes) -> Result<Bytes> {
    Ok(coding::deflate::compress(coding_called(coding)?, std::iter::once(body)))
}

fn coding_called(name: &str) -> Result<Coding> {
    Coding::named(name).ok_or_else(|| crate::error::Error::unsupported(format!("coding '{name}' is not served")))
}

/// The changes that a body asks of trace settings: names, and the values of each.
///
/// # Errors
/// `InvalidRequest` for what is no object of strings, numbers and lists of them.
pub fn trace_changes(body: &[u8]) -> Result<Vec<(String, Vec<String>)>> {
    settings::trace_changes(body)
}

/// The changes that a body asks of log settings.
///
/// # Errors
/// `InvalidRequest` for what is no object of truth values, whole numbers and strings.
pub fn log_changes(body: &[u8]) -> Result<Vec<(String, LogSetting)>> {
    settings::log_changes(body)
}
