//! When requests start: whenever a connection is free (closed loop), or at fixed times (open loop).

/// Start times of an open loop at a constant rate, in nanoseconds on the engine's clock.
///
/// A request that finds every connection busy keeps its place and its time: its latency counts from when it was due,
/// not from when it could be sent. Otherwise a stalled server would stop the clock that measures it ("coordinated
/// omission", Gil Tene).
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    start: u64,
    end: u64,
    interval: f64,
    taken: u64,
}

impl Schedule {
    /// `rate` requests per second from `start` until before `end`.
    pub(crate) fn new(rate: f64, start: u64, end: u64) -> Self {
        assert!(rate > 0.0, "a rate is above zero");
        Self { start, end, interval: 1e9 / rate, taken: 0 }
    }

    /// When the next request is due; `None` once all have been taken.
    pub(crate) fn next(&self) -> Option<u64> {
        // From the count rather than by adding up, so that rounding does not drift.
        let at = self.start + (self.taken as f64 * self.interval) as u64;
        (at < self.end).then_some(at)
    }

    /// Takes the next request if it is due at `now`, and returns when it was due.
    pub(crate) fn take(&mut self, now: u64) -> Option<u64> {
        let at = self.next().filter(|at| *at <= now)?;
        self.taken += 1;
        Some(at)
    }
}

/// When the `index`-th of `count` connections opens, if they are spread evenly over `spread` nanoseconds.
pub(crate) fn opening(index: usize, count: usize, spread: u64) -> u64 {
    spread * index as u64 / count.max(1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_keeps_its_rate_without_drift() {
        let mut schedule = Schedule::new(3.0, 1_000, 1_000 + 10_000_000_000);
        let mut last = None;
        let mut count = 0;
        while let Some(at) = schedule.take(u64::MAX) {
            assert!(last.is_none_or(|before| at > before));
            last = Some(at);
            count += 1;
        }
        assert_eq!(count, 30);
        assert_eq!(last, Some(1_000 + 9_666_666_666));
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn a_request_is_not_given_out_before_it_is_due() {
        let mut schedule = Schedule::new(1_000.0, 0, 1_000_000_000);
        assert_eq!(schedule.take(0), Some(0));
        assert_eq!(schedule.take(999_999), None);
        assert_eq!(schedule.next(), Some(1_000_000));
        assert_eq!(schedule.take(1_000_000), Some(1_000_000));
    }

    #[test]
    fn requests_held_back_by_a_stall_keep_their_due_times() {
        let mut schedule = Schedule::new(100.0, 0, 1_000_000_000);
        assert_eq!(schedule.take(0), Some(0));
        // Nothing could be sent for 50 ms: the five requests due meanwhile all count from their own times.
        let held: Vec<_> = std::iter::from_fn(|| schedule.take(50_000_000)).collect();
        assert_eq!(held, [10_000_000, 20_000_000, 30_000_000, 40_000_000, 50_000_000]);
    }

    #[test]
    fn openings_are_even_and_a_burst_is_all_at_once() {
        assert_eq!((0..4).map(|i| opening(i, 4, 1_000)).collect::<Vec<_>>(), [0, 250, 500, 750]);
        assert_eq!((0..4).map(|i| opening(i, 4, 0)).collect::<Vec<_>>(), [0; 4]);
    }
}
