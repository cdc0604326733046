//! The table of cells: ours, the best of 48 hand-tuned settings and CORK, in five regimes under two kinds of traffic at six
//! loads.

use std::time::Duration;

use tokio::time::Instant;

use super::fifo::Tuned;
use super::machine::Machine;
use super::server::{End, Request, Server, Settings, Witness};
use super::traffic::Pattern;
use super::world::{Site, run};
use super::{Nanos, cork, fifo, nanos};
use tensorgate_random::Random;

/// A kind of model on a kind of machine: a batch of `b` rows takes `fixed + per_row * b` seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Regime {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// Seconds of a batch, whatever its rows.
    pub(crate) fixed: f64,
    /// Seconds of each row.
    pub(crate) per_row: f64,
    /// The latency objective, in seconds.
    pub(crate) objective: f64,
    /// Batches that may run at once.
    pub(crate) executors: usize,
    /// Seconds of one measured window.
    pub(crate) window: f64,
}

/// The five regimes. The objectives are such that the largest batch that fits one twice is near one of the hand-tuned sizes,
/// so that tuning by hand can reach the capacity; windows have some 25,000 requests at capacity.
pub(crate) const REGIMES: [Regime; 5] = [
    // A small MLP on a CPU: 64 rows take 3.4 ms, and a row alone 0.25 ms.
    Regime { name: "mlp", fixed: 2e-4, per_row: 5e-5, objective: 0.01, executors: 1, window: 4.0 },
    // A model of middling size whose fixed cost is that of ten rows.
    Regime { name: "medium", fixed: 5e-3, per_row: 5e-4, objective: 0.05, executors: 1, window: 16.0 },
    // A GPU: eighty rows double the time.
    Regime { name: "gpu", fixed: 8e-3, per_row: 1e-4, objective: 0.03, executors: 1, window: 6.0 },
    // A transformer on a CPU: time in proportion to rows.
    Regime { name: "linear", fixed: 1e-3, per_row: 8e-3, objective: 0.1, executors: 1, window: 160.0 },
    // An objective of six times the fixed cost, and two executors.
    Regime { name: "tight", fixed: 2e-3, per_row: 3e-4, objective: 0.012, executors: 2, window: 6.0 },
];

impl Regime {
    /// Rows a second at the largest batch `b` with `2 l(b) <= objective`, at most 256 rows.
    pub(crate) fn capacity(&self) -> f64 {
        let rows = (((self.objective / 2.0 - self.fixed) / self.per_row + 1e-9) as usize).clamp(1, 256) as f64;
        self.executors as f64 * rows / (self.fixed + self.per_row * rows)
    }

    /// What is served before the window, so that learned rates and queues are as they stay.
    fn before(&self) -> f64 {
        self.window / 4.0
    }

    fn machine(&self, seed: u64) -> Machine {
        Machine::new(self.fixed, self.per_row, Random::stream(seed, 2))
    }
}

/// The two kinds of traffic.
pub(crate) const TRAFFIC: [(&str, Pattern); 2] = [("poisson", Pattern::Poisson), ("gamma 16", Pattern::Gamma(16.0))];

/// The 48 settings that somebody may find by hand for this objective.
pub(crate) fn tunings(objective: f64) -> Vec<Tuned> {
    let mut tunings = Vec::new();
    for delay in [0.0, 0.05, 0.2] {
        for batch_max in [1, 4, 16, 64] {
            for queue_max in [usize::MAX, 8, 32, 128] {
                tunings.push(Tuned {
                    delay: nanos(delay * objective),
                    batch_max,
                    queue_max,
                    timeout: nanos(objective),
                });
            }
        }
    }
    tunings
}

/// One place in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    /// The regime.
    pub(crate) regime: Regime,
    /// How arrivals are spread.
    pub(crate) pattern: Pattern,
    /// Share of the capacity that is offered.
    pub(crate) load: f64,
}

/// Counts answers in time to requests of the window.
struct Counted {
    from: Nanos,
    objective: Nanos,
    good: u64,
}

impl Counted {
    fn answered(&mut self, at: Nanos, now: Nanos) {
        self.good += u64::from(at >= self.from && now <= at + self.objective);
    }
}

impl Witness for &mut Counted {
    fn ends(&mut self, _: usize, request: &Request, end: End, now: Nanos) {
        if end == End::Answered {
            self.answered(request.at, now);
        }
    }
}

impl Cell {
    /// The arrivals of `seed`.
    pub(crate) fn arrivals(&self, seed: u64) -> Vec<Nanos> {
        let rate = self.load * self.regime.capacity();
        self.pattern.arrivals(rate, self.regime.before() + self.regime.window, &mut Random::stream(seed, 1))
    }

    /// Goodput in percent of what was offered, or of the capacity where that is less.
    fn score(&self, arrivals: &[Nanos], serve: impl FnOnce(&mut Counted)) -> f64 {
        let from = nanos(self.regime.before());
        let mut counted = Counted { from, objective: nanos(self.regime.objective), good: 0 };
        serve(&mut counted);
        let offered = arrivals.iter().filter(|at| **at >= from).count() as f64;
        let can = self.regime.capacity() * self.regime.window;
        100.0 * counted.good as f64 / if self.load <= 1.0 { offered } else { can }
    }

    /// Ours, with deadlines of the clients' own (`firm`) or the objective alone.
    pub(crate) fn ours(&self, arrivals: &[Nanos], seed: u64, firm: bool) -> f64 {
        let objective = nanos(self.regime.objective);
        let request = |at: &Nanos| Request {
            at: *at,
            rows: 1,
            deadline: firm.then_some(objective),
            class: tensorgate::scheduler::Priority::NORMAL,
            leaves: None,
            poisoned: false,
        };
        let settings = Settings::new(Duration::from_nanos(objective), self.regime.executors);
        self.score(arrivals, |counted| {
            let server = Server::new(Instant::now(), settings, self.regime.machine(seed), counted);
            run(&mut [Site { server, requests: arrivals.iter().map(request), width: 1 }], None);
        })
    }

    /// The hand-tuned server.
    pub(crate) fn tuned(&self, arrivals: &[Nanos], seed: u64, tuned: Tuned) -> f64 {
        let (executors, machine) = (self.regime.executors, self.regime.machine(seed));
        self.score(arrivals, |counted| {
            fifo::serve(arrivals, executors, machine, tuned, |at, now| counted.answered(at, now));
        })
    }

    /// CORK.
    pub(crate) fn cork(&self, arrivals: &[Nanos], seed: u64) -> f64 {
        let (executors, machine) = (self.regime.executors, self.regime.machine(seed));
        self.score(arrivals, |counted| {
            let objective = nanos(self.regime.objective);
            cork::serve(arrivals, executors, machine, objective, |at, now| counted.answered(at, now));
        })
    }
}
