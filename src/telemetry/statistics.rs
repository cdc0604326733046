//! What the statistics extension tells of one version: counts and times since it was loaded.
//!
//! The meaning of each number is Triton's (its statistics extension): `compute_*` charges every request of a batch with the
//! whole batch's time, `queue` each with its own. All are atomics that a batch adds to once, however many requests it had.
//! They are not read together: a reader may see a batch counted in one and not yet in another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Sizes of batches told apart. Batches have at most 64 rows by default; a client that sends requests of ever other sizes
/// must not grow the table, so sizes beyond these are counted in everything but `batch_stats`.
const SIZES_MAX: usize = 128;

/// Places looked at for one size, so that a full table costs a batch little.
const PROBES_MAX: usize = 8;

/// How often something happened, and how long it took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How often.
    pub count: u64,
    /// Nanoseconds in all.
    pub ns: u64,
}

/// Where the time of one batch went.
#[derive(Clone, Copy, Debug)]
pub struct BatchSpent {
    /// When it was started.
    pub started: Instant,
    /// Requests in it.
    pub requests: usize,
    /// Its rows.
    pub rows: usize,
    /// What all its requests together have waited.
    pub queue: Duration,
    /// Joining the inputs.
    pub input: Duration,
    /// Executing.
    pub infer: Duration,
    /// Giving each request its part of the outputs.
    pub output: Duration,
}

/// Executions of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSize {
    /// Rows.
    pub rows: u64,
    /// Joining the inputs.
    pub input: Counted,
    /// Executing.
    pub infer: Counted,
    /// Giving each request its part of the outputs.
    pub output: Counted,
}

/// All of it at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How long ago the last batch was started; `None` where there was none.
    pub last_inference: Option<Duration>,
    /// Rows answered.
    pub rows: u64,
    /// Batches that succeeded.
    pub executions: u64,
    /// Requests answered, from their arrival at their version to their answer.
    pub success: Counted,
    /// Requests refused, failed or given up, likewise.
    pub fail: Counted,
    /// Waits for a batch, of requests whose batch succeeded, as all that follows.
    pub queue: Counted,
    /// See [`BatchSpent::input`].
    pub input: Counted,
    /// See [`BatchSpent::infer`].
    pub infer: Counted,
    /// See [`BatchSpent::output`].
    pub output: Counted,
    /// Requests that were answered with a kept answer.
    pub cache_hit: Counted,
    /// Requests whose answer was not kept yet, where answers are.
    pub cache_miss: Counted,
    /// Executions by size, smallest first.
    pub sizes: Vec<BatchSize>,
}

#[derive(Default)]
struct Sum {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Sum {
    fn add(&self, time: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ns.fetch_add(nanoseconds(time), Ordering::Relaxed);
    }

    fn read(&self) -> Counted {
        Counted { count: self.count.load(Ordering::Relaxed), ns: self.ns.load(Ordering::Relaxed) }
    }
}

/// One size of batch; `rows` is 0 while the place is free.
#[derive(Default)]
struct Size {
    rows: AtomicU64,
    executions: AtomicU64,
    input: AtomicU64,
    infer: AtomicU64,
    output: AtomicU64,
}

impl Size {
    /// Whether this is, or now becomes, the place of `rows`.
    fn is_for(&self, rows: u64) -> bool {
        match self.rows.load(Ordering::Relaxed) {
            0 => match self.rows.compare_exchange(0, rows, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => true,
                Err(taken) => taken == rows,
            },
            taken => taken == rows,
        }
    }

    fn read(&self) -> Option<BatchSize> {
        let count = self.executions.load(Ordering::Relaxed);
        let sum = |ns: &AtomicU64| Counted { count, ns: ns.load(Ordering::Relaxed) };
        let (input, infer, output) = (sum(&self.input), sum(&self.infer), sum(&self.output));
        (count > 0).then(|| BatchSize { rows: self.rows.load(Ordering::Relaxed), input, infer, output })
    }
}

/// The counters of one version.
pub struct Statistics {
    /// What `last` counts from.
    since: Instant,
    /// Nanoseconds from `since` to the start of the last batch, at least 1; 0 before the first.
    last: AtomicU64,
    rows: AtomicU64,
    executions: AtomicU64,
    success: Sum,
    fail: Sum,
    cache_hit: Sum,
    cache_miss: Sum,
    /// Requests of batches that succeeded: what the times below are counted for.
    requests: AtomicU64,
    queue: AtomicU64,
    input: AtomicU64,
    infer: AtomicU64,
    output: AtomicU64,
    /// Rows that arrived, refused ones included.
    offered: AtomicU64,
    /// The objective in nanoseconds, 0 where none is known, and the requests answered after it.
    objective: AtomicU64,
    late: AtomicU64,
    sizes: Box<[Size]>,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            last: AtomicU64::default(),
            rows: AtomicU64::default(),
            executions: AtomicU64::default(),
            success: Sum::default(),
            fail: Sum::default(),
            cache_hit: Sum::default(),
            cache_miss: Sum::default(),
            requests: AtomicU64::default(),
            queue: AtomicU64::default(),
            input: AtomicU64::default(),
            infer: AtomicU64::default(),
            output: AtomicU64::default(),
            offered: AtomicU64::default(),
            objective: AtomicU64::default(),
            late: AtomicU64::default(),
            sizes: (0..SIZES_MAX).map(|_| Size::default()).collect(),
        }
    }
}

impl Statistics {
    /// Requests up to now, whatever came of them.
    pub fn arrived(&self) -> u64 {
        self.success.count.load(Ordering::Relaxed) + self.fail.count.load(Ordering::Relaxed)
    }

    /// Counts a request that was answered with a kept answer, or whose answer was not there.
    pub fn note_cache(&self, hit: bool, took: Duration) {
        if hit { &self.cache_hit } else { &self.cache_miss }.add(took);
    }

    /// Says after which time answers count as late.
    pub fn set_objective(&self, objective: Duration) {
        self.objective.store(nanoseconds(objective), Ordering::Relaxed);
    }

    /// Counts rows that arrived, whatever comes of them.
    pub fn note_offered(&self, rows: u64) {
        self.offered.fetch_add(rows, Ordering::Relaxed);
    }

    /// Rows that arrived, and requests that were answered after the objective.
    pub fn offered_and_late(&self) -> (u64, u64) {
        (self.offered.load(Ordering::Relaxed), self.late.load(Ordering::Relaxed))
    }

    /// Counts a request that took `took` from arrival to its end, answered or not.
    pub fn note_request(&self, answered: bool, took: Duration) {
        let objective = self.objective.load(Ordering::Relaxed);
        if answered && objective > 0 && nanoseconds(took) > objective {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
        if answered { &self.success } else { &self.fail }.add(took);
    }

    /// Counts a batch that succeeded.
    pub fn note_batch(&self, batch: &BatchSpent) {
        let (requests, rows) = (batch.requests as u64, batch.rows as u64);
        let [input, infer, output] = [batch.input, batch.infer, batch.output].map(nanoseconds);
        let started = nanoseconds(batch.started.saturating_duration_since(self.since)).max(1);
        // Of two batches that end together either may be the last.
        self.last.store(started, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.executions.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(requests, Ordering::Relaxed);
        self.queue.fetch_add(nanoseconds(batch.queue), Ordering::Relaxed);
        self.input.fetch_add(requests * input, Ordering::Relaxed);
        self.infer.fetch_add(requests * infer, Ordering::Relaxed);
        self.output.fetch_add(requests * output, Ordering::Relaxed);
        // A request without rows is an execution of none, which has no line of its own.
        let Some(size) = (rows > 0).then(|| self.size(rows)).flatten() else { return };
        size.executions.fetch_add(1, Ordering::Relaxed);
        size.input.fetch_add(input, Ordering::Relaxed);
        size.infer.fetch_add(infer, Ordering::Relaxed);
        size.output.fetch_add(output, Ordering::Relaxed);
    }

    fn size(&self, rows: u64) -> Option<&Size> {
        let first = rows as usize % SIZES_MAX;
        (first..first + PROBES_MAX).map(|place| &self.sizes[place % SIZES_MAX]).find(|size| size.is_for(rows))
    }

    /// Everything as it stands.
    pub fn summary(&self) -> Summary {
        let last = self.last.load(Ordering::Relaxed);
        let mut sizes: Vec<BatchSize> = self.sizes.iter().filter_map(Size::read).collect();
        sizes.sort_unstable_by_key(|size| size.rows);
        let count = self.requests.load(Ordering::Relaxed);
        let of_requests = |ns: &AtomicU64| Counted { count, ns: ns.load(Ordering::Relaxed) };
        Summary {
            last_inference: (last > 0).then(|| self.since.elapsed().saturating_sub(Duration::from_nanos(last))),
            rows: self.rows.load(Ordering::Relaxed),
            executions: self.executions.load(Ordering::Relaxed),
            success: self.success.read(),
            fail: self.fail.read(),
            cache_hit: self.cache_hit.read(),
            cache_miss: self.cache_miss.read(),
            queue: of_requests(&self.queue),
            input: of_requests(&self.input),
            infer: of_requests(&self.infer),
            output: of_requests(&self.output),
            sizes,
        }
    }
}

/// A duration of more than 584 years is none that was measured.
fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(requests: usize, rows: usize) -> BatchSpent {
        let [queue, input, infer, output] = [40, 1, 20, 3].map(Duration::from_nanos);
        BatchSpent { started: Instant::now(), requests, rows, queue, input, infer, output }
    }

    #[test]
    fn nothing_ran_yet() {
        assert_eq!(Statistics::default().summary(), Summary::default());
    }

    #[test]
    fn every_request_of_a_batch_is_charged_with_the_batch_and_with_its_own_wait() {
        let statistics = Statistics::default();
        statistics.note_batch(&batch(3, 5));
        statistics.note_batch(&batch(1, 5));
        let summary = statistics.summary();
        assert_eq!((summary.rows, summary.executions), (10, 2));
        assert_eq!(summary.queue, Counted { count: 4, ns: 80 });
        assert_eq!(summary.input, Counted { count: 4, ns: 4 });
        assert_eq!(summary.infer, Counted { count: 4, ns: 80 });
        assert_eq!(summary.output, Counted { count: 4, ns: 12 });
        let counted = |ns| Counted { count: 2, ns };
        assert_eq!(summary.sizes, [BatchSize { rows: 5, input: counted(2), infer: counted(40), output: counted(6) }]);
    }

    #[test]
    fn answers_after_the_objective_are_late_and_failures_are_not() {
        let (statistics, millis) = (Statistics::default(), Duration::from_millis);
        statistics.note_request(true, millis(500));
        statistics.set_objective(millis(100));
        statistics.note_offered(3);
        for (answered, took) in [(true, 99), (true, 101), (false, 500)] {
            statistics.note_request(answered, millis(took));
        }
        assert_eq!(statistics.offered_and_late(), (3, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_inference_is_told_by_its_age() {
        let statistics = Statistics::default();
        tokio::time::advance(Duration::from_secs(5)).await;
        statistics.note_batch(&batch(1, 1));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(statistics.summary().last_inference, Some(Duration::from_secs(7)));
    }

    #[test]
    fn sizes_beyond_the_table_are_counted_in_the_rest() {
        let statistics = Statistics::default();
        for rows in 1..=10 * SIZES_MAX {
            statistics.note_batch(&batch(1, rows));
        }
        let summary = statistics.summary();
        assert_eq!(summary.executions, 10 * SIZES_MAX as u64);
        assert_eq!(summary.sizes.len(), SIZES_MAX);
        assert!(summary.sizes.is_sorted_by(|a, b| a.rows < b.rows));
        statistics.note_batch(&batch(1, 0));
        assert_eq!(statistics.summary().sizes.len(), SIZES_MAX);
    }
}
