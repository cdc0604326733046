//! Which version answers a request that names none: by weights, sticky, with a shadow that is compared, or a canary that is
//! guarded.
//!
//! What holds for a model is its `[traffic]` table, until a caller sets something else; that then stays through reloads until
//! it is taken back. A model without either costs a request two looks at memory that it reads anyway. [`split`] picks, [`canary`]
//! decides, [`mirror`] compares; this module keeps what belongs to each model, and feeds and applies.

mod arm;
pub mod canary;
mod compare;
mod judge;
mod mirror;
mod note;
mod report;
mod split;
mod table;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::dispatch::Dispatch;
use super::route::Routed;
use crate::error::{Error, Result};
use crate::infer::InferRequest;
use crate::model::settings::Fault;
use crate::model::traffic::{Sticky, TrafficSettings};
use crate::model::{ModelState, Version, VersionStatus};
use crate::repository::{Model, Repository};

pub use arm::ArmCounts;
pub use mirror::Compared;
pub use note::Note;
pub use report::{CanaryReport, MirrorReport, Report, Source, VersionReport};
use split::Chance;
pub use split::sticky_key;
use table::Split;

/// The traffic of all models.
pub struct Router {
    repository: Arc<Repository>,
    dispatch: Dispatch,
    /// Of models whose traffic is shared out; of others nothing is kept.
    splits: DashMap<String, Arc<Split>>,
    /// How many of them callers have set.
    set: AtomicUsize,
    /// Whether any that callers have set was ever sticky.
    sticky: AtomicBool,
    chance: Chance,
    /// Wakes whoever judges canaries.
    wake: Arc<Notify>,
}

impl Router {
    /// A router over `repository`, whose mirrored requests run by `dispatch`; canaries are judged until it is dropped.
    pub fn start(repository: Arc<Repository>, dispatch: Dispatch) -> Arc<Self> {
        // Another for each process, so that replicas do not pick alike.
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let router = Arc::new(Self {
            repository,
            dispatch,
            splits: DashMap::new(),
            set: AtomicUsize::new(0),
            sticky: AtomicBool::new(false),
            chance: Chance::new(seed),
            wake: Arc::default(),
        });
        tokio::spawn(judge::keep(Arc::downgrade(&router), Arc::clone(&router.wake)));
        router
    }

    /// The version that answers `request`: the one that it names, else by the model's traffic, else the newest that is ready.
    ///
    /// # Errors
    /// Those of [`Repository::resolve`]; `ModelUnavailable` where none of the versions that may answer is ready.
    pub fn route(&self, request: InferRequest) -> Result<Routed> {
        let model = self.repository.resolve(&request.model, request.version.as_deref())?;
        if request.version.is_some() {
            return Ok(Routed { request, model, note: None });
        }
        match self.split(&request.model, &model) {
            None => Ok(Routed { request, model, note: None }),
            Some(split) => {
                let model = self.choose(&request.model, &split, request.sticky)?;
                let note = split.note(&model, &request, &self.chance);
                Ok(Routed { request, model, note })
            }
        }
    }

    /// Whether a request for a model could be answered in time, as far as its head tells: see [`Repository::admit`]. Which version
    /// of several answers is not known by then, so that nothing is refused.
    ///
    /// # Errors
    /// `Overloaded` where it could not.
    pub fn admit(&self, name: &str, version: Option<&str>, deadline: Option<Instant>) -> Result<()> {
        let shared = || self.repository.resolve(name, None).is_ok_and(|model| self.split(name, &model).is_some());
        if version.is_none() && shared() {
            return Ok(());
        }
        self.repository.admit(name, version, deadline)
    }

    /// The version that most of the requests which name `version`, or none, are answered by.
    ///
    /// # Errors
    /// Those of [`Router::route`].
    pub fn usual(&self, name: &str, version: Option<&str>) -> Result<Arc<Model>> {
        let model = self.repository.resolve(name, version)?;
        match self.split(name, &model).filter(|_| version.is_none()) {
            None => Ok(model),
            Some(split) => self.among(name, &split, |ready| split.heaviest(ready)),
        }
    }

    /// The key of a request for `model` that names no version, by what `find` finds at the place where its traffic looks for one. Where no
    /// model is sticky, nothing is looked for.
    pub fn sticky<V: AsRef<[u8]>>(&self, model: &str, find: impl FnOnce(&Sticky) -> Option<V>) -> Option<u64> {
        if !self.sticky.load(Relaxed) && !self.repository.declares_sticky() {
            return None;
        }
        let newest = self.repository.resolve(model, None).ok()?;
        let split = self.split(model, &newest)?;
        let value = find(split.settings.sticky.as_ref()?)?;
        Some(sticky_key(model, value.as_ref()))
    }

    /// Has `settings` hold for the model called `name` in place of its own and of what was set before.
    ///
    /// # Errors
    /// `UnknownModel`; `InvalidRequest` for versions that the model does not have, with those that it has.
    pub fn set(&self, name: &str, settings: TrafficSettings) -> Result<()> {
        let known = self.repository.versions(name)?;
        let faults = unknown_versions(&settings, &known);
        let (split, unresolved) = self.make(name, Arc::new(settings), None, &known);
        let faults: Vec<String> = faults.into_iter().chain(unresolved).map(|fault| fault.to_string()).collect();
        if !faults.is_empty() {
            return Err(Error::invalid(format!("model '{name}': {}", faults.join("; "))));
        }
        self.forget_unknown();
        if split.settings.sticky.is_some() {
            self.sticky.store(true, Relaxed);
        }
        let before = self.splits.insert(name.to_owned(), Arc::new(split));
        if before.is_none_or(|before| before.declared.is_some()) {
            self.set.fetch_add(1, Relaxed);
        }
        tracing::info!(model = name, "traffic was set");
        self.wake.notify_one();
        Ok(())
    }

    /// Has the model's own settings hold again.
    ///
    /// # Errors
    /// `UnknownModel`.
    pub fn take_back(&self, name: &str) -> Result<()> {
        self.repository.knows(name)?;
        if self.splits.remove_if(name, |_, split| split.declared.is_none()).is_some() {
            self.set.fetch_sub(1, Relaxed);
            tracing::info!(model = name, "traffic is that of its settings again");
        }
        Ok(())
    }

    /// Ends everything that runs beside requests. For the end of the process.
    pub fn close(&self) {
        self.splits.clear();
        self.set.store(0, Relaxed);
    }

    /// Drops what callers have set for models that are gone.
    fn forget_unknown(&self) {
        self.splits.retain(|name, split| {
            let known = self.repository.knows(name).is_ok();
            if !known && split.declared.is_none() {
                self.set.fetch_sub(1, Relaxed);
            }
            known
        });
    }

    /// The traffic of the model called `name`, whose newest version is `newest`; `None` where all goes to that.
    fn split(&self, name: &str, newest: &Model) -> Option<Arc<Split>> {
        let declared = newest.settings().traffic.as_ref();
        if declared.is_none() && self.set.load(Relaxed) == 0 {
            return None;
        }
        let known = self.splits.get(name).map(|split| Arc::clone(&split));
        match (known, declared) {
            (Some(split), _) if split.holds(declared) => Some(split),
            (None, None) => None,
            (_, declared) => self.take_up(name, declared),
        }
    }

    /// Has what the settings declare hold, unless a caller has set something meanwhile.
    fn take_up(&self, name: &str, declared: Option<&Arc<TrafficSettings>>) -> Option<Arc<Split>> {
        let known = self.repository.versions(name).ok()?;
        match self.splits.entry(name.to_owned()) {
            Entry::Occupied(entry) if entry.get().holds(declared) => Some(Arc::clone(entry.get())),
            entry => {
                let Some(declared) = declared else {
                    if let Entry::Occupied(entry) = entry {
                        entry.remove();
                    }
                    return None;
                };
                let (split, unresolved) = self.make(name, Arc::clone(declared), Some(Arc::clone(declared)), &known);
                if let Some(fault) = unresolved {
                    tracing::warn!(model = name, "traffic.{fault}");
                }
                let split = Arc::new(split);
                drop(entry.insert(Arc::clone(&split)));
                self.wake.notify_one();
                Some(split)
            }
        }
    }

    /// The traffic that `settings` ask for, and what they ask for in vain.
    fn make(
        &self,
        name: &str,
        settings: Arc<TrafficSettings>,
        declared: Option<Arc<TrafficSettings>>,
        known: &[VersionStatus],
    ) -> (Split, Option<Fault>) {
        let mut fault = None;
        let stable = settings.canary.as_ref().and_then(|canary| {
            let shadow = settings.shadow.as_ref().map(|shadow| shadow.version);
            let others = known.iter().filter_map(|status| Some((status.state == ModelState::Ready, status.version?)));
            // One that serves before one that does not.
            let newest = others.filter(|&(_, other)| other != canary.version && Some(other) != shadow).max();
            let stable = canary.stable.or(newest.map(|(_, version)| version));
            if stable.is_none() {
                let message = "there is no other version that the canary could take over from";
                fault = Some(Fault::new("canary.stable", message));
            }
            stable
        });
        let mirrors = table::mirrorings(&settings, stable).map(|mirroring| {
            mirror::Mirror::start(name.to_owned(), mirroring, Arc::clone(&self.repository), self.dispatch.clone())
        });
        (Split::new(Instant::now(), settings.clone(), declared, stable, mirrors.collect()), fault)
    }

    fn choose(&self, name: &str, split: &Split, key: Option<u64>) -> Result<Arc<Model>> {
        self.among(name, split, |ready| split.choose(ready, key, &self.chance))
    }

    fn among(
        &self,
        name: &str,
        split: &Split,
        choose: impl FnOnce(&[Arc<Model>]) -> Option<Arc<Model>>,
    ) -> Result<Arc<Model>> {
        self.repository.choose(name, choose).ok_or_else(|| {
            let dark = split.dark().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Error::unavailable(format!(
                "model '{name}' is not ready: no version that its traffic goes to is, and version {dark} gets none"
            ))
        })
    }

    fn splits(&self) -> Vec<(String, Arc<Split>)> {
        self.splits.iter().map(|entry| (entry.key().clone(), Arc::clone(entry.value()))).collect()
    }
}

/// The versions that `settings` name and that there are not.
fn unknown_versions(settings: &TrafficSettings, known: &[VersionStatus]) -> Option<Fault> {
    let is_known = |version: &Version| known.iter().any(|status| status.version == Some(*version));
    let list = |versions: Vec<Version>| versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let unknown: Vec<Version> = settings.named().into_iter().filter(|version| !is_known(version)).collect();
    let there = list(known.iter().filter_map(|status| status.version).collect());
    (!unknown.is_empty())
        .then(|| Fault::new("version", format!("{} is not served, expected one of {there}", list(unknown))))
}

/// A router that may be gone.
type Gone = Weak<Router>;
