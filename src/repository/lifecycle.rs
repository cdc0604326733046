//! Does what [`super::policy`] decides: one task that feeds it snapshots and applies its actions.
//!
//! Loads run on threads of tokio's blocking pool, so many at once as the configuration allows, and never touch what
//! serves. A version that fails stays unavailable with its reason and stops nothing else.

mod ending;
mod outcomes;
mod paging;
mod poller;
mod wanting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Model;
use super::catalog::Catalog;
use super::curves::CurveStore;
use super::disk::{Brought, Disk};
use super::layout::{ModelListing, VersionFiles};
use super::loader::{Loaded, Surroundings};
use super::places::Place;
use super::policy::{self, Action, Fingerprint, Id, Phase};
use super::runtimes::Runtimes;
use super::upload::Upload;
use super::{Control, RepositoryConfig};
use crate::error::{Error, Result};
use crate::model::{Device, LoadOverrides, ModelName, ModelState};
use crate::scheduler::Cores;
use crate::telemetry::Telemetry;
use crate::text::Pool;

use ending::{Stopping, give_memory_back, keep_curves};
use paging::{Paging, Summons};
use poller::{Change, Poller};

/// A way to talk to the task.
pub(super) struct Lifecycle {
    commands: mpsc::Sender<Command>,
    disk: Arc<Disk>,
    cores: Arc<Cores>,
    settled: watch::Receiver<bool>,
}

enum Command {
    Load(String, Brought, oneshot::Sender<Result<()>>),
    Unload(String, oneshot::Sender<Result<()>>),
    Summon(Id, Option<Instant>, Summons),
    Looked(Vec<Change>, oneshot::Sender<()>),
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
        let (opened, metrics) = (config.clone(), Arc::clone(&telemetry.storage));
        let disk = Arc::new(blocking(move || Disk::new(&opened, &metrics)).await??);
        let curves = config.state_directory.as_deref().and_then(CurveStore::open);
        if curves.is_some() {
            tokio::spawn(keep_curves(Arc::downgrade(&catalog), config.curves_kept_every));
        }
        let (cores_given, objective) = (config.cores, config.objective);
        let pool = Arc::new(Pool::new(cores_given));
        let paging = Paging::new(config.memory_bytes_max, config.gpu_memory_bytes_max, Arc::clone(runtimes.devices()));
        let place = Place::default();
        let (sha256s, spare) = (Arc::default(), Arc::default());
        let surroundings = Surroundings {
            runtimes,
            curves,
            urgent: false,
            place,
            cores: cores_given,
            objective,
            pool,
            sha256s,
            spare,
        };
        let mut keeper = Keeper {
            config,
            disk: Arc::clone(&disk),
            catalog,
            surroundings,
            telemetry,
            cores: Arc::clone(&cores),
            paging,
            changed: true,
            moved: BTreeSet::new(),
            settled: false,
            closing: false,
            ended,
            wanted: BTreeMap::new(),
            actual: BTreeMap::new(),
            files: BTreeMap::new(),
            stopping: BTreeMap::new(),
            gone: BTreeSet::new(),
            waiting: Vec::new(),
        };
        let [before, taken] = keeper.want_at_start().await?;
        if keeper.config.control == Control::Poll {
            let (disk, catalog, telemetry) =
                (Arc::clone(&disk), Arc::clone(&keeper.catalog), Arc::clone(&keeper.telemetry));
            let sha256s = Arc::clone(&keeper.surroundings.sha256s);
            let poller =
                Poller { disk, catalog, telemetry, sha256s, every: keeper.config.poll_interval, taken, before };
            tokio::spawn(poller.run(commands.downgrade()));
        }
        tokio::spawn(keeper.run(inbox, endings, settle));
        Ok(Self { commands, disk, cores, settled })
    }

    pub(super) fn pressed(&self) -> impl Future<Output = ()> + '_ {
        self.cores.pressed()
    }

    pub(super) fn has_settled(&self) -> bool {
        *self.settled.borrow()
    }

    pub(super) async fn settled(&self) {
        // The task ends only with the process, so there is always an answer.
        let _ = self.settled.clone().wait_for(|settled| *settled).await;
    }

    pub(super) async fn load(&self, name: &str, overrides: LoadOverrides) -> Result<()> {
        let brought = match overrides.is_empty() {
            true => Brought::default(),
            // Here and not in the task, which others wait for.
            false => {
                let disk = Arc::clone(&self.disk);
                blocking(move || disk.keep(overrides)).await??
            }
        };
        self.ask(|reply| Command::Load(name.into(), brought, reply)).await?
    }

    pub(super) async fn unload(&self, name: &str) -> Result<()> {
        self.ask(|reply| Command::Unload(name.into(), reply)).await?
    }

    /// Has a version brought into memory, and waits for it.
    pub(super) async fn summon(&self, id: Id, deadline: Option<Instant>) -> Result<Arc<Model>> {
        self.ask(|reply| Command::Summon(id, deadline, reply)).await?
    }

    pub(super) async fn close(&self) {
        self.disk.stop_fetching();
        // Nothing is left to close where the task has ended.
        let _ = self.ask(Command::Close).await;
    }

    pub(super) async fn forget_uploads(&self) {
        let disk = Arc::clone(&self.disk);
        // A panic in there is in the log.
        let _ = blocking(move || disk.forget_uploads()).await;
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
    Loaded(Id, Fingerprint, Box<Result<Loaded>>, Measured),
    Unloaded(Id),
    PagedOut(Id),
}

/// What a load took.
struct Measured {
    took: Duration,
    /// The device that it was for.
    device: Device,
    /// Bytes of it that are taken more than before.
    bytes: u64,
    /// [`Paging`]'s count of moves at its start, where nothing else was moving.
    moves: Option<u64>,
}

/// What a version is loaded from.
#[derive(Clone)]
struct Files {
    listing: Arc<ModelListing>,
    version: VersionFiles,
    upload: Option<Arc<Upload>>,
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
    disk: Arc<Disk>,
    catalog: Arc<Catalog>,
    surroundings: Surroundings,
    telemetry: Arc<Telemetry>,
    cores: Arc<Cores>,
    paging: Paging,
    /// Whether there may be something to do about what is wanted.
    changed: bool,
    /// Models of which something ended that was under way: there may be something to do about these.
    moved: BTreeSet<ModelName>,
    /// Whether all that was there at the start has been loaded, or has failed to.
    settled: bool,
    /// Whether the process is about to end.
    closing: bool,
    ended: mpsc::UnboundedSender<Ended>,
    wanted: BTreeMap<Id, Fingerprint>,
    actual: BTreeMap<Id, Phase>,
    files: BTreeMap<Id, Files>,
    /// Tells when the scheduler of a version that serves has ended.
    stopping: BTreeMap<Id, Stopping>,
    /// Versions that were removed from the repositories, and are forgotten once they are unloaded.
    gone: BTreeSet<Id>,
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
            self.decide();
            self.answer_waiting();
            // Nobody asks any more once the server was ready, until it closes: it takes a look at everything.
            if (!self.settled || !closing.is_empty()) && !self.in_progress(None) {
                self.settled = true;
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
                Some(ended) = endings.recv() => {
                    // What leaves memory changes nothing that is wanted.
                    if let Ended::Loaded(id, ..) | Ended::Unloaded(id) = &ended {
                        self.moved.insert(id.0.clone());
                    }
                    self.note(ended);
                }
                () = tokio::time::sleep_until(self.paging.wake()) => self.look_after_memory(),
                command = inbox.recv() => match command {
                    None => return,
                    Some(Command::Load(name, brought, reply)) => {
                        self.changed = true;
                        self.load(name, brought, reply).await;
                    }
                    Some(Command::Unload(name, reply)) => {
                        self.changed = true;
                        self.unload(name, reply).await;
                    }
                    Some(Command::Summon(id, deadline, reply)) => self.summon(id, deadline, reply),
                    Some(Command::Looked(changes, reply)) => {
                        self.changed |= !changes.is_empty();
                        self.take_up(changes);
                        // The looker may have gone with the process.
                        let _ = reply.send(());
                    }
                    Some(Command::Close(reply)) => {
                        self.changed = true;
                        self.closing = true;
                        self.wanted.clear();
                        closing.push(reply);
                    }
                },
            }
        }
    }

    /// Begins what is to be done about what is wanted.
    fn decide(&mut self) {
        loop {
            let moved = std::mem::take(&mut self.moved);
            let actions: Vec<Action> = match std::mem::take(&mut self.changed) {
                true => policy::next_actions(&self.wanted, &self.actual),
                false => {
                    let of = |name: &ModelName| policy::next_actions_of(name, &self.wanted, &self.actual);
                    moved.iter().flat_map(of).collect()
                }
            };
            for action in actions {
                self.apply(action);
            }
            self.begin_loads();
            if !self.changed {
                return;
            }
        }
    }

    fn in_progress(&self, name: Option<&ModelName>) -> bool {
        let busy = |phase: &Phase| matches!(phase, Phase::Loading(_) | Phase::Unloading);
        let moves = match name {
            None => self.actual.values().any(busy),
            Some(name) => policy::versions_of(&self.actual, name).any(|(_, phase)| busy(phase)),
        };
        moves || self.paging.is_leaving(name)
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
        for (id, fingerprint) in policy::versions_of(&self.wanted, name) {
            let ready = [Phase::Ready(*fingerprint), Phase::PagedOut(*fingerprint)];
            if !self.actual.get(id).is_some_and(|phase| ready.contains(phase)) {
                let reason = self.catalog.failure(name, id.1);
                return Err(Error::unavailable(format!("model '{name}' version {} failed to load: {reason}", id.1)));
            }
        }
        match policy::versions_of(&self.wanted, name).next().is_some() {
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
        let Some(&fingerprint) = self.wanted.get(&id) else { return };
        self.set_state(&id, ModelState::Loading);
        self.line_up(id, fingerprint);
    }

    fn start_unload(&mut self, id: Id) {
        self.catalog.withdraw(&id.0, id.1);
        self.telemetry.set_state(id.0.as_str(), &id.1.to_string(), ModelState::Unloading.name());
        self.actual.insert(id.clone(), Phase::Unloading);
        self.paging.forget(&id);
        let (stopped, ended) = (self.stopping.remove(&id), self.ended.clone());
        // At the end of the process all of it is given back anyway.
        let gives_back = !self.closing;
        tokio::spawn(async move {
            if let Some(stopping) = stopped {
                stopping.done().await;
            }
            if gives_back {
                give_memory_back().await;
            }
            let _ = ended.send(Ended::Unloaded(id));
        });
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|cause| Error::internal(format!("a load panicked: {cause}")))
}
