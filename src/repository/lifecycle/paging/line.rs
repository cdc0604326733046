//! The line of loads: which begins when, and how.

use std::cmp::Reverse;
use std::sync::Arc;

use tokio::time::Instant;

use super::super::super::budget::Room;
use super::super::super::loader;
use super::super::super::places::{Place, Places};
use super::super::super::policy::{Fingerprint, Id, Phase};
use super::super::{Ended, Keeper, Measured, blocking};
use super::flag;
use crate::error::Error;
use crate::model::{Device, ModelState, Version};
use crate::runtime::heap_bytes;

/// A version whose files have fewer bytes is loaded without ado beside models that serve: it is there in less time than one of
/// their batches takes, or little more. What is larger gives way to them.
const GENTLE_BYTES: u64 = 4 << 20;

impl Keeper {
    /// Puts a load into the line. What takes the place of a version that serves, so that a broken one never does, what is
    /// pinned and what callers ask for has others make room.
    pub(in super::super) fn line_up(&mut self, id: Id, fingerprint: Fingerprint) {
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
        let small = files.version.bytes < GENTLE_BYTES;
        let nobody_serves = !self.settled || self.stopping.is_empty();
        let urgent = small || nobody_serves || self.paging.summons.contains_key(&id);
        self.leave_line(&id);
        self.actual.insert(id.clone(), Phase::Loading(fingerprint));
        self.paging.loading.insert(id.clone(), (place.device, needed));
        self.paging.moves += 1;
        let alone = self.paging.loading.len() == 1 && self.paging.leaving.is_empty();
        let moves = alone.then_some(self.paging.moves);
        let device = place.device;
        let surroundings = loader::Surroundings { urgent, place, ..self.surroundings.clone() };
        let (ended, disk, cores) = (self.ended.clone(), Arc::clone(&self.disk), Arc::clone(&self.cores));
        let loading = self.telemetry.spent.loading();
        tokio::spawn(async move {
            let started = Instant::now();
            let load = move || {
                // All of it, so that what was brought stays while it is read.
                let files = files;
                let here = match disk.materialize(&files.listing, &files.version, files.upload.is_some()) {
                    Ok(here) => here,
                    Err(error) => return (Err(error), 0),
                };
                let before = taken(&surroundings, device);
                let loaded = loader::load(&surroundings, &here);
                let counted = loaded.as_ref().ok().and_then(|loaded| loaded.model.bytes());
                (loaded, counted.unwrap_or_else(|| taken(&surroundings, device).saturating_sub(before)))
            };
            let load = blocking(load);
            let done = if urgent { load.await } else { cores.see_to(load).await };
            drop(loading);
            let (loaded, bytes) = done.unwrap_or_else(|error| (Err(error), 0));
            let measured = Measured { took: started.elapsed(), device, bytes, moves };
            // The task outlives its loads, except at the end of the process.
            let _ = ended.send(Ended::Loaded(id, fingerprint, Box::new(loaded), measured));
        });
    }
}

/// Bytes of `device` that are taken: by native engines of this process, or on a GPU by whomever.
fn taken(surroundings: &loader::Surroundings, device: Device) -> u64 {
    match device {
        Device::Cpu => heap_bytes(),
        Device::Cuda(number) => surroundings.runtimes.devices().usage(number).memory_used.unwrap_or(0),
    }
}
