//! The model file in a directory, and what it and its neighbours weigh.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::folder::{folder_model, is_folder_model, is_of_model};
use super::{Sight, cannot_read, is_hidden};
use crate::model::{ModelSettings, RuntimeChoice};

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

/// The model file in `directory`: the one that the settings name if they do, else `model.onnx`, else the only `*.onnx`, else
/// the `config.json` of a Hugging Face folder; that alone where the settings choose its runtime. An ONNX file may be a
/// directory that holds it with its external weights, as Triton has it. The error says what was looked for.
pub(super) fn model_file(sight: &dyn Sight, directory: &Path, settings: &ModelSettings) -> Result<PathBuf, String> {
    let shown = directory.display();
    let wanted = settings.model_file.as_deref();
    if settings.runtime == RuntimeChoice::Candle && wanted.is_none() {
        let nothing = || Err(format!("{shown}: no model: looked for config.json with *.safetensors beside it"));
        return folder_model(sight, directory).unwrap_or_else(nothing);
    }
    let path = match wanted {
        Some(wanted) => directory.join(wanted),
        None => match sight.is_there(&directory.join("model.onnx")) {
            true => directory.join("model.onnx"),
            false => match (only_onnx(sight, directory), settings.runtime) {
                (Err(Missing::Any(found)), RuntimeChoice::Auto) => {
                    return folder_model(sight, directory).unwrap_or_else(|| Err(nothing_in(directory, &found)));
                }
                (only, _) => return only.map_err(|missing| missing.told(directory)),
            },
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
    candidates.find(is_file).map_or_else(|| only_onnx(sight, directory).map_err(|missing| missing.told(directory)), Ok)
}

/// Why there is no one ONNX file.
enum Missing {
    /// There is none; these are there.
    Any(String),
    /// Anything else.
    Else(String),
}

impl Missing {
    fn told(self, directory: &Path) -> String {
        match self {
            Missing::Any(found) => nothing_in(directory, &found),
            Missing::Else(why) => why,
        }
    }
}

fn nothing_in(directory: &Path, found: &str) -> String {
    let looked_for = "model.onnx or one *.onnx, or config.json with *.safetensors";
    format!("{}: no model file: looked for {looked_for}, found {found}", directory.display())
}

fn only_onnx(sight: &dyn Sight, directory: &Path) -> Result<PathBuf, Missing> {
    let unreadable = |error: std::io::Error| Missing::Else(cannot_read(directory, &error));
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
        [] => Err(Missing::Any(some_of(others))),
        _ => {
            let several = some_of(onnx);
            let why = format!("{shown}: several model files ({several}): name one model.onnx, or in the settings");
            Err(Missing::Else(why))
        }
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

/// What the files in and below `directory` weigh, those of a Hugging Face folder that are the model's, which is at `model`. Links to files count as the files (Kubernetes mounts are made of
/// them); links to directories are not followed, so that no circle is walked. What cannot be read weighs nothing:
/// loading will say.
pub(super) fn extent(sight: &dyn Sight, model: &Path, directory: &Path) -> Extent {
    let names: Option<Vec<String>> = is_folder_model(model).then(|| {
        let entries = sight.entries(directory).unwrap_or_default();
        entries.into_iter().filter_map(|entry| entry.name.into_string().ok()).collect()
    });
    let counts = |path: &Path| {
        let relative = path.strip_prefix(directory).ok().and_then(Path::to_str);
        names.as_ref().is_none_or(|all| relative.is_some_and(|path| is_of_model(path, all.iter().map(String::as_str))))
    };
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
            if stat.is_file && counts(&path) {
                total.bytes = total.bytes.saturating_add(stat.bytes);
                total.stamp = total.stamp.wrapping_add(stat.stamp(&path));
                total.modified = total.modified.max(stat.modified);
            } else if stat.is_folder && depth < DEPTH_MAX && entry.is_folder {
                pending.push((path, depth + 1));
            }
        }
    }
    total
}
