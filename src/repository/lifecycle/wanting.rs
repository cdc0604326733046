//! What is wanted: everything at the start, then what callers ask for.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::super::disk::{Brought, Found};
use super::super::policy::{Id, Phase};
use super::super::{Control, loader};
use super::{Files, Keeper, Waiting, blocking};
use crate::error::{Error, Result};
use crate::model::{ModelName, Version};

impl Keeper {
    /// Reads all repositories and wants what is to be served from the start.
    pub(super) async fn want_at_start(&mut self) -> Result<()> {
        let disk = Arc::clone(&self.disk);
        let listings = blocking(move || disk.scan()).await??;
        let all = self.config.control == Control::None || self.config.load_at_start.iter().any(|name| name == "*");
        for name in self.config.load_at_start.iter().filter(|name| *name != "*") {
            if !listings.iter().any(|listing| listing.name.as_str() == name) {
                return Err(Error::unknown_model(format!("--load-model {name}: no repository holds that model")));
            }
        }
        for listing in listings {
            let load = all || self.config.load_at_start.iter().any(|name| name == listing.name.as_str());
            self.take_in(Found { listing, upload: None }, load);
        }
        Ok(())
    }

    /// Notes what is on disk for a model, and wants it if `load`.
    fn take_in(&mut self, found: Found, load: bool) {
        let Found { listing, upload } = found;
        let name = listing.name.clone();
        for warning in &listing.warnings {
            tracing::warn!(model = %name, "{warning}");
        }
        let available: Vec<Version> = listing.versions.iter().map(|files| files.version).collect();
        let fault = (!listing.faults.is_empty()).then(|| listing.faults.join("; "));
        if let Some(fault) = &fault {
            tracing::error!(model = %name, "cannot be served: {fault}");
        }
        let selected = if fault.is_some() { Vec::new() } else { listing.settings.version_policy.select(&available) };
        self.catalog.list(&name, &selected, fault);
        let listing = Arc::new(listing);
        self.wanted.retain(|(known, _), _| *known != name);
        for files in listing.versions.iter().filter(|files| selected.contains(&files.version)) {
            let id = (name.clone(), files.version);
            if load {
                self.wanted.insert(id.clone(), loader::fingerprint(&listing, files));
            }
            let (listing, upload) = (Arc::clone(&listing), upload.clone());
            discard(self.files.insert(id, Files { listing, version: files.clone(), upload }));
        }
        self.let_go_of_uploads(&name);
    }

    /// Forgets the versions of `name` that a load request brought and that are neither wanted nor there any more: no
    /// repository holds them.
    pub(super) fn let_go_of_uploads(&mut self, name: &ModelName) {
        let is_idle = |id: &Id| {
            let busy = matches!(self.actual.get(id), Some(Phase::Loading(_) | Phase::Unloading));
            !busy && !self.wanted.contains_key(id) && !self.stopping.contains_key(id)
        };
        let idle = self.files.iter().filter(|(id, files)| id.0 == *name && files.upload.is_some() && is_idle(id));
        for id in idle.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            discard(self.files.remove(&id));
            self.actual.remove(&id);
            self.telemetry.forget(id.0.as_str(), &id.1.to_string());
            if self.catalog.forget(&id.0, id.1) {
                self.telemetry.trace_settings().forget(id.0.as_str());
            }
        }
    }

    pub(super) async fn load(&mut self, name: String, brought: Brought, reply: oneshot::Sender<Result<()>>) {
        match self.find(name, brought).await {
            Ok(found) => {
                let name = found.listing.name.clone();
                // A load asked for again is tried again, even if nothing changed since it failed.
                self.actual.retain(|(known, _), phase| *known != name || !matches!(phase, Phase::Failed(_, None)));
                self.take_in(found, true);
                self.waiting.push(Waiting { name, reply, load: true });
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// What there is for `name` on disk, or in what was brought.
    async fn find(&self, name: String, brought: Brought) -> Result<Found> {
        let disk = Arc::clone(&self.disk);
        blocking(move || disk.find(&name, brought)).await.and_then(|found| found)
    }

    pub(super) async fn unload(&mut self, name: String, reply: oneshot::Sender<Result<()>>) {
        let Some(known) = self.files.keys().map(|(known, _)| known).find(|known| known.as_str() == name).cloned()
        else {
            drop(reply.send(self.catalog.resolve(&name, None).map(drop)));
            return;
        };
        self.wanted.retain(|(other, _), _| *other != known);
        if self.files.iter().any(|(id, files)| id.0 == known && files.upload.is_some()) {
            // Listed from now on is what the repositories hold, if they hold it at all.
            match self.find(name, Brought::default()).await {
                Ok(found) => self.take_in(found, false),
                Err(_) => self.let_go_of_uploads(&known),
            }
        }
        self.waiting.push(Waiting { name: known, reply, load: false });
    }
}

/// Lets go of files. Those that were brought are removed by the last to do so, which takes a disk's time.
fn discard(files: Option<Files>) {
    if let Some(upload) = files.and_then(|files| files.upload) {
        tokio::task::spawn_blocking(move || drop(upload));
    }
}
