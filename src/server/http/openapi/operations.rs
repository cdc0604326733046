//! The operations: each path and method that is served, with what it takes and answers.

use crate::error::Kind;

/// What an operation reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    /// JSON, and binary tensors behind it.
    Inference,
    /// V1's JSON, or an event around it.
    Prediction,
    /// JSON of this schema.
    Needed(&'static str),
    /// The same, or nothing.
    Optional(&'static str),
}

/// What an operation answers when all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// JSON of this schema.
    Schema(&'static str),
    /// JSON, and binary tensors behind it.
    Inference,
    /// V1's JSON, or an event around it.
    Prediction,
    /// Prometheus' text.
    Metrics,
}

/// A path with a method.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) path: &'static str,
    pub(super) method: &'static str,
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) body: Body,
    pub(super) answer: Answer,
    /// What it may be refused with beyond what every call may.
    pub(super) errors: &'static [Kind],
    /// Whether it says with 503, in its own words, that something is not ready.
    pub(super) not_ready: bool,
}

/// The group that is only there with its flag.
pub(super) const SHARED_MEMORY: &str = "shared memory";

const OF_A_MODEL: &[Kind] = &[Kind::UnknownModel, Kind::ModelUnavailable];
const OF_INFERENCE: &[Kind] = &[
    Kind::UnknownModel,
    Kind::ModelUnavailable,
    Kind::Unsupported,
    Kind::DeadlineExceeded,
    Kind::Execution,
    Kind::Cancelled,
];
const OF_LIFECYCLE: &[Kind] = &[Kind::UnknownModel, Kind::Conflict, Kind::Unsupported, Kind::ModelUnavailable];
const OF_SETTINGS: &[Kind] = &[Kind::UnknownModel, Kind::Unsupported];

const fn get(path: &'static str, id: &'static str, tag: &'static str, schema: &'static str) -> Operation {
    Operation {
        path,
        method: "GET",
        id,
        tag,
        summary: "",
        body: Body::None,
        answer: Answer::Schema(schema),
        errors: &[],
        not_ready: false,
    }
}

const fn post(path: &'static str, id: &'static str, tag: &'static str, body: Body, schema: &'static str) -> Operation {
    Operation { method: "POST", body, ..get(path, id, tag, schema) }
}

const fn put(path: &'static str, id: &'static str, tag: &'static str, body: Body, schema: &'static str) -> Operation {
    Operation { method: "PUT", body, ..get(path, id, tag, schema) }
}

const fn delete(path: &'static str, id: &'static str, tag: &'static str, schema: &'static str) -> Operation {
    Operation { method: "DELETE", ..get(path, id, tag, schema) }
}

impl Operation {
    const fn says(self, summary: &'static str) -> Self {
        Self { summary, ..self }
    }

    const fn or(self, errors: &'static [Kind]) -> Self {
        Self { errors, ..self }
    }

    const fn or_not_ready(self) -> Self {
        Self { not_ready: true, ..self }
    }

    const fn answers(self, answer: Answer) -> Self {
        Self { answer, ..self }
    }
}

/// All of them.
pub(super) const OPERATIONS: &[Operation] = &[
    get("/", "alive", "health", "Alive").says("V1: the server is there"),
    get("/v2/health/live", "serverLive", "health", "Live").says("The server is there"),
    get("/v2/health/ready", "serverReady", "health", "Ready").says("Traffic should come here").or_not_ready(),
    get("/openapi.json", "openapi", "server", "Document").says("This document"),
    get("/metrics", "metrics", "server", "").says("Metrics for Prometheus").answers(Answer::Metrics),
    get("/v2", "serverMetadata", "server", "ServerMetadata").says("Name, version and extensions"),
    get("/v2/models", "models", "models", "Models").says("The names of all models"),
    get("/v2/models/stats", "statistics", "models", "Statistics").says("What all models have done"),
    get("/v2/models/{model}", "model", "models", "ModelMetadata")
        .says("A model's inputs, outputs and versions")
        .or(OF_A_MODEL),
    get("/v2/models/{model}/versions/{version}", "version", "models", "ModelMetadata")
        .says("A version's inputs and outputs")
        .or(OF_A_MODEL),
    get("/v2/models/{model}/ready", "modelReady", "health", "ModelReady")
        .says("Whether a model is ready")
        .or(OF_A_MODEL)
        .or_not_ready(),
    get("/v2/models/{model}/versions/{version}/ready", "versionReady", "health", "ModelReady")
        .says("Whether a version is ready")
        .or(OF_A_MODEL)
        .or_not_ready(),
    get("/v2/models/{model}/config", "modelConfig", "models", "ModelConfig")
        .says("A model's configuration, as config.pbtxt has it")
        .or(OF_A_MODEL),
    get("/v2/models/{model}/versions/{version}/config", "versionConfig", "models", "ModelConfig")
        .says("A version's configuration")
        .or(OF_A_MODEL),
    get("/v2/models/{model}/stats", "modelStatistics", "models", "Statistics")
        .says("What a model's versions have done")
        .or(OF_A_MODEL),
    get("/v2/models/{model}/versions/{version}/stats", "versionStatistics", "models", "Statistics")
        .says("What a version has done")
        .or(OF_A_MODEL),
    post("/v2/models/{model}/infer", "infer", "inference", Body::Inference, "")
        .says("Inference by the version that the model's traffic picks, else the newest that is ready")
        .answers(Answer::Inference)
        .or(OF_INFERENCE),
    post("/v2/models/{model}/versions/{version}/infer", "inferVersion", "inference", Body::Inference, "")
        .says("Inference by one version")
        .answers(Answer::Inference)
        .or(OF_INFERENCE),
    post("/v2/repository/index", "index", "repository", Body::Optional("IndexRequest"), "Index")
        .says("Every version, its state and why"),
    post("/v2/repository/models/{model}/load", "load", "repository", Body::Optional("LoadRequest"), "Loaded")
        .says("Loads a model, or again")
        .or(OF_LIFECYCLE),
    post("/v2/repository/models/{model}/unload", "unload", "repository", Body::Optional("Anything"), "Unloaded")
        .says("Unloads a model once what it runs is answered")
        .or(OF_LIFECYCLE),
    get("/v2/models/{model}/traffic", "traffic", "repository", "Traffic")
        .says("How requests that name no version are shared out, and what a shadow or canary has shown")
        .or(&[Kind::UnknownModel]),
    put("/v2/models/{model}/traffic", "setTraffic", "repository", Body::Needed("TrafficSettings"), "Traffic")
        .says("Shares requests out anew")
        .or(&[Kind::UnknownModel]),
    delete("/v2/models/{model}/traffic", "takeBackTraffic", "repository", "Traffic")
        .says("Has the model's own settings hold again")
        .or(&[Kind::UnknownModel]),
    get("/v2/trace/setting", "traceSettings", "settings", "TraceSettings").says("The trace settings").or(OF_SETTINGS),
    post("/v2/trace/setting", "setTrace", "settings", Body::Optional("TraceChanges"), "TraceSettings")
        .says("Changes trace settings")
        .or(OF_SETTINGS),
    get("/v2/models/{model}/trace/setting", "modelTraceSettings", "settings", "TraceSettings")
        .says("A model's trace settings")
        .or(OF_SETTINGS),
    post(
        "/v2/models/{model}/trace/setting",
        "setModelTrace",
        "settings",
        Body::Optional("TraceChanges"),
        "TraceSettings",
    )
    .says("Changes a model's trace settings")
    .or(OF_SETTINGS),
    get("/v2/logging", "logSettings", "settings", "LogSettings").says("What is logged"),
    post("/v2/logging", "setLogging", "settings", Body::Optional("LogChanges"), "LogSettings")
        .says("Changes what is logged")
        .or(OF_SETTINGS),
    get("/v2/systemsharedmemory/status", "regions", SHARED_MEMORY, "Regions").says("All regions"),
    get("/v2/systemsharedmemory/region/{region}/status", "region", SHARED_MEMORY, "Regions")
        .says("One region")
        .or(&[Kind::UnknownModel]),
    post(
        "/v2/systemsharedmemory/region/{region}/register",
        "registerRegion",
        SHARED_MEMORY,
        Body::Needed("RegisterRegion"),
        "Done",
    )
    .says("Registers part of a file as a region")
    .or(&[Kind::Conflict]),
    post("/v2/systemsharedmemory/region/{region}/unregister", "unregisterRegion", SHARED_MEMORY, Body::None, "Done")
        .says("Forgets a region"),
    post("/v2/systemsharedmemory/unregister", "unregisterRegions", SHARED_MEMORY, Body::None, "Done")
        .says("Forgets all regions"),
    get("/v1/models", "v1Models", "v1", "V1Models")
        .says("V1: the names of all models; OpenAI's list of those for texts"),
    get("/v1/models/{model}", "v1Model", "v1", "V1Ready").says("V1: whether a model is ready").or(OF_A_MODEL),
    get("/v1/models/{model}/versions/{version}", "v1Version", "v1", "V1Ready")
        .says("V1: whether a version is ready")
        .or(OF_A_MODEL),
    post("/v1/models/{model}:predict", "predict", "v1", Body::Prediction, "")
        .says("V1: inference by the newest version that is ready")
        .answers(Answer::Prediction)
        .or(OF_INFERENCE),
    post("/v1/models/{model}/versions/{version}:predict", "predictVersion", "v1", Body::Prediction, "")
        .says("V1: inference by one version")
        .answers(Answer::Prediction)
        .or(OF_INFERENCE),
    embeddings("/openai/v1/embeddings", "openaiEmbeddings"),
    embeddings("/v1/embeddings", "embeddings"),
    rerank("/openai/v1/rerank", "openaiRerank"),
    rerank("/v1/rerank", "v1Rerank"),
    rerank("/rerank", "rerank"),
    get("/openai/v1/models", "openaiModels", OPENAI, "OpenAiModels").says("OpenAI's list of models for texts"),
    get("/openai/v1/models/{model}", "openaiModel", OPENAI, "OpenAiModel")
        .says("One model, in OpenAI's words")
        .or(OF_A_MODEL),
];

const OPENAI: &str = "openai";

const fn embeddings(path: &'static str, id: &'static str) -> Operation {
    post(path, id, OPENAI, Body::Needed("EmbeddingsRequest"), "Embeddings")
        .says("A vector for each text")
        .or(OF_INFERENCE)
}

const fn rerank(path: &'static str, id: &'static str) -> Operation {
    post(path, id, OPENAI, Body::Needed("RerankRequest"), "Reranked")
        .says("Documents, those that answer the query best first")
        .or(OF_INFERENCE)
}
