//! Poisson arrivals whose rate changes over time, by rescaling time: unit-rate arrivals are put where the integral of
//! the rate reaches them (Çinlar, "Introduction to stochastic processes", 1975, section 4.7).

use tensorgate_random::Random;

/// A stretch of time in which the rate runs evenly from one value to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Segment {
    /// How long it lasts.
    pub(super) seconds: f64,
    /// Arrivals per second at its begin.
    pub(super) from: f64,
    /// Arrivals per second at its end.
    pub(super) to: f64,
}

impl Segment {
    /// A constant rate.
    pub(super) fn flat(seconds: f64, rate: f64) -> Self {
        Self { seconds, from: rate, to: rate }
    }

    /// Expected arrivals.
    fn expected(&self) -> f64 {
        self.seconds * (self.from + self.to) / 2.0
    }

    /// Seconds into the segment at which `count` arrivals are expected; `count` is at most [`Self::expected`].
    fn when(&self, count: f64) -> f64 {
        let slope = (self.to - self.from) / self.seconds;
        if slope.abs() < f64::EPSILON {
            return count / self.from;
        }
        // The root that is stable also for a slope near zero and for a rate that falls to zero.
        2.0 * count / (self.from + (self.from * self.from + 2.0 * slope * count).max(0.0).sqrt())
    }
}

/// Arrival times in seconds from the first segment's begin, ascending.
pub(super) fn arrivals(segments: &[Segment], random: &mut Random) -> Vec<f64> {
    let mut times = Vec::new();
    let mut begin = 0.0;
    // How much of the unit-rate clock is left until the next arrival.
    let mut left = random.exponential();
    for segment in segments {
        let expected = segment.expected();
        let mut passed = 0.0;
        while passed + left <= expected {
            passed += left;
            times.push(begin + segment.when(passed));
            left = random.exponential();
        }
        left -= expected - passed;
        begin += segment.seconds;
    }
    times
}
