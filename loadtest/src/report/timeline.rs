//! The window cut into slots, so that bursts, stalls and recoveries can be seen.

use std::time::Duration;

use serde::Serialize;

use super::latencies::Latencies;
use super::outcome::{Class, Outcomes};

/// The finest slot, and how many there are at most.
const SLOT_MIN: Duration = Duration::from_millis(100);
const SLOTS_MAX: u32 = 120;

/// One stretch of the window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Slot {
    /// Seconds from the window's begin.
    pub(crate) at: f64,
    /// How long it is, in seconds.
    pub(crate) seconds: f64,
    /// The requests that belong to it, by class: those due in it (open loop) or ended in it (closed loop).
    pub(crate) outcomes: Outcomes,
    /// Median latency of its answers in microseconds.
    pub(crate) p50_us: f64,
    /// Their 99th percentile.
    pub(crate) p99_us: f64,
}

/// Collects slots.
pub(crate) struct Timeline {
    window: u64,
    width: u64,
    slots: Vec<(Outcomes, Latencies)>,
}

impl Timeline {
    /// Slots of equal width over `window`.
    pub(crate) fn new(window: Duration) -> Self {
        let finest = (window.as_nanos() / SLOT_MIN.as_nanos()).clamp(1, u128::from(SLOTS_MAX)) as u64;
        let window = window.as_nanos() as u64;
        let width = window.div_ceil(finest).max(1);
        let count = window.div_ceil(width).max(1);
        Self { window, width, slots: (0..count).map(|_| (Outcomes::default(), Latencies::coarse())).collect() }
    }

    /// Adds `count` requests of a class that belong to `at` nanoseconds into the window, each after `nanos`.
    pub(crate) fn add(&mut self, at: u64, class: Class, nanos: u64) {
        let last = self.slots.len() - 1;
        let (outcomes, latencies) = &mut self.slots[((at / self.width) as usize).min(last)];
        outcomes.add(class, 1);
        if matches!(class, Class::Good | Class::Late) {
            latencies.record(nanos);
        }
    }

    /// The slots.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let slot = |(index, (outcomes, latencies)): (usize, &(Outcomes, Latencies))| {
            let at = index as u64 * self.width;
            Slot {
                at: at as f64 / 1e9,
                seconds: self.width.min(self.window.saturating_sub(at)) as f64 / 1e9,
                outcomes: *outcomes,
                p50_us: latencies.quantile_us(0.5),
                p99_us: latencies.quantile_us(0.99),
            }
        };
        self.slots.iter().enumerate().map(slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_cover_the_window_and_what_comes_after_it_counts_in_the_last() {
        let mut timeline = Timeline::new(Duration::from_millis(250));
        timeline.add(0, Class::Good, 5_000_000);
        timeline.add(130_000_000, Class::Late, 7_000_000);
        timeline.add(400_000_000, Class::Failed, 1);
        let slots = timeline.slots();
        assert_eq!(slots.len(), 2);
        assert!((slots.iter().map(|slot| slot.seconds).sum::<f64>() - 0.25).abs() < 1e-9);
        assert_eq!((slots[0].outcomes.good, slots[1].outcomes.late, slots[1].outcomes.failed), (1, 1, 1));
        assert!((slots[1].p99_us / 7_000.0 - 1.0).abs() < 0.02, "a failure has no latency: {}", slots[1].p99_us);
        assert_eq!(Timeline::new(Duration::from_secs(3600)).slots().len(), 120);
        assert_eq!(Timeline::new(Duration::ZERO).slots().len(), 1);
    }
}
