//! Many instances of one thread, or all threads for one: what each would serve, and which is better.

use std::time::Duration;

use crate::scheduler::{BatchLimits, Curve, capacity_of};

/// What a choice of threads gives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    /// Rows per second within the objective.
    capacity: f64,
    /// Time of a single row, and the objective that it is seen against.
    alone: Duration,
    objective: Duration,
}

/// Capacities that differ by less are alike: warm-ups measure no better.
const ALIKE: f64 = 1.1;

/// How much quicker a single row must be where capacities are alike, and the share of the objective from which on that
/// matters: what takes less is quick enough.
const QUICKER: f64 = 1.3;
const NOTICED: f64 = 0.1;

impl Offer {
    pub(super) fn of(curve: &Curve, limits: &BatchLimits, instances: usize, speedup: f64) -> Self {
        // The first run was of one row, which is several units of work where rows are padded.
        let unit = curve.points().next().map_or(1, |point| point.work);
        let capacity = capacity_of(curve, limits, unit, instances, speedup, Duration::ZERO).rows_per_second;
        Self { capacity, alone: curve.centre(unit).div_f64(speedup), objective: limits.objective }
    }

    /// More is served within the objective; or as much, and a row alone is answered clearly sooner.
    pub(super) fn is_better_than(&self, other: &Offer) -> bool {
        let more = self.capacity > other.capacity * ALIKE;
        let as_much = self.capacity * ALIKE >= other.capacity;
        let noticed = other.alone > other.objective.mul_f64(NOTICED);
        more || as_much && noticed && self.alone.mul_f64(QUICKER) < other.alone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(fixed: u64, each: u64) -> Curve {
        let mut curve = Curve::default();
        for rows in [1, 2, 4, 8] {
            curve.note(rows, Duration::from_micros(fixed + each * rows as u64));
        }
        curve
    }

    fn offers(curve: &Curve, speedup: f64) -> (Offer, Offer) {
        let limits = BatchLimits::default();
        (Offer::of(curve, &limits, 2, 1.0), Offer::of(curve, &limits, 1, speedup))
    }

    #[test]
    fn many_instances_serve_a_model_that_is_quick_alone_and_threads_one_that_would_miss_its_objective() {
        let (narrow, wide) = offers(&linear(100, 1000), 1.6);
        assert!(!wide.is_better_than(&narrow), "{narrow:?} {wide:?}");
        let (narrow, wide) = offers(&linear(0, 85_000), 1.6);
        assert!(wide.is_better_than(&narrow), "{narrow:?} {wide:?}");
        // Beyond its objective either way: then at least soon.
        let (narrow, wide) = offers(&linear(0, 900_000), 1.6);
        assert!(wide.is_better_than(&narrow), "{narrow:?} {wide:?}");
        let (narrow, wide) = offers(&linear(0, 900_000), 1.1);
        assert!(!wide.is_better_than(&narrow), "{narrow:?} {wide:?}");
    }

    #[test]
    fn a_model_that_is_quick_enough_is_not_loaded_twice() {
        for (fixed, each) in [(20, 5), (100, 50), (1_000, 200)] {
            let (narrow, ideal) = offers(&linear(fixed, each), 2.0);
            assert!(!ideal.is_better_than(&narrow), "{narrow:?} {ideal:?}");
        }
    }
}
