//! From a graph's spec to the program of its router: read, checked, and every service found.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::super::network::TIMEOUT_MAX;
use super::super::{Context, Settings};
use super::services::{self, Found};
use crate::api::inference_graph::{Spec, Step};
use crate::graph::{Graph, NodeProgram, Program, StepProgram, Timeouts};
use crate::tree;

/// One may end, or its node, without anybody noticing.
const REPLICAS: i32 = 2;
/// The longest name of a Service.
const NAME_MAX: usize = 63;

/// Why nothing new can be made of a graph.
pub(super) struct Obstacle {
    pub(super) condition: &'static str,
    pub(super) status: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What a graph's router is made from.
pub(super) struct Parts {
    pub(super) spec: Spec,
    pub(super) program: Program,
    /// Services that are not ready, in words.
    pub(super) waiting: Vec<String>,
}

/// Reads and checks the graph, and finds its services.
pub(super) fn parts(cx: &Context<'_>, all: &[&Value]) -> Result<Parts, Obstacle> {
    let invalid =
        |message: String| Obstacle { condition: "RouterReady", status: "False", reason: "InvalidGraph", message };
    let spec = Spec::deserialize(tree::at(cx.service, &["spec"])).map_err(|error| invalid(format!("spec: {error}")))?;
    let name = tree::name(cx.service);
    if name.len() > NAME_MAX || !name.starts_with(|first: char| first.is_ascii_lowercase()) || name.contains('.') {
        return Err(invalid(format!(
            "metadata.name '{name}' is no name of a Service: at most {NAME_MAX} of a-z, 0-9 and -, a letter first"
        )));
    }
    if cx.settings.router_image.is_none() {
        return Err(invalid("graphs are served by routers; start the controller with --router-image".into()));
    }
    let mut places = Places { cx, services: all, waiting: BTreeMap::new(), unfit: BTreeSet::new() };
    let program = program(&spec, cx.settings, &mut places);
    let mut faults: Vec<String> = Graph::check(&program).err().unwrap_or_default();
    faults.extend(places.unfit);
    faults.extend(scale_faults(&spec));
    faults.extend(timeout_faults(&spec));
    if !faults.is_empty() {
        return Err(invalid(faults.join("; ")));
    }
    let unknown: Vec<&str> =
        places.waiting.iter().filter(|(_, found)| **found == Found::Missing).map(|(name, _)| name.as_str()).collect();
    let without: Vec<&str> =
        places.waiting.iter().filter(|(_, found)| **found == Found::Waiting).map(|(name, _)| name.as_str()).collect();
    if !unknown.is_empty() {
        let message = format!("there is no InferenceService {} in namespace {}", unknown.join(", "), cx.namespace);
        return Err(Obstacle { condition: "ServicesReady", status: "False", reason: "ServiceNotFound", message });
    }
    if !without.is_empty() {
        let message = format!("waiting for the address of InferenceService {}", without.join(", "));
        return Err(Obstacle { condition: "ServicesReady", status: "Unknown", reason: "ServiceNotReady", message });
    }
    Ok(Parts { spec, program, waiting: places.waiting.into_keys().collect() })
}

/// Finds the services of steps, and notes those that are not there or not ready.
struct Places<'a> {
    cx: &'a Context<'a>,
    services: &'a [&'a Value],
    waiting: BTreeMap<String, Found>,
    unfit: BTreeSet<String>,
}

impl Places<'_> {
    /// Where a step's service is asked: over HTTP, or whatever it has, and over gRPC where it has that too.
    fn urls(&mut self, step: &Step) -> (Option<String>, Option<String>) {
        let given = |own: &Option<String>| own.clone().filter(|text| !text.is_empty());
        let Some(name) = given(&step.service_name) else { return (given(&step.service_url), None) };
        if given(&step.service_url).is_some() {
            // Two targets: refused by the check, which is given none.
            return (None, None);
        }
        let found = services::find(&name, self.services, self.cx.runtimes, self.cx.cluster_runtimes);
        let (url, grpc) = match &found {
            Found::At { url, grpc, .. } => (url.clone(), grpc.clone()),
            // For the check alone: no router is made of it.
            _ => ("http://unknown".into(), None),
        };
        match found {
            Found::At { ready: true, .. } => {}
            Found::Unfit(why) => drop(self.unfit.insert(why)),
            found => drop(self.waiting.insert(name, found)),
        }
        (Some(url), grpc)
    }
}

fn program(spec: &Spec, settings: &Settings, places: &mut Places<'_>) -> Program {
    let mut nodes = BTreeMap::new();
    for (name, node) in &spec.nodes {
        let steps = node.steps.iter().flatten().map(|step| {
            let (url, grpc) = places.urls(step);
            StepProgram {
                name: step.name.clone(),
                node: step.node_name.clone().filter(|text| !text.is_empty()),
                url,
                grpc,
                data: step.data.clone(),
                map_predictions_to_instances: step.map_predictions_to_instances.unwrap_or(false),
                weight: step.weight,
                condition: step.condition.clone(),
                dependency: step.dependency.clone(),
            }
        });
        nodes.insert(name.clone(), NodeProgram { router_type: node.router_type.clone(), steps: steps.collect() });
    }
    // What is below 1 becomes 0, which the check refuses.
    let seconds = |own: Option<i64>| own.map(|seconds| u64::try_from(seconds).unwrap_or(0));
    let router = spec.router_timeouts.clone().unwrap_or_default();
    Program {
        name: Some(tree::name(places.cx.service).to_owned()),
        nodes,
        timeouts: Timeouts {
            request: seconds(spec.timeout),
            read: seconds(router.server_read),
            write: seconds(router.server_write),
            idle: seconds(router.server_idle),
            step: seconds(router.service_client),
        },
        propagate: settings.graph_headers.clone(),
    }
}

fn scale_faults(spec: &Spec) -> Vec<String> {
    let mut faults = Vec::new();
    let (min, max) = bounds(spec);
    if let Some(stated) = spec.max_replicas.filter(|own| *own != 0 && *own < min) {
        faults.push(format!("minReplicas {min} is above maxReplicas {stated}"));
    }
    if let Some(metric) = spec.scale_metric.as_deref().filter(|own| max > min && !matches!(*own, "cpu" | "memory")) {
        faults.push(format!("scaleMetric '{metric}' is not served for graphs; cpu and memory are"));
    }
    faults
}

/// What is below the fewest seconds the check of the program refuses.
fn timeout_faults(spec: &Spec) -> Vec<String> {
    let router = spec.router_timeouts.clone().unwrap_or_default();
    let stated = [
        ("timeout", spec.timeout),
        ("routerTimeouts.serverRead", router.server_read),
        ("routerTimeouts.serverWrite", router.server_write),
        ("routerTimeouts.serverIdle", router.server_idle),
        ("routerTimeouts.serviceClient", router.service_client),
    ];
    let beyond = stated.into_iter().filter_map(|(field, own)| Some((field, own.filter(|own| *own > TIMEOUT_MAX)?)));
    beyond.map(|(field, own)| format!("{field} is {own}; at most {TIMEOUT_MAX} seconds are possible")).collect()
}

/// The fewest and the most routers.
pub(super) fn bounds(spec: &Spec) -> (i32, i32) {
    // Nothing wakes a router itself, so 0 is taken as 1.
    let max = spec.max_replicas.unwrap_or(0).max(0);
    let min = spec.min_replicas.map_or(if max == 0 { REPLICAS } else { REPLICAS.min(max) }, |own| own.max(1));
    (min, max.max(min))
}
