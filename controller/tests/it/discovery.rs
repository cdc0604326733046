//! What an API server tells of itself: groups, resources, what of OpenAPI kubectl looks for, and tables for people. Custom resources
//! are among them once their definitions are, as in a cluster.

use serde_json::{Value, json};

use super::store::Store;

/// A built-in resource: group and version, its name in paths, its kind, and whether it is in namespaces.
type Resource = (&'static str, &'static str, &'static str, bool);

const BUILT_IN: [Resource; 18] = [
    ("v1", "namespaces", "Namespace", false),
    ("v1", "services", "Service", true),
    ("v1", "pods", "Pod", true),
    ("v1", "configmaps", "ConfigMap", true),
    ("v1", "secrets", "Secret", true),
    ("v1", "serviceaccounts", "ServiceAccount", true),
    ("apps/v1", "deployments", "Deployment", true),
    ("apps/v1", "controllerrevisions", "ControllerRevision", true),
    ("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", true),
    ("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", true),
    ("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", true),
    ("rbac.authorization.k8s.io/v1", "roles", "Role", true),
    ("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding", true),
    ("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", false),
    ("rbac.authorization.k8s.io/v1", "clusterrolebindings", "ClusterRoleBinding", false),
    ("apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", false),
    ("coordination.k8s.io/v1", "leases", "Lease", true),
    ("events.k8s.io/v1", "events", "Event", true),
];
/// Custom resources that are served whether their definitions are there or not: most tests have no use for them.
const CUSTOM: [(&str, &str); 6] = [
    ("inferenceservices", "InferenceService"),
    ("inferencegraphs", "InferenceGraph"),
    ("servingruntimes", "ServingRuntime"),
    ("clusterservingruntimes", "ClusterServingRuntime"),
    ("httproutes", "HTTPRoute"),
    ("scaledobjects", "ScaledObject"),
];

/// The kind of a resource by its name in paths.
pub(crate) fn kind_of(plural: &str) -> Option<&'static str> {
    let built_in = BUILT_IN.iter().map(|(_, plural, kind, _)| (*plural, *kind));
    built_in.chain(CUSTOM).find(|(own, _)| *own == plural).map(|(_, kind)| kind)
}

/// All groups with their versions, and what is in each.
fn groups(store: &Store) -> Vec<(String, Vec<Value>)> {
    let mut groups: Vec<(String, Vec<Value>)> = Vec::new();
    let mut add = |group: String, resource: Value| match groups.iter_mut().find(|(own, _)| *own == group) {
        Some((_, all)) => all.push(resource),
        None => groups.push((group, vec![resource])),
    };
    let verbs = ["create", "delete", "get", "list", "patch", "update", "watch"];
    for (group, plural, kind, namespaced) in BUILT_IN {
        let singular = kind.to_lowercase();
        let own =
            json!({"name": plural, "singularName": singular, "namespaced": namespaced, "kind": kind, "verbs": verbs});
        add(group.to_owned(), own);
    }
    for definition in store.list("CustomResourceDefinition", None, "") {
        let (spec, names) = (&definition["spec"], &definition["spec"]["names"]);
        let own = json!({
            "name": names["plural"], "singularName": names["singular"], "shortNames": names["shortNames"],
            "namespaced": spec["scope"] == "Namespaced", "kind": names["kind"], "verbs": verbs,
        });
        for version in spec["versions"].as_array().into_iter().flatten() {
            add(format!("{}/{}", text(&spec["group"]), text(&version["name"])), own.clone());
        }
    }
    groups
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// What there is at a path of discovery; none at others.
pub(crate) fn answer(store: &Store, path: &str) -> Option<Value> {
    let groups = groups(store);
    let place = |group: &str| if group.contains('/') { format!("apis/{group}") } else { format!("api/{group}") };
    match path.trim_matches('/') {
        "api" => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
        "apis" => Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": named(&groups)})),
        "openapi/v3" => {
            let paths = groups.iter().map(|(group, _)| {
                let place = place(group);
                let url = json!({"serverRelativeURL": format!("/openapi/v3/{place}")});
                (place, url)
            });
            Some(json!({"paths": serde_json::Map::from_iter(paths)}))
        }
        path => {
            let (own, described) = match path.strip_prefix("openapi/v3/") {
                Some(own) => (own, true),
                None => (path, false),
            };
            let (group, resources) = groups.iter().find(|(group, _)| place(group) == own)?;
            Some(match described {
                true => openapi(group, own, resources),
                false => json!({
                    "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": resources,
                }),
            })
        }
    }
}

fn named(groups: &[(String, Vec<Value>)]) -> Vec<Value> {
    let split = groups.iter().filter_map(|(group, _)| Some((group, group.split_once('/')?)));
    let mut all: Vec<Value> = Vec::new();
    for (group_version, (name, version)) in split {
        let own = json!({"groupVersion": group_version, "version": version});
        match all.iter_mut().find(|other| other["name"] == name) {
            Some(other) => other["versions"].as_array_mut().unwrap().push(own),
            None => all.push(json!({"name": name, "versions": [own], "preferredVersion": own})),
        }
    }
    all
}

/// As much of the document as says that the server itself checks fields (`fieldValidation`).
fn openapi(group: &str, place: &str, resources: &[Value]) -> Value {
    let (group, version) = group.split_once('/').unwrap_or(("", group));
    let paths = resources.iter().map(|own| {
        let kind = json!({"group": group, "version": version, "kind": own["kind"]});
        let checks = json!([{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]);
        let patch = json!({"parameters": checks, "x-kubernetes-group-version-kind": kind, "responses": {}});
        (format!("/{place}/{}/{{name}}", text(&own["name"])), json!({"patch": patch}))
    });
    let info = json!({"title": "in memory", "version": "0"});
    json!({"openapi": "3.0.0", "info": info, "paths": serde_json::Map::from_iter(paths)})
}

/// The objects as rows, with the columns that their definition has for people; none without a definition.
pub(crate) fn table(store: &Store, kind: &str, objects: &[Value]) -> Option<Value> {
    let all = store.list("CustomResourceDefinition", None, "");
    let definition = all.iter().find(|own| own["spec"]["names"]["kind"] == kind)?;
    let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array()?;
    let named = columns
        .iter()
        .map(|own| json!({"name": own["name"], "type": own["type"], "format": "", "description": "", "priority": 0}));
    let name = json!({"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0});
    let rows = objects.iter().map(|object| {
        let cells = columns.iter().map(|column| at(object, text(&column["jsonPath"])));
        let cells: Vec<Value> = std::iter::once(object["metadata"]["name"].clone()).chain(cells).collect();
        json!({"cells": cells, "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]}})
    });
    Some(json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {},
        "columnDefinitions": std::iter::once(name).chain(named).collect::<Vec<_>>(), "rows": rows.collect::<Vec<_>>(),
    }))
}

/// What a path of columns leads to: fields, and elements by a field of theirs (`[?(@.type=='Ready')]`).
fn at(object: &Value, path: &str) -> Value {
    let mut found = object;
    for step in path.trim_start_matches('.').split_inclusive(")]").flat_map(|part| {
        part.split_once("[?(@.")
            .map_or_else(|| vec![part.to_owned()], |(before, filter)| vec![before.to_owned(), format!("?{filter}")])
    }) {
        found = match step.strip_prefix('?') {
            Some(filter) => {
                let (field, wanted) = filter.trim_end_matches(")]").split_once("==").unwrap();
                let wanted = match wanted {
                    "true" => json!(true),
                    word => json!(word.trim_matches('\'')),
                };
                let all = found.as_array().map_or(&[][..], Vec::as_slice);
                all.iter().find(|own| own[field] == wanted).unwrap_or(&Value::Null)
            }
            None => step.split('.').filter(|field| !field.is_empty()).fold(found, |found, field| &found[field]),
        };
    }
    found.clone()
}

#[test]
fn columns_are_found_by_fields_and_by_elements() {
    let object = json!({"status": {"url": "u", "traffic": [
        {"tag": "prev", "percent": 90}, {"latestRevision": true, "percent": 10},
    ]}});
    assert_eq!(at(&object, ".status.url"), "u");
    assert_eq!(at(&object, ".status.traffic[?(@.tag=='prev')].percent"), 90);
    assert_eq!(at(&object, ".status.traffic[?(@.latestRevision==true)].percent"), 10);
    assert_eq!(at(&object, ".status.traffic[?(@.tag=='none')].percent"), Value::Null);
}
