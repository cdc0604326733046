//! The status of an InferenceService, as KServe's clients read it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What there is of what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Status {
    /// The generation of the object that this is about.
    pub observed_generation: i64,
    /// Ready and what it is made of, sorted by type.
    pub conditions: Vec<Condition>,
    /// Where callers outside the cluster reach it, or inside where there is no Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where callers inside the cluster reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// By component.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub components: BTreeMap<String, ComponentStatus>,
    /// The predictor's model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_status: Option<ModelStatus>,
    /// By canary, in the order of the spec.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub canary_statuses: Vec<CanaryStatus>,
    /// Standard, always.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deployment_mode: String,
    /// The runtime, if it is one of the namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serving_runtime_name: String,
    /// The runtime, if it is one of the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster_serving_runtime_name: String,
}

/// One statement about the service, in Knative's style.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// Info where Ready does not depend on it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub severity: String,
    /// One word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For the person who reads it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When `status` last changed, RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_transition_time: String,
}

/// A URL.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Address {
    /// In full.
    pub url: String,
}

/// Revisions of a component, and who gets the requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct ComponentStatus {
    /// The newest that is ready.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub latest_ready_revision: String,
    /// The newest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub latest_created_revision: String,
    /// Had all the traffic before the one that has it now.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub previous_rolledout_revision: String,
    /// The last that got all the traffic.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub latest_rolledout_revision: String,
    /// Adds up to 100 per cent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficTarget>,
    /// The component's own address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// For HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest_url: Option<String>,
    /// For gRPC, inside the cluster: `grpc://HOST:PORT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_url: Option<String>,
    /// Inside the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// The guarded rollout of the newest revision, and the last one that ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
}

/// Where a guarded rollout is: all that it goes on from when the controller is started again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutStatus {
    /// The revision that takes over.
    pub revision: String,
    /// The one that it takes over from.
    pub stable: String,
    /// Digest of the settings that it was begun with: others begin it anew.
    pub settings: String,
    /// Running, Promoted or RolledBack.
    pub phase: String,
    /// From 1; 0 while answers are only compared.
    pub step: i32,
    /// Per cent that the new revision gets at this step.
    pub percent: i32,
    /// Whether it has been given requests.
    pub served: bool,
    /// When the step or the phase began, RFC 3339.
    pub since: String,
    /// Why it is where it is, for the person who reads it.
    pub message: String,
}

impl RolloutStatus {
    /// On its way.
    pub const RUNNING: &str = "Running";
    /// The new revision has taken over.
    pub const PROMOTED: &str = "Promoted";
    /// The new revision gets nothing any more.
    pub const ROLLED_BACK: &str = "RolledBack";
}

/// A share of the traffic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficTarget {
    /// Who gets it.
    pub revision_name: String,
    /// Whether that is the newest.
    pub latest_revision: bool,
    /// Of all requests.
    pub percent: i32,
    /// `prev` for the rolled-out revision beside a canary; a canary's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tag: String,
}

/// Whether the model of the newest spec is loaded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelStatus {
    /// UpToDate, InProgress, BlockedByFailedLoad or InvalidSpec.
    pub transition_status: String,
    /// Of the model that serves, and of the one that is to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub states: Option<ModelStates>,
    /// Why the newest does not serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure_info: Option<FailureInfo>,
    /// Pods of the newest revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<ModelCopies>,
}

/// Pending, Standby, Loading, Loaded or FailedToLoad, each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelStates {
    /// Of the revision that serves.
    pub active_model_state: String,
    /// Of the newest.
    pub target_model_state: String,
}

/// Copies of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelCopies {
    /// Pods that failed.
    pub failed_copies: i32,
    /// All pods.
    pub total_copies: i32,
}

/// A failure, for the person who has to mend it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FailureInfo {
    /// The pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// ModelLoadFailed, RuntimeUnhealthy, RuntimeDisabled, NoSupportingRuntime, RuntimeNotRecognized or InvalidPredictorSpec.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// The revision.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model_revision_name: String,
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub time: String,
    /// The container's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// A canary of `spec.canary`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CanaryStatus {
    /// `predictor.name`.
    pub name: String,
    /// A pod of it can take requests.
    pub ready: bool,
    /// What it gets now.
    pub traffic_percent: i32,
    /// Its model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_status: Option<ModelStatus>,
}
