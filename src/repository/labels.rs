//! Label files: the names of an output's classes, one a line, beside the model's settings.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::path::PathBuf;

use super::layout::ModelListing;
use crate::error::{Error, Result};
use crate::infer::Labels;

/// Bytes that a label file may have: ImageNet's 21841 classes take 1 MiB. Keeps a model file that is named by mistake out of
/// memory.
const LABELS_BYTES_MAX: u64 = 16 << 20;

/// The label files that the settings name, with their outputs.
fn named(listing: &ModelListing) -> impl Iterator<Item = (&str, PathBuf)> {
    let outputs = listing.settings.outputs.iter();
    outputs.filter_map(|output| Some((output.name.as_str(), listing.directory.join(output.labels.as_ref()?))))
}

/// Reads the label files of a model, by output.
///
/// # Errors
/// `ModelUnavailable` that names the file: a client that asks for classes would get numbers without names.
pub(super) fn read(listing: &ModelListing) -> Result<BTreeMap<String, Labels>> {
    let read = |(output, path): (&str, PathBuf)| {
        let refused = |cause: &dyn std::fmt::Display| {
            let message = format!("{}: cannot read the labels of output '{output}': {cause}", path.display());
            Error::unavailable(message)
        };
        let mut text = String::new();
        let file = File::open(&path).map_err(|cause| refused(&cause))?;
        file.take(LABELS_BYTES_MAX + 1).read_to_string(&mut text).map_err(|cause| refused(&cause))?;
        if text.len() as u64 > LABELS_BYTES_MAX {
            return Err(refused(&format_args!("it has more than {LABELS_BYTES_MAX} bytes")));
        }
        Ok((output.to_owned(), Labels::from_text(&text)))
    };
    named(listing).map(read).collect()
}

/// Lets a change of a label file count as a change of the model.
pub(super) fn fingerprint(listing: &ModelListing, hasher: &mut impl Hasher) {
    for (_, path) in named(listing) {
        let file = fs::metadata(path).ok();
        file.map(|file| (file.len(), file.modified().ok())).hash(hasher);
    }
}
