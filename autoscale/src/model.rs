//! What a server has learned of its model.

use std::time::Duration;

use tensorgate_contract::capacity::{self, Point, USABLE};

/// What a server has learned of its model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// The latency curve, by ascending work.
    pub points: Vec<Point>,
    /// Executions that it was learned from.
    pub executions: u64,
    /// The latency objective.
    pub objective: Duration,
    /// Batches that may run at once in a replica.
    pub instances: usize,
    /// Rows that may run together.
    pub rows_max: usize,
    /// Work of one row, in the curve's units.
    pub unit: usize,
}

impl Model {
    /// What half of the batches of `rows` rows stay below, and what 95 % do, in seconds: on the line between the points beside
    /// it, on along the last one beyond.
    pub fn seconds(&self, rows: usize) -> (f64, f64) {
        let work = (rows.max(1) * self.unit.max(1)) as f64;
        let above = self.points.partition_point(|point| (point.work as f64) < work);
        let last = self.points.len().saturating_sub(1);
        let (low, high) = match above {
            0 => (0, 0),
            _ if above > last => (last.saturating_sub(1), last),
            _ => (above - 1, above),
        };
        let (Some(low), Some(high)) = (self.points.get(low), self.points.get(high)) else { return (0.0, 0.0) };
        let span = (high.work.saturating_sub(low.work)).max(1) as f64;
        let share = if low.work == high.work { 0.0 } else { (work - low.work as f64) / span };
        let between = |from: Duration, to: Duration| {
            (from.as_secs_f64() + (to.as_secs_f64() - from.as_secs_f64()) * share).max(1e-9)
        };
        let centre = between(low.centre, high.centre);
        (centre, between(low.upper, high.upper).max(centre))
    }

    /// The most rows of a batch that was measured and may run.
    pub fn largest(&self) -> usize {
        let measured = self.points.last().map_or(0, |point| point.work / self.unit.max(1));
        measured.max(usize::from(!self.points.is_empty())).min(self.rows_max.max(1))
    }

    /// The objective in seconds, but for what decoding and answering take.
    pub fn allowed(&self) -> f64 {
        self.objective.as_secs_f64() * USABLE
    }

    /// The most rows of a batch that leaves time for one like it to run before; 0 where not even one row does.
    pub fn fitting(&self) -> usize {
        capacity::sizes(self.largest().max(1))
            .filter(|&rows| 2.0 * self.seconds(rows).1 <= self.allowed())
            .last()
            .unwrap_or(0)
    }

    /// Rows per second at the best measured size, whatever the latency.
    pub fn throughput(&self) -> f64 {
        if self.points.is_empty() {
            return 0.0;
        }
        let rate = |rows: usize| rows as f64 / self.seconds(rows).0;
        capacity::sizes(self.largest()).map(rate).fold(0.0, f64::max) * self.instances.max(1) as f64
    }
}
