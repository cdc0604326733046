//! The custom resource definitions, made from the types.

use schemars::JsonSchema;
use serde_json::{Value, json};

use super::{GROUP, inference_graph, inference_service, schema, serving_runtime, status};

struct Definition {
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
    version: &'static str,
    namespaced: bool,
    columns: Value,
    spec: Value,
    status: Option<Value>,
}

/// All definitions, in the order in which they are printed.
pub fn all() -> Vec<Value> {
    let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
    let runtime = |kind, plural, singular, namespaced| Definition {
        kind,
        plural,
        singular,
        short: &[],
        version: "v1alpha1",
        namespaced,
        columns: json!([
            {"name": "Disabled", "type": "boolean", "jsonPath": ".spec.disabled"},
            {"name": "ModelType", "type": "string", "jsonPath": ".spec.supportedModelFormats[*].name"},
            {"name": "Containers", "type": "string", "jsonPath": ".spec.containers[*].name"},
            age
        ]),
        spec: schema_of::<serving_runtime::Spec>(),
        status: Some(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})),
    };
    let definitions = [
        inference_service_definition(&age),
        runtime("ServingRuntime", "servingruntimes", "servingruntime", true),
        runtime("ClusterServingRuntime", "clusterservingruntimes", "clusterservingruntime", false),
        Definition {
            kind: "InferenceGraph",
            plural: "inferencegraphs",
            singular: "inferencegraph",
            short: &["ig"],
            version: "v1alpha1",
            namespaced: true,
            columns: json!([
                {"name": "URL", "type": "string", "jsonPath": ".status.url"},
                {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"},
                age
            ]),
            spec: schema_of::<inference_graph::Spec>(),
            status: Some(schema_of::<inference_graph::GraphStatus>()),
        },
    ];
    definitions.into_iter().map(render).collect()
}

/// All definitions as one YAML text.
///
/// # Errors
/// If a definition cannot be written as YAML, which would be a bug.
pub fn yaml() -> Result<String, String> {
    let mut text = String::from("# Made by `tensorgate-controller crds`; a test keeps it so.\n");
    for definition in all() {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition).map_err(|error| error.to_string())?);
    }
    Ok(text)
}

fn inference_service_definition(age: &Value) -> Definition {
    Definition {
        kind: "InferenceService",
        plural: "inferenceservices",
        singular: "inferenceservice",
        short: &["isvc"],
        version: "v1beta1",
        namespaced: true,
        columns: json!([
            {"name": "URL", "type": "string", "jsonPath": ".status.url"},
            {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"},
            {"name": "Prev", "type": "integer",
             "jsonPath": ".status.components.predictor.traffic[?(@.tag=='prev')].percent"},
            {"name": "Latest", "type": "integer",
             "jsonPath": ".status.components.predictor.traffic[?(@.latestRevision==true)].percent"},
            {"name": "PrevRolledoutRevision", "type": "string",
             "jsonPath": ".status.components.predictor.traffic[?(@.tag=='prev')].revisionName"},
            {"name": "LatestReadyRevision", "type": "string",
             "jsonPath": ".status.components.predictor.traffic[?(@.latestRevision==true)].revisionName"},
            age
        ]),
        spec: schema_of::<inference_service::Spec>(),
        status: Some(schema_of::<status::Status>()),
    }
}

fn schema_of<T: JsonSchema>() -> Value {
    schema::structural::<T>()
}

fn render(definition: Definition) -> Value {
    let mut properties = json!({
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": definition.spec,
    });
    let mut version = json!({
        "name": definition.version,
        "served": true,
        "storage": true,
        "additionalPrinterColumns": definition.columns,
    });
    if let Some(status) = definition.status {
        properties["status"] = status;
        version["subresources"] = json!({"status": {}});
    }
    version["schema"] = json!({"openAPIV3Schema": {
        "type": "object", "required": ["spec"], "properties": properties,
    }});
    let mut names = json!({
        "kind": definition.kind,
        "listKind": format!("{}List", definition.kind),
        "plural": definition.plural,
        "singular": definition.singular,
    });
    if !definition.short.is_empty() {
        names["shortNames"] = json!(definition.short);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{GROUP}", definition.plural)},
        "spec": {
            "group": GROUP,
            "names": names,
            "scope": if definition.namespaced { "Namespaced" } else { "Cluster" },
            "versions": [version],
        },
    })
}
