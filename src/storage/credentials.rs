//! Credentials and ways of access, from the variables that KServe injects from secrets and service accounts, and from those
//! that the stores' own tools read. Pure: a snapshot of the environment in, settings out.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

/// Where KServe mounts a config map of certificates where nothing else is said (`CA_BUNDLE_VOLUME_MOUNT_POINT`).
const CA_MOUNT: &str = "/etc/ssl/custom-certs";
const CA_FILE: &str = "cabundle.crt";

/// Variables, as they were when this was made.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

/// Names alone: values are secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl Environment {
    /// That of the process. What is not UTF-8 is nothing that we read.
    pub fn current() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The first that is set.
    fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" => Ok(Some(true)),
            "0" | "false" | "no" => Ok(Some(false)),
            _ => Err(format!("{name} is '{value}', expected 1 or 0")),
        }
    }

    /// Every variable.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// With what `STORAGE_CONFIG` says, and over it `STORAGE_OVERRIDE_CONFIG`: the JSON of KServe's secret `storage-config`, whose
    /// keys stand in for variables (`_update_with_storage_spec` of its Python storage).
    ///
    /// # Errors
    /// Which of the two is no JSON object of texts, or of another type than S3; values are not shown.
    pub fn with_storage_config(mut self) -> Result<Self, String> {
        const KEYS: [(&str, &str); 9] = [
            ("endpoint_url", "AWS_ENDPOINT_URL"),
            ("access_key_id", "AWS_ACCESS_KEY_ID"),
            ("secret_access_key", "AWS_SECRET_ACCESS_KEY"),
            ("session_token", "AWS_SESSION_TOKEN"),
            ("region", "AWS_DEFAULT_REGION"),
            ("ca_bundle", "AWS_CA_BUNDLE"),
            ("verify_ssl", "S3_VERIFY_SSL"),
            ("anonymous", "awsAnonymousCredential"),
            ("cabundle_configmap", "CA_BUNDLE_CONFIGMAP_NAME"),
        ];
        let mut all = BTreeMap::new();
        for name in ["STORAGE_CONFIG", "STORAGE_OVERRIDE_CONFIG"] {
            let Some(text) = self.get(name) else { continue };
            let wrong =
                || format!("{name} is no JSON object of texts, such as {{\"type\": \"s3\", \"region\": \"...\"}}");
            let Ok(Value::Object(object)) = serde_json::from_str(text) else { return Err(wrong()) };
            for (key, value) in object {
                match value {
                    Value::String(text) => drop(all.insert(key, text)),
                    Value::Bool(value) => drop(all.insert(key, value.to_string())),
                    Value::Number(number) => drop(all.insert(key, number.to_string())),
                    Value::Null => {}
                    _ => return Err(wrong()),
                }
            }
        }
        match all.get("type").map(String::as_str) {
            None | Some("s3") => {}
            Some(other) => return Err(format!("STORAGE_CONFIG is of type '{other}', expected s3")),
        }
        for (key, name) in KEYS {
            if let Some(value) = all.remove(key) {
                // An endpoint and the rest of another secret must not be mixed with this one's.
                if name == "AWS_ENDPOINT_URL" {
                    self.0.remove("AWS_ENDPOINT_URL_S3");
                    self.0.remove("S3_ENDPOINT");
                }
                self.0.insert(name.to_owned(), value);
            }
        }
        Ok(self)
    }

    /// Certificates to trust beside the system's, where somebody names a file of them.
    pub fn ca_bundle(&self) -> Option<PathBuf> {
        let named = self.first(&["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"]).map(PathBuf::from);
        let mounted = || {
            let mount = self.get("CA_BUNDLE_VOLUME_MOUNT_POINT").unwrap_or(CA_MOUNT);
            self.get("CA_BUNDLE_CONFIGMAP_NAME").map(|_| PathBuf::from(mount).join(CA_FILE))
        };
        named.or_else(mounted)
    }

    /// Headers for a web server: KServe's `<host>-headers`, a JSON object.
    ///
    /// # Errors
    /// Where it is none.
    pub fn headers(&self, host: &str) -> Result<Vec<(String, String)>, String> {
        let name = format!("{host}-headers");
        let Some(text) = self.get(&name) else { return Ok(Vec::new()) };
        let headers: BTreeMap<String, String> =
            serde_json::from_str(text).map_err(|_| format!("{name} is no JSON object of texts"))?;
        Ok(headers.into_iter().collect())
    }
}

/// How an S3 bucket is reached.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct S3Access {
    /// Scheme, host and port; without it, Amazon's for the region.
    pub endpoint: Option<String>,
    /// The region, where somebody states it.
    pub region: Option<String>,
    /// Key, secret, and session token: static credentials.
    pub keys: Option<(String, String, Option<String>)>,
    /// Requests are not signed.
    pub anonymous: bool,
    /// The bucket is part of the host's name.
    pub virtual_hosted: bool,
    /// Whether certificates are verified.
    pub verifies: bool,
}

/// Without secrets.
impl fmt::Debug for S3Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, region, keys, anonymous, virtual_hosted, verifies } = self;
        let keys = keys.as_ref().map(|(key, ..)| key);
        write!(f, "S3Access {{ {endpoint:?} {region:?} {keys:?} {anonymous} {virtual_hosted} {verifies} }}")
    }
}

impl S3Access {
    /// What the environment says, for a URI that may name its own `endpoint`.
    ///
    /// # Errors
    /// A variable that makes no sense, or half a pair of keys.
    pub fn from_environment(environment: &Environment, endpoint: Option<&str>) -> Result<Self, String> {
        let secure = environment.flag("S3_USE_HTTPS")?.unwrap_or(true);
        let with_scheme = |host: &str| match host.contains("://") {
            true => host.to_owned(),
            false => format!("{}://{host}", if secure { "https" } else { "http" }),
        };
        let stated = environment.first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "S3_ENDPOINT"]);
        let accelerated = environment.flag("S3_USE_ACCELERATE")?.unwrap_or(false);
        let usual = accelerated.then(|| "https://s3-accelerate.amazonaws.com".to_owned());
        let endpoint = endpoint.or(stated).map(with_scheme).or(usual);
        let key = environment.first(&["AWS_ACCESS_KEY_ID", "awsAccessKeyID"]);
        let secret = environment.first(&["AWS_SECRET_ACCESS_KEY", "awsSecretAccessKey"]);
        let token = environment.first(&["AWS_SESSION_TOKEN", "AWS_TOKEN"]);
        let anonymous = environment.flag("awsAnonymousCredential")?.unwrap_or(false);
        let keys = match (key, secret) {
            _ if anonymous => None,
            (Some(key), Some(secret)) => Some((key.to_owned(), secret.to_owned(), token.map(str::to_owned))),
            (None, None) => None,
            (Some(_), None) => return Err("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not".into()),
            (None, Some(_)) => return Err("AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not".into()),
        };
        Ok(Self {
            endpoint,
            region: environment.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]).map(str::to_owned),
            keys,
            anonymous,
            virtual_hosted: environment.flag("S3_USER_VIRTUAL_BUCKET")?.unwrap_or(false) || accelerated,
            verifies: environment.flag("S3_VERIFY_SSL")?.unwrap_or(true),
        })
    }
}

/// Azure's variables under the names that object_store reads: KServe's secrets call some otherwise (`AZ_CLIENT_ID`,
/// `AZURE_STORAGE_ACCESS_KEY`).
pub(super) fn azure_options(environment: &Environment) -> Vec<(String, String)> {
    const OTHERS: [(&str, &str); 5] = [
        ("AZ_CLIENT_ID", "azure_client_id"),
        ("AZ_CLIENT_SECRET", "azure_client_secret"),
        ("AZ_TENANT_ID", "azure_tenant_id"),
        ("AZURE_STORAGE_ACCESS_KEY", "azure_storage_account_key"),
        ("AZURE_STORAGE_ACCOUNT", "azure_storage_account_name"),
    ];
    let others = OTHERS.iter().filter_map(|(name, key)| Some(((*key).to_owned(), environment.get(name)?.to_owned())));
    let own = environment.iter().filter(|(name, value)| name.starts_with("AZURE_") && !value.is_empty());
    let own = own.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    others.chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(variables: &[(&str, &str)]) -> Result<S3Access, String> {
        let environment: Environment = variables.iter().copied().collect();
        S3Access::from_environment(&environment.with_storage_config()?, None)
    }

    #[test]
    fn the_variables_of_a_kserve_secret_are_read() {
        let access = access(&[
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_SESSION_TOKEN", "token"),
            ("S3_ENDPOINT", "minio:9000"),
            ("S3_USE_HTTPS", "0"),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
            ("S3_VERIFY_SSL", "0"),
            ("S3_USER_VIRTUAL_BUCKET", "true"),
        ])
        .unwrap();
        let keys = Some(("key".to_owned(), "secret".to_owned(), Some("token".to_owned())));
        let expected = S3Access {
            endpoint: Some("http://minio:9000".into()),
            region: Some("eu-west-1".into()),
            keys,
            anonymous: false,
            virtual_hosted: true,
            verifies: false,
        };
        assert!(access == expected, "{access:?}");
        assert!(!format!("{access:?}").contains("secret"));
    }

    #[test]
    fn a_storage_config_stands_in_for_variables_and_is_overridden() {
        let config = r#"{"type": "s3", "access_key_id": "a", "secret_access_key": "b", "endpoint_url": "http://one", "region": "r"}"#;
        let read = access(&[
            ("AWS_ACCESS_KEY_ID", "other"),
            ("S3_ENDPOINT", "other"),
            ("STORAGE_CONFIG", config),
            ("STORAGE_OVERRIDE_CONFIG", r#"{"endpoint_url": "http://two", "verify_ssl": false}"#),
        ])
        .unwrap();
        assert_eq!(read.endpoint.as_deref(), Some("http://two"));
        assert!(read.keys == Some(("a".into(), "b".into(), None)) && !read.verifies);
        for wrong in ["[]", "{", r#"{"type": "hdfs"}"#, r#"{"region": {}}"#] {
            let message = access(&[("STORAGE_CONFIG", wrong)]).unwrap_err();
            assert!(message.contains("STORAGE_CONFIG"), "{message}");
        }
    }

    #[test]
    fn anonymous_access_uses_no_keys_and_half_a_pair_is_a_fault() {
        let anonymous = access(&[("awsAnonymousCredential", "True"), ("AWS_ACCESS_KEY_ID", "k")]).unwrap();
        assert!(anonymous.anonymous && anonymous.keys.is_none());
        assert!(access(&[("AWS_ACCESS_KEY_ID", "k")]).unwrap_err().contains("AWS_SECRET_ACCESS_KEY is not"));
        assert!(access(&[("S3_VERIFY_SSL", "maybe")]).unwrap_err().contains("S3_VERIFY_SSL"));
    }

    #[test]
    fn certificates_and_headers_are_found_where_kserve_puts_them() {
        let environment: Environment =
            [("CA_BUNDLE_CONFIGMAP_NAME", "bundle"), ("host.example-headers", r#"{"X-Key": "1"}"#)]
                .into_iter()
                .collect();
        assert_eq!(environment.ca_bundle(), Some("/etc/ssl/custom-certs/cabundle.crt".into()));
        assert_eq!(environment.headers("host.example").unwrap(), [("X-Key".to_owned(), "1".to_owned())]);
        assert_eq!(environment.headers("other").unwrap(), []);
        let options = azure_options(&[("AZ_CLIENT_ID", "i"), ("AZURE_TENANT_ID", "t")].into_iter().collect());
        assert!(options.contains(&("azure_client_id".into(), "i".into())), "{options:?}");
        assert!(options.contains(&("azure_tenant_id".into(), "t".into())), "{options:?}");
    }
}
