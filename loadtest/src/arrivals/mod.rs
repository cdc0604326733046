//! When requests of an open loop are due: fixed ahead from a seed, so that no answer can move a question.

mod profile;
mod trace;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::profile::Segment;
use self::trace::Trace;
use crate::cli::parse::duration;
use tensorgate_random::Random;

/// The most arrivals of one run: 400 MB of due times.
const ARRIVALS_MAX: f64 = 50e6;
/// What is accepted, for messages.
const FORMS: &str =
    "uniform, poisson, gamma:CV2, onoff[:ON:OFF], step[:FACTOR], ramp[:FROM:TO], trace:FILE, counts:FILE";

/// An arrival process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Arrivals {
    /// Equal gaps.
    Uniform,
    /// Independent, exponential gaps: many callers who know nothing of each other.
    Poisson,
    /// Independent gamma gaps with this squared coefficient of variation: bursts above 1, smoother than Poisson below.
    Gamma {
        /// Variance over squared mean of the gaps.
        cv2: f64,
    },
    /// Poisson while on, silence while off, in turn; the mean over a whole turn is the rate.
    OnOff {
        /// Length of a busy period.
        on: Duration,
        /// Length of a silent period.
        off: Duration,
    },
    /// Poisson whose rate is multiplied in the middle third of the window.
    Step {
        /// The multiple.
        factor: f64,
    },
    /// Poisson whose rate runs evenly between two multiples of the rate.
    Ramp {
        /// Multiple at the window's begin.
        from: f64,
        /// Multiple at its end.
        to: f64,
    },
    /// As recorded.
    Recorded(Arc<Trace>),
}

impl Arrivals {
    /// Reads the command line's form; files are read too.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
        let number = |text: &str| {
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
            number.ok_or_else(|| format!("{text}: not a number of zero or more"))
        };
        let above_zero =
            |value: f64| if value > 0.0 { Ok(value) } else { Err(format!("{text}: has to be above zero")) };
        let two = |rest: &str| {
            let pair = rest.split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned()));
            pair.ok_or_else(|| format!("{text}: {kind} takes two values, {kind}:A:B"))
        };
        match (kind, rest) {
            ("uniform", None) => Ok(Self::Uniform),
            ("poisson", None) => Ok(Self::Poisson),
            ("gamma", Some(cv2)) => Ok(Self::Gamma { cv2: above_zero(number(cv2)?)? }),
            ("onoff", None) => Ok(Self::OnOff { on: Duration::from_secs(1), off: Duration::from_secs(1) }),
            ("onoff", Some(rest)) => {
                let (on, off) = two(rest)?;
                let (on, off) = (duration(&on)?, duration(&off)?);
                above_zero(on.as_secs_f64()).map(|_| Self::OnOff { on, off })
            }
            ("step", None) => Ok(Self::Step { factor: 4.0 }),
            ("step", Some(factor)) => Ok(Self::Step { factor: number(factor)? }),
            ("ramp", None) => Ok(Self::Ramp { from: 0.0, to: 2.0 }),
            ("ramp", Some(rest)) => {
                let (from, to) = two(rest)?;
                Ok(Self::Ramp { from: number(&from)?, to: number(&to)? })
            }
            ("trace", Some(file)) => Trace::times(Path::new(file)).map(|trace| Self::Recorded(Arc::new(trace))),
            ("counts", Some(file)) => Trace::counts(Path::new(file)).map(|trace| Self::Recorded(Arc::new(trace))),
            _ => Err(format!("{text}: not one of {FORMS}")),
        }
    }

    /// How long a recording lasts when it is played at `rate` arrivals per second, or as recorded.
    pub(crate) fn length(&self, rate: Option<f64>) -> Option<Duration> {
        let Self::Recorded(trace) = self else { return None };
        Duration::try_from_secs_f64(trace.seconds / trace.speed(rate)).ok()
    }

    /// Due times in ascending order, in nanoseconds from the begin of the warm-up, which the window follows.
    ///
    /// `rate` is in arrivals per second; only a recording can do without. Stationary processes run through both
    /// phases; step and ramp warm up at the rate they begin with; a recording begins with the window.
    pub(crate) fn due(
        &self,
        rate: Option<f64>,
        seed: u64,
        warmup: Duration,
        window: Duration,
    ) -> Result<Arc<[u64]>, String> {
        let (begin, span) = (warmup.as_secs_f64(), window.as_secs_f64());
        let end = begin + span;
        let mut random = Random::new(seed);
        if let Self::Recorded(trace) = self {
            let speed = trace.speed(rate);
            let times = trace.arrivals(&mut random).into_iter().map(|time| begin + time / speed);
            return Ok(nanos(times.take_while(|time| *time < end)));
        }
        let rate = rate.ok_or_else(|| format!("{self} arrivals need a --rate"))?;
        if rate * end * self.most() > ARRIVALS_MAX {
            return Err(format!("{rate}/s for {end} s are more than {ARRIVALS_MAX} arrivals, the most of one run"));
        }
        let segments = match self {
            Self::Uniform => return Ok(nanos((0..).map(|n| f64::from(n) / rate).take_while(|time| *time < end))),
            Self::Gamma { cv2 } => {
                let mut time = 0.0;
                let gap = || {
                    time += random.gamma(1.0 / cv2) * cv2 / rate;
                    Some(time)
                };
                return Ok(nanos(std::iter::from_fn(gap).take_while(|time| *time < end)));
            }
            Self::Poisson | Self::Recorded(_) => vec![Segment::flat(end, rate)],
            Self::OnOff { on, off } => {
                let (on, off) = (on.as_secs_f64(), off.as_secs_f64());
                let turn = [Segment::flat(on, rate * (on + off) / on), Segment::flat(off, 0.0)];
                turn.into_iter().cycle().take(2 * ((end / (on + off)).ceil() as usize + 1)).collect()
            }
            Self::Step { factor } => {
                let third = span / 3.0;
                vec![
                    Segment::flat(begin + third, rate),
                    Segment::flat(third, rate * factor),
                    Segment::flat(third, rate),
                ]
            }
            Self::Ramp { from, to } => {
                vec![Segment::flat(begin, rate * from), Segment { seconds: span, from: rate * from, to: rate * to }]
            }
        };
        let times = profile::arrivals(&segments, &mut random).into_iter();
        Ok(nanos(times.take_while(|time| *time < end)))
    }

    /// The highest multiple of the rate, to bound the count of arrivals.
    fn most(&self) -> f64 {
        match self {
            Self::Step { factor } => factor.max(1.0),
            Self::Ramp { from, to } => from.max(*to),
            _ => 1.0,
        }
    }
}

fn nanos(times: impl Iterator<Item = f64>) -> Arc<[u64]> {
    times.map(|time| (time * 1e9) as u64).collect()
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Poisson => f.write_str("poisson"),
            Self::Gamma { cv2 } => write!(f, "gamma, CV2 {cv2}"),
            Self::OnOff { on, off } => write!(f, "on {on:?}, off {off:?}"),
            Self::Step { factor } => write!(f, "step x{factor}"),
            Self::Ramp { from, to } => write!(f, "ramp x{from} to x{to}"),
            Self::Recorded(trace) => write!(f, "trace {}", trace.name),
        }
    }
}

#[cfg(test)]
mod tests;
