//! Labels and annotations of pods, and what of a service's own its children get.

use serde_json::{Map, Value, json};

use crate::api::keys;
use crate::plan::Context;
use crate::tree;

/// Labels and annotations of the pods: the service's, the runtime's and the component's, the last going before.
pub(super) fn metadata(cx: &Context<'_>, kind: &str, component: &Value, runtime: Option<&Value>) -> Value {
    let mut labels = passed_on(tree::at(cx.service, &["metadata", "labels"]));
    let mut annotations = passed_on(tree::at(cx.service, &["metadata", "annotations"]));
    if let Some(runtime) = runtime {
        extend(&mut labels, tree::at(runtime, &["spec", "labels"]));
        let stated = tree::at(runtime, &["spec", "annotations"]);
        extend(&mut annotations, stated);
        if tree::annotation(cx.service, keys::SCRAPING) == Some("true") {
            let stated = |key: &str, default: &str| json!(tree::text(stated, &[key]).unwrap_or(default));
            annotations.insert("prometheus.io/scrape".into(), json!("true"));
            annotations.insert("prometheus.io/port".into(), stated("prometheus.kserve.io/port", "8080"));
            annotations.insert("prometheus.io/path".into(), stated("prometheus.kserve.io/path", "/metrics"));
        }
    }
    extend(&mut labels, &component["labels"]);
    extend(&mut annotations, &component["annotations"]);
    labels.insert(keys::SERVICE.into(), json!(tree::name(cx.service)));
    labels.insert(keys::COMPONENT.into(), json!(kind));
    json!({"labels": labels, "annotations": annotations})
}

fn extend(all: &mut Map<String, Value>, more: &Value) {
    all.extend(more.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
}

/// The metadata of a child by this name, with what it gets of its service's.
pub fn child_metadata(cx: &Context<'_>, name: &str) -> Value {
    let own = |field| passed_on(tree::at(cx.service, &["metadata", field]));
    json!({"name": name, "labels": own("labels"), "annotations": own("annotations")})
}

/// Labels and annotations of a service that its children get: not those that speak to a controller or to the tool that made it.
fn passed_on(all: &Value) -> Map<String, Value> {
    let private = [
        "serving.kserve.io/",
        "internal.serving.kserve.io/",
        "networking.kserve.io/",
        "storage.kserve.io/",
        "tensorgate.dev/",
        "kubectl.kubernetes.io/",
        "argocd.argoproj.io/",
        "kustomize.toolkit.fluxcd.io/",
        "meta.helm.sh/",
        "autoscaling.knative.dev/",
    ];
    let keep = |key: &&String| !private.iter().any(|prefix| key.starts_with(prefix));
    let fields = all.as_object().into_iter().flatten();
    fields.filter(|(key, _)| keep(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}
