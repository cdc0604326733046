//! When nobody asks: how long the last replica stays, and when one is started ahead of the next request.
//!
//! The objective says how many requests may be late, so it also says how many may wait for a start: a replica goes only in gaps
//! that so few requests end. What is known of the gaps between uses (as in Shahrad et al., "Serverless in the Wild", ATC 2020) tells
//! when that is: after all but the longest gaps are over, and at the begin of each where even the shortest ones are long.

use std::collections::VecDeque;
use std::time::Duration;

/// Gaps below this are pauses within one use, not between two.
const GAP_MIN: Duration = Duration::from_secs(5);

/// Gaps that are kept: some days of something asked for once an hour.
const GAPS_MAX: usize = 100;

/// Gaps from which their distribution is believed.
const GAPS_MIN: usize = 20;

/// The share of requests that may wait for a start: the objective is one of 99 in a hundred.
const COLD_MAX: f64 = 0.01;

/// How much longer than those that were seen a gap may be, and how much shorter: some tens of gaps show neither end.
const LONGER: f64 = 1.5;
const SHORTER: f64 = 1.0 / 3.0;

/// The longest that an idle replica stays, and how long where little is known. Who asks less often waits for a start each time:
/// there a single request would cost hours of a replica.
const STAYS_MAX: Duration = Duration::from_secs(7200);

/// A gap between two uses.
#[derive(Clone, Debug, Default, PartialEq)]
struct Gap {
    length: Duration,
    /// Requests of the use that ended it, and of those the ones that would have waited for a start.
    requests: f64,
    cold: f64,
}

/// What is known of the gaps between uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Idle {
    begun: Option<Duration>,
    last: Option<Duration>,
    /// When the last gap ended.
    ended: Duration,
    gaps: VecDeque<Gap>,
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
    /// `requests` came at `now`, where a start takes `start`.
    pub fn used(&mut self, now: Duration, requests: f64, start: Duration) {
        if let Some(length) = self.last.map(|last| now.saturating_sub(last)).filter(|gap| *gap >= GAP_MIN) {
            self.gaps.push_back(Gap { length, ..Gap::default() });
            self.ended = now;
            if self.gaps.len() > GAPS_MAX {
                self.gaps.pop_front();
            }
        }
        if let Some(newest) = self.gaps.back_mut() {
            newest.requests += requests;
            newest.cold += if now.saturating_sub(self.ended) <= start { requests } else { 0.0 };
        }
        self.last = Some(now);
    }

    /// Counts from `now` where nobody has asked yet.
    pub fn begin(&mut self, now: Duration) {
        self.begun.get_or_insert(now);
    }

    /// How long nobody has asked.
    pub fn since(&self, now: Duration) -> Duration {
        self.last.or(self.begun).map_or(Duration::ZERO, |last| now.saturating_sub(last))
    }

    /// What is due at `now`, where a start takes `start`.
    pub fn due(&self, now: Duration, start: Duration) -> Due {
        let since = self.since(now);
        if self.gaps.len() < GAPS_MIN {
            return if since < STAYS_MAX.max(2 * start) { Due::Stay } else { Due::Leave };
        }
        let back = self.back(start);
        match since {
            since if since < 2 * GAP_MIN => Due::Stay,
            since if since < back => Due::Leave,
            since if since < self.stays(start) => {
                if back.is_zero() {
                    Due::Stay
                } else {
                    Due::Prewarm
                }
            }
            _ => Due::Leave,
        }
    }

    /// The same where somebody has set for how long nobody has to have asked.
    pub fn due_after(&self, now: Duration, idle: Duration) -> Due {
        if self.since(now) < idle { Due::Stay } else { Due::Leave }
    }

    /// How long an idle replica stays: the requests that end longer gaps are so few that they may wait.
    fn stays(&self, start: Duration) -> Duration {
        let longest = self.all_but_few(self.sorted().into_iter().rev()).unwrap_or_default();
        longest.mul_f64(LONGER).clamp(2 * start, STAYS_MAX.max(2 * start))
    }

    /// When one that went at the begin of a gap is ordered again; zero where it is not to go then. Gaps that are alike are
    /// trusted to their length, others to a part of the shortest.
    fn back(&self, start: Duration) -> Duration {
        let sorted = self.sorted();
        let middle = sorted.get(sorted.len() / 2).map_or(Duration::ZERO, |gap| gap.length);
        let shortest = self.all_but_few(sorted.into_iter()).unwrap_or_default();
        let alike = shortest.saturating_sub(middle.saturating_sub(shortest));
        let back = alike.max(shortest.mul_f64(SHORTER)).saturating_sub(start + start / 4);
        // Coming back costs a start.
        if back > start + 2 * GAP_MIN { back } else { Duration::ZERO }
    }

    fn sorted(&self) -> Vec<&Gap> {
        let mut sorted: Vec<&Gap> = self.gaps.iter().collect();
        sorted.sort_unstable_by_key(|gap| gap.length);
        sorted
    }

    /// The length of the first gap of these at which more requests would have waited than may.
    fn all_but_few<'a>(&self, gaps: impl Iterator<Item = &'a Gap>) -> Option<Duration> {
        let mut left = COLD_MAX * self.gaps.iter().map(|gap| gap.requests).sum::<f64>();
        let mut gaps = gaps;
        gaps.find(|gap| {
            left -= gap.cold;
            left < 0.0
        })
        .map(|gap| gap.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(30);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// One request after each of these gaps; gives the time of the last.
    fn after(idle: &mut Idle, gaps: impl IntoIterator<Item = u64>) -> u64 {
        let mut now = 0;
        idle.used(seconds(now), 1.0, START);
        for gap in gaps {
            now += gap;
            idle.used(seconds(now), 1.0, START);
        }
        now
    }

    #[test]
    fn where_little_is_known_a_replica_stays_two_hours_or_as_long_as_somebody_has_set() {
        let mut idle = Idle::default();
        idle.used(seconds(0), 1.0, START);
        assert_eq!(idle.due(seconds(7199), START), Due::Stay);
        assert_eq!(idle.due(seconds(7201), START), Due::Leave);
        assert_eq!(idle.due_after(seconds(59), seconds(60)), Due::Stay);
        assert_eq!(idle.due_after(seconds(60), seconds(60)), Due::Leave);
    }

    #[test]
    fn requests_at_even_gaps_find_a_replica_that_was_away_meanwhile() {
        let mut idle = Idle::default();
        let last = after(&mut idle, [1200; 30]);
        let at = |since: u64| idle.due(seconds(last + since), START);
        assert_eq!(at(5), Due::Stay);
        assert_eq!(at(600), Due::Leave);
        assert_eq!(at(1165), Due::Prewarm);
        assert_eq!(at(1200), Due::Prewarm);
        assert_eq!(at(1801), Due::Leave);
    }

    #[test]
    fn requests_at_any_time_between_minutes_and_an_hour_never_wait_once_that_is_known() {
        let mut idle = Idle::default();
        let gaps = (0..40).map(|index| 300 + (index * 1237) % 3300);
        let last = after(&mut idle, gaps);
        assert_eq!(idle.due(seconds(last + 60), START), Due::Leave);
        for since in 300 - 35..3600 {
            assert_eq!(idle.due(seconds(last + since), START), Due::Prewarm, "after {since} s");
        }
    }

    #[test]
    fn a_night_is_slept_through_where_the_first_of_the_morning_are_few_among_the_days_requests() {
        let mut idle = Idle::default();
        let mut now = 0;
        for _ in 0..5 {
            // Eight hours of ten minutes each, in which somebody asks twice a second, and the night.
            for _ in 0..48 {
                (0..560).for_each(|second| idle.used(seconds(now + second), 2.0, START));
                now += 600;
            }
            now += 16 * 3600;
        }
        let last = now - 16 * 3600 - 41;
        assert_eq!(idle.due(seconds(last + 59), START), Due::Stay);
        assert_eq!(idle.due(seconds(last + 3 * 60), START), Due::Leave);
    }

    #[test]
    fn pauses_within_one_use_are_no_gaps() {
        let mut idle = Idle::default();
        (0..1000).for_each(|use_| idle.used(seconds(use_), 1.0, START));
        assert_eq!(idle.due(seconds(1400), START), Due::Stay);
    }
}
