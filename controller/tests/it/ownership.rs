//! Server-side apply as the API server does it, as far as anybody here relies on it: who owns which field, what an apply takes
//! out, and conflicts.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// A step into a tree, in the notation of managedFields: `f:name` of an object, `k:{"name":"x"}` of a keyed list.
pub(crate) type Path = Vec<String>;

/// The fields by which a member of a list is told from the others; lists without them are one value.
fn list_keys(path: &[String]) -> &'static [&'static str] {
    match path.last().map(String::as_str) {
        Some("f:containers" | "f:initContainers" | "f:env" | "f:volumes" | "f:imagePullSecrets") => &["name"],
        Some("f:volumeMounts") => &["mountPath"],
        Some("f:ports") if path.contains(&"f:containers".to_owned()) => &["containerPort", "protocol"],
        Some("f:ports") => &["port", "protocol"],
        Some("f:ownerReferences") => &["uid"],
        _ => &[],
    }
}

fn member(path: &[String], item: &Value) -> Option<String> {
    let keys = list_keys(path);
    if keys.is_empty() {
        return None;
    }
    let default = |key: &&str| if *key == "protocol" { json!("TCP") } else { Value::Null };
    let pick = |key: &&str| ((*key).to_owned(), item.get(*key).cloned().unwrap_or_else(|| default(key)));
    Some(format!("k:{}", Value::Object(keys.iter().map(pick).collect())))
}

/// The fields that an object states, down to their leaves. Who it is does not count.
pub(crate) fn fields(object: &Value) -> BTreeSet<Path> {
    let mut found = BTreeSet::new();
    for (field, value) in object.as_object().into_iter().flatten() {
        match field.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                let metadata = value.as_object().into_iter().flatten();
                for (field, value) in
                    metadata.filter(|(field, _)| matches!(field.as_str(), "labels" | "annotations" | "ownerReferences"))
                {
                    walk(value, &vec!["f:metadata".into(), format!("f:{field}")], &mut found);
                }
            }
            _ => walk(value, &vec![format!("f:{field}")], &mut found),
        }
    }
    found
}

fn walk(value: &Value, path: &Path, found: &mut BTreeSet<Path>) {
    let below = |step: String| path.iter().cloned().chain([step]).collect::<Path>();
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(field, value)| walk(value, &below(format!("f:{field}")), found));
        }
        Value::Array(items) if !list_keys(path).is_empty() => {
            for item in items {
                let step = member(path, item).unwrap();
                walk(item, &below(step), found);
            }
        }
        _ => drop(found.insert(path.clone())),
    }
}

/// What stands at a path.
pub(crate) fn at<'a>(tree: &'a Value, path: &[String]) -> Option<&'a Value> {
    let mut here = tree;
    for (depth, step) in path.iter().enumerate() {
        here = match step.strip_prefix("f:") {
            Some(field) => here.get(field)?,
            None => here.as_array()?.iter().find(|item| member(&path[..depth], item).as_ref() == Some(step))?,
        };
    }
    Some(here)
}

/// Puts a value at a path, making what is missing on the way.
pub(crate) fn put(tree: &mut Value, path: &[String], value: Value) {
    let mut here = tree;
    for (depth, step) in path.iter().enumerate() {
        here = match step.strip_prefix("f:") {
            Some(field) => {
                if !here.is_object() {
                    *here = json!({});
                }
                here.as_object_mut().unwrap().entry(field).or_insert(Value::Null)
            }
            None => {
                if !here.is_array() {
                    *here = json!([]);
                }
                let items = here.as_array_mut().unwrap();
                let position = items.iter().position(|item| member(&path[..depth], item).as_ref() == Some(step));
                let position = position.unwrap_or_else(|| {
                    items.push(serde_json::from_str(&step[2..]).unwrap());
                    items.len() - 1
                });
                &mut items[position]
            }
        };
    }
    *here = value;
}

/// Takes out what stands at a path, and what is left empty above it.
pub(crate) fn take_out(tree: &mut Value, path: &[String]) {
    fn below(here: &mut Value, path: &[String], depth: usize) {
        let step = &path[depth];
        if let Some(field) = step.strip_prefix("f:") {
            let Some(fields) = here.as_object_mut() else { return };
            if depth + 1 == path.len() {
                fields.remove(field);
            } else if let Some(inner) = fields.get_mut(field) {
                below(inner, path, depth + 1);
                if is_empty(inner) {
                    fields.remove(field);
                }
            }
        } else if let Some(items) = here.as_array_mut() {
            let Some(position) = items.iter().position(|item| member(&path[..depth], item).as_ref() == Some(step))
            else {
                return;
            };
            if depth + 1 < path.len() {
                below(&mut items[position], path, depth + 1);
            }
            let keys: Map<String, Value> = serde_json::from_str(&step[2..]).unwrap();
            let left = items[position].as_object().is_none_or(|own| own.keys().all(|key| keys.contains_key(key)));
            if depth + 1 == path.len() || left {
                items.remove(position);
            }
        }
    }
    below(tree, path, 0);
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// Fields as managedFields have them.
pub(crate) fn encode(fields: &BTreeSet<Path>) -> Value {
    let mut tree = json!({});
    for path in fields {
        let mut here = &mut tree;
        for step in path {
            here = here.as_object_mut().unwrap().entry(step.clone()).or_insert_with(|| json!({}));
        }
    }
    tree
}

/// And back.
pub(crate) fn decode(tree: &Value) -> BTreeSet<Path> {
    fn walk(tree: &Value, path: &mut Path, found: &mut BTreeSet<Path>) {
        let steps = tree.as_object().unwrap();
        if steps.is_empty() {
            found.insert(path.clone());
        }
        for (step, inner) in steps {
            path.push(step.clone());
            walk(inner, path, found);
            path.pop();
        }
    }
    let mut found = BTreeSet::new();
    if tree.as_object().is_some_and(|own| !own.is_empty()) {
        walk(tree, &mut Vec::new(), &mut found);
    }
    found
}
