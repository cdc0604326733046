//! InferenceService `v1beta1`: what we read of it. [`Component`] is a PodSpec with KServe's fields beside it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The model formats that have a field of their own, the form before `model`.
pub const LEGACY_FORMATS: [&str; 10] =
    ["sklearn", "xgboost", "tensorflow", "pytorch", "triton", "onnx", "huggingface", "pmml", "lightgbm", "paddle"];

/// What is to be served, and how.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend(
    "x-kubernetes-preserve-unknown-fields" = true,
    "x-kubernetes-validations" = [
        {"rule": "!(has(self.canary) && size(self.canary) > 0 && has(self.predictor.canaryTrafficPercent))",
         "message": "canary and predictor.canaryTrafficPercent exclude each other; use one of them"},
        {"rule": "!has(self.canary) || self.canary.map(c, c.trafficPercent).sum() <= 100",
         "message": "the trafficPercent of all canaries must not add up to more than 100"},
        {"rule": "!has(self.canary) || self.canary.all(c, self.canary.exists_one(d, d.predictor.name == c.predictor.name))",
         "message": "each canary needs a predictor.name of its own"},
        {"rule": "!has(self.canary) || !has(self.predictor.name) || self.canary.all(c, c.predictor.name != self.predictor.name)",
         "message": "a canary's predictor.name must differ from the stable predictor's"},
    ]
))]
pub struct Spec {
    /// Serves the model.
    pub predictor: Component,
    /// Works on requests and answers around the predictor.
    pub transformer: Option<Component>,
    /// Answers `:explain`.
    pub explainer: Option<Component>,
    /// Variants that get a share of the traffic.
    #[schemars(length(max = 15))]
    pub canary: Option<Vec<Canary>>,
}

/// A variant of the predictor: its fields laid over the stable predictor's, and the share of the traffic that it gets.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Canary {
    /// Per cent of the requests, 0 for none.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub traffic_percent: i32,
    /// What differs from the stable predictor, and the variant's name.
    pub predictor: CanaryPredictor,
}

/// What a canary changes of the stable predictor. Its replicas follow from the share, so nothing may scale it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend(
    "x-kubernetes-preserve-unknown-fields" = true,
    "x-kubernetes-validations" = [
        {"rule": "!has(self.maxReplicas) && !has(self.scaleTarget) && !has(self.scaleMetric) && !has(self.autoScaling)",
         "message": "a canary has as many replicas as its share asks for, or minReplicas; it must not set maxReplicas, scaleTarget, scaleMetric or autoScaling"},
        {"rule": "!has(self.workerSpec)", "message": "a canary cannot span several nodes; leave workerSpec out"},
    ]
))]
pub struct CanaryPredictor {
    /// The variant's name, part of the names of its children.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), length(max = 20))]
    pub name: String,
    /// Replicas in place of what the share asks for.
    #[schemars(range(min = 0))]
    pub min_replicas: Option<i32>,
    /// Refused; see the validation.
    pub max_replicas: Option<i32>,
    /// Refused; see the validation.
    pub scale_target: Option<i32>,
    /// Refused; see the validation.
    pub scale_metric: Option<String>,
    /// Refused; see the validation.
    pub auto_scaling: Option<Open>,
    /// Refused; see the validation.
    pub worker_spec: Option<Open>,
    /// The model, where it differs.
    pub model: Option<Open>,
}

/// An object whose fields are carried through.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Open {
    /// Its fields.
    #[serde(flatten)]
    #[schemars(skip)]
    pub fields: Map<String, Value>,
}

/// A predictor, transformer or explainer: the fields of a PodSpec, one way to say what runs in it, and how it is scaled.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend(
    "x-kubernetes-preserve-unknown-fields" = true,
    "x-kubernetes-validations" = [
        {"rule": "!has(self.minReplicas) || !has(self.maxReplicas) || self.maxReplicas == 0 || self.minReplicas <= self.maxReplicas",
         "message": "minReplicas must not be above maxReplicas"},
        {"rule": "[has(self.model), has(self.sklearn), has(self.xgboost), has(self.tensorflow), has(self.pytorch), has(self.triton), has(self.onnx), has(self.huggingface), has(self.pmml), has(self.lightgbm), has(self.paddle)].filter(given, given).size() <= 1",
         "message": "give one of model, sklearn, xgboost, tensorflow, pytorch, triton, onnx, huggingface, pmml, lightgbm and paddle"},
    ]
))]
pub struct Component {
    /// Part of the names of the component's children.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), length(max = 20))]
    pub name: Option<String>,
    /// The model, and the container that serves it where it differs from the runtime's.
    pub model: Option<Model>,
    /// The model, in the form before `model`; the format is the field's name.
    pub sklearn: Option<Open>,
    /// See `sklearn`.
    pub xgboost: Option<Open>,
    /// See `sklearn`.
    pub tensorflow: Option<Open>,
    /// See `sklearn`.
    pub pytorch: Option<Open>,
    /// See `sklearn`.
    pub triton: Option<Open>,
    /// See `sklearn`.
    pub onnx: Option<Open>,
    /// See `sklearn`.
    pub huggingface: Option<Open>,
    /// See `sklearn`.
    pub pmml: Option<Open>,
    /// See `sklearn`.
    pub lightgbm: Option<Open>,
    /// See `sklearn`.
    pub paddle: Option<Open>,
    /// Containers in place of a model and its runtime.
    pub containers: Option<Vec<Open>>,
    /// The pod's service account, whose Secrets are the credentials of storage.
    pub service_account_name: Option<String>,
    /// The fewest replicas.
    #[schemars(range(min = 0), extend("default" = 1))]
    pub min_replicas: Option<i32>,
    /// The most replicas; 0 and nothing mean minReplicas.
    #[schemars(range(min = 0))]
    pub max_replicas: Option<i32>,
    /// What the autoscaler keeps the metric at.
    pub scale_target: Option<i32>,
    /// The autoscaler's metric.
    #[schemars(extend("enum" = ["cpu", "memory", "concurrency", "rps"]))]
    pub scale_metric: Option<String>,
    /// How the target is meant.
    #[schemars(extend("enum" = ["Utilization", "AverageValue"]))]
    pub scale_metric_type: Option<String>,
    /// Metrics and behaviour of the autoscaler, in full.
    pub auto_scaling: Option<Open>,
    /// Requests that a replica works on at a time.
    #[schemars(range(min = 0))]
    pub container_concurrency: Option<i64>,
    /// Seconds that a request may take, for the Gateway.
    #[schemars(range(min = 0))]
    pub timeout: Option<i64>,
    /// Per cent of the requests that the newest revision gets; without it all, once it is ready.
    #[schemars(range(min = 0, max = 100))]
    pub canary_traffic_percent: Option<i32>,
    /// Labels of the pods.
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations of the pods.
    pub annotations: Option<BTreeMap<String, String>>,
    /// How a revision's Deployment replaces pods; `Recreate` also ends the old revision before the new one is ready.
    pub deployment_strategy: Option<Open>,
}

/// A model, where it is, and what should serve it. The fields of a container stand beside these.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Model {
    /// What the model is stored as.
    #[serde(default)]
    pub model_format: ModelFormat,
    /// The serving runtime to use, in place of the one that fits best.
    pub runtime: Option<String>,
    /// The tag of the runtime's image.
    pub runtime_version: Option<String>,
    /// The protocol that the runtime must speak.
    #[schemars(extend("enum" = ["v1", "v2", "grpc-v1", "grpc-v2"]))]
    pub protocol_version: Option<String>,
    /// Where the model is.
    pub storage_uri: Option<String>,
    /// Where several parts of the model are, and where each is mounted.
    pub storage_uris: Option<Vec<StorageUri>>,
    /// Where the model is, by an entry of the Secret `storage-config`.
    pub storage: Option<Storage>,
}

/// A format and, where it matters, its version.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct ModelFormat {
    /// onnx, sklearn and so on.
    #[serde(default)]
    pub name: String,
    /// As the runtime states it.
    pub version: Option<String>,
}

/// One of several places of a model.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct StorageUri {
    /// Where it is.
    pub uri: String,
    /// Where it is mounted.
    pub mount_path: Option<String>,
}

/// A place named by an entry of the Secret `storage-config`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Storage {
    /// The path in the bucket.
    pub path: Option<String>,
    /// The Secret's entry.
    pub key: Option<String>,
    /// type, bucket and others, over the entry's.
    pub parameters: Option<BTreeMap<String, String>>,
    /// The schema's path in the bucket.
    pub schema_path: Option<String>,
}
