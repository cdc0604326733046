//! Looks at the repositories again and again, off the request path, and tells the task what has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::super::catalog::Catalog;
use super::super::disk::{Disk, Found, Here};
use super::super::layout::ModelListing;
use super::super::marks::{Marks, QUIET, is_unfinished};
use super::super::sha256::Sha256s;
use super::super::turns::{Turn, turn};
use super::super::verify::verify;
use super::wanting::Taking;
use super::{Command, blocking};
use crate::error::Result;
use crate::model::{ModelName, Version};
use crate::telemetry::Telemetry;

/// What a look has changed of one model.
pub(super) enum Change {
    /// Take up what it shows.
    Take(Box<Taking>),
    /// No repository holds it any more.
    Gone(ModelName),
}

/// One look at everything.
pub(super) type Looks = BTreeMap<ModelName, (ModelListing, Marks)>;

/// The looker.
pub(super) struct Poller {
    pub(super) disk: Arc<Disk>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) sha256s: Arc<Sha256s>,
    pub(super) every: Duration,
    /// What the task has taken up.
    pub(super) taken: BTreeMap<ModelName, Marks>,
    /// What the look before this one showed.
    pub(super) before: BTreeMap<ModelName, Marks>,
}

impl Poller {
    /// Looks until there is nobody to tell.
    pub(super) async fn run(mut self, commands: mpsc::WeakSender<Command>) {
        let mut failing = false;
        // What was written just before the start is not kept waiting for a whole interval.
        let mut pause = if self.before == self.taken { self.every } else { self.every.min(QUIET) };
        loop {
            tokio::time::sleep(pause).await;
            pause = self.every;
            let Some(commands) = commands.upgrade() else { return };
            let disk = Arc::clone(&self.disk);
            let looks = blocking(move || look(&disk)).await.and_then(|looks| looks);
            self.telemetry.count_poll(looks.is_ok());
            match looks {
                Ok(looks) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("the model repositories can be read again");
                    }
                    let changes = self.changes(looks).await;
                    let (reply, taken_up) = oneshot::channel();
                    if commands.send(Command::Looked(changes, reply)).await.is_err() || taken_up.await.is_err() {
                        return;
                    }
                }
                // Once, not every few seconds: nothing changes until it can be read.
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    tracing::error!("{error}: all models stay as they are until it can be read");
                }
                Err(_) => {}
            }
        }
    }

    async fn changes(&mut self, looks: Looks) -> Vec<Change> {
        let now: BTreeMap<ModelName, Marks> =
            looks.iter().map(|(name, (_, marks))| (name.clone(), marks.clone())).collect();
        let gone: Vec<ModelName> = self.taken.keys().filter(|name| !now.contains_key(*name)).cloned().collect();
        let mut changes = Vec::new();
        for name in gone {
            if turn(self.taken.get(&name), self.before.get(&name), None) == Turn::Drop {
                self.taken.remove(&name);
                changes.push(Change::Gone(name));
            }
        }
        for (name, (listing, seen)) in looks {
            let Turn::Take(next) = turn(self.taken.get(&name), self.before.get(&name), Some(&seen)) else { continue };
            let same = match self.taken.get(&name) {
                Some(taken) if taken.settings == next.settings => self.same_bytes(&listing, taken, &next).await,
                _ => BTreeSet::new(),
            };
            self.taken.insert(name, next.clone());
            let taking = Taking { found: Found { listing, upload: None }, seen, taken: next, same };
            changes.push(Change::Take(Box::new(taking)));
        }
        self.before = now;
        changes
    }

    /// The versions whose marks have changed and whose bytes have not: a checkout of the same file, a file that was merely
    /// touched. Known where the digest of what serves is.
    async fn same_bytes(&self, listing: &ModelListing, taken: &Marks, next: &Marks) -> BTreeSet<Version> {
        let mut same = BTreeSet::new();
        for model in self.catalog.ready(listing.name.as_str()) {
            let version = model.version();
            let was = taken.versions.get(&version);
            if was.is_none() || was == next.versions.get(&version) {
                continue;
            }
            let files = listing.versions.iter().find(|files| files.version == version && files.fault.is_none());
            let here = files.map(|files| Here { listing: listing.clone(), files: files.clone(), tree: None });
            let sha256s = Arc::clone(&self.sha256s);
            if let (Some(known), Some(here)) = (model.digest(), here)
                && blocking(move || verify(&here, &sha256s).is_ok_and(|found| found.digest() == known))
                    .await
                    .unwrap_or(false)
            {
                same.insert(version);
            }
        }
        same
    }
}

/// Looks at everything that can be a model.
fn look(disk: &Disk) -> Result<Looks> {
    let named = |listing: &ModelListing| !is_unfinished(listing.name.as_str().as_ref());
    let looked = |listing: ModelListing| {
        let marks = Marks::of(&listing);
        (listing.name.clone(), (listing, marks))
    };
    Ok(disk.scan()?.into_iter().filter(named).map(looked).collect())
}
