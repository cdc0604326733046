//! Which serving runtime serves a model: the one that is named, else the best that says it may be chosen.

use serde::Deserialize;
use serde_json::Value;

use super::fault::{Fault, Reason};
use crate::api::inference_service::Model;
use crate::api::serving_runtime::Spec;
use crate::tree;

/// A runtime that serves the model.
#[derive(Debug, Clone)]
pub struct Chosen<'a> {
    /// The whole object.
    pub object: &'a Value,
    /// Whether it is one of the cluster, not of the namespace.
    pub cluster: bool,
}

/// The runtime for `model`, out of those of its namespace and those of the cluster.
///
/// # Errors
/// `RuntimeNotRecognized`, `RuntimeDisabled` or `NoSupportingRuntime`, with what there is instead.
pub fn choose<'a>(model: &Model, of_namespace: &[&'a Value], of_cluster: &[&'a Value]) -> Result<Chosen<'a>, Fault> {
    let all = || {
        let namespaced = of_namespace.iter().map(|object| Chosen { object, cluster: false });
        namespaced.chain(of_cluster.iter().map(|object| Chosen { object, cluster: true }))
    };
    match model.runtime.as_deref().filter(|name| !name.is_empty()) {
        Some(wanted) => named(model, wanted, all().collect()),
        None => best(model, all().collect()),
    }
}

fn named<'a>(model: &Model, wanted: &str, all: Vec<Chosen<'a>>) -> Result<Chosen<'a>, Fault> {
    let found = all.iter().find(|runtime| tree::name(runtime.object) == wanted).cloned().ok_or_else(|| Fault {
        reason: Reason::RuntimeNotRecognized,
        message: format!(
            "there is no ServingRuntime or ClusterServingRuntime '{wanted}'; there are: {}",
            names(&all, |_| true)
        ),
    })?;
    let spec = spec(found.object)?;
    if spec.disabled == Some(true) {
        let message = format!("the runtime '{wanted}' is disabled; name another, or none to have one chosen");
        return Err(Fault { reason: Reason::RuntimeDisabled, message });
    }
    let format = &model.model_format;
    if !format.name.is_empty() && !spec.supported_model_formats.iter().any(|own| own.name == format.name) {
        let own: Vec<&str> = spec.supported_model_formats.iter().map(|own| own.name.as_str()).collect();
        let message =
            format!("the runtime '{wanted}' does not serve the format '{}', only {}", format.name, own.join(", "));
        return Err(Fault { reason: Reason::NoSupportingRuntime, message });
    }
    if !speaks(&spec, model) {
        let message = format!(
            "the runtime '{wanted}' does not speak '{}', only {}",
            model.protocol_version.as_deref().unwrap_or(""),
            spec.protocol_versions.unwrap_or_default().join(", ")
        );
        return Err(Fault { reason: Reason::NoSupportingRuntime, message });
    }
    Ok(found)
}

fn best<'a>(model: &Model, all: Vec<Chosen<'a>>) -> Result<Chosen<'a>, Fault> {
    let format = &model.model_format;
    if format.name.is_empty() {
        return Err(Fault::invalid("predictor.model.modelFormat.name is missing: onnx, for example"));
    }
    // The namespace's own first, whatever the cluster's priorities (KServe's `GetSupportingRuntimes`), then the higher priority, then by
    // name, so that the choice never flips.
    let rank = |runtime: &Chosen<'a>| {
        let priority = priority(runtime.object, model)?;
        Some((runtime.cluster, -priority, tree::name(runtime.object).to_owned()))
    };
    let mut fitting: Vec<_> = all.iter().filter_map(|runtime| Some((rank(runtime)?, runtime))).collect();
    fitting.sort_by(|(left, _), (right, _)| left.cmp(right));
    fitting.into_iter().next().map(|(_, runtime)| runtime.clone()).ok_or_else(|| {
        let version = format.version.as_ref().map(|version| format!(" version {version}")).unwrap_or_default();
        let protocol = model.protocol_version.as_ref().map(|protocol| format!(" over {protocol}")).unwrap_or_default();
        let serving = names(&all, |spec| spec.supported_model_formats.iter().any(|own| own.name == format.name));
        let those = match serving.as_str() {
            "none" => "no runtime names the format".to_owned(),
            _ => format!("these name the format, but are disabled, of another version or protocol, or not to be chosen: {serving}"),
        };
        let message = format!("no runtime serves the format '{}'{version}{protocol}; {those}", format.name);
        Fault { reason: Reason::NoSupportingRuntime, message }
    })
}

/// The priority with which a runtime may be chosen for a model; none where it may not.
fn priority(runtime: &Value, model: &Model) -> Option<i32> {
    let spec = spec(runtime).ok()?;
    if spec.disabled == Some(true) || spec.multi_model == Some(true) || !speaks(&spec, model) {
        return None;
    }
    let fits = |own: &&crate::api::serving_runtime::SupportedFormat| {
        own.auto_select == Some(true)
            && own.name == model.model_format.name
            && (model.model_format.version.is_none()
                || own.version.is_none()
                || own.version == model.model_format.version)
    };
    spec.supported_model_formats.iter().filter(fits).map(|own| own.priority.unwrap_or(0)).max()
}

fn speaks(spec: &Spec, model: &Model) -> bool {
    match (&spec.protocol_versions, &model.protocol_version) {
        (Some(own), Some(wanted)) => own.is_empty() || own.contains(wanted),
        _ => true,
    }
}

fn spec(runtime: &Value) -> Result<Spec, Fault> {
    Spec::deserialize(tree::at(runtime, &["spec"]))
        .map_err(|error| Fault::invalid(format!("the runtime '{}' cannot be read: {error}", tree::name(runtime))))
}

fn names(all: &[Chosen<'_>], keep: impl Fn(&Spec) -> bool) -> String {
    let mut names: Vec<&str> = all
        .iter()
        .filter(|runtime| spec(runtime.object).is_ok_and(|spec| keep(&spec)))
        .map(|runtime| tree::name(runtime.object))
        .collect();
    names.sort_unstable();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
