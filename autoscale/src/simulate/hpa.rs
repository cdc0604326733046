//! Kubernetes' HorizontalPodAutoscaler (pkg/controller/podautoscaler), re-implemented from its rules: the replica calculator,
//! stabilisation windows, and the default behaviour. And what KEDA makes of it: the same between one and N, and 0 <-> 1 by itself.

use std::collections::VecDeque;

use super::reports::Totals;
use super::world::{Scaler, Seen};

/// Within this of the target nothing changes.
const TOLERANCE: f64 = 0.1;

/// Seconds between two decisions.
const SYNC: u64 = 15;

/// Seconds for which the largest recommendation counts before pods go.
const DOWN_WINDOW: f64 = 300.0;

/// One pod as the replica calculator sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pod {
    /// Its usage, in the unit of the target; none where its metrics are missing.
    pub usage: Option<f64>,
    /// What it requests, in the same unit; 1 for metrics that are no resources.
    pub request: f64,
    /// It is to be counted as not ready: not ready yet, or its processor time is that of its start.
    pub unready: bool,
}

/// The replicas of a target of `target` for each pod (of its request, for resources), with `current` there; none without any
/// metrics.
pub fn replicas(pods: &[Pod], current: u32, target: f64, is_resource: bool) -> Option<u32> {
    let told = pods.iter().filter(|pod| pod.usage.is_some() && !pod.unready);
    let ready = told.clone().count();
    let ratio_of = |usage: f64, request: f64, count: usize| {
        if is_resource { usage / request / target } else { usage / count as f64 / target }
    };
    if ready == 0 {
        return None;
    }
    let usage: f64 = told.clone().filter_map(|pod| pod.usage).sum();
    let ratio = ratio_of(usage, told.map(|pod| pod.request).sum(), ready);
    let unready = pods.iter().filter(|pod| pod.unready);
    let missing = pods.iter().filter(|pod| pod.usage.is_none() && !pod.unready);
    let counts_unready = unready.clone().count() > 0 && ratio > 1.0;
    if !counts_unready && missing.clone().count() == 0 {
        return Some(if (ratio - 1.0).abs() <= TOLERANCE { current } else { (ratio * ready as f64).ceil() as u32 });
    }
    // Those that are missing are taken as idle on the way up and as full on the way down, those that are not ready as idle.
    let full = |pod: &Pod| if is_resource { pod.request * target.max(1.0) } else { target };
    let mut counted: Vec<(f64, f64)> =
        pods.iter().filter(|pod| !pod.unready).filter_map(|pod| Some((pod.usage?, pod.request))).collect();
    match ratio {
        ratio if ratio < 1.0 => counted.extend(missing.map(|pod| (full(pod), pod.request))),
        ratio if ratio > 1.0 => counted.extend(missing.map(|pod| (0.0, pod.request))),
        _ => {}
    }
    if counts_unready {
        counted.extend(unready.map(|pod| (0.0, pod.request)));
    }
    let sums = counted.iter().fold((0.0, 0.0), |sums, one| (sums.0 + one.0, sums.1 + one.1));
    let again = ratio_of(sums.0, sums.1, counted.len());
    let flips = (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0);
    if (again - 1.0).abs() <= TOLERANCE || flips {
        return Some(current);
    }
    let wanted = (again * counted.len() as f64).ceil() as u32;
    // Not against the direction that the ready ones show.
    let against = (again < 1.0 && wanted > current) || (again > 1.0 && wanted < current);
    Some(if against { current } else { wanted })
}

/// Stabilisation and rates with their defaults: up at once, by four pods or twice in 15 s; down by the highest of 5 minutes.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    recommended: VecDeque<(f64, u32)>,
    ups: VecDeque<(f64, u32)>,
}

impl Behaviour {
    /// What a recommendation becomes, with `current` replicas there.
    pub fn apply(&mut self, now: f64, current: u32, wanted: u32, (min, max): (u32, u32)) -> u32 {
        self.recommended.push_back((now, wanted));
        while self.recommended.front().is_some_and(|(at, _)| *at < now - DOWN_WINDOW) {
            self.recommended.pop_front();
        }
        let highest = self.recommended.iter().map(|(_, own)| *own).max().unwrap_or(wanted);
        let mut next = current.clamp(wanted, highest.max(wanted));
        while self.ups.front().is_some_and(|(at, _)| *at <= now - 15.0) {
            self.ups.pop_front();
        }
        if next > current {
            let before = current.saturating_sub(self.ups.iter().map(|(_, added)| *added).sum());
            next = next.min((before + 4).max(before * 2)).max(current);
        }
        let next = next.clamp(min.max(1), max);
        if next > current {
            self.ups.push_back((now, next - current));
        }
        next
    }
}

/// What is measured of a pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// Requests in flight.
    Concurrency,
    /// Processor time.
    Cpu,
}

/// A HorizontalPodAutoscaler in a world, with what KEDA adds where it may go to zero.
pub struct Horizontal {
    measure: Measure,
    target: f64,
    bounds: (u32, u32),
    behaviour: Behaviour,
    totals: Totals,
    /// Means since the last decision.
    sums: (f64, u32),
    ticks: u64,
    zero: Option<Zero>,
}

/// KEDA's way to zero and back: looks each 30 s, and goes after 300 s without any.
#[derive(Clone, Copy, Debug)]
struct Zero {
    active: f64,
}

const POLLING: u64 = 30;
const COOLDOWN: f64 = 300.0;

impl Horizontal {
    /// Keeps `measure` of a pod at `target`, within bounds.
    pub fn new(measure: Measure, target: f64, bounds: (u32, u32)) -> Self {
        let (behaviour, totals) = (Behaviour::default(), Totals::default());
        Self { measure, target, bounds, behaviour, totals, sums: (0.0, 0), ticks: 0, zero: None }
    }

    /// The same by KEDA, with its HTTP add-on, which tells of held requests.
    pub fn keda(target: f64, bounds: (u32, u32)) -> Self {
        Self { zero: Some(Zero { active: 0.0 }), ..Self::new(Measure::Concurrency, target, bounds) }
    }

    /// What KEDA does by itself; none where the autoscaler decides.
    fn zero(&mut self, seen: &Seen, load: f64) -> Option<u32> {
        let zero = self.zero.as_mut()?;
        if load > 0.0 || self.totals.new.arrived > 0.0 || seen.held_arrived > 0.0 {
            zero.active = seen.now;
        }
        if seen.current == 0 {
            // The add-on pushes its state, so that the first is ordered at once.
            return Some(u32::from(seen.held > 0.0));
        }
        let due = self.ticks.is_multiple_of(POLLING) && seen.now - zero.active > COOLDOWN;
        (due && self.bounds.0 == 0).then_some(0)
    }
}

impl Scaler for Horizontal {
    fn scale(&mut self, seen: &Seen) -> Option<u32> {
        self.ticks += 1;
        self.totals.take(seen);
        let told = self.totals.in_flight(seen);
        let load = match self.measure {
            Measure::Concurrency => told.map(|in_flight| in_flight + seen.held),
            Measure::Cpu => {
                told.map(|_| self.totals.new.busy * f64::from(seen.ready) / f64::from(self.totals.reporting))
            }
        };
        if let Some(own) = self.zero(seen, load.unwrap_or(0.0)) {
            return Some(own);
        }
        if let Some(load) = load {
            self.sums = (self.sums.0 + load, self.sums.1 + 1);
        }
        if !self.ticks.is_multiple_of(SYNC) {
            return None;
        }
        let (sum, count) = std::mem::take(&mut self.sums);
        if count == 0 || seen.ready == 0 {
            return None;
        }
        let each = sum / f64::from(count) / f64::from(seen.ready);
        let pod = Pod { usage: Some(each), request: 1.0, unready: false };
        let starting = Pod { usage: None, unready: true, ..pod };
        let pods: Vec<Pod> =
            (0..seen.current.max(seen.ready)).map(|number| if number < seen.ready { pod } else { starting }).collect();
        let wanted = replicas(&pods, seen.current, self.target, self.measure == Measure::Cpu)?;
        Some(self.behaviour.apply(seen.now, seen.current, wanted, self.bounds))
    }
}

#[cfg(test)]
mod tests {
    //! The values of its own tests (replica_calculator_test.go).

    use super::*;

    fn pods(levels: &[Option<f64>], request: f64, unready: &[usize]) -> Vec<Pod> {
        let pod =
            |(index, usage): (usize, &Option<f64>)| Pod { usage: *usage, request, unready: unready.contains(&index) };
        levels.iter().enumerate().map(pod).collect()
    }

    fn told(levels: &[f64]) -> Vec<Option<f64>> {
        levels.iter().copied().map(Some).collect()
    }

    #[test]
    fn processor_time_is_answered_as_in_its_own_tests() {
        // Levels in milli-cores, those not ready, replicas, target, expected.
        for (levels, unready, current, target, expected) in [
            (told(&[300.0, 500.0, 700.0]), &[][..], 3, 0.3, 5),
            (told(&[300.0, 500.0, 700.0]), &[0], 3, 0.3, 4),
            (told(&[400.0, 500.0, 700.0]), &[1, 2], 3, 0.3, 3),
            (told(&[500.0, 700.0]), &[], 2, 0.3, 4),
            (told(&[100.0, 300.0, 500.0, 250.0, 250.0]), &[], 5, 0.5, 3),
            (told(&[100.0, 300.0, 500.0, 250.0, 250.0]), &[3, 4], 5, 0.5, 2),
            (vec![Some(100.0), None, None, None, None], &[1, 2, 3, 4], 5, 0.5, 1),
            (told(&[1010.0, 1030.0, 1020.0]), &[], 3, 1.0, 3),
            (vec![Some(400.0), Some(95.0), None, None], &[], 4, 1.0, 3),
            (vec![Some(1000.0), None], &[], 2, 1.0, 2),
            (vec![Some(1900.0), None], &[], 2, 1.0, 2),
            (vec![Some(600.0), None], &[], 2, 1.0, 2),
            (vec![Some(100.0), Some(450.0), None], &[0], 3, 0.5, 3),
            (vec![Some(100.0), Some(2000.0), None], &[0], 3, 0.5, 4),
            (vec![Some(100.0), Some(100.0), Some(100.0), None], &[0], 4, 0.5, 3),
        ] {
            let found = replicas(&pods(&levels, 1000.0, unready), current, target, true);
            assert_eq!(found, Some(expected), "{levels:?} {unready:?}");
        }
        assert_eq!(replicas(&pods(&[None, None], 1000.0, &[]), 4, 1.0, true), None);
    }

    #[test]
    fn metrics_of_pods_are_answered_as_in_its_own_tests() {
        for (levels, current, target, expected) in [
            (vec![20.0, 10.0, 30.0], 3, 15.0, 4),
            (vec![50.0, 10.0, 30.0], 3, 15.0, 6),
            (vec![12.0, 12.0, 12.0, 12.0, 12.0], 5, 20.0, 3),
            (vec![20.0, 21.0, 21.0], 3, 20.0, 3),
            (vec![8.6], 1, 4.4, 2),
        ] {
            let found = replicas(&pods(&told(&levels), 1.0, &[]), current, target, false);
            assert_eq!(found, Some(expected), "{levels:?}");
        }
    }

    #[test]
    fn up_by_four_or_twice_in_a_quarter_minute_and_down_after_five_minutes() {
        let mut behaviour = Behaviour::default();
        assert_eq!(behaviour.apply(0.0, 1, 100, (1, 100)), 5);
        assert_eq!(behaviour.apply(5.0, 5, 100, (1, 100)), 5);
        assert_eq!(behaviour.apply(16.0, 5, 100, (1, 100)), 10);
        assert_eq!(behaviour.apply(32.0, 10, 3, (1, 100)), 10);
        assert_eq!(behaviour.apply(317.0, 10, 3, (1, 100)), 3);
    }
}
