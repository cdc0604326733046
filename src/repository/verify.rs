//! Holds the bytes of a version against what is stated of them: a digest in the settings, and `SHA256SUMS`.

use std::path::Path;

use super::digest::{self, Artifact};
use super::disk::Here;
use super::sha256::Sha256s;
use crate::error::{Error, Result};
use crate::storage::{Digest, SUMS_BYTES_MAX, SUMS_FILE, Sha256, Sums};

/// A version's artifact, which is as stated wherever something is.
///
/// # Errors
/// `ModelUnavailable` that names the file and both digests, or says what cannot be read.
pub(super) fn verify(here: &Here, sha256s: &Sha256s) -> Result<Artifact> {
    let Here { listing, files, tree } = here;
    let known = |path: &Path| {
        let tree = tree.as_ref()?;
        tree.digest(path.strip_prefix(tree.directory()).ok()?.to_str()?)
    };
    let artifact = digest::artifact(&files.path, &listing.directory, &known)?;
    if let Some(pinned) = &listing.settings.digest {
        let sha256 = sha256s.of(&artifact, files.path.parent().unwrap_or(Path::new("")), tree.as_deref())?;
        if sha256.to_string() != *pinned {
            return Err(Error::unavailable(format!(
                "{}: its digest is sha256:{sha256}, and the settings pin sha256:{pinned}: it is not served",
                files.path.display()
            )));
        }
    }
    let folder = files.path.parent().unwrap_or(Path::new(""));
    let version = listing.directory.join(files.version.to_string());
    // What belongs to this version: a model without version directories has all of its directory.
    let scope = if folder.starts_with(&version) { version.as_path() } else { &listing.directory };
    let mut beside = vec![scope];
    beside.extend((scope != listing.directory).then_some(listing.directory.as_path()));
    for place in beside {
        let path = place.join(SUMS_FILE);
        if std::fs::symlink_metadata(&path).is_ok() {
            let sha256_of = |path: &Path, digest: Option<Digest>| {
                let digest = digest.or_else(|| known(path)).map_or_else(|| digest::file(path), Ok)?;
                sha256s.of_file(path, digest, tree.as_deref())
            };
            hold_against(&read(&path)?, place, scope, folder, &artifact, &sha256_of)?;
        }
    }
    Ok(artifact)
}

/// Checks every file of the artifact, which all have to be listed, and whatever else of the version is.
fn hold_against(
    sums: &Sums,
    place: &Path,
    scope: &Path,
    folder: &Path,
    artifact: &Artifact,
    sha256_of: &dyn Fn(&Path, Option<Digest>) -> std::io::Result<Sha256>,
) -> Result<()> {
    let shown = place.join(SUMS_FILE);
    let shown = shown.display();
    let check = |path: &Path, digest: Option<Digest>, stated: Sha256| {
        let unreadable = |cause: std::io::Error| {
            Error::unavailable(format!("{}: {shown} lists it, and it cannot be read: {cause}", path.display()))
        };
        let actual = sha256_of(path, digest).map_err(unreadable)?;
        if actual != stated {
            let path = path.display();
            let message = format!("{path}: its SHA-256 is {actual}, and {shown} says {stated}: it is not served");
            return Err(Error::unavailable(message));
        }
        Ok(())
    };
    for (name, digest) in &artifact.files {
        let path = folder.join(name);
        let relative = path.strip_prefix(place).ok().and_then(Path::to_str).unwrap_or(name);
        let stated = sums.get(relative).ok_or_else(|| {
            Error::unavailable(format!(
                "{shown} does not list '{relative}', which the model is loaded from: it is not served"
            ))
        })?;
        check(&path, Some(*digest), stated)?;
    }
    for (relative, stated) in sums.iter() {
        let path = place.join(relative);
        let is_artifact =
            path.strip_prefix(folder).ok().and_then(Path::to_str).is_some_and(|name| artifact.files.contains_key(name));
        if !is_artifact && path.starts_with(scope) {
            check(&path, None, stated)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Sums> {
    let wrong = |why: String| Error::unavailable(format!("{}: {why}", path.display()));
    let length = std::fs::metadata(path).map_err(|cause| wrong(format!("cannot be read: {cause}")))?.len();
    if length > SUMS_BYTES_MAX as u64 {
        return Err(wrong(format!("has {length} bytes, at most {SUMS_BYTES_MAX} are read")));
    }
    let text = std::fs::read_to_string(path).map_err(|cause| wrong(format!("cannot be read: {cause}")))?;
    Sums::parse(&text).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::ModelName;
    use crate::repository::layout::{Local, scan_model};

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    /// The digest of version 1 of a model with these files.
    fn verified(files: &[(&str, &str)]) -> Result<Digest> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let listing = scan_model(&Local, ModelName::new("m"), root.path(), None);
        assert_eq!(listing.faults, Vec::<String>::new());
        let files = listing.versions[0].clone();
        Ok(verify(&Here { listing, files, tree: None }, &Sha256s::default())?.digest())
    }

    #[test]
    fn what_is_stated_is_held_against_the_files() {
        let sums = |line: &str| format!("{ABC}  {line}\n");
        let other = "0".repeat(64);
        for (files, hint) in [
            (vec![("1/model.onnx", "abc".to_owned())], None),
            (vec![("1/model.onnx", "abc".into()), ("1/SHA256SUMS", sums("model.onnx"))], None),
            (
                vec![
                    ("1/model.onnx", "abc".into()),
                    ("SHA256SUMS", sums("1/model.onnx") + &other + "  2/model.onnx\n"),
                ],
                None,
            ),
            (vec![("model.onnx", "abc".into()), ("SHA256SUMS", sums("model.onnx"))], None),
            (vec![("1/model.onnx", "abc".into()), ("model.toml", format!("digest = \"sha256:{ABC}\""))], None),
            (vec![("1/model.onnx", "abd".into()), ("1/SHA256SUMS", sums("model.onnx"))], Some("SHA256SUMS says")),
            (vec![("1/model.onnx", "abd".into()), ("SHA256SUMS", sums("1/model.onnx"))], Some("SHA256SUMS says")),
            (
                vec![("1/model.onnx", "abd".into()), ("model.toml", format!("digest = \"sha256:{ABC}\""))],
                Some("the settings pin"),
            ),
            (
                vec![("1/model.onnx", "abc".into()), ("1/SHA256SUMS", sums("other.onnx"))],
                Some("does not list 'model.onnx'"),
            ),
            (
                vec![("1/model.onnx", "abc".into()), ("1/SHA256SUMS", sums("model.onnx") + &sums("labels.txt"))],
                Some("labels.txt: "),
            ),
            (
                vec![
                    ("1/model.onnx", "abc".into()),
                    ("1/a", "x".into()),
                    ("1/SHA256SUMS", sums("model.onnx") + &sums("a")),
                ],
                Some("1/a: its SHA-256 is"),
            ),
            (vec![("1/model.onnx", "abc".into()), ("1/SHA256SUMS", "nonsense".into())], Some("line 1")),
        ] {
            let shown: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
            match (verified(&shown), hint) {
                (Ok(digest), None) => assert_eq!(digest, Digest::of(b"abc")),
                (Err(error), Some(hint)) => assert!(error.message().contains(hint), "{shown:?}: {error}"),
                (outcome, hint) => panic!("{shown:?}: {outcome:?}, expected {hint:?}"),
            }
        }
    }
}
