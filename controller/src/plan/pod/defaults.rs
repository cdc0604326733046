//! What a pod gets where neither its user nor its runtime says anything.

use serde_json::{Value, json};

use crate::api::inference_service::Model;
use crate::plan::Context;
use crate::tree;

/// Seconds for which a pod that is to end still serves, while everybody who sends to it learns of that.
const DRAIN_DELAY: i64 = 5;
/// Seconds between the end of the drain and the kubelet's SIGKILL.
const DRAIN_RESERVE: i64 = 5;
/// Seconds that a pod may take to end where the user states none: the drain's delay, half of the Gateway's 60 s, and the reserve.
const GRACE: i64 = 40;

/// Readiness of the model, an end that loses no request, and messages of crashes: where the user and the runtime say nothing.
pub(super) fn add_defaults(cx: &Context<'_>, pod: &mut Value, kind: &str, server: bool, model: Option<&Model>) {
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
    if let Some(model) = model.filter(|_| kind == "predictor" && container.get("readinessProbe").is_none()) {
        container["readinessProbe"] = readiness(tree::name(cx.service), container, model);
    }
}

/// Whether the model itself can answer; an open port says nothing of that.
fn readiness(service: &str, container: &Value, model: &Model) -> Value {
    let port = tree::number(&container["ports"][0], &["containerPort"]).unwrap_or(8080);
    let check = match model.protocol_version.as_deref() {
        Some("v1") => json!({"httpGet": {"path": format!("/v1/models/{service}"), "port": port}}),
        Some("grpc-v1" | "grpc-v2") => json!({"grpc": {"port": port}}),
        _ => json!({"httpGet": {"path": format!("/v2/models/{service}/ready"), "port": port}}),
    };
    let mut probe = check;
    probe["periodSeconds"] = json!(5);
    probe["timeoutSeconds"] = json!(2);
    probe["failureThreshold"] = json!(3);
    probe
}
