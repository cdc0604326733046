//! Where models come from: the repositories on disk, single models, and what load requests bring in place of either.

use std::path::PathBuf;
use std::sync::Arc;

use super::RepositoryConfig;
use super::layout::{self, ModelListing};
use super::upload::{Upload, Uploads};
use crate::error::{Error, Result};
use crate::model::settings::Parsed;
use crate::model::{LoadOverrides, ModelName};

/// A model as its files show it.
pub(super) struct Found {
    pub(super) listing: ModelListing,
    /// Holds the files, where a load request brought them.
    pub(super) upload: Option<Arc<Upload>>,
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
    uploads: Arc<Uploads>,
}

impl Disk {
    pub(super) fn new(config: &RepositoryConfig) -> Self {
        let (repositories, single) = (config.repositories.clone(), config.single.clone());
        let uploads = Uploads::new(std::env::temp_dir(), config.uploads_bytes_max);
        Self { repositories, single, uploads: Arc::new(uploads) }
    }

    /// Everything in all repositories.
    ///
    /// # Errors
    /// Where one of them cannot be read.
    pub(super) fn scan(&self) -> Result<Vec<ModelListing>> {
        let mut listings = Vec::with_capacity(self.repositories.len() + 1);
        for repository in &self.repositories {
            listings.push(layout::scan(repository)?);
        }
        let single = self.single.iter();
        listings.push(single.map(|(name, directory)| layout::scan_model(name.clone(), directory, None)).collect());
        Ok(layout::merge(listings))
    }

    /// What a person should know of the places themselves.
    pub(super) fn hints(&self) -> Vec<String> {
        self.repositories.iter().filter_map(|repository| layout::mistaken_for_model(repository)).collect()
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
            let listing = layout::scan_model(ModelName::new(name), upload.directory(), settings.as_deref());
            return Ok(Found { listing: sound(listing)?, upload: Some(Arc::new(upload)) });
        }
        let listing = self.look_up(name, settings.as_deref())?;
        let listing = if settings.is_some() { sound(listing)? } else { listing };
        Ok(Found { listing, upload: None })
    }

    fn look_up(&self, name: &str, settings: Option<&Parsed>) -> Result<ModelListing> {
        let mut listings = Vec::new();
        for repository in &self.repositories {
            listings.extend(layout::look_up(repository, name, settings)?);
        }
        let single = self.single.iter().filter(|(single, _)| single.as_str() == name);
        listings.extend(single.map(|(name, directory)| layout::scan_model(name.clone(), directory, settings)));
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
