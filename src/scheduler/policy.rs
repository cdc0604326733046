//! What to run next: a pure function of the time, the queue, the learned curve and the load.
//!
//! Requests run earliest deadline first. How many at once follows from three sizes:
//!
//! - the *largest* batch that the objective allows: everyone in it waits for all of it, after having waited for it to be
//!   formed, so that its upper latency and the time in which that many rows arrive have to fit the objective together; or
//!   else its latency and that of the batch after it, so that nobody who comes meanwhile is too late;
//! - the *target*: the smallest size that is nearly as quick per row as the largest, keeps up with the arrivals, and
//!   meets the deadlines of what already waits. A model whose time is in proportion to its rows has a target of 1 until
//!   requests pile up, and never makes one wait for another without gain;
//! - what the head's own deadline still allows.
//!
//! A head that is too late for the target makes room when there are enough others to fill it (the sliding window of
//! Nexus, SOSP 2019): without this, one late request shrinks the batch, which makes the next ones late, until every batch
//! is tiny. Where there are not enough others for that, the batch that its deadline allows and the one after it are held
//! against a full batch without it and the one after that, and what answers more in time is done. Where requests of
//! different lengths are padded to share a batch, those of about one length are a lane, and lanes of other lengths fill its
//! batch up as long as one batch of all is quicker than two. Nobody waits for company while an instance is free, but where a
//! person pinned a `max_queue_delay`: a batch that starts at once leaves a fuller one behind it.

mod sight;

use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::curve::Curve;
use super::queue::{Entries, Priority};
use sight::{Forming, Sight};

/// How batches of one model version are formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Rows that requests joined into one batch may have together; 1 for a model whose requests are never joined.
    /// Default 256: models measured gain nothing beyond it that a cache does not take away again. The objective mostly
    /// allows fewer.
    pub rows_max: usize,
    /// How long the oldest request of a lane that is not full may wait for company while an instance is free.
    pub delay: Duration,
    /// The latency objective. Default 100 ms, what people call immediate (Miller 1968).
    pub objective: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { rows_max: 256, delay: Duration::ZERO, objective: Duration::from_millis(100) }
    }
}

impl BatchLimits {
    /// Limits under which no two requests are joined.
    pub fn unbatched() -> Self {
        Self { rows_max: 1, ..Self::default() }
    }
}

/// A waiting request, as the policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When its answer becomes useless.
    pub deadline: Instant,
    /// When it came.
    pub arrived: Instant,
    /// Its rows, at least 1.
    pub rows: usize,
    /// Whether the deadline is the caller's own. One that only follows from the objective may be missed in a hiccup.
    pub firm: bool,
}

/// Requests that may be joined, earliest deadline first; at least one.
#[derive(Clone, Copy)]
pub struct LaneView<'a> {
    /// The class of all of them.
    pub class: Priority,
    /// Lanes of one group may share a batch; every row of it then takes the work of the largest.
    pub group: u64,
    /// Work of one row at most, in the curve's units.
    pub unit: usize,
    /// Rows of all of them.
    pub rows: usize,
    /// The requests.
    pub entries: Entries<'a>,
}

/// What the version has to serve, and with what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Rows that arrive per second, refused ones included.
    pub rows_per_second: f64,
    /// Batches that may run at once, at least 1.
    pub instances: usize,
    /// For rows of so much work, what [`largest`] gave lately: it is asked for several times in each decision.
    pub best: Option<(usize, usize)>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Take requests out and run them.
    Dispatch(Dispatch),
    /// Nothing before then, unless something arrives.
    WaitUntil(Instant),
    /// Nothing waits.
    Idle,
}

/// A batch to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Position of the lane.
    pub lane: usize,
    /// So many of its first requests can no longer be answered in time, or only at the cost of more others: they are
    /// taken out and not run.
    pub hopeless: usize,
    /// So many of the following ones run; none where all were hopeless.
    pub requests: usize,
    /// Requests from the heads of other lanes that fill the batch up.
    pub fill: SmallVec<[(usize, usize); 2]>,
}

/// Objectives are met to this share: the rest is for decoding, the hand-off and the answer. In the simulator, which has
/// none of these, 0.94 and 0.99 are alike.
const USABLE: f64 = 0.97;

/// The target is this much quicker than the arrivals, so that a queue shrinks; 1.0 to 1.2 are alike in the simulator.
const HEADROOM: f64 = 1.05;

/// Throughput of the target against that of the largest batch. In the simulator, 0.9 costs half a point of goodput in bursts
/// near the capacity, and 0.98 gains nothing.
const KNEE: f64 = 0.95;

/// A batch that takes up to this many times as long as a single row is no less timely than that. Where even one row hardly
/// meets the objective, as on a machine that is shared with others, batches of one row would make it worse for all.
const FLAT: f64 = 1.25;

/// What a batch costs the server beside its execution, in seconds: locks, clocks, counters, a hand-over. It is what keeps a
/// model of one microsecond from running its requests one by one.
const OVERHEAD: f64 = 5e-6;

/// A batch has at most this many times the rows of the largest one that ever ran: predictions reach no further.
const GROWTH: usize = 2;

/// A batch of work that only fills what is left over takes at most this share of the objective, or one row, so that what
/// comes meanwhile hardly waits.
const FILLER_SHARE: u32 = 8;

/// How much longer a batch may take for the sake of such work.
const FILLER_COST: f64 = 1.05;

/// A batch of different lengths is at most this many times as large as what is in it: where nearly all would be padding,
/// memory runs out before time shows it.
const PADDED_MAX: usize = 4;

/// Sizes considered for the target: steps of a half and a third.
const SIZES: [usize; 20] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024];

/// Decides what a free instance does.
pub fn plan<'a>(
    now: Instant,
    lanes: impl Iterator<Item = LaneView<'a>> + Clone,
    curve: &Curve,
    limits: &BatchLimits,
    load: &Load,
) -> Plan {
    let first = |lane: &LaneView<'_>| (lane.class, lane.entries.at(0).deadline);
    let Some((position, lane)) = lanes.clone().enumerate().min_by_key(|(_, lane)| first(lane)) else {
        return Plan::Idle;
    };
    let sight = Sight { now, curve, limits, load, unit: lane.unit };
    let head = lane.entries.at(0);
    let grouped = lanes.clone().enumerate().filter(|(_, view)| view.group == lane.group);
    let target = sight.target(&lane, grouped.clone().nth(1).is_none());
    if limits.delay > Duration::ZERO
        && let Some(until) = sight.wait(grouped.clone().map(|(_, view)| view.rows).sum(), head)
    {
        return Plan::WaitUntil(until);
    }
    let hopeless = sight.hopeless(lane.entries, lane.rows, target);
    let (requests, rows) = sight.prefix(lane.entries, hopeless, target);
    let mut fill = SmallVec::new();
    if requests > 0 && limits.rows_max > 1 {
        let slack = sight.slack(lane.entries.at(hopeless));
        let mut batch = Forming { rows, unit: lane.unit, useful: rows * lane.unit, slack };
        let mut others: SmallVec<[(usize, LaneView<'_>); 8]> =
            grouped.filter(|(other, _)| *other != position).collect();
        // Nearest in length first, so that a batch spans no more lengths than it needs.
        others.sort_by_key(|(_, view)| view.unit.abs_diff(lane.unit));
        for (other, view) in others {
            let (count, filled) = sight.filling(view, batch, target);
            if count > 0 {
                fill.push((other, count));
                batch = filled;
            }
        }
    }
    Plan::Dispatch(Dispatch { lane: position, hopeless, requests, fill })
}

/// The largest batch that the objective allows, in rows of `unit` work each, under `load`, at least 1: it has to fit the objective
/// together with the time in which its rows arrive, or with the batch of what arrives while it runs. The first counts in
/// overload, where whoever came too early for a full batch is replaced; the second lets a burst run together. One that takes
/// hardly longer than a single row fits wherever that does.
pub fn largest(curve: &Curve, limits: &BatchLimits, load: &Load, unit: usize) -> usize {
    let grown = (curve.largest() / unit * GROWTH).max(2);
    let objective = limits.objective.as_secs_f64() * USABLE;
    let flat = curve.seconds(unit).0 * FLAT;
    let fits = |rows: usize| {
        let (centre, upper) = curve.seconds(rows * unit);
        let came = (load.rows_per_second * upper / load.instances as f64) as usize;
        let next = curve.seconds(rows.min(came.max(1)) * unit).1;
        upper + next.min(rows as f64 / load.rows_per_second.max(1e-9)) <= objective || centre <= flat
    };
    let (mut good, mut bad) = (1, limits.rows_max.min(grown) + 1);
    while bad > good + 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) { good = middle } else { bad = middle }
    }
    good
}

#[cfg(test)]
mod tests;
