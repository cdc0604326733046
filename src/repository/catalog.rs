//! What is served now: the table behind every request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::watch;

use super::{Model, ModelSummary};
use crate::error::{Error, Result};
use crate::model::settings::nearest;
use crate::model::{ModelName, ModelState, Version, VersionStatus};

/// When a model that is loading is asked for again: most are loaded by then.
const LOADING: Duration = Duration::from_secs(1);

/// One model: its ready versions for the request path, and what every version is doing for the index.
#[derive(Default)]
struct Entry {
    /// Oldest first, so that the newest is the last.
    ready: Vec<Arc<Model>>,
    versions: BTreeMap<Version, ModelState>,
    /// Why the last load of a version failed, also where an earlier load still serves.
    failures: BTreeMap<Version, String>,
    /// Why the model as a whole has no versions: settings that cannot be read, no files.
    fault: Option<String>,
}

impl Entry {
    fn statuses(&self) -> Vec<VersionStatus> {
        let version =
            |(&version, state): (&Version, &ModelState)| VersionStatus { version: Some(version), state: state.clone() };
        let fault = |fault: &String| VersionStatus { version: None, state: ModelState::Unavailable(fault.clone()) };
        self.versions.iter().map(version).chain(self.fault.iter().map(fault)).collect()
    }
}

/// Models by name. Readers take a shard's read lock for one look-up; writers are loads and unloads.
#[derive(Default)]
pub(super) struct Catalog {
    models: DashMap<ModelName, Entry>,
    /// Wakes who waits for a state to change.
    changed: watch::Sender<()>,
    /// Whether any model that was ever ready keeps callers at a version.
    sticky: AtomicBool,
}

impl Catalog {
    pub(super) fn resolve(&self, name: &str, version: Option<&str>) -> Result<Arc<Model>> {
        let entry = self.models.get(name).ok_or_else(|| unknown_model(name, self.names()))?;
        let Some(wanted) = version else {
            return entry.ready.last().cloned().ok_or_else(|| unavailable(name, &entry));
        };
        let wanted = Version::parse(wanted).ok_or_else(|| unknown_version(name, wanted, &entry))?;
        match entry.ready.iter().find(|model| model.version() == wanted) {
            Some(model) => Ok(Arc::clone(model)),
            None => Err(match entry.versions.get(&wanted) {
                Some(state) => not_ready(name, Some(wanted), state),
                None => unknown_version(name, &wanted.to_string(), &entry),
            }),
        }
    }

    fn names(&self) -> Vec<ModelName> {
        let mut names: Vec<ModelName> = self.models.iter().map(|entry| entry.key().clone()).collect();
        names.sort();
        names
    }

    pub(super) fn index(&self) -> Vec<ModelSummary> {
        let summary = |name: ModelName| {
            let entry = self.models.get(&name)?;
            Some(ModelSummary { versions: entry.statuses(), ready: entry.ready.last().cloned(), name })
        };
        self.names().into_iter().filter_map(summary).collect()
    }

    /// What every version of `name` is doing.
    pub(super) fn statuses(&self, name: &str) -> Result<Vec<VersionStatus>> {
        match self.models.get(name) {
            Some(entry) => Ok(entry.statuses()),
            None => Err(unknown_model(name, self.names())),
        }
    }

    /// What `choose` makes of the ready versions of `name`, oldest first.
    pub(super) fn choose<T>(&self, name: &str, choose: impl FnOnce(&[Arc<Model>]) -> Option<T>) -> Option<T> {
        choose(&self.models.get(name)?.ready)
    }

    pub(super) fn declares_sticky(&self) -> bool {
        self.sticky.load(Ordering::Relaxed)
    }

    pub(super) fn ready_versions(&self, name: &str) -> Vec<Version> {
        self.ready(name).iter().map(|model| model.version()).collect()
    }

    /// The versions of `name` that are ready, oldest first.
    pub(super) fn ready(&self, name: &str) -> Vec<Arc<Model>> {
        self.models.get(name).map(|entry| entry.ready.clone()).unwrap_or_default()
    }

    /// Every version that is ready, sorted by name.
    pub(super) fn all_ready(&self) -> Vec<Arc<Model>> {
        self.names().iter().flat_map(|name| self.ready(name.as_str())).collect()
    }

    /// Says that something may have changed.
    pub(super) fn touch(&self) {
        self.changed.send_replace(());
    }

    /// Marks every change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whether some model is ready, or none is there at all.
    pub(super) fn serves_or_is_empty(&self) -> bool {
        let wanted = |entry: &Entry| entry.fault.is_some() || entry.versions.values().any(|state| !is_unloaded(state));
        let mut any = false;
        for entry in &self.models {
            if !entry.ready.is_empty() {
                return true;
            }
            any |= wanted(&entry);
        }
        !any
    }

    /// Puts `model` into service, in place of an earlier load of the same version.
    pub(super) fn publish(&self, model: Arc<Model>) {
        if model.settings().traffic.as_ref().is_some_and(|traffic| traffic.sticky.is_some()) {
            // Before anybody can ask for it.
            self.sticky.store(true, Ordering::Relaxed);
        }
        let mut entry = self.models.entry(model.name().clone()).or_default();
        entry.ready.retain(|known| known.version() != model.version());
        let position = entry.ready.partition_point(|known| known.version() < model.version());
        entry.versions.insert(model.version(), ModelState::Ready);
        entry.failures.remove(&model.version());
        entry.fault = None;
        entry.ready.insert(position, model);
        drop(entry);
        self.touch();
    }

    /// Takes a version out of service: no new request finds it.
    pub(super) fn withdraw(&self, name: &ModelName, version: Version) {
        if let Some(mut entry) = self.models.get_mut(name.as_str()) {
            entry.ready.retain(|known| known.version() != version);
            entry.versions.insert(version, ModelState::Unloading);
        }
        self.touch();
    }

    pub(super) fn set_state(&self, name: &ModelName, version: Version, state: ModelState) {
        let mut entry = self.models.entry(name.clone()).or_default();
        let still_serves = entry.ready.iter().any(|known| known.version() == version);
        // A version that is loaded anew goes on serving from its earlier load, and stays so where the new one fails.
        if !still_serves {
            entry.versions.insert(version, state);
        }
        drop(entry);
        self.touch();
    }

    pub(super) fn note_failure(&self, name: &ModelName, version: Version, reason: &str) {
        self.models.entry(name.clone()).or_default().failures.insert(version, reason.into());
    }

    /// Why the last load of a version failed.
    pub(super) fn failure(&self, name: &ModelName, version: Version) -> String {
        let reason = self.models.get(name.as_str()).and_then(|entry| entry.failures.get(&version).cloned());
        reason.unwrap_or_else(|| "it was unloaded meanwhile".into())
    }

    /// Makes `name` known with the versions that it could serve, or with why it has none.
    pub(super) fn list(&self, name: &ModelName, versions: &[Version], fault: Option<String>) {
        let mut entry = self.models.entry(name.clone()).or_default();
        let ready: Vec<Version> = entry.ready.iter().map(|model| model.version()).collect();
        entry.versions.retain(|known, _| versions.contains(known) || ready.contains(known));
        for version in versions {
            entry.versions.entry(*version).or_insert_with(|| ModelState::Unavailable("not loaded".into()));
        }
        entry.fault = fault;
        drop(entry);
        self.touch();
    }

    /// Takes a version off the list, and the model with the last one; gives whether that was the last.
    pub(super) fn forget(&self, name: &ModelName, version: Version) -> bool {
        if let Some(mut entry) = self.models.get_mut(name.as_str()) {
            entry.versions.remove(&version);
            entry.failures.remove(&version);
        }
        let is_gone = |entry: &Entry| entry.versions.is_empty() && entry.ready.is_empty() && entry.fault.is_none();
        let gone = self.models.remove_if(name.as_str(), |_, entry| is_gone(entry)).is_some();
        self.touch();
        gone
    }
}

fn is_unloaded(state: &ModelState) -> bool {
    matches!(state, ModelState::Unavailable(reason) if reason == "unloaded" || reason == "not loaded")
}

/// What is said of a model that there is not, with the one that was most likely meant.
pub(super) fn unknown_model(name: &str, known: Vec<ModelName>) -> Error {
    let shown: String = name.chars().take(100).collect();
    let hint = match nearest(name, known.iter().map(ModelName::as_str)) {
        Some(near) => format!(", did you mean '{near}'?"),
        None => String::new(),
    };
    Error::unknown_model(format!("unknown model '{shown}'{hint}"))
}

fn unknown_version(name: &str, wanted: &str, entry: &Entry) -> Error {
    let shown: String = wanted.chars().take(40).collect();
    let known: Vec<String> = entry.versions.keys().map(ToString::to_string).collect();
    Error::unknown_model(format!("model '{name}' has no version '{shown}', it has {}", known.join(", ")))
}

fn unavailable(name: &str, entry: &Entry) -> Error {
    match (&entry.fault, entry.versions.iter().next_back()) {
        (Some(fault), _) => Error::unavailable(format!("model '{name}' is not ready: {fault}")),
        (None, Some((&version, state))) => not_ready(name, Some(version), state),
        (None, None) => Error::unavailable(format!("model '{name}' is not ready: it has no versions")),
    }
}

fn not_ready(name: &str, version: Option<Version>, state: &ModelState) -> Error {
    let version = version.map(|version| format!(" version {version}")).unwrap_or_default();
    let reason = match state {
        ModelState::Unavailable(reason) => reason.clone(),
        other => other.name().to_lowercase(),
    };
    let error = Error::unavailable(format!("model '{name}'{version} is not ready: {reason}"));
    if *state == ModelState::Loading { error.with_retry_after(LOADING) } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn an_unknown_model_names_the_nearest() {
        let catalog = Catalog::default();
        for name in ["digits", "iris"] {
            catalog.list(&ModelName::new(name), &[Version::ONE], None);
        }
        let error = catalog.resolve("digit", None).err().unwrap();
        assert_eq!(error.kind(), Kind::UnknownModel);
        assert_eq!(error.message(), "unknown model 'digit', did you mean 'digits'?");
        assert_eq!(catalog.resolve("quux", None).err().unwrap().message(), "unknown model 'quux'");
    }

    #[test]
    fn a_model_that_cannot_be_read_says_why() {
        let catalog = Catalog::default();
        catalog.list(&ModelName::new("m"), &[], Some("model.toml: unknown key 'foo'".into()));
        let error = catalog.resolve("m", None).err().unwrap();
        assert_eq!(error.kind(), Kind::ModelUnavailable);
        assert!(error.message().contains("unknown key 'foo'"));
        assert!(!catalog.serves_or_is_empty());
    }

    #[test]
    fn a_version_that_there_is_not_is_unknown() {
        let catalog = Catalog::default();
        let name = ModelName::new("m");
        catalog.list(&name, &[Version::ONE], None);
        assert_eq!(catalog.resolve("m", Some("7")).err().unwrap().kind(), Kind::UnknownModel);
        assert_eq!(catalog.resolve("m", Some("latest")).err().unwrap().kind(), Kind::UnknownModel);
        catalog.set_state(&name, Version::ONE, ModelState::Loading);
        let error = catalog.resolve("m", Some("1")).err().unwrap();
        assert_eq!(error.message(), "model 'm' version 1 is not ready: loading");
        assert_eq!(error.retry_after(), Some(LOADING));
    }
}
