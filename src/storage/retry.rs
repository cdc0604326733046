//! When a request that failed is made again: a pure function of how often it failed.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// How requests are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The pause after the first failure; it doubles with each. Default 200 ms: a blip is over by then.
    pub first: Duration,
    /// The longest pause, whatever a server asks for. Default 20 s: what S3's SDKs wait at most.
    pub longest: Duration,
    /// Failures in a row, with not one byte between them, after which it is given up. Default 8, which is about a minute: longer
    /// outages are for whoever asked for the model to wait out.
    pub failures_max: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), longest: Duration::from_secs(20), failures_max: 8 }
    }
}

impl RetryPolicy {
    /// How long to wait after so many `failures` in a row; `None` to give up. `asked` is what the server asks for
    /// (`Retry-After`), `random` from 0 to 1 spreads those who failed together: between half the pause and all of it.
    pub fn pause(&self, failures: u32, asked: Option<Duration>, random: f64) -> Option<Duration> {
        if failures >= self.failures_max {
            return None;
        }
        let doubled = self.first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let jittered = doubled.min(self.longest).mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        Some(jittered.max(asked.unwrap_or_default()).min(self.longest))
    }
}

/// A number from 0 to 1 that differs from process to process and call to call.
pub(super) fn random() -> f64 {
    (RandomState::new().hash_one(0_u8) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end() {
        let policy = RetryPolicy { failures_max: 12, ..RetryPolicy::default() };
        let pauses: Vec<_> = (1..12).map(|failures| policy.pause(failures, None, 1.0).unwrap().as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12_800, 20_000, 20_000, 20_000, 20_000]);
        assert_eq!(policy.pause(12, None, 1.0), None);
        assert_eq!(policy.pause(1, None, 0.0), Some(Duration::from_millis(100)));
    }

    #[test]
    fn what_a_server_asks_for_is_waited_within_bounds() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.pause(1, Some(Duration::from_secs(3)), 0.5), Some(Duration::from_secs(3)));
        assert_eq!(policy.pause(1, Some(Duration::from_secs(3600)), 0.5), Some(policy.longest));
    }

    proptest! {
        #[test]
        fn a_pause_is_never_longer_than_the_longest(failures in any::<u32>(), random in 0.0_f64..=1.0, asked in any::<u64>()) {
            let policy = RetryPolicy { failures_max: u32::MAX, ..RetryPolicy::default() };
            let pause = policy.pause(failures, Some(Duration::from_millis(asked)), random);
            prop_assert!(pause.is_none_or(|pause| pause <= policy.longest));
        }
    }
}
