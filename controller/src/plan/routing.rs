//! The router before a component's revisions, where the service asks for one: callers inside the cluster then get the split too.

use serde_json::{Value, json};

use super::fault::Fault;
use super::network::{self, Backend};
use super::router_pods::{self, PORT, RouterPods};
use super::{Context, health};
use crate::api::keys;
use crate::tree;

/// The fewest seconds that a revision stays after its last share: the kubelet brings new weights within a minute or so.
pub const RETIRE_AFTER_MIN: i64 = 120;

/// Whether the service asks for a router, or a component of it does that may have no pods.
///
/// # Errors
/// If it does, and the controller does not know its image.
pub fn is_wanted(cx: &Context<'_>, zero: bool) -> Result<bool, Fault> {
    if tree::annotation(cx.service, keys::ROUTER) != Some("true") && !zero {
        return Ok(false);
    }
    if cx.settings.router_image.is_none() {
        return Err(Fault::invalid(format!("{}: start the controller with --router-image for that", keys::ROUTER)));
    }
    Ok(true)
}

/// The name of a component's router.
pub fn name(cx: &Context<'_>, component: &str) -> String {
    format!("{}-{component}-router", tree::name(cx.service))
}

/// Whether requests may be sent to the router: once it is up, and then as long as any of it is.
pub fn is_up(cx: &Context<'_>, component: &str) -> bool {
    let name = name(cx, component);
    let service = format!("{}-{component}", tree::name(cx.service));
    let now = cx.children.iter().find(|child| child["kind"] == "Service" && tree::name(child) == service);
    let in_use = now.is_some_and(|now| tree::text(now, &["spec", "selector", keys::APP]) == Some(&name));
    health::health(cx, &name, i32::from(in_use)).available
}

/// The router's children: its weights and its pods.
pub fn children(cx: &Context<'_>, component: &str, backends: &[Backend], primary: &str, zero: bool) -> Vec<Value> {
    let name = name(cx, component);
    let routes = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"routes.json": routes(cx, component, backends, primary, zero)},
    });
    vec![routes, deployment(cx, &name, component, zero), router_pods::budget(&name, &name)]
}

/// The file of routes. The primary revision goes last, so that who is with a canary stays with it while its weight grows.
fn routes(cx: &Context<'_>, component: &str, backends: &[Backend], primary: &str, zero: bool) -> String {
    let address = |backend: &Backend, port: i64| format!("{}:{port}", network::local_host(cx, &backend.service));
    let mut sorted: Vec<&Backend> = backends.iter().collect();
    sorted.sort_by_key(|backend| backend.service == primary);
    let render = |backend: &&Backend| {
        let first = backend.ports.rest.or(backend.ports.grpc).unwrap_or(80);
        let mut rendered =
            json!({"revision": backend.service, "weight": backend.weight, "http": address(backend, first)});
        if let Some(port) = backend.ports.grpc {
            rendered["grpc"] = json!(address(backend, port));
        }
        rendered
    };
    let mut table = json!({"backends": sorted.iter().map(render).collect::<Vec<_>>()});
    if let Some(header) = tree::annotation(cx.service, keys::STICKY_HEADER) {
        table["stickyHeader"] = json!(header.to_ascii_lowercase());
    }
    if zero {
        let timeout = tree::number(cx.service, &["spec", component, "timeout"]).filter(|own| *own > 0);
        table["hold"] = json!({"timeoutSeconds": timeout.unwrap_or(network::TIMEOUT)});
    }
    table.to_string()
}

fn deployment(cx: &Context<'_>, name: &str, component: &str, zero: bool) -> Value {
    let mut pods = RouterPods {
        name,
        labels: json!({
            keys::APP: name, keys::SERVICE: tree::name(cx.service), keys::COMPONENT: format!("{component}-router"),
        }),
        arguments: vec!["--routes=/etc/tensorgate/routes.json".into()],
        config: name,
        // One may end, or its node, without anybody noticing.
        replicas: Some(2),
        grace: 40,
    };
    if zero {
        pods.labels[keys::HOLDS] = json!("true");
    }
    router_pods::deployment(cx.settings.router_image.as_deref(), &pods)
}

/// The component's Service, led to the router: the ports that callers know, all to the router's one.
pub fn service(cx: &Context<'_>, component: &str, mut service: Value) -> Value {
    service["spec"]["selector"] = json!({keys::APP: name(cx, component)});
    for port in tree::list_mut(&mut service["spec"], "ports") {
        port["targetPort"] = json!(PORT);
    }
    service
}
