//! Repositories in stores: listed when they are looked at, fetched version by version when one is to be loaded.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::beside;
use super::disk::Here;
use super::layout::{
    self, Listed, ModelListing, OWN_SETTINGS, TRITON_SETTINGS, VersionFiles, is_folder_model, is_of_model, relative,
};
use crate::error::{Error, Result};
use crate::model::ModelName;
use crate::model::settings::Parsed;
use crate::storage::{Class, RemoteUri, SUMS_FILE, Snapshot, Source, Storage, Tree, Wanted};

/// How often a version that changes while it is fetched is listed anew. A writer who is at it is done by then, or is no writer of
/// whole versions.
const LISTED_MAX: u32 = 3;

/// A place in a store.
pub(super) struct Remote {
    source: Source,
    /// As people see it, and what the paths of its listings start with.
    root: PathBuf,
    /// Where it is one model and no repository: the name it is served under.
    single: Option<ModelName>,
    /// What was listed last.
    latest: Mutex<Snapshot>,
}

impl Remote {
    pub(super) fn open(storage: &Arc<Storage>, uri: &RemoteUri, single: Option<ModelName>) -> Result<Self> {
        let source = storage.source(uri.clone())?;
        Ok(Self { source, root: layout::root_of(uri), single, latest: Mutex::default() })
    }

    /// Breaks off what is being fetched.
    pub(super) fn close(&self) {
        self.source.close();
    }

    /// How many folders deep settings lie.
    fn depth(&self) -> usize {
        usize::from(self.single.is_none())
    }

    fn latest(&self) -> std::sync::MutexGuard<'_, Snapshot> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every model that there is now.
    pub(super) fn scan(&self) -> Result<Vec<ModelListing>> {
        let snapshot = self.source.snapshot(None, self.depth())?;
        let listed = Listed::new(&self.root, &snapshot);
        let listings = match &self.single {
            Some(name) => vec![layout::scan_model(&listed, name.clone(), &self.root, None)],
            None => {
                if let Some(hint) = layout::mistaken_for_model(&listed, &self.root) {
                    tracing::warn!("{hint}");
                }
                layout::scan(&listed, &self.root)?
            }
        };
        *self.latest() = snapshot;
        Ok(listings)
    }

    /// The model called `name`, if it is here now.
    pub(super) fn look_up(&self, name: &str, settings: Option<&Parsed>) -> Result<Option<ModelListing>> {
        match &self.single {
            Some(single) if single.as_str() != name => Ok(None),
            Some(single) => {
                self.list_anew("")?;
                let latest = self.latest();
                let listed = Listed::new(&self.root, &latest);
                Ok(Some(layout::scan_model(&listed, single.clone(), &self.root, settings)))
            }
            None if !layout::may_be_named(name) => Ok(None),
            None => {
                self.list_anew(name)?;
                let latest = self.latest();
                layout::look_up(&Listed::new(&self.root, &latest), &self.root, name, settings)
            }
        }
    }

    /// Brings what is known of the folder `below` up to date; of all for "".
    fn list_anew(&self, below: &str) -> Result<()> {
        if below.is_empty() {
            *self.latest() = self.source.snapshot(None, self.depth())?;
            return Ok(());
        }
        let fresh = self.source.snapshot(Some(below), self.depth())?;
        let within = |path: &String| path.strip_prefix(below).is_some_and(|rest| rest.starts_with('/'));
        let mut latest = self.latest();
        latest.objects.retain(|path, _| !within(path));
        latest.texts.retain(|path, _| !within(path));
        latest.objects.extend(fresh.objects);
        latest.texts.extend(fresh.texts);
        Ok(())
    }

    /// Whether a version of `listing` is one of this place's.
    pub(super) fn holds(&self, listing: &ModelListing, files: &VersionFiles) -> bool {
        let below = |path: &Path| path == self.root || relative(&self.root, path).is_some();
        let named = self.single.as_ref().is_none_or(|single| *single == listing.name);
        named && below(&files.path)
    }

    /// A folder of this machine with what a version needs.
    pub(super) fn fetch(&self, listing: &ModelListing, files: &VersionFiles) -> Result<Here> {
        let label = format!("model '{}' version {}", listing.name, files.version);
        let model = relative(&self.root, &listing.directory).unwrap_or_default();
        let mut listed = 1;
        loop {
            let wanted = wanted(&self.latest(), &self.root, listing, files);
            match self.source.fetch(&label, &wanted, listing.settings.digest.is_some()) {
                Ok(tree) => return Ok(here(tree, &self.root, listing, files)),
                Err(failure) if failure.class == Class::Changed && listed < LISTED_MAX => {
                    tracing::info!("{label} is listed anew: {failure}");
                    listed += 1;
                    self.list_anew(&model)?;
                }
                Err(failure) if failure.class == Class::Changed => {
                    return Err(Error::unavailable(format!("{failure}, {listed} times: is it being written?")));
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }
}

/// The folder of a model, relative to the root; for a single file, which is the root, where it lies.
fn paths_of(root: &Path, listing: &ModelListing, files: &VersionFiles) -> (String, String) {
    let file = relative(root, &files.path).unwrap_or_default();
    (relative(root, &listing.directory).unwrap_or_default(), file)
}

/// What is to be fetched for a version: everything in its folder (of a Hugging Face folder what the model is loaded from, not the
/// same weights for other engines), and beside that the label files that the settings name, a tokenizer with its files and
/// `SHA256SUMS`. A model without versions has one folder for all, where the settings are read already.
fn wanted(snapshot: &Snapshot, root: &Path, listing: &ModelListing, files: &VersionFiles) -> Wanted {
    let (model, file) = paths_of(root, listing, files);
    if file.is_empty() && listing.settings.runtime.needs_file() {
        let name = files.path.file_name().and_then(|name| name.to_str()).unwrap_or("model.onnx").to_owned();
        return snapshot.objects.get("").map(|object| (name, (String::new(), object.clone()))).into_iter().collect();
    }
    let folder = if model.is_empty() { String::new() } else { format!("{model}/") };
    let version = format!("{}/", files.version);
    let has_folder = file.strip_prefix(&folder).is_some_and(|path| path.starts_with(&version));
    let labels: Vec<&str> = listing.settings.outputs.iter().filter_map(|output| output.labels.as_deref()).collect();
    let is_hidden = |path: &str| path.split('/').any(|part| part.starts_with(['.', '_']));
    let below = |prefix: &str| {
        let paths = snapshot.objects.range(prefix.to_owned()..).map(|(path, _)| path.as_str());
        let prefix = prefix.to_owned();
        paths.map_while(move |path| path.strip_prefix(&prefix)).collect::<Vec<_>>()
    };
    let own = below(&if has_folder { format!("{folder}{version}") } else { folder.clone() });
    let is_own = |path: &str| !is_folder_model(&files.path) || is_of_model(path, own.iter().copied());
    let is_wanted = |path: &str| {
        let beside = labels.contains(&path) || path == SUMS_FILE || beside::is_shared(path);
        match (listing.settings.runtime.needs_file(), has_folder) {
            (false, _) => labels.contains(&path),
            (true, true) => beside || !is_hidden(path) && path.strip_prefix(&version).is_some_and(is_own),
            (true, false) => {
                beside || ![OWN_SETTINGS, TRITON_SETTINGS].contains(&path) && !is_hidden(path) && is_own(path)
            }
        }
    };
    let below = snapshot
        .objects
        .range(folder.clone()..)
        .map_while(|(path, object)| Some((path, path.strip_prefix(&folder)?, object)));
    let wanted = below.filter(|(_, inner, _)| is_wanted(inner));
    wanted.map(|(path, inner, object)| (inner.to_owned(), (path.clone(), object.clone()))).collect()
}

/// The version where it lies now.
fn here(tree: Tree, root: &Path, listing: &ModelListing, files: &VersionFiles) -> Here {
    let (model, file) = paths_of(root, listing, files);
    let directory = tree.directory().to_owned();
    let path = if !listing.settings.runtime.needs_file() {
        directory.clone()
    } else if file.is_empty() {
        directory.join(files.path.file_name().unwrap_or_default())
    } else {
        directory.join(file.strip_prefix(&model).unwrap_or(&file).trim_start_matches('/'))
    };
    let listing = ModelListing { directory, ..listing.clone() };
    Here { listing, files: VersionFiles { path, ..files.clone() }, tree: Some(Arc::new(tree)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Version;
    use crate::storage::Object;

    fn snapshot(paths: &[&str]) -> Snapshot {
        let object = |path: &&str| {
            ((*path).to_owned(), Object { bytes: 3, tag: Some("t".into()), modified_ms: 0, sha256: None })
        };
        Snapshot { objects: paths.iter().map(object).collect(), ..Snapshot::default() }
    }

    fn wanted_of(paths: &[&str], name: &str, version: u64) -> Vec<String> {
        let (root, mut snapshot) = (Path::new("s3://b/models"), snapshot(paths));
        snapshot.texts.insert("flat/model.toml".into(), Ok(Vec::new()));
        let listing = layout::scan(&Listed::new(root, &snapshot), root).unwrap();
        let listing = listing.into_iter().find(|listing| listing.name.as_str() == name).unwrap();
        let version = Version::new(version).unwrap();
        let files = listing.versions.iter().find(|files| files.version == version).unwrap();
        wanted(&snapshot, root, &listing, files).into_keys().collect()
    }

    #[test]
    fn a_version_needs_its_own_folder_and_nothing_of_others() {
        let paths = [
            "m/1/model.onnx",
            "m/1/weights/a.bin",
            "m/1/.hidden",
            "m/10/model.onnx",
            "m/2/model.onnx",
            "m/SHA256SUMS",
            "m/notes.txt",
            "m-other/1/model.onnx",
            "flat/model.onnx",
            "flat/weights.bin",
            "flat/model.toml",
        ];
        assert_eq!(wanted_of(&paths, "m", 1), ["1/model.onnx", "1/weights/a.bin", "SHA256SUMS"]);
        assert_eq!(wanted_of(&paths, "m", 10), ["10/model.onnx", "SHA256SUMS"]);
        assert_eq!(wanted_of(&paths, "flat", 1), ["model.onnx", "weights.bin"]);
    }

    #[test]
    fn of_a_hugging_face_folder_only_what_the_model_is_loaded_from_is_fetched() {
        let files = [
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "tokenizer.json",
            "modules.json",
            "1_Pooling/config.json",
            "README.md",
        ];
        let own = ["1_Pooling/config.json", "config.json", "model.safetensors", "modules.json", "tokenizer.json"];
        let paths: Vec<String> =
            ["flat", "m/2"].iter().flat_map(|model| files.map(|file| format!("{model}/{file}"))).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        assert_eq!(wanted_of(&paths, "flat", 1), own);
        assert_eq!(wanted_of(&paths, "m", 2), own.map(|file| format!("2/{file}")));
    }

    #[test]
    fn a_version_needs_the_tokenizer_that_all_versions_share_but_none_of_others() {
        let paths =
            ["m/1/model.onnx", "m/1_Pooling/config.json", "m/2/config.json", "m/2/model.onnx", "m/tokenizer.json"];
        assert_eq!(wanted_of(&paths, "m", 1), ["1/model.onnx", "1_Pooling/config.json", "tokenizer.json"]);
    }

    #[test]
    fn a_change_of_any_file_changes_the_stamp_of_its_version_alone() {
        let root = Path::new("s3://b/models");
        let stamps = |snapshot: &Snapshot| {
            let listing = layout::scan(&Listed::new(root, snapshot), root).unwrap().remove(0);
            listing.versions.iter().map(|files| files.stamp).collect::<Vec<_>>()
        };
        let mut snapshot = snapshot(&["m/1/model.onnx", "m/2/model.onnx", "m/2/w.bin"]);
        let before = stamps(&snapshot);
        snapshot.objects.get_mut("m/2/w.bin").unwrap().tag = Some("other".into());
        let after = stamps(&snapshot);
        assert!(before[0] == after[0] && before[1] != after[1]);
    }
}
