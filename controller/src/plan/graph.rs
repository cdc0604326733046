//! What an InferenceGraph should be in the cluster: a router before its services, a pure function as of InferenceServices.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::conditions::Conditions;
use super::events::Event;
use super::graph_services::{self, Found};
use super::network::{self, Backend, Ports, RouteState, Rule};
use super::router_pods::{self, PORT, RouterPods};
use super::storage::Vault;
use super::{Context, Settings, difference, health, revision};
use crate::api::inference_graph::{GraphStatus, Spec, Step};
use crate::api::keys;
use crate::api::status::Status;
use crate::graph::{Graph, NodeProgram, Program, StepProgram, Timeouts};
use crate::tree;

/// One may end, or its node, without anybody noticing.
const REPLICAS: i32 = 2;
/// Seconds that the router serves on after it is told to end.
const DRAIN_DELAY: i64 = 5;
/// KServe's default of `routerTimeouts.serverWrite`, which bounds what is under way when a router ends.
const WRITE_TIMEOUT: i64 = 60;
/// The longest name of a Service.
const NAME_MAX: usize = 63;
/// Fields of a PodSpec that a graph has.
const POD_FIELDS: [&str; 5] = ["affinity", "tolerations", "nodeSelector", "nodeName", "serviceAccountName"];

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

/// Why nothing new can be made of a graph.
struct Obstacle {
    condition: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

/// What a graph's router is made from.
struct Parts {
    spec: Spec,
    program: Program,
    /// Services that are not ready, in words.
    waiting: Vec<String>,
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

/// Reads and checks the graph, and finds its services.
fn parts(cx: &Context<'_>, services: &[&Value]) -> Result<Parts, Obstacle> {
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
    let mut places = Places { cx, services, waiting: BTreeMap::new(), unfit: BTreeSet::new() };
    let program = program(&spec, cx.settings, &mut places);
    let mut faults: Vec<String> = Graph::check(&program).err().unwrap_or_default();
    faults.extend(places.unfit);
    faults.extend(scale_faults(&spec));
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
    fn url(&mut self, step: &Step) -> Option<String> {
        let given = |own: &Option<String>| own.clone().filter(|text| !text.is_empty());
        let Some(name) = given(&step.service_name) else { return given(&step.service_url) };
        if given(&step.service_url).is_some() {
            // Two targets: refused by the check, which is given none.
            return None;
        }
        let found = graph_services::find(&name, self.services, self.cx.runtimes, self.cx.cluster_runtimes);
        let url = match &found {
            Found::At { url, .. } => url.clone(),
            // For the check alone: no router is made of it.
            _ => "http://unknown".into(),
        };
        match found {
            Found::At { ready: true, .. } => {}
            Found::Unfit(why) => drop(self.unfit.insert(why)),
            found => drop(self.waiting.insert(name, found)),
        }
        Some(url)
    }
}

fn program(spec: &Spec, settings: &Settings, places: &mut Places<'_>) -> Program {
    let mut nodes = BTreeMap::new();
    for (name, node) in &spec.nodes {
        let steps = node.steps.iter().flatten().map(|step| StepProgram {
            name: step.name.clone(),
            node: step.node_name.clone().filter(|text| !text.is_empty()),
            url: places.url(step),
            data: step.data.clone(),
            map_predictions_to_instances: step.map_predictions_to_instances.unwrap_or(false),
            weight: step.weight,
            condition: step.condition.clone(),
            dependency: step.dependency.clone(),
        });
        nodes.insert(name.clone(), NodeProgram { router_type: node.router_type.clone(), steps: steps.collect() });
    }
    // What is below 1 becomes 0, which the check refuses.
    let seconds = |own: Option<i64>| own.map(|seconds| u64::try_from(seconds).unwrap_or(0));
    let router = spec.router_timeouts.clone().unwrap_or_default();
    Program {
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

/// The fewest and the most routers.
fn bounds(spec: &Spec) -> (i32, i32) {
    // Nothing wakes a router itself, so 0 is taken as 1.
    let max = spec.max_replicas.unwrap_or(0).max(0);
    let min = spec.min_replicas.map_or(if max == 0 { REPLICAS } else { REPLICAS.min(max) }, |own| own.max(1));
    (min, max.max(min))
}

fn url(cx: &Context<'_>) -> String {
    let name = tree::name(cx.service);
    if network::is_exposed(cx) {
        format!("{}://{}", cx.settings.url_scheme, network::host(cx, name))
    } else {
        format!("http://{}", network::local_host(cx, name))
    }
}

fn app(name: &str) -> String {
    format!("graph.{name}")
}

fn running(cx: &Context<'_>, parts: &Parts, conditions: &mut Conditions<'_>) -> Vec<Value> {
    let name = tree::name(cx.service);
    let (min, max) = bounds(&parts.spec);
    let mut children = vec![config(name, &parts.program), deployment(cx, parts), service(cx)];
    if min > 1 {
        children.push(router_pods::budget(name, &app(name)));
    }
    if max > min {
        children.push(autoscaler(name, &parts.spec, min, max));
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
            let ports = Ports { rest: Some(80), grpc: None };
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

fn config_name(name: &str) -> String {
    format!("{name}-graph")
}

fn config(name: &str, program: &Program) -> Value {
    let text = serde_json::to_value(program).unwrap_or_default().to_string();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": config_name(name)}, "data": {"graph.json": text},
    })
}

fn deployment(cx: &Context<'_>, parts: &Parts) -> Value {
    let name = tree::name(cx.service);
    let write = parts.spec.router_timeouts.as_ref().and_then(|own| own.server_write).unwrap_or(WRITE_TIMEOUT);
    let longest = write.max(parts.spec.timeout.unwrap_or(0));
    let (min, max) = bounds(&parts.spec);
    let config = config_name(name);
    let pods = RouterPods {
        name,
        labels: json!({keys::APP: app(name), keys::GRAPH: name}),
        arguments: vec!["--graph=/etc/tensorgate/graph.json".into(), format!("--drain-timeout={longest}")],
        config: &config,
        replicas: (max == min).then_some(i64::from(min)),
        grace: DRAIN_DELAY + longest + 5,
    };
    let mut deployment = router_pods::deployment(cx.settings.router_image.as_deref(), &pods);
    let template = &mut deployment["spec"]["template"];
    // Another graph is other pods, which come one by one: a volume would follow within a minute or so, in each pod at another time.
    let digest = revision::digest(&serde_json::to_value(&parts.program).unwrap_or_default());
    template["metadata"]["annotations"] = json!({keys::HASH: digest});
    let spec = &cx.service["spec"];
    for field in POD_FIELDS {
        if let Some(value) = spec.get(field).filter(|own| !own.is_null()) {
            template["spec"][field] = value.clone();
        }
    }
    if let Some(resources) = spec.get("resources").filter(|own| own.as_object().is_some_and(|own| !own.is_empty())) {
        template["spec"]["containers"][0]["resources"] = resources.clone();
    }
    deployment
}

fn service(cx: &Context<'_>) -> Value {
    let name = tree::name(cx.service);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "labels": super::pod::passed_on(tree::at(cx.service, &["metadata", "labels"])),
            "annotations": super::pod::passed_on(tree::at(cx.service, &["metadata", "annotations"])),
        },
        "spec": {
            "selector": {keys::APP: app(name)},
            "ports": [{"name": "http", "port": 80, "targetPort": PORT, "protocol": "TCP"}],
        },
    })
}

fn autoscaler(name: &str, spec: &Spec, min: i32, max: i32) -> Value {
    let metric = spec.scale_metric.as_deref().unwrap_or("cpu");
    let target = json!({"type": "Utilization", "averageUtilization": spec.scale_target.unwrap_or(80)});
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": min, "maxReplicas": max,
            "metrics": [{"type": "Resource", "resource": {"name": metric, "target": target}}],
        },
    })
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
