//! What this runtime reads of files, as functions of bytes, for the fuzz targets alone.

use std::path::Path;

use super::assemble;
use super::checkpoint::Checkpoint;
use super::config::Config;
use super::safetensors::Header;
use crate::error::{Error, Result};

/// Reads `config.json` up to the first tensor that it asks for, of which there is none.
///
/// # Errors
/// Always `ModelUnavailable`: what is wrong with it, or the tensor that is missing.
pub fn config(bytes: &[u8]) -> Result<()> {
    let folder = Path::new("model");
    let path = folder.join("config.json");
    let value =
        serde_json::from_slice(bytes).map_err(|cause| Error::unavailable(format!("{}: {cause}", path.display())))?;
    let config = Config::of(&path, value)?;
    assemble(&config, &Checkpoint::empty(folder), folder, 1).map(|_| ())
}

/// Reads the header of a file of weights; gives the number of its tensors, and the bytes that they take in a file of
/// `length`.
///
/// # Errors
/// What is wrong with it.
pub fn safetensors_header(bytes: &[u8], length: u64) -> Result<(usize, u64), String> {
    let header = Header::parse(bytes, length)?;
    Ok((header.tensors.len(), header.bytes()))
}
