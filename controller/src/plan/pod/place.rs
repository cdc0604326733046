//! Where the model's files come from: claims that are mounted, a server that fetches, or KServe's downloader before it.

use serde_json::{Value, json};

use crate::api::inference_service::Model;
use crate::api::keys;
use crate::plan::Context;
use crate::plan::fault::Fault;
use crate::plan::storage::{self, Credentials, MOUNT, Part};
use crate::tree;

/// The places of the model's parts; containers in place of a model name theirs by `STORAGE_URI`.
pub(super) fn parts(cx: &Context<'_>, model: Option<&Model>, pod: &Value) -> Result<Vec<Part>, Fault> {
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
pub(super) fn place_model(
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
