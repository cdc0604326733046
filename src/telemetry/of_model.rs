//! What is counted of one version of a model, as its requests and batches go by.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::{Counter, Gauge, Histogram, IntCounter, IntGauge};
use tokio::time::Instant;

use super::{Spent, Statistics};
use crate::error::Kind;

/// Handles to the metrics of one version of a model.
#[derive(Clone)]
pub struct ModelMetrics {
    pub(super) ok: IntCounter,
    pub(super) errors: Vec<(Kind, IntCounter)>,
    pub(super) request_seconds: Histogram,
    /// See [`QUEUE_SECONDS`](crate::contract::metrics::QUEUE_SECONDS).
    pub queue_seconds: Histogram,
    pub(super) execute_seconds: Histogram,
    /// See [`BATCH_ROWS`](crate::contract::metrics::BATCH_ROWS).
    pub batch_rows: Histogram,
    pub(super) cells: [IntCounter; 2],
    /// See [`WASTED_SECONDS`](crate::contract::metrics::WASTED_SECONDS).
    pub wasted_seconds: Counter,
    /// See [`BATCHES`](crate::contract::metrics::BATCHES).
    pub batches_in_place: IntCounter,
    /// See [`BATCHES`](crate::contract::metrics::BATCHES).
    pub batches_on_thread: IntCounter,
    /// See [`BATCH_RETRIES`](crate::contract::metrics::BATCH_RETRIES).
    pub batch_retries: IntCounter,
    pub(super) in_flight: IntGauge,
    /// See [`QUEUE_DEPTH`](crate::contract::metrics::QUEUE_DEPTH).
    pub queue_depth: IntGauge,
    /// See [`LOAD_SECONDS`](crate::contract::metrics::LOAD_SECONDS).
    pub load_seconds: Gauge,
    /// What the statistics extension tells, since this load.
    pub statistics: Arc<Statistics>,
    pub(super) spent: Arc<Spent>,
    /// Of one execution.
    pub(super) threads: Arc<AtomicUsize>,
}

impl ModelMetrics {
    /// Says with how many threads it is executed.
    pub fn set_threads(&self, threads: usize) {
        self.threads.store(threads.max(1), Ordering::Relaxed);
    }

    /// The same for a second copy of the version, which has its own number of threads.
    pub fn of_twin(&self) -> Self {
        Self { threads: Arc::default(), ..self.clone() }
    }

    /// Counts rows that arrived, whatever comes of them.
    pub fn note_offered(&self, rows: u64) {
        if rows > 0 {
            self.statistics.note_offered(rows);
            self.spent.note_rows(rows);
        }
    }

    /// Counts an execution, see [`EXECUTE_SECONDS`](crate::contract::metrics::EXECUTE_SECONDS).
    pub fn note_execution(&self, took: Duration) {
        self.execute_seconds.observe(took.as_secs_f64());
        self.spent.note_execution(took, self.threads.load(Ordering::Relaxed));
    }

    /// See [`Spent::row_overhead`].
    pub fn row_overhead(&self) -> Option<Duration> {
        self.spent.row_overhead()
    }

    /// Counts a request as in flight until the timer is told its outcome or dropped.
    pub fn start_request(&self) -> RequestTimer<'_> {
        self.in_flight.inc();
        RequestTimer { metrics: self, started: Instant::now(), outcome: Some(Kind::Cancelled) }
    }

    /// Counts a request that arrived at `since` and is answered without an execution.
    pub fn note_answer(&self, since: Instant) {
        self.in_flight.inc();
        drop(RequestTimer { metrics: self, started: since, outcome: None });
    }

    /// Requests that have no answer yet.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// Counts the cells of a batch of a padded model, see [`CELLS`](crate::contract::metrics::CELLS).
    pub fn note_cells(&self, useful: usize, padding: usize) {
        let [useful_cells, padding_cells] = &self.cells;
        useful_cells.inc_by(useful as u64);
        padding_cells.inc_by(padding as u64);
    }
}

/// A request under way. Dropped before [`RequestTimer::finish`], it counts as cancelled: its client went away.
pub struct RequestTimer<'a> {
    metrics: &'a ModelMetrics,
    started: Instant,
    outcome: Option<Kind>,
}

impl RequestTimer<'_> {
    /// Notes the outcome: `None` for an answer.
    pub fn finish(mut self, error: Option<Kind>) {
        self.outcome = error;
    }
}

impl Drop for RequestTimer<'_> {
    fn drop(&mut self) {
        let metrics = self.metrics;
        metrics.in_flight.dec();
        let took = self.started.elapsed();
        metrics.request_seconds.observe(took.as_secs_f64());
        metrics.statistics.note_request(self.outcome.is_none(), took);
        match self.outcome {
            None => metrics.ok.inc(),
            Some(kind) => {
                if let Some((_, counter)) = metrics.errors.iter().find(|(known, _)| *known == kind) {
                    counter.inc();
                }
            }
        }
    }
}
