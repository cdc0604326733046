//! The weights of a folder, by name: in one file, or in several with an index.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tensorgate_kernels::Panels;

use super::config::Config;
use super::encoder::{Dense, Norm, Table};
use super::safetensors::{Entry, Safetensors};
use crate::error::{Error, Result};

/// The file of all weights, and the list of the files that they are spread over.
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Files that the weights of one model may be spread over: the largest in the wild have some two hundred.
const FILES_MAX: usize = 1000;

/// All tensors of a model.
pub(super) struct Checkpoint {
    folder: PathBuf,
    files: Vec<Safetensors>,
    /// By name: which file has it, and where.
    tensors: BTreeMap<String, (usize, Entry)>,
}

impl Checkpoint {
    /// Opens the files of `folder` and reads their headers.
    ///
    /// # Errors
    /// `ModelUnavailable` that names the file.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let files = weight_files(folder)?.iter().map(|path| Safetensors::open(path)).collect::<Result<Vec<_>>>()?;
        let mut tensors = BTreeMap::new();
        for (position, file) in files.iter().enumerate() {
            let entries = file.header.tensors.iter();
            tensors.extend(entries.map(|(name, entry)| (name.clone(), (position, entry.clone()))));
        }
        Ok(Self { folder: folder.to_owned(), files, tensors })
    }

    /// Those of a model without any, of which every tensor is missing.
    pub(super) fn empty(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), files: Vec::new(), tensors: BTreeMap::new() }
    }

    /// How many numbers there are.
    #[cfg(test)]
    pub(super) fn parameters(&self) -> usize {
        self.tensors.values().map(|(_, entry)| entry.shape.iter().product::<usize>()).sum()
    }

    /// The datatype of all tensors, as safetensors calls it, where they have one: "F16".
    #[cfg(feature = "candle")]
    pub(super) fn datatype(&self) -> Option<&str> {
        let mut datatypes = self.tensors.values().map(|(_, entry)| &*entry.datatype);
        let first = datatypes.next()?;
        datatypes.all(|datatype| datatype == first).then_some(first)
    }

    /// All tensors, by their whole names.
    pub(super) fn weights(&self) -> Weights<'_> {
        Weights { checkpoint: self, prefix: String::new() }
    }

    /// What to call the place of weights in a message.
    fn shown(&self) -> String {
        match self.files.as_slice() {
            [only] => only.path.display().to_string(),
            _ => self.folder.join(INDEX).display().to_string(),
        }
    }
}

/// The files of weights in `folder`.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let (whole, index) = (folder.join(WEIGHTS), folder.join(INDEX));
    if whole.exists() {
        return Ok(vec![whole]);
    }
    if index.exists() {
        let config = Config::read(&index)?;
        let map = config.get("weight_map").and_then(Value::as_object);
        let map = map.ok_or_else(|| config.wrong("has no 'weight_map' from tensors to files"))?;
        let mut names: Vec<&str> = map.values().filter_map(Value::as_str).collect();
        names.sort_unstable();
        names.dedup();
        // A name that leads elsewhere is no file of this model.
        let plain = |name: &&str| name.ends_with(".safetensors") && !name.contains('/') && !name.starts_with('.');
        if let Some(odd) = names.iter().find(|name| !plain(name)) {
            return Err(
                config.wrong(format!("names the file '{}', expected *.safetensors beside it", odd.escape_debug()))
            );
        }
        if names.is_empty() || names.len() > FILES_MAX {
            return Err(config.wrong(format!("names {} files, expected 1 to {FILES_MAX}", names.len())));
        }
        return Ok(names.into_iter().map(|name| folder.join(name)).collect());
    }
    let unreadable =
        |cause: std::io::Error| Error::unavailable(format!("{}: cannot be read: {cause}", folder.display()));
    let entries = std::fs::read_dir(folder).map_err(unreadable)?.flatten().map(|entry| entry.path());
    let is_ours = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "safetensors");
    let found: Vec<PathBuf> = entries.filter(is_ours).collect();
    match found.as_slice() {
        [_] => Ok(found),
        _ => Err(Error::unavailable(format!(
            "{}: {} files of weights (*.safetensors), expected {WEIGHTS}, or {INDEX} and the files that it names",
            folder.display(),
            found.len()
        ))),
    }
}

/// Tensors whose names start alike.
pub(super) struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    prefix: String,
}

impl<'a> Weights<'a> {
    /// Those below `name`.
    pub(super) fn at(&self, name: impl std::fmt::Display) -> Weights<'a> {
        Weights { checkpoint: self.checkpoint, prefix: format!("{}{name}.", self.prefix) }
    }

    /// Those below `name` where a tensor `known` is below it: checkpoints of bare encoders leave the name out.
    pub(super) fn below(&self, name: &str, known: &str) -> Weights<'a> {
        let below = self.at(name);
        if below.has(known) || !self.has(known) { below } else { self.at_same() }
    }

    fn at_same(&self) -> Weights<'a> {
        Weights { checkpoint: self.checkpoint, prefix: self.prefix.clone() }
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.checkpoint.tensors.contains_key(&format!("{}{name}", self.prefix))
    }

    /// The first of `names` that there is, else the first.
    fn one_of<'n>(&self, names: &[&'n str]) -> &'n str {
        names.iter().find(|name| self.has(name)).unwrap_or(&names[0])
    }

    /// The values of a tensor, which has `shape`.
    ///
    /// # Errors
    /// `ModelUnavailable` that names the file and the tensor.
    pub(super) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let name = format!("{}{name}", self.prefix);
        let Some((file, entry)) = self.checkpoint.tensors.get(&name) else {
            return Err(Error::unavailable(format!(
                "{}: has no tensor '{name}', and config.json asks for one of shape {shape:?}",
                self.checkpoint.shown()
            )));
        };
        let file = &self.checkpoint.files[*file];
        if entry.shape != shape {
            return Err(Error::unavailable(format!(
                "{}: tensor '{name}' has shape {:?}, and config.json asks for {shape:?}",
                file.path.display(),
                entry.shape
            )));
        }
        file.floats(&name, entry)
    }

    fn floats_maybe(&self, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>> {
        if self.has(name) { self.floats(name, shape).map(Some) } else { Ok(None) }
    }

    /// A linear layer: `weight [outer, inner]`, and a `bias [outer]` where there is one.
    pub(super) fn dense(&self, name: &str, outer: usize, inner: usize) -> Result<Dense> {
        self.joined(&[name], outer, inner)
    }

    /// Linear layers of the same input as one, their outputs one behind the other.
    pub(super) fn joined(&self, names: &[&str], outer: usize, inner: usize) -> Result<Dense> {
        // Memory is taken for weights that are there, whatever sizes config.json states.
        let mut weight: Option<Panels> = None;
        let mut bias = Vec::new();
        for (position, name) in names.iter().enumerate() {
            let layer = self.at(name);
            let columns = layer.floats("weight", &[outer, inner])?;
            let weight = weight.get_or_insert_with(|| Panels::new(names.len() * outer, inner));
            weight.set_columns(position * outer, &columns);
            bias.push(layer.floats_maybe("bias", &[outer])?);
        }
        let any = bias.iter().any(Option::is_some);
        let bias = bias.into_iter().flat_map(|bias| bias.unwrap_or_else(|| vec![0.0; outer]));
        let weight = weight.unwrap_or_else(|| Panels::new(0, inner));
        Ok(Dense { weight, bias: any.then(|| bias.collect()) })
    }

    /// The linear layer that a convolution is whose patches do not overlap: `weight [outer, channels, height, width]`.
    pub(super) fn patches(&self, name: &str, outer: usize, [channels, height, width]: [usize; 3]) -> Result<Dense> {
        let layer = self.at(name);
        let columns = layer.floats("weight", &[outer, channels, height, width])?;
        let mut weight = Panels::new(outer, channels * height * width);
        weight.set_columns(0, &columns);
        Ok(Dense { weight, bias: layer.floats_maybe("bias", &[outer])? })
    }

    /// A linear layer whose weights are those of `table`, unless it has its own; with the bias that one of `biases` is.
    pub(super) fn tied(&self, name: &str, table: &Table, biases: &[&str]) -> Result<Dense> {
        let (outer, inner) = (table.rows(), table.width);
        let mut weight = Panels::new(outer, inner);
        match self.at(name).floats_maybe("weight", &[outer, inner])? {
            Some(own) => weight.set_columns(0, &own),
            None => weight.set_columns(0, &table.values),
        }
        Ok(Dense { weight, bias: Some(self.floats(self.one_of(biases), &[outer])?) })
    }

    /// A layer norm; `gamma` and `beta` are what old checkpoints call its weight and bias.
    pub(super) fn norm(&self, name: &str, width: usize, epsilon: f32) -> Result<Norm> {
        let norm = self.at(name);
        let weight = norm.floats(norm.one_of(&["weight", "gamma"]), &[width])?;
        let bias = norm.floats_maybe(norm.one_of(&["bias", "beta"]), &[width])?;
        Ok(Norm { weight, bias, epsilon })
    }

    /// A table of embeddings.
    pub(super) fn table(&self, name: &str, rows: usize, width: usize) -> Result<Table> {
        Ok(Table::new(self.at(name).floats("weight", &[rows, width])?, width))
    }
}
