//! What the schedulers have learned, told when somebody asks.

use std::time::Duration;

use super::text::Text;
use crate::contract::metrics as names;

/// What is known of one version that serves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// The latency objective.
    pub objective: Duration,
    /// Rows per second that it can serve within the objective; 0 where nothing was measured, or nothing fits.
    pub capacity: f64,
    /// Rows of the batches that reach the capacity.
    pub batch: usize,
    /// Rows that arrive per second, refused ones included.
    pub arrivals: f64,
    /// Rows that arrived since the load, and requests that were answered after the objective.
    pub offered_and_late: (u64, u64),
    /// Batches that may run at once.
    pub instances: usize,
    /// Threads of one execution.
    pub threads: usize,
    /// The most rows of a batch, as they are set or found.
    pub rows_max: usize,
    /// Work of a typical row, in the curve's units.
    pub unit: usize,
    /// The latency curve, by ascending work: two points to an octave, so that there are never many.
    pub latency: Vec<KnownPoint>,
}

/// One size of a latency curve.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KnownPoint {
    /// Work of a batch: rows, or padded cells.
    pub work: usize,
    /// What half of the batches of this size stay below.
    pub centre: Duration,
    /// What 95 % of them stay below.
    pub upper: Duration,
    /// Executions that it was learned from.
    pub seen: u32,
}

pub(super) fn write(known: &[Known], text: &mut Text) {
    if known.is_empty() {
        return;
    }
    type Value = fn(&Known) -> f64;
    let single: [(&str, &str, Value); 8] = [
        (names::MODEL_CAPACITY, "Rows per second that can be served within the objective", |known| known.capacity),
        (names::MODEL_ARRIVALS, "Rows per second that arrive", |known| known.arrivals),
        (names::MODEL_OBJECTIVE, "The latency objective", |known| known.objective.as_secs_f64()),
        (names::MODEL_INSTANCES, "Batches that may run at once", |known| known.instances as f64),
        (names::MODEL_THREADS, "Threads of one execution", |known| known.threads as f64),
        (names::MODEL_ROWS_MAX, "Rows that a batch may have", |known| known.rows_max as f64),
        (names::MODEL_ROW_WORK, "Work of a typical row", |known| known.unit as f64),
        (names::MODEL_EXECUTIONS, "Executions that the learned latency comes from", |known| {
            known.latency.iter().map(|point| f64::from(point.seen)).sum()
        }),
    ];
    let counted: [(&str, &str, Value); 2] = [
        (names::ARRIVED_ROWS, "Rows that arrived", |known| known.offered_and_late.0 as f64),
        (names::LATE, "Requests answered after the objective", |known| known.offered_and_late.1 as f64),
    ];
    let told = single.map(|family| ("gauge", family)).into_iter().chain(counted.map(|family| ("counter", family)));
    for (kind, (name, help, value)) in told {
        text.family(name, kind, help);
        for version in known {
            text.sample(name, &[("model", &version.model), ("version", &version.version)], value(version));
        }
    }
    text.family(names::MODEL_LATENCY, "gauge", "The learned latency of a batch by its work");
    for version in known {
        for point in &version.latency {
            let work = point.work.to_string();
            for (quantile, latency) in [("0.5", point.centre), ("0.95", point.upper)] {
                let labels = [
                    ("model", version.model.as_str()),
                    ("version", &version.version),
                    ("work", &work),
                    ("quantile", quantile),
                ];
                text.sample(names::MODEL_LATENCY, &labels, latency.as_secs_f64());
            }
        }
    }
}
