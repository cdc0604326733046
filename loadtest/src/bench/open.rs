//! Open loops of the bench: windows that the generator did not bound, and the figures of several such windows.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use super::server::Process;
use super::table::Unit;
use super::traffic::Door;
use crate::DRAIN;
use crate::arrivals::Arrivals;
use crate::engine::{OpenPlan, Plan, Requests, open_loop};
use crate::html::Point;
use crate::payload::ModelSpec;
use crate::process;
use crate::report::Report;
use crate::report::latencies::Latencies;
use crate::report::outcome::{Class, Outcomes};

/// The latency objective of the servers, which is the one they have when nobody states any.
pub(super) const SLO: Duration = Duration::from_millis(100);
/// gRPC calls at once on a connection.
const STREAMS: usize = 8;
/// Connections opened beforehand, and at most.
const CONNECTIONS: (usize, usize) = (16, 1024);
/// Windows that a rate has at most until the generator bounded none.
const TRIES: usize = 3;

/// A server with what it is asked, and when.
pub(crate) struct Source {
    address: SocketAddr,
    pid: u32,
    requests: Requests,
    arrivals: Arrivals,
    core: Option<usize>,
    warmup: Duration,
    slo: Duration,
}

impl Source {
    /// Single rows for `model` at Poisson times, from a generator that runs wherever there is room.
    pub(crate) fn new(server: &Process, door: Door, model: &ModelSpec) -> Self {
        Self {
            address: door.of(server),
            pid: server.pid(),
            requests: door.requests(model, server, STREAMS),
            arrivals: Arrivals::Poisson,
            core: None,
            warmup: Duration::from_millis(500),
            slo: SLO,
        }
    }

    /// With other arrivals.
    pub(crate) fn arrivals(self, arrivals: Arrivals) -> Self {
        Self { arrivals, ..self }
    }

    /// With the generator on a core of its own.
    pub(crate) fn core(self, core: Option<usize>) -> Self {
        Self { core, ..self }
    }

    /// With these requests in place of those of its model.
    pub(super) fn requests(self, requests: Requests) -> Self {
        Self { requests, ..self }
    }

    /// With another objective.
    pub(crate) fn slo(self, slo: Duration) -> Self {
        Self { slo, ..self }
    }

    /// With so much load before each window.
    pub(super) fn warmup(self, warmup: Duration) -> Self {
        Self { warmup, ..self }
    }

    /// A window at `rate` requests per second, measured again where the generator was the limit. Fails if it always
    /// was: such figures tell of the generator.
    pub(super) fn window(&self, rate: f64, seed: u64, window: Duration) -> Result<Report, Box<dyn Error>> {
        let report = self.any_window(rate, seed, window)?;
        match report.generator_limit() {
            None => Ok(report),
            Some(limit) => {
                Err(format!("at {rate:.0}/s the generator was the limit in {TRIES} windows: {limit}").into())
            }
        }
    }

    /// The same, but the last window counts in any case.
    pub(crate) fn any_window(&self, rate: f64, seed: u64, window: Duration) -> Result<Report, Box<dyn Error>> {
        let plan = OpenPlan {
            address: self.address,
            requests: self.requests.clone(),
            arrivals: self.arrivals.clone(),
            rate: Some(rate),
            seed,
            warmup: self.warmup,
            window,
            slo: Some(self.slo),
            connections: CONNECTIONS,
            drain: DRAIN,
            observed: Some(self.pid),
        };
        let measure = || self.placed(|| open_loop(&plan, &mut |_| {}).map_err(|error| error.to_string()));
        let mut report = measure()??;
        for _ in 1..TRIES {
            if report.generator_limit().is_none() {
                break;
            }
            report = measure()??;
        }
        Ok(report)
    }

    /// A closed loop of this many requests at once.
    pub(crate) fn closed(&self, at_once: usize, window: Duration) -> Result<Report, Box<dyn Error>> {
        let (requests, streams) = match &self.requests {
            Requests::Grpc(calls, streams) => {
                let streams = at_once.min(*streams);
                (Requests::Grpc(calls.clone(), streams), streams)
            }
            http @ Requests::Http(_) => (http.clone(), 1),
        };
        let plan = Plan {
            address: self.address,
            connections: at_once / streams,
            spread: Duration::ZERO,
            warmup: self.warmup,
            window,
            open: None,
            slo: Some(self.slo),
            drain: DRAIN,
            observed: Some(self.pid),
        };
        let report = self.placed(|| requests.run(&plan, &mut |_| {}))??;
        if report.ok == 0 {
            return Err(format!("no request succeeds: {:?}", report.errors).into());
        }
        Ok(report)
    }

    fn placed<T: Send>(&self, work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
        match self.core {
            Some(core) => process::on_core(core, work),
            None => Ok(work()),
        }
    }
}

/// The figures of several windows of one kind, together and each.
pub(crate) struct Pool {
    seconds: f64,
    cpu_us: Vec<f64>,
    answered: Latencies,
    refused_us: f64,
    outcomes: Outcomes,
    /// Of each window: goodput, median and 99th percentile in milliseconds.
    each: Vec<[f64; 3]>,
    failures: Vec<String>,
}

/// What is taken from a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// Good answers per second.
    Goodput,
    /// Median latency of the answers in milliseconds.
    Median,
    /// Their 99th percentile.
    Tail,
}

impl Take {
    /// What it is counted in.
    pub(super) fn unit(self) -> Unit {
        if self == Self::Goodput { Unit::PerSecond } else { Unit::Millis }
    }
}

impl Pool {
    /// Without any window.
    pub(crate) fn new() -> Self {
        Self {
            seconds: 0.0,
            cpu_us: Vec::new(),
            answered: Latencies::new(),
            refused_us: 0.0,
            outcomes: Outcomes::default(),
            each: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Adds a window.
    pub(crate) fn add(&mut self, report: &Report) {
        self.seconds += report.seconds;
        self.cpu_us.extend(report.server_cpu_us);
        self.answered.merge(&report.latencies);
        self.refused_us = self.refused_us.max(report.refused.p99_us);
        for class in Class::ALL {
            self.outcomes.add(class, report.outcomes.of(class));
        }
        self.each.push([report.goodput, report.answered.p50_us / 1e3, report.answered.p99_us / 1e3]);
        if report.outcomes.failed > 0 {
            self.failures.push(format!("{} of {} at {:?}", report.outcomes.failed, report.offered, report.errors));
        }
    }

    /// A figure over all windows.
    pub(super) fn figure(&self, take: Take) -> f64 {
        match take {
            Take::Goodput => self.outcomes.good as f64 / self.seconds.max(1e-9),
            Take::Median => self.answered.quantile_us(0.5) / 1e3,
            Take::Tail => self.answered.quantile_us(0.99) / 1e3,
        }
    }

    /// The same of each window.
    pub(super) fn each(&self, take: Take) -> impl Iterator<Item = f64> {
        self.each.iter().map(move |each| each[take as usize])
    }

    /// The windows as a point of a curve.
    pub(crate) fn point(&self, offered: f64) -> Point {
        let latency = [0.5, 0.99, 0.999].map(|quantile| self.answered.quantile_us(quantile));
        Point { offered, goodput: self.figure(Take::Goodput), latency }
    }

    /// CPU microseconds of the server for each request, the mean of the windows.
    pub(super) fn cpu_us(&self) -> Option<f64> {
        (!self.cpu_us.is_empty()).then(|| self.cpu_us.iter().sum::<f64>() / self.cpu_us.len() as f64)
    }

    /// Requests that failed, a line for each window.
    pub(super) fn failures(&self) -> Vec<String> {
        self.failures.clone()
    }

    /// What became of the requests, in a sentence.
    pub(super) fn story(&self) -> String {
        let total = self.outcomes.total().max(1) as f64;
        let share = |class| 100.0 * self.outcomes.of(class) as f64 / total;
        format!(
            "offered {:.0}/s: {:.1} % good, {:.1} % late, {:.1} % refused, 99 % of those within {:.1} ms",
            self.outcomes.total() as f64 / self.seconds.max(1e-9),
            share(Class::Good),
            share(Class::Late),
            share(Class::Refused),
            self.refused_us / 1e3
        )
    }
}

/// The least and the greatest ratio of windows in the same place of their pools.
pub(super) fn spread(take: Take, server: &Pool, ceiling: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let unit = take.unit();
    let ratios = server.each(take).zip(ceiling).map(|(server, ceiling)| unit.ratio(server, ceiling));
    ratios.fold(None, |spread, ratio| match spread {
        None => Some((ratio, ratio)),
        Some((low, high)) => Some((ratio.min(low), ratio.max(high))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::protocol::Failure;
    use crate::report::tally::{Closing, Phase, Tally};

    fn report(good: u64, nanos: u64) -> Report {
        let mut tally = Tally::new(Duration::from_secs(1), Some(SLO));
        (0..good).for_each(|_| tally.end(Phase::Window(0), Ok(()), nanos, 1));
        tally.end(Phase::Window(0), Err(Failure::Status(429)), 2_000_000, 1);
        tally.end(Phase::Window(0), Err(Failure::Status(500)), 1, 1);
        tally.report(Closing { seconds: 1.0, answered: good, ..Closing::default() })
    }

    #[test]
    fn a_pool_counts_over_all_windows_and_remembers_each() {
        let (mut slow, mut quick) = (Pool::new(), Pool::new());
        for (good, nanos) in [(8, 40_000_000), (2, 80_000_000)] {
            slow.add(&report(good, nanos));
            quick.add(&report(2 * good, nanos / 4));
        }
        assert_eq!((slow.figure(Take::Goodput), quick.figure(Take::Goodput)), (5.0, 10.0));
        assert!((slow.figure(Take::Median) - 40.0).abs() < 0.1 && (slow.figure(Take::Tail) - 80.0).abs() < 0.1);
        assert_eq!(spread(Take::Goodput, &slow, quick.each(Take::Goodput)), Some((0.5, 0.5)));
        let (low, high) = spread(Take::Tail, &slow, quick.each(Take::Tail)).unwrap();
        assert!((low - 0.25).abs() < 1e-3 && (high - 0.25).abs() < 1e-3, "{low} {high}");
        assert_eq!(slow.failures().len(), 2, "a refusal is no failure");
        assert!(
            slow.story().starts_with("offered 7/s: 71.4 % good, 0.0 % late, 14.3 % refused, 99 % of those within 2.0")
        );
    }
}
