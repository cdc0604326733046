//! When requests arrive.

use super::{Nanos, nanos};
use tensorgate_random::Random;

/// How arrivals are spread over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pattern {
    /// Independent of one another.
    Poisson,
    /// Gaps of a Gamma distribution whose squared coefficient of variation is this; 16 is the burstiness of AlpaServe's tests.
    Gamma(f64),
    /// Poisson at twice the rate for so many seconds, then nothing for as long.
    OnOff(f64),
    /// Poisson, at four times the rate between a third and two thirds of the time.
    Step,
    /// Poisson, from nothing to twice the rate.
    Ramp,
}

impl Pattern {
    /// How many times the mean rate there is at `share` of the time, `seconds` after the start.
    fn intensity(self, share: f64, seconds: f64) -> f64 {
        match self {
            Pattern::Poisson | Pattern::Gamma(_) => 1.0,
            Pattern::OnOff(period) => 2.0 * f64::from(((seconds / period) as u64).is_multiple_of(2)),
            Pattern::Step => 1.0 + 3.0 * f64::from((1.0 / 3.0..2.0 / 3.0).contains(&share)),
            Pattern::Ramp => 2.0 * share,
        }
    }

    fn peak(self) -> f64 {
        match self {
            Pattern::Poisson | Pattern::Gamma(_) => 1.0,
            Pattern::OnOff(_) | Pattern::Ramp => 2.0,
            Pattern::Step => 4.0,
        }
    }

    /// Times of arrival at `rate` a second over `seconds`, ascending.
    pub(crate) fn arrivals(self, rate: f64, seconds: f64, random: &mut Random) -> Vec<Nanos> {
        let mut arrivals = Vec::with_capacity((rate * seconds * 1.1) as usize);
        let (peak, mut at) = (self.peak(), 0.0);
        loop {
            at += match self {
                Pattern::Gamma(variation) => random.gamma(1.0 / variation) * variation / rate,
                // Thinned from the peak rate (Lewis and Shedler 1979).
                _ => random.exponential() / (rate * peak),
            };
            if at >= seconds {
                return arrivals;
            }
            if peak == 1.0 || random.happens(self.intensity(at / seconds, at) / peak) {
                arrivals.push(nanos(at));
            }
        }
    }
}
