//! How many pods a revision has: fixed, by what its servers learned, by a HorizontalPodAutoscaler, by KEDA, or as somebody else says.
//! And the disruption budget.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fault::Fault;
use super::{Context, keda};
use crate::api::inference_service::Component;
use crate::api::keys;
use crate::tree;

/// Who decides on a component's replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaler {
    /// Nobody: `min` of them.
    Fixed,
    /// Our own, from what the servers learned, between `min` and `max`.
    Learned,
    /// A HorizontalPodAutoscaler, between `min` and `max`.
    Horizontal,
    /// KEDA, between `min` and `max`.
    Keda,
    /// Somebody else: we state no number.
    External,
}

/// The bounds of a component's replicas, and who decides between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The fewest of a revision that is awake, at least 1.
    pub min: i64,
    /// The most, at least `min`.
    pub max: i64,
    /// Who decides.
    pub scaler: Scaler,
    /// Without requests there may be none: `minReplicas` is 0.
    pub zero: bool,
}

/// The bounds of a component; `with_keda` where the cluster has it.
///
/// # Errors
/// If they contradict each other, or ask for a class or metric that is not served.
pub fn bounds(service: &Value, component: &Component, with_keda: bool) -> Result<Bounds, Fault> {
    // Who is awake has at least one; that there may be none is the router's part.
    let min = i64::from(component.min_replicas.unwrap_or(1).max(1));
    let stated = i64::from(component.max_replicas.unwrap_or(0));
    if stated != 0 && stated < min {
        return Err(Fault::invalid(format!("minReplicas {min} is above maxReplicas {stated}")));
    }
    let max = stated.max(min);
    let scaler = match tree::annotation(service, keys::AUTOSCALER) {
        None | Some("hpa") if max > min => Scaler::Horizontal,
        Some("tensorgate") if max > min => Scaler::Learned,
        Some("keda") if !with_keda => {
            return Err(Fault::invalid("autoscalerClass 'keda' needs a controller that was started with --keda"));
        }
        Some("keda") if max > min => Scaler::Keda,
        None | Some("hpa" | "keda" | "none" | "tensorgate") => Scaler::Fixed,
        Some("external") => Scaler::External,
        Some(other) => {
            return Err(Fault::invalid(format!(
                "autoscalerClass '{other}' is not served; tensorgate, hpa, keda, external and none are"
            )));
        }
    };
    if scaler == Scaler::Keda {
        keda::check(component)?;
    }
    if scaler == Scaler::Horizontal
        && let Some(metric @ ("concurrency" | "rps")) = component.scale_metric.as_deref()
        && component.auto_scaling.is_none()
    {
        return Err(Fault::invalid(format!(
            "scaleMetric '{metric}' is not served by the hpa class; cpu and memory are"
        )));
    }
    if scaler == Scaler::Learned {
        if let Some(metric @ ("cpu" | "memory")) = component.scale_metric.as_deref() {
            return Err(Fault::invalid(format!(
                "scaleMetric '{metric}' is not served by the tensorgate class; concurrency and rps are, and neither is needed"
            )));
        }
        if component.auto_scaling.is_some() {
            return Err(Fault::invalid("autoScaling is not served by the tensorgate class; the hpa class takes it"));
        }
    }
    let zero = component.min_replicas == Some(0) && scaler != Scaler::External;
    Ok(Bounds { min, max, scaler, zero })
}

/// What our own autoscaler goes by, on the Deployment of a revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Orders {
    /// The fewest replicas.
    pub min: u32,
    /// The most.
    pub max: u32,
    /// What a replica is loaded to, where somebody set it: requests in flight (concurrency) or per second (rps).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<(Metric, f64)>,
}

/// What a target is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Requests in flight.
    Concurrency,
    /// Requests per second.
    Rps,
}

/// The orders for a revision that needs `min` replicas at least; `scaleMetric` without a target, and a target without a metric, as
/// KServe has them: concurrency, and as many as a replica works on at a time.
pub fn orders(component: &Component, min: i64, max: i64) -> Orders {
    let bounded = |replicas: i64| u32::try_from(replicas.max(0)).unwrap_or(u32::MAX);
    let metric = match component.scale_metric.as_deref() {
        Some("rps") => Some(Metric::Rps),
        Some("concurrency") => Some(Metric::Concurrency),
        _ => component.scale_target.map(|_| Metric::Concurrency),
    };
    let stated = component.scale_target.map(f64::from);
    let limit = component.container_concurrency.filter(|limit| *limit > 0).map(|limit| limit as f64);
    let target = metric.zip(stated.or(limit)).filter(|(_, target)| *target > 0.0);
    Orders { min: bounded(min), max: bounded(max.max(min)), target }
}

/// What our own autoscaler last said of each revision that it scales, joined.
pub fn told(cx: &Context<'_>) -> Option<String> {
    let own = cx
        .children
        .iter()
        .filter(|child| child["kind"] == "Deployment" && tree::annotation(child, keys::SCALE).is_some());
    let mut told: Vec<String> = own
        .filter_map(|child| Some(format!("{}: {}", tree::name(child), tree::annotation(child, keys::SCALED)?)))
        .collect();
    told.sort();
    (!told.is_empty()).then(|| told.join("; "))
}

/// The replicas of a canary that gets `percent` of the traffic where `stable` replicas would take it all: at least one, so that it
/// can become ready before it gets any.
pub fn canary_replicas(stable: i64, percent: i32) -> i64 {
    (stable * i64::from(percent) + 99).div_euclid(100).max(1)
}

/// The autoscaler of a revision.
pub fn autoscaler(service: &Value, component: &Component, revision: &str, min: i64, max: i64) -> Value {
    let mut spec = json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": revision},
        "minReplicas": min,
        "maxReplicas": max.max(min),
    });
    let written = component.auto_scaling.as_ref().map(|own| Value::Object(own.fields.clone())).unwrap_or_default();
    let metrics: Vec<Value> = tree::list(&written, &["metrics"]).iter().filter_map(resource_metric).collect();
    spec["metrics"] = if metrics.is_empty() { json!([default_metric(service, component)]) } else { json!(metrics) };
    if let Some(behavior) = written.get("behavior") {
        spec["behavior"] = behavior.clone();
    }
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": revision},
        "spec": spec,
    })
}

/// KServe's default: 80 % of the CPU that is requested.
fn default_metric(service: &Value, component: &Component) -> Value {
    let annotated = tree::annotation(service, keys::METRIC).filter(|metric| matches!(*metric, "cpu" | "memory"));
    let metric = component.scale_metric.as_deref().or(annotated).unwrap_or("cpu");
    let stated = tree::annotation(service, keys::TARGET).and_then(|target| target.parse().ok());
    let target = component.scale_target.or(stated).unwrap_or(80);
    match component.scale_metric_type.as_deref() {
        Some("AverageValue") => {
            let unit = if metric == "memory" { "Mi" } else { "" };
            let target = json!({"type": "AverageValue", "averageValue": format!("{target}{unit}")});
            json!({"type": "Resource", "resource": {"name": metric, "target": target}})
        }
        _ => {
            let target = json!({"type": "Utilization", "averageUtilization": target});
            json!({"type": "Resource", "resource": {"name": metric, "target": target}})
        }
    }
}

/// A metric of `autoScaling.metrics` as the autoscaler takes it. Only resources are: the others need KEDA.
fn resource_metric(metric: &Value) -> Option<Value> {
    let resource = metric.get("resource").filter(|_| metric["type"] == "Resource")?;
    let target = &resource["target"];
    let mut rendered = json!({"type": target["type"].as_str().unwrap_or("Utilization")});
    for field in ["averageUtilization", "averageValue", "value"] {
        if let Some(value) = target.get(field) {
            rendered[field] = value.clone();
        }
    }
    Some(json!({"type": "Resource", "resource": {"name": resource["name"], "target": rendered}}))
}

/// Lets a drain of nodes take one pod of a component at a time.
pub fn disruption_budget(service: &str, component: &str) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": format!("{service}-{component}")},
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": {keys::SERVICE: service, keys::COMPONENT: component}},
        },
    })
}
