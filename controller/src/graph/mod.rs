//! Inference graphs: nodes whose steps are calls of services or other nodes, and how one answer is made of theirs.
//!
//! Read and checked here for the plan, which says what is wrong, and for the router, which evaluates it. Knows neither HTTP nor a
//! clock: whoever evaluates says how a service is called. The words and rules are those of KServe's router.

pub mod check;
pub mod condition;
pub mod evaluate;
pub mod message;
pub mod pattern;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::condition::Condition;

/// Where a request starts.
pub const ROOT: &str = "root";

/// A graph as the controller writes it for its router: InferenceGraph's spec with every service found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Program {
    /// What gRPC's callers name as the model: the InferenceGraph's name. Without it any name will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// By name.
    pub nodes: BTreeMap<String, NodeProgram>,
    /// How long things may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Regular expressions of the headers that reach every step, as KServe's `router.headers.propagate`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub propagate: Vec<String>,
}

/// Seconds; where there is none, the default that stands beside the use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeouts {
    /// For a whole request: `spec.timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    /// `routerTimeouts.serverRead`: until the request is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<u64>,
    /// `routerTimeouts.serverWrite`: from there until it is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<u64>,
    /// `routerTimeouts.serverIdle`: until the next request of a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<u64>,
    /// `routerTimeouts.serviceClient`: for a call of a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
}

/// A node as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeProgram {
    /// Sequence, Splitter, Ensemble or Switch.
    pub router_type: String,
    /// In their order.
    #[serde(default)]
    pub steps: Vec<StepProgram>,
}

/// A step as it is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepProgram {
    /// Its key in an ensemble's answer; its index where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Another node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// A service: `http://`, `https://`, or `grpc://HOST:PORT/MODEL`, which is V2 without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where the same service takes gRPC, for requests that come over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<String>,
    /// `$request` or `$response`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The `predictions` of what is sent become its `instances`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub map_predictions_to_instances: bool,
    /// Per cent, of a Splitter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,
    /// When a Switch takes it, or a Sequence goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Soft or Hard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependency: Option<String>,
}

/// A graph that was checked: it ends, and every step leads somewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    root: usize,
}

#[derive(Debug, Clone, PartialEq)]
struct Node {
    name: String,
    kind: Kind,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sequence,
    Splitter,
    Ensemble,
    Switch,
}

/// A step of a checked graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// For messages and metrics: the node's name and the step's, or its index.
    pub label: String,
    key: String,
    target: Target,
    of_response: bool,
    map_predictions: bool,
    weight: u64,
    condition: Option<Condition>,
    hard: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Node(usize),
    Service(Service),
}

/// Where a service is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Service {
    /// For requests over HTTP, and over gRPC where it has no other.
    url: String,
    /// For requests over gRPC.
    grpc: Option<String>,
}

impl Service {
    fn address(&self, over_grpc: bool) -> &str {
        self.grpc.as_ref().filter(|_| over_grpc).unwrap_or(&self.url)
    }
}

impl Graph {
    /// The steps that call services, each with its URL.
    pub fn services(&self) -> impl Iterator<Item = (&Step, &str)> {
        let steps = self.nodes.iter().flat_map(|node| &node.steps);
        steps.filter_map(|step| match &step.target {
            Target::Service(service) => Some((step, service.url.as_str())),
            Target::Node(_) => None,
        })
    }
}
