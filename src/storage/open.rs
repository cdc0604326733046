//! Stores behind URIs. The one place that names object_store's builders.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::{Certificate, ClientOptions, HeaderMap, HeaderValue, ObjectStore, RetryConfig};

use super::connector::Connector;
use super::credentials::{Environment, S3Access, azure_options};
use super::failure::{Class, Failure};
use super::uri::{RemoteUri, Store};

/// How long a connection may take to be there. A store that is up answers within a round trip or two.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the store of `uri`. No request is made yet.
///
/// # Errors
/// What is wrong with the credentials or the certificates.
pub(super) fn open(
    uri: &RemoteUri,
    environment: &Environment,
    connector: Connector,
) -> Result<Arc<dyn ObjectStore>, Failure> {
    // Whoever was first has installed the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let wrong = |why: String| Failure::new(Class::Wrong, format!("{uri}: {why}"));
    let opened: object_store::Result<Arc<dyn ObjectStore>> = match &uri.store {
        Store::S3 { bucket, endpoint } => {
            let access = S3Access::from_environment(environment, endpoint.as_deref()).map_err(wrong)?;
            s3(bucket, access, environment, connector).map_err(wrong)?
        }
        Store::Gcs { bucket } => gcs(bucket, environment, connector).map_err(wrong)?,
        Store::Azure { account, container } => {
            let query = uri.query.as_deref();
            azure(account.as_deref(), container, query, environment, connector).map_err(wrong)?
        }
        Store::Http { origin } => http(origin, uri.query.as_deref(), environment, connector).map_err(wrong)?,
    };
    opened.map_err(|error| Failure::of(uri, &error))
}

/// Ours instead.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// What all clients have: no time-out for a whole answer, which may be large (pieces have their own), and the certificates.
/// `plain`: over HTTP alone, so that a machine without certificates will do.
fn client_options(environment: &Environment, plain: bool) -> Result<ClientOptions, String> {
    let mut options =
        ClientOptions::new().with_timeout_disabled().with_connect_timeout(CONNECT_TIMEOUT).with_allow_http(true);
    if plain {
        return Ok(options.with_no_system_certificates(true));
    }
    if let Some(path) = environment.ca_bundle() {
        for certificate in certificates(&path)? {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let wrong = |why: String| format!("certificates of {}: {why}", path.display());
    let bytes = std::fs::read(path).map_err(|cause| wrong(cause.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&bytes).map_err(|cause| wrong(cause.to_string()))?;
    if certificates.is_empty() { Err(wrong("none in it, expected PEM".into())) } else { Ok(certificates) }
}

fn is_plain(endpoint: Option<&str>) -> bool {
    endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"))
}

type Opened = Result<object_store::Result<Arc<dyn ObjectStore>>, String>;

fn arc<S: ObjectStore>(store: S) -> Arc<dyn ObjectStore> {
    Arc::new(store)
}

fn s3(bucket: &str, access: S3Access, environment: &Environment, connector: Connector) -> Opened {
    let mut builder = AmazonS3Builder::new();
    // Of the environment, what says who we are: web identities, roles, containers. The rest is in `access`.
    const IDENTITY: [(&str, &str); 8] = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "aws_web_identity_token_file"),
        ("AWS_ROLE_ARN", "aws_role_arn"),
        ("AWS_ROLE_SESSION_NAME", "aws_role_session_name"),
        ("AWS_ENDPOINT_URL_STS", "aws_endpoint_url_sts"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "aws_container_credentials_relative_uri"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "aws_container_credentials_full_uri"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "aws_container_authorization_token_file"),
        ("AWS_REQUEST_PAYER", "aws_request_payer"),
    ];
    for (name, key) in IDENTITY {
        if let (Some(value), Ok(key)) = (environment.get(name), key.parse::<AmazonS3ConfigKey>()) {
            builder = builder.with_config(key, value);
        }
    }
    let plain = is_plain(access.endpoint.as_deref());
    let options = client_options(environment, plain)?.with_allow_invalid_certificates(!access.verifies);
    if let Some(region) = access.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = access.endpoint {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        // The crate takes an endpoint of this style as one that has the bucket in it.
        let hosted = match endpoint.split_once("://") {
            Some((scheme, host)) if access.virtual_hosted => format!("{scheme}://{bucket}.{host}"),
            _ => endpoint,
        };
        builder = builder.with_endpoint(hosted);
    }
    if let Some((key, secret, token)) = access.keys {
        builder = builder.with_access_key_id(key).with_secret_access_key(secret);
        if let Some(token) = token {
            builder = builder.with_token(token);
        }
    }
    let builder = builder
        .with_bucket_name(bucket)
        .with_skip_signature(access.anonymous)
        .with_virtual_hosted_style_request(access.virtual_hosted)
        .with_retry(no_retries())
        .with_http_connector(connector)
        // After the others: it holds what they would set one by one.
        .with_client_options(options);
    Ok(builder.build().map(arc))
}

fn gcs(bucket: &str, environment: &Environment, connector: Connector) -> Opened {
    let mut builder = GoogleCloudStorageBuilder::new();
    let endpoint = environment.get("STORAGE_EMULATOR_HOST").or(environment.get("GOOGLE_BASE_URL"));
    let endpoint = endpoint.map(|given| match given.contains("://") {
        true => given.to_owned(),
        false => format!("http://{given}"),
    });
    let file = environment.get("GOOGLE_APPLICATION_CREDENTIALS").or(environment.get("GOOGLE_SERVICE_ACCOUNT"));
    // As KServe does: without credentials, as anybody. An emulator asks for none.
    let anonymous = match (file, environment.get("GOOGLE_SKIP_SIGNATURE")) {
        (_, Some(flag)) => matches!(flag, "1" | "true"),
        (None, None) => !on_google(environment),
        (Some(_), None) => false,
    };
    match file {
        _ if anonymous => {}
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|cause| format!("credentials of {path}: {cause}"))?;
            let is_key = text.contains("\"service_account\"");
            builder = if is_key {
                builder.with_service_account_key(text)
            } else {
                builder.with_application_credentials(path)
            };
        }
        None => {}
    }
    if let Some(token) = environment.get("GOOGLE_BEARER_TOKEN") {
        builder = builder.with_config(GoogleConfigKey::BearerToken, token);
    }
    let options = client_options(environment, is_plain(endpoint.as_deref()))?;
    if let Some(endpoint) = endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    let builder = builder
        .with_bucket_name(bucket)
        .with_skip_signature(anonymous)
        .with_retry(no_retries())
        .with_http_connector(connector)
        .with_client_options(options);
    Ok(builder.build().map(arc))
}

/// Whether Google's tools have left credentials for this user, or this process is told that it runs where Google's metadata
/// server gives some: workload identity.
fn on_google(environment: &Environment) -> bool {
    const LEFT: &str = ".config/gcloud/application_default_credentials.json";
    if environment.get("HOME").is_some_and(|home| Path::new(home).join(LEFT).exists()) {
        return true;
    }
    let told = ["GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GOOGLE_CLOUD_PROJECT", "GKE_METADATA_SERVER"];
    told.iter().any(|name| environment.get(name).is_some())
        // Pods of GKE say so in the product's name of their machine.
        || std::fs::read_to_string("/sys/class/dmi/id/product_name").is_ok_and(|name| name.contains("Google"))
}

fn azure(
    account: Option<&str>,
    container: &str,
    query: Option<&str>,
    environment: &Environment,
    connector: Connector,
) -> Opened {
    let mut builder = MicrosoftAzureBuilder::new();
    let (mut plain, mut identified, mut named) = (false, query.is_some(), account.is_some());
    let options = azure_options(environment);
    let connection = environment.get("AZURE_STORAGE_CONNECTION_STRING").map(connection_string).unwrap_or_default();
    for (key, value) in options.into_iter().chain(connection) {
        let Ok(known) = key.parse::<AzureConfigKey>() else { continue };
        plain |= known == AzureConfigKey::Endpoint && value.starts_with("http://");
        named |= known == AzureConfigKey::AccountName;
        // An identity of a pod or machine alone is no key, but is one that can be asked for a token.
        identified |= !matches!(known, AzureConfigKey::Endpoint | AzureConfigKey::AccountName);
        builder = builder.with_config(known, value);
    }
    if !named {
        return Err("which storage account? AZURE_STORAGE_ACCOUNT_NAME names it, or as://account/container/...".into());
    }
    if let Some(account) = account {
        builder = builder.with_account(account);
    }
    if let Some(query) = query {
        builder = builder.with_config(AzureConfigKey::SasKey, query);
    }
    let builder = builder
        .with_container_name(container)
        // As KServe does: without credentials, as anybody.
        .with_skip_signature(!identified)
        .with_retry(no_retries())
        .with_http_connector(connector)
        .with_client_options(client_options(environment, plain)?);
    Ok(builder.build().map(arc))
}

/// The parts of a connection string (`Key=value;...`) under object_store's names.
fn connection_string(text: &str) -> Vec<(String, String)> {
    let parts = text.split(';').filter_map(|part| part.split_once('='));
    let known = |(key, value): (&str, &str)| {
        let name = match key {
            "AccountName" => "azure_storage_account_name",
            "AccountKey" => "azure_storage_account_key",
            "BlobEndpoint" => "azure_storage_endpoint",
            "SharedAccessSignature" => "azure_storage_sas_key",
            _ => return None,
        };
        Some((name.to_owned(), value.to_owned()))
    };
    parts.filter_map(known).collect()
}

fn http(origin: &str, query: Option<&str>, environment: &Environment, connector: Connector) -> Opened {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let mut headers = HeaderMap::new();
    for (key, value) in environment.headers(name)? {
        let key: http::HeaderName = key.parse().map_err(|_| format!("'{key}' is no name of a header"))?;
        let value: HeaderValue = value.parse().map_err(|_| format!("the value of header {key} is none"))?;
        headers.insert(key, value);
    }
    let options = client_options(environment, is_plain(Some(origin)))?.with_default_headers(headers);
    let url = query.map_or_else(|| origin.to_owned(), |query| format!("{origin}/?{query}"));
    let builder = HttpBuilder::new().with_url(url).with_retry(no_retries()).with_http_connector(connector);
    Ok(builder.with_client_options(options).build().map(arc))
}

#[cfg(test)]
mod tests {
    use super::super::uri::StorageUri;
    use super::*;
    use crate::telemetry::StorageMetrics;

    fn open_with(uri: &str, variables: &[(&str, &str)]) -> Result<Arc<dyn ObjectStore>, Failure> {
        let Ok(StorageUri::Remote(uri)) = StorageUri::parse(uri) else { panic!("{uri}") };
        let connector = Connector { metrics: Arc::new(StorageMetrics::default()) };
        open(&uri, &variables.iter().copied().collect(), connector)
    }

    #[test]
    fn stores_of_every_scheme_open_without_a_request() {
        for (uri, variables) in [
            ("s3://bucket/a", &[("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")][..]),
            ("s3://localhost:9000/bucket/a", &[("awsAnonymousCredential", "true")]),
            ("gs://bucket/a", &[]),
            ("gs://bucket/a", &[("STORAGE_EMULATOR_HOST", "localhost:4443")]),
            ("az://container/a", &[("AZURE_STORAGE_ACCOUNT_NAME", "account"), ("AZURE_STORAGE_ACCESS_KEY", "a2V5")]),
            (
                "az://container/a",
                &[(
                    "AZURE_STORAGE_CONNECTION_STRING",
                    "AccountName=a;AccountKey=a2V5;BlobEndpoint=http://localhost:1/a",
                )],
            ),
            ("https://account.blob.core.windows.net/container/a?sv=1&sig=2", &[]),
            ("https://host/a", &[("host-headers", r#"{"Authorization": "Bearer t"}"#)]),
        ] {
            open_with(uri, variables).unwrap_or_else(|failure| panic!("{uri}: {failure}"));
        }
    }

    #[test]
    fn what_is_wrong_with_credentials_is_said_with_the_place() {
        for (uri, variables, hint) in [
            ("s3://bucket/a", &[("AWS_ACCESS_KEY_ID", "k")][..], "AWS_SECRET_ACCESS_KEY is not"),
            ("az://container/a", &[], "AZURE_STORAGE_ACCOUNT_NAME"),
            ("gs://bucket/a", &[("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file")], "/no/such/file"),
            ("s3://bucket/a", &[("AWS_CA_BUNDLE", "/no/such/bundle")], "/no/such/bundle"),
            ("https://host/a", &[("host-headers", "[]")], "host-headers"),
        ] {
            let failure = open_with(uri, variables).map(drop).unwrap_err();
            assert!(failure.message.contains(hint) && failure.message.contains("://"), "{failure}");
        }
    }
}
