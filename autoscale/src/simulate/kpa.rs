//! Knative's autoscaler (knative/serving, pkg/autoscaler/scaling/autoscaler.go), re-implemented from its rules.

use std::collections::VecDeque;

use super::reports::Totals;
use super::world::{Scaler, Seen};

/// What it is set to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spec {
    /// What one pod is loaded to.
    pub target: f64,
    /// What one pod can take.
    pub total: f64,
    /// Requests that are to find room at once; below 0 without bound.
    pub burst_capacity: f64,
    /// Pods wanted over pods ready at which it panics.
    pub panic_threshold: f64,
    /// Pods over pods ready, at most.
    pub up_rate: f64,
    /// Pods ready over pods, at most.
    pub down_rate: f64,
    /// Seconds of the long mean, and of a panic.
    pub stable_window: f64,
    /// Seconds over which the largest number counts.
    pub down_delay: f64,
    /// Requests can reach it.
    pub reachable: bool,
    /// Pods to begin with from zero.
    pub activation_scale: f64,
}

impl Spec {
    /// The defaults of config-autoscaler for pods that take `concurrency` requests.
    pub fn new(concurrency: f64) -> Self {
        Self {
            target: (0.7 * concurrency).max(0.01),
            total: concurrency,
            burst_capacity: 211.0,
            panic_threshold: 2.0,
            up_rate: 1000.0,
            down_rate: 2.0,
            stable_window: 60.0,
            down_delay: 0.0,
            reachable: true,
            activation_scale: 1.0,
        }
    }
}

/// Pods wanted, and the room that is left for bursts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Pods.
    pub pods: i64,
    /// Requests that find room beyond the wanted burst capacity.
    pub excess: i64,
}

/// The rule with what it remembers.
#[derive(Clone, Debug)]
pub struct Kpa {
    /// Its settings.
    pub spec: Spec,
    /// When the last panic began or went on.
    pub panic_at: Option<f64>,
    /// The most pods of this panic.
    pub panic_pods: f64,
    delayed: VecDeque<(f64, f64)>,
}

impl Kpa {
    /// With `ready` pods; more than one begin in a panic, since what was before is not known.
    pub fn new(spec: Spec, ready: u32, now: f64) -> Self {
        Self { spec, panic_at: (ready > 1).then_some(now), panic_pods: f64::from(ready), delayed: VecDeque::new() }
    }

    /// The decision from the means over the stable and the panic window.
    pub fn decide(&mut self, ready: u32, stable: f64, panic: f64, now: f64) -> Scale {
        let spec = self.spec;
        let pods = f64::from(ready.max(1));
        let most = (spec.up_rate * pods).ceil();
        let least = if spec.reachable { (pods / spec.down_rate).floor() } else { 0.0 };
        let (stable_pods, panic_pods) = ((stable / spec.target).ceil(), (panic / spec.target).ceil());
        let bounded = |wanted: f64| {
            let bounded = wanted.max(least).min(most);
            if spec.activation_scale > 1.0 && wanted > 0.0 { bounded.max(spec.activation_scale) } else { bounded }
        };
        let over = panic_pods / pods >= spec.panic_threshold;
        match self.panic_at {
            _ if over => self.panic_at = Some(now),
            Some(since) if since + spec.stable_window < now => {
                self.panic_at = None;
                self.panic_pods = 0.0;
            }
            _ => {}
        }
        let mut wanted = bounded(stable_pods);
        if self.panic_at.is_some() {
            self.panic_pods = self.panic_pods.max(wanted).max(bounded(panic_pods));
            wanted = self.panic_pods;
        }
        if spec.reachable && spec.down_delay > 0.0 {
            self.delayed.push_back((now, wanted));
            while self.delayed.front().is_some_and(|(at, _)| *at + spec.down_delay < now) {
                self.delayed.pop_front();
            }
            wanted = self.delayed.iter().map(|(_, pods)| *pods).fold(wanted, f64::max);
        }
        let excess = match spec.burst_capacity {
            0.0 => 0.0,
            capacity if capacity < 0.0 => -1.0,
            capacity => (f64::from(ready) * spec.total - capacity - panic).floor(),
        };
        Scale { pods: wanted as i64, excess: excess as i64 }
    }
}

/// How often it decides.
const TICK: u64 = 2;

/// Seconds after which pods without requests are let go: the stable window has to be empty, then 30 s of grace.
const GRACE: f64 = 30.0;

/// Knative in a world.
pub struct Knative {
    rule: Kpa,
    totals: Totals,
    concurrency: VecDeque<f64>,
    bounds: (u32, u32),
    empty_since: Option<f64>,
    ticks: u64,
}

impl Knative {
    /// For pods that take `concurrency` requests, within bounds.
    pub fn new(concurrency: f64, bounds: (u32, u32), first: u32) -> Self {
        let rule = Kpa::new(Spec::new(concurrency), first, 0.0);
        Self { rule, totals: Totals::default(), concurrency: VecDeque::new(), bounds, empty_since: None, ticks: 0 }
    }

    fn mean(&self, seconds: usize) -> f64 {
        let newest = self.concurrency.iter().rev().take(seconds);
        let (sum, count) = newest.fold((0.0, 0), |(sum, count), one| (sum + one, count + 1));
        sum / f64::from(count.max(1))
    }
}

impl Scaler for Knative {
    fn scale(&mut self, seen: &Seen) -> Option<u32> {
        self.totals.take(seen);
        let told = self.totals.in_flight(seen).or((seen.ready == 0).then_some(0.0));
        if let Some(in_flight) = told {
            self.concurrency.push_back(in_flight + seen.held);
            if self.concurrency.len() > 60 {
                self.concurrency.pop_front();
            }
        } else {
            return None;
        }
        self.ticks += 1;
        if !self.ticks.is_multiple_of(TICK) || self.concurrency.is_empty() {
            return None;
        }
        let wanted = self.rule.decide(seen.ready, self.mean(60), self.mean(6), seen.now).pods as u32;
        // From zero at once, as the activator tells of the first request.
        let wanted = if seen.current == 0 && seen.held > 0.0 { wanted.max(1) } else { wanted };
        let empty = wanted == 0;
        if !empty {
            self.empty_since = None;
        }
        let (min, max) = self.bounds;
        if empty && min == 0 {
            let since = *self.empty_since.get_or_insert(seen.now);
            return if seen.now - since >= GRACE { Some(0) } else { Some(seen.current.min(1)) };
        }
        Some(wanted.clamp(min.max(1), max))
    }
}

#[cfg(test)]
mod tests {
    //! The values of its own tests (autoscaler_test.go), in which targets are 75 % of what a pod takes.

    use super::*;

    fn kpa(target: f64, burst_capacity: f64) -> Kpa {
        let spec =
            Spec { target, total: target / 0.75, burst_capacity, up_rate: 10.0, down_rate: 10.0, ..Spec::new(1.0) };
        Kpa::new(spec, 1, 0.0)
    }

    fn excess(total: f64, burst_capacity: f64, recorded: f64, pods: f64) -> i64 {
        (total / 0.75 * pods - burst_capacity - recorded).floor() as i64
    }

    fn pods(kpa: &mut Kpa, ready: u32, stable: f64, panic: f64, now: f64) -> i64 {
        kpa.decide(ready, stable, panic, now).pods
    }

    #[test]
    fn one_decision_is_as_its_own_table_has_it() {
        // Target, burst capacity, pods, stable, panic, wanted.
        for (target, burst, ready, stable, panic, wanted) in [
            (10.0, 100.0, 1, 0.0, 0.0, 0),
            (10.0, 100.0, 1, 50.0, 50.0, 5),
            (10.0, 100.0, 5, 50.0, 50.0, 5),
            (10.0, 101.0, 1, 50.0, 10.0, 5),
            (10.0, 101.0, 1, 100.0, 10.0, 10),
            (10.0, 84.0, 1, 50.0, 100.0, 10),
            (10.0, 61.0, 1, 1000.0, 1001.0, 10),
            (10.0, 61.0, 10, 1000.0, 1001.0, 100),
            (10.0, 61.0, 100, 1.0, 1.0, 10),
            (10.0, 61.0, 10, 1.0, 1.0, 1),
            (10.0, 81.0, 0, 1000.0, 888.0, 10),
            (10.0, 75.0, 1, 1.0, 0.0, 1),
            (10.0, 75.0, 1, 0.0, 0.0, 0),
        ] {
            let scale = kpa(target, burst).decide(ready, stable, panic, 0.0);
            assert_eq!(scale.pods, wanted, "{target} {ready} {stable} {panic}");
            let expected = excess(target, burst, panic, f64::from(ready));
            assert!((scale.excess - expected).abs() <= 1, "{} {expected}", scale.excess);
        }
        assert_eq!(kpa(181.0, -1.0).decide(1, 21.0, 26.0, 0.0), Scale { pods: 1, excess: -1 });
        assert_eq!(kpa(10.0, 0.0).decide(1, 50.0, 49.0, 0.0), Scale { pods: 5, excess: 0 });
    }

    #[test]
    fn rates_of_change_are_bounded_as_its_own_tests_have_it() {
        let mut slow = kpa(1.0, 1982.0);
        slow.spec.up_rate = 1.1;
        assert_eq!(pods(&mut slow, 2, 3.0, 3.1, 0.0), 3);
        let mut slow = kpa(10.0, 1982.0);
        slow.spec.down_rate = 1.1;
        assert_eq!(pods(&mut slow, 100, 1.0, 1.0, 0.0), 90);
        slow.spec.reachable = false;
        assert_eq!(pods(&mut slow, 100, 1.0, 1.0, 0.0), 1);
        let mut started = kpa(10.0, 75.0);
        started.spec.activation_scale = 2.0;
        assert_eq!(pods(&mut started, 1, 0.0, 0.0, 0.0), 0);
        assert_eq!(pods(&mut started, 1, 1.0, 0.0, 0.0), 2);
    }

    #[test]
    fn a_panic_begins_goes_on_and_ends_as_in_its_own_tests() {
        let mut slow = kpa(1.0, 98.0);
        assert_eq!(pods(&mut slow, 10, 11.0, 25.0, 0.0), 25);
        assert_eq!(slow.panic_at, Some(0.0));
        assert_eq!(pods(&mut slow, 40, 30.0, 41.0, 30.0), 41);
        assert_eq!(slow.panic_at, Some(0.0));
        assert_eq!(pods(&mut slow, 55, 50.0, 56.0, 62.0), 50);
        assert_eq!(slow.panic_at, None);

        let mut longer = kpa(1.0, 98.0);
        pods(&mut longer, 10, 11.0, 25.0, 0.0);
        assert_eq!(pods(&mut longer, 40, 30.0, 80.0, 30.0), 80);
        assert_eq!(longer.panic_at, Some(30.0));

        let mut falls = kpa(10.0, 93.0);
        assert_eq!(pods(&mut falls, 1, 100.0, 100.0, 0.0), 10);
        assert_eq!(pods(&mut falls, 10, 100.0, 1000.0, 0.0), 100);
        assert_eq!(pods(&mut falls, 10, 1.0, 1.0, 30.0), 100);
        assert_eq!(pods(&mut falls, 10, 1.0, 1.0, 61.0), 1);

        for (stable, panic, wanted) in [(50.0, 30.0, 50), (20.0, 30.0, 30)] {
            let mut panicking = kpa(1.0, 100.0);
            (panicking.panic_at, panicking.panic_pods) = (Some(-5.0), 5.0);
            assert_eq!(pods(&mut panicking, 5, stable, panic, 0.0), wanted);
        }
    }

    #[test]
    fn more_than_one_pod_begins_in_a_panic() {
        for (ready, panics) in [(0, false), (1, false), (2, true)] {
            let kpa = Kpa::new(Spec::new(100.0), ready, 0.0);
            assert_eq!((kpa.panic_at.is_some(), kpa.panic_pods), (panics, f64::from(ready)));
        }
    }

    #[test]
    fn going_down_waits_for_the_delay_as_in_its_own_test() {
        let spec = Spec {
            target: 10.0,
            down_rate: 10.0,
            up_rate: 10.0,
            panic_threshold: 100.0,
            stable_window: 0.0,
            down_delay: 300.0,
            ..Spec::new(10.0)
        };
        let mut kpa = Kpa::new(spec, 0, 0.0);
        let steps = [
            (2.0, 40.0, 4),
            (300.0, 0.0, 4),
            (302.1, 0.0, 0),
            (540.0, 40.0, 4),
            (600.0, 30.0, 4),
            (660.0, 0.0, 4),
            (841.0, 0.0, 3),
            (901.0, 0.0, 0),
        ];
        for (now, concurrency, wanted) in steps {
            assert_eq!(pods(&mut kpa, 0, concurrency, concurrency, now), wanted, "at {now}");
        }
    }
}
