//! From what there should be to what is to be written: only what differs, so that a service at rest costs no request.

use serde_json::{Map, Value, json};

use super::children::CHILDREN;
use super::{Context, revision};
use crate::api::{GROUP, MANAGER, keys};
use crate::tree;

/// The label by which the controller's children are watched.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Digest of a child as it was last applied: tells that a field was taken out, which comparing fields does not.
const APPLIED: &str = "tensorgate.dev/applied";

/// What is to be written, in this order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Deployments whose replicas an autoscaler takes over: the number stays, under another manager, before we let go of it.
    pub hand_over: Vec<Value>,
    /// Objects to apply.
    pub apply: Vec<Value>,
    /// Objects to delete.
    pub delete: Vec<Value>,
}

impl Changes {
    /// Nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.hand_over.is_empty() && self.apply.is_empty() && self.delete.is_empty()
    }
}

/// Gives a child what all children have: namespace, owner, labels, digest.
pub fn finish(cx: &Context<'_>, component: Option<&str>, mut child: Value) -> Value {
    if let Some(component) = component {
        tree::object_mut(tree::field(&mut child, "metadata"), "labels")
            .insert(keys::COMPONENT.into(), json!(component));
    }
    finish_as(cx, ("v1beta1", "InferenceService", keys::SERVICE), child)
}

/// The same for a child of an InferenceGraph.
pub fn finish_graphs(cx: &Context<'_>, child: Value) -> Value {
    finish_as(cx, ("v1alpha1", "InferenceGraph", keys::GRAPH), child)
}

fn finish_as(cx: &Context<'_>, (version, kind, label): (&str, &str, &str), mut child: Value) -> Value {
    let metadata = tree::field(&mut child, "metadata");
    metadata["namespace"] = json!(cx.namespace);
    metadata["ownerReferences"] = json!([{
        "apiVersion": format!("{GROUP}/{version}"),
        "kind": kind,
        "name": tree::name(cx.service),
        "uid": tree::text(cx.service, &["metadata", "uid"]).unwrap_or(""),
        "controller": true,
        "blockOwnerDeletion": true,
    }]);
    let labels = tree::object_mut(metadata, "labels");
    labels.insert(MANAGED_BY.into(), json!(MANAGER));
    labels.insert(label.into(), json!(tree::name(cx.service)));
    tree::prune(&mut child);
    if tree::text(&child, &["spec", "strategy", "type"]) == Some("Recreate") {
        // The API server has filled it in where there was another type before, and refuses the two together.
        child["spec"]["strategy"]["rollingUpdate"] = Value::Null;
    }
    let digest = revision::digest(&child);
    tree::object_mut(tree::field(&mut child, "metadata"), "annotations").insert(APPLIED.into(), json!(digest));
    child
}

/// What to write so that `observed`, the children of `service`, become `wanted`.
pub fn changes(service: &Value, wanted: &[Value], observed: &[&Value]) -> Changes {
    let mut changes = Changes::default();
    for child in order(wanted) {
        let Some(now) = observed.iter().find(|own| is_same(own, child)) else {
            changes.apply.push(child.clone());
            continue;
        };
        // What is being deleted is gone soon, and will be made anew when it is.
        if now["metadata"].get("deletionTimestamp").is_some() || covers(now, child) {
            continue;
        }
        if child["kind"] == "Deployment" && tree::at(child, &["spec", "replicas"]).is_null() && owns_replicas(now) {
            changes.hand_over.push(json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": tree::name(child), "namespace": tree::at(child, &["metadata", "namespace"])},
                "spec": {"replicas": tree::number(now, &["spec", "replicas"]).unwrap_or(1)},
            }));
        }
        changes.apply.push(child.clone());
    }
    let surplus = observed.iter().filter(|own| is_owned(own, service)).filter(|own| {
        own["metadata"].get("deletionTimestamp").is_none() && wanted.iter().all(|child| !is_same(own, child))
    });
    changes.delete = surplus.map(|own| (*own).clone()).collect();
    // Routes first, then what they lead to.
    changes.delete.sort_by_key(|own| (rank(own), tree::name(own).to_owned()));
    changes.delete.reverse();
    changes
}

fn order(children: &[Value]) -> Vec<&Value> {
    let mut sorted: Vec<&Value> = children.iter().collect();
    sorted.sort_by_key(|child| (rank(child), tree::name(child)));
    sorted
}

fn rank(child: &Value) -> usize {
    CHILDREN.iter().position(|kind| child["kind"] == kind.name).unwrap_or(CHILDREN.len())
}

/// Whether two are one object of a namespace.
pub fn is_same(left: &Value, right: &Value) -> bool {
    left["kind"] == right["kind"] && tree::name(left) == tree::name(right)
}

/// Whether an object is controlled by `owner`.
pub fn is_owned(object: &Value, owner: &Value) -> bool {
    let uid = tree::text(owner, &["metadata", "uid"]);
    let owners = tree::list(object, &["metadata", "ownerReferences"]);
    owners.iter().any(|own| own["controller"] == true && tree::text(own, &["uid"]) == uid)
}

/// Whether an object was made by us for an owner of the same name, which may have been deleted and made anew.
pub fn is_managed_alike(object: &Value, child: &Value) -> bool {
    [MANAGED_BY, keys::SERVICE, keys::GRAPH].iter().all(|key| tree::label(object, key) == tree::label(child, key))
}

/// Whether our manager still owns `spec.replicas`: letting go of it would have the API server set it to 1.
fn owns_replicas(deployment: &Value) -> bool {
    let entries = tree::list(deployment, &["metadata", "managedFields"]).iter();
    let field = |entry: &Value| tree::at(entry, &["fieldsV1", "f:spec", "f:replicas"]).is_object();
    let mut owners = entries.filter(|entry| field(entry)).map(|entry| tree::text(entry, &["manager"]).unwrap_or(""));
    let owners: Vec<&str> = owners.by_ref().collect();
    owners.contains(&MANAGER) && owners.len() == 1
}

/// Whether everything that `wanted` states is so in `now`. What the API server adds, and how it writes quantities and empty
/// values, makes no difference.
pub fn covers(now: &Value, wanted: &Value) -> bool {
    match (now, wanted) {
        (Value::Object(now), Value::Object(wanted)) => {
            wanted.iter().all(|(field, value)| now.get(field).map_or_else(|| is_zero(value), |own| covers(own, value)))
        }
        (Value::Array(now), Value::Array(wanted)) => {
            now.len() == wanted.len() && now.iter().zip(wanted).all(|(now, wanted)| covers(now, wanted))
        }
        _ => now == wanted || same_quantity(now, wanted),
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) => false,
    }
}

/// `0.5` and `500m`, `1024Mi` and `1Gi`.
fn same_quantity(left: &Value, right: &Value) -> bool {
    match (quantity(left), quantity(right)) {
        (Some(left), Some(right)) => (left - right).abs() <= left.abs() * 1e-9,
        _ => false,
    }
}

/// A quantity of Kubernetes' as a number: `500m` is 0.5, and `1e3` is 1000 (apimachinery's `resource.Quantity`).
pub(super) fn quantity(value: &Value) -> Option<f64> {
    let text = match value {
        Value::Number(number) => return number.as_f64(),
        Value::String(text) => text,
        _ => return None,
    };
    let digits = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let power =
        |base: f64, unit: &str| "KMGTPE".find(unit).map(|index| base.powi(i32::try_from(index).unwrap_or(0) + 1));
    let factor = match unit {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        _ => match (exponent(unit), unit.strip_suffix('i')) {
            (Some(exponent), _) => 10_f64.powi(exponent),
            (None, Some(unit)) if unit.len() == 1 => power(1024.0, unit)?,
            (None, None) if unit.len() == 1 => power(1000.0, unit)?,
            _ => return None,
        },
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

/// The power of ten behind `e` or `E`, which alone is a unit.
fn exponent(unit: &str) -> Option<i32> {
    unit.strip_prefix(['e', 'E'])?.parse().ok()
}

/// The name, kind and namespace of an object, for messages.
pub fn shown(object: &Value) -> String {
    let empty = Map::new();
    let metadata = object["metadata"].as_object().unwrap_or(&empty);
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("").to_owned();
    format!("{} {}/{}", text(object.get("kind")), text(metadata.get("namespace")), text(metadata.get("name")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_server_adds_or_writes_otherwise_is_no_difference() {
        let now =
            json!({"a": 1, "added": true, "resources": {"cpu": "500m", "memory": "1Gi"}, "list": [{"x": 1, "y": 2}]});
        let wanted = json!({"a": 1, "resources": {"cpu": "0.5", "memory": "1024Mi"}, "list": [{"x": 1}], "none": "", "off": false});
        assert!(covers(&now, &wanted));
        assert!(!covers(&now, &json!({"a": 2})));
        assert!(!covers(&now, &json!({"list": []})));
        assert!(!covers(&now, &json!({"missing": "x"})));
        assert!(!covers(&json!("abc"), &json!("abd")));
    }

    #[test]
    fn quantities_are_compared_by_what_they_are_in_every_notation() {
        // The left ones as the API server writes them.
        let same = [
            ("1", json!("1000m")),
            ("2", json!(2)),
            ("500m", json!(0.5)),
            ("1e6", json!("1000e3")),
            ("500", json!("0.5e3")),
            ("12e6", json!("12E6")),
            ("5e-3", json!("0.005E0")),
            ("2E", json!("2000P")),
            ("512Mi", json!("0.5Gi")),
            ("1536Mi", json!("1.5Gi")),
        ];
        for (now, wanted) in same {
            assert!(covers(&json!(now), &wanted), "{now} {wanted}");
        }
        for (now, wanted) in [("1E", "1e0"), ("1e3", "1k1"), ("1Ki", "1k"), ("1e", "1"), ("e3", "1e3")] {
            assert!(!covers(&json!(now), &json!(wanted)), "{now} {wanted}");
        }
    }
}
