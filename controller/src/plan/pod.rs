//! The pods of a component: the runtime's pod, the user's PodSpec laid over it, and what we add where neither says anything.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::storage::{self, Credentials, MOUNT, Part};
use super::{Context, extension, placeholder, runtime};
use crate::api::inference_service::{LEGACY_FORMATS, Model};
use crate::api::{CONTAINER, keys};
use crate::tree;

/// Seconds for which a pod that is to end still serves, while everybody who sends to it learns of that.
const DRAIN_DELAY: i64 = 5;
/// Seconds between the end of the drain and the kubelet's SIGKILL.
const DRAIN_RESERVE: i64 = 5;
/// Seconds that a pod may take to end where the user states none: the drain's delay, half of the Gateway's 60 s, and the reserve.
const GRACE: i64 = 40;

/// Fields of a component that are KServe's, not a PodSpec's.
const EXTENSIONS: [&str; 18] = [
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
const MODEL_FIELDS: [&str; 9] = [
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
const RUNTIME_FIELDS: [&str; 13] = [
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
    let model = model(component)?;
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
    let parts = parts(cx, model.as_ref(), &pod)?;
    place_model(cx, &mut pod, server, &parts, &credentials, model.is_some())?;
    let logging = extension::server_arguments(cx, kind, component, server && model.is_some())?;
    tree::list_mut(&mut pod["containers"][0], "args").extend(logging);
    if kind != "predictor" {
        extension::add_predictor(cx, component, &mut pod["containers"][0]);
    }
    add_defaults(cx, &mut pod, kind, server, model.as_ref());
    let metadata = metadata(cx, kind, component, chosen.as_ref().map(|chosen| chosen.object));
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

/// Fields that say how many pods there are and who gets requests, not what the pods are.
fn scaling_fields() -> [&'static str; 10] {
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

fn model(component: &Value) -> Result<Option<Model>, Fault> {
    let Some(written) = component.get("model").filter(|model| !model.is_null()) else { return Ok(None) };
    let model = Model::deserialize(written).map_err(|error| Fault::invalid(format!("model: {error}")))?;
    Ok(Some(model))
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

/// The places of the model's parts; containers in place of a model name theirs by `STORAGE_URI`.
fn parts(cx: &Context<'_>, model: Option<&Model>, pod: &Value) -> Result<Vec<Part>, Fault> {
    if let Some(model) = model {
        return storage::parts(model, cx.service, cx.vault);
    }
    let env = tree::list(&pod["containers"][0], &["env"]);
    let stated = env.iter().find(|variable| variable["name"] == "STORAGE_URI");
    let uri = stated.and_then(|variable| tree::text(variable, &["value"]));
    let model = Model { storage_uri: uri.map(str::to_owned), ..Model::default() };
    storage::parts(&model, cx.service, cx.vault)
}

/// Claims are mounted; the server fetches the rest itself, or the storage initializer does for servers that cannot.
fn place_model(
    cx: &Context<'_>,
    pod: &mut Value,
    server: bool,
    parts: &[Part],
    credentials: &Credentials,
    has_model: bool,
) -> Result<(), Fault> {
    let (claims, remote): (Vec<&Part>, Vec<&Part>) = parts.iter().partition(|part| part.uri.starts_with("pvc://"));
    for (index, part) in claims.iter().enumerate() {
        mount_claim(cx, pod, index, part)?;
    }
    if server && has_model {
        let arguments = match (claims.first(), remote.as_slice()) {
            (None, []) => Vec::new(),
            (Some(claim), []) => vec![json!(format!("--model-dir={}", claim.mount))],
            (None, [part]) => {
                add_cache(cx, pod, credentials);
                vec![json!(format!("--storage-uri={}", part.uri)), json!("--cache-dir=/var/cache/tensorgate")]
            }
            _ => {
                return Err(Fault::invalid(
                    "storageUris: this runtime serves a model from one place; give one storageUri",
                ));
            }
        };
        tree::list_mut(&mut pod["containers"][0], "args").extend(arguments);
        return Ok(());
    }
    if remote.is_empty() {
        return Ok(());
    }
    let Some(image) = &cx.settings.storage_initializer else {
        let message = format!(
            "the runtime does not fetch {} itself; use one with the annotation {}: server, a pvc:// claim, or start the \
             controller with --storage-initializer-image",
            remote[0].uri,
            keys::FETCH
        );
        return Err(Fault::invalid(message));
    };
    add_initializer(pod, image, &remote, credentials);
    Ok(())
}

fn mount_claim(cx: &Context<'_>, pod: &mut Value, index: usize, part: &Part) -> Result<(), Fault> {
    let (claim, path) = part.uri["pvc://".len()..].split_once('/').unwrap_or((&part.uri["pvc://".len()..], ""));
    if path.split('/').any(|step| step == "..") {
        return Err(Fault::invalid(format!("storageUri '{}' leaves the claim", part.uri)));
    }
    let volume = if index == 0 { "kserve-pvc-source".to_owned() } else { format!("kserve-pvc-source-{index}") };
    let read_only = tree::annotation(cx.service, keys::READ_ONLY) != Some("false");
    tree::add_missing(
        pod,
        "volumes",
        "name",
        json!({"name": volume, "persistentVolumeClaim": {"claimName": claim, "readOnly": false}}),
    );
    let mut mount = json!({"name": volume, "mountPath": part.mount, "readOnly": read_only});
    if !path.is_empty() {
        mount["subPath"] = json!(path.trim_end_matches('/'));
    }
    tree::add_missing(&mut pod["containers"][0], "volumeMounts", "mountPath", mount);
    Ok(())
}

/// Where the server keeps what it fetched: on the node if the cluster's owner allows that, else as long as the pod lives.
fn add_cache(cx: &Context<'_>, pod: &mut Value, credentials: &Credentials) {
    let volume = match &cx.settings.node_cache {
        Some(path) => json!({"name": "model-cache", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}),
        None => json!({"name": "model-cache", "emptyDir": {}}),
    };
    tree::add_missing(pod, "volumes", "name", volume);
    for volume in &credentials.volumes {
        tree::add_missing(pod, "volumes", "name", volume.clone());
    }
    let container = &mut pod["containers"][0];
    let mount = json!({"name": "model-cache", "mountPath": "/var/cache/tensorgate"});
    tree::add_missing(container, "volumeMounts", "mountPath", mount);
    add_credentials(container, credentials);
}

fn add_credentials(container: &mut Value, credentials: &Credentials) {
    for mount in &credentials.mounts {
        tree::add_missing(container, "volumeMounts", "mountPath", mount.clone());
    }
    for variable in &credentials.env {
        tree::add_missing(container, "env", "name", variable.clone());
    }
}

/// KServe's own downloader, before the containers start.
fn add_initializer(pod: &mut Value, image: &str, remote: &[&Part], credentials: &Credentials) {
    let arguments: Vec<&str> = remote.iter().flat_map(|part| [part.uri.as_str(), part.mount.as_str()]).collect();
    let mount = |part: &&Part, read_only: bool| {
        let mut mount = json!({"name": "kserve-provision-location", "mountPath": part.mount});
        if read_only {
            mount["readOnly"] = json!(true);
        }
        mount
    };
    let mut initializer = json!({
        "name": "storage-initializer", "image": image, "args": arguments,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        "volumeMounts": remote.iter().map(|part| mount(part, false)).collect::<Vec<_>>(),
    });
    add_credentials(&mut initializer, credentials);
    tree::add_missing(pod, "initContainers", "name", initializer);
    tree::add_missing(pod, "volumes", "name", json!({"name": "kserve-provision-location", "emptyDir": {}}));
    for volume in &credentials.volumes {
        tree::add_missing(pod, "volumes", "name", volume.clone());
    }
    let container = &mut pod["containers"][0];
    for part in remote {
        tree::add_missing(container, "volumeMounts", "mountPath", mount(part, true));
    }
    if let Some(stated) = tree::list_mut(container, "env").iter_mut().find(|own| own["name"] == "STORAGE_URI") {
        *stated = json!({"name": "STORAGE_URI", "value": MOUNT});
    }
}

/// Readiness of the model, an end that loses no request, and messages of crashes: where the user and the runtime say nothing.
fn add_defaults(cx: &Context<'_>, pod: &mut Value, kind: &str, server: bool, model: Option<&Model>) {
    let grace = tree::number(pod, &["terminationGracePeriodSeconds"]).unwrap_or(GRACE);
    pod["terminationGracePeriodSeconds"] = json!(grace);
    let reserve = DRAIN_RESERVE.min(grace / 4);
    let delay = DRAIN_DELAY.min(grace / 4);
    let container = &mut pod["containers"][0];
    if server {
        let drain = grace - delay - reserve;
        for (variable, seconds) in [("TENSORGATE_DRAIN_DELAY", delay), ("TENSORGATE_DRAIN_TIMEOUT", drain)] {
            tree::add_missing(container, "env", "name", json!({"name": variable, "value": format!("{seconds}s")}));
        }
    } else if tree::at(container, &["lifecycle", "preStop"]).is_null() && delay > 0 {
        tree::object_mut(container, "lifecycle").insert("preStop".into(), json!({"sleep": {"seconds": delay}}));
    }
    if container.get("terminationMessagePolicy").is_none() {
        container["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    }
    if let Some(model) = model.filter(|_| kind == "predictor" && container.get("readinessProbe").is_none()) {
        container["readinessProbe"] = readiness(tree::name(cx.service), container, model);
    }
}

/// Whether the model itself can answer; an open port says nothing of that.
fn readiness(service: &str, container: &Value, model: &Model) -> Value {
    let port = tree::number(&container["ports"][0], &["containerPort"]).unwrap_or(8080);
    let check = match model.protocol_version.as_deref() {
        Some("v1") => json!({"httpGet": {"path": format!("/v1/models/{service}"), "port": port}}),
        Some("grpc-v1" | "grpc-v2") => json!({"grpc": {"port": port}}),
        _ => json!({"httpGet": {"path": format!("/v2/models/{service}/ready"), "port": port}}),
    };
    let mut probe = check;
    probe["periodSeconds"] = json!(5);
    probe["timeoutSeconds"] = json!(2);
    probe["failureThreshold"] = json!(3);
    probe
}

/// Labels and annotations of the pods: the service's, the runtime's and the component's, the last going before.
fn metadata(cx: &Context<'_>, kind: &str, component: &Value, runtime: Option<&Value>) -> Value {
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

/// Labels and annotations of a service that its children get: not those that speak to a controller or to the tool that made it.
pub fn passed_on(all: &Value) -> Map<String, Value> {
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

fn without(object: &Value, fields: &[&str]) -> Value {
    let kept = object.as_object().into_iter().flatten().filter(|(field, _)| !fields.contains(&field.as_str()));
    Value::Object(kept.map(|(field, value)| (field.clone(), value.clone())).collect())
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
