//! The router before a component's revisions, where the service asks for one: callers inside the cluster then get the split too.

use serde_json::{Value, json};

use super::fault::Fault;
use super::network::{self, Backend};
use super::router_pods::{self, PORT, RouterPods};
use super::{Context, health, label};
use crate::api::keys;
use crate::rollout::Shadow;
use crate::tree;

/// The fewest seconds that a revision stays after its last share: the kubelet brings new weights within a minute or so.
pub const RETIRE_AFTER_MIN: i64 = 120;

/// Whether the service asks for a router, or a component of it does that may have no pods or whose answers are to be compared.
///
/// # Errors
/// If it does, and the controller does not know its image.
pub fn is_wanted(cx: &Context<'_>, zero: bool, shadowed: bool) -> Result<bool, Fault> {
    if tree::annotation(cx.service, keys::ROUTER) != Some("true") && !zero && !shadowed {
        return Ok(false);
    }
    if cx.settings.router_image.is_none() {
        let what = if shadowed { format!("{}, shadow", keys::ROLLOUT) } else { keys::ROUTER.to_owned() };
        return Err(Fault::invalid(format!("{what}: start the controller with --router-image for that")));
    }
    Ok(true)
}

/// The name of a component's router.
pub fn name(cx: &Context<'_>, component: &str) -> String {
    format!("{}-{component}-router", tree::name(cx.service))
}

/// What its pods are selected by.
fn app(cx: &Context<'_>, component: &str) -> String {
    label::fitted(&name(cx, component))
}

/// Whether requests may be sent to the router: once it is up, and then as long as any of it is.
pub fn is_up(cx: &Context<'_>, component: &str) -> bool {
    let name = name(cx, component);
    let service = format!("{}-{component}", tree::name(cx.service));
    let now = cx.children.iter().find(|child| child["kind"] == "Service" && tree::name(child) == service);
    let in_use = now.is_some_and(|now| tree::text(now, &["spec", "selector", keys::APP]) == Some(&app(cx, component)));
    health::health(cx, &name, i32::from(in_use)).available
}

/// What a router is to do.
pub struct Wish<'a> {
    /// Who gets requests.
    pub backends: &'a [Backend],
    /// The revision that goes last.
    pub primary: &'a str,
    /// Requests wait for revisions without pods.
    pub zero: bool,
    /// At times it has to compare answers, and the controller reads what came of that.
    pub shadowed: bool,
    /// The revision whose answers are compared now, and how.
    pub shadow: Option<(Backend, Shadow)>,
}

/// The router's children: its weights and its pods.
pub fn children(cx: &Context<'_>, component: &str, wish: &Wish<'_>) -> Vec<Value> {
    let name = name(cx, component);
    let routes = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"routes.json": routes(cx, component, wish)},
    });
    vec![routes, deployment(cx, &name, component, wish), router_pods::budget(&name, &app(cx, component))]
}

/// The file of routes. The primary revision goes last, so that who is with a canary stays with it while its weight grows.
fn routes(cx: &Context<'_>, component: &str, wish: &Wish<'_>) -> String {
    let address = |backend: &Backend, port: i64| format!("{}:{port}", network::local_host(cx, &backend.service));
    let mut sorted: Vec<&Backend> = wish.backends.iter().collect();
    sorted.sort_by_key(|backend| backend.service == wish.primary);
    let place = |backend: &Backend| {
        let first = backend.ports.rest.or(backend.ports.grpc).unwrap_or(80);
        let mut rendered = json!({"revision": backend.service, "http": address(backend, first)});
        if let Some(port) = backend.ports.grpc {
            rendered["grpc"] = json!(address(backend, port));
        }
        rendered
    };
    let render = |backend: &&Backend| {
        let mut rendered = place(backend);
        rendered["weight"] = json!(backend.weight);
        rendered
    };
    let mut table = json!({"backends": sorted.iter().map(render).collect::<Vec<_>>()});
    if let Some(header) = tree::annotation(cx.service, keys::STICKY_HEADER) {
        table["stickyHeader"] = json!(header.to_ascii_lowercase());
    }
    if let Some((backend, shadow)) = &wish.shadow {
        table["shadow"] = place(backend);
        table["shadow"]["share"] = json!(shadow.share);
        table["shadow"]["compare"] = json!(shadow.agreement());
    }
    if wish.zero {
        let timeout = tree::number(cx.service, &["spec", component, "timeout"]).filter(|own| *own > 0);
        table["hold"] = json!({"timeoutSeconds": timeout.unwrap_or(network::TIMEOUT)});
    }
    table.to_string()
}

fn deployment(cx: &Context<'_>, name: &str, component: &str, wish: &Wish<'_>) -> Value {
    let mut pods = RouterPods {
        name,
        labels: json!({
            keys::APP: app(cx, component), keys::SERVICE: tree::name(cx.service), keys::COMPONENT: format!("{component}-router"),
        }),
        arguments: vec!["--routes=/etc/tensorgate/routes.json".into()],
        config: name,
        // One may end, or its node, without anybody noticing.
        replicas: Some(2),
        grace: 40,
    };
    if wish.zero || wish.shadowed {
        pods.labels[keys::HOLDS] = json!(if wish.zero { "true" } else { "false" });
    }
    router_pods::deployment(cx.settings.router_image.as_deref(), &pods)
}

/// The component's Service, led to the router: the ports that callers know, all to the router's one.
pub fn service(cx: &Context<'_>, component: &str, mut service: Value) -> Value {
    service["spec"]["selector"] = json!({keys::APP: app(cx, component)});
    for port in tree::list_mut(&mut service["spec"], "ports") {
        port["targetPort"] = json!(PORT);
    }
    service
}
