//! What a decision looks at, and what follows from it for one lane: how large a batch should be, what is hopeless, what fills it up.

use std::time::Duration;

use tokio::time::Instant;

use super::super::curve::Curve;
use super::super::queue::Entries;
use super::{
    BatchLimits, Entry, FILLER_COST, FILLER_SHARE, HEADROOM, KNEE, LaneView, Load, OVERHEAD, PADDED_MAX, SIZES, largest,
};

/// A batch to which requests of other lanes are added.
#[derive(Clone, Copy)]
pub(super) struct Forming {
    pub(super) rows: usize,
    /// Work of each of its rows, padded.
    pub(super) unit: usize,
    /// Its work without padding.
    pub(super) useful: usize,
    /// The least of its requests.
    pub(super) slack: Duration,
}

/// Everything that a decision looks at.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    pub(super) now: Instant,
    pub(super) curve: &'a Curve,
    pub(super) limits: &'a BatchLimits,
    pub(super) load: &'a Load,
    pub(super) unit: usize,
}

impl Sight<'_> {
    pub(super) fn largest(&self) -> usize {
        match self.load.best {
            Some((unit, rows)) if unit == self.unit => rows,
            _ => largest(self.curve, self.limits, self.load, self.unit),
        }
    }

    pub(super) fn slack(&self, entry: Entry) -> Duration {
        entry.deadline.saturating_duration_since(self.now)
    }

    pub(super) fn centre(&self, rows: usize) -> Duration {
        self.curve.centre(rows * self.unit)
    }

    pub(super) fn upper(&self, rows: usize) -> Duration {
        self.curve.upper(rows * self.unit)
    }

    /// Rows per second of one instance at `rows` rows a batch, the server's own work included.
    pub(super) fn rate(&self, rows: usize) -> f64 {
        rows as f64 / (self.curve.seconds(rows * self.unit).0 + OVERHEAD)
    }

    /// The smallest size that is fast enough for `lane`, which may be `alone` in its group.
    pub(super) fn target(&self, lane: &LaneView<'_>, alone: bool) -> usize {
        if alone && lane.entries.len() == 1 {
            return lane.entries.at(0).rows;
        }
        if lane.class.is_filler() {
            let brief = self.limits.objective / FILLER_SHARE;
            return (self.curve.work_within(brief) / self.unit).clamp(1, self.limits.rows_max);
        }
        let largest = self.largest();
        let instances = self.load.instances as f64;
        let needed = (HEADROOM * self.load.rows_per_second / instances).max(KNEE * self.rate(largest));
        let quick = |&rows: &usize| self.rate(rows) >= needed && self.clears(lane, rows);
        let target = SIZES.into_iter().take_while(|&rows| rows < largest).find(quick).unwrap_or(largest);
        // What would be left over for a small batch of its own comes along.
        let rest = lane.rows.saturating_sub(target);
        if rest <= target / 2 { lane.rows.clamp(target, largest.max(target)) } else { target }
    }

    /// Whether batches of `rows` rows meet the deadlines of what waits, looked at in four places.
    pub(super) fn clears(&self, lane: &LaneView<'_>, rows: usize) -> bool {
        let (last, upper) = (lane.entries.len() - 1, self.upper(rows).as_secs_f64());
        // Places are requests; those of one lane are mostly alike in rows.
        let each = lane.rows as f64 / lane.entries.len() as f64;
        [last / 4, last / 2, last * 3 / 4, last].into_iter().all(|place| {
            let batches = ((place + 1) as f64 * each / rows as f64 / self.load.instances as f64).ceil();
            batches * upper <= self.slack(lane.entries.at(place)).as_secs_f64()
        })
    }

    /// How long `rows` rows that fill no batch wait for company, where a person said so and the deadline lets it.
    pub(super) fn wait(&self, rows: usize, head: Entry) -> Option<Instant> {
        let full = rows >= self.largest();
        let latest = head.deadline.checked_sub(self.upper(rows + 1)).unwrap_or(self.now);
        let due = (head.arrived + self.limits.delay).min(latest);
        (!full && due > self.now).then_some(due)
    }

    /// How many of the first requests are given up: those that cannot be met at all, those that are too late for a batch of
    /// `target` rows while the others fill one, and those for whose sake a batch would be so small that more of the others
    /// were late.
    pub(super) fn hopeless(&self, entries: Entries<'_>, rows: usize, target: usize) -> usize {
        let (mut count, mut rows) = (0, rows);
        for entry in entries.from(0) {
            let slack = self.slack(entry);
            let fillable = rows.min(target);
            let crowded = rows - entry.rows >= fillable && slack < self.upper(fillable);
            if slack >= self.centre(entry.rows) && !crowded {
                break;
            }
            rows -= entry.rows;
            count += 1;
        }
        if count < entries.len() { self.worth(entries, count, rows, target) } else { count }
    }

    /// Where to begin among `rows` rows from `start` on: there, in a batch as small as that deadline makes it, or with the
    /// first one that is in time for a full batch, whichever leads to more answers in time.
    pub(super) fn worth(&self, entries: Entries<'_>, start: usize, rows: usize, target: usize) -> usize {
        let full = self.upper(rows.min(target));
        let late = entries.from(start).take_while(|entry| self.slack(*entry) < full).count();
        if late == 0 || start + late == entries.len() {
            return start;
        }
        let late_rows: usize = entries.from(start).take(late).map(|entry| entry.rows).sum();
        let with = self.in_time(entries, start, rows, target);
        let without = self.in_time(entries, start + late, rows - late_rows, target);
        if without > with { start + late } else { start }
    }

    /// Requests among `rows` rows from `start` on that the next batch and the one after it answer in time.
    pub(super) fn in_time(&self, entries: Entries<'_>, start: usize, rows: usize, target: usize) -> usize {
        let (requests, taken) = self.prefix(entries, start, target);
        let then = self.centre(taken) + self.centre((rows - taken).clamp(1, target));
        requests + entries.from(start + requests).filter(|entry| self.slack(*entry) >= then).count()
    }

    /// How many requests from `start` on run together, and their rows: up to `target`, and what the first one's deadline
    /// allows; at least one where there is one.
    pub(super) fn prefix(&self, entries: Entries<'_>, start: usize, target: usize) -> (usize, usize) {
        if start >= entries.len() {
            return (0, 0);
        }
        let slack = self.slack(entries.at(start));
        let (mut count, mut rows) = (0, 0);
        for entry in entries.from(start) {
            let together = rows + entry.rows;
            if count > 0 && (together > target || self.upper(together) > slack) {
                break;
            }
            (count, rows) = (count + 1, together);
        }
        (count, rows)
    }

    /// How many requests at the head of another lane join `batch`, and what it is then.
    pub(super) fn filling(&self, lane: LaneView<'_>, batch: Forming, target: usize) -> (usize, Forming) {
        let sight = Sight { unit: batch.unit.max(lane.unit), ..*self };
        let alike = lane.unit == batch.unit;
        let (rows_max, longest) = match lane.class.is_filler() {
            true => (self.limits.rows_max, batch.slack.min(self.upper_of(batch).mul_f64(FILLER_COST))),
            false if alike => (target, batch.slack),
            false => (sight.largest(), batch.slack),
        };
        let (mut taken, mut filled) = (0, batch);
        let mut together = Forming { unit: sight.unit, ..batch };
        for (count, entry) in lane.entries.from(0).enumerate() {
            together.rows += entry.rows;
            together.useful += entry.rows * lane.unit;
            together.slack = together.slack.min(self.slack(entry));
            if together.rows > rows_max || sight.upper(together.rows) > longest.min(together.slack) {
                break;
            }
            if alike || self.pays(batch, together, lane.unit) {
                (taken, filled) = (count + 1, together);
            }
        }
        (taken, filled)
    }

    /// Whether `together`, which is `batch` and rows of `unit` work, is quicker than the two one after the other, by as much
    /// as a larger batch has to be. Where nothing is known yet, nothing pays.
    pub(super) fn pays(&self, batch: Forming, together: Forming, unit: usize) -> bool {
        let takes = |work: usize| self.curve.centre(work).as_secs_f64();
        let apart = takes(batch.rows * batch.unit) + takes((together.rows - batch.rows) * unit);
        let work = together.rows * together.unit;
        takes(work) < KNEE * apart && work <= PADDED_MAX * together.useful
    }

    pub(super) fn upper_of(&self, batch: Forming) -> Duration {
        self.curve.upper(batch.rows * batch.unit)
    }
}
