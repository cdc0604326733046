//! How many rows arrive per second, now and when a replica that is ordered now is ready.

use std::collections::VecDeque;

/// Samples that are looked back on, one a second.
const WINDOW: usize = 120;

/// Samples after which a trend is believed.
const TREND_AFTER: usize = 20;

/// Seconds of the mean that counts in calm, and of the one that follows a rise at once.
const SLOW: f64 = 30.0;
const FAST: f64 = 5.0;

/// A trend counts for what it is above chance, in standard deviations of it.
const TREND_CHANCE: f64 = 1.5;

/// The fast mean counts for what it is above the slow one by more than chance, in standard deviations of it.
const CHANCE: f64 = 2.0;

/// Seconds over which the index of dispersion is averaged: one that jumped would have replicas come and go.
const DISPERSION: f64 = 120.0;

/// The heaviest bursts that are believed of what was before.
const DISPERSION_MAX: f64 = 1e3;

/// What one difference of counts is counted as, at most, in those that are usual.
const JUMP_MAX: f64 = 4.0;

/// What the slope of the newest third allows a trend beside twice itself, in parts of the level per second.
const NEWEST_SLACK: f64 = 0.002;

/// What a trend may make of the rate, at most: beyond, it is a step, which the fast mean follows by itself.
const FORECAST_MAX: f64 = 1.5;

/// Longest stretch whose counts are joined to measure bursts, in samples: longer ones are forecast, not absorbed.
const LAG_MAX: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Tick {
    seconds: f64,
    rows: f64,
}

/// The arrivals of one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    ticks: VecDeque<Tick>,
    slow: f64,
    fast: f64,
    /// Seconds that were seen: means of a short past are of all of it.
    seen: f64,
    /// The weighted sum of the roots of the index of dispersion, and of the weights.
    roots: f64,
    weight: f64,
}

impl Default for Demand {
    /// As if independent callers had been seen for half a minute.
    fn default() -> Self {
        Self::new(1.0)
    }
}

/// Rates in rows per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// What arrives now.
    pub now: f64,
    /// What will arrive in the time that was asked for, at least `now`.
    pub then: f64,
}

impl Demand {
    /// As if callers whose counts have this index of dispersion had been seen for half a minute.
    pub fn new(dispersion: f64) -> Self {
        let (known, dispersion) =
            (0.25, if dispersion.is_finite() { dispersion.clamp(1.0, DISPERSION_MAX) } else { 1.0 });
        let roots = known * dispersion.sqrt();
        Self { ticks: VecDeque::new(), slow: 0.0, fast: 0.0, seen: 0.0, roots, weight: known }
    }

    /// `rows` have arrived in the `seconds` since the last call; `lag` is the stretch in seconds over which bursts matter.
    pub fn note(&mut self, seconds: f64, rows: f64, lag: f64) {
        if seconds <= 0.0 {
            return;
        }
        // Before the new one is in, so that the newest count can only ever raise what follows.
        self.learn_dispersion(seconds, lag);
        self.seen += seconds;
        let rate = rows / seconds;
        for (mean, window) in [(&mut self.slow, SLOW), (&mut self.fast, FAST)] {
            let kept = (-seconds / window).exp().min(1.0 - (seconds / self.seen).min(1.0));
            *mean = *mean * kept + rate * (1.0 - kept);
        }
        self.ticks.push_back(Tick { seconds, rows });
        if self.ticks.len() > WINDOW {
            self.ticks.pop_front();
        }
    }

    /// The index of dispersion of the counts: their variance over their mean, 1 for independent callers, at least 1.
    pub fn dispersion(&self) -> f64 {
        (self.roots / self.weight).powi(2).max(1.0)
    }

    /// The rates now and in `ahead` seconds.
    pub fn rates(&self, ahead: f64) -> Rates {
        // What an exponential mean counts is twice its time, of which at first there is less.
        let counted = (2.0 * FAST).min(self.seen.max(1.0));
        let chance = CHANCE * (self.dispersion() * self.slow / counted).sqrt();
        // A mean of a few seconds is known to its own deviation only.
        let early = if self.seen < SLOW { (self.dispersion() * self.slow / self.seen.max(1.0)).sqrt() } else { 0.0 };
        let now = (self.slow - early).max(self.fast - chance).max(0.0);
        let (level, slope) = self.trend();
        let then = (level.max(now) + slope * ahead).min(FORECAST_MAX * now.max(self.fast));
        Rates { now, then: then.max(now) }
    }

    /// Rows that arrived over the last `seconds`, per second.
    pub fn recent(&self, seconds: f64) -> f64 {
        let (mut rows, mut span) = (0.0, 0.0);
        for tick in self.ticks.iter().rev() {
            if span >= seconds {
                break;
            }
            rows += tick.rows;
            span += tick.seconds;
        }
        if span > 0.0 { rows / span } else { 0.0 }
    }

    /// By successive differences, which no trend disturbs, and their absolute values, which one step disturbs little.
    fn learn_dispersion(&mut self, seconds: f64, lag: f64) {
        let group = ((lag / seconds).round() as usize).clamp(1, LAG_MAX);
        if self.ticks.len() < 2 * group {
            return;
        }
        let sum = |skip: usize| -> f64 { self.ticks.iter().rev().skip(skip).take(group).map(|tick| tick.rows).sum() };
        let (newest, before) = (sum(0), sum(group));
        let mean = self.recent(f64::INFINITY) * seconds * group as f64;
        if mean <= 0.0 {
            return;
        }
        // E|x - y| = 2 s / sqrt(pi) for two values of a normal distribution.
        let deviation = (newest - before).abs() * std::f64::consts::PI.sqrt() / 2.0;
        let kept = (-seconds / DISPERSION).exp();
        // Averaged as deviations, squared after; one jump counts little, jumps that go on count more and more.
        let most = JUMP_MAX * self.dispersion().sqrt();
        self.roots = self.roots * kept + (deviation / mean.sqrt()).min(most) * (1.0 - kept);
        self.weight = self.weight * kept + (1.0 - kept);
    }

    /// The level at the end of the line through the window, and its slope per second; no slope where it may be chance, or where
    /// the newest third does not go on with it, as after a step.
    fn trend(&self) -> (f64, f64) {
        let count = self.ticks.len();
        if count < TREND_AFTER {
            return (0.0, 0.0);
        }
        let (level, slope, chance) = self.line(count);
        let (newest_level, newest, _) = self.line(count / 3);
        let most = 2.0 * newest.max(0.0) + NEWEST_SLACK * newest_level.max(0.0);
        let slope = (slope - TREND_CHANCE * chance).min(most).max(0.0);
        (if slope > 0.0 { level.min(newest_level) } else { 0.0 }, slope)
    }

    /// Least squares over the newest `count` samples: the end of the line, its slope, and the slope's standard deviation.
    fn line(&self, count: usize) -> (f64, f64, f64) {
        let newest = self.ticks.iter().rev().take(count);
        let (mut at, mut sums) = (0.0, [0.0; 4]);
        for tick in newest {
            let (x, y) = (at - tick.seconds / 2.0, tick.rows / tick.seconds);
            sums = [sums[0] + x, sums[1] + y, sums[2] + x * x, sums[3] + x * y];
            at -= tick.seconds;
        }
        let n = count as f64;
        let (x, y) = (sums[0] / n, sums[1] / n);
        let spread = sums[2] / n - x * x;
        if spread <= 0.0 {
            return (y, 0.0, f64::INFINITY);
        }
        let slope = (sums[3] / n - x * y) / spread;
        let variance = self.dispersion() * self.slow * n / -at;
        (y - slope * x, slope, (variance / (n * spread)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts around a rate without chance: what Poisson's standard deviation would be, up and down in turn.
    fn feed(demand: &mut Demand, seconds: usize, rate: impl Fn(f64) -> f64) {
        for second in 0..seconds {
            let mean = rate(second as f64);
            let sign = if second % 2 == 0 { 1.0 } else { -1.0 };
            demand.note(1.0, mean + sign * mean.sqrt() * 0.5, 1.0);
        }
    }

    #[test]
    fn a_constant_rate_is_forecast_as_it_is() {
        let mut demand = Demand::default();
        feed(&mut demand, 300, |_| 200.0);
        let rates = demand.rates(60.0);
        assert!((rates.now - 200.0).abs() < 2.0 && (rates.then - 200.0).abs() < 6.0, "{rates:?}");
        assert!(demand.dispersion() < 1.5, "{}", demand.dispersion());
    }

    #[test]
    fn the_first_second_counts_for_what_it_shows_beyond_chance() {
        let mut demand = Demand::default();
        demand.note(1.0, 144.0, 1.0);
        let now = demand.rates(0.0).now;
        assert!((115.0..135.0).contains(&now), "{now}");
    }

    #[test]
    fn a_ramp_is_followed_to_where_it_will_be() {
        let mut demand = Demand::default();
        feed(&mut demand, 300, |second| 50.0 + second);
        let then = demand.rates(40.0).then;
        assert!((375.0..400.0).contains(&then), "{then}");
    }

    #[test]
    fn a_step_is_there_within_seconds_and_is_not_taken_for_a_ramp() {
        let mut demand = Demand::default();
        feed(&mut demand, 300, |_| 50.0);
        feed(&mut demand, 8, |_| 500.0);
        let early = demand.rates(40.0);
        assert!(early.then > 350.0 && early.then < 750.0, "{early:?}");
        feed(&mut demand, 40, |_| 500.0);
        let late = demand.rates(40.0);
        assert!(late.then < 555.0, "{late:?}");
    }

    #[test]
    fn bursts_raise_the_index_of_dispersion() {
        let mut demand = Demand::default();
        for second in 0..400 {
            demand.note(1.0, if second % 4 == 0 { 400.0 } else { 0.0 }, 1.0);
        }
        assert!(demand.dispersion() > 50.0, "{}", demand.dispersion());
    }
}
