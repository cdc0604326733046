//! Whose a field is: KServe's or a PodSpec's. And the one form of the many in which a model may be written.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::inference_service::{LEGACY_FORMATS, Model};
use crate::plan::fault::Fault;
use crate::tree;

/// Fields of a component that are KServe's, not a PodSpec's.
pub(super) const EXTENSIONS: [&str; 18] = [
    "name",
    "model",
    "minReplicas",
    "maxReplicas",
    "scaleTarget",
    "scaleMetric",
    "scaleMetricType",
    "autoScaling",
    "containerConcurrency",
    "timeout",
    "canaryTrafficPercent",
    "logger",
    "batcher",
    "labels",
    "annotations",
    "deploymentStrategy",
    "workerSpec",
    "storageUris",
];

/// Fields of a model that are KServe's, not a container's.
pub(super) const MODEL_FIELDS: [&str; 9] = [
    "modelFormat",
    "runtime",
    "runtimeVersion",
    "protocolVersion",
    "storageUri",
    "storageUris",
    "storage",
    "confidential",
    "name",
];

/// Fields of a runtime that are KServe's, not a PodSpec's.
pub(super) const RUNTIME_FIELDS: [&str; 13] = [
    "supportedModelFormats",
    "multiModel",
    "disabled",
    "protocolVersions",
    "workerSpec",
    "grpcEndpoint",
    "grpcDataEndpoint",
    "httpDataEndpoint",
    "builtInAdapter",
    "replicas",
    "storageHelper",
    "annotations",
    "labels",
];

/// Fields that say how many pods there are and who gets requests, not what the pods are.
pub(super) fn scaling_fields() -> [&'static str; 10] {
    [
        "minReplicas",
        "maxReplicas",
        "scaleTarget",
        "scaleMetric",
        "scaleMetricType",
        "autoScaling",
        "timeout",
        "canaryTrafficPercent",
        "deploymentStrategy",
        "name",
    ]
}

/// The component with its model under `model`, whichever of the forms it was written in.
///
/// # Errors
/// If it is written in several.
pub fn normalized(component: &Value) -> Result<Value, Fault> {
    let legacy: Vec<&str> = LEGACY_FORMATS.into_iter().filter(|format| component.get(format).is_some()).collect();
    let ways = legacy.len() + usize::from(component.get("model").is_some());
    if ways > 1 {
        let mut given = legacy;
        given.extend(component.get("model").map(|_| "model"));
        return Err(Fault::invalid(format!("give one of {}, not all of them", given.join(", "))));
    }
    let Some(format) = legacy.first() else { return Ok(component.clone()) };
    let mut normal = without(component, &[format]);
    let mut model = component[*format].clone();
    tree::object_mut(&mut model, "modelFormat").entry("name").or_insert_with(|| json!(format));
    normal["model"] = model;
    Ok(normal)
}

/// The model of a normalized component, where it has one.
pub(super) fn model(component: &Value) -> Result<Option<Model>, Fault> {
    let Some(written) = component.get("model").filter(|model| !model.is_null()) else { return Ok(None) };
    let model = Model::deserialize(written).map_err(|error| Fault::invalid(format!("model: {error}")))?;
    Ok(Some(model))
}

/// An object but for some fields.
pub(super) fn without(object: &Value, fields: &[&str]) -> Value {
    let kept = object.as_object().into_iter().flatten().filter(|(field, _)| !fields.contains(&field.as_str()));
    Value::Object(kept.map(|(field, value)| (field.clone(), value.clone())).collect())
}
