//! BentoML's CORK rule, as its `dispatcher.py` has it: wait for company while that is predicted to cost less than it did of
//! late, give up the oldest while all that wait could not be answered in time together, run the newest. Better off here than
//! there: it starts from the true latencies in place of a training, and notices at once when an executor is free.

use std::collections::VecDeque;

use super::machine::Machine;
use super::{Nanos, nanos};

/// Its default for the rows of a batch.
const BATCH_MAX: usize = 100;

/// It looks again this much later where it waits for company, and reckons with one such wait.
const TICK: f64 = 0.001;

/// It waits while that costs at most this share of the mean wait of late.
const DECAY: f64 = 0.95;

/// Batches that it learns from, and how often it does.
const KEPT: usize = 50;
const REFRESH: Nanos = 5_000_000_000;

/// Its mean wait before it has seen any.
const WAIT_FIRST: f64 = 0.01;

struct Optimizer {
    /// Rows, seconds, and seconds that the oldest row had waited.
    seen: VecDeque<(f64, f64, f64)>,
    per_row: f64,
    fixed: f64,
    wait: f64,
    refreshed: Option<Nanos>,
}

impl Optimizer {
    fn note(&mut self, now: Nanos, rows: usize, took: f64, wait: f64) {
        if self.seen.len() == KEPT {
            self.seen.pop_front();
        }
        self.seen.push_back((rows as f64, took, wait));
        if self.refreshed.is_none_or(|at| now >= at + REFRESH) {
            self.refreshed = Some(now);
            self.refresh();
        }
    }

    /// Least squares of `took = per_row * rows + fixed`; of sizes that are all the same, the solution of the least norm.
    fn refresh(&mut self) {
        let count = self.seen.len() as f64;
        let sum = |of: fn(&(f64, f64, f64)) -> f64| self.seen.iter().map(of).sum::<f64>();
        let (x, y) = (sum(|seen| seen.0), sum(|seen| seen.1));
        let (xx, xy) = (sum(|seen| seen.0 * seen.0), sum(|seen| seen.0 * seen.1));
        let spread = count * xx - x * x;
        let (per_row, fixed) = if spread > 1e-9 {
            let per_row = (count * xy - x * y) / spread;
            (per_row, (y - per_row * x) / count)
        } else {
            let (rows, took) = (x / count, y / count);
            (took * rows / (rows * rows + 1.0), took / (rows * rows + 1.0))
        };
        (self.per_row, self.fixed) = (per_row.max(1e-6), fixed.max(0.0));
        self.wait = sum(|seen| seen.2) / count;
    }
}

/// Serves requests of one row that come at `arrivals` with `executors` executors and the latency `objective`; gives each one
/// that is answered, with the time, to `answered`.
pub(crate) fn serve(
    arrivals: &[Nanos],
    executors: usize,
    mut machine: Machine,
    objective: Nanos,
    mut answered: impl FnMut(Nanos, Nanos),
) {
    let (seen, per_row, fixed) = (VecDeque::new(), machine.per_row, machine.fixed);
    let mut optimizer = Optimizer { seen, per_row, fixed, wait: WAIT_FIRST, refreshed: None };
    let mut running: Vec<(Nanos, Nanos, usize, f64)> = Vec::new();
    let mut queue: VecDeque<Nanos> = VecDeque::new();
    let mut coming = arrivals.iter().copied().peekable();
    let objective_seconds = objective as f64 / 1e9;
    let mut now = 0;
    loop {
        running.retain(|&(start, end, rows, wait)| {
            if end <= now {
                optimizer.note(end, rows, (end - start) as f64 / 1e9, wait);
            }
            end > now
        });
        while let Some(at) = coming.next_if(|at| *at <= now) {
            queue.push_back(at);
        }
        let waited = |at: &Nanos| (now - at) as f64 / 1e9;
        let late = |queue: &VecDeque<Nanos>| {
            let together = optimizer.per_row * queue.len() as f64 + optimizer.fixed;
            queue.len() > 1 && queue.front().is_some_and(|at| waited(at) + together >= objective_seconds)
        };
        while late(&queue) {
            queue.pop_front();
        }
        if running.len() == executors {
            now = running.iter().map(|&(_, end, _, _)| end).min().unwrap_or(now);
            continue;
        }
        let (Some(oldest), Some(newest)) = (queue.front(), queue.back()) else {
            match coming.peek() {
                Some(at) => now = running.iter().map(|&(_, end, _, _)| end).chain([*at]).min().unwrap_or(*at),
                None => return,
            }
            continue;
        };
        let rows = queue.len();
        let cost = rows as f64 * (waited(newest) + TICK + optimizer.per_row);
        if rows < BATCH_MAX && cost <= optimizer.wait * DECAY {
            now += nanos(TICK);
            continue;
        }
        let first = rows - rows.min(BATCH_MAX);
        let wait = waited(queue.get(first).unwrap_or(oldest));
        let end = now + machine.execute(rows - first, now);
        queue.drain(first..).for_each(|at| answered(at, end));
        running.push((now, end, rows - first, wait));
    }
}
