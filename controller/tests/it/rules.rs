//! What an API server refuses, as far as the controller could send it: names, labels, immutable fields, lists whose members must
//! differ, and bounds. Sources: Kubernetes' `pkg/apis/*/validation`, `apimachinery/pkg/util/validation`, and the Gateway API's schemas.

use std::collections::BTreeSet;

use serde_json::Value;
use tensorgate_controller::tree;

/// Checks an object that is to take the place of `now`.
pub(crate) fn check(kind: &str, now: Option<&Value>, next: &Value) -> Result<(), String> {
    let name = tree::name(next);
    let named = match kind {
        "Service" => is_label(name) && name.starts_with(|first: char| first.is_ascii_lowercase()),
        _ => name.len() <= 253 && name.split('.').all(|part| is_label_of(part, 253)),
    };
    if !named {
        return Err(format!("metadata.name: Invalid value: {name:?}"));
    }
    metadata(&next["metadata"])?;
    match kind {
        "Deployment" => deployment(now, next),
        "Service" => service(next),
        "ControllerRevision" if now.is_some_and(|now| now["data"] != next["data"]) => {
            Err("data: field is immutable".into())
        }
        "HorizontalPodAutoscaler" => autoscaler(&next["spec"]),
        "PodDisruptionBudget" => selector(&next["spec"]["selector"]),
        "ConfigMap" if next["data"].to_string().len() > 1 << 20 => Err("data: Too long: at most 1048576 bytes".into()),
        "Event" => event(next),
        "HTTPRoute" => route(&next["spec"]),
        _ => Ok(()),
    }
}

/// Checks that an apply names no member of a list twice: the typed parser of server-side apply refuses that.
pub(crate) fn check_applied(tree: &Value) -> Result<(), String> {
    match tree {
        Value::Object(fields) => {
            for (field, value) in fields {
                let keys: &[&str] = match field.as_str() {
                    "env" | "volumes" | "containers" | "initContainers" | "imagePullSecrets" => &["name"],
                    "volumeMounts" => &["mountPath"],
                    "ports" if fields.contains_key("selector") => &["port", "protocol"],
                    // A NetworkPolicy's are a plain list.
                    "ports" if value[0].get("containerPort").is_some() => &["containerPort", "protocol"],
                    "ownerReferences" => &["uid"],
                    _ => &[],
                };
                let members = value.as_array().filter(|_| !keys.is_empty()).into_iter().flatten();
                let mut seen = BTreeSet::new();
                for member in members {
                    let protocol = || Value::from("TCP");
                    let key: Vec<Value> = keys
                        .iter()
                        .map(|key| {
                            member
                                .get(*key)
                                .cloned()
                                .unwrap_or_else(|| if *key == "protocol" { protocol() } else { Value::Null })
                        })
                        .collect();
                    let key = Value::Array(key).to_string();
                    if !seen.insert(key.clone()) {
                        return Err(format!(".{field}: duplicate entries for key {keys:?}={key}"));
                    }
                }
                check_applied(value)?;
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(check_applied),
        _ => Ok(()),
    }
}

fn metadata(metadata: &Value) -> Result<(), String> {
    let mut bytes = 0;
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        qualified(key).map_err(|error| format!("metadata.annotations: {error}"))?;
        bytes += key.len() + value.as_str().ok_or_else(|| format!("metadata.annotations.{key}: no string"))?.len();
    }
    if bytes > 256 << 10 {
        return Err("metadata.annotations: Too long: at most 262144 bytes".into());
    }
    labels(&metadata["labels"]).map_err(|error| format!("metadata.labels: {error}"))
}

fn labels(labels: &Value) -> Result<(), String> {
    for (key, value) in labels.as_object().into_iter().flatten() {
        qualified(key)?;
        let value = value.as_str().ok_or_else(|| format!("{key}: no string"))?;
        let inner = |own: char| own.is_ascii_alphanumeric() || matches!(own, '-' | '_' | '.');
        let ends = |own: Option<char>| own.is_none_or(|own| own.is_ascii_alphanumeric());
        if value.len() > 63 || !value.chars().all(inner) || !ends(value.chars().next()) || !ends(value.chars().last()) {
            return Err(format!("Invalid value: {value:?} of {key}: at most 63 letters, of a label's"));
        }
    }
    Ok(())
}

fn qualified(key: &str) -> Result<(), String> {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let inner = |own: char| own.is_ascii_alphanumeric() || matches!(own, '-' | '_' | '.');
    let fits = !name.is_empty() && name.len() <= 63 && name.chars().all(inner);
    let prefixed = prefix.is_none_or(|own| own.len() <= 253 && own.split('.').all(|part| is_label_of(part, 253)));
    if fits && prefixed { Ok(()) } else { Err(format!("Invalid value: {key:?}: no qualified name")) }
}

fn is_label(name: &str) -> bool {
    is_label_of(name, 63)
}

fn is_label_of(name: &str, max: usize) -> bool {
    let inner = |own: char| own.is_ascii_lowercase() || own.is_ascii_digit() || own == '-';
    !name.is_empty() && name.len() <= max && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

fn selector(selector: &Value) -> Result<(), String> {
    labels(&selector["matchLabels"]).map_err(|error| format!("spec.selector.matchLabels: {error}"))
}

fn deployment(now: Option<&Value>, next: &Value) -> Result<(), String> {
    let (spec, own) = (&next["spec"], &next["spec"]["selector"]);
    if now.is_some_and(|now| now["spec"]["selector"] != *own) {
        return Err(format!("spec.selector: Invalid value: {own}: field is immutable"));
    }
    selector(own)?;
    let template = &spec["template"];
    metadata(&template["metadata"]).map_err(|error| format!("spec.template.{error}"))?;
    let chosen = own["matchLabels"].as_object().filter(|all| !all.is_empty()).ok_or("spec.selector: Required value")?;
    if chosen.iter().any(|(key, value)| template["metadata"]["labels"][key] != *value) {
        return Err("spec.template.metadata.labels: Invalid value: `selector` does not match template `labels`".into());
    }
    let strategy = &spec["strategy"];
    if strategy["type"] == "Recreate" && !strategy["rollingUpdate"].is_null() {
        return Err(
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'".into()
        );
    }
    if tree::number(spec, &["replicas"]).is_some_and(|own| own < 0) {
        return Err("spec.replicas: Invalid value: must be greater than or equal to 0".into());
    }
    pod(&template["spec"])
}

fn pod(pod: &Value) -> Result<(), String> {
    let containers = tree::list(pod, &["containers"]);
    if containers.is_empty() {
        return Err("spec.template.spec.containers: Required value".into());
    }
    let volumes: BTreeSet<&str> =
        tree::list(pod, &["volumes"]).iter().map(|own| own["name"].as_str().unwrap_or("")).collect();
    let mut names = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for container in containers.iter().chain(tree::list(pod, &["initContainers"])) {
        let name = container["name"].as_str().unwrap_or("");
        if !is_label(name) || !names.insert(name) {
            return Err(format!("spec.template.spec.containers.name: Invalid or duplicate value: {name:?}"));
        }
        if tree::text(container, &["image"]).is_none() {
            return Err(format!("spec.template.spec.containers[{name}].image: Required value"));
        }
        for port in tree::list(container, &["ports"]) {
            let Some(own) = port["name"].as_str() else { continue };
            if own.is_empty() || own.len() > 15 || !is_label(own) || !ports.insert(own) {
                return Err(format!("ports.name: Invalid or duplicate value: {own:?}: at most 15 letters"));
            }
        }
        for mount in tree::list(container, &["volumeMounts"]) {
            let own = mount["name"].as_str().unwrap_or("");
            if !volumes.contains(own) {
                return Err(format!("volumeMounts[{own}].name: Not found: {own:?}"));
            }
        }
    }
    Ok(())
}

fn service(next: &Value) -> Result<(), String> {
    labels(&next["spec"]["selector"]).map_err(|error| format!("spec.selector: {error}"))?;
    let ports = tree::list(&next["spec"], &["ports"]);
    if ports.is_empty() {
        return Err("spec.ports: Required value".into());
    }
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for port in ports {
        let name = port["name"].as_str().unwrap_or("");
        let number = port["port"].as_i64().unwrap_or(0);
        if (ports.len() > 1 && name.is_empty()) || (!name.is_empty() && !is_label(name)) || !names.insert(name) {
            return Err(format!("spec.ports.name: Required, invalid or duplicate value: {name:?}"));
        }
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        if !(1..=65_535).contains(&number) || !numbers.insert((number, protocol)) {
            return Err(format!("spec.ports: Invalid or duplicate value: {number}/{protocol}"));
        }
    }
    Ok(())
}

fn autoscaler(spec: &Value) -> Result<(), String> {
    let (min, max) =
        (tree::number(spec, &["minReplicas"]).unwrap_or(1), tree::number(spec, &["maxReplicas"]).unwrap_or(0));
    if min < 1 || max < min {
        return Err(format!("spec.minReplicas {min}, spec.maxReplicas {max}: Invalid value"));
    }
    Ok(())
}

fn event(event: &Value) -> Result<(), String> {
    for (field, max) in [("reason", 128), ("action", 128), ("note", 1024), ("reportingController", 253)] {
        let own = event[field].as_str().unwrap_or("");
        if own.len() > max || (own.is_empty() && field != "note") {
            return Err(format!("{field}: Required, or Too long: at most {max} bytes, and there are {}", own.len()));
        }
    }
    Ok(())
}

fn route(spec: &Value) -> Result<(), String> {
    let hostnames = tree::list(spec, &["hostnames"]);
    for host in hostnames {
        let host = host.as_str().unwrap_or("");
        if host.len() > 253 || !host.split('.').all(|part| is_label_of(part, 253)) {
            return Err(format!("spec.hostnames: Invalid value: {host:?}"));
        }
    }
    let rules = tree::list(spec, &["rules"]);
    if rules.len() > 16 || rules.iter().any(|rule| tree::list(rule, &["backendRefs"]).len() > 16) {
        return Err("spec.rules: Too many: at most 16 rules of 16 backendRefs".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain() -> Value {
        json!({
            "metadata": {"name": "a"},
            "spec": {
                "selector": {"matchLabels": {"app": "a"}},
                "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            },
        })
    }

    #[test]
    fn each_rule_refuses_what_breaks_it_and_nothing_else() {
        assert_eq!(check("Deployment", None, &plain()), Ok(()));
        let with = |change: &dyn Fn(&mut Value)| {
            let mut own = plain();
            change(&mut own);
            own
        };
        type Change<'a> = &'a dyn Fn(&mut Value);
        let broken: [(Change<'_>, &str); 6] = [
            (&|own| own["metadata"]["labels"]["x"] = json!("a".repeat(64)), "at most 63"),
            (&|own| own["spec"]["selector"]["matchLabels"]["app"] = json!("b"), "does not match template"),
            (&|own| own["spec"]["strategy"] = json!({"type": "Recreate", "rollingUpdate": {}}), "Forbidden"),
            (&|own| own["spec"]["template"]["spec"]["containers"] = json!([]), "Required"),
            (
                &|own| own["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([{"name": "a".repeat(16)}]),
                "15",
            ),
            (&|own| own["metadata"]["name"] = json!("A"), "metadata.name"),
        ];
        for (change, told) in broken {
            let error = check("Deployment", None, &with(change)).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        let other = with(&|own| {
            own["spec"]["selector"]["matchLabels"]["app"] = json!("b");
            own["spec"]["template"]["metadata"]["labels"]["app"] = json!("b");
        });
        assert!(check("Deployment", Some(&plain()), &other).unwrap_err().contains("immutable"));
        let service = |name: &str, ports: Value| json!({"metadata": {"name": name}, "spec": {"ports": ports}});
        assert_eq!(check("Service", None, &service("a", json!([{"port": 80}]))), Ok(()));
        assert!(check("Service", None, &service("1a", json!([{"port": 80}]))).is_err());
        assert!(
            check("Service", None, &service("a", json!([{"name": "a", "port": 80}, {"name": "b", "port": 80}])))
                .is_err()
        );
        assert!(
            check_applied(&json!({"env": [{"name": "A"}, {"name": "A"}]})).unwrap_err().contains("duplicate entries")
        );
    }
}
