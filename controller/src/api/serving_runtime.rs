//! ServingRuntime and ClusterServingRuntime `v1alpha1`: a container that serves models of some formats.

use schemars::JsonSchema;
use serde::Deserialize;

use super::inference_service::Open;

/// What a runtime serves, and the pod that does it. The fields of a PodSpec stand beside these.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Spec {
    /// The formats that it serves.
    #[serde(default)]
    pub supported_model_formats: Vec<SupportedFormat>,
    /// Serves several models that come and go; not chosen for an InferenceService.
    pub multi_model: Option<bool>,
    /// Not to be used.
    pub disabled: Option<bool>,
    /// The protocols that it speaks.
    pub protocol_versions: Option<Vec<String>>,
    /// The pod's containers; `kserve-container` is the one that serves.
    pub containers: Vec<Open>,
}

/// A format that a runtime serves.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct SupportedFormat {
    /// onnx, sklearn and so on.
    pub name: String,
    /// The format's version; any where it is missing.
    pub version: Option<String>,
    /// May be chosen for a model that names no runtime.
    pub auto_select: Option<bool>,
    /// Goes before others with a lower one.
    #[schemars(range(min = 1))]
    pub priority: Option<i32>,
}
