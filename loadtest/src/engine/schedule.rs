//! When requests start: whenever a connection is free (closed loop), or when they are due (open loop).

use std::sync::Arc;

/// The due times of an open loop, in nanoseconds on the engine's clock.
///
/// A request that finds every connection busy keeps its place and its time: its latency counts from when it was due,
/// not from when it could be sent. Otherwise a stalled server would stop the clock that measures it ("coordinated
/// omission", Gil Tene).
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    due: Arc<[u64]>,
    /// What is added to the due times.
    offset: u64,
    taken: usize,
    /// Requests before this position have been counted as held, if they were.
    looked_at: usize,
    held: u64,
}

impl Schedule {
    /// Requests at these ascending times, counted from `offset`.
    pub(crate) fn new(due: Arc<[u64]>, offset: u64) -> Self {
        Self { due, offset, taken: 0, looked_at: 0, held: 0 }
    }

    /// When the next request is due; `None` once all have been taken.
    pub(crate) fn next(&self) -> Option<u64> {
        self.due.get(self.taken).map(|at| at + self.offset)
    }

    /// Takes the next request if it is due at `now`, and returns when it was due.
    pub(crate) fn take(&mut self, now: u64) -> Option<u64> {
        let at = self.next().filter(|at| *at <= now)?;
        self.taken += 1;
        Some(at)
    }

    /// Notes that every request due at `now` has to wait for a connection.
    pub(crate) fn hold(&mut self, now: u64) {
        self.looked_at = self.looked_at.max(self.taken);
        while self.due.get(self.looked_at).is_some_and(|at| at + self.offset <= now) {
            self.looked_at += 1;
            self.held += 1;
        }
    }

    /// How many requests had to wait for a connection.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }
}

/// When the `index`-th of `count` connections opens, if they are spread evenly over `spread` nanoseconds.
pub(crate) fn opening(index: usize, count: usize, spread: u64) -> u64 {
    spread * index as u64 / count.max(1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule() -> Schedule {
        Schedule::new(Arc::from([0, 10, 20, 30, 40]), 100)
    }

    #[test]
    fn a_request_is_not_given_out_before_it_is_due() {
        let mut schedule = schedule();
        assert_eq!(schedule.take(99), None);
        assert_eq!(schedule.take(100), Some(100));
        assert_eq!(schedule.take(109), None);
        assert_eq!(schedule.next(), Some(110));
        assert_eq!(schedule.take(110), Some(110));
    }

    #[test]
    fn requests_held_back_by_a_stall_keep_their_due_times_and_are_counted_once() {
        let mut schedule = schedule();
        schedule.hold(115);
        schedule.hold(125);
        assert_eq!(schedule.held(), 3);
        assert_eq!(std::iter::from_fn(|| schedule.take(125)).collect::<Vec<_>>(), [100, 110, 120]);
        schedule.hold(125);
        assert_eq!((schedule.held(), schedule.next()), (3, Some(130)));
        schedule.hold(u64::MAX);
        assert_eq!(schedule.held(), 5);
    }

    #[test]
    fn openings_are_even_and_a_burst_is_all_at_once() {
        assert_eq!((0..4).map(|i| opening(i, 4, 1_000)).collect::<Vec<_>>(), [0, 250, 500, 750]);
        assert_eq!((0..4).map(|i| opening(i, 4, 0)).collect::<Vec<_>>(), [0; 4]);
    }
}
