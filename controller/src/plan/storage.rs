//! Where a model's files come from, and the credentials for it, by KServe's conventions: a claim is mounted, everything else is
//! fetched by the server itself, or by KServe's storage initializer for runtimes that cannot.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::fault::Fault;
use crate::api::inference_service::{Model, Storage};
use crate::api::keys;
use crate::tree;

/// Where models are mounted, as every runtime of KServe expects.
pub const MOUNT: &str = "/mnt/models";
/// The Secret with the entries that `storage.key` names.
pub const STORAGE_CONFIG: &str = "storage-config";

/// Where the parts of a model are, and where each belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// `s3://bucket/path`, `pvc://claim/path` and so on.
    pub uri: String,
    /// The folder that it belongs to.
    pub mount: String,
}

/// What the container that fetches needs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Credentials {
    /// Environment variables.
    pub env: Vec<Value>,
    /// Volumes of the pod.
    pub volumes: Vec<Value>,
    /// Mounts of the container.
    pub mounts: Vec<Value>,
}

/// What is known about credentials in the namespace.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vault<'a> {
    /// The pod's service account, if it exists.
    pub account: Option<&'a Value>,
    /// Secrets, those of [`secrets_wanted`] that exist.
    pub secrets: &'a [Value],
}

impl Vault<'_> {
    fn secret(&self, name: &str) -> Option<&Value> {
        self.secrets.iter().find(|secret| tree::name(secret) == name)
    }
}

/// The names of the Secrets that an InferenceService may need, for whoever reads them: the annotation's goes before the account's.
pub fn secrets_wanted(service: &Value, account: Option<&Value>) -> Vec<String> {
    let annotated = tree::annotation(service, keys::STORAGE_SECRET);
    let mut names = vec![annotated.unwrap_or(STORAGE_CONFIG).to_owned()];
    if let (None, Some(account)) = (annotated, account) {
        names.extend(tree::list(account, &["secrets"]).iter().map(|own| own["name"].as_str().unwrap_or("").to_owned()));
    }
    names.retain(|name| !name.is_empty());
    names.sort();
    names.dedup();
    names
}

/// Where the model's files are; nothing where the image has them.
///
/// # Errors
/// If the model states several places, or one that cannot be resolved.
pub fn parts(model: &Model, service: &Value, vault: Vault<'_>) -> Result<Vec<Part>, Fault> {
    let several = model.storage_uris.as_deref().unwrap_or(&[]);
    let stated = [model.storage_uri.is_some(), !several.is_empty(), model.storage.is_some()];
    if stated.iter().filter(|given| **given).count() > 1 {
        return Err(Fault::invalid("give one of storageUri, storageUris and storage"));
    }
    let found = if let Some(uri) = &model.storage_uri {
        vec![Part { uri: uri.clone(), mount: MOUNT.into() }]
    } else if let Some(storage) = &model.storage {
        vec![Part { uri: resolve(storage, service, vault)?, mount: MOUNT.into() }]
    } else {
        let part = |part: &crate::api::inference_service::StorageUri| Part {
            uri: part.uri.clone(),
            mount: part.mount_path.clone().unwrap_or_else(|| MOUNT.into()),
        };
        several.iter().map(part).collect()
    };
    found.iter().try_for_each(|part| check(&part.uri))?;
    Ok(found)
}

fn check(uri: &str) -> Result<(), Fault> {
    let known = ["s3", "gs", "hf", "http", "https", "pvc", "file", "az", "abfs", "hdfs", "webhdfs"];
    let Some((scheme, rest)) = uri.split_once("://") else {
        return Err(Fault::invalid(format!("storageUri '{uri}' has no scheme; s3://bucket/path, for example")));
    };
    if !known.contains(&scheme) {
        return Err(Fault::invalid(format!("storageUri '{uri}': '{scheme}' is not one of {}", known.join(", "))));
    }
    if rest.trim_matches('/').is_empty() {
        return Err(Fault::invalid(format!("storageUri '{uri}' names no place; {scheme}://name/path would")));
    }
    Ok(())
}

/// `<type>://<bucket>/<path>` from the entry of the Secret and the parameters, which go before it.
fn resolve(storage: &Storage, service: &Value, vault: Vault<'_>) -> Result<String, Fault> {
    let secret_name = tree::annotation(service, keys::STORAGE_SECRET).unwrap_or(STORAGE_CONFIG);
    let path = storage.path.as_deref().unwrap_or("").trim_start_matches('/');
    let parameter = |name: &str| storage.parameters.as_ref().and_then(|all| all.get(name)).cloned();
    let entry = match entry_key(storage, vault.secret(secret_name)) {
        Some(key) => {
            let text = vault.secret(secret_name).and_then(|secret| decoded(secret, &key)).ok_or_else(|| {
                Fault::invalid(format!("storage.key '{key}' is not an entry of the Secret '{secret_name}'"))
            })?;
            serde_json::from_str::<Map<String, Value>>(&text).map_err(|error| {
                Fault::invalid(format!("entry '{key}' of the Secret '{secret_name}' is no JSON: {error}"))
            })?
        }
        None => Map::new(),
    };
    let field = |name: &str| parameter(name).or_else(|| entry.get(name)?.as_str().map(str::to_owned));
    let kind = field("type").ok_or_else(|| {
        Fault::invalid(format!(
            "storage: the type is missing; state parameters.type, or a key of the Secret '{secret_name}'"
        ))
    })?;
    match kind.as_str() {
        "hdfs" | "webhdfs" => Ok(format!("{kind}://{path}")),
        "s3" => {
            let bucket = field("bucket").ok_or_else(|| Fault::invalid("storage: parameters.bucket is missing"))?;
            Ok(format!("s3://{bucket}/{path}"))
        }
        _ => Err(Fault::invalid(format!("storage: the type '{kind}' is not one of s3, hdfs, webhdfs"))),
    }
}

/// The entry of the Secret: the one that is named, else `default_<type>` or `default` where there is one.
fn entry_key(storage: &Storage, secret: Option<&Value>) -> Option<String> {
    if let Some(key) = storage.key.as_ref().filter(|key| !key.is_empty()) {
        return Some(key.clone());
    }
    let fallback = match storage.parameters.as_ref().and_then(|all| all.get("type")) {
        Some(kind) => format!("default_{kind}"),
        None => "default".into(),
    };
    secret.filter(|secret| has(secret, &fallback)).map(|_| fallback)
}

/// The credentials that whoever fetches the model needs.
pub fn credentials(model: Option<&Model>, service: &Value, vault: Vault<'_>) -> Credentials {
    let mut found = Credentials::default();
    if let Some(storage) = model.and_then(|model| model.storage.as_ref()) {
        let secret_name = tree::annotation(service, keys::STORAGE_SECRET).unwrap_or(STORAGE_CONFIG);
        if let Some(key) = entry_key(storage, vault.secret(secret_name)) {
            found.env.push(from_secret("STORAGE_CONFIG", secret_name, &key));
        }
        if let Some(parameters) = storage.parameters.as_ref().filter(|all| !all.is_empty()) {
            found.env.push(json!({"name": "STORAGE_OVERRIDE_CONFIG", "value": json!(parameters).to_string()}));
        }
        return found;
    }
    let secrets: Vec<&Value> = match tree::annotation(service, keys::STORAGE_SECRET) {
        Some(name) => vault.secret(name).into_iter().collect(),
        None => {
            let names = vault.account.map_or(&[][..], |account| tree::list(account, &["secrets"]));
            names.iter().filter_map(|own| vault.secret(own["name"].as_str()?)).collect()
        }
    };
    if let Some(account) = vault.account.filter(|account| tree::annotation(account, keys::IRSA).is_some()) {
        s3_settings(account, &mut found.env);
    }
    for secret in secrets {
        add_secret(secret, &mut found);
    }
    found
}

/// One Secret, told by the entries that it has.
fn add_secret(secret: &Value, found: &mut Credentials) {
    let name = tree::name(secret);
    if has(secret, "awsSecretAccessKey") || has(secret, "AWS_SECRET_ACCESS_KEY") {
        let camel = has(secret, "awsSecretAccessKey");
        let (id, key) = if camel {
            ("awsAccessKeyID", "awsSecretAccessKey")
        } else {
            ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        };
        set(&mut found.env, from_secret("AWS_ACCESS_KEY_ID", name, id));
        set(&mut found.env, from_secret("AWS_SECRET_ACCESS_KEY", name, key));
        s3_settings(secret, &mut found.env);
    } else if has(secret, "gcloud-application-credentials.json") {
        found.volumes.push(json!({"name": "user-gcp-sa", "secret": {"secretName": name}}));
        found.mounts.push(json!({"name": "user-gcp-sa", "mountPath": "/var/secrets/", "readOnly": true}));
        let file = "/var/secrets/gcloud-application-credentials.json";
        set(&mut found.env, json!({"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": file}));
    } else if ["AZ_CLIENT_ID", "AZURE_CLIENT_ID", "AZURE_ACCESS_TOKEN", "AZURE_STORAGE_ACCESS_KEY"]
        .iter()
        .any(|key| has(secret, key))
    {
        azure(secret, &mut found.env);
    } else if has(secret, "https-host") && has(secret, "headers") {
        let host = decoded(secret, "https-host").unwrap_or_default();
        set(&mut found.env, from_secret(&format!("{host}-headers"), name, "headers"));
    } else if has(secret, "HDFS_NAMENODE") {
        found.volumes.push(json!({"name": "hdfs-secrets", "secret": {"secretName": name}}));
        found
            .mounts
            .push(json!({"name": "hdfs-secrets", "mountPath": "/var/secrets/kserve-hdfscreds", "readOnly": true}));
    } else if has(secret, "HF_TOKEN") {
        set(&mut found.env, from_secret("HF_TOKEN", name, "HF_TOKEN"));
    }
}

fn azure(secret: &Value, env: &mut Vec<Value>) {
    let keys = [
        ("AZURE_SUBSCRIPTION_ID", "AZ_SUBSCRIPTION_ID"),
        ("AZURE_TENANT_ID", "AZ_TENANT_ID"),
        ("AZURE_CLIENT_ID", "AZ_CLIENT_ID"),
        ("AZURE_CLIENT_SECRET", "AZ_CLIENT_SECRET"),
        ("AZURE_STORAGE_ACCESS_KEY", ""),
        ("AZURE_ACCESS_TOKEN", ""),
        ("AZURE_ACCESS_EXPIRES_ON_SECONDS", ""),
        ("AZURE_ACCOUNT_NAME", ""),
        ("AZURE_SERVICE_URL", ""),
    ];
    for (variable, legacy) in keys {
        if let Some(key) = [legacy, variable].into_iter().find(|key| has(secret, key)) {
            set(env, from_secret(variable, tree::name(secret), key));
        }
    }
}

/// What the annotations, or else the entries, of a Secret or service account say about S3.
fn s3_settings(source: &Value, env: &mut Vec<Value>) {
    let value = |annotation: &str, entry: &str| {
        let annotated = tree::annotation(source, &format!("serving.kserve.io/{annotation}")).map(str::to_owned);
        annotated.or_else(|| decoded(source, entry)).filter(|value| !value.is_empty())
    };
    if let Some(endpoint) = value("s3-endpoint", "S3_ENDPOINT") {
        let use_https = value("s3-usehttps", "S3_USE_HTTPS");
        let (scheme, bare) = match endpoint.split_once("://") {
            Some((scheme, bare)) => (scheme.to_owned(), bare.to_owned()),
            None => (if use_https.as_deref() == Some("0") { "http" } else { "https" }.to_owned(), endpoint.clone()),
        };
        if let Some(use_https) = use_https {
            set(env, json!({"name": "S3_USE_HTTPS", "value": use_https}));
        }
        set(env, json!({"name": "S3_ENDPOINT", "value": bare}));
        set(env, json!({"name": "AWS_ENDPOINT_URL", "value": format!("{scheme}://{bare}")}));
    }
    let others = [
        ("s3-verifyssl", "S3_VERIFY_SSL", "S3_VERIFY_SSL"),
        ("s3-useanoncredential", "awsAnonymousCredential", "awsAnonymousCredential"),
        ("s3-region", "AWS_DEFAULT_REGION", "AWS_DEFAULT_REGION"),
        // Without the second L: KServe's own spelling.
        ("s3-usevirtualbucket", "S3_USER_VIRTUAL_BUCKET", "S3_USER_VIRTUAL_BUCKET"),
        ("s3-useaccelerate", "S3_USE_ACCELERATE", "S3_USE_ACCELERATE"),
        ("s3-cabundle", "AWS_CA_BUNDLE", "AWS_CA_BUNDLE"),
        ("s3-cabundle-configmap", "AWS_CA_BUNDLE_CONFIGMAP", "AWS_CA_BUNDLE_CONFIGMAP"),
    ];
    for (annotation, entry, variable) in others {
        if let Some(value) = value(annotation, entry) {
            set(env, json!({"name": variable, "value": value}));
        }
    }
}

fn from_secret(variable: &str, secret: &str, key: &str) -> Value {
    json!({"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
}

fn set(env: &mut Vec<Value>, variable: Value) {
    env.retain(|other| other["name"] != variable["name"]);
    env.push(variable);
}

fn has(secret: &Value, key: &str) -> bool {
    !key.is_empty() && (secret["data"].get(key).is_some() || secret["stringData"].get(key).is_some())
}

fn decoded(secret: &Value, key: &str) -> Option<String> {
    if let Some(text) = tree::text(secret, &["stringData", key]) {
        return Some(text.to_owned());
    }
    let bytes = STANDARD.decode(tree::text(secret, &["data", key])?).ok()?;
    String::from_utf8(bytes).ok()
}
