use proptest::prelude::*;

use super::*;

fn remote_of(given: &str) -> RemoteUri {
    match StorageUri::parse(given) {
        Ok(StorageUri::Remote(remote)) => remote,
        other => panic!("{given}: {other:?}"),
    }
}

#[test]
fn paths_and_files_are_local() {
    for (given, path) in [
        ("models", "models"),
        ("/a/b", "/a/b"),
        ("file:///a/b", "/a/b"),
        ("pvc://claim/models/m", "/mnt/pvc/models/m"),
        ("C:/x", "C:/x"),
    ] {
        assert_eq!(StorageUri::parse(given), Ok(StorageUri::Local(path.into())), "{given}");
    }
}

#[test]
fn every_scheme_names_its_store_and_prefix() {
    let s3 = |bucket: &str, endpoint: Option<&str>| Store::S3 {
        bucket: bucket.into(),
        endpoint: endpoint.map(str::to_owned),
    };
    let azure = |account: Option<&str>, container: &str| Store::Azure {
        account: account.map(str::to_owned),
        container: container.into(),
    };
    for (given, store, prefix) in [
        ("s3://bucket/a/b/", s3("bucket", None), "a/b"),
        ("s3://bucket", s3("bucket", None), ""),
        ("s3://localhost:9000/bucket/a", s3("bucket", Some("http://localhost:9000")), "a"),
        ("s3://https://minio.example/bucket/a", s3("bucket", Some("https://minio.example")), "a"),
        ("gs://bucket/a b", Store::Gcs { bucket: "bucket".into() }, "a b"),
        ("az://container/a", azure(None, "container"), "a"),
        ("as://account/container/a", azure(Some("account"), "container"), "a"),
        ("abfss://container@account.dfs.core.windows.net/a", azure(Some("account"), "container"), "a"),
        ("https://account.blob.core.windows.net/container/a", azure(Some("account"), "container"), "a"),
        ("http://host:80/a%20b/c", Store::Http { origin: "http://host:80".into() }, "a b/c"),
    ] {
        let uri = remote_of(given);
        assert_eq!((&uri.store, uri.prefix.as_str()), (&store, prefix), "{given}");
    }
}

#[test]
fn what_is_no_place_is_refused_by_its_name() {
    for (given, hint) in [
        ("ftp://host/a", "ftp:// is not served"),
        ("hf://org/model", "hf:// is not served"),
        ("s3://", "names no bucket"),
        ("s3://bucket/../etc", "'..'"),
        ("s3://bucket/a//b", "empty part"),
        ("s3://bucket/a?versionId=3", "has no meaning"),
        ("s3://host:99999/bucket", "no port"),
        ("gs://b@d/x", "credentials"),
        ("file://relative", "file:///path"),
        ("pvc://claim/../../etc", "'..'"),
        ("https://host/model.tar.gz", "archive"),
        ("https://host/%2e%2e/x", "'..'"),
        ("as://account", "container"),
    ] {
        let message = StorageUri::parse(given).unwrap_err();
        assert!(message.contains(hint), "{given}: {message}");
    }
    let message = StorageUri::parse("https://me:secret@host/a").unwrap_err();
    assert!(!message.contains("secret"), "{message}");
}

#[test]
fn what_signs_a_url_is_not_shown() {
    let uri = remote_of("https://host/a/model.onnx?sig=secret");
    assert_eq!((uri.to_string().as_str(), uri.query.as_deref()), ("https://host/a/model.onnx", Some("sig=secret")));
    assert!(!format!("{uri:?}").contains("secret"));
    let (parent, name) = uri.parent().unwrap();
    assert_eq!(
        (parent.to_string().as_str(), parent.prefix.as_str(), name.as_str()),
        ("https://host/a", "a", "model.onnx")
    );
    assert_eq!(remote_of("s3://bucket").parent(), None);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_no_path_leads_out(text in "\\PC{0,40}", scheme in "(s3|gs|az|as|abfs|http|https|pvc|file)") {
        for given in [text.clone(), format!("{scheme}://{text}"), format!("{scheme}://host/{text}")] {
            match StorageUri::parse(&given) {
                Ok(StorageUri::Remote(uri)) => prop_assert!(uri.prefix.is_empty() || check_key(&uri.prefix).is_ok()),
                Ok(StorageUri::Local(path)) if scheme == "pvc" && given.contains("://") => {
                    prop_assert!(!path.components().any(|part| part == std::path::Component::ParentDir));
                }
                Ok(_) => {}
                Err(message) => prop_assert!(!message.is_empty()),
            }
        }
    }
}
