//! How far downloads are: a line that is redrawn on a terminal, lines of the log elsewhere.

use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::telemetry::StorageMetrics;

/// How often a terminal is redrawn, and how often a line is logged elsewhere.
const REDRAWN_EVERY: Duration = Duration::from_millis(200);
const LOGGED_EVERY: Duration = Duration::from_secs(10);

/// The files of one version.
pub(super) struct Progress {
    label: String,
    files: usize,
    bytes: u64,
    before: u64,
    started: Instant,
    metrics: Arc<StorageMetrics>,
    draws: bool,
}

impl Progress {
    /// Announces them.
    pub(super) fn begin(label: &str, files: usize, bytes: u64, metrics: Arc<StorageMetrics>) -> Self {
        metrics.announce(bytes);
        let before = metrics.fetched_bytes();
        tracing::info!(files, bytes, "fetching {label}");
        let draws = std::io::stderr().is_terminal();
        Self { label: label.to_owned(), files, bytes, before, started: Instant::now(), metrics, draws }
    }

    /// Tells of it while `work` runs.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let every = if self.draws { REDRAWN_EVERY } else { LOGGED_EVERY };
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = ticks.tick() => self.tell(),
            }
        }
    }

    /// Of everything that is fetched meanwhile: several versions share the line, and what they are waiting for.
    fn tell(&self) {
        let remaining = self.metrics.remaining_bytes();
        let came = self.metrics.fetched_bytes() - self.before;
        let line = line(&self.label, came, remaining, self.started.elapsed());
        if self.draws {
            // A terminal that has gone is nobody's loss.
            let _ = write!(std::io::stderr(), "\r{line}\x1b[K");
        } else {
            tracing::info!(remaining_bytes = remaining, "{line}");
        }
    }

    /// Tells the outcome.
    pub(super) fn end(self, fetched: bool) {
        if self.draws {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        if fetched {
            let took = self.started.elapsed();
            tracing::info!(files = self.files, bytes = self.bytes, ?took, "fetched {}", self.label);
        } else {
            // What is left is not waited for any more.
            let came = self.metrics.fetched_bytes() - self.before;
            self.metrics.done(self.bytes.saturating_sub(came));
        }
    }
}

fn line(label: &str, came: u64, remaining: u64, took: Duration) -> String {
    const WIDTH: u64 = 24;
    let all = (came + remaining).max(1);
    let filled = usize::try_from(came * WIDTH / all).unwrap_or(0);
    let bar: String = (0..WIDTH as usize).map(|at| if at < filled { '=' } else { ' ' }).collect();
    let rate = came as f64 / 1e6 / took.as_secs_f64().max(1e-3);
    format!("fetching {label} [{bar}] {}% of {:.1} MB, {rate:.1} MB/s", came * 100 / all, all as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_far_it_is_and_how_fast() {
        let shown = line("m 1", 50_000_000, 150_000_000, Duration::from_secs(2));
        assert_eq!(shown, "fetching m 1 [======                  ] 25% of 200.0 MB, 25.0 MB/s");
        assert!(line("m 1", 0, 0, Duration::ZERO).contains("0% of"));
    }
}
