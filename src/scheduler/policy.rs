//! What to run next: a pure function of the time, the queue and the limits.
//!
//! First form, work-conserving: whatever waits when an instance is free is run together, oldest lane first, up to the
//! model's limit. A `max_queue_delay` makes a lane that is not full wait for company.

use std::time::Duration;

use tokio::time::Instant;

/// How batches of one model version are formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Rows that requests joined into one batch may have together; 1 for a model whose requests are never joined.
    /// Default 64: beyond it the models measured gain little, and a batch's latency is everyone's in it.
    pub rows_max: usize,
    /// How long the oldest request of a lane that is not full may wait for company while an instance is free.
    pub delay: Duration,
    /// A batch is not made larger than what is predicted to run this long, since everyone in it waits for all of it.
    /// Default 50 ms, half the default objective, so that a request which just missed a batch still meets it in the next.
    pub execute_max: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { rows_max: 64, delay: Duration::ZERO, execute_max: Duration::from_millis(50) }
    }
}

impl BatchLimits {
    /// Limits under which no two requests are joined.
    pub fn unbatched() -> Self {
        Self { rows_max: 1, ..Self::default() }
    }
}

/// Requests that may be joined, as the policy sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneView {
    /// When the oldest one came.
    pub oldest: Instant,
    /// Rows of all of them.
    pub rows: usize,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Run the head of this lane: as many requests as fit `rows_max` rows, at least one.
    Dispatch {
        /// Position of the lane.
        lane: usize,
        /// Rows that the batch may have.
        rows_max: usize,
    },
    /// Nothing before then, unless something arrives.
    WaitUntil(Instant),
    /// Nothing waits.
    Idle,
}

/// Decides what a free instance does. `rows_in_time` is the most rows that are predicted to run within
/// [`BatchLimits::execute_max`].
pub fn plan(now: Instant, lanes: &[LaneView], limits: &BatchLimits, rows_in_time: usize) -> Plan {
    let rows_max = limits.rows_max.min(rows_in_time).max(1);
    let due = |lane: &LaneView| if lane.rows >= rows_max { lane.oldest } else { lane.oldest + limits.delay };
    let next = lanes.iter().enumerate().min_by_key(|(_, lane)| (due(lane) > now, lane.oldest, due(lane)));
    match next {
        None => Plan::Idle,
        Some((lane, view)) if due(view) <= now => Plan::Dispatch { lane, rows_max },
        Some(_) => lanes.iter().map(due).min().map_or(Plan::Idle, Plan::WaitUntil),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(oldest: Instant, rows: usize) -> LaneView {
        LaneView { oldest, rows }
    }

    #[test]
    fn an_empty_queue_is_idle() {
        assert_eq!(plan(Instant::now(), &[], &BatchLimits::default(), 64), Plan::Idle);
    }

    #[test]
    fn without_a_delay_the_oldest_lane_runs_at_once() {
        let now = Instant::now();
        let older = now - Duration::from_millis(5);
        let plan = plan(now, &[lane(now, 9), lane(older, 1)], &BatchLimits::default(), 64);
        assert_eq!(plan, Plan::Dispatch { lane: 1, rows_max: 64 });
    }

    #[test]
    fn a_lane_that_is_not_full_waits_out_its_delay() {
        let now = Instant::now();
        let limits = BatchLimits { rows_max: 4, delay: Duration::from_millis(10), ..BatchLimits::default() };
        assert_eq!(plan(now, &[lane(now, 3)], &limits, 64), Plan::WaitUntil(now + limits.delay));
        assert_eq!(plan(now + limits.delay, &[lane(now, 3)], &limits, 64), Plan::Dispatch { lane: 0, rows_max: 4 });
    }

    #[test]
    fn a_full_lane_overtakes_an_older_one_that_still_waits_for_company() {
        let now = Instant::now();
        let limits = BatchLimits { rows_max: 4, delay: Duration::from_millis(10), ..BatchLimits::default() };
        let older = now - Duration::from_millis(1);
        assert_eq!(plan(now, &[lane(older, 1), lane(now, 4)], &limits, 64), Plan::Dispatch { lane: 1, rows_max: 4 });
    }

    #[test]
    fn a_slow_model_gets_smaller_batches() {
        let now = Instant::now();
        assert_eq!(plan(now, &[lane(now, 40)], &BatchLimits::default(), 5), Plan::Dispatch { lane: 0, rows_max: 5 });
        assert_eq!(plan(now, &[lane(now, 40)], &BatchLimits::default(), 0), Plan::Dispatch { lane: 0, rows_max: 1 });
    }
}
