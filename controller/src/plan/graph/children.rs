//! The children of a graph: its program, its router, and what is before and beside that.

use serde_json::{Value, json};

use super::super::router_pods::{self, PORT, RouterPods};
use super::super::{Context, label, pod, revision};
use super::program::{Parts, bounds};
use crate::api::inference_graph::Spec;
use crate::api::keys;
use crate::graph::Program;
use crate::tree;

/// The Service's port for gRPC: where those of our servers have it.
pub(super) const GRPC_PORT: i64 = 9000;
/// Seconds that the router serves on after it is told to end.
const DRAIN_DELAY: i64 = 5;
/// KServe's default of `routerTimeouts.serverWrite`, which bounds what is under way when a router ends.
const WRITE_TIMEOUT: i64 = 60;
/// Fields of a PodSpec that a graph has.
const POD_FIELDS: [&str; 5] = ["affinity", "tolerations", "nodeSelector", "nodeName", "serviceAccountName"];

/// Those that every graph has.
pub(super) fn all(cx: &Context<'_>, parts: &Parts) -> Vec<Value> {
    vec![config(tree::name(cx.service), &parts.program), deployment(cx, parts), service(cx)]
}

/// What its pods are selected by.
pub(super) fn app(name: &str) -> String {
    label::fitted(&format!("graph.{name}"))
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
        "metadata": pod::child_metadata(cx, name),
        "spec": {
            "selector": {keys::APP: app(name)},
            "ports": [
                {"name": "http", "port": 80, "targetPort": PORT, "protocol": "TCP"},
                {
                    "name": "grpc", "port": GRPC_PORT, "targetPort": PORT, "protocol": "TCP",
                    "appProtocol": "kubernetes.io/h2c",
                },
            ],
        },
    })
}

pub(super) fn autoscaler(name: &str, spec: &Spec, min: i32, max: i32) -> Value {
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
