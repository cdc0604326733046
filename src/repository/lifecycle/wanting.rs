//! What is wanted: everything at the start, then what callers ask for, or what the repositories come to hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::super::Control;
use super::super::disk::{Brought, Found};
use super::super::layout::ModelListing;
use super::super::marks::{Marks, is_unfinished};
use super::super::policy::{self, Id, Phase};
use super::poller::Change;
use super::{Files, Keeper, Waiting, blocking};
use crate::error::{Error, Result};
use crate::model::{ModelName, ModelState, Version};

/// Why a version is not served that was written to a moment before the first look.
const WRITTEN: &str = "its files were written just now: it is loaded once two looks show the same (--poll-interval)";

/// What of a model is to be taken up.
pub(super) struct Taking {
    pub(super) found: Found,
    /// What the files show.
    pub(super) seen: Marks,
    /// What of it is whole; the versions in here that are marked otherwise stay as they were taken up before.
    pub(super) taken: Marks,
    /// Versions that have another mark and the same bytes as what serves.
    pub(super) same: BTreeSet<Version>,
}

impl Taking {
    /// All that was found.
    fn all(found: Found) -> Self {
        let seen = Marks::of(&found.listing);
        Self { found, taken: seen.clone(), seen, same: BTreeSet::new() }
    }
}

impl Keeper {
    /// Reads all repositories and wants what is to be served from the start; gives what was seen and what was taken up of
    /// it.
    pub(super) async fn want_at_start(&mut self) -> Result<[BTreeMap<ModelName, Marks>; 2]> {
        let (disk, polls) = (Arc::clone(&self.disk), self.config.control == Control::Poll);
        let take = move |listing: ModelListing| {
            let mut taking = Taking::all(Found { listing, upload: None });
            if polls {
                taking.taken = Marks::of_quiet(&taking.found.listing);
            }
            taking
        };
        let look = move || {
            disk.hints().iter().for_each(|hint| tracing::warn!("{hint}"));
            disk.scan().map(|listings| listings.into_iter().map(take).collect::<Vec<_>>())
        };
        let takings = blocking(look).await??;
        let all = self.config.control != Control::Explicit || self.config.load_at_start.iter().any(|name| name == "*");
        for name in self.config.load_at_start.iter().filter(|name| *name != "*") {
            if !takings.iter().any(|taking| taking.found.listing.name.as_str() == name) {
                return Err(Error::unknown_model(format!("--load-model {name}: no repository holds that model")));
            }
        }
        let [mut seen, mut taken] = [BTreeMap::new(), BTreeMap::new()];
        for taking in takings {
            let listing = &taking.found.listing;
            let name = listing.name.clone();
            if polls && is_unfinished(name.as_str().as_ref()) {
                continue;
            }
            seen.insert(name.clone(), taking.seen.clone());
            if taking.taken.versions.is_empty() && !listing.versions.is_empty() {
                for files in &listing.versions {
                    self.catalog.set_state(&name, files.version, ModelState::Unavailable(WRITTEN.into()));
                }
                continue;
            }
            taken.insert(name.clone(), taking.taken.clone());
            let load = all || self.config.load_at_start.iter().any(|wanted| wanted == name.as_str());
            self.take_in(taking, load);
        }
        Ok([seen, taken])
    }

    /// Takes up what a look at the repositories has changed.
    pub(super) fn take_up(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Take(taking) => self.take_in(*taking, true),
                Change::Gone(name) => {
                    tracing::info!(model = %name, "no repository holds it any more");
                    self.wanted.retain(|(known, _), _| *known != name);
                    self.gone.extend(self.files.keys().filter(|(known, _)| *known == name).cloned());
                    self.catalog.list(&name, &[], None);
                    self.let_go(&name);
                    self.catalog.forget_if_empty(&name);
                }
            }
        }
    }

    /// Notes what is on disk for a model, and wants it if `load`. One with a fault goes on serving what it has.
    fn take_in(&mut self, taking: Taking, load: bool) {
        let Taking { found: Found { listing, upload }, seen, taken, same } = taking;
        let name = listing.name.clone();
        for warning in &listing.warnings {
            tracing::warn!(model = %name, "{warning}");
        }
        let available: Vec<Version> = taken.versions.keys().copied().collect();
        let fault = (!listing.faults.is_empty()).then(|| listing.faults.join("; "));
        if let Some(fault) = &fault {
            tracing::error!(model = %name, "cannot be served: {fault}");
            let serves = |((known, _), phase): &(&Id, &Phase)| *known == name && phase.serves();
            let serving: Vec<Version> = self.actual.iter().filter(serves).map(|(id, _)| id.1).collect();
            if load && !serving.is_empty() {
                self.catalog.list(&name, &serving, Some(fault.clone()));
                return;
            }
        }
        let selected = if fault.is_some() { Vec::new() } else { listing.settings.version_policy.select(&available) };
        self.catalog.list(&name, &selected, fault);
        let listing = Arc::new(listing);
        self.wanted.retain(|(known, version), _| *known != name || load && selected.contains(version));
        for files in listing.versions.iter().filter(|files| selected.contains(&files.version)) {
            let (id, mark) = ((name.clone(), files.version), taken.versions.get(&files.version));
            if seen.versions.get(&files.version) != mark {
                continue;
            }
            self.gone.remove(&id);
            // The same bytes go on serving as they do.
            let as_wanted = |wanted: &u64| [Phase::Ready(*wanted), Phase::PagedOut(*wanted)];
            let phase = self.actual.get(&id);
            let serves =
                self.wanted.get(&id).is_some_and(|wanted| phase.is_some_and(|is| as_wanted(wanted).contains(is)));
            if load && !(serves && same.contains(&files.version)) {
                self.wanted.insert(id.clone(), taken.fingerprint(files.version));
            }
            let (listing, upload) = (Arc::clone(&listing), upload.clone());
            discard(self.files.insert(id, Files { listing, version: files.clone(), upload }));
        }
        let known = self.files.keys().filter(|id| id.0 == name && !taken.versions.contains_key(&id.1));
        self.gone.extend(known.cloned());
        self.let_go(&name);
    }

    /// Forgets the versions of `name` that no repository holds, since a load request brought them or they were removed, and
    /// that are neither wanted nor there any more.
    pub(super) fn let_go(&mut self, name: &ModelName) {
        let is_idle = |id: &Id| {
            let busy = matches!(self.actual.get(id), Some(Phase::Loading(_) | Phase::Unloading | Phase::PagedOut(_)));
            !busy && !self.wanted.contains_key(id) && !self.stopping.contains_key(id)
        };
        let unheld = |id: &Id, files: &Files| files.upload.is_some() || self.gone.contains(id);
        let idle = policy::versions_of(&self.files, name).filter(|(id, files)| unheld(id, files) && is_idle(id));
        for id in idle.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            discard(self.files.remove(&id));
            self.actual.remove(&id);
            self.gone.remove(&id);
            self.telemetry.forget(id.0.as_str(), &id.1.to_string());
            if self.catalog.forget(&id.0, id.1) {
                self.telemetry.trace_settings().forget(id.0.as_str());
            }
        }
    }

    pub(super) async fn load(&mut self, name: String, brought: Brought, reply: oneshot::Sender<Result<()>>) {
        match self.find(name, brought).await {
            Ok(taking) => {
                let name = taking.found.listing.name.clone();
                let faults = taking.found.listing.faults.join("; ");
                // A load asked for again is tried again, even if nothing changed since it failed.
                self.actual.retain(|(known, _), phase| *known != name || !matches!(phase, Phase::Failed(_, None)));
                self.take_in(taking, true);
                if !faults.is_empty() {
                    let message = format!("model '{name}' is not ready: {faults}");
                    drop(reply.send(Err(Error::unavailable(message))));
                    return;
                }
                // Whoever asks for it wants it in memory.
                for id in self.wanted.keys().filter(|id| id.0 == name).cloned().collect::<Vec<_>>() {
                    self.paging.demand(&id);
                    if let Some(Phase::PagedOut(_)) = self.actual.get(&id) {
                        self.page_in(&id);
                    }
                }
                self.waiting.push(Waiting { name, reply, load: true });
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// What there is for `name` on disk, or in what was brought.
    async fn find(&self, name: String, brought: Brought) -> Result<Taking> {
        let disk = Arc::clone(&self.disk);
        blocking(move || disk.find(&name, brought).map(Taking::all)).await.and_then(|found| found)
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
                Ok(taking) => self.take_in(taking, false),
                Err(_) => self.let_go(&known),
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
