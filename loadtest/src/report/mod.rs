//! What a run has measured.

pub(crate) mod latencies;
pub(crate) mod outcome;
pub(crate) mod tally;
pub(crate) mod text;
pub(crate) mod timeline;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use self::latencies::{Bin, Latencies, Quantiles};
use self::outcome::Outcomes;
use self::timeline::Slot;

/// The generator is the limit where its lag's 99th percentile is above this share of the objective, or of the median
/// latency without one,
const LAG_SHARE: f64 = 0.1;
/// but a lag below this is that of a busy machine's clock.
const LAG_LEAST_US: f64 = 1_000.0;

/// The figures of one run.
#[derive(Clone, Serialize)]
pub(crate) struct Report {
    /// Seconds of the measured window, as they really passed.
    pub(crate) seconds: f64,
    /// The objective in milliseconds, if one was given.
    pub(crate) slo_ms: Option<f64>,
    /// Requests of the window: those due in it (open loop) or ended in it (closed loop).
    pub(crate) offered: u64,
    /// The same per second.
    pub(crate) offered_rate: f64,
    /// Those of them that were answered with success, in time or not.
    pub(crate) ok: u64,
    /// All of them by class.
    pub(crate) outcomes: Outcomes,
    /// Good requests per second.
    pub(crate) goodput: f64,
    /// Successful answers per second that came within the window.
    pub(crate) rate: f64,
    /// Failures in the window and behind it, by kind.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Failures during the warm-up, all kinds together.
    pub(crate) warmup_errors: u64,
    /// Bytes of answer bodies in the window.
    pub(crate) bytes: u64,
    /// Median latency of successful requests in microseconds.
    pub(crate) p50_us: f64,
    /// Latencies of successful requests.
    pub(crate) answered: Quantiles,
    /// Latencies of good requests.
    pub(crate) good: Quantiles,
    /// How long refusals took.
    pub(crate) refused: Quantiles,
    /// Closed loop: latencies of successful requests, corrected for an expected interval, if one was given.
    pub(crate) corrected: Option<Quantiles>,
    /// Open loop: what the generator itself added.
    pub(crate) generator: Option<Generator>,
    /// Connections opened over the whole run.
    pub(crate) connections: u64,
    /// The most requests in flight at once.
    pub(crate) in_flight_max: u64,
    /// CPU microseconds that the observed server spent for each request ended in the window, if one was observed.
    pub(crate) server_cpu_us: Option<f64>,
    /// Latencies of successful requests as a histogram.
    pub(crate) histogram: Vec<Bin>,
    /// The window in slots.
    pub(crate) timeline: Vec<Slot>,
    /// Latencies of successful requests, exactly.
    #[serde(skip)]
    pub(crate) latencies: Latencies,
    /// Open loop: each successful request, when it was due and how long it took, in nanoseconds; the first are from `begun` on.
    #[serde(skip)]
    pub(crate) each: Vec<(u64, u64)>,
    /// When the run began.
    #[serde(skip)]
    pub(crate) begun: SystemTime,
}

/// What the generator itself added to an open loop.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Generator {
    /// By how much requests left later than they were due.
    pub(crate) lag: Quantiles,
    /// Requests that waited because every connection was busy and no more were allowed.
    pub(crate) held: u64,
    /// Requests that never left.
    pub(crate) unsent: u64,
}

impl Report {
    /// Failures of all kinds, those of the warm-up included.
    pub(crate) fn error_count(&self) -> u64 {
        self.errors.values().sum::<u64>() + self.warmup_errors
    }

    /// Adds the figures of HdrHistogram's correction.
    pub(crate) fn correct(&mut self, interval: Duration) {
        self.corrected = Some(self.latencies.corrected(interval).quantiles());
    }

    /// Why the figures tell of the generator rather than of the server, if they do.
    pub(crate) fn generator_limit(&self) -> Option<String> {
        let generator = self.generator.as_ref()?;
        if generator.held + generator.unsent > 0 {
            let Generator { held, unsent, .. } = generator;
            return Some(format!("{held} requests waited for a connection, {unsent} never left: --connections-max"));
        }
        let bound = self.slo_ms.map_or(self.p50_us, |slo| slo * 1e3) * LAG_SHARE;
        let lag = generator.lag.p99_us;
        (lag > bound.max(LAG_LEAST_US))
            .then(|| format!("1 % of the requests left {lag:.0} us late or later: the generator needs more CPU"))
    }
}
