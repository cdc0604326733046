//! Brings versions into memory and out of it, as [`super::super::budget`] decides. One that is paged out stays ready: the
//! first request for it brings it in again, and whoever asks meanwhile waits for the same load.
//!
//! At the start versions are loaded while there is room. The others are *cold*: ready too, as far as their files tell, but
//! even their signatures are not known before somebody asks. A pass that learned them all would read every weight of a
//! repository that does not fit into memory, for models that may never be asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::budget::{Memory, Resident, Room, Sizes, Usage};
use super::super::machine::memory_for_models;
use super::super::policy::{Fingerprint, Id, Phase};
use super::super::{Model, loader};
use super::{Ended, Keeper, Measured, blocking};
use crate::error::{Error, Result};
use crate::model::{ModelName, ModelState, Version};
use crate::runtime::{heap_bytes, release_free_memory};

/// How often uses are noted: the rates of what is in memory have to be known before something has to leave.
const NOTED_EVERY: Duration = Duration::from_secs(5);

/// Requests that wait for one version at most: as many as may wait in a queue.
const SUMMONS_MAX: usize = 4096;

/// How long a load is expected to take before any was seen.
const LOAD_GUESS: Duration = Duration::from_secs(1);

/// After how long a version that was in memory before and cannot be brought in any more is tried again; twice as long after
/// each failure, up to the second.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Who waits for a version.
pub(super) type Summons = oneshot::Sender<Result<Arc<Model>>>;

/// What is known of a version that was in memory.
struct Tracked {
    usage: Usage,
    reload: Duration,
    since: Instant,
}

struct Retry {
    at: Instant,
    pause: Duration,
}

/// What the task keeps for it.
pub(super) struct Paging {
    bytes_max: u64,
    /// Whether somebody stated it.
    stated: bool,
    sizes: Sizes,
    /// Those that have loaded something.
    engines: BTreeSet<&'static str>,
    tracked: BTreeMap<Id, Tracked>,
    /// Versions whose load has not begun, in the order in which they were wanted.
    pending: VecDeque<Id>,
    /// Those for which others make room.
    demanded: BTreeSet<Id>,
    loading: BTreeMap<Id, u64>,
    leaving: Vec<(Id, u64)>,
    /// What metadata tells of versions that are paged out.
    kept: BTreeMap<Id, (Fingerprint, Arc<Model>)>,
    summons: BTreeMap<Id, Vec<Summons>>,
    retries: BTreeMap<Id, Retry>,
    /// Grows with each load and departure: what a load took is known where it did not.
    moves: u64,
    /// When something may leave that stays for now.
    room_at: Option<Instant>,
    noted: Instant,
}

impl Paging {
    pub(super) fn new(stated: Option<u64>) -> Self {
        // Where the system does not tell, everything is loaded.
        let bytes_max = stated.or_else(memory_for_models).unwrap_or(u64::MAX);
        Self {
            bytes_max,
            stated: stated.is_some(),
            sizes: Sizes::default(),
            engines: BTreeSet::new(),
            tracked: BTreeMap::new(),
            pending: VecDeque::new(),
            demanded: BTreeSet::new(),
            loading: BTreeMap::new(),
            leaving: Vec::new(),
            kept: BTreeMap::new(),
            summons: BTreeMap::new(),
            retries: BTreeMap::new(),
            moves: 0,
            room_at: None,
            noted: Instant::now(),
        }
    }

    /// Whether a version of `name`, or of any model, is on its way out.
    pub(super) fn is_leaving(&self, name: Option<&ModelName>) -> bool {
        self.leaving.iter().any(|((known, _), _)| name.is_none_or(|name| name == known))
    }

    /// When there is something to do of itself.
    pub(super) fn wake(&self) -> Instant {
        let retry = self.retries.values().map(|retry| retry.at).min();
        [self.room_at, retry]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.noted + NOTED_EVERY)
            .min(self.noted + NOTED_EVERY)
    }

    /// Has others make room for `id`.
    pub(super) fn demand(&mut self, id: &Id) {
        self.demanded.insert(id.clone());
    }

    /// Forgets what was learned of a version that is gone.
    pub(super) fn forget(&mut self, id: &Id) {
        self.sizes.forget(id);
        self.tracked.remove(id);
        self.kept.remove(id);
        self.retries.remove(id);
    }
}

impl Keeper {
    /// Puts a load into the line. What takes the place of a version that serves, so that a broken one never does, what is
    /// pinned and what callers ask for has others make room.
    pub(super) fn line_up(&mut self, id: Id, fingerprint: Fingerprint) {
        let of_model = self.actual.range((id.0.clone(), Version::ONE)..).take_while(|((name, _), _)| *name == id.0);
        let replaces = of_model.into_iter().any(|(_, phase)| phase.serves());
        let pinned = self.files.get(&id).is_some_and(|files| files.listing.settings.pin);
        if replaces || pinned {
            self.paging.demand(&id);
        }
        self.actual.insert(id.clone(), Phase::Loading(fingerprint));
        self.paging.pending.push_back(id);
    }

    /// Begins loads while there is room for them, and makes room for those that are demanded.
    pub(super) fn begin_loads(&mut self) {
        self.paging.room_at = None;
        let loading = |id: &Id| matches!(self.actual.get(id), Some(Phase::Loading(_)));
        self.paging.demanded.retain(loading);
        while self.paging.loading.len() < self.config.loads_at_once.max(1) {
            let demanded = self.paging.pending.iter().position(|id| self.paging.demanded.contains(id));
            let Some(id) = self.paging.pending.get(demanded.unwrap_or(0)).cloned() else { return };
            let (Some(&fingerprint), Some(files)) = (self.wanted.get(&id), self.files.get(&id)) else {
                self.give_up(&id);
                continue;
            };
            let needed = self.paging.sizes.of(&id, files.version.bytes);
            let room = match self.memory().room(Instant::now(), self.paging.bytes_max, needed) {
                // A bound that nobody stated is no reason to refuse what may still fit.
                Room::Never if !self.paging.stated => Room::Free,
                room => room,
            };
            match room {
                Room::Free => self.begin_load(id, fingerprint, needed),
                Room::Never => {
                    self.leave_line(&id);
                    let message = format!(
                        "it takes about {needed} bytes, more than --memory-max {} leaves beside what is pinned",
                        self.paging.bytes_max
                    );
                    self.note_failure(id, fingerprint, &Error::unavailable(message));
                }
                _ if demanded.is_none() => self.leave_cold(&id, fingerprint),
                Room::Without(leavers) => leavers.iter().for_each(|leaver| self.page_out(leaver)),
                Room::Soon => return,
                Room::At(then) => {
                    self.paging.room_at = Some(then);
                    return;
                }
            }
        }
    }

    fn leave_line(&mut self, id: &Id) {
        self.paging.pending.retain(|pending| pending != id);
        self.paging.demanded.remove(id);
    }

    /// A load that nobody wants any more.
    fn give_up(&mut self, id: &Id) {
        self.leave_line(id);
        self.changed = true;
        match self.stopping.contains_key(id) {
            // What an earlier load serves from does not matter to the policy, only that it does.
            true => drop(self.actual.insert(id.clone(), Phase::Ready(Fingerprint::MAX))),
            false => {
                self.actual.remove(id);
                self.set_state(id, ModelState::Unavailable("unloaded".into()));
            }
        }
        self.answer_summons(id, &Err(Error::unavailable(format!("model '{}' was unloaded meanwhile", id.0))));
    }

    /// Leaves a version on disk until somebody asks for it.
    fn leave_cold(&mut self, id: &Id, fingerprint: Fingerprint) {
        self.leave_line(id);
        self.actual.insert(id.clone(), Phase::PagedOut(fingerprint));
        if !self.paging.kept.contains_key(id) {
            self.catalog.set_cold(&id.0, id.1);
        }
        self.telemetry.set_state(id.0.as_str(), &id.1.to_string(), ModelState::Ready.name());
    }

    fn begin_load(&mut self, id: Id, fingerprint: Fingerprint, needed: u64) {
        let Some(files) = self.files.get(&id).cloned() else { return };
        let urgent = self.paging.demanded.contains(&id);
        self.leave_line(&id);
        self.actual.insert(id.clone(), Phase::Loading(fingerprint));
        self.paging.loading.insert(id.clone(), needed);
        self.paging.moves += 1;
        let alone = self.paging.loading.len() == 1 && self.paging.leaving.is_empty();
        let moves = alone.then_some(self.paging.moves);
        let surroundings = loader::Surroundings { urgent, ..self.surroundings.clone() };
        let (ended, disk) = (self.ended.clone(), Arc::clone(&self.disk));
        tokio::spawn(async move {
            let started = Instant::now();
            let load = move || {
                // All of it, so that what was brought stays while it is read.
                let files = files;
                let here = match disk.materialize(&files.listing, &files.version, files.upload.is_some()) {
                    Ok(here) => here,
                    Err(error) => return (Err(error), 0),
                };
                let before = heap_bytes();
                let loaded = loader::load(&surroundings, &here);
                let counted = loaded.as_ref().ok().and_then(|loaded| loaded.model.bytes());
                (loaded, counted.unwrap_or_else(|| heap_bytes().saturating_sub(before)))
            };
            let (loaded, bytes) = match blocking(load).await {
                Ok((loaded, bytes)) => (loaded, bytes),
                Err(error) => (Err(error), 0),
            };
            let measured = Measured { took: started.elapsed(), bytes, moves };
            // The task outlives its loads, except at the end of the process.
            let _ = ended.send(Ended::Loaded(id, fingerprint, Box::new(loaded), measured));
        });
    }

    /// What is in memory. What could not come back stays: the files of a version that a broken one was to replace may be
    /// gone.
    fn memory(&self) -> Memory {
        let changing = |phase: &Phase| matches!(phase, Phase::Loading(_) | Phase::Failed(..));
        let changing: BTreeSet<&ModelName> =
            self.actual.iter().filter(|(_, phase)| changing(phase)).map(|((name, _), _)| name).collect();
        let resident = |id: &Id| {
            let model = self.catalog.get(&id.0, id.1)?;
            let tracked = self.paging.tracked.get(id)?;
            let files = self.files.get(id).map_or(0, |files| files.version.bytes);
            let mut usage = tracked.usage;
            usage.note(Instant::now(), model.metrics().statistics.arrived());
            Some(Resident {
                bytes: self.paging.sizes.of(id, files),
                reload: tracked.reload,
                usage,
                since: tracked.since,
                busy: model.metrics().in_flight() > 0,
                pinned: model.settings().pin || changing.contains(&id.0) || !self.wanted.contains_key(id),
                id: id.clone(),
            })
        };
        Memory {
            residents: self.stopping.keys().filter_map(resident).collect(),
            loading: self.paging.loading.values().sum(),
            leaving: self.paging.leaving.iter().map(|(_, bytes)| bytes).sum(),
        }
    }

    /// Takes a version out of memory, and leaves it ready.
    fn page_out(&mut self, id: &Id) {
        let Some(Phase::Ready(fingerprint)) = self.actual.get(id).copied() else { return };
        let (Some(model), Some(stopping)) = (self.catalog.get(&id.0, id.1), self.stopping.remove(id)) else { return };
        self.note_uses(id, &model);
        let kept = Arc::new(model.paged_out());
        self.catalog.exchange(Arc::clone(&kept));
        self.paging.kept.insert(id.clone(), (fingerprint, kept));
        self.actual.insert(id.clone(), Phase::PagedOut(fingerprint));
        let files = self.files.get(id).map_or(0, |files| files.version.bytes);
        self.paging.leaving.push((id.clone(), self.paging.sizes.of(id, files)));
        self.paging.moves += 1;
        tracing::debug!(model = %id.0, version = %id.1, "paged out");
        let (id, ended) = (id.clone(), self.ended.clone());
        tokio::spawn(async move {
            // The requests that it has are answered first.
            drop(model);
            stopping.done().await;
            let _ = blocking(release_free_memory).await;
            let _ = ended.send(Ended::PagedOut(id));
        });
    }

    /// What a version that was paged out has left.
    pub(super) fn note_paged_out(&mut self, id: &Id) {
        self.paging.moves += 1;
        if let Some(position) = self.paging.leaving.iter().position(|(known, _)| known == id) {
            self.paging.leaving.remove(position);
        }
        self.telemetry.count_page(false);
        self.show_memory();
    }

    /// Notes what a load took, and sends away what there is no room for any more.
    pub(super) fn note_in_memory(&mut self, id: &Id, measured: &Measured, runtime: &'static str) {
        let now = Instant::now();
        let files = self.files.get(id).map_or(0, |files| files.version.bytes);
        // The first load of an engine takes what the engine itself does, once: megabytes that are no model's.
        let first = self.paging.engines.insert(runtime);
        if measured.moves == Some(self.paging.moves) && !first {
            // tract's memory is Rust's: its weights, and copies that are packed for the processor.
            let bytes = if runtime == "tract" { files * 2 } else { measured.bytes };
            self.paging.sizes.note(id, files, bytes);
        }
        let usage = self.paging.tracked.get(id).map_or_else(|| Usage::new(now), |tracked| tracked.usage);
        self.paging.tracked.insert(id.clone(), Tracked { usage, reload: measured.took, since: now });
        self.paging.retries.remove(id);
        for leaver in self.memory().surplus(now, self.paging.bytes_max) {
            self.page_out(&leaver);
        }
        if self.memory().bytes() > self.paging.bytes_max && self.paging.leaving.is_empty() {
            tracing::warn!(model = %id.0, "the models in memory take more than {} bytes (--memory-max)", self.paging.bytes_max);
        }
        self.show_memory();
    }

    /// The metrics and the page that a version has from before, where it comes back as it was.
    pub(super) fn taken_back(&mut self, id: &Id, fingerprint: Fingerprint) -> Option<Arc<Model>> {
        let (known, model) = self.paging.kept.remove(id)?;
        (known == fingerprint).then(|| {
            self.telemetry.count_page(true);
            model
        })
    }

    pub(super) fn end_load(&mut self, id: &Id) {
        self.paging.loading.remove(id);
    }

    /// After a version that was in memory before could not be brought in: gives when it is tried again.
    pub(super) fn retry_later(&mut self, id: &Id) -> Option<Duration> {
        if !self.paging.kept.contains_key(id) {
            return None;
        }
        self.catalog.take_off(&id.0, id.1);
        let pause = self.paging.retries.get(id).map_or(RETRY_FIRST, |retry| (retry.pause * 2).min(RETRY_MAX));
        self.paging.retries.insert(id.clone(), Retry { at: Instant::now() + pause, pause });
        Some(pause)
    }

    /// Answers those who wait for a version.
    pub(super) fn answer_summons(&mut self, id: &Id, outcome: &Result<Arc<Model>>) {
        for summons in self.paging.summons.remove(id).unwrap_or_default() {
            // Whoever asked may have stopped waiting.
            let _ = summons.send(outcome.clone());
        }
    }

    /// Brings a version in for a request that waits for it until `deadline`.
    pub(super) fn summon(&mut self, id: Id, deadline: Option<Instant>, reply: Summons) {
        let phase = self.actual.get(&id).copied();
        if self.stopping.contains_key(&id)
            && let Some(model) = self.catalog.get(&id.0, id.1)
        {
            let _ = reply.send(Ok(model));
            return;
        }
        match phase {
            Some(Phase::PagedOut(_)) => self.page_in(&id),
            Some(Phase::Loading(_)) => self.paging.demand(&id),
            _ => {
                let refusal = self.catalog.resolve(id.0.as_str(), Some(&id.1.to_string()));
                let _ = reply.send(refusal);
                return;
            }
        }
        let expected = self.expected(&id);
        let name = &id.0;
        if deadline.is_some_and(|deadline| Instant::now() + expected > deadline) {
            let message = format!(
                "model '{name}' is not in memory: bringing it in takes about {expected:.1?}, longer than the request may wait"
            );
            let _ = reply.send(Err(Error::unavailable(message).with_retry_after(expected)));
            return;
        }
        let waiting = self.paging.summons.entry(id.clone()).or_default();
        waiting.retain(|summons| !summons.is_closed());
        if waiting.len() >= SUMMONS_MAX {
            let message =
                format!("model '{name}': {SUMMONS_MAX} requests wait already for it to be brought into memory");
            let _ = reply.send(Err(Error::overloaded(message).with_retry_after(expected)));
            return;
        }
        waiting.push(reply);
    }

    /// Has a version that is paged out loaded, and others make room.
    pub(super) fn page_in(&mut self, id: &Id) {
        let Some(&fingerprint) = self.wanted.get(id) else { return };
        self.actual.insert(id.clone(), Phase::Loading(fingerprint));
        self.paging.demand(id);
        self.paging.pending.push_back(id.clone());
    }

    /// How long it takes until `id` is in memory: its own load, after those that are before it.
    fn expected(&self, id: &Id) -> Duration {
        let reload = |id: &Id| self.paging.tracked.get(id).map(|tracked| tracked.reload);
        let known: Vec<Duration> = self.paging.tracked.values().map(|tracked| tracked.reload).collect();
        let usual = known.iter().sum::<Duration>().checked_div(known.len() as u32).unwrap_or(LOAD_GUESS);
        if self.paging.loading.contains_key(id) {
            return reload(id).unwrap_or(usual);
        }
        let line = self.paging.pending.iter().filter(|other| self.paging.demanded.contains(*other));
        let before = line.take_while(|other| *other != id).chain(self.paging.loading.keys());
        let wait: Duration = before.map(|other| reload(other).unwrap_or(usual)).sum();
        wait / self.config.loads_at_once.max(1) as u32 + reload(id).unwrap_or(usual)
    }

    /// What is to be done of itself: notes uses, and tries again what could not be brought in.
    pub(super) fn look_after_memory(&mut self) {
        let now = Instant::now();
        if now >= self.paging.noted + NOTED_EVERY {
            self.paging.noted = now;
            for id in self.stopping.keys().cloned().collect::<Vec<_>>() {
                if let Some(model) = self.catalog.get(&id.0, id.1) {
                    self.note_uses(&id, &model);
                }
            }
        }
        let due = self.paging.retries.iter().filter(|(_, retry)| retry.at <= now).map(|(id, _)| id.clone());
        for id in due.collect::<Vec<_>>() {
            match self.actual.get(&id) {
                Some(Phase::Failed(_, None)) if self.wanted.contains_key(&id) => self.page_in(&id),
                _ => {}
            }
            if let Some(retry) = self.paging.retries.get_mut(&id) {
                // Not again before this try has ended, which sets it anew.
                retry.at = now + RETRY_MAX;
            }
        }
    }

    fn note_uses(&mut self, id: &Id, model: &Model) {
        if let Some(tracked) = self.paging.tracked.get_mut(id) {
            tracked.usage.note(Instant::now(), model.metrics().statistics.arrived());
        }
    }

    /// Tells what is in memory.
    pub(super) fn show_memory(&self) {
        self.telemetry.set_memory(self.stopping.len(), self.memory().bytes(), self.paging.bytes_max);
    }
}
