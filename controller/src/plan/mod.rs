//! What an InferenceService should be in the cluster: a pure function of the object, the runtimes and what is there.
//!
//! `plan` knows neither a client nor a clock; `run` gives it a snapshot and applies what comes out.

pub mod children;
pub mod component;
pub mod conditions;
pub mod difference;
pub mod events;
pub mod extension;
pub mod fault;
pub mod graph;
pub mod guard;
pub mod health;
pub mod keda;
pub mod label;
pub mod learned;
pub mod network;
pub mod placeholder;
pub mod pod;
pub mod retire;
pub mod revision;
pub mod router_pods;
pub mod routing;
pub mod runtime;
pub mod scale;
pub mod storage;
pub mod traffic;
pub mod validate;
pub mod zero;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use self::component::Planned;
use self::conditions::Conditions;
use self::fault::Fault;
use self::learned::AllLearned;
use self::network::{Backend, RouteState, Rule};
use self::storage::Vault;
use crate::api::keys;
use crate::api::status::{Address, FailureInfo, ModelStates, ModelStatus, RolloutStatus, Status};
use crate::demand::Demand;
use crate::rollout::Finding;
use crate::tree;

/// The components, in the order in which they depend on each other.
pub const COMPONENTS: [&str; 3] = ["predictor", "transformer", "explainer"];

/// What is the same for all services of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Namespace and name of the Gateway; without one there are no routes.
    pub gateway: Option<(String, String)>,
    /// The cluster does not know routes, whatever the Gateway.
    pub without_routes: bool,
    /// The domain of hosts at the Gateway.
    pub domain: String,
    /// KServe's template of hosts, of `{{.Name}}`, `{{.Namespace}}` and `{{.IngressDomain}}`.
    pub domain_template: String,
    /// http or https, in the addresses that are told.
    pub url_scheme: String,
    /// The domain of Services.
    pub cluster_domain: String,
    /// Seconds between a revision's last share of the traffic and its end.
    pub retire_after: i64,
    /// A folder of the nodes in which servers keep what they fetched.
    pub node_cache: Option<String>,
    /// KServe's downloader, for runtimes that do not fetch.
    pub storage_initializer: Option<String>,
    /// The image of routers: the controller's own.
    pub router_image: Option<String>,
    /// Regular expressions of the headers that reach the steps of graphs.
    pub graph_headers: Vec<String>,
    /// KEDA is there.
    pub keda: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            gateway: None,
            without_routes: false,
            domain: "example.com".into(),
            domain_template: "{{.Name}}-{{.Namespace}}.{{.IngressDomain}}".into(),
            url_scheme: "http".into(),
            cluster_domain: "cluster.local".into(),
            // Gateways and kube-proxy follow within seconds; half a minute leaves room for slow ones.
            retire_after: 30,
            node_cache: None,
            storage_initializer: None,
            router_image: None,
            graph_headers: Vec::new(),
            keda: false,
        }
    }
}

/// An InferenceService and what there is around it.
#[derive(Debug, Clone, Default)]
pub struct Snapshot<'a> {
    /// The runtimes of its namespace.
    pub runtimes: Vec<&'a Value>,
    /// The runtimes of the cluster.
    pub cluster_runtimes: Vec<&'a Value>,
    /// Credentials in its namespace.
    pub vault: Vault<'a>,
    /// The objects that it owns.
    pub children: Vec<&'a Value>,
    /// Its pods.
    pub pods: Vec<&'a Value>,
    /// What its routers tell of requests; none where one of them does not, and nobody is known to wait.
    pub demand: Option<&'a Demand>,
    /// What its servers have learned, of revisions that our own autoscaler scales.
    pub learned: Option<&'a AllLearned>,
    /// What was found of its rollout.
    pub finding: Option<&'a Finding>,
    /// The time, RFC 3339.
    pub now: &'a str,
}

/// What decisions about one service look at.
pub struct Context<'a> {
    /// Of the cluster.
    pub settings: &'a Settings,
    /// The InferenceService.
    pub service: &'a Value,
    /// Its namespace.
    pub namespace: &'a str,
    /// The runtimes of its namespace.
    pub runtimes: &'a [&'a Value],
    /// The runtimes of the cluster.
    pub cluster_runtimes: &'a [&'a Value],
    /// Credentials in its namespace.
    pub vault: Vault<'a>,
    /// The objects that it owns.
    pub children: &'a [&'a Value],
    /// Its pods.
    pub pods: &'a [&'a Value],
    /// What its routers tell of requests.
    pub demand: Option<&'a Demand>,
    /// What its servers have learned.
    pub learned: Option<&'a AllLearned>,
    /// Its status until now.
    pub status: &'a Status,
    /// What was found of its rollout.
    pub finding: Option<&'a Finding>,
    /// The time, RFC 3339.
    pub now: &'a str,
}

/// What there should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// All children, complete; none where what is there should stay untouched.
    pub children: Option<Vec<Value>>,
    /// The whole status.
    pub status: Status,
    /// What is to be told and written before anything else.
    pub decided: Option<Decided>,
    /// What changed, for the person who reads.
    pub events: Vec<events::Event>,
    /// Seconds after which to plan again without any event.
    pub again_after: Option<i64>,
}

/// A step of a rollout, decided: who takes over from a controller that ends in between must not give requests to what was found to be
/// bad.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// To be told first: rather twice than never.
    pub event: Option<events::Event>,
    /// The status until now, with the rollout as it is from now on.
    pub status: Status,
}

/// Plans one InferenceService.
pub fn plan(settings: &Settings, service: &Value, seen: &Snapshot<'_>) -> Plan {
    let old = Status::deserialize(tree::at(service, &["status"])).unwrap_or_default();
    let cx = Context {
        settings,
        service,
        namespace: tree::at(service, &["metadata", "namespace"]).as_str().unwrap_or("default"),
        runtimes: &seen.runtimes,
        cluster_runtimes: &seen.cluster_runtimes,
        vault: seen.vault,
        children: &seen.children,
        pods: &seen.pods,
        demand: seen.demand,
        learned: seen.learned,
        status: &old,
        finding: seen.finding,
        now: seen.now,
    };
    let generation = tree::number(service, &["metadata", "generation"]).unwrap_or(0);
    let mut plan = if tree::annotation(service, keys::STOP) == Some("true") {
        stopped(&cx)
    } else {
        match parts(&cx) {
            Ok(parts) => running(&cx, parts),
            Err(fault) => refused(&cx, &fault),
        }
    };
    plan.status.observed_generation = generation;
    plan.status.deployment_mode = "Standard".into();
    plan.events.extend(events::between(&old, &plan.status));
    let rollout = |status: &Status| status.components.get("predictor").and_then(|own| own.rollout.clone());
    let (before, now) = (rollout(&old), rollout(&plan.status));
    let event = guard::event("predictor", before.as_ref(), now.as_ref());
    match before.is_some() && guard::has_moved(before.as_ref(), now.as_ref()) {
        true => plan.decided = Some(decided(old, now, event)),
        // One that has begun has nothing to lose yet.
        false => plan.events.extend(event),
    }
    plan
}

fn decided(mut status: Status, rollout: Option<RolloutStatus>, event: Option<events::Event>) -> Decided {
    status.components.entry("predictor".into()).or_default().rollout = rollout;
    Decided { event, status }
}

fn parts(cx: &Context<'_>) -> Result<BTreeMap<&'static str, Planned>, Fault> {
    validate::check(cx.service)?;
    let spec = &cx.service["spec"];
    let mut parts = BTreeMap::new();
    for kind in COMPONENTS {
        let Some(written) = spec.get(kind).filter(|written| written.is_object()) else { continue };
        let canaries = if kind == "predictor" { tree::list(spec, &["canary"]) } else { &[] };
        parts.insert(kind, component::plan(cx, kind, written, canaries)?);
    }
    Ok(parts)
}

fn running(cx: &Context<'_>, mut parts: BTreeMap<&'static str, Planned>) -> Plan {
    let name = tree::name(cx.service);
    let mut children = Vec::new();
    for (kind, part) in &mut parts {
        children.extend(part.children.drain(..).map(|child| difference::finish(cx, Some(kind), child)));
    }
    let (routes, ingress) = routes(cx, &parts);
    children.extend(routes.into_iter().map(|route| difference::finish(cx, None, route)));
    let entry = if parts.contains_key("transformer") { "transformer" } else { "predictor" };
    let local = format!("http://{}", network::local_host(cx, &format!("{name}-{entry}")));
    let url = |name: &str| match network::is_exposed(cx) {
        true => format!("{}://{}", cx.settings.url_scheme, network::host(cx, name)),
        false => format!("http://{}", network::local_host(cx, name)),
    };
    let mut status = Status {
        url: Some(if network::is_exposed(cx) { url(name) } else { local.clone() }),
        address: Some(Address { url: local }),
        ..Status::default()
    };
    let mut conditions = Conditions::new(&cx.status.conditions, cx.now);
    let mut again_after: Option<i64> = None;
    let mut events = Vec::new();
    for (kind, part) in parts {
        events.extend(part.events);
        conditions.component(kind, &part.ready);
        if kind == "predictor" {
            status.model_status = Some(part.model);
            conditions.canaries(&part.canaries);
            conditions.shortages(&part.shortages);
            guard::condition(&mut conditions, part.status.rollout.as_ref());
            status.canary_statuses = part.canaries;
            match part.runtime {
                Some((runtime, true)) => status.cluster_serving_runtime_name = runtime,
                Some((runtime, false)) => status.serving_runtime_name = runtime,
                None => {}
            }
        }
        let mut own = part.status;
        let service = format!("{name}-{kind}");
        own.url = Some(url(&service));
        own.rest_url.clone_from(&own.url);
        own.grpc_url = part.grpc_port.map(|port| format!("grpc://{}:{port}", network::local_host(cx, &service)));
        own.address = Some(Address { url: format!("http://{}", network::local_host(cx, &service)) });
        status.components.insert(kind.to_owned(), own);
        again_after = [again_after, part.again_after].into_iter().flatten().min();
    }
    if let Some(scaled) = scale::told(cx) {
        conditions.set("Scaled", "True", "", &scaled, true);
    }
    conditions.ingress(&ingress);
    conditions.set("Stopped", "False", "", "", true);
    status.conditions = conditions.finish();
    Plan { children: Some(children), status, decided: None, events, again_after }
}

/// The routes that there may be, and what the Gateway says of them.
fn routes(cx: &Context<'_>, parts: &BTreeMap<&'static str, Planned>) -> (Vec<Value>, RouteState) {
    if !network::is_exposed(cx) {
        return (Vec::new(), RouteState::Accepted);
    }
    if parts.values().any(|part| !part.has_served) {
        return (Vec::new(), RouteState::Absent);
    }
    let name = tree::name(cx.service);
    let timeout = |kind: &str| tree::number(cx.service, &["spec", kind, "timeout"]);
    let rule = |kind: &str, path: &'static str| {
        let backends: &[Backend] = parts.get(kind).map_or(&[], |part| &part.backends);
        Rule { path, backends, timeout: timeout(kind) }
    };
    let everything = "^/.*$";
    let mut rules = Vec::new();
    if parts.contains_key("explainer") {
        rules.push(rule("explainer", r"^/v1/models/[\w-]+:explain$"));
    }
    rules.push(rule(if parts.contains_key("transformer") { "transformer" } else { "predictor" }, everything));
    let mut names = vec![name.to_owned()];
    let mut routes: Vec<Value> = network::route(cx, name, &rules).into_iter().collect();
    for kind in parts.keys() {
        let route_name = format!("{name}-{kind}");
        routes.extend(network::route(cx, &route_name, &[rule(kind, everything)]));
        names.push(route_name);
    }
    let mut state = RouteState::Accepted;
    for name in names {
        match network::route_state(cx, &name) {
            RouteState::Accepted => {}
            waiting @ (RouteState::Waiting | RouteState::Absent) => state = waiting,
            refused @ RouteState::Refused(..) => return (routes, refused),
        }
    }
    (routes, state)
}

/// Nothing runs; what is kept of revisions stays, so that a start goes on where the stop was.
fn stopped(cx: &Context<'_>) -> Plan {
    let kept = cx.children.iter().filter(|child| child["kind"] == "ControllerRevision");
    let again = |child: &&Value| {
        let kind = tree::label(child, keys::COMPONENT).unwrap_or("predictor");
        let own = revision::kept(&[child], kind).into_iter().next()?;
        Some(difference::finish(cx, Some(kind), revision::render(&own, kind)))
    };
    let children = kept.filter_map(again).collect();
    let mut conditions = Conditions::new(&cx.status.conditions, cx.now);
    let message = format!("stopped by the annotation {}", keys::STOP);
    for kind in COMPONENTS.iter().filter(|kind| cx.service["spec"].get(**kind).is_some()) {
        conditions.set(&conditions::of_component(kind), "False", "Stopped", &message, false);
    }
    conditions.set("IngressReady", "False", "Stopped", &message, false);
    conditions.set("Stopped", "True", "Stopped", &message, true);
    let mut status = Status { conditions: conditions.finish(), ..Status::default() };
    for (kind, old) in &cx.status.components {
        let mut own = old.clone();
        own.traffic.clear();
        own.latest_ready_revision.clear();
        status.components.insert(kind.clone(), own);
    }
    Plan { children: Some(children), status, decided: None, events: Vec::new(), again_after: None }
}

/// The spec cannot be served as it is: what serves goes on, and the status says what to mend.
fn refused(cx: &Context<'_>, fault: &Fault) -> Plan {
    let mut status = cx.status.clone();
    let mut conditions = Conditions::new(&cx.status.conditions, cx.now);
    for old in &cx.status.conditions {
        conditions.keep(old);
    }
    conditions.set("PredictorReady", "False", fault.reason.as_str(), &fault.message, false);
    status.conditions = conditions.finish();
    let old = cx.status.model_status.as_ref();
    let failure =
        FailureInfo { reason: fault.reason.as_str().into(), message: fault.message.clone(), ..FailureInfo::default() };
    let active = old.and_then(|old| old.states.as_ref()).map(|states| states.active_model_state.clone());
    status.model_status = Some(ModelStatus {
        transition_status: "InvalidSpec".into(),
        states: Some(ModelStates {
            active_model_state: active.unwrap_or_else(|| "Pending".into()),
            target_model_state: "Pending".into(),
        }),
        last_failure_info: Some(failure),
        copies: old.and_then(|old| old.copies.clone()),
    });
    Plan { children: None, status, decided: None, events: Vec::new(), again_after: None }
}

/// The status as the API server takes it.
pub fn render_status(status: &Status) -> Value {
    serde_json::to_value(status).unwrap_or_else(|_| json!({}))
}
