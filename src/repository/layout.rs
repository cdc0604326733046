//! What is on disk, or listed of a store: models, their versions, their settings and files, read without loading anything.
//!
//! The layout is Triton's: `<repository>/<model>/<version>/model.onnx` with an optional `model.toml` or `config.pbtxt`
//! in the model's directory; beside it, `<repository>/<model>/model.onnx` is version 1. Where there is no ONNX file, a Hugging
//! Face folder (`config.json` and `*.safetensors`) is one in the same places. Whatever is found on the way
//! (no permission, broken links, odd names, broken settings) becomes a fault of the model or version it belongs to, so
//! that the others are served and `tensorgate check` can list everything at once.

mod files;
mod folder;
mod settings;
mod sight;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::model::settings::Parsed;
use crate::model::{ModelName, ModelSettings, Version};
use files::{Extent, extent, is_onnx, model_file};
pub(super) use folder::{is_folder_model, is_of_model};
pub(super) use settings::{OWN_SETTINGS, TRITON_SETTINGS};
use settings::{check_choice, check_traffic, read_settings};
use sight::is_hidden;
pub use sight::{Entry, Listed, Local, Sight, Stat};
pub(super) use sight::{relative, root_of};

/// A model as a directory shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelListing {
    /// The directory's name, or the one given on the command line.
    pub name: ModelName,
    /// The model's directory; for a single model file, the directory it is in.
    pub directory: PathBuf,
    /// Its settings; the default ones where there is no settings file, or a broken one.
    pub settings: ModelSettings,
    /// What a person should know, each naming the file. The model is served all the same.
    pub warnings: Vec<String>,
    /// Its versions, ascending, before the version policy chooses. Empty where the settings have faults: they say where
    /// to look for model files.
    pub versions: Vec<VersionFiles>,
    /// Why the model cannot be served, each naming the file or directory. Empty: it can, as far as a look at names
    /// tells.
    pub faults: Vec<String>,
}

/// A version of a model on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionFiles {
    /// The version.
    pub version: Version,
    /// The model file, of a Hugging Face folder its `config.json`; for a model that needs none, the model's directory.
    pub path: PathBuf,
    /// Of the model file and everything beside it, which is where ONNX keeps external weights.
    pub bytes: u64,
    /// When the newest of these files was last written, where the file system says so.
    pub modified: Option<SystemTime>,
    /// Changes with every one of these files: their names, sizes, times of writing and ETags.
    pub stamp: u64,
    /// Why this version cannot be served. The others can.
    pub fault: Option<String>,
}

impl ModelListing {
    fn new(name: ModelName, directory: &Path) -> Self {
        let settings = ModelSettings::default();
        let (warnings, versions, faults) = (Vec::new(), Vec::new(), Vec::new());
        Self { name, directory: directory.to_owned(), settings, warnings, versions, faults }
    }

    fn take_over(&mut self, settings: &Parsed) {
        self.settings = settings.settings.clone();
        self.warnings.extend(settings.warnings.iter().cloned());
    }

    fn faulty(name: ModelName, directory: &Path, fault: String) -> Self {
        let mut listing = Self::new(name, directory);
        listing.faults.push(fault);
        listing
    }
}

/// Every model of a repository, sorted by name. Plain files are no models, nor is what starts with `.` or `_` (editors,
/// Kubernetes' volumes, Python's caches), nor the `lost+found` of a fresh disk.
///
/// # Errors
/// [`crate::error::Kind::ModelUnavailable`] where the repository itself cannot be read. What is wrong inside it
/// stands in the listings.
pub fn scan(sight: &dyn Sight, repository: &Path) -> Result<Vec<ModelListing>> {
    let mut listings = Vec::new();
    for entry in sight.entries(repository).map_err(|error| unreadable(repository, error))? {
        listings.extend(scan_entry(sight, repository, &entry.name, None));
    }
    listings.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listings)
}

/// The model called `name` of a repository, if it has one, with `settings` in place of its own where they are given.
///
/// # Errors
/// [`crate::error::Kind::ModelUnavailable`] where the repository itself cannot be read.
pub fn look_up(
    sight: &dyn Sight,
    repository: &Path,
    name: &str,
    settings: Option<&Parsed>,
) -> Result<Option<ModelListing>> {
    sight.stat(repository).map_err(|error| unreadable(repository, error))?;
    // What is no single name would be looked up elsewhere.
    if !may_be_named(name) || !sight.is_there(&repository.join(name)) {
        return Ok(None);
    }
    Ok(scan_entry(sight, repository, OsStr::new(name), settings))
}

/// Whether a repository can hold a model called `name`.
pub fn may_be_named(name: &str) -> bool {
    const BYTES_MAX: usize = 255;
    let is_plain = !name.is_empty() && name.len() <= BYTES_MAX && !name.contains(['/', '\0']);
    is_plain && is_model_entry(OsStr::new(name))
}

fn is_model_entry(file_name: &OsStr) -> bool {
    !is_hidden(file_name) && file_name != "lost+found"
}

/// The model that an entry of a repository is, if any.
fn scan_entry(
    sight: &dyn Sight,
    repository: &Path,
    file_name: &OsStr,
    settings: Option<&Parsed>,
) -> Option<ModelListing> {
    if !is_model_entry(file_name) {
        return None;
    }
    let directory = repository.join(file_name);
    let lossy = ModelName::new(file_name.to_string_lossy());
    match sight.stat(&directory) {
        Ok(stat) if !stat.is_folder => None,
        Ok(_) => Some(match file_name.to_str() {
            Some(name) => scan_model(sight, ModelName::new(name), &directory, settings),
            None => {
                let shown = directory.display();
                let fault = format!("{shown}: the directory's name is not UTF-8, so no request can name it");
                ModelListing::faulty(lossy, &directory, fault)
            }
        }),
        Err(error) => Some(ModelListing::faulty(lossy, &directory, cannot_read(&directory, &error))),
    }
}

fn unreadable(repository: &Path, error: io::Error) -> Error {
    Error::unavailable(format!("model repository {} cannot be read: {error}", repository.display())).with_source(error)
}

/// Why `repository` looks like the directory of one model, which a person gave in place of its parent: what to say to
/// them. Its versions would otherwise be taken for models called "1" and "2".
pub fn mistaken_for_model(sight: &dyn Sight, repository: &Path) -> Option<String> {
    let mut usual =
        [OWN_SETTINGS, TRITON_SETTINGS, "model.onnx", "model.safetensors", "model.safetensors.index.json"].into_iter();
    let inside = usual.find(|name| sight.stat(&repository.join(name)).is_ok())?;
    let shown = repository.display();
    Some(format!(
        "{shown} holds {inside}, so it looks like one model and not like a repository of models: give the directory above \
         it, or --model-name NAME and {} {shown}",
        if shown.to_string().contains("://") { "--storage-uri" } else { "--model-dir" }
    ))
}

/// One model, whose `directory` may hold version directories, or a model file itself; it may also be a path to an
/// `.onnx` file, which is then served without a settings file. Where `settings` are given, they hold, and no settings file
/// is read.
pub fn scan_model(sight: &dyn Sight, name: ModelName, directory: &Path, settings: Option<&Parsed>) -> ModelListing {
    match sight.stat(directory) {
        Err(error) => ModelListing::faulty(name, directory, cannot_read(directory, &error)),
        Ok(stat) if stat.is_folder => scan_directory(sight, ModelListing::new(name, directory), settings),
        Ok(stat) if is_onnx(directory) => {
            let own = Extent { bytes: stat.bytes, modified: stat.modified, stamp: stat.stamp(directory) };
            let mut listing = ModelListing::new(name, directory.parent().unwrap_or(Path::new("")));
            listing.versions.push(version_files(Version::ONE, directory.to_owned(), own));
            if let Some(settings) = settings {
                listing.take_over(settings);
                return listing;
            }
            let beside = [OWN_SETTINGS, TRITON_SETTINGS].map(|file| listing.directory.join(file));
            if let Some(unread) = beside.iter().find(|path| sight.stat(path).is_ok_and(|stat| stat.is_file)) {
                let message = "is not read, because the model is given as a file: give its directory instead";
                listing.warnings.push(format!("{}: {message}", unread.display()));
            }
            listing
        }
        Ok(_) => {
            let fault = format!("{}: neither a directory nor an .onnx file", directory.display());
            ModelListing::faulty(name, directory, fault)
        }
    }
}

/// The models of several repositories as one, sorted by name. A name that several repositories have is not served from
/// either, as Triton does it: which one is meant would depend on the order of the command line. The first one's listing
/// stays, with a fault that names them all.
pub fn merge(listings: Vec<Vec<ModelListing>>) -> Vec<ModelListing> {
    let mut by_name: BTreeMap<ModelName, (ModelListing, Vec<PathBuf>)> = BTreeMap::new();
    for listing in listings.into_iter().flatten() {
        match by_name.get_mut(&listing.name) {
            Some((_, others)) => others.push(listing.directory),
            None => {
                by_name.insert(listing.name.clone(), (listing, Vec::new()));
            }
        }
    }
    let merged = by_name.into_values().map(|(mut listing, others)| {
        if !others.is_empty() {
            let places: Vec<_> =
                std::iter::once(&listing.directory).chain(&others).map(|path| path.display().to_string()).collect();
            let fault =
                format!("model '{}' is in several repositories, keep one of {}", listing.name, places.join(" and "));
            listing.faults.push(fault);
        }
        listing
    });
    merged.collect()
}

fn scan_directory(sight: &dyn Sight, mut listing: ModelListing, settings: Option<&Parsed>) -> ModelListing {
    let directory = listing.directory.clone();
    let sound = match settings {
        Some(settings) => {
            listing.take_over(settings);
            true
        }
        None => read_settings(sight, &mut listing),
    };
    let versions = match version_directories(sight, &directory) {
        Ok(versions) => versions,
        Err(error) => {
            listing.faults.push(cannot_read(&directory, &error));
            return listing;
        }
    };
    if !sound {
        return listing;
    }
    if !listing.settings.runtime.needs_file() {
        let numbers = if versions.is_empty() { vec![Version::ONE] } else { versions };
        let files = |version| version_files(version, directory.clone(), Extent::default());
        listing.versions = numbers.into_iter().map(files).collect();
    } else if versions.is_empty() {
        scan_flat(sight, &mut listing);
    } else {
        listing.versions = versions.into_iter().map(|version| scan_version(sight, &listing, version)).collect();
        let ignored = ["model.onnx", "model.safetensors"].map(|name| directory.join(name));
        for ignored in ignored.iter().filter(|path| sight.stat(path).is_ok()) {
            let message = "is not served, because there are version directories beside it";
            listing.warnings.push(format!("{}: {message}", ignored.display()));
        }
    }
    check_choice(&mut listing);
    check_traffic(&mut listing);
    listing
}

/// A model directory without versions: its own file is version 1.
fn scan_flat(sight: &dyn Sight, listing: &mut ModelListing) {
    match model_file(sight, &listing.directory, &listing.settings) {
        Ok(path) => {
            let extent = extent(sight, &path, path.parent().unwrap_or(&listing.directory));
            listing.versions.push(version_files(Version::ONE, path, extent));
        }
        Err(fault) => listing.faults.push(format!("{fault}; nor is there a version directory such as 1/")),
    }
}

fn scan_version(sight: &dyn Sight, listing: &ModelListing, version: Version) -> VersionFiles {
    let directory = listing.directory.join(version.to_string());
    match model_file(sight, &directory, &listing.settings) {
        Ok(path) => {
            let extent = extent(sight, &path, &directory);
            version_files(version, path, extent)
        }
        Err(fault) => VersionFiles { fault: Some(fault), ..version_files(version, directory, Extent::default()) },
    }
}

fn version_files(version: Version, path: PathBuf, extent: Extent) -> VersionFiles {
    let Extent { bytes, modified, stamp } = extent;
    VersionFiles { version, path, bytes, modified, stamp, fault: None }
}

/// Versions that have a directory, or a broken link to one, ascending. Other names are no versions: notes, label files,
/// `01`, `latest`.
fn version_directories(sight: &dyn Sight, directory: &Path) -> io::Result<Vec<Version>> {
    let mut versions = Vec::new();
    for entry in sight.entries(directory)? {
        let Some(version) = entry.name.to_str().and_then(Version::parse) else {
            continue;
        };
        if sight.stat(&directory.join(&entry.name)).map_or(true, |stat| stat.is_folder) {
            versions.push(version);
        }
    }
    versions.sort_unstable();
    Ok(versions)
}

fn cannot_read(path: &Path, error: &io::Error) -> String {
    format!("{}: cannot be read: {error}", path.display())
}
