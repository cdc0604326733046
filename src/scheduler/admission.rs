//! Whether a request can be answered in time: decided when it arrives, from a few numbers.
//!
//! An [`Outlook`] is what the planner last knew: how fast requests arrive, when an instance is free again, what a batch
//! takes. A request is refused where even the best case misses its deadline; and where the next batch will be filled by
//! requests that arrive later than this one and have more time left, so that this one would wait for nothing. The second
//! rule is what keeps goodput up at ten times the capacity: a queue that is filled first come, first served, right after a
//! batch began is a queue of requests too old for a full batch by the time that the next one begins.

use std::time::Duration;

use tokio::time::Instant;

/// Later arrivals have to fill the next batch this many times over before a request is refused for their sake: the rate of
/// arrivals is an estimate, and a place that stays empty is lost. Found with the simulator; 1.3 to 1.6 are alike.
const CROWD: f64 = 1.6;

/// What a version can promise. Times are at the centre of their distribution unless they say otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    /// When the next instance is free; in the past where one is idle.
    pub free_at: Instant,
    /// Rows that arrive per second, refused ones included.
    pub rows_per_second: f64,
    /// Rows of the largest batch that the objective allows, at least 1.
    pub largest: usize,
    /// Execution of a single row; zero where nothing is known.
    pub single: Duration,
    /// Execution of the largest batch.
    pub full: Duration,
    /// Its upper quantile.
    pub full_upper: Duration,
    /// Batches that may run at once, at least 1.
    pub instances: usize,
}

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The time until its answer, as predicted.
    pub answer_in: Duration,
    /// How long until a request like it is likely to be taken.
    pub retry_after: Duration,
}

impl Outlook {
    /// Decides about a request of `rows` rows that has `slack` time left, behind `queued` waiting rows.
    ///
    /// # Errors
    /// [`Refusal`] where it cannot be answered in time.
    pub fn admit(&self, now: Instant, rows: usize, queued: usize, slack: Duration) -> Result<(), Refusal> {
        let residual = self.free_at.saturating_duration_since(now);
        let answer_in = residual + self.executed(queued + rows);
        let fresher = self.rows_per_second * residual.as_secs_f64();
        let too_old = slack.saturating_sub(residual) < self.full_upper && fresher >= CROWD * self.largest as f64;
        if answer_in <= slack && !(too_old && rows <= self.largest) {
            return Ok(());
        }
        let retry_after = answer_in.saturating_sub(slack).max(residual).max(self.single);
        Err(Refusal { answer_in: answer_in.max(residual + self.full), retry_after })
    }

    /// The time that `rows` rows take on a machine that has nothing else to do.
    pub fn alone(&self, rows: usize) -> Duration {
        self.executed(rows)
    }

    /// When the last of `rows` rows is executed, counted from when an instance is free: in full batches, and one of the rest.
    fn executed(&self, rows: usize) -> Duration {
        let full_batches = rows.saturating_sub(1) / self.largest;
        let rest = rows - full_batches * self.largest;
        let share = rest.saturating_sub(1) as f64 / self.largest.saturating_sub(1).max(1) as f64;
        let rest = self.single + self.full.saturating_sub(self.single).mul_f64(share.min(1.0));
        self.full.mul_f64(full_batches as f64 / self.instances as f64) + rest
    }
}
