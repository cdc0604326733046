//! What an artifact's bytes are, in one short word.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use ring::digest::{Context, SHA256};

/// How an ONNX file says where a tensor's data lies: the key "location" of a `StringStringEntryProto` and the mark of its
/// value, in protobuf's wire format (onnx.proto, `TensorProto.external_data`).
const LOCATION: &[u8] = b"\x0a\x08location\x12";

/// Longest name of a file that is looked for; its length is one byte on the wire up to here.
const NAME_BYTES_MAX: usize = 127;

const CHUNK_BYTES: usize = 1 << 20;

/// The SHA-256 of the model file at `path` and of the files beside it in which it keeps tensors, as lowercase hexadecimal
/// digits.
///
/// # Errors
/// Where a file cannot be read.
pub(super) fn digest(path: &Path) -> io::Result<String> {
    let mut all = Context::new(&SHA256);
    let mut locations = BTreeSet::new();
    hash(path, &mut all, Some(&mut locations))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    for location in locations {
        let file = directory.join(&location);
        // Bytes that look like a name and are none name no file.
        if file.is_file() {
            all.update(location.as_os_str().as_encoded_bytes());
            hash(&file, &mut all, None)?;
        }
    }
    Ok(all.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Adds the bytes of a file to `to`, after their number, and notes which files they name.
fn hash(path: &Path, to: &mut Context, mut locations: Option<&mut BTreeSet<PathBuf>>) -> io::Result<()> {
    let mut file = File::open(path)?;
    to.update(&file.metadata()?.len().to_le_bytes());
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut window: VecDeque<u8> = VecDeque::new();
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        to.update(&chunk[..count]);
        if let Some(locations) = locations.as_deref_mut() {
            // A name may begin in one chunk and end in the next.
            window.extend(&chunk[..count]);
            note_locations(window.make_contiguous(), locations);
            let kept = window.len().min(LOCATION.len() + 1 + NAME_BYTES_MAX);
            window.drain(..window.len() - kept);
        }
    }
}

fn note_locations(bytes: &[u8], locations: &mut BTreeSet<PathBuf>) {
    let starts = bytes.windows(LOCATION.len()).enumerate().filter(|(_, window)| *window == LOCATION);
    for (start, _) in starts {
        let Some((&length, rest)) = bytes[start + LOCATION.len()..].split_first() else { continue };
        let name = rest.get(..usize::from(length)).filter(|_| usize::from(length) <= NAME_BYTES_MAX);
        let Some(name) = name.and_then(|name| std::str::from_utf8(name).ok()) else { continue };
        // ONNX allows nothing outside the model's directory.
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !name.is_empty() && inside {
            locations.insert(name.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn naming(file: &str) -> Vec<u8> {
        [LOCATION, &[file.len() as u8], file.as_bytes()].concat()
    }

    #[test]
    fn a_digest_changes_with_the_model_and_with_what_it_keeps_outside() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("model.onnx");
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        write("weights.bin", b"one");
        write("stranger.bin", b"one");
        write("model.onnx", &naming("weights.bin"));
        let first = digest(&path).unwrap();
        assert_eq!(first.len(), 64);
        write("stranger.bin", b"two");
        assert_eq!(digest(&path).unwrap(), first);
        write("weights.bin", b"two");
        let second = digest(&path).unwrap();
        assert_ne!(first, second);
        write("model.onnx", &[&naming("weights.bin")[..], b"more"].concat());
        assert_ne!(digest(&path).unwrap(), second);
        assert!(digest(&folder.path().join("none.onnx")).is_err());
    }

    #[test]
    fn a_name_is_found_wherever_chunks_end_and_never_outside() {
        for before in [0, 1, CHUNK_BYTES - 20, CHUNK_BYTES - 12, CHUNK_BYTES - 1, CHUNK_BYTES + 5] {
            let folder = tempfile::TempDir::new().unwrap();
            let path = folder.path().join("model.onnx");
            let bytes = [&vec![7; before][..], &naming("weights.bin"), &naming("../outside"), &naming("")].concat();
            fs::write(&path, bytes).unwrap();
            let mut locations = BTreeSet::new();
            hash(&path, &mut Context::new(&SHA256), Some(&mut locations)).unwrap();
            assert_eq!(locations.into_iter().collect::<Vec<_>>(), [PathBuf::from("weights.bin")], "{before}");
        }
    }
}
