//! What an artifact's bytes are, in one short word.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path};

use memchr::memmem;

use super::layout::{is_folder_model, is_of_model};
use crate::error::{Error, Result};
use crate::storage::{Digest, SUMS_FILE};

/// How an ONNX file says where a tensor's data lies: the key "location" of a `StringStringEntryProto` and the mark of its
/// value, in protobuf's wire format (onnx.proto, `TensorProto.external_data`).
const LOCATION: &[u8] = b"\x0a\x08location\x12";

/// Longest name of a file that is looked for; its length is one byte on the wire up to here.
const NAME_BYTES_MAX: usize = 127;

/// A model file and the files beside it in which it keeps tensors, or which make up a Hugging Face folder, each with its digest. Paths
/// are relative to the folder of the model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Artifact {
    pub(super) files: BTreeMap<String, Digest>,
}

impl Artifact {
    /// Its digest: the file's own where it is one, else that of the lines that `b3sum` prints for all, sorted by their paths.
    pub(super) fn digest(&self) -> Digest {
        let mut files = self.files.iter();
        match (files.next(), files.next()) {
            (Some((_, only)), None) => *only,
            _ => {
                let lines: String = self.files.iter().map(|(path, digest)| format!("{digest}  {path}\n")).collect();
                Digest::of(lines.as_bytes())
            }
        }
    }
}

/// Reads the artifact of the model file at `path`, of a model in `model`. A Hugging Face folder's is every file that is the model's. Digests that are `known` are not worked out again.
///
/// # Errors
/// `ModelUnavailable` where a file cannot be read, or the model keeps tensors outside of its folder: in a path that leads out of
/// it, or a link that leads out of the model's directory.
pub(super) fn artifact(path: &Path, model: &Path, known: &dyn Fn(&Path) -> Option<Digest>) -> Result<Artifact> {
    let unreadable =
        |path: &Path, cause: io::Error| Error::unavailable(format!("{}: cannot be read: {cause}", path.display()));
    let name_of = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut locations = BTreeSet::new();
    let is_folder = is_folder_model(path);
    let own = match known(path) {
        // Nothing is beside it that it could name.
        Some(digest) if is_folder || is_alone(path) => digest,
        _ if is_folder => file(path).map_err(|cause| unreadable(path, cause))?,
        _ => naming(path, &mut locations).map_err(|cause| unreadable(path, cause))?,
    };
    if is_folder {
        locations = files_of(folder).map_err(|cause| unreadable(folder, cause))?;
        locations.remove(&name_of(path));
    }
    let mut files = BTreeMap::from([(name_of(path), own)]);
    for location in locations {
        let kept = if is_folder { "is loaded with" } else { "keeps tensors in" };
        let shown = || format!("{}: {kept} '{}', which", path.display(), location.escape_debug());
        let inside =
            Path::new(&location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside {
            return Err(Error::unavailable(format!("{} is outside of its folder: ONNX allows none such", shown())));
        }
        let beside = folder.join(&location);
        // Bytes that look like a name and are none name no file.
        if !beside.is_file() {
            continue;
        }
        let real = fs::canonicalize(&beside).map_err(|cause| unreadable(&beside, cause))?;
        let mut roofs = [Some(model), path.parent()]
            .into_iter()
            .flatten()
            .map(fs::canonicalize)
            .chain([fs::canonicalize(path).map(|real| real.parent().map(Path::to_owned).unwrap_or_default())]);
        if !roofs.any(|roof| roof.is_ok_and(|roof| real.starts_with(roof))) {
            let message = format!("{} is a link to {}, outside of the model's directory", shown(), real.display());
            return Err(Error::unavailable(message));
        }
        let digest = match known(&beside) {
            Some(digest) => digest,
            None => file(&beside).map_err(|cause| unreadable(&beside, cause))?,
        };
        files.insert(location, digest);
    }
    Ok(Artifact { files })
}

/// The files of a Hugging Face folder that are the model's, in it and in the folders in it.
fn files_of(folder: &Path) -> io::Result<BTreeSet<String>> {
    let names = |folder: &Path| -> io::Result<Vec<String>> {
        let entries = fs::read_dir(folder)?.flatten();
        Ok(entries.filter_map(|entry| entry.file_name().into_string().ok()).collect())
    };
    let direct = names(folder)?;
    let mut paths = direct.clone();
    for name in direct.iter().filter(|name| folder.join(name).is_dir()) {
        paths.extend(names(&folder.join(name))?.into_iter().map(|inner| format!("{name}/{inner}")));
    }
    let is_ours = |path: &String| {
        let is_hidden = path.split('/').any(|part| part.starts_with(['.', '_']));
        !is_hidden && is_of_model(path, direct.iter().map(String::as_str)) && folder.join(path).is_file()
    };
    Ok(paths.into_iter().filter(is_ours).collect())
}

/// The digest of a file.
pub(super) fn file(path: &Path) -> io::Result<Digest> {
    Digest::of_file(path, |_| ())
}

/// Whether a file has its folder for itself, but for the list of digests.
fn is_alone(path: &Path) -> bool {
    let is_other = |entry: fs::DirEntry| entry.path() != path && entry.file_name() != SUMS_FILE;
    path.parent().is_some_and(|folder| fs::read_dir(folder).is_ok_and(|entries| !entries.flatten().any(is_other)))
}

/// The digest of a file, noting which files its bytes name.
fn naming(path: &Path, locations: &mut BTreeSet<String>) -> io::Result<Digest> {
    /// A name may begin in one chunk and end in the next: this much of each is looked at again with the next.
    const KEPT_BYTES: usize = LOCATION.len() + 1 + NAME_BYTES_MAX;
    let finder = memmem::Finder::new(LOCATION);
    let mut kept = Vec::with_capacity(2 * KEPT_BYTES);
    Digest::of_file(path, |chunk| {
        // What began before, with as much of this chunk as it can go on for.
        kept.extend_from_slice(&chunk[..chunk.len().min(KEPT_BYTES)]);
        note_locations(&finder, &kept, locations);
        note_locations(&finder, chunk, locations);
        if chunk.len() >= KEPT_BYTES {
            kept.clear();
            kept.extend_from_slice(&chunk[chunk.len() - KEPT_BYTES..]);
        } else {
            let rest = kept.len().saturating_sub(KEPT_BYTES);
            kept.drain(..rest);
        }
    })
}

fn note_locations(finder: &memmem::Finder<'_>, bytes: &[u8], locations: &mut BTreeSet<String>) {
    for start in finder.find_iter(bytes) {
        let Some((&length, rest)) = bytes[start + LOCATION.len()..].split_first() else { continue };
        let name = rest.get(..usize::from(length)).filter(|_| usize::from(length) <= NAME_BYTES_MAX);
        let Some(name) = name.and_then(|name| std::str::from_utf8(name).ok()) else { continue };
        if !name.is_empty() {
            locations.insert(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming_bytes(file: &str) -> Vec<u8> {
        [LOCATION, &[file.len() as u8], file.as_bytes()].concat()
    }

    fn of(folder: &tempfile::TempDir) -> Result<Artifact> {
        artifact(&folder.path().join("model.onnx"), folder.path(), &|_| None)
    }

    #[test]
    fn a_digest_changes_with_the_model_and_with_what_it_keeps_outside() {
        let folder = tempfile::TempDir::new().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        write("weights.bin", b"one");
        write("stranger.bin", b"one");
        write("model.onnx", &naming_bytes("weights.bin"));
        let first = of(&folder).unwrap();
        assert_eq!(first.files.keys().collect::<Vec<_>>(), ["model.onnx", "weights.bin"]);
        write("stranger.bin", b"two");
        assert_eq!(of(&folder).unwrap(), first);
        write("weights.bin", b"two");
        let second = of(&folder).unwrap().digest();
        assert_ne!(first.digest(), second);
        write("model.onnx", &[&naming_bytes("weights.bin")[..], b"more"].concat());
        assert_ne!(of(&folder).unwrap().digest(), second);
        assert!(artifact(&folder.path().join("none.onnx"), folder.path(), &|_| None).is_err());
    }

    #[test]
    fn the_digest_of_a_hugging_face_folder_is_of_every_file_that_is_the_models() {
        let folder = tempfile::TempDir::new().unwrap();
        let write = |name: &str, bytes: &str| {
            fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
            fs::write(folder.path().join(name), bytes).unwrap();
        };
        let own = ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"];
        let others = ["README.md", "pytorch_model.bin", "onnx/model.onnx", ".hidden.json"];
        own.iter().chain(&others).for_each(|name| write(name, "one"));
        let of = || artifact(&folder.path().join("config.json"), folder.path(), &|_| None).unwrap();
        let first = of();
        assert_eq!(first.files.keys().collect::<Vec<_>>(), own);
        write("README.md", "two");
        assert_eq!(of(), first);
        for name in own {
            write(name, "two");
            assert_ne!(of().digest(), first.digest(), "{name}");
            write(name, "one");
        }
        fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("tokenizer.json")).unwrap();
        let error = artifact(&folder.path().join("config.json"), folder.path(), &|_| None).unwrap_err();
        assert!(error.message().contains("'tokenizer.json', which is a link to"), "{error}");
    }

    #[test]
    fn the_digest_of_one_file_is_its_own_and_what_is_known_is_not_read() {
        let folder = tempfile::TempDir::new().unwrap();
        fs::write(folder.path().join("model.onnx"), "abc").unwrap();
        assert_eq!(of(&folder).unwrap().digest(), Digest::of(b"abc"));
        // Known, and nothing beside it: not read at all.
        let known = Digest::of(b"known");
        let artifact = artifact(&folder.path().join("model.onnx"), folder.path(), &|_| Some(known)).unwrap();
        assert_eq!(artifact.digest(), known);
    }

    #[test]
    fn tensors_outside_of_the_folder_are_refused() {
        for outside in ["../weights.bin", "/etc/hostname", "a/../../b"] {
            let folder = tempfile::TempDir::new().unwrap();
            fs::write(folder.path().join("model.onnx"), naming_bytes(outside)).unwrap();
            let error = of(&folder).unwrap_err();
            assert!(error.message().contains(outside) && error.message().contains("outside"), "{error}");
        }
    }

    #[test]
    fn a_link_out_of_the_model_is_refused_and_one_within_it_is_not() {
        let root = tempfile::TempDir::new().unwrap();
        let (model, version) = (root.path().join("m"), root.path().join("m/1"));
        fs::create_dir_all(&version).unwrap();
        fs::write(version.join("model.onnx"), naming_bytes("weights.bin")).unwrap();
        fs::write(root.path().join("secret"), "x").unwrap();
        fs::write(model.join("shared.bin"), "x").unwrap();
        let read = |target: &str| {
            let _ = fs::remove_file(version.join("weights.bin"));
            std::os::unix::fs::symlink(target, version.join("weights.bin")).unwrap();
            artifact(&version.join("model.onnx"), &model, &|_| None)
        };
        assert!(read("../../secret").unwrap_err().message().contains("is a link to"));
        assert_eq!(read("../shared.bin").unwrap().files.len(), 2);
    }

    #[test]
    fn a_name_is_found_wherever_chunks_end() {
        const CHUNK_BYTES: usize = 128 << 10;
        for before in [0, 1, CHUNK_BYTES - 20, CHUNK_BYTES - 12, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 5] {
            let folder = tempfile::TempDir::new().unwrap();
            let path = folder.path().join("model.onnx");
            let bytes = [&vec![7; before][..], &naming_bytes("weights.bin"), &naming_bytes("")].concat();
            fs::write(&path, bytes).unwrap();
            let mut locations = BTreeSet::new();
            naming(&path, &mut locations).unwrap();
            assert_eq!(locations.into_iter().collect::<Vec<_>>(), ["weights.bin"], "{before}");
        }
    }
}
