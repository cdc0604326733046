//! The schemas that operations name (JSON Schema 2020-12). Those of answers are closed, so that a member which is added to an
//! answer and not here is found by whoever tests the server against its document.

mod openai;

use serde_json::{Map, Value, json};

use super::JSON;
use crate::tensor::DataType;

/// A reference to the schema called `name`.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The schema of a name in a path.
pub(super) fn path_parameter(name: &str) -> Value {
    match name {
        "version" => json!({ "type": "string", "pattern": "^[0-9]+$" }),
        _ => json!({ "type": "string", "minLength": 1 }),
    }
}

/// Every schema, by its name.
pub(super) fn all() -> Value {
    let mut all = Map::new();
    for group in [server(), models(), inference(), repository(), traffic(), settings(), regions(), v1(), openai::all()]
    {
        all.extend(group);
    }
    all.into()
}

type Schemas = Vec<(String, Value)>;

/// An object with these members and no others; those whose names end in `?` may be missing.
fn closed(members: Value) -> Value {
    let Value::Object(members) = members else { return members };
    let required: Vec<_> = members.keys().filter(|name| !name.ends_with('?')).cloned().collect();
    let properties: Map<String, Value> =
        members.into_iter().map(|(name, schema)| (name.trim_end_matches('?').to_owned(), schema)).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn named<const N: usize>(schemas: [(&str, Value); N]) -> Schemas {
    schemas.map(|(name, schema)| (name.to_owned(), schema)).into()
}

fn server() -> Schemas {
    named([
        ("Error", closed(json!({ "error": text() }))),
        ("Done", closed(json!({}))),
        ("Anything", json!({})),
        ("Document", json!({ "type": "object", "required": ["openapi", "paths"] })),
        ("Alive", closed(json!({ "status": { "const": "alive" } }))),
        ("Live", closed(json!({ "live": { "const": true } }))),
        ("Ready", closed(json!({ "ready": { "type": "boolean" }, "error?": text() }))),
        ("ServerMetadata", closed(json!({ "name": text(), "version": text(), "extensions": list(text()) }))),
    ])
}

fn datatypes() -> Value {
    json!({ "enum": DataType::ALL.map(DataType::name) })
}

fn models() -> Schemas {
    let duration = || reference("Duration");
    let shape = list(json!({ "type": "integer", "minimum": -1 }));
    let tensor = closed(json!({ "name": text(), "datatype": datatypes(), "shape": shape }));
    let durations = ["success", "fail", "queue", "compute_input", "compute_infer", "compute_output"];
    let durations = durations.into_iter().chain(["cache_hit", "cache_miss"]);
    let durations: Map<String, Value> = durations.map(|name| (name.to_owned(), duration())).collect();
    let batch = json!({
        "batch_size": count(), "compute_input": duration(), "compute_infer": duration(), "compute_output": duration(),
    });
    named([
        ("Models", closed(json!({ "models": list(text()) }))),
        ("ModelReady", closed(json!({ "name": text(), "ready": { "type": "boolean" }, "error?": text() }))),
        ("TensorMetadata", tensor),
        (
            "ModelMetadata",
            closed(json!({
                "name": text(), "versions": list(text()), "platform": text(),
                "inputs": list(reference("TensorMetadata")), "outputs": list(reference("TensorMetadata")),
                "properties?": closed(json!({ "digest?": text(), "device?": text() })),
            })),
        ),
        (
            "ModelConfig",
            json!({
                "type": "object",
                "description": "ModelConfig of Triton's model_config.proto",
                "properties": {
                    "name": text(), "platform": text(), "backend": text(), "max_batch_size": count(),
                    "input": list(json!({ "type": "object" })), "output": list(json!({ "type": "object" })),
                },
                "required": ["name", "platform", "backend", "max_batch_size", "input", "output"],
            }),
        ),
        ("Duration", closed(json!({ "count": count(), "ns": count() }))),
        (
            "Statistics",
            closed(json!({ "model_stats": list(closed(json!({
                "name": text(), "version": text(), "last_inference": count(), "inference_count": count(),
                "execution_count": count(), "inference_stats": closed(durations.into()),
                "batch_stats": list(closed(batch)), "memory_usage": list(json!({ "type": "object" })),
                "response_stats": { "type": "object" },
                "learned": closed(learned()),
            }))) })),
        ),
    ])
}

/// What a scheduler has learned.
fn learned() -> Value {
    let rate = || json!({ "type": "number", "minimum": 0 });
    json!({
        "objective_ns": count(), "capacity_rows_per_second": rate(), "batch_rows": count(),
        "arrivals_rows_per_second": rate(),
        "latency": list(closed(json!({
            "work": count(), "centre_ns": count(), "upper_ns": count(), "count": count(),
        }))),
    })
}

fn inference() -> Schemas {
    let parameters = || json!({ "anyOf": [reference("Parameters"), { "type": "null" }] });
    let input = json!({
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": text(), "shape": list(count()), "datatype": datatypes(), "parameters": parameters(),
            "data": {
                "type": ["array", "number", "string", "boolean"],
                "description": "The elements, row by row, flat or nested; NaN and infinities as strings",
            },
        },
    });
    let wanted = json!({
        "type": "object", "required": ["name"], "properties": { "name": text(), "parameters": parameters() },
    });
    let output = json!({
        "name": text(), "datatype": datatypes(), "shape": list(count()),
        "parameters?": reference("Parameters"), "data?": { "type": "array" },
    });
    named([
        (
            "Parameters",
            json!({
                "type": "object",
                "additionalProperties": { "type": ["string", "number", "boolean", "null"] },
                "description": "binary_data_output of a request; binary_data_size of an input; binary_data and classification \
                                of an output; shared_memory_region, shared_memory_offset and shared_memory_byte_size of both; \
                                timeout, in microseconds, of a request",
            }),
        ),
        ("InputTensor", input),
        ("WantedOutput", wanted),
        (
            "InferRequest",
            json!({
                "type": "object",
                "required": ["inputs"],
                "properties": {
                    "id": { "type": ["string", "null"] },
                    "parameters": parameters(),
                    "inputs": list(reference("InputTensor")),
                    "outputs": { "anyOf": [list(reference("WantedOutput")), { "type": "null" }] },
                },
            }),
        ),
        (
            "InferResponse",
            closed(json!({
                "model_name": text(), "model_version": text(), "id?": text(), "parameters?": reference("Parameters"),
                "outputs": list(closed(output)),
            })),
        ),
    ])
}

fn repository() -> Schemas {
    let states = json!({ "enum": ["READY", "UNAVAILABLE", "LOADING", "UNLOADING"] });
    named([
        ("IndexRequest", json!({ "type": "object", "properties": { "ready": { "type": "boolean" } } })),
        ("Index", list(closed(json!({ "name": text(), "version?": text(), "state": states, "reason?": text() })))),
        ("LoadRequest", json!({ "type": "object", "properties": { "parameters": { "type": "object" } } })),
        ("Loaded", closed(json!({ "name": text(), "load": { "type": "boolean" } }))),
        ("Unloaded", closed(json!({ "name": text(), "unload": { "type": "boolean" } }))),
    ])
}

fn traffic() -> Schemas {
    let number = || json!({ "type": "number", "minimum": 0 });
    let version = || json!({ "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "pattern": "^[1-9][0-9]{0,18}$" }] });
    let weights = json!({ "type": "object", "additionalProperties": number(), "minProperties": 1 });
    let sticky = json!({
        "type": "object", "properties": { "header": text(), "cookie": text() }, "minProperties": 1, "maxProperties": 1,
    });
    let canary = json!({
        "version": version(), "stable?": version(), "steps?": list(number()),
        "step_requests?": json!({ "type": "integer", "minimum": 1 }), "step_time?": text(), "interval?": text(),
        "errors?": number(), "late?": number(), "latency?": number(), "disagreement?": number(), "share?": number(),
    });
    let compare =
        json!({ "by?": json!({ "enum": ["values", "argmax"] }), "absolute?": number(), "relative?": number() });
    let compared = [
        "agreed",
        "disagreed",
        "failed",
        "not_run",
        "dropped",
        "other_outputs",
        "other_datatypes",
        "other_shapes",
        "not_finite",
    ];
    let mut compared: Map<String, Value> = compared.map(|name| (name.to_owned(), count())).into_iter().collect();
    for name in ["difference_max", "relative_difference_max", "argmax_agreement?", "live_seconds?", "mirrored_seconds?"]
    {
        compared.insert(name.to_owned(), number());
    }
    let mut shadow = compared.clone();
    shadow.extend([("version".to_owned(), text()), ("share".to_owned(), number())]);
    let states = json!({ "enum": ["READY", "UNAVAILABLE", "LOADING", "UNLOADING"] });
    let verdicts = json!({ "enum": ["open", "good", "bad"] });
    named([
        (
            "TrafficSettings",
            closed(json!({
                "weights?": weights, "sticky?": sticky, "canary?": closed(canary), "compare?": closed(compare),
                "shadow?": closed(json!({ "version": version(), "share?": number() })),
            })),
        ),
        (
            "Traffic",
            closed(json!({
                "model_name": text(), "source": { "enum": ["newest", "settings", "set"] },
                "settings": reference("TrafficSettings"),
                "versions": list(closed(json!({
                    "version": text(), "state": states, "reason?": text(), "weight": number(), "share": number(),
                }))),
                "shadow?": closed(shadow.into()),
                "canary?": closed(json!({
                    "version": text(), "stable": text(), "state": { "enum": ["running", "promoted", "rolled_back"] },
                    "step?": count(), "percent": number(), "steps": list(number()), "reason": text(),
                    "conditions": list(closed(json!({ "name": text(), "verdict": verdicts, "evidence": text() }))),
                    "compared?": closed(compared.into()),
                })),
            })),
        ),
    ])
}

fn settings() -> Schemas {
    let one = json!({ "anyOf": [{ "type": "integer" }, { "type": "string", "pattern": "^[+-]?[0-9]+$" }] });
    let number = json!({ "anyOf": [one, { "type": "array", "maxItems": 1, "items": one }, { "type": "null" }] });
    let level = json!({ "enum": ["OFF", "TIMESTAMPS", "TENSORS"] });
    let levels = json!({ "anyOf": [level, list(level.clone()), { "type": "null" }] });
    let format = json!({ "enum": ["default", "ISO8601"] });
    let switch = || json!({ "type": "boolean" });
    let trace = json!({
        "trace_level?": levels, "trace_rate?": number, "trace_count?": number, "log_frequency?": number,
    });
    named([
        (
            "TraceSettings",
            closed(json!({
                "trace_level": list(level), "trace_rate": text(), "trace_count": text(), "log_frequency": text(),
                "trace_file": text(), "trace_mode": text(),
            })),
        ),
        ("TraceChanges", closed(trace)),
        (
            "LogSettings",
            closed(json!({
                "log_file": text(), "log_info": switch(), "log_warning": switch(), "log_error": switch(),
                "log_verbose_level": count(), "log_format": format,
            })),
        ),
        (
            "LogChanges",
            closed(json!({
                "log_info?": switch(), "log_warning?": switch(), "log_error?": switch(), "log_verbose_level?": count(),
                "log_format?": format,
            })),
        ),
    ])
}

fn regions() -> Schemas {
    named([
        ("Regions", list(closed(json!({ "name": text(), "key": text(), "offset": count(), "byte_size": count() })))),
        (
            "RegisterRegion",
            json!({
                "type": "object",
                "required": ["key", "byte_size"],
                "properties": { "key": text(), "offset": count(), "byte_size": { "type": "integer", "minimum": 1 } },
            }),
        ),
    ])
}

fn v1() -> Schemas {
    let rows = json!({ "required": ["instances"], "properties": { "instances": { "type": "array" } } });
    let columns = json!({
        "required": ["inputs"],
        "properties": { "inputs": { "type": ["array", "object", "number", "string", "boolean"] } },
    });
    named([
        (
            "V1Models",
            closed(json!({
                "models": list(text()), "object": { "const": "list" }, "data": list(reference("OpenAiModel")),
            })),
        ),
        (
            "V1Ready",
            closed(json!({
                "name": text(), "ready": { "const": true }, "id": text(), "object": { "const": "model" },
                "created": count(), "owned_by": text(),
            })),
        ),
        (
            "PredictRequest",
            json!({
                "type": "object",
                "anyOf": [rows, columns],
                "description": "instances: rows; inputs: columns. Bytes may be written as {\"b64\": ...}",
            }),
        ),
        ("Predictions", closed(json!({ "predictions": {} }))),
        (
            "PredictEvent",
            json!({
                "type": "object",
                "required": ["specversion", "id", "source", "type"],
                "properties": {
                    "specversion": { "enum": ["1.0", "0.3"] }, "id": text(), "source": text(), "type": text(),
                    "data_base64": { "type": ["string", "null"] },
                },
                "anyOf": [
                    { "required": ["data"], "properties": { "data": reference("PredictRequest") } },
                    { "required": ["data_base64"], "properties": { "data_base64": text() } },
                ],
            }),
        ),
        (
            "PredictionsEvent",
            closed(json!({
                "specversion": { "const": "1.0" }, "id": text(), "source": text(), "type": text(), "time": text(),
                "datacontenttype": { "const": JSON }, "data": reference("Predictions"),
            })),
        ),
    ])
}
