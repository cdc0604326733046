//! Does what [`super::policy`] decides: one task that feeds it snapshots and applies its actions.
//!
//! Loads run on threads of tokio's blocking pool, so many at once as the configuration allows, and never touch what
//! serves. A version that fails stays unavailable with its reason and stops nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::catalog::Catalog;
use super::layout::{self, ModelListing, VersionFiles};
use super::loader::{self, Loaded, Runtimes};
use super::policy::{self, Action, Fingerprint, Id, Phase};
use super::{Control, Model, RepositoryConfig};
use crate::error::{Error, Result};
use crate::model::{ModelName, ModelState, Version};
use crate::runtime::release_free_memory;
use crate::scheduler::{Batching, Cores, Scheduler, Stopped};
use crate::telemetry::Telemetry;

/// A way to talk to the task.
pub(super) struct Lifecycle {
    commands: mpsc::Sender<Command>,
    settled: watch::Receiver<bool>,
}

enum Command {
    Load(String, oneshot::Sender<Result<()>>),
    Unload(String, oneshot::Sender<Result<()>>),
    Close(oneshot::Sender<()>),
}

/// Loads and unloads that callers may have waiting; more wait for their turn.
const COMMANDS_MAX: usize = 64;

impl Lifecycle {
    pub(super) async fn start(
        config: RepositoryConfig,
        catalog: Arc<Catalog>,
        runtimes: Arc<Runtimes>,
        telemetry: Arc<Telemetry>,
    ) -> Result<Self> {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (settle, settled) = watch::channel(false);
        let (ended, endings) = mpsc::unbounded_channel();
        let cores = Cores::new(config.cores);
        let loads = Arc::new(Semaphore::new(config.loads_at_once.max(1)));
        let mut keeper = Keeper {
            config,
            catalog,
            runtimes,
            telemetry,
            cores,
            loads,
            ended,
            wanted: BTreeMap::new(),
            actual: BTreeMap::new(),
            files: BTreeMap::new(),
            stopping: BTreeMap::new(),
            waiting: Vec::new(),
        };
        keeper.want_at_start().await?;
        tokio::spawn(keeper.run(inbox, endings, settle));
        Ok(Self { commands, settled })
    }

    pub(super) fn has_settled(&self) -> bool {
        *self.settled.borrow()
    }

    pub(super) async fn settled(&self) {
        // The task ends only with the process, so there is always an answer.
        let _ = self.settled.clone().wait_for(|settled| *settled).await;
    }

    pub(super) async fn load(&self, name: &str) -> Result<()> {
        self.ask(|reply| Command::Load(name.into(), reply)).await?
    }

    pub(super) async fn unload(&self, name: &str) -> Result<()> {
        self.ask(|reply| Command::Unload(name.into(), reply)).await?
    }

    pub(super) async fn close(&self) {
        // Nothing is left to close where the task has ended.
        let _ = self.ask(Command::Close).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::unavailable("the server is shutting down");
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

/// What a load or unload came to.
enum Ended {
    Loaded(Id, Fingerprint, Box<Result<Loaded>>, Instant),
    Unloaded(Id),
}

/// A caller that waits until nothing of a model is in progress.
struct Waiting {
    name: ModelName,
    reply: oneshot::Sender<Result<()>>,
    load: bool,
}

/// The task.
struct Keeper {
    config: RepositoryConfig,
    catalog: Arc<Catalog>,
    runtimes: Arc<Runtimes>,
    telemetry: Arc<Telemetry>,
    cores: Arc<Cores>,
    loads: Arc<Semaphore>,
    ended: mpsc::UnboundedSender<Ended>,
    wanted: BTreeMap<Id, Fingerprint>,
    actual: BTreeMap<Id, Phase>,
    files: BTreeMap<Id, (Arc<ModelListing>, VersionFiles)>,
    /// Resolves when the scheduler of a version that serves has ended.
    stopping: BTreeMap<Id, Stopped>,
    waiting: Vec<Waiting>,
}

impl Keeper {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Command>,
        mut endings: mpsc::UnboundedReceiver<Ended>,
        settle: watch::Sender<bool>,
    ) {
        let mut closing: Vec<oneshot::Sender<()>> = Vec::new();
        loop {
            for action in policy::next_actions(&self.wanted, &self.actual) {
                self.apply(action);
            }
            self.answer_waiting();
            if !self.in_progress(None) {
                if !settle.send_replace(true) {
                    // The server may have become ready.
                    self.catalog.touch();
                }
                if !closing.is_empty() {
                    for reply in closing {
                        // Whoever asked may have stopped waiting.
                        let _ = reply.send(());
                    }
                    return;
                }
            }
            tokio::select! {
                Some(ended) = endings.recv() => self.note(ended),
                command = inbox.recv() => match command {
                    None => return,
                    Some(Command::Load(name, reply)) => self.load(name, reply).await,
                    Some(Command::Unload(name, reply)) => self.unload(&name, reply),
                    Some(Command::Close(reply)) => {
                        self.wanted.clear();
                        closing.push(reply);
                    }
                },
            }
        }
    }

    /// Reads all repositories and wants what is to be served from the start.
    async fn want_at_start(&mut self) -> Result<()> {
        let (repositories, single) = (self.config.repositories.clone(), self.config.single.clone());
        let listings = blocking(move || scan(&repositories, &single)).await??;
        let all = self.config.control == Control::None || self.config.load_at_start.iter().any(|name| name == "*");
        for name in self.config.load_at_start.iter().filter(|name| *name != "*") {
            if !listings.iter().any(|listing| listing.name.as_str() == name) {
                return Err(Error::unknown_model(format!("--load-model {name}: no repository holds that model")));
            }
        }
        for listing in listings {
            let load = all || self.config.load_at_start.iter().any(|name| name == listing.name.as_str());
            self.take_in(listing, load);
        }
        Ok(())
    }

    /// Notes what is on disk for a model, and wants it if `load`.
    fn take_in(&mut self, listing: ModelListing, load: bool) {
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
            self.files.insert(id, (Arc::clone(&listing), files.clone()));
        }
    }

    async fn load(&mut self, name: String, reply: oneshot::Sender<Result<()>>) {
        let (repositories, single) = (self.config.repositories.clone(), self.config.single.clone());
        let wanted = name.clone();
        let found = blocking(move || find(&repositories, &single, &wanted)).await.and_then(|found| found);
        match found {
            Ok(listing) => {
                let name = listing.name.clone();
                // A load asked for again is tried again, even if nothing changed since it failed.
                self.actual.retain(|(known, _), phase| *known != name || !matches!(phase, Phase::Failed(_, None)));
                self.take_in(listing, true);
                self.waiting.push(Waiting { name, reply, load: true });
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn unload(&mut self, name: &str, reply: oneshot::Sender<Result<()>>) {
        let known = self.files.keys().find(|(known, _)| known.as_str() == name).map(|(known, _)| known.clone());
        match known {
            None => drop(reply.send(self.catalog.resolve(name, None).map(drop))),
            Some(name) => {
                self.wanted.retain(|(known, _), _| *known != name);
                self.waiting.push(Waiting { name, reply, load: false });
            }
        }
    }

    fn in_progress(&self, name: Option<&ModelName>) -> bool {
        let busy = |phase: &Phase| matches!(phase, Phase::Loading(_) | Phase::Unloading);
        self.actual.iter().any(|((known, _), phase)| busy(phase) && name.is_none_or(|name| name == known))
    }

    fn answer_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for caller in waiting {
            if self.in_progress(Some(&caller.name)) {
                self.waiting.push(caller);
                continue;
            }
            let outcome = if caller.load { self.load_outcome(&caller.name) } else { Ok(()) };
            // A caller that hung up does not matter: the load went on without it.
            let _ = caller.reply.send(outcome);
        }
    }

    /// Whether all that is wanted of `name` serves, from the files wanted.
    fn load_outcome(&self, name: &ModelName) -> Result<()> {
        for (id, fingerprint) in self.wanted.iter().filter(|((known, _), _)| known == name) {
            if self.actual.get(id) != Some(&Phase::Ready(*fingerprint)) {
                let reason = self.catalog.failure(name, id.1);
                return Err(Error::unavailable(format!("model '{name}' version {} failed to load: {reason}", id.1)));
            }
        }
        match self.wanted.keys().any(|(known, _)| known == name) {
            true => Ok(()),
            false => self.catalog.resolve(name.as_str(), None).map(drop),
        }
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Load(id) => self.start_load(id),
            Action::Unload(id) => self.start_unload(id),
        }
    }

    fn start_load(&mut self, id: Id) {
        let (Some(&fingerprint), Some((listing, files))) = (self.wanted.get(&id), self.files.get(&id).cloned()) else {
            return;
        };
        self.set_state(&id, ModelState::Loading);
        self.actual.insert(id.clone(), Phase::Loading(fingerprint));
        let (runtimes, loads, ended) = (Arc::clone(&self.runtimes), Arc::clone(&self.loads), self.ended.clone());
        let (cores, objective) = (self.config.cores, self.config.objective);
        tokio::spawn(async move {
            // The semaphore is never closed; without a permit the load goes ahead all the same.
            let _permit = loads.acquire().await;
            let started = Instant::now();
            let loaded = blocking(move || loader::load(&runtimes, &listing, &files, cores, objective))
                .await
                .and_then(|loaded| loaded);
            // The task outlives its loads, except at the end of the process.
            let _ = ended.send(Ended::Loaded(id, fingerprint, Box::new(loaded), started));
        });
    }

    fn start_unload(&mut self, id: Id) {
        self.catalog.withdraw(&id.0, id.1);
        self.telemetry.set_state(id.0.as_str(), &id.1.to_string(), ModelState::Unloading.name());
        self.actual.insert(id.clone(), Phase::Unloading);
        let (stopped, ended) = (self.stopping.remove(&id), self.ended.clone());
        tokio::spawn(async move {
            if let Some(stopped) = stopped {
                // An error means that it has stopped.
                let _ = stopped.await;
            }
            let _ = blocking(release_free_memory).await;
            let _ = ended.send(Ended::Unloaded(id));
        });
    }

    fn note(&mut self, ended: Ended) {
        match ended {
            Ended::Unloaded(id) => {
                tracing::info!(model = %id.0, version = %id.1, "unloaded");
                self.actual.remove(&id);
                self.set_state(&id, ModelState::Unavailable("unloaded".into()));
            }
            Ended::Loaded(id, fingerprint, loaded, started) => match *loaded {
                Ok(loaded) => self.publish(id, fingerprint, loaded, started),
                Err(error) => self.note_failure(id, fingerprint, &error),
            },
        }
    }

    fn note_failure(&mut self, id: Id, fingerprint: Fingerprint, error: &Error) {
        tracing::error!(model = %id.0, version = %id.1, "failed to load: {error}");
        // What an earlier load serves from does not matter to the policy, only that it does.
        let serves = self.stopping.contains_key(&id).then_some(fingerprint);
        self.actual.insert(id.clone(), Phase::Failed(fingerprint, serves));
        self.catalog.note_failure(&id.0, id.1, error.message());
        self.set_state(&id, ModelState::Unavailable(error.message().into()));
    }

    fn publish(&mut self, id: Id, fingerprint: Fingerprint, loaded: Loaded, started: Instant) {
        let metrics = Arc::new(self.telemetry.model(id.0.as_str(), &id.1.to_string()));
        let took = started.elapsed();
        metrics.load_seconds.set(took.as_secs_f64());
        report(&id, &loaded, took);
        let signature = loaded.model.signature().clone();
        let (instances, scheduling) = (loaded.instances.len(), loaded.scheduler.clone());
        let (scheduler, stopped) = Scheduler::start(
            loaded.model,
            loaded.instances,
            loaded.warm_up.curve,
            loaded.scheduler,
            loaded.shares_cores.then_some(&self.cores),
            Arc::clone(&metrics),
        );
        let model = Model {
            name: id.0.clone(),
            version: id.1,
            signature,
            labels: loaded.labels,
            runtime: loaded.runtime,
            platform: loaded.platform,
            request_rows_max: loaded.request_rows_max,
            settings: loaded.settings,
            instances,
            scheduling,
            batching: loaded.warm_up.batching,
            scheduler,
            metrics,
        };
        self.catalog.publish(Arc::new(model));
        self.telemetry.set_state(id.0.as_str(), &id.1.to_string(), ModelState::Ready.name());
        if let Some(earlier) = self.stopping.insert(id.clone(), stopped) {
            // The memory of the load that this one replaces is free once its last request is answered.
            tokio::spawn(async move {
                let _ = earlier.await;
                let _ = blocking(release_free_memory).await;
            });
        }
        self.actual.insert(id, Phase::Ready(fingerprint));
    }

    fn set_state(&self, id: &Id, state: ModelState) {
        if !self.stopping.contains_key(id) {
            self.telemetry.set_state(id.0.as_str(), &id.1.to_string(), state.name());
        }
        self.catalog.set_state(&id.0, id.1, state);
    }
}

fn report(id: &Id, loaded: &Loaded, took: std::time::Duration) {
    let (model, version) = (&id.0, id.1);
    let (instances, rows_max) = (loaded.instances.len(), loaded.scheduler.limits.rows_max);
    let row = loaded.warm_up.curve.centre(1);
    tracing::info!(%model, %version, runtime = loaded.runtime, instances, rows_max, ?row, ?took, "ready");
    if let Batching::Off { reason, suspicious: true } = &loaded.warm_up.batching {
        tracing::warn!(%model, %version, "requests are not joined into batches: {reason}");
    }
    if let Some(cause) = &loaded.warm_up.not_run {
        tracing::warn!(%model, %version, "not warmed up, no made-up input could be run: {cause}");
    }
}

/// Everything in all repositories.
fn scan(repositories: &[PathBuf], single: &[(ModelName, PathBuf)]) -> Result<Vec<ModelListing>> {
    let mut listings = Vec::with_capacity(repositories.len() + 1);
    for repository in repositories {
        if let Some(hint) = layout::mistaken_for_model(repository) {
            tracing::warn!("{hint}");
        }
        listings.push(layout::scan(repository)?);
    }
    listings.push(single.iter().map(|(name, directory)| layout::scan_model(name.clone(), directory)).collect());
    Ok(layout::merge(listings))
}

/// What is on disk for `name` now.
fn find(repositories: &[PathBuf], single: &[(ModelName, PathBuf)], name: &str) -> Result<ModelListing> {
    let found = scan(repositories, single)?.into_iter().find(|listing| listing.name.as_str() == name);
    found.ok_or_else(|| Error::unknown_model(format!("unknown model '{name}': no repository holds it")))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|cause| Error::internal(format!("a load panicked: {cause}")))
}
