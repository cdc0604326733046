//! Why there are to be so many replicas, as one sentence and as numbers.

use std::fmt;
use std::time::Duration;

/// What decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// What arrives now.
    #[default]
    Demand,
    /// What will arrive when a replica that is ordered now is ready.
    Forecast,
    /// Rows that wait already.
    Backlog,
    /// Requests that wait for a first replica.
    Held,
    /// A request is expected.
    Prewarm,
    /// Nobody asks.
    Idle,
    /// Fewer would do, but less than that was needed a short while ago, or they go one by one.
    Hold,
    /// The metrics of too few pods could be read.
    Blind,
    /// New pods fail; more of them would too.
    Failing,
    /// minReplicas.
    Minimum,
    /// maxReplicas.
    Maximum,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Demand,
        Self::Forecast,
        Self::Backlog,
        Self::Held,
        Self::Prewarm,
        Self::Idle,
        Self::Hold,
        Self::Blind,
        Self::Failing,
        Self::Minimum,
        Self::Maximum,
    ];

    /// One word, for metrics and Events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Demand => "Demand",
            Self::Forecast => "Forecast",
            Self::Backlog => "Backlog",
            Self::Held => "Held",
            Self::Prewarm => "Prewarm",
            Self::Idle => "Idle",
            Self::Hold => "Hold",
            Self::Blind => "Blind",
            Self::Failing => "Failing",
            Self::Minimum => "Minimum",
            Self::Maximum => "Maximum",
        }
    }
}

/// Why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reasons {
    /// What decided.
    pub cause: Cause,
    /// Replicas that there are to be.
    pub replicas: u32,
    /// Rows per second that arrive, or requests in flight where replicas are sized by those.
    pub demand: f64,
    /// What is planned for: `demand` when new replicas are ready.
    pub forecast: f64,
    /// What one replica is counted on for, in the same unit; 0 where it is not known.
    pub capacity: f64,
    /// Requests that wait for a first replica.
    pub held: f64,
    /// How long it takes a replica to be ready.
    pub start: Duration,
    /// The objective can be met at all.
    pub feasible: bool,
    /// Ready pods, and those of them whose metrics were read.
    pub reporting: (u32, u32),
    /// Sized by requests in flight, not by rows per second.
    pub by_concurrency: bool,
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { replicas, demand, forecast, capacity, held, .. } = self;
        let unit = if self.by_concurrency { "requests in flight" } else { "rows/s" };
        let noun = if *replicas == 1 { "replica" } else { "replicas" };
        write!(f, "{replicas} {noun}: ")?;
        match self.cause {
            Cause::Demand => write!(f, "{demand:.1} {unit} arrive, one serves {capacity:.1}")?,
            Cause::Forecast => write!(
                f,
                "{forecast:.1} {unit} are expected in {:.0} s, when a new one is ready, one serves {capacity:.1}",
                self.start.as_secs_f64()
            )?,
            Cause::Backlog => write!(f, "rows wait beside {demand:.1} {unit} that arrive, one serves {capacity:.1}")?,
            Cause::Held => write!(f, "{held:.0} requests wait for a first one")?,
            Cause::Prewarm => write!(f, "a request is expected, and a start takes {:.0} s", self.start.as_secs_f64())?,
            Cause::Idle => write!(f, "nobody has asked for long")?,
            Cause::Hold => write!(f, "{demand:.1} {unit} arrive and fewer would do, if that stays so")?,
            Cause::Blind => {
                write!(
                    f,
                    "the metrics of {} of {} pods could be read, so none goes",
                    self.reporting.1, self.reporting.0
                )?;
            }
            Cause::Failing => write!(f, "new pods fail, so that no more are ordered")?,
            Cause::Minimum => write!(f, "minReplicas; {demand:.1} {unit} arrive")?,
            Cause::Maximum => {
                write!(f, "maxReplicas, though {forecast:.1} {unit} are to be served and one serves {capacity:.1}")?
            }
        }
        if !self.feasible {
            write!(f, "; the objective is shorter than one execution can keep")?;
        }
        Ok(())
    }
}
