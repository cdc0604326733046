//! Ray Serve's autoscaling policy (python/ray/serve/autoscaling_policy.py), re-implemented from its rules.

use std::collections::VecDeque;

use super::reports::Totals;
use super::world::{Scaler, Seen};

/// Its settings, with its defaults but for the target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Requests under way for each replica.
    pub target: f64,
    /// The share of a difference that is made up at once, upwards and downwards.
    pub factors: (f64, f64),
    /// Seconds for which all decisions have to be up, or down.
    pub delays: (f64, f64),
    /// The fewest and the most.
    pub bounds: (u32, u32),
    /// Seconds between two decisions.
    pub interval: f64,
}

/// The policy with its counter: positive for decisions up in a row, negative for decisions down.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its settings.
    pub config: Config,
    counter: i64,
}

impl Policy {
    /// Nothing was decided yet.
    pub fn new(config: Config) -> Self {
        Self { config, counter: 0 }
    }

    /// The replicas for `requests` under way, with `current` there and `target` asked for.
    pub fn decide(&mut self, requests: f64, current: u32, target: u32) -> u32 {
        let Config { factors, delays, bounds, interval, .. } = self.config;
        if current == 0 {
            return if requests > 0.0 { (factors.0.ceil() as u32).max(target) } else { target };
        }
        let wanted = requests / self.config.target;
        let difference = wanted - f64::from(current);
        let factor = if difference > 0.0 { factors.0 } else { factors.1 };
        let mut next = (f64::from(current) + factor * difference).ceil().max(0.0) as u32;
        if (wanted.ceil() as u32) < current && next == current {
            next -= 1;
        }
        let mut next = next.min(bounds.1).max(bounds.0);
        // Rounded, since 0.6 / 0.1 is a little less than six.
        let periods = |delay: f64| (delay / interval).round() as i64;
        match next.cmp(&target) {
            std::cmp::Ordering::Greater => {
                self.counter = self.counter.max(0) + 1;
                if self.counter > periods(delays.0) {
                    self.counter = 0;
                    return next;
                }
            }
            std::cmp::Ordering::Less => {
                self.counter = self.counter.min(0) - 1;
                if target > 1 {
                    next = next.max(1);
                }
                if self.counter < -periods(delays.1) {
                    self.counter = 0;
                    return next;
                }
            }
            std::cmp::Ordering::Equal => self.counter = 0,
        }
        target
    }
}

/// Seconds that its requests are averaged over.
const LOOK_BACK: usize = 30;

/// Ray Serve in a world, deciding once a second.
pub struct Ray {
    policy: Policy,
    totals: Totals,
    requests: VecDeque<f64>,
}

impl Ray {
    /// With `target` requests under way for each replica, within bounds.
    pub fn new(target: f64, bounds: (u32, u32)) -> Self {
        let config = Config { target, factors: (1.0, 1.0), delays: (30.0, 600.0), bounds, interval: 1.0 };
        Self { policy: Policy::new(config), totals: Totals::default(), requests: VecDeque::new() }
    }
}

impl Scaler for Ray {
    fn scale(&mut self, seen: &Seen) -> Option<u32> {
        self.totals.take(seen);
        let in_flight = match self.totals.in_flight(seen) {
            Some(in_flight) => in_flight,
            None if seen.ready == 0 => 0.0,
            None => return None,
        };
        self.requests.push_back(in_flight + seen.held);
        if self.requests.len() > LOOK_BACK {
            self.requests.pop_front();
        }
        let mean = self.requests.iter().sum::<f64>() / self.requests.len() as f64;
        let mean = if seen.current == 0 { seen.held } else { mean };
        Some(self.policy.decide(mean, seen.ready.min(seen.current), seen.current))
    }
}

#[cfg(test)]
mod tests {
    //! The values of its own tests (test_autoscaling_policy.py).

    use super::*;

    fn policy(target: f64, factors: (f64, f64), delays: (f64, f64), bounds: (u32, u32)) -> Policy {
        Policy::new(Config { target, factors, delays, bounds, interval: 0.1 })
    }

    #[test]
    fn from_zero_it_begins_by_its_factor() {
        assert_eq!(policy(2.0, (10.0, 1.0), (30.0, 600.0), (0, 2)).decide(1.0, 0, 0), 10);
        assert_eq!(policy(2.0, (0.5, 1.0), (30.0, 600.0), (0, 2)).decide(1.0, 0, 0), 1);
    }

    #[test]
    fn down_to_zero_it_stops_at_one_and_a_small_factor_never_sticks() {
        let mut quick = policy(2.0, (1.0, 10.0), (0.0, 0.0), (0, 5));
        assert_eq!(quick.decide(0.0, 5, 5), 1);
        assert_eq!(quick.decide(0.0, 1, 1), 0);
        let mut slow = policy(2.0, (1.0, 0.2), (0.0, 0.0), (0, 5));
        let mut replicas = 5;
        for _ in 0..5 {
            replicas = slow.decide(0.0, replicas, replicas);
        }
        assert_eq!(replicas, 0);
    }

    #[test]
    fn replicas_that_start_late_do_not_bring_the_target_down() {
        let mut policy = policy(1.0, (1.0, 1.0), (0.0, 100_000.0), (1, 200));
        assert_eq!(policy.decide(100.0, 1, 1), 100);
        assert_eq!(policy.decide(100.0, 1, 100), 100);
        assert_eq!(policy.decide(123.0, 3, 100), 123);
        assert_eq!(policy.decide(10.0, 4, 123), 123);
    }

    #[test]
    fn only_decisions_in_a_row_count() {
        let mut policy = policy(1.0, (1.0, 1.0), (30.0, 600.0), (0, 2));
        for round in 0..300 {
            assert_eq!(policy.decide(2.0, 1, 1), 1, "{round}");
        }
        assert_eq!(policy.decide(2.0, 1, 1), 2);
        (0..150).for_each(|_| assert_eq!(policy.decide(2.0, 1, 1), 1));
        assert_eq!(policy.decide(0.0, 1, 1), 1);
        (0..300).for_each(|_| assert_eq!(policy.decide(2.0, 1, 1), 1));
        assert_eq!(policy.decide(2.0, 1, 1), 2);
        (0..6000).for_each(|_| assert_eq!(policy.decide(0.0, 2, 2), 2));
        assert_eq!(policy.decide(0.0, 2, 2), 1);
    }

    #[test]
    fn requests_that_go_up_and_down_change_nothing_but_without_a_delay() {
        for (delay, answers) in [(30.0, (1, 2)), (0.0, (2, 1))] {
            let mut policy = policy(50.0, (1.0, 1.0), (delay, delay), (1, 10));
            for _ in 0..500 {
                assert_eq!(policy.decide(100.0, 1, 1), answers.0);
                assert_eq!(policy.decide(40.0, 2, 2), answers.1);
            }
        }
    }

    #[test]
    fn all_requests_count_wherever_they_are() {
        for requests in [20.0, 100.0, 10.0] {
            let mut policy = policy(5.0, (1.0, 1.0), (0.0, 0.0), (1, 50));
            assert_eq!(f64::from(policy.decide(requests, 4, 4)), requests / 5.0);
        }
    }
}
