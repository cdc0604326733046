//! Corrects what is planned by what is seen: answers that are late although there are replicas enough say that the plan promises
//! too much.

use std::time::Duration;

/// How often it is judged.
const EVERY: Duration = Duration::from_secs(60);

/// The share of requests that may be late or refused.
const BUDGET: f64 = 0.01;

/// Requests from which a share says something.
const REQUESTS_MIN: f64 = 100.0;

/// Down by this in a minute that is over budget, up by that in one of a long clean stretch; never below the least.
const DOWN: f64 = 0.95;
const UP: f64 = 1.01;
const LEAST: f64 = 0.6;

/// Clean minutes before it goes up again.
const CLEAN: u32 = 10;

/// The correction, and the minute that is being watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Trim {
    factor: f64,
    since: Option<Duration>,
    requests: f64,
    bad: f64,
    strained: bool,
    clean: u32,
}

impl Default for Trim {
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl Trim {
    /// Begins with a correction that was found before.
    pub fn new(factor: f64) -> Self {
        // What is no number is no correction.
        let factor = if factor.is_finite() { factor.clamp(LEAST, 1.0) } else { 1.0 };
        Self { factor, since: None, requests: 0.0, bad: 0.0, strained: false, clean: 0 }
    }

    /// The share of the planned rate that is counted on, 0.6 to 1.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// Of `requests` ended since the last call, `bad` were late or refused; `strained` where that was to be expected: too few
    /// replicas, or some that had just started.
    pub fn note(&mut self, now: Duration, requests: f64, bad: f64, strained: bool) {
        let since = *self.since.get_or_insert(now);
        self.requests += requests;
        self.bad += bad;
        self.strained |= strained;
        if now.saturating_sub(since) < EVERY {
            return;
        }
        let over = self.requests >= REQUESTS_MIN && self.bad > BUDGET * self.requests;
        match (over, self.strained) {
            (true, false) => {
                self.factor = (self.factor * DOWN).max(LEAST);
                self.clean = 0;
            }
            (true, true) => self.clean = 0,
            (false, _) => {
                self.clean += 1;
                if self.clean > CLEAN {
                    self.factor = (self.factor * UP).min(1.0);
                }
            }
        }
        (self.since, self.requests, self.bad, self.strained) = (Some(now), 0.0, 0.0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(trim: &mut Trim, from: u64, count: u64, bad: f64, strained: bool) {
        for second in 0..count * 60 {
            trim.note(Duration::from_secs(from * 60 + second), 100.0, bad, strained);
        }
    }

    #[test]
    fn late_answers_with_replicas_enough_lower_the_plan_and_a_clean_stretch_raises_it_again() {
        let mut trim = Trim::default();
        minutes(&mut trim, 0, 5, 5.0, false);
        minutes(&mut trim, 5, 1, 0.0, false);
        let low = trim.factor();
        assert!((0.75..0.9).contains(&low), "{low}");
        minutes(&mut trim, 6, 9, 0.0, false);
        assert_eq!(trim.factor(), low);
        minutes(&mut trim, 15, 60, 0.0, false);
        assert_eq!(trim.factor(), 1.0);
    }

    #[test]
    fn what_too_few_replicas_make_late_says_nothing_of_the_plan() {
        let mut trim = Trim::default();
        minutes(&mut trim, 0, 30, 50.0, true);
        assert_eq!(trim.factor(), 1.0);
    }

    #[test]
    fn it_never_falls_below_its_least() {
        let mut trim = Trim::default();
        minutes(&mut trim, 0, 100, 50.0, false);
        assert_eq!(trim.factor(), LEAST);
    }
}
