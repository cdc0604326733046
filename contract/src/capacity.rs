//! What one replica can serve within a latency objective, worked out from a learned latency curve.
//!
//! Rows arrive at a rate `r`, and run in batches of `b` rows on `m` instances. Of a request's latency the curve tells how
//! long its batch runs, `U(b)` in the worst case that counts; before that, the batch is formed while the one before runs, for
//! `min(U(b), b / r)` as the scheduler's own rule has it (`scheduler::policy::largest`), and waits for an instance. The mean
//! of that wait is
//!
//! ```text
//! W = (Ca + Cs) / 2 * u^(sqrt(2 (m + 1)) - 1) / (m (1 - u)) * T(b),    u = r T(b) / (b m)
//! ```
//!
//! (Sakasegawa 1977, for any arrivals and any service on `m` servers), where `T(b)` is the centre of a batch's time, `Ca` the
//! squared coefficient of variation of the times between batches, which is that of the rows divided by `b` since variations
//! of `b` of them average out, and `Cs` that of a batch's time, from a logarithmic normal distribution with the curve's two
//! quantiles. Waits in a queue that is nearly full are distributed exponentially (Kingman 1961), so that 99 % are below
//! `ln(100) W`. The capacity is the highest rate, over all batch sizes that were measured, at which the three together fit
//! the objective.

use std::time::Duration;

/// Objectives are met to this share: the rest is for decoding, the hand-off and the answer.
pub const USABLE: f64 = 0.97;

/// ln(100): how far above the mean 99 % of exponentially distributed waits stay.
const P99_OVER_MEAN: f64 = 4.605;

/// The 95th percentile of a normal distribution, in standard deviations.
const P95_DEVIATIONS: f64 = 1.645;

/// Halvings of an interval, more than a rate is known to.
const HALVINGS: usize = 40;

/// One size of a latency curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Work of a batch, in the curve's units.
    pub work: usize,
    /// The time that half of the batches of this size stay below.
    pub centre: Duration,
    /// The time that 95 % of them stay below.
    pub upper: Duration,
}

/// Under what the rate is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// The latency objective.
    pub objective: Duration,
    /// Batches that may run at once.
    pub instances: usize,
    /// Rows that requests joined into one batch may have together; 1 where they are not joined.
    pub rows_max: usize,
    /// Work of one row, in the curve's units.
    pub unit: usize,
    /// Squared coefficient of variation of the times between arrivals: 1 for independent callers (Poisson), 16 for heavy
    /// bursts.
    pub burstiness: f64,
}

impl Default for Conditions {
    fn default() -> Self {
        let objective = Duration::from_millis(100);
        Self { objective, instances: 1, rows_max: usize::MAX, unit: 1, burstiness: 1.0 }
    }
}

/// What can be served.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Capacity {
    /// Rows per second within the objective; 0 where not even one row fits it, or nothing was measured.
    pub rows_per_second: f64,
    /// Rows of the batches that reach it; 0 where nothing does.
    pub batch: usize,
}

/// The highest rate under `conditions` of a version that has the curve `points`, by ascending work. Nothing is promised of
/// batches larger than the largest point.
pub fn capacity(points: &[Point], conditions: &Conditions) -> Capacity {
    let unit = conditions.unit.max(1);
    let Some(largest) = points.last().map(|point| (point.work / unit).max(1)) else { return Capacity::default() };
    let mut best = Capacity::default();
    for batch in sizes(largest.min(conditions.rows_max.max(1))) {
        let Some(size) = Size::at(points, batch, unit) else { continue };
        let rows_per_second = size.rate_within(conditions);
        // Of sizes that are alike the smallest, which answers sooner.
        if rows_per_second > best.rows_per_second * 1.001 {
            best = Capacity { rows_per_second, batch };
        }
    }
    best
}

/// Batch sizes that are looked at: two to an octave, and `largest` itself.
pub fn sizes(largest: usize) -> impl Iterator<Item = usize> {
    let octaves = (0..usize::BITS - 1).flat_map(|octave| [1_usize << octave, (1 << octave) + (1 << octave) / 2]);
    let steps = octaves.filter(|&size| size != 1).take_while(move |&size| size < largest);
    let first = (largest > 1).then_some(1);
    first.into_iter().chain(steps).chain([largest])
}

/// The curve `points` where a row of `unit` work takes `each` of each thread of an execution beside it. Where `m` threads run `k`
/// executions at once, the cores have this to do too: a batch of `b` rows that keeps its threads for `l(b)` keeps them, all in all,
/// for `l(b) + b each`, so that it counts as a longer execution.
pub fn with_overhead(points: &[Point], each: Duration, unit: usize) -> Vec<Point> {
    let add = |point: &Point| {
        let more = each.mul_f64(point.work as f64 / unit.max(1) as f64);
        Point { work: point.work, centre: point.centre + more, upper: point.upper + more }
    };
    points.iter().map(add).collect()
}

/// A batch size and what it takes, in seconds.
struct Size {
    rows: f64,
    centre: f64,
    upper: f64,
}

impl Size {
    /// What `rows` rows take, on the line between the points beside them.
    fn at(points: &[Point], rows: usize, unit: usize) -> Option<Self> {
        let work = rows.saturating_mul(unit);
        let above = points.partition_point(|point| point.work < work);
        let high = points.get(above)?;
        let low = above.checked_sub(1).and_then(|below| points.get(below)).unwrap_or(high);
        let span = high.work.saturating_sub(low.work).max(1) as f64;
        let share = work.saturating_sub(low.work) as f64 / span;
        let between = |from: Duration, to: Duration| {
            let (from, to) = (from.as_secs_f64(), to.as_secs_f64());
            from + (to - from) * share.min(1.0)
        };
        let centre = between(low.centre, high.centre).max(1e-9);
        Some(Self { rows: rows as f64, centre, upper: between(low.upper, high.upper).max(centre) })
    }

    /// The highest rate at which the latency fits the objective.
    fn rate_within(&self, conditions: &Conditions) -> f64 {
        let instances = conditions.instances.max(1) as f64;
        let allowed = conditions.objective.as_secs_f64() * USABLE;
        let fits = |rate: f64| self.latency(rate, instances, conditions.burstiness) <= allowed;
        let most = self.rows / self.centre * instances;
        // Up to here a batch is formed while another one runs, and latency grows with the rate; beyond, batches fill sooner
        // the more arrive, until the wait for an instance outweighs it.
        let formed = (self.rows / self.upper).min(most);
        let quickest = self.quickest(formed, most, instances, conditions.burstiness);
        if fits(quickest) {
            return highest(quickest, most, fits);
        }
        if fits(formed * f64::EPSILON) { highest(0.0, formed, fits) } else { 0.0 }
    }

    /// The rate from `from` to `to` at which latency is least; it is a sum of convex functions there.
    fn quickest(&self, from: f64, to: f64, instances: f64, burstiness: f64) -> f64 {
        let (mut low, mut high) = (from, to);
        for _ in 0..HALVINGS {
            let third = (high - low) / 3.0;
            let (left, right) = (low + third, high - third);
            if self.latency(left, instances, burstiness) <= self.latency(right, instances, burstiness) {
                high = right;
            } else {
                low = left;
            }
        }
        low
    }

    /// Seconds that 99 % of requests stay below at `rate` rows per second; see the module.
    fn latency(&self, rate: f64, instances: f64, burstiness: f64) -> f64 {
        let busy = rate * self.centre / (self.rows * instances);
        if busy >= 1.0 {
            return f64::INFINITY;
        }
        let deviation = (self.upper / self.centre).ln() / P95_DEVIATIONS;
        let variation = (burstiness.max(0.0) / self.rows + (deviation * deviation).exp_m1()) / 2.0;
        let queued = busy.powf((2.0 * (instances + 1.0)).sqrt() - 1.0) / (instances * (1.0 - busy));
        // A row that runs alone waits for no company.
        let formed = if self.rows > 1.0 { self.upper.min(self.rows / rate) } else { 0.0 };
        formed + variation * queued * self.centre * P99_OVER_MEAN + self.upper
    }
}

/// The highest rate below `most` for which `fits` holds, which it does at `good`, and not again once it no longer does.
fn highest(good: f64, most: f64, fits: impl Fn(f64) -> bool) -> f64 {
    let (mut good, mut bad) = (good, most);
    for _ in 0..HALVINGS {
        let middle = (good + bad) / 2.0;
        if fits(middle) { good = middle } else { bad = middle }
    }
    good
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A model that takes `fixed` and `each` for every row, in microseconds, measured up to `largest` rows.
    fn model(fixed: u64, each: u64, largest: usize) -> Vec<Point> {
        let point = |work: usize| {
            let centre = Duration::from_micros(fixed + each * work as u64);
            Point { work, centre, upper: centre.mul_f64(1.1) }
        };
        sizes(largest).map(point).collect()
    }

    fn within(objective: u64) -> Conditions {
        Conditions { objective: Duration::from_millis(objective), ..Conditions::default() }
    }

    #[test]
    fn nothing_is_promised_of_what_nobody_measured_or_what_takes_too_long() {
        assert_eq!(capacity(&[], &within(100)), Capacity::default());
        assert_eq!(capacity(&model(200_000, 0, 8), &within(100)), Capacity::default());
        assert_eq!(capacity(&model(10, 1, 8), &within(0)), Capacity::default());
        let zero = Point { work: 1, centre: Duration::ZERO, upper: Duration::ZERO };
        assert!(capacity(&[zero], &within(100)).rows_per_second.is_finite());
    }

    #[test]
    fn a_fixed_cost_is_shared_by_large_batches_and_a_cost_by_row_is_not() {
        let fixed = capacity(&model(10_000, 100, 64), &within(100));
        assert_eq!(fixed.batch, 64);
        assert!((3200.0..64.0 / 0.0164).contains(&fixed.rows_per_second), "{fixed:?}");
        let linear = capacity(&model(0, 1000, 64), &within(100));
        assert!((850.0..1000.0).contains(&linear.rows_per_second), "{linear:?}");
        let pinned = capacity(&model(10_000, 100, 64), &Conditions { rows_max: 1, ..within(100) });
        assert_eq!(pinned.batch, 1);
        assert!(pinned.rows_per_second < 100.0, "{pinned:?}");
    }

    #[test]
    fn a_tighter_objective_asks_for_smaller_batches() {
        let model = model(1000, 500, 256);
        let batches: Vec<usize> = [5, 20, 50, 200].map(|objective| capacity(&model, &within(objective)).batch).into();
        assert!(batches.is_sorted() && batches[0] < batches[3], "{batches:?}");
    }

    #[test]
    fn work_of_several_units_a_row_counts_as_such() {
        let of_cells = model(1000, 10, 1024);
        let conditions = Conditions { unit: 16, ..within(50) };
        let rows = capacity(&of_cells, &conditions);
        let same = capacity(&model(1000, 160, 64), &within(50));
        assert!((rows.rows_per_second / same.rows_per_second - 1.0).abs() < 0.01, "{rows:?} {same:?}");
    }

    #[test]
    fn what_a_row_takes_beside_counts_as_a_longer_execution() {
        let millis = Duration::from_millis;
        let points = [
            Point { work: 4, centre: millis(1), upper: millis(2) },
            Point { work: 8, centre: millis(2), upper: millis(3) },
        ];
        let more = with_overhead(&points, Duration::from_micros(50), 2);
        assert_eq!(more[0], Point { work: 4, centre: Duration::from_micros(1100), upper: Duration::from_micros(2100) });
        assert_eq!(more[1].centre, Duration::from_micros(2200));
    }

    #[test]
    fn sizes_are_two_to_an_octave_and_end_with_the_largest() {
        assert_eq!(sizes(1).collect::<Vec<_>>(), [1]);
        assert_eq!(sizes(2).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(sizes(20).collect::<Vec<_>>(), [1, 2, 3, 4, 6, 8, 12, 16, 20]);
    }

    proptest! {
        #[test]
        fn more_time_and_more_instances_never_serve_less_and_bursts_never_more(
            fixed in 0_u64..20_000, each in 1_u64..5_000, largest in 1_usize..300, objective in 1_u64..500,
            instances in 1_usize..9, burstiness in 0.0..20.0,
        ) {
            let points = model(fixed, each, largest);
            let conditions = Conditions { instances, burstiness, ..within(objective) };
            let rate = |conditions: Conditions| capacity(&points, &conditions).rows_per_second;
            let base = rate(conditions);
            let not_below = |other: f64| other >= base * 0.998;
            let patient = Conditions { objective: conditions.objective * 2, ..conditions };
            let wider = Conditions { instances: instances + 1, ..conditions };
            let calmer = Conditions { burstiness: burstiness / 2.0, ..conditions };
            for easier in [patient, wider, calmer] {
                prop_assert!(not_below(rate(easier)), "{:?} {} {}", easier, base, rate(easier));
            }
            let fastest = points.iter().map(|point| point.work as f64 / point.centre.as_secs_f64()).fold(0.0, f64::max);
            prop_assert!(base <= fastest * instances as f64 * 1.001, "{base} {fastest}");
        }
    }
}
