//! Where models come from: the repositories on disk and in stores, single models, and what load requests bring in place of
//! any.

use std::path::PathBuf;
use std::sync::Arc;

use super::RepositoryConfig;
use super::layout::{self, Local, ModelListing, VersionFiles};
use super::remote::Remote;
use super::upload::{Upload, Uploads};
use crate::error::{Error, Result};
use crate::model::settings::Parsed;
use crate::model::{LoadOverrides, ModelName};
use crate::storage::{Storage, Tree};
use crate::telemetry::StorageMetrics;

/// A model as its files show it.
pub(super) struct Found {
    pub(super) listing: ModelListing,
    /// Holds the files, where a load request brought them.
    pub(super) upload: Option<Arc<Upload>>,
}

/// A version on this machine, to be loaded.
pub(super) struct Here {
    pub(super) listing: ModelListing,
    pub(super) files: VersionFiles,
    /// Where it was fetched: the folder, which stays while this is held, and its digests.
    pub(super) tree: Option<Arc<Tree>>,
}

/// What a load request brings, its files kept.
#[derive(Default)]
pub(super) struct Brought {
    settings: Option<Box<Parsed>>,
    upload: Option<Upload>,
}

/// All places. Reading them blocks.
pub(super) struct Disk {
    repositories: Vec<PathBuf>,
    single: Vec<(ModelName, PathBuf)>,
    remote: Vec<Remote>,
    uploads: Arc<Uploads>,
}

impl Disk {
    /// # Errors
    /// Where the cache of a store cannot be used, or what is known of its credentials makes no sense.
    pub(super) fn new(config: &RepositoryConfig, metrics: &Arc<StorageMetrics>) -> Result<Self> {
        let (repositories, single) = (config.repositories.clone(), config.single.clone());
        let uploads = Uploads::new(std::env::temp_dir(), config.uploads_bytes_max);
        let mut remote = Vec::with_capacity(config.remote.len());
        // Whoever needs no cache has none.
        if !config.remote.is_empty() {
            let storage = Storage::open(&config.storage, Arc::clone(metrics))?;
            for (uri, single) in &config.remote {
                remote.push(Remote::open(&storage, uri, single.clone())?);
            }
        }
        Ok(Self { repositories, single, remote, uploads: Arc::new(uploads) })
    }

    /// Everything in all repositories.
    ///
    /// # Errors
    /// Where one of them cannot be read.
    pub(super) fn scan(&self) -> Result<Vec<ModelListing>> {
        let mut listings = Vec::with_capacity(self.repositories.len() + 1);
        for repository in &self.repositories {
            listings.push(layout::scan(&Local, repository)?);
        }
        let single = self.single.iter();
        listings
            .push(single.map(|(name, directory)| layout::scan_model(&Local, name.clone(), directory, None)).collect());
        for remote in &self.remote {
            listings.push(remote.scan()?);
        }
        Ok(layout::merge(listings))
    }

    /// The files of a version on this machine: where they are, or fetched. `brought` are always here.
    ///
    /// # Errors
    /// Those of [`crate::storage::Source::fetch`].
    pub(super) fn materialize(&self, listing: &ModelListing, files: &VersionFiles, brought: bool) -> Result<Here> {
        match self.remote.iter().find(|remote| !brought && files.fault.is_none() && remote.holds(listing, files)) {
            Some(remote) => remote.fetch(listing, files),
            None => Ok(Here { listing: listing.clone(), files: files.clone(), tree: None }),
        }
    }

    /// What a person should know of the places themselves.
    pub(super) fn hints(&self) -> Vec<String> {
        self.repositories.iter().filter_map(|repository| layout::mistaken_for_model(&Local, repository)).collect()
    }

    /// Writes the files that a load request brings.
    ///
    /// # Errors
    /// Those of [`Uploads::keep`].
    pub(super) fn keep(&self, overrides: LoadOverrides) -> Result<Brought> {
        let LoadOverrides { settings, files } = overrides;
        let upload = if files.is_empty() { None } else { Some(self.uploads.keep(&files)?) };
        Ok(Brought { settings: settings.map(Box::new), upload })
    }

    /// Breaks off what is being fetched, at the end of the process.
    pub(super) fn stop_fetching(&self) {
        self.remote.iter().for_each(Remote::close);
    }

    /// Removes what load requests brought, at the end of the process.
    pub(super) fn forget_uploads(&self) {
        self.uploads.remove_all();
    }

    /// What there is for `name` now. Only its own directories are looked at: a repository may hold thousands of models.
    ///
    /// # Errors
    /// `UnknownModel` where no repository holds it, and no files were brought; `InvalidRequest` where what was brought
    /// makes no model that can be served.
    pub(super) fn find(&self, name: &str, brought: Brought) -> Result<Found> {
        let Brought { settings, upload } = brought;
        if let Some(upload) = upload {
            if !layout::may_be_named(name) {
                let shown: String = name.chars().take(100).collect();
                return Err(Error::invalid(format!(
                    "'{shown}' cannot be a model's name, expected that of a directory"
                )));
            }
            let listing = layout::scan_model(&Local, ModelName::new(name), upload.directory(), settings.as_deref());
            return Ok(Found { listing: sound(listing)?, upload: Some(Arc::new(upload)) });
        }
        let listing = self.look_up(name, settings.as_deref())?;
        let listing = if settings.is_some() { sound(listing)? } else { listing };
        Ok(Found { listing, upload: None })
    }

    fn look_up(&self, name: &str, settings: Option<&Parsed>) -> Result<ModelListing> {
        let mut listings = Vec::new();
        for repository in &self.repositories {
            listings.extend(layout::look_up(&Local, repository, name, settings)?);
        }
        let single = self.single.iter().filter(|(single, _)| single.as_str() == name);
        listings.extend(single.map(|(name, directory)| layout::scan_model(&Local, name.clone(), directory, settings)));
        for remote in &self.remote {
            listings.extend(remote.look_up(name, settings)?);
        }
        let found = layout::merge(vec![listings]).pop();
        found.ok_or_else(|| Error::unknown_model(format!("unknown model '{name}': no repository holds it")))
    }
}

/// A listing that a load request had a part in: its faults are the request's, and what serves now goes on.
fn sound(listing: ModelListing) -> Result<ModelListing> {
    match listing.faults.as_slice() {
        [] => Ok(listing),
        faults => Err(Error::invalid(format!("model '{}' cannot be loaded so: {}", listing.name, faults.join("; ")))),
    }
}
