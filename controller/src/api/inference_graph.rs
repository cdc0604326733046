//! InferenceGraph `v1alpha1`: services joined into one answer.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::Condition;

/// The nodes of a graph; requests start at `root`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend(
    "x-kubernetes-preserve-unknown-fields" = true,
    "x-kubernetes-validations" = [{"rule": "'root' in self.nodes", "message": "a graph starts at the node 'root'; name one so"}]
))]
pub struct Spec {
    /// By name. Bounded, as the steps are: the API server counts what the validations of all of them may cost.
    #[schemars(extend("maxProperties" = 64))]
    pub nodes: BTreeMap<String, Node>,
    /// Seconds that a request may take.
    #[schemars(range(min = 1))]
    pub timeout: Option<i64>,
    /// How long the router waits for what.
    pub router_timeouts: Option<RouterTimeouts>,
    /// The fewest routers.
    #[schemars(range(min = 0))]
    pub min_replicas: Option<i32>,
    /// The most routers.
    #[schemars(range(min = 0))]
    pub max_replicas: Option<i32>,
    /// Per cent of what is requested, for the autoscaler.
    pub scale_target: Option<i32>,
    /// cpu or memory.
    #[schemars(extend("enum" = ["cpu", "memory", "concurrency", "rps"]))]
    pub scale_metric: Option<String>,
}

/// Seconds, each.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouterTimeouts {
    /// Until a request is read; 60 where none is stated.
    #[schemars(range(min = 1))]
    pub server_read: Option<i64>,
    /// From there until it is answered; 60 where none is stated.
    #[schemars(range(min = 1))]
    pub server_write: Option<i64>,
    /// Until the next request of a connection; 180 where none is stated.
    #[schemars(range(min = 1))]
    pub server_idle: Option<i64>,
    /// For a call of a step.
    #[schemars(range(min = 1))]
    pub service_client: Option<i64>,
}

/// What there is of a graph.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct GraphStatus {
    /// The generation of the object that this is about.
    pub observed_generation: i64,
    /// Ready and what it is made of, sorted by type.
    pub conditions: Vec<Condition>,
    /// Where it is asked, by POST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Standard, always.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deployment_mode: String,
}

/// A node: steps, and how they are joined.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Node {
    /// One after the other, all at once, by weight, or the first whose condition holds.
    #[schemars(extend("enum" = ["Sequence", "Splitter", "Ensemble", "Switch"]))]
    pub router_type: String,
    /// In their order.
    #[schemars(length(max = 64))]
    pub steps: Option<Vec<Step>>,
}

/// A step: a service, an address or another node.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend(
    "x-kubernetes-preserve-unknown-fields" = true,
    "x-kubernetes-validations" = [{
        "rule": "[has(self.serviceName), has(self.serviceUrl), has(self.nodeName)].filter(given, given).size() == 1",
        "message": "a step goes to one of serviceName, serviceUrl and nodeName"
    }]
))]
pub struct Step {
    /// Part of an ensemble's answer.
    pub name: Option<String>,
    /// An InferenceService of the namespace.
    pub service_name: Option<String>,
    /// An address.
    pub service_url: Option<String>,
    /// Another node.
    pub node_name: Option<String>,
    /// What is sent: `$request`, or `$response` of the step before.
    pub data: Option<String>,
    /// The `predictions` of what is sent become its `instances`.
    pub map_predictions_to_instances: Option<bool>,
    /// A splitter's share in per cent.
    #[schemars(range(min = 0, max = 100))]
    pub weight: Option<i64>,
    /// When a switch takes it, or a sequence goes on: a GJSON expression.
    pub condition: Option<String>,
    /// Whether its failure ends the graph.
    #[schemars(extend("enum" = ["Soft", "Hard"]))]
    pub dependency: Option<String>,
}
