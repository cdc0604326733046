//! What a pod gets where neither its user nor its runtime says anything.

use serde_json::{Value, json};

use crate::api::inference_service::Model;
use crate::plan::network::is_grpc;
use crate::plan::{Context, runtime};
use crate::tree;

/// Seconds for which a pod that is to end still serves, while everybody who sends to it learns of that.
const DRAIN_DELAY: i64 = 5;
/// Seconds between the end of the drain and the kubelet's SIGKILL.
const DRAIN_RESERVE: i64 = 5;
/// Seconds that a pod may take to end where the user states none: the drain's delay, half of the Gateway's 60 s, and the reserve.
const GRACE: i64 = 40;
/// Where a server listens that names no port, as KServe's do.
const HTTP_PORT: i64 = 8080;

/// Readiness of the model, an end that loses no request, and messages of crashes: where the user and the runtime say nothing.
pub(super) fn add_defaults(
    cx: &Context<'_>,
    pod: &mut Value,
    kind: &str,
    server: bool,
    model: Option<(&Model, &runtime::Chosen<'_>)>,
) {
    let grace = tree::number(pod, &["terminationGracePeriodSeconds"]).unwrap_or(GRACE);
    pod["terminationGracePeriodSeconds"] = json!(grace);
    let reserve = DRAIN_RESERVE.min(grace / 4);
    let delay = DRAIN_DELAY.min(grace / 4);
    let container = &mut pod["containers"][0];
    if server {
        let drain = grace - delay - reserve;
        for (variable, seconds) in [("TENSORGATE_DRAIN_DELAY", delay), ("TENSORGATE_DRAIN_TIMEOUT", drain)] {
            tree::add_missing(container, "env", "name", json!({"name": variable, "value": format!("{seconds}s")}));
        }
    } else if tree::at(container, &["lifecycle", "preStop"]).is_null() && delay > 0 {
        tree::object_mut(container, "lifecycle").insert("preStop".into(), json!({"sleep": {"seconds": delay}}));
    }
    if container.get("terminationMessagePolicy").is_none() {
        container["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    }
    if let Some((model, chosen)) = model.filter(|_| kind == "predictor" && container.get("readinessProbe").is_none()) {
        let mut probe = match server {
            true => own_readiness(tree::name(cx.service), container, model),
            false => readiness(tree::name(cx.service), container, model, chosen),
        };
        for (field, number) in [("periodSeconds", 5), ("timeoutSeconds", 2), ("failureThreshold", 3)] {
            probe[field] = json!(number);
        }
        container["readinessProbe"] = probe;
    }
}

/// Whether the model itself can answer; an open port says nothing of that.
fn own_readiness(service: &str, container: &Value, model: &Model) -> Value {
    let port = tree::number(&container["ports"][0], &["containerPort"]).unwrap_or(HTTP_PORT);
    match model.protocol_version.as_deref() {
        Some("v1") => http(&format!("/v1/models/{service}"), port),
        Some("grpc-v1" | "grpc-v2") => json!({"grpc": {"port": port}}),
        _ => http(&format!("/v2/models/{service}/ready"), port),
    }
}

/// Whether all models of another server can answer: Triton's, for one, have the names of their folders and not the service's. Over
/// HTTP where there is a port for it, since not everybody who speaks V2 over gRPC has gRPC's health service (KServe's own have not).
fn readiness(service: &str, container: &Value, model: &Model, chosen: &runtime::Chosen<'_>) -> Value {
    let ports = tree::list(container, &["ports"]);
    let of_kind = |grpc: bool| {
        let found = ports.iter().find(|port| is_grpc(tree::text(port, &["name"]).unwrap_or("")) == grpc)?;
        tree::number(found, &["containerPort"])
    };
    let stated = model.protocol_version.as_deref();
    let only_v1 = || {
        let spoken = tree::list(chosen.object, &["spec", "protocolVersions"]);
        spoken.iter().any(|own| own == "v1") && !spoken.iter().any(|own| own == "v2")
    };
    match (of_kind(false), of_kind(true)) {
        (None, Some(port)) => json!({"grpc": {"port": port}}),
        (http_port, _) if stated == Some("v1") || (stated.is_none() && only_v1()) => {
            http(&format!("/v1/models/{service}"), http_port.unwrap_or(HTTP_PORT))
        }
        (http_port, _) => http("/v2/health/ready", http_port.unwrap_or(HTTP_PORT)),
    }
}

fn http(path: &str, port: i64) -> Value {
    json!({"httpGet": {"path": path, "port": port}})
}
