//! Which versions are in memory where there is not room for all: pure functions of snapshots.
//!
//! A version is worth the waiting that it spares for the memory that it takes: requests per second x time of a reload / bytes.
//! That is the cost-aware rule of GreedyDual-Size-Frequency (Cherkasova, "Improving WWW Proxies Performance with
//! GreedyDual-Size-Frequency Caching Policy", HP Labs 1998), with rates that fade in place of its inflation: requests come by
//! the thousand to a load, and counts that large would take as many evictions to age.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::policy::Id;

/// The time in which a use counts half. With requests that come ten times a second to a thousand models by Zipf's law and
/// room for fifty, a minute hits 11 points more often than the least recently used rule where popularity stays, and 5 where
/// other models become popular every 100 s (300 s: 12 and -1).
const HALF_LIFE: Duration = Duration::from_secs(60);

/// A rate is no higher than this many requests in the time without any: what was in demand and no longer is makes room soon.
const PAUSES: f64 = 1.0;

/// What was brought in stays at least for this long, and for [`STAYS`] times its load: so that loads never take up all of the
/// time, however many models are asked for in turn.
const STAY_MIN: Duration = Duration::from_millis(50);
const STAYS: u32 = 2;

/// How often a version was asked for, lately.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    total: u64,
    faded: f64,
    noted: Instant,
    used: Instant,
}

impl Usage {
    /// No use up to `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { total: 0, faded: 0.0, noted: now, used: now }
    }

    /// Notes that there were `total` requests in all up to `now`.
    pub(super) fn note(&mut self, now: Instant, total: u64) {
        let since = now.saturating_duration_since(self.noted).as_secs_f64();
        // Counts begin anew with other files.
        let more = if total < self.total { total } else { total - self.total };
        self.faded = self.faded * (-since / HALF_LIFE.as_secs_f64()).exp2() + more as f64;
        self.noted = now;
        self.total = total;
        if more > 0 {
            self.used = now;
        }
    }

    /// Requests per second that can be expected.
    pub(super) fn rate(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.noted).as_secs_f64();
        let faded = self.faded * (-since / HALF_LIFE.as_secs_f64()).exp2();
        let lately = faded * std::f64::consts::LN_2 / HALF_LIFE.as_secs_f64();
        let pause = now.saturating_duration_since(self.used).as_secs_f64();
        lately.min(PAUSES / pause.max(1e-3))
    }
}

/// A version in memory.
#[derive(Clone, Debug)]
pub(super) struct Resident {
    pub(super) id: Id,
    /// What it takes.
    pub(super) bytes: u64,
    /// How long its load takes.
    pub(super) reload: Duration,
    pub(super) usage: Usage,
    /// When it was brought in.
    pub(super) since: Instant,
    /// Whether it has requests just now.
    pub(super) busy: bool,
    /// Whether it has to stay.
    pub(super) pinned: bool,
}

impl Resident {
    fn value(&self, now: Instant) -> f64 {
        self.usage.rate(now) * self.reload.as_secs_f64() / self.bytes.max(1) as f64
    }

    fn stays_until(&self) -> Instant {
        self.since + STAY_MIN.max(self.reload * STAYS)
    }
}

/// What is in memory, and on its way in and out.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub(super) residents: Vec<Resident>,
    /// Bytes of what is being loaded, as far as they are known.
    pub(super) loading: u64,
    /// Bytes of what is on its way out, and not yet free.
    pub(super) leaving: u64,
}

/// Whether something can be brought in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// At once.
    Free,
    /// Once these have left.
    Without(Vec<Id>),
    /// Once something that is under way has ended.
    Soon,
    /// Then, when what was just brought in may leave.
    At(Instant),
    /// Not even alone, beside what is pinned.
    Never,
}

impl Memory {
    pub(super) fn bytes(&self) -> u64 {
        self.residents.iter().map(|resident| resident.bytes).sum::<u64>() + self.loading + self.leaving
    }

    /// Whether `needed` bytes more can be had within `bytes_max`, and what leaves for them: the least valuable first, idle
    /// ones before busy ones, none that was just brought in.
    pub(super) fn room(&self, now: Instant, bytes_max: u64, needed: u64) -> Room {
        let pinned: u64 = self.residents.iter().filter(|resident| resident.pinned).map(|resident| resident.bytes).sum();
        if pinned.saturating_add(needed) > bytes_max {
            return Room::Never;
        }
        if self.bytes().saturating_add(needed) <= bytes_max {
            return Room::Free;
        }
        let excess = (self.bytes() - self.leaving).saturating_add(needed).saturating_sub(bytes_max);
        if excess == 0 {
            return Room::Soon;
        }
        if let Some(leavers) = self.least_valuable(now, excess, |resident| resident.stays_until() <= now) {
            return Room::Without(leavers);
        }
        let movable = || self.residents.iter().filter(|resident| !resident.pinned);
        match movable().map(Resident::stays_until).filter(|until| *until > now).min() {
            Some(until) => Room::At(until),
            None => Room::Soon,
        }
    }

    /// What has to leave because more is in memory than may be: what was loaded turned out larger than it looked. Nobody is
    /// spared for having come just now, but for the one that is worth most.
    pub(super) fn surplus(&self, now: Instant, bytes_max: u64) -> Vec<Id> {
        let excess = (self.bytes() - self.leaving).saturating_sub(bytes_max);
        let best = self.residents.iter().max_by(|a, b| a.since.cmp(&b.since)).map(|resident| resident.id.clone());
        let movable = |resident: &Resident| Some(&resident.id) != best.as_ref();
        match excess {
            0 => Vec::new(),
            _ => self.least_valuable(now, excess, movable).unwrap_or_default(),
        }
    }

    /// The least valuable residents that have `excess` bytes together, where all that may leave do.
    fn least_valuable(&self, now: Instant, excess: u64, may_leave: impl Fn(&Resident) -> bool) -> Option<Vec<Id>> {
        let mut movable: Vec<(f64, &Resident)> = self
            .residents
            .iter()
            .filter(|resident| !resident.pinned && may_leave(resident))
            .map(|resident| (resident.value(now), resident))
            .collect();
        movable.sort_by(|(a_value, a), (b_value, b)| a.busy.cmp(&b.busy).then(a_value.total_cmp(b_value)));
        let mut freed = 0_u64;
        let mut leavers = Vec::new();
        for (_, resident) in movable {
            if freed >= excess {
                break;
            }
            freed += resident.bytes;
            leavers.push(resident);
        }
        if freed < excess {
            return None;
        }
        // A large one that came last may have made those before it needless; the most valuable of them stay first.
        for position in (0..leavers.len()).rev() {
            if freed - leavers[position].bytes >= excess {
                freed -= leavers.remove(position).bytes;
            }
        }
        Some(leavers.into_iter().map(|resident| resident.id.clone()).collect())
    }
}

/// Bytes that may be free and still this process's: what leaves is taken by what comes next, and giving it back looks at all that is
/// free, every time.
const FREE_BYTES_MAX: u64 = 16 << 20;

/// What has left memory, and may not have been given back to the system.
#[derive(Debug, Default)]
pub(super) struct Freed {
    bytes: u64,
}

impl Freed {
    /// Notes that `bytes` are about to be freed; whether all that is free is to be given back then.
    pub(super) fn note(&mut self, bytes: u64) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        self.bytes > FREE_BYTES_MAX && self.take()
    }

    /// Whether there is anything to be given back, which there no longer is.
    pub(super) fn take(&mut self) -> bool {
        std::mem::take(&mut self.bytes) > 0
    }
}

/// What versions take, as measured, and what those take that were not: their files, and what engines needed beside them for
/// others.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    measured: BTreeMap<Id, u64>,
    beside_files: f64,
    count: u32,
}

/// What a version takes beside its weights: scheduler, queue and metrics, some tens of KiB.
const OVERHEAD_BYTES: u64 = 64 << 10;

/// Less than this is what threads and log lines take while something is loaded.
const NOISE_BYTES: u64 = 32 << 10;

/// Measurements that the mean beside files goes back to.
const REMEMBERED: u32 = 16;

impl Sizes {
    /// Bytes that `id`, with files of `files` bytes, takes once it is loaded.
    pub(super) fn of(&self, id: &Id, files: u64) -> u64 {
        let guess = || files + self.beside_files as u64;
        self.measured.get(id).copied().unwrap_or_else(guess).max(files) + OVERHEAD_BYTES
    }

    /// Whether it was noted what `id` takes.
    pub(super) fn is_measured(&self, id: &Id) -> bool {
        self.measured.contains_key(id)
    }

    /// Notes that the load of `id` took `bytes`.
    pub(super) fn note(&mut self, id: &Id, files: u64, bytes: u64) {
        self.count = (self.count + 1).min(REMEMBERED);
        let bytes = if bytes < NOISE_BYTES { 0 } else { bytes };
        self.beside_files += (bytes.saturating_sub(files) as f64 - self.beside_files) / f64::from(self.count);
        self.measured.insert(id.clone(), bytes);
    }

    pub(super) fn forget(&mut self, id: &Id) {
        self.measured.remove(id);
    }
}

#[cfg(test)]
mod tests;
