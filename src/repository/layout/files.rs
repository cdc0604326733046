//! The model file in a directory, and what it and its neighbours weigh.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Sight, cannot_read, is_hidden};

/// Directories below a version's that are looked into for its weight: external weights may have a folder of their own.
const DEPTH_MAX: usize = 4;
/// Entries looked at for a version's weight. Models with a file per weight have some thousands; a home directory that
/// is given by mistake has more than anyone wants to wait for.
const ENTRIES_MAX: usize = 20_000;

/// Bytes and newest write of some files.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    pub(super) bytes: u64,
    pub(super) modified: Option<SystemTime>,
    /// The sum of the files' own, so that their order does not matter.
    pub(super) stamp: u64,
}

/// Whether `path` ends in `.onnx`.
pub(super) fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "onnx")
}

/// The model file in `directory`: the one called `wanted` if the settings name one, else `model.onnx`, else the only
/// `*.onnx`. Each may be a directory that holds the file with its external weights, as Triton has it. The error says
/// what was looked for.
pub(super) fn model_file(sight: &dyn Sight, directory: &Path, wanted: Option<&str>) -> Result<PathBuf, String> {
    let shown = directory.display();
    let path = match wanted {
        Some(wanted) => directory.join(wanted),
        None => match sight.is_there(&directory.join("model.onnx")) {
            true => directory.join("model.onnx"),
            false => return only_onnx(sight, directory),
        },
    };
    match sight.stat(&path) {
        Ok(stat) if stat.is_folder => inside(sight, &path),
        Ok(_) => Ok(path),
        Err(error) if wanted.is_some() && error.kind() == std::io::ErrorKind::NotFound => Err(format!(
            "{shown}: no '{}' in it, which the settings name as the model file",
            wanted.unwrap_or_default()
        )),
        Err(error) => Err(cannot_read(&path, &error)),
    }
}

/// The file in a directory that stands where a model file is expected: the one of the directory's own name,
/// `model.onnx`, or the only `*.onnx`.
fn inside(sight: &dyn Sight, directory: &Path) -> Result<PathBuf, String> {
    let own_name = directory.file_name().map(|name| directory.join(name));
    let candidates = own_name.into_iter().chain([directory.join("model.onnx")]);
    let mut candidates = candidates.into_iter();
    let is_file = |path: &PathBuf| sight.stat(path).is_ok_and(|stat| stat.is_file);
    candidates.find(is_file).map_or_else(|| only_onnx(sight, directory), Ok)
}

fn only_onnx(sight: &dyn Sight, directory: &Path) -> Result<PathBuf, String> {
    let unreadable = |error: std::io::Error| cannot_read(directory, &error);
    let (mut onnx, mut others) = (Vec::new(), Vec::new());
    for entry in sight.entries(directory).map_err(unreadable)? {
        let name = entry.name;
        if is_hidden(&name) {
            continue;
        }
        let path = directory.join(&name);
        let list =
            if is_onnx(&path) && !sight.stat(&path).is_ok_and(|stat| stat.is_folder) { &mut onnx } else { &mut others };
        list.push(name);
    }
    let shown = directory.display();
    match onnx.as_slice() {
        [only] => Ok(directory.join(only)),
        [] => Err(format!("{shown}: no model file: looked for model.onnx or one *.onnx, found {}", some_of(others))),
        _ => Err(format!("{shown}: several model files ({}): name one model.onnx, or in the settings", some_of(onnx))),
    }
}

/// The first few of `names`, for a message.
fn some_of(names: Vec<OsString>) -> String {
    const SHOWN: usize = 5;
    let mut names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    match (names.is_empty(), more) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => names.join(", "),
        (false, _) => format!("{} and {more} more", names.join(", ")),
    }
}

/// What the files in and below `directory` weigh. Links to files count as the files (Kubernetes mounts are made of
/// them); links to directories are not followed, so that no circle is walked. What cannot be read weighs nothing:
/// loading will say.
pub(super) fn extent(sight: &dyn Sight, directory: &Path) -> Extent {
    let mut total = Extent::default();
    let mut entries_left = ENTRIES_MAX;
    let mut pending = vec![(directory.to_owned(), 0)];
    while let Some((directory, depth)) = pending.pop() {
        let Ok(entries) = sight.entries(&directory) else {
            continue;
        };
        for entry in entries {
            if entries_left == 0 {
                return total;
            }
            entries_left -= 1;
            if is_hidden(&entry.name) {
                continue;
            }
            let path = directory.join(&entry.name);
            let Ok(stat) = sight.stat(&path) else {
                continue;
            };
            if stat.is_file {
                total.bytes = total.bytes.saturating_add(stat.bytes);
                total.stamp = total.stamp.wrapping_add(stat.stamp(&path));
                total.modified = total.modified.max(stat.modified);
            } else if depth < DEPTH_MAX && entry.is_folder {
                pending.push((path, depth + 1));
            }
        }
    }
    total
}
