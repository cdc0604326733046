//! When nobody asks: how long the last replica stays, and when one is started ahead of the next request.
//!
//! The gaps between requests are kept by their length. Where most of them are longer than a start takes, a replica may go at once
//! and come back before the shortest of them ends (Shahrad et al., "Serverless in the Wild", ATC 2020); it stays until all but
//! the longest are over.

use std::collections::VecDeque;
use std::time::Duration;

/// Gaps below this are pauses within one use, not between two.
const GAP_MIN: Duration = Duration::from_secs(5);

/// Gaps that are kept: some days of something asked for once an hour.
const GAPS_MAX: usize = 100;

/// Gaps from which their distribution is believed.
const GAPS_MIN: usize = 20;

/// How long an idle replica stays where little is known: what a cold start is worth in replica time, as a person who is asked
/// tends to say. By the ski-rental argument the cost is then at most twice that of knowing.
const UNKNOWN: Duration = Duration::from_secs(600);

/// The longest that an idle replica stays.
const STAYS_MAX: Duration = Duration::from_secs(1800);

/// What is known of the gaps between uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Idle {
    last: Option<Duration>,
    gaps: VecDeque<Duration>,
}

/// What is due in a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The last replica stays.
    Stay,
    /// None is needed.
    Leave,
    /// One is to be ready soon: the next request is expected.
    Prewarm,
}

impl Idle {
    /// Somebody asked at `now`.
    pub fn used(&mut self, now: Duration) {
        if let Some(gap) = self.last.map(|last| now.saturating_sub(last)).filter(|gap| *gap >= GAP_MIN) {
            self.gaps.push_back(gap);
            if self.gaps.len() > GAPS_MAX {
                self.gaps.pop_front();
            }
        }
        self.last = Some(now);
    }

    /// Counts from `now` where nobody has asked yet.
    pub fn begin(&mut self, now: Duration) {
        self.last.get_or_insert(now);
    }

    /// How long nobody has asked.
    pub fn since(&self, now: Duration) -> Duration {
        self.last.map_or(Duration::ZERO, |last| now.saturating_sub(last))
    }

    /// What is due at `now`, where a start takes `start`.
    pub fn due(&self, now: Duration, start: Duration) -> Due {
        let since = self.since(now);
        if self.gaps.len() < GAPS_MIN {
            return if since < UNKNOWN.max(2 * start) { Due::Stay } else { Due::Leave };
        }
        let longest = self.quantile(0.99).clamp(2 * start, STAYS_MAX.max(2 * start));
        let shortest = self.quantile(0.05);
        // Going and coming back costs a start; below three of them that is no gain.
        if shortest > 3 * start {
            let back = shortest - start - start / 4;
            return match since {
                since if since < 2 * GAP_MIN => Due::Stay,
                since if since < back => Due::Leave,
                since if since < back + longest => Due::Prewarm,
                _ => Due::Leave,
            };
        }
        if since < longest { Due::Stay } else { Due::Leave }
    }

    fn quantile(&self, share: f64) -> Duration {
        let mut sorted: Vec<Duration> = self.gaps.iter().copied().collect();
        sorted.sort_unstable();
        let index = (share * (sorted.len().max(1) - 1) as f64).round() as usize;
        sorted.get(index).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(30);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn where_little_is_known_a_replica_stays_ten_minutes() {
        let mut idle = Idle::default();
        idle.used(seconds(0));
        assert_eq!(idle.due(seconds(599), START), Due::Stay);
        assert_eq!(idle.due(seconds(601), START), Due::Leave);
    }

    #[test]
    fn requests_at_even_gaps_find_a_replica_that_was_away_meanwhile() {
        let mut idle = Idle::default();
        (0..=30).for_each(|use_| idle.used(seconds(use_ * 1200)));
        let at = |seconds_after: u64| idle.due(seconds(30 * 1200 + seconds_after), START);
        assert_eq!(at(5), Due::Stay);
        assert_eq!(at(600), Due::Leave);
        assert_eq!(at(1165), Due::Prewarm);
        assert_eq!(at(1200), Due::Prewarm);
    }

    #[test]
    fn pauses_within_one_use_are_no_gaps() {
        let mut idle = Idle::default();
        (0..1000).for_each(|use_| idle.used(seconds(use_)));
        assert_eq!(idle.due(seconds(1400), START), Due::Stay);
    }
}
