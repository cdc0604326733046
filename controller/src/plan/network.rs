//! Services and HTTPRoutes: names, ports and hosts as KServe's Standard mode has them.

use serde_json::{Value, json};

use super::{Context, pod, revision};
use crate::api::keys;
use crate::tree;

/// Seconds that a request has where the component states none: KServe's default for its Gateway.
pub const TIMEOUT: i64 = 60;
/// The most seconds that a request may have: a Gateway takes five digits (GEP-2257, Duration Format).
pub const TIMEOUT_MAX: i64 = 99_999;
/// The port of every Service that the container's first port is behind.
const SERVICE_PORT: i64 = 80;

/// The ports of a component's Service, by what is spoken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// HTTP.
    pub rest: Option<i64>,
    /// gRPC, which KServe tells by `grpc` or `h2c` in a port's name.
    pub grpc: Option<i64>,
}

/// A Service with a share of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The Service's name.
    pub service: String,
    /// Per cent.
    pub weight: i32,
    /// Its ports.
    pub ports: Ports,
}

/// The Service `name` before the pods of `revision`.
pub fn service(cx: &Context<'_>, name: &str, revision: &str, template: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": pod::child_metadata(cx, name),
        "spec": {"selector": {keys::APP: revision::app(revision)}, "ports": service_ports(template)},
    })
}

fn service_ports(template: &Value) -> Vec<Value> {
    let containers = tree::list(template, &["spec", "containers"]);
    // A transformer beside the predictor in one pod is what callers talk to.
    let server = containers.iter().find(|own| own["name"] == "transformer-container").or(containers.first());
    let ports = server.map_or(&[][..], |server| tree::list(server, &["ports"]));
    if ports.is_empty() {
        return vec![json!({"name": "http", "port": SERVICE_PORT, "targetPort": 8080, "protocol": "TCP"})];
    }
    let render = |(index, port): (usize, &Value)| {
        let target = tree::number(port, &["containerPort"]).unwrap_or(8080);
        let number = if index == 0 { SERVICE_PORT } else { target };
        let name = tree::text(port, &["name"]).map_or_else(|| format!("port-{number}"), str::to_owned);
        let mut rendered = json!({
            "port": number, "targetPort": target, "protocol": tree::text(port, &["protocol"]).unwrap_or("TCP"),
        });
        if is_grpc(&name) {
            rendered["appProtocol"] = json!("kubernetes.io/h2c");
        }
        rendered["name"] = json!(name);
        rendered
    };
    let mut rendered: Vec<Value> = Vec::with_capacity(ports.len());
    for port in ports.iter().enumerate().map(render) {
        // A container that has port 80 behind its first one: 80 is the first one's, and no Service has a port twice.
        let taken = |own: &&Value| (&own["port"], &own["protocol"]) == (&port["port"], &port["protocol"]);
        if rendered.iter().find(taken).is_none() {
            let is_named = rendered.iter().all(|own| own["name"] != port["name"]);
            let unique = format!("{}-{}", port["protocol"].as_str().unwrap_or("").to_lowercase(), port["port"]);
            let name = if is_named { port["name"].clone() } else { json!(unique) };
            rendered.push(port);
            if let Some(last) = rendered.last_mut() {
                last["name"] = name;
            }
        }
    }
    rendered
}

/// Whether a port is for gRPC, which KServe tells by its name.
pub fn is_grpc(port_name: &str) -> bool {
    port_name.contains("grpc") || port_name.contains("h2c")
}

/// The ports of the Service before pods made from `template`.
pub fn ports(template: &Value) -> Ports {
    let ports = service_ports(template);
    let first = |grpc: bool| {
        let port = ports.iter().find(|port| is_grpc(port["name"].as_str().unwrap_or("")) == grpc);
        port.and_then(|port| port["port"].as_i64())
    };
    Ports { rest: first(false), grpc: first(true) }
}

/// Whether callers outside the cluster get at the service at all.
pub fn is_exposed(cx: &Context<'_>) -> bool {
    cx.settings.gateway.is_some() && tree::label(cx.service, keys::VISIBILITY) != Some("cluster-local")
}

/// The host of `name` at the Gateway, by the template of KServe's configuration.
pub fn host(cx: &Context<'_>, name: &str) -> String {
    let template = &cx.settings.domain_template;
    template
        .replace("{{.Name}}", name)
        .replace("{{.Namespace}}", cx.namespace)
        .replace("{{.IngressDomain}}", &cx.settings.domain)
}

/// The name of a Service inside the cluster.
pub fn local_host(cx: &Context<'_>, service: &str) -> String {
    format!("{service}.{}.svc.{}", cx.namespace, cx.settings.cluster_domain)
}

/// What goes where: requests that `matches`, to `backends`.
pub struct Rule<'a> {
    /// A regular expression of paths.
    pub path: &'a str,
    /// Who gets them, by weight.
    pub backends: &'a [Backend],
    /// Seconds.
    pub timeout: Option<i64>,
}

/// The HTTPRoute `name` for `name`'s host.
pub fn route(cx: &Context<'_>, name: &str, rules: &[Rule<'_>]) -> Option<Value> {
    let (namespace, gateway) = cx.settings.gateway.as_ref().filter(|_| !cx.settings.without_routes)?;
    Some(json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": pod::child_metadata(cx, name),
        "spec": {
            "parentRefs": [{
                "group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": namespace, "name": gateway,
            }],
            "hostnames": [host(cx, name)],
            "rules": rules.iter().flat_map(|rule| render_rule(cx, rule)).collect::<Vec<_>>(),
        },
    }))
}

/// A rule for gRPC, the more specific, before the one for everything else, where there are ports for both.
fn render_rule(cx: &Context<'_>, rule: &Rule<'_>) -> Vec<Value> {
    let both = rule.backends.iter().all(|backend| backend.ports.rest.is_some() && backend.ports.grpc.is_some());
    let everything = json!([{"path": {"type": "RegularExpression", "value": rule.path}}]);
    let one = |matches: Value, port: &dyn Fn(&Ports) -> Option<i64>| {
        json!({
            "matches": matches,
            "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [
                {"name": "KServe-Isvc-Name", "value": tree::name(cx.service)},
                {"name": "KServe-Isvc-Namespace", "value": cx.namespace},
            ]}}],
            "backendRefs": rule.backends.iter().map(|backend| json!({
                "group": "", "kind": "Service", "name": backend.service, "namespace": cx.namespace,
                "port": port(&backend.ports).unwrap_or(SERVICE_PORT), "weight": backend.weight,
            })).collect::<Vec<_>>(),
            "timeouts": {"request": format!("{}s", rule.timeout.unwrap_or(TIMEOUT))},
        })
    };
    if !both {
        return vec![one(everything, &|_| None)];
    }
    let grpc = json!([{
        "path": {"type": "RegularExpression", "value": r"^/inference\.GRPCInferenceService/.*$"},
        "headers": [{"type": "RegularExpression", "name": "content-type", "value": "^application/grpc.*"}],
    }]);
    vec![one(grpc, &|ports| ports.grpc), one(everything, &|ports| ports.rest)]
}

/// What a Gateway says of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteState {
    /// Every parent has accepted it.
    Accepted,
    /// There is none yet.
    Absent,
    /// No parent has said anything yet.
    Waiting,
    /// The reason and message of a parent that has not.
    Refused(String, String),
}

/// What the Gateway says of the route `name`.
pub fn route_state(cx: &Context<'_>, name: &str) -> RouteState {
    if cx.settings.without_routes {
        let told =
            "this cluster does not know HTTPRoutes; install the Gateway API, or start the controller without --gateway";
        return RouteState::Refused("GatewayApiMissing".into(), told.into());
    }
    let route = cx.children.iter().find(|child| child["kind"] == "HTTPRoute" && tree::name(child) == name);
    let parents = route.map_or(&[][..], |route| tree::list(route, &["status", "parents"]));
    let conditions = parents.iter().flat_map(|parent| tree::list(parent, &["conditions"]));
    let generation = route.and_then(|route| tree::number(route, &["metadata", "generation"])).unwrap_or(0);
    let mut state = RouteState::Waiting;
    for condition in conditions {
        let text = |field: &str| tree::text(condition, &[field]).unwrap_or("").to_owned();
        // New weights do not take an acceptance back, but what was wrong before them may have been mended.
        let stale = tree::number(condition, &["observedGeneration"]).is_some_and(|seen| seen < generation);
        match (text("type").as_str(), text("status").as_str()) {
            ("Accepted" | "ResolvedRefs", "False") if !stale => {
                return RouteState::Refused(text("reason"), text("message"));
            }
            ("Accepted", "True") => state = RouteState::Accepted,
            _ => {}
        }
    }
    state
}
