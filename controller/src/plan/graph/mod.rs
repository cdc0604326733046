//! What an InferenceGraph should be in the cluster: a router before its services, a pure function as of InferenceServices.

mod children;
mod program;
mod services;

use serde::Deserialize;
use serde_json::{Map, Value};

use self::children::{GRPC_PORT, app};
use self::program::{Parts, bounds, parts};
use super::conditions::Conditions;
use super::events::Event;
use super::network::{self, Backend, Ports, RouteState, Rule};
use super::router_pods;
use super::storage::Vault;
use super::{Context, Settings, difference, health};
use crate::api::inference_graph::GraphStatus;
use crate::api::keys;
use crate::api::status::Status;
use crate::tree;

/// A graph and what there is around it.
#[derive(Debug, Clone, Default)]
pub struct GraphSnapshot<'a> {
    /// The InferenceServices of its namespace.
    pub services: Vec<&'a Value>,
    /// The runtimes of its namespace.
    pub runtimes: Vec<&'a Value>,
    /// The runtimes of the cluster.
    pub cluster_runtimes: Vec<&'a Value>,
    /// The objects that it owns.
    pub children: Vec<&'a Value>,
    /// The time, RFC 3339.
    pub now: &'a str,
}

/// What there should be.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphPlan {
    /// All children, complete; none where what is there should stay untouched.
    pub children: Option<Vec<Value>>,
    /// The whole status.
    pub status: GraphStatus,
    /// What changed, for the person who reads.
    pub events: Vec<Event>,
}

/// Plans one InferenceGraph.
pub fn plan(settings: &Settings, graph: &Value, seen: &GraphSnapshot<'_>) -> GraphPlan {
    let old = GraphStatus::deserialize(tree::at(graph, &["status"])).unwrap_or_default();
    let unused = Status::default();
    let cx = Context {
        settings,
        service: graph,
        namespace: tree::at(graph, &["metadata", "namespace"]).as_str().unwrap_or("default"),
        runtimes: &seen.runtimes,
        cluster_runtimes: &seen.cluster_runtimes,
        vault: Vault::default(),
        children: &seen.children,
        pods: &[],
        demand: None,
        learned: None,
        finding: None,
        status: &unused,
        now: seen.now,
    };
    let mut conditions = Conditions::new(&old.conditions, seen.now);
    let mut status = GraphStatus {
        observed_generation: tree::number(graph, &["metadata", "generation"]).unwrap_or(0),
        deployment_mode: "Standard".into(),
        ..GraphStatus::default()
    };
    let children = if tree::annotation(graph, keys::STOP) == Some("true") {
        let message = format!("stopped by the annotation {}", keys::STOP);
        conditions.set("RouterReady", "False", "Stopped", &message, false);
        conditions.set("Stopped", "True", "Stopped", &message, true);
        Some(Vec::new())
    } else {
        match parts(&cx, &seen.services) {
            Ok(parts) => {
                status.url = Some(url(&cx));
                Some(running(&cx, &parts, &mut conditions))
            }
            Err(obstacle) => {
                // What serves goes on, and the status says what to mend.
                status.url.clone_from(&old.url);
                old.conditions.iter().for_each(|own| conditions.keep(own));
                conditions.set(obstacle.condition, obstacle.status, obstacle.reason, &obstacle.message, false);
                None
            }
        }
    };
    status.conditions = conditions.finish();
    let events = events(&old, &status);
    GraphPlan { children, status, events }
}

fn url(cx: &Context<'_>) -> String {
    let name = tree::name(cx.service);
    if network::is_exposed(cx) {
        format!("{}://{}", cx.settings.url_scheme, network::host(cx, name))
    } else {
        format!("http://{}", network::local_host(cx, name))
    }
}

fn running(cx: &Context<'_>, parts: &Parts, conditions: &mut Conditions<'_>) -> Vec<Value> {
    let name = tree::name(cx.service);
    let (min, max) = bounds(&parts.spec);
    let mut children = children::all(cx, parts);
    if min > 1 {
        children.push(router_pods::budget(name, &app(name)));
    }
    if max > min {
        children.push(children::autoscaler(name, &parts.spec, min, max));
    }
    let state = router_state(cx);
    match &state {
        Ok(()) => conditions.set("RouterReady", "True", "", "", false),
        Err(message) => conditions.set("RouterReady", "Unknown", "Deploying", message, false),
    }
    if parts.waiting.is_empty() {
        conditions.set("ServicesReady", "True", "", "", false);
    } else {
        let message = format!("not ready: {}", parts.waiting.join(", "));
        conditions.set("ServicesReady", "False", "ServiceNotReady", &message, false);
    }
    if network::is_exposed(cx) {
        let there = cx.children.iter().any(|child| child["kind"] == "HTTPRoute");
        if there || state.is_ok() {
            let ports = Ports { rest: Some(80), grpc: Some(GRPC_PORT) };
            let backends = [Backend { service: name.to_owned(), weight: 100, ports }];
            let rule = Rule { path: "^/.*$", backends: &backends, timeout: parts.spec.timeout };
            children.extend(network::route(cx, name, &[rule]));
            conditions.ingress(&network::route_state(cx, name));
        } else {
            conditions.ingress(&RouteState::Absent);
        }
    }
    conditions.set("Stopped", "False", "", "", true);
    children.into_iter().map(|child| difference::finish_graphs(cx, child)).collect()
}

/// Whether the pods made from the newest program serve.
///
/// # Errors
/// With what is waited for.
fn router_state(cx: &Context<'_>) -> Result<(), String> {
    let name = tree::name(cx.service);
    let own = health::health(cx, name, 0);
    let found = cx.children.iter().find(|child| child["kind"] == "Deployment" && tree::name(child) == name);
    let number = |path: &[&str]| found.and_then(|own| tree::number(own, path)).unwrap_or(0);
    let seen = number(&["status", "observedGeneration"]) >= number(&["metadata", "generation"]);
    // What is told of an older generation says nothing of the newest graph.
    let updated = if seen { number(&["status", "updatedReplicas"]) } else { 0 };
    if own.available && updated >= own.replicas {
        return Ok(());
    }
    let stuck = own.stuck.map(|why| format!(": {why}")).unwrap_or_default();
    Err(format!("{} of {} routers of the newest graph are ready{stuck}", updated.min(own.pods), own.replicas))
}

fn events(old: &GraphStatus, new: &GraphStatus) -> Vec<Event> {
    let ready =
        |status: &GraphStatus| status.conditions.iter().find(|own| own.kind == "Ready").cloned().unwrap_or_default();
    let (before, now) = (ready(old), ready(new));
    if (&before.status, &before.message) == (&now.status, &now.message) {
        return Vec::new();
    }
    let event = |warning, reason: &str, note: String| vec![Event { warning, reason: reason.into(), note }];
    match (now.status.as_str(), now.reason.as_str()) {
        ("True", _) => event(false, "Ready", "serves as the spec asks".into()),
        ("False", "Stopped") => event(false, "Stopped", now.message),
        ("False", reason) => event(true, reason, now.message.clone()),
        _ => Vec::new(),
    }
}

/// The status as the API server takes it.
pub fn render_status(status: &GraphStatus) -> Value {
    serde_json::to_value(status).unwrap_or_else(|_| Value::Object(Map::new()))
}
