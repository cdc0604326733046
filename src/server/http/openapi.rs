//! `GET /openapi.json`: what this server takes and answers over HTTP, as OpenAPI 3.1. It is built from the table of
//! operations, which tests hold against the routes; the statuses of errors come from `protocol::status`.
//!
//! Only what is on is in it: no shared memory without its flag, no group that `--refuse` closes, no credentials where
//! nobody needs any, and nothing that is always refused. Schemas of requests allow all that is accepted; those of answers
//! have exactly the members that there are.

mod operations;
mod schemas;
#[cfg(test)]
mod tests;

use http::Method;
use serde_json::{Map, Value, json};

use super::openai;
use crate::error::Kind;
use crate::protocol::status;
use crate::protocol::v1::events;
use crate::server::Doors;
use crate::server::guard::{Door, Scope, scope_and_model};
use crate::server::head::HEADER_LENGTH;
use operations::{Answer, Body, OPERATIONS, Operation};

const VERSION: &str = "3.1.0";
const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";

/// What any call may be answered with, whatever it is: a head or body that is malformed, too large or too slow, a client
/// that calls too often, and our own faults.
const ALWAYS: [Kind; 5] = [Kind::InvalidRequest, Kind::TooLarge, Kind::Overloaded, Kind::SlowRequest, Kind::Internal];
/// Statuses that are no kind of error: they are about the HTTP request itself.
const OF_HTTP: [(u16, &str); 4] = [
    (404, "there is no such path, model or version"),
    (405, "the path does not take this method"),
    (414, "the path is longer than `--uri-max`"),
    (431, "the headers are larger than `--header-bytes-max` or more than `--headers-max`"),
];

/// What decides which operations there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Served {
    /// Whether regions of system shared memory are.
    pub(super) shared_memory: bool,
    /// Whether clients need keys.
    pub(super) keys: bool,
    /// Groups that this door refuses.
    pub(super) refused: Vec<Scope>,
    /// What a gateway puts before each path.
    pub(super) path_prefix: Option<String>,
}

impl Served {
    pub(super) fn of(doors: &Doors) -> Self {
        let guard = doors.guard.as_deref();
        Self {
            shared_memory: doors.regions.is_some(),
            keys: guard.is_some_and(|guard| guard.needs_keys()),
            refused: guard.map(|guard| guard.refused_at(Door::Http)).unwrap_or_default(),
            path_prefix: doors.http.path_prefix.clone(),
        }
    }

    fn has(&self, operation: &Operation) -> bool {
        let scope = scope_and_model(Door::Http, operation.path).0;
        !self.refused.contains(&scope) && (self.shared_memory || operation.tag != operations::SHARED_MEMORY)
    }
}

/// The document.
pub(super) fn document(served: &Served) -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS.iter().filter(|operation| served.has(operation)) {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.to_ascii_lowercase()] = described(operation, served);
        if operation.method == Method::GET.as_str() {
            path["head"] = head_of(operation, served);
        }
    }
    let mut components = json!({ "schemas": schemas::all() });
    if served.keys {
        components["securitySchemes"] = json!({
            "bearer": { "type": "http", "scheme": "bearer" },
            "key": { "type": "apiKey", "in": "header", "name": "x-api-key" },
        });
    }
    json!({
        "openapi": VERSION,
        "info": {
            "title": super::SERVER_NAME,
            "version": super::SERVER_VERSION,
            "description": "Model inference by the Open Inference Protocol (V2), with Triton's extensions, by V1, and by OpenAI's embeddings.",
        },
        "servers": [{ "url": served.path_prefix.as_deref().unwrap_or("/") }],
        "paths": paths,
        "components": components,
    })
}

fn described(operation: &Operation, served: &Served) -> Value {
    let scope = scope_and_model(Door::Http, operation.path).0;
    let open = scope == Scope::Health;
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": parameters(operation),
        "responses": responses(operation, served.keys && !open),
    });
    if let Some(body) = request_body(&operation.body) {
        described["requestBody"] = body;
    }
    if served.keys && !open {
        described["security"] = json!([{ "bearer": [] }, { "key": [] }]);
    }
    described
}

/// The same without a body, as HTTP has it.
fn head_of(operation: &Operation, served: &Served) -> Value {
    let mut head = described(operation, served);
    head["operationId"] = format!("{}Head", operation.id).into();
    head["summary"] = format!("{} (the head alone)", operation.summary).into();
    if let Some(responses) = head["responses"].as_object_mut() {
        responses.values_mut().filter_map(Value::as_object_mut).for_each(|response| drop(response.remove("content")));
    }
    head
}

/// The names between braces of its path, and the header of the binary tensor extension.
fn parameters(operation: &Operation) -> Value {
    let names = operation.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let mut parameters: Vec<Value> = names
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": schemas::path_parameter(name) }))
        .collect();
    if operation.body == Body::Inference {
        parameters.push(json!({
            "name": HEADER_LENGTH, "in": "header", "required": false, "schema": { "type": "integer", "minimum": 0 },
            "description": "Bytes of JSON at the body's start, where binary tensors follow",
        }));
    }
    parameters.into()
}

fn request_body(body: &Body) -> Option<Value> {
    Some(match body {
        Body::None => return None,
        Body::Inference => json!({
            "required": true,
            "description": "JSON, and behind it the binary tensors in the order of the inputs that have `binary_data_size`",
            "content": { JSON: { "schema": schemas::reference("InferRequest") }, OCTETS: {} },
        }),
        Body::Prediction => json!({
            "required": true,
            "description": "An event may have its attributes as `ce-` headers instead; its answer then has them too",
            "content": {
                JSON: { "schema": schemas::reference("PredictRequest") },
                events::STRUCTURED: { "schema": schemas::reference("PredictEvent") },
            },
        }),
        Body::Needed(name) => json!({
            "required": true, "content": { JSON: { "schema": schemas::reference(name) } },
        }),
        Body::Optional(name) => json!({
            "required": false, "content": { JSON: { "schema": schemas::reference(name) } },
        }),
    })
}

fn responses(operation: &Operation, guarded: bool) -> Value {
    let mut responses = Map::new();
    let schema = if openai::speaks(operation.path) { "OpenAiError" } else { "Error" };
    let error = |description: &str| json!({ "description": description, "content": { JSON: { "schema": schemas::reference(schema) } } });
    responses.insert("200".into(), success(&operation.answer));
    for (status, description) in OF_HTTP {
        responses.insert(status.to_string(), error(description));
    }
    let guard = [Kind::Unauthenticated, Kind::Forbidden];
    let guard = guard.into_iter().filter(|_| guarded);
    for kind in ALWAYS.into_iter().chain(guard).chain(operation.errors.iter().copied()) {
        responses.insert(status::of(kind).0.as_u16().to_string(), error(meaning(kind)));
    }
    if operation.not_ready {
        let mut not_ready = success(&operation.answer);
        not_ready["description"] = "not ready, with the reason".into();
        responses.insert("503".into(), not_ready);
    }
    for (status, name, schema) in
        [("405", "allow", json!({ "type": "string" })), ("401", "www-authenticate", json!({ "type": "string" }))]
    {
        if let Some(response) = responses.get_mut(status) {
            response["headers"] = json!({ name: { "required": true, "schema": schema } });
        }
    }
    if let Some(response) = responses.get_mut("429") {
        let seconds = json!({ "type": "integer", "minimum": 1 });
        response["headers"] = json!({ "retry-after": { "required": false, "schema": seconds } });
    }
    responses.into()
}

fn success(answer: &Answer) -> Value {
    match answer {
        Answer::Schema(name) => json!({
            "description": "done", "content": { JSON: { "schema": schemas::reference(name) } },
        }),
        Answer::Prediction => json!({
            "description": "predictions, in an event where the request was one",
            "content": {
                JSON: { "schema": schemas::reference("Predictions") },
                events::STRUCTURED: { "schema": schemas::reference("PredictionsEvent") },
            },
        }),
        Answer::Metrics => json!({
            "description": "Prometheus' text format",
            "content": { "text/plain; version=0.0.4; charset=utf-8": { "schema": { "type": "string" } } },
        }),
        Answer::Inference => json!({
            "description": "JSON, or JSON with the binary outputs behind it in the order of `outputs`",
            "headers": {
                HEADER_LENGTH: {
                    "required": false, "schema": { "type": "integer", "minimum": 0 },
                    "description": "Bytes of JSON, where binary outputs follow",
                },
            },
            "content": { JSON: { "schema": schemas::reference("InferResponse") }, OCTETS: {} },
        }),
    }
}

fn meaning(kind: Kind) -> &'static str {
    match kind {
        Kind::InvalidRequest => "the request is malformed or does not fit the model",
        Kind::Unauthenticated => "no known token",
        Kind::Forbidden => "the token is not for this call or model",
        Kind::UnknownModel => "there is no such path, model, version or region",
        Kind::Conflict => "not in this mode or state",
        Kind::TooLarge => "the body, or something in it, is above its bound",
        Kind::Overloaded => "too much at once: try again later",
        Kind::Cancelled => "the client went away",
        Kind::SlowRequest => "the body did not come in time",
        Kind::Unsupported => "an extension or coding that is not served",
        Kind::ModelUnavailable => "the model is loading, stopping or failed to load",
        Kind::DeadlineExceeded => "the deadline passed",
        Kind::Execution => "the runtime failed",
        Kind::Internal => "our fault",
    }
}
