//! Places of models, and lists of digests beside them.

use std::path::Component;

use tensorgate::storage::{Sha256, StorageUri, Sums, check_key};

/// The bytes are a URI, and a `SHA256SUMS`.
pub fn storage(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match StorageUri::parse(text) {
        Ok(StorageUri::Remote(uri)) => {
            assert!(uri.prefix.is_empty() || check_key(&uri.prefix).is_ok(), "a prefix leads nowhere else: {uri:?}");
            let shown = uri.to_string();
            assert!(!shown.contains(['?', '#']), "what signs a URL is not shown: {shown}");
            let below = uri.join("a");
            assert_eq!(below.parent().map(|(parent, name)| (parent.prefix, name)), Some((uri.prefix, "a".to_owned())));
        }
        Ok(StorageUri::Local(path)) if text.starts_with("pvc://") => {
            assert!(path.components().all(|part| part != Component::ParentDir), "a claim is not left: {path:?}");
        }
        Ok(StorageUri::Local(_)) => {}
        Err(why) => assert!(!why.is_empty(), "a refusal has a reason"),
    }
    match Sums::parse(text) {
        Ok(sums) => {
            assert!(sums.iter().all(|(path, _)| check_key(path).is_ok()), "{sums:?}");
            assert!(sums.iter().all(|(_, sha256)| Sha256::from_hex(&sha256.to_string()) == Some(sha256)), "{sums:?}");
            let again: String = sums.iter().map(|(path, sha256)| format!("{sha256}  {path}\n")).collect();
            assert_eq!(Sums::parse(&again).as_ref(), Ok(&sums), "what is printed is read");
        }
        Err(why) => assert!(why.starts_with("line "), "a refusal names its line: {why}"),
    }
}
