//! Everything that is answered from what the server knows: health, metadata, the index.

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::super::body::ResponseBody;
use super::super::{Doors, describe};
use super::as_json;
use super::routes::Route;
use crate::error::{Error, Result};
use crate::model::TensorSpec;
use crate::protocol::proto::ModelStatistics;
use crate::repository::IndexLine;
use crate::shared_memory;

/// The extensions that every server of ours speaks, by the names V2 gives them.
const EXTENSIONS: [&str; 9] = [
    "binary_tensor_data",
    "classification",
    "logging",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
    "trace",
];

/// The extensions that this server speaks.
pub(in super::super) fn extensions(doors: &Doors) -> Vec<&'static str> {
    EXTENSIONS.into_iter().chain(doors.regions.as_ref().map(|_| shared_memory::EXTENSION)).collect()
}

pub(in super::super) const SERVER_NAME: &str = "tensorgate";
pub(in super::super) const SERVER_VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize)]
struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: Vec<&'static str>,
}

/// KServe's list of models.
#[derive(Serialize)]
struct Models {
    models: Vec<String>,
}

#[derive(Serialize)]
struct Statistics {
    model_stats: Vec<ModelStatistics>,
}

/// V1's liveness, at `/`.
#[derive(Serialize)]
struct Alive {
    status: &'static str,
}

#[derive(Serialize)]
struct Live {
    live: bool,
}

#[derive(Serialize)]
struct Ready<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    ready: bool,
    /// Why not. Named as in every error, so that a client which reads errors finds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct ModelMetadata<'a> {
    name: &'a str,
    versions: Vec<String>,
    platform: &'a str,
    inputs: Vec<TensorMetadata<'a>>,
    outputs: Vec<TensorMetadata<'a>>,
    /// Left out where there are none, as in protobuf's JSON.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct TensorMetadata<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: Vec<i64>,
}

impl<'a> From<&'a TensorSpec> for TensorMetadata<'a> {
    fn from(spec: &'a TensorSpec) -> Self {
        Self { name: &spec.name, datatype: spec.datatype.name(), shape: spec.wire_shape() }
    }
}

#[derive(Serialize)]
struct IndexEntry {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    state: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// KServe's answer to a load; Triton's clients look at the status alone.
#[derive(Serialize)]
pub(super) struct LoadAnswer<'a> {
    pub(super) name: &'a str,
    pub(super) load: bool,
}

/// KServe's answer to an unload.
#[derive(Serialize)]
pub(super) struct UnloadAnswer<'a> {
    pub(super) name: &'a str,
    pub(super) unload: bool,
}

/// Answers the routes that have no body.
pub(super) fn answer(route: &Route, doors: &Doors) -> Result<Response<ResponseBody>> {
    match route {
        Route::Server => {
            let metadata = ServerMetadata { name: SERVER_NAME, version: SERVER_VERSION, extensions: extensions(doors) };
            Ok(as_json(StatusCode::OK, &metadata))
        }
        Route::Alive => Ok(as_json(StatusCode::OK, &Alive { status: "alive" })),
        Route::Live => Ok(as_json(StatusCode::OK, &Live { live: true })),
        Route::Ready => Ok(ready(None, doors.is_ready().then_some(()).ok_or_else(|| not_ready(doors)))),
        Route::ModelReady { model, version } => {
            let reason = doors.repository.why_not_ready(model, version.as_deref())?;
            Ok(ready(Some(model), reason.map_or(Ok(()), |error| Err(error.message().into()))))
        }
        Route::Models => {
            let models = doors.repository.index().into_iter().map(|model| model.name.to_string()).collect();
            Ok(as_json(StatusCode::OK, &Models { models }))
        }
        Route::Config { model, version } => {
            let model = doors.repository.resolve(model, version.as_deref())?;
            Ok(as_json(StatusCode::OK, &describe::config(&model)))
        }
        Route::Model { model, version } => metadata(model, version.as_deref(), doors),
        _ => Err(Error::internal("a route without an answer")),
    }
}

/// What versions have done and learned.
pub(super) async fn statistics(
    model: Option<&str>,
    version: Option<&str>,
    doors: &Doors,
) -> Result<Response<ResponseBody>> {
    if let Some(name) = model {
        doors.repository.learn(name, version, None).await?;
    }
    let models = doors.repository.ready(model, version)?;
    Ok(as_json(StatusCode::OK, &Statistics { model_stats: describe::statistics(&models).await }))
}

fn not_ready(doors: &Doors) -> String {
    let reason =
        if doors.drain.has_begun() { "it is shutting down" } else { "models are loading, or none could be loaded" };
    format!("the server is not ready: {reason}")
}

fn ready(name: Option<&str>, outcome: Result<(), String>) -> Response<ResponseBody> {
    let status = if outcome.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    as_json(status, &Ready { name, ready: outcome.is_ok(), error: outcome.err() })
}

fn metadata(name: &str, version: Option<&str>, doors: &Doors) -> Result<Response<ResponseBody>> {
    let model = doors.repository.resolve(name, version)?;
    let versions = doors.repository.ready_versions(name).iter().map(ToString::to_string).collect();
    let metadata = ModelMetadata {
        name,
        versions,
        platform: model.platform(),
        inputs: model.inputs_told().map(Into::into).collect(),
        outputs: model.outputs_told().map(Into::into).collect(),
        properties: model.properties().collect(),
    };
    Ok(as_json(StatusCode::OK, &metadata))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct IndexRequest {
    ready: bool,
}

/// The repository's index, all of it or only what is ready.
pub(super) fn index(body: &[u8], doors: &Doors) -> Result<Response<ResponseBody>> {
    let request = if body.is_empty() { IndexRequest::default() } else { read_json(body)? };
    let entry = |line: IndexLine| IndexEntry {
        name: line.name.to_string(),
        version: line.version.map(|version| version.to_string()),
        state: line.state.name(),
        reason: line.state.reason().into(),
    };
    let entries: Vec<IndexEntry> = doors.repository.index_lines(request.ready).into_iter().map(entry).collect();
    Ok(as_json(StatusCode::OK, &entries))
}

pub(super) fn read_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T> {
    // Derived readers of objects take lists of their values too, in whichever order the members are declared.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::invalid("the body is not the JSON expected: it has to be an object"));
    }
    serde_json::from_slice(body).map_err(|cause| Error::invalid(format!("the body is not the JSON expected: {cause}")))
}
