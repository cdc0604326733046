//! Reading and joining trees of JSON. What a user wrote stays a tree, so that no field that we do not know is lost; typed views
//! look at what a decision needs.

use serde_json::{Map, Value};

/// What stands at a path of field names, `Null` where there is nothing.
pub fn at<'a>(tree: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(tree, |tree, field| tree.get(field).unwrap_or(&Value::Null))
}

/// The text at a path; none where it is missing or empty.
pub fn text<'a>(tree: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(tree, path).as_str().filter(|text| !text.is_empty())
}

/// The whole number at a path.
pub fn number(tree: &Value, path: &[&str]) -> Option<i64> {
    at(tree, path).as_i64()
}

/// The members of a list at a path; none where it is missing.
pub fn list<'a>(tree: &'a Value, path: &[&str]) -> &'a [Value] {
    at(tree, path).as_array().map_or(&[], Vec::as_slice)
}

/// The name of a Kubernetes object, "" where it has none.
pub fn name(object: &Value) -> &str {
    at(object, &["metadata", "name"]).as_str().unwrap_or("")
}

/// An annotation of a Kubernetes object.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    text(object, &["metadata", "annotations", key])
}

/// A label of a Kubernetes object.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    text(object, &["metadata", "labels", key])
}

/// The object at a field, made where it is missing.
pub fn object_mut<'a>(tree: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    let entry = field_mut(tree, field, || Value::Object(Map::new()));
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    entry.as_object_mut().unwrap_or_else(|| unreachable!("made an object above"))
}

/// The list at a field, made where it is missing.
pub fn list_mut<'a>(tree: &'a mut Value, field: &str) -> &'a mut Vec<Value> {
    let entry = field_mut(tree, field, || Value::Array(Vec::new()));
    if !entry.is_array() {
        *entry = Value::Array(Vec::new());
    }
    entry.as_array_mut().unwrap_or_else(|| unreachable!("made a list above"))
}

/// The value at a field, an object made where it is missing.
pub fn field<'a>(tree: &'a mut Value, name: &str) -> &'a mut Value {
    field_mut(tree, name, || Value::Object(Map::new()))
}

fn field_mut<'a>(tree: &'a mut Value, field: &str, empty: impl FnOnce() -> Value) -> &'a mut Value {
    if !tree.is_object() {
        *tree = Value::Object(Map::new());
    }
    match tree {
        Value::Object(fields) => fields.entry(field).or_insert_with(empty),
        _ => unreachable!("made an object above"),
    }
}

/// Adds `item` to the list at `field` unless one of the same `key` is there: what a user wrote goes before our defaults.
pub fn add_missing(tree: &mut Value, field: &str, key: &str, item: Value) {
    let items = list_mut(tree, field);
    if !items.iter().any(|other| other.get(key) == item.get(key)) {
        items.push(item);
    }
}

/// The field that names a member of a list of a PodSpec, as the API's strategic merge has it; other lists are replaced whole.
fn merge_key(field: &str) -> Option<&'static str> {
    Some(match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "resourceClaims" => "name",
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "ports" => "containerPort",
        "hostAliases" => "ip",
        "topologySpreadConstraints" => "topologyKey",
        _ => return None,
    })
}

/// Lays `patch` over `base` as a strategic merge of a PodSpec does: objects field by field, lists with a merge key member by
/// member, everything else replaced. A `null` of the patch removes the field.
pub fn merge(base: &mut Value, patch: &Value) {
    let (Value::Object(fields), Value::Object(over)) = (&mut *base, patch) else {
        *base = patch.clone();
        return;
    };
    for (field, value) in over {
        if value.is_null() {
            fields.remove(field);
            continue;
        }
        match (fields.get_mut(field), merge_key(field)) {
            (Some(Value::Array(ours)), Some(key)) if value.is_array() => {
                merge_list(ours, value.as_array().map_or(&[], Vec::as_slice), key, field);
            }
            (Some(ours), _) => merge(ours, value),
            (None, _) => {
                fields.insert(field.clone(), value.clone());
            }
        }
    }
}

fn merge_list(ours: &mut Vec<Value>, over: &[Value], key: &str, field: &str) {
    for item in over {
        match ours.iter_mut().find(|own| own.get(key).is_some() && own.get(key) == item.get(key)) {
            // A value in place of a reference, another kind of volume: the two must not end up side by side.
            Some(own) if matches!(field, "env" | "volumes") => *own = item.clone(),
            Some(own) => merge(own, item),
            None => ours.push(item.clone()),
        }
    }
}

/// Leaves of the members of lists that the API server tells apart by a key only the last of each key, which is the one that it goes
/// by: an apply that states a key twice is refused.
pub fn without_twins(tree: &mut Value) {
    match tree {
        Value::Object(fields) => {
            for (field, value) in fields {
                without_twins(value);
                let (Some(key), Value::Array(items)) = (merge_key(field), value) else { continue };
                let keys = |own: &Value| -> Option<[Value; 2]> {
                    let second = match field.as_str() {
                        "ports" => own.get("protocol").cloned().unwrap_or_else(|| "TCP".into()),
                        "topologySpreadConstraints" => own.get("whenUnsatisfiable").cloned().unwrap_or_default(),
                        _ => Value::Null,
                    };
                    Some([own.get(key)?.clone(), second])
                };
                let all: Vec<_> = items.iter().map(keys).collect();
                let mut index = 0;
                items.retain(|_| {
                    let own = &all[index];
                    index += 1;
                    own.is_none() || !all[index..].contains(own)
                });
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_twins),
        _ => {}
    }
}

/// Removes nulls, and fields that are left with an empty object or list.
pub fn prune(tree: &mut Value) {
    match tree {
        Value::Object(fields) => {
            fields.retain(|_, value| {
                let was_empty = is_empty(value);
                prune(value);
                // `emptyDir: {}` says something; an object that we emptied does not.
                !(value.is_null() || value.as_array().is_some_and(Vec::is_empty) || (is_empty(value) && !was_empty))
            });
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn is_empty(tree: &Value) -> bool {
    tree.as_object().is_some_and(Map::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_merge_joins_lists_by_their_key_and_replaces_the_others() {
        let mut base = json!({
            "containers": [{"name": "a", "image": "x", "env": [{"name": "K", "valueFrom": {"fieldRef": {}}}]}],
            "tolerations": [{"key": "one"}], "nodeSelector": {"zone": "a"},
        });
        merge(
            &mut base,
            &json!({
                "containers": [{"name": "a", "env": [{"name": "K", "value": "1"}]}, {"name": "b"}],
                "tolerations": [{"key": "two"}], "nodeSelector": {"disk": "ssd"},
            }),
        );
        assert_eq!(
            base,
            json!({
                "containers": [{"name": "a", "image": "x", "env": [{"name": "K", "value": "1"}]}, {"name": "b"}],
                "tolerations": [{"key": "two"}], "nodeSelector": {"zone": "a", "disk": "ssd"},
            })
        );
    }

    #[test]
    fn of_members_that_are_named_twice_the_last_stays() {
        let mut tree = json!({"containers": [{
            "name": "a", "env": [{"name": "K", "value": "1"}, {"name": "L"}, {"name": "K", "value": "2"}],
            "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}, {"containerPort": 80, "protocol": "TCP"}],
            "args": ["x", "x"],
        }]});
        without_twins(&mut tree);
        let container = &tree["containers"][0];
        assert_eq!(container["env"], json!([{"name": "L"}, {"name": "K", "value": "2"}]));
        let ports = json!([{"containerPort": 80, "protocol": "UDP"}, {"containerPort": 80, "protocol": "TCP"}]);
        assert_eq!(container["ports"], ports);
        assert_eq!(container["args"], json!(["x", "x"]));
    }

    #[test]
    fn pruning_keeps_an_empty_object_that_was_meant() {
        let mut tree = json!({"emptyDir": {}, "a": {"b": null}, "c": [], "d": [null, {"e": null}], "f": 0});
        prune(&mut tree);
        assert_eq!(tree, json!({"emptyDir": {}, "d": [null, {}], "f": 0}));
    }
}
