//! How many rows arrive per second.

use std::time::Duration;

use tokio::time::Instant;

/// Windows of the two means: the short one follows a burst, the long one remembers it over a lull. The larger counts, since
/// too small a batch in a burst loses more than too large a one in a lull.
const WINDOWS: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(2)];

/// Two exponentially weighted means of the rate of arrivals.
#[derive(Clone, Debug)]
pub struct Arrivals {
    at: Instant,
    rates: [f64; 2],
}

impl Arrivals {
    /// Nothing has arrived until `now`.
    pub fn new(now: Instant) -> Self {
        Self { at: now, rates: [0.0; 2] }
    }

    /// `rows` more have arrived since the last call.
    pub fn note(&mut self, now: Instant, rows: u64) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        for (rate, window) in self.rates.iter_mut().zip(WINDOWS) {
            let window = window.as_secs_f64();
            let kept = (-elapsed / window).exp();
            // As if the rows had come evenly since then.
            let gained = if elapsed > 0.0 { (1.0 - kept) / elapsed } else { 1.0 / window };
            *rate = *rate * kept + rows as f64 * gained;
        }
    }

    /// Rows per second.
    pub fn rate(&self) -> f64 {
        self.rates[0].max(self.rates[1])
    }

    /// Rows per second as of the last moments alone, which are most like the next ones. Callers who are refused may come again at once,
    /// thousands of times as often as before, and the long window would remember that for ten seconds after it has ended.
    pub fn latest(&self) -> f64 {
        self.rates[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_found_and_a_burst_is_followed_at_once() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        for tick in 1..=10_000 {
            arrivals.note(start + Duration::from_millis(tick), 3);
        }
        assert!((arrivals.rate() - 3000.0).abs() < 30.0, "{}", arrivals.rate());
        for tick in 10_001..=10_250 {
            arrivals.note(start + Duration::from_millis(tick), 30);
        }
        assert!(arrivals.rate() > 18_000.0, "{}", arrivals.rate());
        arrivals.note(start + Duration::from_secs(30), 0);
        assert!(arrivals.rate() < 1.0, "{}", arrivals.rate());
    }

    #[test]
    fn a_flood_that_begins_or_ends_is_noticed_within_a_second_though_it_is_remembered() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        let mut note = |from: u64, to: u64, rows: u64| {
            for tick in from..to {
                arrivals.note(start + Duration::from_millis(10 * tick), rows);
            }
            (arrivals.rate(), arrivals.latest())
        };
        let (_, steady) = note(1, 1000, 1);
        assert!((99.0..101.0).contains(&steady), "{steady}");
        let (_, flood) = note(1000, 1100, 100);
        assert!(flood > 9000.0, "{flood}");
        let (remembered, over) = note(1100, 1200, 1);
        assert!(remembered > 2000.0 && over < 400.0, "{remembered} {over}");
    }
}
