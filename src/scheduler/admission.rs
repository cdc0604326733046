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
/// arrivals is an estimate, and a place that stays empty is lost. In the simulator, 1.3 gains a quarter of a point of goodput
/// on average and loses one where bursts meet a linear model; 2.2 loses a quarter.
const CROWD: f64 = 1.6;

/// The same before one that waits already is given up: it is there, and they may not come. Without this rule, what one batch
/// leaves over keeps the fresh ones out of the next: up to 15 points of goodput at ten times the capacity. 2 and 4 are alike
/// but for bursts on a linear model, where 2 loses two points.
const CROWD_WAITING: f64 = 4.0;

/// What a version can promise. Times are at the centre of their distribution unless they say otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    /// When the next instance is free; in the past where one is idle.
    pub free_at: Instant,
    /// Rows that arrive per second right now, refused ones included.
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
        if answer_in <= slack && !(self.too_old(residual, slack, CROWD) && rows <= self.largest) {
            return Ok(());
        }
        let retry_after = answer_in.saturating_sub(slack).max(residual).max(self.single);
        Err(Refusal { answer_in: answer_in.max(residual + self.full), retry_after })
    }

    /// Whether a request that waits and has `slack` left only keeps fresher ones out, now that the next batch is after the
    /// running ones.
    pub fn is_past(&self, now: Instant, slack: Duration) -> bool {
        let residual = self.free_at.saturating_duration_since(now);
        slack < residual + self.single || self.too_old(residual, slack, CROWD_WAITING)
    }

    /// Whether a request that has `slack` left is too old for a full batch when an instance is free, in `residual`, while
    /// later arrivals fill one `crowd` times over.
    fn too_old(&self, residual: Duration, slack: Duration, crowd: f64) -> bool {
        let fresher = self.rows_per_second * residual.as_secs_f64();
        slack.saturating_sub(residual) < self.full_upper && fresher >= crowd * self.largest as f64
    }

    /// The time that `rows` rows take on a machine that has nothing else to do.
    pub fn alone(&self, rows: usize) -> Duration {
        self.executed(rows)
    }

    /// When the last of `rows` rows is executed, counted from when an instance is free: in full batches, and one of the rest;
    /// no earlier than the full ones, though another instance may begin the rest before.
    fn executed(&self, rows: usize) -> Duration {
        let full_batches = rows.saturating_sub(1) / self.largest;
        let rest = rows - full_batches * self.largest;
        let share = rest.saturating_sub(1) as f64 / self.largest.saturating_sub(1).max(1) as f64;
        let rest = self.single + self.full.saturating_sub(self.single).mul_f64(share.min(1.0));
        let after = |batches: usize| self.full.mul_f64(batches as f64 / self.instances as f64);
        let last = after(full_batches) + rest;
        let together = if full_batches == 0 { last } else { last.max(after(full_batches - 1) + self.full) };
        // A size that was once disturbed may look slower than its rows one by one, which is what would then be run.
        together.min(self.single.mul_f64((rows as f64 / self.instances as f64).max(1.0)))
    }
}

#[cfg(test)]
mod tests;
