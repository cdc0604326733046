//! What a run has measured, and how it is shown.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::engine::protocol::Failure;

/// Latencies above this are recorded as this much.
const LATENCY_MAX: Duration = Duration::from_secs(300);

/// Latencies with three significant digits, from a microsecond up.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// An empty histogram.
    pub(crate) fn new() -> Self {
        let bounds = Histogram::new_with_bounds(1_000, LATENCY_MAX.as_nanos() as u64, 3);
        Self(bounds.expect("constant bounds are valid"))
    }

    /// Adds one latency in nanoseconds.
    pub(crate) fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    /// The latency in microseconds that this share (0..=1) of the requests did not exceed; 0 when empty.
    pub(crate) fn quantile_us(&self, quantile: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.value_at_quantile(quantile) as f64 / 1e3 }
    }

    /// The longest latency in microseconds.
    pub(crate) fn max_us(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }
}

/// The figures of one run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Seconds of the measured window, as they really passed.
    pub(crate) seconds: f64,
    /// Requests answered with success inside the window.
    pub(crate) ok: u64,
    /// Failures in the window and behind it, by kind.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Failures during the warm-up, all kinds together.
    pub(crate) warmup_errors: u64,
    /// Successful requests per second.
    pub(crate) rate: f64,
    /// Bytes of answer bodies in the window.
    pub(crate) bytes: u64,
    /// Latency of successful requests in microseconds.
    pub(crate) p50_us: f64,
    /// See `p50_us`.
    pub(crate) p90_us: f64,
    /// See `p50_us`.
    pub(crate) p99_us: f64,
    /// See `p50_us`.
    pub(crate) p999_us: f64,
    /// See `p50_us`.
    pub(crate) max_us: f64,
    /// CPU microseconds that the observed server spent for each request ended in the window, if one was observed.
    pub(crate) server_cpu_us: Option<f64>,
}

impl Report {
    /// Failures of all kinds, those of the warm-up included.
    pub(crate) fn error_count(&self) -> u64 {
        self.errors.values().sum::<u64>() + self.warmup_errors
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "requests   {} ok in {:.2} s = {:.0}/s", self.ok, self.seconds, self.rate)?;
        writeln!(
            f,
            "latency us p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  max {:.0}",
            self.p50_us, self.p90_us, self.p99_us, self.p999_us, self.max_us
        )?;
        writeln!(f, "received   {} bytes of bodies", self.bytes)?;
        if let Some(cpu) = self.server_cpu_us {
            writeln!(f, "server cpu {cpu:.2} us a request")?;
        }
        if self.error_count() == 0 {
            return writeln!(f, "errors     none");
        }
        for (kind, count) in &self.errors {
            writeln!(f, "errors     {count} {kind}")?;
        }
        if self.warmup_errors > 0 {
            writeln!(f, "errors     {} during the warm-up", self.warmup_errors)?;
        }
        Ok(())
    }
}

/// Collects a run's figures while it goes on.
pub(crate) struct Tally {
    latencies: Latencies,
    ok: u64,
    bytes: u64,
    errors: BTreeMap<Failure, u64>,
    warmup_errors: u64,
}

impl Tally {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        Self { latencies: Latencies::new(), ok: 0, bytes: 0, errors: BTreeMap::new(), warmup_errors: 0 }
    }

    /// Counts a success inside the window.
    pub(crate) fn success(&mut self, bytes: u64) {
        self.ok += 1;
        self.bytes += bytes;
    }

    /// Records how long a request took that belongs to the window.
    pub(crate) fn latency(&mut self, nanos: u64) {
        self.latencies.record(nanos);
    }

    /// Counts `count` failures, apart from the others if they fell into the warm-up.
    pub(crate) fn failure(&mut self, failure: Failure, count: u64, warming: bool) {
        if count == 0 {
            return;
        }
        if warming {
            self.warmup_errors += count;
        } else {
            *self.errors.entry(failure).or_default() += count;
        }
    }

    /// The report for a window of `seconds`; `cpu` is what the server used in it over `ended` requests.
    pub(crate) fn report(&self, seconds: f64, cpu: Option<(Duration, u64)>) -> Report {
        Report {
            seconds,
            ok: self.ok,
            errors: self.errors.iter().map(|(kind, count)| (kind.to_string(), *count)).collect(),
            warmup_errors: self.warmup_errors,
            rate: if seconds > 0.0 { self.ok as f64 / seconds } else { 0.0 },
            bytes: self.bytes,
            p50_us: self.latencies.quantile_us(0.5),
            p90_us: self.latencies.quantile_us(0.9),
            p99_us: self.latencies.quantile_us(0.99),
            p999_us: self.latencies.quantile_us(0.999),
            max_us: self.latencies.max_us(),
            server_cpu_us: cpu.filter(|(_, n)| *n > 0).map(|(spent, n)| spent.as_secs_f64() * 1e6 / n as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_thousandth_of_the_truth() {
        let mut latencies = Latencies::new();
        for micros in 1..=10_000u64 {
            latencies.record(micros * 1_000);
        }
        for (quantile, micros) in [(0.5, 5_000.0), (0.9, 9_000.0), (0.99, 9_900.0), (0.999, 9_990.0)] {
            let got = latencies.quantile_us(quantile);
            assert!((got - micros).abs() / micros < 2e-3, "{quantile}: {got} is not {micros}");
        }
        assert!((latencies.max_us() - 10_000.0).abs() < 20.0);
    }

    #[test]
    fn a_latency_beyond_the_bounds_is_kept_at_the_bound() {
        let mut latencies = Latencies::new();
        latencies.record(u64::MAX);
        latencies.record(1);
        assert!(latencies.max_us() >= 300e6 * 0.999);
        assert_eq!(Latencies::new().quantile_us(0.5), 0.0);
    }

    #[test]
    fn failures_in_the_warm_up_are_told_apart_but_not_lost() {
        let mut tally = Tally::new();
        tally.failure(Failure::Status(503), 2, true);
        tally.failure(Failure::Status(503), 1, false);
        tally.failure(Failure::Grpc(14), 1, false);
        tally.success(10);
        let report = tally.report(2.0, Some((Duration::from_micros(30), 3)));
        assert_eq!((report.warmup_errors, report.error_count(), report.ok), (2, 4, 1));
        assert_eq!(report.errors["http 503"], 1);
        assert_eq!(report.errors["grpc 14"], 1);
        assert_eq!(report.server_cpu_us, Some(10.0));
        assert_eq!(report.rate, 0.5);
    }
}
