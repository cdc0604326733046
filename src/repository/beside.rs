//! The files of a version that make its text face: a tokenizer, and what lies with it.

use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use super::disk::Here;
use super::layout::ModelListing;
use crate::error::Result;
use crate::model::Version;
use crate::text::{Beside, is_read};

/// Reads what lies beside the model file, or above it up to the model's directory: versions may share a tokenizer. A model that was
/// given as a single file has nothing beside it.
///
/// # Errors
/// `ModelUnavailable` that names the file.
pub(super) fn read(here: &Here) -> Result<Option<Beside>> {
    let Here { listing, files, .. } = here;
    let own = fs::metadata(&files.path).ok();
    let folder = match &own {
        Some(own) if own.is_dir() => Some(files.path.as_path()),
        _ => files.path.parent(),
    };
    let alone = own.is_some_and(|own| own.is_file() && own.len() == files.bytes);
    if alone && folder == Some(&listing.directory) {
        return Ok(None);
    }
    let above = folder.into_iter().flat_map(Path::ancestors);
    Beside::find(above.take_while(|folder| folder.starts_with(&listing.directory)))
}

/// Whether a file of a model's directory, at `path` in it, is for all of its versions' text faces.
pub(super) fn is_shared(path: &str) -> bool {
    is_read(path) && path.split_once('/').is_none_or(|(folder, _)| Version::parse(folder).is_none())
}

/// Lets a change of what versions share count as a change of the model.
pub(super) fn fingerprint(listing: &ModelListing, hasher: &mut impl Hasher) {
    let Ok(entries) = fs::read_dir(&listing.directory) else { return };
    let is_file = |name: &str| is_read(name).then(|| listing.directory.join(name));
    let mut shared: Vec<PathBuf> = entries.flatten().filter_map(|entry| is_file(entry.file_name().to_str()?)).collect();
    shared.sort_unstable();
    for path in shared {
        let file = fs::metadata(&path).ok();
        (path, file.map(|file| (file.len(), file.modified().ok()))).hash(hasher);
    }
}
