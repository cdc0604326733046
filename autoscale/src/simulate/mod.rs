//! The production decision on a virtual clock, beside Knative's, Kubernetes', KEDA's and Ray's rules, on the same traces with the
//! same servers.
//!
//! [`world`] plays, [`trace`] makes the arrivals, the rules are re-implemented and checked with the values of their own tests,
//! [`bound`] tells what knowing the future would cost, [`table`] compares, [`lines`] says what has to hold, [`page`] draws.

pub mod bound;
pub mod hpa;
pub mod kpa;
pub mod lines;
pub mod ours;
pub mod outcome;
pub mod page;
pub mod ray;
pub mod reports;
pub mod table;
pub mod trace;
pub mod world;

use std::time::Duration;

use self::hpa::{Horizontal, Measure};
use self::kpa::Knative;
use self::ours::{Ours, Wrong};
use self::outcome::Outcome;
use self::ray::Ray;
use self::trace::Trace;
use self::world::{Scaler, Server, play};

/// The model that traces are played with: 32 rows per second in batches of 16, an objective of four of the largest batches,
/// ready in 30 s.
pub const SERVER: Server = Server { fixed: 0.1, each: 0.025, batch_max: 16, objective: 2.0, start: 30.0 };

/// Knative's stable window, after which it lets the last pod go, but for its grace.
const IDLE: Duration = Duration::from_secs(60);

/// Who scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Ours.
    Ours,
    /// Knative's, with what a replica's largest batch has as its concurrency.
    Kpa,
    /// Kubernetes' on requests in flight, at 70 % of the same.
    Hpa,
    /// Kubernetes' on processor time, at 80 %.
    HpaCpu,
    /// KEDA with its HTTP add-on, on requests in flight.
    Keda,
    /// Ray Serve's, on requests in flight.
    Ray,
    /// Ours where somebody has set that the last replica goes as soon as Knative would let it: after its stable window.
    OursIdle,
}

impl Policy {
    /// All of them, ours first.
    pub const ALL: [Self; 7] = [Self::Ours, Self::Kpa, Self::Hpa, Self::HpaCpu, Self::Keda, Self::Ray, Self::OursIdle];

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "tensorgate",
            Self::Kpa => "KPA",
            Self::Hpa => "HPA",
            Self::HpaCpu => "HPA, cpu",
            Self::Keda => "KEDA",
            Self::Ray => "Ray",
            Self::OursIdle => "tensorgate, 60 s",
        }
    }

    /// Kubernetes' own autoscaler does not go to zero.
    fn least(self, replicas: u32) -> u32 {
        if matches!(self, Self::Hpa | Self::HpaCpu) { replicas.max(1) } else { replicas }
    }

    /// Whether it plays `trace`: where no replica may go away altogether, how soon one does makes no difference.
    pub fn plays(self, trace: &Trace) -> bool {
        self != Self::OursIdle || trace.min == 0
    }

    /// Plays `trace` under this policy.
    pub fn play(self, trace: &Trace, seed: u64, wrong: Wrong) -> Outcome {
        let bounds = (self.least(trace.min), trace.max);
        // What somebody would state who knows the model: as many as its largest batch has.
        let concurrency = trace.server_at(0.0).batch_max as f64;
        let mut scaler: Box<dyn Scaler> = match self {
            Self::Ours => Box::new(Ours::new(bounds, wrong, None)),
            Self::OursIdle => Box::new(Ours::new(bounds, wrong, Some(IDLE))),
            Self::Kpa => Box::new(Knative::new(concurrency, bounds, trace.first)),
            Self::Hpa => Box::new(Horizontal::new(Measure::Concurrency, 0.7 * concurrency, bounds)),
            Self::HpaCpu => Box::new(Horizontal::new(Measure::Cpu, 0.8, bounds)),
            Self::Keda => Box::new(Horizontal::keda(0.7 * concurrency, bounds)),
            Self::Ray => Box::new(Ray::new(0.7 * concurrency, bounds)),
        };
        play(trace, &mut *scaler, self.least(trace.first), seed)
    }
}
