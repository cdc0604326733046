//! Brings versions into memory and out of it, as [`super::super::budget`] decides. One that is paged out stays ready: the
//! first request for it brings it in again, and whoever asks meanwhile waits for the same load.
//!
//! At the start versions are loaded while there is room. The others are *cold*: ready too, as far as their files tell, but
//! even their signatures are not known before somebody asks. A pass that learned them all would read every weight of a
//! repository that does not fit into memory, for models that may never be asked for.

mod line;
mod summons;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::Model;
use super::super::budget::{Freed, Memory, Resident, Sizes, Usage};
use super::super::machine::memory_for_models;
use super::super::policy::{Fingerprint, Id, Phase, versions_of};
use super::{Ended, Keeper, Measured, give_memory_back};
use crate::devices::Devices;
use crate::error::Result;
use crate::model::{Device, ModelName};

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

/// The share of a GPU's memory that models on it may take, in percent. The rest is for CUDA's context, libraries and workspaces,
/// some hundreds of MiB, and for what runs take beyond what their warm-up has shown.
const GPU_SHARE_PERCENT: u64 = 80;

/// The flag that bounds the memory of a device.
fn flag(device: Device) -> &'static str {
    if device.is_gpu() { "--gpu-memory-max" } else { "--memory-max" }
}

/// The bytes of those that are on `device`.
fn on(device: Device, bytes: impl Iterator<Item = (Device, u64)>) -> u64 {
    bytes.filter(|(place, _)| *place == device).map(|(_, bytes)| bytes).sum()
}

/// Who waits for a version.
pub(super) type Summons = oneshot::Sender<Result<Arc<Model>>>;

/// What is known of a version that was in memory.
struct Tracked {
    device: Device,
    usage: Usage,
    reload: Duration,
    /// The least that a load took.
    quickest: Duration,
    since: Instant,
}

/// The memory of a device.
struct Pool {
    bytes_max: u64,
    /// Whether somebody stated it.
    stated: bool,
    sizes: Sizes,
}

impl Pool {
    fn new(stated: Option<u64>, usual: Option<u64>) -> Self {
        // Where the system does not tell, everything is loaded.
        let bytes_max = stated.or(usual).unwrap_or(u64::MAX);
        Self { bytes_max, stated: stated.is_some(), sizes: Sizes::default() }
    }
}

struct Retry {
    at: Instant,
    pause: Duration,
}

/// What the task keeps for it.
pub(super) struct Paging {
    devices: Arc<Devices>,
    /// What somebody stated for each GPU.
    gpu_bytes_max: Option<u64>,
    /// The memory of the devices that versions are on, or were to be.
    pools: BTreeMap<Device, Pool>,
    /// Those that have loaded something, on each device.
    engines: BTreeSet<(&'static str, Device)>,
    tracked: BTreeMap<Id, Tracked>,
    /// Versions whose load has not begun, in the order in which they were wanted.
    pending: VecDeque<Id>,
    /// Those for which others make room.
    demanded: BTreeSet<Id>,
    loading: BTreeMap<Id, (Device, u64)>,
    /// Held by loads of small versions while they give way.
    gentle: Arc<()>,
    freed: Freed,
    leaving: Vec<(Id, Device, u64)>,
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
    pub(super) fn new(stated: Option<u64>, gpu_bytes_max: Option<u64>, devices: Arc<Devices>) -> Self {
        Self {
            devices,
            gpu_bytes_max,
            pools: [(Device::Cpu, Pool::new(stated, memory_for_models()))].into(),
            engines: BTreeSet::new(),
            tracked: BTreeMap::new(),
            pending: VecDeque::new(),
            demanded: BTreeSet::new(),
            loading: BTreeMap::new(),
            gentle: Arc::default(),
            freed: Freed::default(),
            leaving: Vec::new(),
            kept: BTreeMap::new(),
            summons: BTreeMap::new(),
            retries: BTreeMap::new(),
            moves: 0,
            room_at: None,
            noted: Instant::now(),
        }
    }

    /// Bytes that versions may take on `device` together.
    fn bytes_max(&self, device: Device) -> u64 {
        self.pools.get(&device).map_or(u64::MAX, |pool| pool.bytes_max)
    }

    /// Has the memory of `device` known.
    fn open_pool(&mut self, device: Device) {
        let Device::Cuda(number) = device else { return };
        let (devices, stated) = (&self.devices, self.gpu_bytes_max);
        self.pools.entry(device).or_insert_with(|| {
            let total = devices.gpu(number).and_then(|gpu| gpu.described.memory_bytes);
            Pool::new(stated, total.map(|total| total / 100 * GPU_SHARE_PERCENT))
        });
    }

    /// Whether a version of `name`, or of any model, is on its way out.
    pub(super) fn is_leaving(&self, name: Option<&ModelName>) -> bool {
        self.leaving.iter().any(|((known, _), ..)| name.is_none_or(|name| name == known))
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
        self.pools.values_mut().for_each(|pool| pool.sizes.forget(id));
        self.tracked.remove(id);
        self.kept.remove(id);
        self.retries.remove(id);
    }
}

impl Keeper {
    /// What is in the memory of `device`. What could not come back stays: the files of a version that a broken one was to replace may be
    /// gone.
    fn memory(&self, device: Device) -> Memory {
        let changing = |phase: &Phase| matches!(phase, Phase::Loading(_) | Phase::Failed(..));
        let changes = |name: &ModelName| versions_of(&self.actual, name).any(|(_, phase)| changing(phase));
        let resident = |id: &Id| {
            let model = self.catalog.get(&id.0, id.1)?;
            let tracked = self.paging.tracked.get(id).filter(|tracked| tracked.device == device)?;
            let mut usage = tracked.usage;
            usage.note(Instant::now(), model.metrics().statistics.arrived());
            Some(Resident {
                bytes: self.occupies(id, device),
                reload: tracked.reload,
                usage,
                since: tracked.since,
                busy: model.metrics().in_flight() > 0,
                pinned: model.settings().pin || changes(&id.0) || !self.wanted.contains_key(id),
                id: id.clone(),
            })
        };
        Memory {
            residents: self.stopping.keys().filter_map(resident).collect(),
            loading: on(device, self.paging.loading.values().copied()),
            leaving: on(device, self.paging.leaving.iter().map(|(_, device, bytes)| (*device, *bytes))),
        }
    }

    /// Bytes of `device` that a version takes there.
    fn takes(&self, id: &Id, device: Device) -> u64 {
        let files = self.files.get(id).map_or(0, |files| files.version.bytes);
        self.paging.pools.get(&device).map_or(files, |pool| pool.sizes.of(id, files))
    }

    /// Bytes of `device` that a version in memory has, its twin's too.
    fn occupies(&self, id: &Id, device: Device) -> u64 {
        let has_twin = self.catalog.get(&id.0, id.1).is_some_and(|model| model.has_twin());
        self.takes(id, device) * if has_twin { 2 } else { 1 }
    }

    /// Takes a version out of memory, and leaves it ready.
    fn page_out(&mut self, id: &Id) {
        let Some(Phase::Ready(fingerprint)) = self.actual.get(id).copied() else { return };
        let (Some(model), Some(stopping)) = (self.catalog.get(&id.0, id.1), self.stopping.remove(id)) else { return };
        self.note_uses(id, &model);
        let (device, bytes) = (model.device(), self.occupies(id, model.device()));
        let kept = Arc::new(model.paged_out());
        self.catalog.exchange(Arc::clone(&kept));
        self.paging.kept.insert(id.clone(), (fingerprint, kept));
        self.actual.insert(id.clone(), Phase::PagedOut(fingerprint));
        let gives_back = self.paging.freed.note(bytes);
        self.paging.leaving.push((id.clone(), device, bytes));
        self.paging.moves += 1;
        tracing::debug!(model = %id.0, version = %id.1, "paged out");
        let (id, ended) = (id.clone(), self.ended.clone());
        tokio::spawn(async move {
            // The requests that it has are answered first.
            drop(model);
            let lesson = stopping.ended().await;
            if gives_back {
                give_memory_back().await;
            }
            let _ = ended.send(Ended::PagedOut(id));
            // Nobody waits for that.
            if let Some(lesson) = lesson {
                lesson.keep().await;
            }
        });
    }

    /// What a version that was paged out has left.
    pub(super) fn note_paged_out(&mut self, id: &Id) {
        self.paging.moves += 1;
        if let Some(position) = self.paging.leaving.iter().position(|(known, ..)| known == id) {
            self.paging.leaving.remove(position);
        }
        self.telemetry.count_page(false);
        self.show_memory();
    }

    /// Notes what a load took, and sends away what there is no room for any more.
    pub(super) fn note_in_memory(&mut self, id: &Id, measured: &Measured, runtime: &'static str, device: Device) {
        let now = Instant::now();
        let files = self.files.get(id).map_or(0, |files| files.version.bytes);
        // The first load of an engine takes what the engine itself does, once: megabytes that are no model's.
        let first = self.paging.engines.insert((runtime, device));
        let alone = measured.moves == Some(self.paging.moves) && measured.device == device;
        if alone
            && !first
            && let Some(pool) = self.paging.pools.get_mut(&device)
        {
            // tract's memory is Rust's: its weights, and copies that are packed for the processor.
            let bytes = if runtime == "tract" { files * 2 } else { measured.bytes };
            pool.sizes.note(id, files, bytes);
        }
        let (usage, quickest) = match self.paging.tracked.get(id) {
            None => (Usage::new(now), measured.took),
            Some(tracked) => (tracked.usage, tracked.quickest.min(measured.took)),
        };
        self.paging.tracked.insert(id.clone(), Tracked { device, usage, reload: measured.took, quickest, since: now });
        self.paging.retries.remove(id);
        let (bytes_max, memory) = (self.paging.bytes_max(device), self.memory(device));
        let leavers = memory.surplus(now, bytes_max);
        leavers.iter().for_each(|leaver| self.page_out(leaver));
        if memory.bytes() > bytes_max && self.paging.leaving.is_empty() {
            let flag = flag(device);
            tracing::warn!(model = %id.0, %device, "the models in memory take more than {bytes_max} bytes ({flag})");
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
            if self.paging.freed.take() {
                tokio::spawn(give_memory_back());
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
        for (device, pool) in &self.paging.pools {
            let here = |id: &&Id| self.paging.tracked.get(*id).is_some_and(|tracked| tracked.device == *device);
            let residents: u64 = self.stopping.keys().filter(here).map(|id| self.occupies(id, *device)).sum();
            let moving = self.paging.leaving.iter().map(|(_, device, bytes)| (*device, *bytes));
            let bytes = residents + on(*device, self.paging.loading.values().copied().chain(moving));
            match device {
                Device::Cpu => {
                    self.surroundings.spare.set(pool.bytes_max.saturating_sub(bytes));
                    self.telemetry.set_memory(self.stopping.len(), bytes, pool.bytes_max);
                }
                gpu => self.telemetry.set_gpu_memory(&gpu.to_string(), bytes, pool.bytes_max),
            }
        }
    }
}
