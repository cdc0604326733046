//! What rows take of the server beside their executions: counted by all versions together, and worked out from one look to the
//! next, when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::process;
use crate::contract::overhead::Overhead;
use crate::contract::signals::Signals;

/// Sums over all versions that ever served. Added to once a batch, and once for all requests that are taken in together.
#[derive(Debug, Default)]
pub struct Spent {
    /// Rows that arrived.
    rows: AtomicU64,
    /// Nanoseconds of executions, times their threads.
    executed: AtomicU64,
    looks: Mutex<Looks>,
}

#[derive(Debug, Default)]
struct Looks {
    /// The last one.
    last: Option<Signals>,
    /// Loads under way: what they take is no row's.
    loads: usize,
    overhead: Overhead,
}

/// A load under way, until this is dropped.
pub struct Loading(Arc<Spent>);

impl Spent {
    /// Counts rows that arrived, whatever comes of them.
    pub(super) fn note_rows(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Counts an execution that took `took` with `threads` threads.
    pub(super) fn note_execution(&self, took: Duration, threads: usize) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.executed.fetch_add(nanoseconds.saturating_mul(threads as u64), Ordering::Relaxed);
    }

    /// Tells of a load that begins now.
    pub fn loading(self: &Arc<Self>) -> Loading {
        self.look(process::cpu_seconds()).loads += 1;
        Loading(Arc::clone(self))
    }

    /// Processor time that a row takes beside its execution, as it was lately in the mean; none where too little was seen, or
    /// the kernel does not tell.
    pub fn row_overhead(&self) -> Option<Duration> {
        self.look(process::cpu_seconds()).overhead.per_row()
    }

    /// Takes in what came since the last look, `processor` being the seconds of processor time up to now.
    fn look(&self, processor: Option<f64>) -> MutexGuard<'_, Looks> {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let now = processor.map(|processor| Signals {
            arrived: self.rows.load(Ordering::Relaxed) as f64,
            executed: self.executed.load(Ordering::Relaxed) as f64 / 1e9,
            processor,
            ..Signals::default()
        });
        let Looks { last, loads, overhead } = &mut *looks;
        if let (Some(last), Some(now), 0) = (&*last, &now, *loads) {
            overhead.note(last, now);
        }
        *last = now;
        looks
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.0.look(process::cpu_seconds()).loads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_neither_executed_nor_a_load_is_the_rows() {
        let spent = Arc::<Spent>::default();
        assert_eq!(spent.look(Some(1.0)).overhead.per_row(), None);
        spent.note_rows(2000);
        spent.note_execution(Duration::from_millis(100), 2);
        assert_eq!(spent.look(Some(1.4)).overhead.per_row(), Some(Duration::from_micros(100)));
        let loading = spent.loading();
        spent.note_rows(2000);
        assert!(spent.look(Some(9.0)).overhead.per_row().unwrap() < Duration::from_micros(101), "a load is no row's");
        drop(loading);
        assert_eq!(spent.look(None).loads, 0);
    }
}
