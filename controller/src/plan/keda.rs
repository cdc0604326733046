//! A revision's ScaledObject, as KServe's `keda` class makes it from `autoScaling` (its reconcilers/keda): KEDA asks for the metrics,
//! and scales the Deployment by a HorizontalPodAutoscaler of its own.

use serde_json::{Map, Value, json};

use super::difference::quantity;
use super::fault::Fault;
use crate::api::inference_service::Component;
use crate::tree;

/// Triggers of one revision: KEDA asks for each of them every half a minute.
const TRIGGERS_MAX: usize = 16;

/// KServe's default, in per cent of the CPU that is requested.
const CPU: i64 = 80;

/// Whether a component can be scaled by KEDA.
///
/// # Errors
/// If it says nothing to scale by, or what KServe refuses too; names the metric.
pub fn check(component: &Component) -> Result<(), Fault> {
    if component.scale_metric.is_some() {
        return Err(Fault::invalid("scaleMetric is not served by the keda class; autoScaling.metrics are"));
    }
    triggers(component, "", "").map(drop)
}

/// The ScaledObject of a revision that has between `min` and `max` replicas; of a component that was checked.
pub fn scaled_object(component: &Component, namespace: &str, revision: &str, min: i64, max: i64) -> Value {
    let mut spec = json!({
        "scaleTargetRef": {"name": revision},
        "minReplicaCount": min,
        "maxReplicaCount": max.max(min),
        "triggers": triggers(component, namespace, revision).unwrap_or_default(),
    });
    let written = written(component);
    let mut behavior = Map::new();
    // Of the behaviour KServe takes the windows.
    for direction in ["scaleDown", "scaleUp"] {
        if let Some(window) = tree::number(&written, &["behavior", direction, "stabilizationWindowSeconds"]) {
            behavior.insert(direction.into(), json!({"stabilizationWindowSeconds": window}));
        }
    }
    if !behavior.is_empty() {
        spec["advanced"] = json!({"horizontalPodAutoscalerConfig": {"behavior": behavior}});
    }
    json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": revision}, "spec": spec})
}

fn written(component: &Component) -> Value {
    component.auto_scaling.as_ref().map(|own| Value::Object(own.fields.clone())).unwrap_or_default()
}

fn triggers(component: &Component, namespace: &str, revision: &str) -> Result<Vec<Value>, Fault> {
    let written = written(component);
    let metrics = tree::list(&written, &["metrics"]);
    if metrics.is_empty() || metrics.len() > TRIGGERS_MAX {
        return Err(Fault::invalid(format!(
            "the keda class scales by autoScaling.metrics, of which there have to be 1 to {TRIGGERS_MAX}, not {}",
            metrics.len()
        )));
    }
    let trigger = |(index, metric): (usize, &Value)| {
        let made = match metric["type"].as_str() {
            Some("Resource") => resource(metric),
            Some("External") => external(metric),
            Some("PodMetric") => pod_metric(metric, namespace, revision),
            _ => Err("'type' has to be Resource, External or PodMetric".to_owned()),
        };
        made.map_err(|fault| Fault::invalid(format!("autoScaling.metrics[{index}]: {fault}")))
    };
    metrics.iter().enumerate().map(trigger).collect()
}

/// CPU by its share of the request, memory by that or by an amount.
fn resource(metric: &Value) -> Result<Value, String> {
    let (name, target) = (metric["resource"]["name"].as_str(), &metric["resource"]["target"]);
    let kind = target["type"].as_str().unwrap_or("Utilization");
    let value = match (name, kind) {
        (Some("cpu" | "memory"), "Utilization") => {
            let stated = tree::number(target, &["averageUtilization"]).or((name == Some("cpu")).then_some(CPU));
            let percent = stated.filter(|percent| (1..=100).contains(percent));
            percent.ok_or("resource.target.averageUtilization has to be 1 to 100 per cent")?.to_string()
        }
        (Some("memory"), "AverageValue") => {
            let stated = &target["averageValue"];
            let enough = quantity(stated).is_some_and(|bytes| bytes >= f64::from(1 << 20));
            shown(stated).filter(|_| enough).ok_or("resource.target.averageValue has to be 1Mi or more")?
        }
        (Some("cpu"), _) => return Err("resource.target.type of cpu has to be Utilization".into()),
        (Some("memory"), _) => {
            return Err("resource.target.type of memory has to be Utilization or AverageValue".into());
        }
        _ => return Err("resource.name has to be cpu or memory".into()),
    };
    Ok(json!({"type": name, "metricType": kind, "metadata": {"value": value}}))
}

/// What a backend such as Prometheus answers to a query.
fn external(metric: &Value) -> Result<Value, String> {
    let asked = &metric["external"]["metric"];
    let backend = stated(asked, "backend").ok_or("external.metric.backend is missing; prometheus, for example")?;
    let server = stated(asked, "serverAddress").ok_or("external.metric.serverAddress is missing")?;
    let query = stated(asked, "query").ok_or("external.metric.query is missing")?;
    let threshold = threshold(&metric["external"]["target"]).ok_or("external.target.value has to be a number")?;
    let mut trigger = json!({
        "type": backend,
        "metadata": {"serverAddress": server, "query": query, "threshold": threshold},
    });
    if let Some(namespace) = stated(asked, "namespace").filter(|_| backend == "prometheus") {
        trigger["metadata"]["namespace"] = json!(namespace);
    }
    let authentication = &metric["external"]["authenticationRef"];
    if let Some(modes) = stated(authentication, "authModes") {
        trigger["metadata"]["authModes"] = json!(modes);
    }
    if let Some(name) = stated(&authentication["authenticationRef"], "name") {
        trigger["authenticationRef"] = json!({"name": name});
    }
    Ok(trigger)
}

/// What the pods themselves tell, by KEDA's scaler for OpenTelemetry; of this revision's pods only.
fn pod_metric(metric: &Value, namespace: &str, revision: &str) -> Result<Value, String> {
    let asked = &metric["podmetric"]["metric"];
    if stated(asked, "backend").is_some_and(|backend| backend != "opentelemetry") {
        return Err("podmetric.metric.backend has to be opentelemetry".into());
    }
    // KServe has a default for all services in its ConfigMap, which there is none of here.
    let server = stated(asked, "serverAddress").ok_or("podmetric.metric.serverAddress is missing")?;
    let query = stated(asked, "query").ok_or("podmetric.metric.query is missing")?;
    let target = threshold(&metric["podmetric"]["target"]).ok_or("podmetric.target.value has to be a number")?;
    let query = format!("sum({query}{{namespace=\"{namespace}\", deployment=\"{revision}\"}})");
    let mut trigger = json!({
        "type": "external",
        "metadata": {"metricQuery": query, "targetValue": target, "scalerAddress": server},
    });
    if let Some(operation) = stated(asked, "operationOverTime") {
        trigger["metadata"]["operationOverTime"] = json!(operation);
    }
    Ok(trigger)
}

fn stated<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value[field].as_str().filter(|text| !text.is_empty())
}

fn shown(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A target's value with six digits behind the point, as KServe writes it.
fn threshold(target: &Value) -> Option<String> {
    quantity(&target["value"]).filter(|value| value.is_finite()).map(|value| format!("{value:.6}"))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    fn checked(auto_scaling: Value) -> Result<(), String> {
        let component = Component::deserialize(json!({"autoScaling": auto_scaling})).unwrap();
        check(&component).map_err(|fault| fault.message)
    }

    #[test]
    fn every_fault_names_the_metric_and_what_would_be_right() {
        let fault = |metric: Value| checked(json!({"metrics": [metric]})).unwrap_err();
        let cases = [
            (json!({}), "'type' has to be Resource, External or PodMetric"),
            (json!({"type": "Resource"}), "resource.name has to be cpu or memory"),
            (
                json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "1"}}}),
                "resource.target.type of cpu has to be Utilization",
            ),
            (
                json!({"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 101}}}),
                "resource.target.averageUtilization has to be 1 to 100 per cent",
            ),
            (
                json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1k"}}}),
                "resource.target.averageValue has to be 1Mi or more",
            ),
            (
                json!({"type": "External", "external": {"metric": {"backend": "prometheus"}}}),
                "external.metric.serverAddress is missing",
            ),
            (
                json!({"type": "External", "external": {"metric": {"backend": "prometheus", "serverAddress": "a", "query": "q"}}}),
                "external.target.value has to be a number",
            ),
            (
                json!({"type": "PodMetric", "podmetric": {"metric": {"backend": "x"}}}),
                "podmetric.metric.backend has to be opentelemetry",
            ),
        ];
        for (metric, wanted) in cases {
            assert_eq!(fault(metric), format!("autoScaling.metrics[0]: {wanted}"));
        }
        assert!(checked(json!({})).unwrap_err().contains("of which there have to be 1 to 16, not 0"));
        let one = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}});
        assert_eq!(checked(json!({"metrics": [one.clone()]})), Ok(()));
        assert!(checked(json!({"metrics": vec![one; 17]})).unwrap_err().contains("not 17"));
    }
}
