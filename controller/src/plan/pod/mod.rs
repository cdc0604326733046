//! The pods of a component: the runtime's pod, the user's PodSpec laid over it, and what we add where neither says anything.

mod defaults;
mod fields;
mod metadata;
mod place;

use serde_json::{Value, json};

pub use self::fields::normalized;
use self::fields::{EXTENSIONS, MODEL_FIELDS, RUNTIME_FIELDS, scaling_fields, without};
pub use self::metadata::child_metadata;
use super::fault::Fault;
use super::{Context, extension, placeholder, runtime, storage};
use crate::api::inference_service::Model;
use crate::api::{CONTAINER, keys};
use crate::tree;

/// A component's pods, and what they were made from.
pub struct Built<'a> {
    /// A PodTemplateSpec.
    pub template: Value,
    /// All that the template follows from; a change of it is a new revision.
    pub inputs: Value,
    /// The runtime, where there is a model.
    pub runtime: Option<runtime::Chosen<'a>>,
}

/// The pods of a component whose tree in the spec is `component`.
///
/// # Errors
/// If the spec contradicts itself, no runtime fits, or the model's place cannot be resolved.
pub fn build<'a>(cx: &Context<'a>, kind: &str, component: &Value) -> Result<Built<'a>, Fault> {
    let component = &normalized(component)?;
    let model = fields::model(component)?;
    let chosen = match &model {
        Some(model) => Some(runtime::choose(model, cx.runtimes, cx.cluster_runtimes)?),
        None => None,
    };
    let mut pod = json!({});
    let mut server = false;
    if let Some(chosen) = &chosen {
        pod = without(tree::at(chosen.object, &["spec"]), &RUNTIME_FIELDS);
        server = tree::annotation(chosen.object, keys::FETCH) == Some("server");
    }
    let mut own = without(component, &EXTENSIONS);
    if let (Some(model), Some(chosen)) = (&model, &chosen) {
        lay_model_over(cx, &mut pod, &mut own, component, model, chosen)?;
    }
    tree::merge(&mut pod, &own);
    if tree::list(&pod, &["containers"]).is_empty() {
        return Err(Fault::invalid(format!("{kind} says not what to run: give model, or containers")));
    }
    put_server_first(&mut pod, kind, model.is_some());
    let credentials = storage::credentials(model.as_ref(), cx.service, cx.vault);
    let parts = place::parts(cx, model.as_ref(), &pod)?;
    place::place_model(cx, &mut pod, server, &parts, &credentials, model.is_some())?;
    let logging = extension::server_arguments(cx, kind, component, server && model.is_some())?;
    tree::list_mut(&mut pod["containers"][0], "args").extend(logging);
    if kind != "predictor" {
        extension::add_predictor(cx, component, &mut pod["containers"][0]);
    }
    defaults::add_defaults(cx, &mut pod, kind, server, model.as_ref().zip(chosen.as_ref()));
    let metadata = metadata::metadata(cx, kind, component, chosen.as_ref().map(|chosen| chosen.object));
    let mut template = json!({"metadata": metadata, "spec": pod});
    tree::prune(&mut template);
    tree::without_twins(&mut template["spec"]);
    // What the controller adds is left out: a newer controller must not restart pods.
    let inputs = json!({
        "component": without(component, &scaling_fields()),
        "runtime": chosen.as_ref().map(|chosen| tree::at(chosen.object, &["spec"])),
        "metadata": template["metadata"],
        "credentials": [credentials.env, credentials.volumes],
        "parts": parts.iter().map(|part| [&part.uri, &part.mount]).collect::<Vec<_>>(),
    });
    Ok(Built { template, inputs, runtime: chosen })
}

/// The model's container laid over the runtime's; their arguments follow one another.
fn lay_model_over(
    cx: &Context<'_>,
    pod: &mut Value,
    own: &mut Value,
    component: &Value,
    model: &Model,
    chosen: &runtime::Chosen<'_>,
) -> Result<(), Fault> {
    let mut container = without(&component["model"], &MODEL_FIELDS);
    let containers = tree::list_mut(pod, "containers");
    let Some(server) = containers.iter_mut().find(|own| own["name"] == CONTAINER) else {
        let runtime = tree::name(chosen.object);
        return Err(Fault::invalid(format!(
            "the runtime '{runtime}' has no container '{CONTAINER}'; name the serving one so"
        )));
    };
    let mut arguments: Vec<Value> = tree::list(server, &["args"]).to_vec();
    arguments.extend(tree::list(&container, &["args"]).iter().cloned());
    // A container of the same name among the component's own is a third place to change it.
    let over = tree::list_mut(own, "containers");
    if let Some(position) = over.iter().position(|own| own["name"] == CONTAINER) {
        let mut also = over.remove(position);
        if let Some(also) = also.as_object_mut().and_then(|also| also.remove("args")) {
            arguments.extend(also.as_array().cloned().unwrap_or_default());
        }
        tree::merge(&mut container, &also);
    }
    tree::merge(server, &container);
    server["args"] = Value::Array(arguments);
    if let (Some(version), Some(image)) = (&model.runtime_version, tree::text(server, &["image"])) {
        server["image"] = json!(tagged(image, version));
    }
    placeholder::fill(server, cx.service)
}

/// The image with another tag; a digest gives way to it.
fn tagged(image: &str, tag: &str) -> String {
    let bare = image.split('@').next().unwrap_or(image);
    let name_start = bare.rfind('/').map_or(0, |slash| slash + 1);
    let end = bare[name_start..].find(':').map_or(bare.len(), |colon| name_start + colon);
    format!("{}:{tag}", &bare[..end])
}

/// The serving container goes first, and by KServe's name: Services take their ports from it.
fn put_server_first(pod: &mut Value, kind: &str, has_model: bool) {
    let containers = tree::list_mut(pod, "containers");
    let position = containers.iter().position(|own| own["name"] == CONTAINER).unwrap_or(0);
    containers[..=position].rotate_right(1);
    if !has_model || kind != "predictor" {
        containers[0]["name"] = json!(CONTAINER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_replaces_tag_and_digest_but_no_port_of_a_registry() {
        assert_eq!(tagged("registry:5000/a/b:1", "2"), "registry:5000/a/b:2");
        assert_eq!(tagged("registry:5000/a/b", "2"), "registry:5000/a/b:2");
        assert_eq!(tagged("a@sha256:00", "2"), "a:2");
    }
}
