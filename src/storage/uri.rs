//! Storage URIs: what each scheme means, checked before anything is opened.

use std::fmt;
use std::path::PathBuf;

/// Where KServe mounts the claim of a `pvc://` URI in the storage initializer (`_PVC_PREFIX` of its Python storage).
const PVC_MOUNT: &str = "/mnt/pvc";

/// Longest URI that is read: S3's longest key, 1024 bytes, and a host with room to spare.
const URI_BYTES_MAX: usize = 4096;

/// What a place behind a URI is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageUri {
    /// A path on this machine: a plain one, `file:///path`, or `pvc://claim/path` where KServe mounts it.
    Local(PathBuf),
    /// A prefix, or an object, in a store that is reached over the network.
    Remote(RemoteUri),
}

/// A prefix or an object in a store.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteUri {
    /// The store.
    pub store: Store,
    /// The key, or what keys start with before a slash; without slashes at its ends, empty for all of the store.
    pub prefix: String,
    /// Signs each request of an https URL (a presigned URL, a SAS token). A secret: never shown.
    pub query: Option<String>,
    shown: String,
}

/// A store, as far as its URI tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// `s3://bucket/...`, or `s3://[http[s]://]host:port/bucket/...` as Triton writes it for other servers than Amazon's.
    S3 {
        /// The bucket.
        bucket: String,
        /// The server, where the URI names one.
        endpoint: Option<String>,
    },
    /// `gs://bucket/...`.
    Gcs {
        /// The bucket.
        bucket: String,
    },
    /// `az://container/...`, `as://account/container/...` (Triton), `abfs[s]://container@account.dfs.core.windows.net/...`,
    /// or `https://account.blob.core.windows.net/container/...` (KServe).
    Azure {
        /// The storage account, where the URI names it.
        account: Option<String>,
        /// The container.
        container: String,
    },
    /// A web server: `http[s]://host[:port]`.
    Http {
        /// Scheme, host and port.
        origin: String,
    },
}

impl StorageUri {
    /// Reads a URI, or a path.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(given: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = given.split_once("://") else { return Ok(Self::Local(given.into())) };
        if given.len() > URI_BYTES_MAX {
            return Err(format!("a URI of {} bytes is too long, at most {URI_BYTES_MAX} are read", given.len()));
        }
        if given.contains(|c: char| c.is_control()) {
            return Err(format!("'{}' has a control character in it", given.escape_debug()));
        }
        let rest = match scheme {
            "http" | "https" => rest,
            _ => plain(given, rest)?,
        };
        match scheme {
            "file" if rest.starts_with('/') => Ok(Self::Local(rest.into())),
            "file" => Err(format!("'{given}' is no path of this machine, expected file:///path")),
            "pvc" => {
                let (_, path) = rest.split_once('/').unwrap_or((rest, ""));
                Ok(Self::Local(PathBuf::from(PVC_MOUNT).join(checked_path(given, path)?)))
            }
            "s3" => s3(given, rest),
            "gs" | "gcs" => {
                let (bucket, prefix) = bucket_and_prefix(given, "gs://bucket/models", rest)?;
                remote(Store::Gcs { bucket }, prefix, None, given)
            }
            "az" | "azure" | "abfs" | "abfss" | "as" => azure(given, scheme, rest),
            "http" | "https" => http(given, scheme, rest),
            other => Err(format!(
                "'{given}': {other}:// is not served, expected a directory, file:///path, s3://, gs://, az://, https:// or http://"
            )),
        }
    }
}

impl RemoteUri {
    /// The same place one name further down.
    pub fn join(&self, name: &str) -> Self {
        let prefix = if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) };
        Self { prefix, shown: format!("{}/{name}", self.shown), ..self.clone() }
    }

    /// The place that holds this one, and this one's name; `None` at the top of a store.
    pub fn parent(&self) -> Option<(Self, String)> {
        let (prefix, name) = self.prefix.rsplit_once('/').unwrap_or(("", &self.prefix));
        if name.is_empty() {
            return None;
        }
        let shown = self.shown.strip_suffix(name).unwrap_or(&self.shown).trim_end_matches('/').to_owned();
        Some((Self { prefix: prefix.to_owned(), shown, ..self.clone() }, name.to_owned()))
    }
}

/// As it was given, without what signs it.
impl fmt::Display for RemoteUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RemoteUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteUri({})", self.shown)
    }
}

/// The rest of a URI that has neither query nor fragment.
fn plain<'a>(given: &str, rest: &'a str) -> Result<&'a str, String> {
    match rest.find(['?', '#']) {
        None => Ok(rest),
        Some(at) => Err(format!("'{given}': '{}' has no meaning in it, expected a path alone", &rest[at..])),
    }
}

fn remote(store: Store, prefix: String, query: Option<String>, given: &str) -> Result<StorageUri, String> {
    let shown = given.split(['?', '#']).next().unwrap_or(given).trim_end_matches('/').to_owned();
    Ok(StorageUri::Remote(RemoteUri { store, prefix, query, shown }))
}

/// A path in a store, without slashes at its ends.
fn checked_path(given: &str, path: &str) -> Result<String, String> {
    let path = path.trim_end_matches('/');
    if !path.is_empty()
        && let Err(why) = check_key(path)
    {
        return Err(format!("'{given}': {why}"));
    }
    Ok(path.to_owned())
}

/// Checks that a key is a relative path whose every part is a plain name, so that it can be one below a directory.
///
/// # Errors
/// What is wrong with it.
pub fn check_key(key: &str) -> Result<(), String> {
    /// What the usual file systems take.
    const NAME_BYTES_MAX: usize = 255;
    for part in key.split('/') {
        match part {
            "" => return Err(format!("'{}' has an empty part, or starts or ends with a slash", key.escape_debug())),
            "." | ".." => return Err(format!("'{}' has the part '{part}', which leads elsewhere", key.escape_debug())),
            _ if part.len() > NAME_BYTES_MAX => {
                return Err(format!(
                    "a part of it has {} bytes, at most {NAME_BYTES_MAX} make a file's name",
                    part.len()
                ));
            }
            _ if part.contains(|c: char| c.is_control() || c == '\\') => {
                return Err(format!("'{}' has a control character or a backslash in it", key.escape_debug()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn bucket_and_prefix(given: &str, expected: &str, rest: &str) -> Result<(String, String), String> {
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    check_bucket(given, expected, bucket)?;
    Ok((bucket.to_owned(), checked_path(given, path)?))
}

fn check_bucket(given: &str, expected: &str, bucket: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '$');
    match bucket {
        "" => Err(format!("'{given}' names no bucket or container, expected {expected}")),
        "." | ".." => Err(format!("'{bucket}' is no name of a bucket or container, expected {expected}")),
        _ if bucket.contains('@') => {
            Err(format!("'{}' holds credentials or an account: credentials come from the environment", redacted(given)))
        }
        _ if bucket.len() <= 255 && bucket.chars().all(plain) => Ok(()),
        _ => Err(format!("'{bucket}' is no name of a bucket or container, expected {expected}")),
    }
}

/// A URI without what stands before an `@` in its host.
fn redacted(given: &str) -> String {
    match (given.split_once("://"), given.find('@')) {
        (Some((scheme, _)), Some(at)) => format!("{scheme}://***{}", &given[at..]),
        _ => given.to_owned(),
    }
}

/// `bucket/prefix`, or a server before it: `http://host:9000/bucket/prefix`, `host:9000/bucket/prefix`.
fn s3(given: &str, rest: &str) -> Result<StorageUri, String> {
    const EXPECTED: &str = "s3://bucket/models or s3://http://host:9000/bucket/models";
    let (scheme, server) = match rest.split_once("://") {
        Some((scheme @ ("http" | "https"), server)) => (Some(scheme), server),
        Some(_) => return Err(format!("'{given}' is no place in S3, expected {EXPECTED}")),
        None => (None, rest),
    };
    let (host, path) = server.split_once('/').unwrap_or((server, ""));
    if scheme.is_none() && !host.contains(':') {
        let (bucket, prefix) = bucket_and_prefix(given, EXPECTED, rest)?;
        return remote(Store::S3 { bucket, endpoint: None }, prefix, None, given);
    }
    check_host(given, host)?;
    let (bucket, prefix) = bucket_and_prefix(given, EXPECTED, path)?;
    // As Triton has it: a host that comes without a scheme is reached over HTTP.
    let endpoint = Some(format!("{}://{host}", scheme.unwrap_or("http")));
    remote(Store::S3 { bucket, endpoint }, prefix, None, given)
}

fn azure(given: &str, scheme: &str, rest: &str) -> Result<StorageUri, String> {
    const EXPECTED: &str = "az://container/models, with AZURE_STORAGE_ACCOUNT_NAME in the environment";
    let (account, rest) = match (scheme, rest.split_once('/')) {
        ("as", Some((account, rest))) => {
            // Triton's documentation has the account's host there.
            (Some(account.split('.').next().unwrap_or(account)), rest.to_owned())
        }
        ("as", None) => return Err(format!("'{given}' names no container, expected as://account/container/models")),
        (_, parts) => match rest.split('/').next().unwrap_or_default().split_once('@') {
            Some((container, host)) => {
                let path = parts.map_or("", |(_, path)| path);
                (host.split('.').next(), format!("{container}/{path}"))
            }
            None => (None, rest.to_owned()),
        },
    };
    if let Some(account) = account
        && (account.is_empty() || !account.chars().all(|c| c.is_ascii_alphanumeric()))
    {
        return Err(format!("'{account}' is no name of a storage account: letters and digits"));
    }
    let (container, prefix) = bucket_and_prefix(given, EXPECTED, &rest)?;
    remote(Store::Azure { account: account.map(str::to_owned), container }, prefix, None, given)
}

fn check_host(given: &str, host: &str) -> Result<(), String> {
    if host.contains('@') {
        return Err(format!("'{}' holds credentials: they come from the environment", redacted(given)));
    }
    let (name, port) = match host.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':');
    if name.is_empty() || !name.chars().all(plain) {
        return Err(format!("'{given}' names no host"));
    }
    match port.map(str::parse::<u16>) {
        None | Some(Ok(1..)) => Ok(()),
        _ => Err(format!("'{given}': '{}' is no port, expected 1 to 65535", port.unwrap_or_default())),
    }
}

fn http(given: &str, scheme: &str, rest: &str) -> Result<StorageUri, String> {
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query.split('#').next().unwrap_or(query).to_owned())),
        None => (rest.split('#').next().unwrap_or(rest), None),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    check_host(given, host)?;
    let path = percent_encoding::percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| format!("'{given}' has a path that is not UTF-8"))?;
    const ARCHIVES: [&str; 5] = [".zip", ".tar", ".tar.gz", ".tgz", ".mar"];
    if let Some(ending) = ARCHIVES.into_iter().find(|ending| path.ends_with(ending)) {
        return Err(format!(
            "'{}' is an archive ({ending}), which is not unpacked: expected a .onnx file or a folder",
            shown(given)
        ));
    }
    if let (Some((account, "blob.core.windows.net")), "https") = (host.split_once('.'), scheme) {
        let (container, prefix) =
            bucket_and_prefix(given, "https://account.blob.core.windows.net/container/models", &path)?;
        return remote(Store::Azure { account: Some(account.to_owned()), container }, prefix, query, given);
    }
    let path = checked_path(&shown(given), path.trim_start_matches('/'))?;
    remote(Store::Http { origin: format!("{scheme}://{host}") }, path, query, given)
}

/// A URL without its query, which may sign it.
fn shown(given: &str) -> String {
    given.split('?').next().unwrap_or(given).to_owned()
}

#[cfg(test)]
mod tests;
