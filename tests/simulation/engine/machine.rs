//! What executions take.

use super::{Nanos, nanos};
use tensorgate_random::Random;

/// Relative noise of every execution, standard deviation.
const NOISE: f64 = 0.05;

/// So many executions in one take this many times as long, unless a machine says otherwise.
const OUTLIERS: (f64, f64) = (0.01, 2.0);

/// The time that batches take: `fixed + per_row * rows` seconds, with noise and outliers.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Seconds of a batch, whatever its rows.
    pub(crate) fixed: f64,
    /// Seconds of each row.
    pub(crate) per_row: f64,
    /// While it is slow, batches take three times as long: from and to, in virtual time.
    pub(crate) slow: Vec<(Nanos, Nanos)>,
    /// Share of batches that fail for no reason of theirs.
    pub(crate) failures: f64,
    /// Share of executions that take longer for no reason of theirs, and how many times as long they take.
    pub(crate) outliers: (f64, f64),
    random: Random,
}

impl Machine {
    /// A machine without slow phases and failures.
    pub(crate) fn new(fixed: f64, per_row: f64, random: Random) -> Self {
        Self { fixed, per_row, slow: Vec::new(), failures: 0.0, outliers: OUTLIERS, random }
    }

    /// Seconds that `rows` rows take at the centre.
    pub(crate) fn centre(&self, rows: usize) -> f64 {
        self.fixed + self.per_row * rows as f64
    }

    /// What one execution of `rows` rows takes that begins at `now`.
    pub(crate) fn execute(&mut self, rows: usize, now: Nanos) -> Nanos {
        let noise = (1.0 + NOISE * self.random.normal()).max(0.5);
        let outlier = if self.random.happens(self.outliers.0) { self.outliers.1 } else { 1.0 };
        let slow = if self.slow.iter().any(|&(from, to)| (from..to).contains(&now)) { 3.0 } else { 1.0 };
        nanos(self.centre(rows) * noise * outlier * slow).max(1)
    }

    /// Whether a batch that begins now fails.
    pub(crate) fn fails(&mut self) -> bool {
        self.failures > 0.0 && self.random.happens(self.failures)
    }
}
