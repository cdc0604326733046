//! Collects a run's figures while it goes on.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::latencies::Latencies;
use super::outcome::{Class, Outcomes};
use super::timeline::Timeline;
use super::{Generator, Report};
use crate::engine::protocol::Failure;

/// To which part of the run an ended request belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Before the window.
    Warming,
    /// In the window, this many nanoseconds after its begin.
    Window(u64),
    /// After it.
    After,
}

/// What the engine knows at the end of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Closing {
    /// Seconds between the window's marks, as they really passed.
    pub(crate) seconds: f64,
    /// CPU time of the observed process between the marks.
    pub(crate) cpu: Option<Duration>,
    /// Requests ended between the marks.
    pub(crate) ended: u64,
    /// Successes among them.
    pub(crate) answered: u64,
    /// Connections opened over the whole run.
    pub(crate) connections: u64,
    /// The most requests in flight at once.
    pub(crate) in_flight_max: u64,
    /// Requests that waited because every connection was busy and no more were allowed; `None` in a closed loop.
    pub(crate) held: Option<u64>,
}

/// Collects a run's figures while it goes on.
pub(crate) struct Tally {
    slo: Option<Duration>,
    answered: Latencies,
    good: Latencies,
    refused: Latencies,
    lag: Latencies,
    outcomes: Outcomes,
    timeline: Timeline,
    bytes: u64,
    errors: BTreeMap<Failure, u64>,
    warmup_errors: u64,
}

impl Tally {
    /// Nothing counted yet.
    pub(crate) fn new(window: Duration, slo: Option<Duration>) -> Self {
        let empty = Latencies::new;
        Self {
            slo,
            answered: empty(),
            good: empty(),
            refused: empty(),
            lag: empty(),
            outcomes: Outcomes::default(),
            timeline: Timeline::new(window),
            bytes: 0,
            errors: BTreeMap::new(),
            warmup_errors: 0,
        }
    }

    /// Counts a request that ended `nanos` after it began or was due, with an answer of `bytes`.
    pub(crate) fn end(&mut self, phase: Phase, outcome: Result<(), Failure>, nanos: u64, bytes: u64) {
        let at = match (phase, outcome) {
            (Phase::Warming, _) => {
                self.warmup_errors += u64::from(outcome.is_err());
                return;
            }
            (Phase::After, Ok(())) => return,
            (Phase::After, Err(_)) => u64::MAX,
            (Phase::Window(at), _) => at,
        };
        let class = Class::of(outcome, nanos, self.slo);
        self.outcomes.add(class, 1);
        self.timeline.add(at, class, nanos);
        match outcome {
            Ok(()) => {
                self.bytes += bytes;
                self.answered.record(nanos);
            }
            Err(failure) => *self.errors.entry(failure).or_default() += 1,
        }
        match class {
            Class::Good => self.good.record(nanos),
            Class::Refused => self.refused.record(nanos),
            Class::Late | Class::Failed => {}
        }
    }

    /// Counts trouble that belongs to no request.
    pub(crate) fn trouble(&mut self, failure: Failure, warming: bool) {
        if warming {
            self.warmup_errors += 1;
        } else {
            *self.errors.entry(failure).or_default() += 1;
        }
    }

    /// Records by how much a request of the window left later than it was due.
    pub(crate) fn lag(&mut self, nanos: u64) {
        self.lag.record(nanos);
    }

    /// Successes and failures so far, for a progress line.
    pub(crate) fn outcomes(&self) -> Outcomes {
        self.outcomes
    }

    /// The report.
    pub(crate) fn report(self, closing: Closing) -> Report {
        let per_second = |count: u64| if closing.seconds > 0.0 { count as f64 / closing.seconds } else { 0.0 };
        let count = |failure| self.errors.get(&failure).copied().unwrap_or(0);
        let answered = self.answered.quantiles();
        Report {
            seconds: closing.seconds,
            slo_ms: self.slo.map(|slo| slo.as_secs_f64() * 1e3),
            offered: self.outcomes.total(),
            offered_rate: per_second(self.outcomes.total()),
            ok: self.outcomes.good + self.outcomes.late,
            outcomes: self.outcomes,
            goodput: per_second(self.outcomes.good),
            rate: per_second(closing.answered),
            errors: self.errors.iter().map(|(kind, count)| (kind.to_string(), *count)).collect(),
            warmup_errors: self.warmup_errors,
            bytes: self.bytes,
            p50_us: answered.p50_us,
            answered,
            good: self.good.quantiles(),
            refused: self.refused.quantiles(),
            corrected: None,
            generator: closing.held.map(|held| Generator {
                lag: self.lag.quantiles(),
                held,
                unsent: count(Failure::Unsent),
            }),
            connections: closing.connections,
            in_flight_max: closing.in_flight_max,
            server_cpu_us: closing
                .cpu
                .filter(|_| closing.ended > 0)
                .map(|cpu| cpu.as_secs_f64() * 1e6 / closing.ended as f64),
            histogram: self.answered.bins(),
            timeline: self.timeline.slots(),
            latencies: self.answered,
            each: Vec::new(),
            begun: SystemTime::UNIX_EPOCH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closing() -> Closing {
        Closing { seconds: 2.0, cpu: Some(Duration::from_micros(30)), ended: 3, answered: 1, ..Closing::default() }
    }

    #[test]
    fn failures_in_the_warm_up_are_told_apart_but_not_lost() {
        let mut tally = Tally::new(Duration::from_secs(2), None);
        tally.end(Phase::Warming, Err(Failure::Status(503)), 1, 0);
        tally.end(Phase::Warming, Ok(()), 1, 10);
        tally.trouble(Failure::Connect, true);
        tally.end(Phase::Window(0), Err(Failure::Status(503)), 1, 0);
        tally.end(Phase::After, Err(Failure::Grpc(14)), 1, 0);
        tally.end(Phase::After, Ok(()), 1, 10);
        tally.end(Phase::Window(7), Ok(()), 1, 10);
        let report = tally.report(closing());
        assert_eq!((report.warmup_errors, report.error_count(), report.ok, report.bytes), (2, 4, 1, 10));
        assert_eq!(report.errors["http 503"], 1);
        assert_eq!(report.errors["grpc 14"], 1);
        assert_eq!(report.server_cpu_us, Some(10.0));
        assert_eq!(report.rate, 0.5);
    }

    #[test]
    fn classes_sum_to_what_was_offered_and_goodput_counts_only_the_good() {
        let mut tally = Tally::new(Duration::from_secs(2), Some(Duration::from_millis(10)));
        for (nanos, outcome) in
            [(1_000_000, Ok(())), (20_000_000, Ok(())), (5, Err(Failure::Status(429))), (5, Err(Failure::Closed))]
        {
            tally.end(Phase::Window(0), outcome, nanos, 1);
        }
        let report = tally.report(closing());
        assert_eq!(report.outcomes, Outcomes { good: 1, late: 1, refused: 1, failed: 1 });
        assert_eq!((report.offered, report.goodput, report.offered_rate), (4, 0.5, 2.0));
        assert_eq!((report.answered.count, report.good.count, report.refused.count), (2, 1, 1));
        assert!(report.good.max_us < 1_100.0 && report.answered.max_us > 19_000.0);
    }
}
