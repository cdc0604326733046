//! The line of loads: which begins when, and how.

use std::cmp::Reverse;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::super::super::budget::Room;
use super::super::super::disk::{Disk, Here};
use super::super::super::loader::{self, Loaded, Precedent};
use super::super::super::pace::{Load, Pace};
use super::super::super::places::{Place, Places};
use super::super::super::policy::{Fingerprint, Id, Phase, versions_of};
use super::super::{Ended, Files, Keeper, Measured, blocking};
use super::flag;
use crate::error::{Error, Result};
use crate::model::{Device, ModelState};
use crate::runtime::heap_bytes;

impl Keeper {
    /// Puts a load into the line. What takes the place of a version that serves, so that a broken one never does, what is
    /// pinned and what callers ask for has others make room.
    pub(in super::super) fn line_up(&mut self, id: Id, fingerprint: Fingerprint) {
        let replaces = versions_of(&self.actual, &id.0).any(|(_, phase)| phase.serves());
        let pinned = self.files.get(&id).is_some_and(|files| files.listing.settings.pin);
        if replaces || pinned {
            self.paging.demand(&id);
        }
        self.actual.insert(id.clone(), Phase::Loading(fingerprint));
        self.paging.pending.push_back(id);
    }

    /// Begins loads while there is room for them, and makes room for those that are demanded.
    pub(in super::super) fn begin_loads(&mut self) {
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
            let places = self.surroundings.runtimes.places(&files.listing.settings, &files.version.path);
            let place = match places {
                Ok(places) => self.choose(&id, &places),
                Err(error) => {
                    self.leave_line(&id);
                    self.note_failure(id, fingerprint, &error);
                    continue;
                }
            };
            let device = place.device;
            let needed = self.takes(&id, device);
            match self.room(device, needed) {
                Room::Free => self.begin_load(id, fingerprint, place, needed),
                Room::Never => {
                    self.leave_line(&id);
                    let (flag, bytes_max) = (flag(device), self.paging.bytes_max(device));
                    let of = if device.is_gpu() { format!(" of {device}") } else { String::new() };
                    let message = format!(
                        "it takes about {needed} bytes{of}, more than {flag} {bytes_max} leaves beside what is pinned"
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

    /// Whether `needed` bytes more can be had on `device`.
    fn room(&self, device: Device, needed: u64) -> Room {
        let room = self.memory(device).room(Instant::now(), self.paging.bytes_max(device), needed);
        // A bound that nobody stated is no reason to refuse what may still fit.
        let stated = self.paging.pools.get(&device).is_some_and(|pool| pool.stated);
        if room == Room::Never && !stated { Room::Free } else { room }
    }

    /// Out of `places`, the GPU with most room; the processor where none would ever have enough.
    fn choose(&mut self, id: &Id, places: &Places) -> Place {
        places.gpus.iter().for_each(|&gpu| self.paging.open_pool(gpu));
        let room = |gpu: &Device| {
            let memory = self.memory(*gpu);
            // The first of those that have as much.
            (self.paging.bytes_max(*gpu).saturating_sub(memory.bytes() - memory.leaving), Reverse(*gpu))
        };
        let fits = |gpu: &&Device| !places.or_cpu || self.room(**gpu, self.takes(id, **gpu)) != Room::Never;
        let gpu = places.gpus.iter().filter(fits).copied().max_by_key(room);
        let bytes_max = gpu.map(|gpu| self.paging.bytes_max(gpu)).filter(|&bytes| bytes < u64::MAX);
        Place { device: gpu.unwrap_or_default(), or_cpu: places.or_cpu, bytes_max }
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

    fn begin_load(&mut self, id: Id, fingerprint: Fingerprint, place: Place, needed: u64) {
        let Some(files) = self.files.get(&id).cloned() else { return };
        let tracked = self.paging.tracked.get(&id);
        let pace = Load {
            bytes: files.version.bytes,
            is_awaited: self.paging.summons.contains_key(&id),
            has_neighbours: self.settled && !self.stopping.is_empty(),
            quickest: tracked.map(|tracked| tracked.quickest),
            // What gives way now is being loaded; whatever does beyond that was overtaken.
            is_crowded: Arc::strong_count(&self.paging.gentle) - 1 > self.paging.loading.len(),
        }
        .pace();
        self.leave_line(&id);
        self.actual.insert(id.clone(), Phase::Loading(fingerprint));
        self.paging.loading.insert(id.clone(), (place.device, needed));
        self.paging.moves += 1;
        let alone = self.paging.loading.len() == 1 && self.paging.leaving.is_empty();
        let kept = self.paging.kept.get(&id).filter(|(known, _)| *known == fingerprint).map(|(_, model)| model);
        let measured = self.paging.pools.get(&place.device).is_some_and(|pool| pool.sizes.is_measured(&id));
        // What comes back as it was takes what it took: counting looks at every free piece of memory.
        let moves = (alone && !(kept.is_some() && measured)).then_some(self.paging.moves);
        let device = place.device;
        let work = Work {
            disk: Arc::clone(&self.disk),
            surroundings: loader::Surroundings { place, ..self.surroundings.clone() },
            files,
            counted: moves.is_some(),
            precedent: kept.filter(|model| model.device() == device).map(|model| Arc::clone(&model.precedent)),
        };
        let (ended, cores, gentle) = (self.ended.clone(), Arc::clone(&self.cores), Arc::clone(&self.paging.gentle));
        let loading = self.telemetry.spent.loading();
        tokio::spawn(async move {
            let started = Instant::now();
            let (done, moves) = match pace {
                Pace::Urgent => (blocking(move || work.find_and_load(true)).await, moves),
                Pace::Gentle => (cores.see_to(blocking(move || work.find_and_load(false))).await, moves),
                Pace::Hedged(after) => {
                    let (done, twice) = hedged(after, work, gentle).await;
                    (done, moves.filter(|_| !twice))
                }
            };
            drop(loading);
            let (loaded, bytes) = done.unwrap_or_else(|error| (Err(error), 0));
            let measured = Measured { took: started.elapsed(), device, bytes, moves };
            // The task outlives its loads, except at the end of the process.
            let _ = ended.send(Ended::Loaded(id, fingerprint, Box::new(loaded), measured));
        });
    }
}

/// One load, for a thread of its own.
#[derive(Clone)]
struct Work {
    disk: Arc<Disk>,
    surroundings: loader::Surroundings,
    /// All of it, so that what was brought stays while it is read.
    files: Files,
    /// Whether it is counted what it takes.
    counted: bool,
    /// What it was when it was in memory before.
    precedent: Option<Arc<Precedent>>,
}

impl Work {
    fn find(&self) -> Result<Here> {
        self.disk.materialize(&self.files.listing, &self.files.version, self.files.upload.is_some())
    }

    /// The version, and the bytes that it takes where they are counted.
    fn load(&self, here: &Here, urgent: bool) -> Loading {
        let surroundings = loader::Surroundings { urgent, ..self.surroundings.clone() };
        let taken = || match self.counted {
            true => loader::gently(urgent, || taken(&surroundings, surroundings.place.device)),
            false => 0,
        };
        let before = taken();
        let loaded = loader::load(&surroundings, here, self.precedent.as_deref());
        let told = loaded.as_ref().ok().and_then(|loaded| loaded.model.bytes());
        (loaded, told.unwrap_or_else(|| taken().saturating_sub(before)))
    }

    fn find_and_load(&self, urgent: bool) -> Loading {
        match self.find() {
            Ok(here) => self.load(&here, urgent),
            Err(error) => (Err(error), 0),
        }
    }
}

/// What a load came to.
type Loading = (Result<Loaded>, u64);

/// Loads gently, and where that has not ended `after` so long, urgently too. Gives what is there first, and whether both were begun; the
/// other one is dropped where it ends, on its own thread, and holds `gentle` until then. Files are fetched once, before.
async fn hedged(after: Duration, work: Work, gentle: Arc<()>) -> (Result<Loading>, bool) {
    let work = Arc::new(work);
    let finding = Arc::clone(&work);
    let here = match blocking(move || finding.find()).await {
        Ok(Ok(here)) => Arc::new(here),
        Ok(Err(error)) | Err(error) => return (Err(error), false),
    };
    let (again, there) = (Arc::clone(&work), Arc::clone(&here));
    let gently = move || {
        let loading = work.load(&here, false);
        drop(gentle);
        loading
    };
    let mut gently = pin!(blocking(gently));
    if let Ok(done) = timeout(after, gently.as_mut()).await {
        return (done, false);
    }
    let done = tokio::select! {
        done = gently => done,
        done = blocking(move || again.load(&there, true)) => done,
    };
    (done, true)
}

/// Bytes of `device` that are taken: by native engines of this process, or on a GPU by whomever.
fn taken(surroundings: &loader::Surroundings, device: Device) -> u64 {
    match device {
        Device::Cpu => heap_bytes(),
        Device::Cuda(number) => surroundings.runtimes.devices().usage(number).memory_used.unwrap_or(0),
    }
}
