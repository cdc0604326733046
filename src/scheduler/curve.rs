//! The learned latency curve: how long an execution takes, as a function of its work.
//!
//! Work is counted in rows, or in padded cells where requests of different lengths share a batch. The curve is a table of
//! *knots*, two to an octave (1, 2, 3, 4, 6, 8, 12, ...), each with the time that a batch of that size takes; between knots that were measured the time is a straight line. Nothing else is assumed of its form, so that steps
//! (a cache that overflows, a kernel that pads to eight) are learned as they are.
//!
//! Each execution moves the knots beside its size by a share of its residual `ln(took / predicted)`, clipped, so that one
//! outlier moves little; residuals that keep being clipped on the same side are a change, and are followed in large steps.
//! All other knots move along, each by a share that depends on its distance alone, since what slows one size mostly slows
//! all. The share is the same in calm and in change: what a disturbance moves up moves down by as much after it, and sizes
//! that do not run meanwhile end where they were. The table is kept monotone: more work never takes less time. A size that
//! looks slower per unit than a smaller one would never be tried again, so that it is forgotten when nothing has run near it
//! for long. One spread for all sizes, the 95th percentile of the same residuals,
//! makes the upper quantile of a prediction out of its centre (Robbins and Monro 1951: a step up by `0.95 s` where the
//! residual is above, down by `0.05 s` where it is below).

mod text;

use std::time::Duration;

/// Knots: two to an octave up to 2^31 units of work.
const KNOTS: usize = 62;

/// Share of a residual that the measured size learns at once: half of a change is followed in four batches.
const NEAR: f64 = 0.15;

/// What other sizes learn of what one learns: `COMMON` however far they are, and `NEARBY` falling by `FALLING` with each
/// knot. As a kernel it is positive definite, so that the moves of several sizes in turn cannot drift off together.
const COMMON: f64 = 0.5;
const NEARBY: f64 = 0.4;
const FALLING: f64 = 0.8;

/// Residuals count up to this; beyond it a batch was disturbed, unless the next ones are alike.
const CLIP: f64 = 0.35;

/// So many clipped residuals in a row on one side are a change and no disturbance: of batches with 1 % outliers, one in
/// a million runs is that long.
const CHANGED_AFTER: i32 = 3;

/// Share of a residual that the measured size learns in a change.
const CHANGED: f64 = 0.5;

/// Executions after which a size that looks slow, and that none of them was of, is forgotten. Trying it again costs a
/// thousandth, if it is slow.
const FORGOTTEN_AFTER: u64 = 1000;

/// The shortest and the longest time that is learned: a clock's step, and a day.
const SECONDS: std::ops::RangeInclusive<f64> = 1e-9..=86_400.0;

/// Step of the spread's quantile, in logarithms.
const SPREAD_STEP: f64 = 0.02;

/// The spread at first, and at most: 10 % above the centre, and three times the centre.
const SPREAD_FIRST: f64 = 0.1;
const SPREAD_MAX: f64 = 1.1;

/// The quantile that [`Curve::upper`] predicts.
const QUANTILE: f64 = 0.95;

/// Latency against work, learned. See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Seconds at each measured knot.
    seconds: [f64; KNOTS],
    /// Measurements that each knot has seen.
    seen: [u32; KNOTS],
    /// Executions before the last one of each knot.
    last: [u64; KNOTS],
    /// Executions.
    runs: u64,
    /// Which knots have been measured, as bits.
    measured: u64,
    /// ln of upper quantile over centre.
    spread: f64,
    /// Upper quantile over centre.
    factor: f64,
    /// Clipped residuals in a row, signed by their side.
    run: i32,
    /// The largest work that ever ran.
    largest: usize,
    /// The knot that was last measured for the first time and took much longer than predicted, and ln(seconds) of that.
    doubtful: Option<(usize, f64)>,
}

impl Default for Curve {
    fn default() -> Self {
        Self {
            seconds: [0.0; KNOTS],
            seen: [0; KNOTS],
            last: [0; KNOTS],
            runs: 0,
            measured: 0,
            spread: SPREAD_FIRST,
            factor: SPREAD_FIRST.exp(),
            run: 0,
            largest: 0,
            doubtful: None,
        }
    }
}

/// One measured size of a curve, for people and for files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Work of the batch.
    pub work: usize,
    /// The centre: what half of the batches of this size stay below.
    pub centre: Duration,
    /// What 95 % of them stay below.
    pub upper: Duration,
    /// How many executions it was learned from.
    pub seen: u32,
}

/// The work at `knot`.
const fn work_at(knot: usize) -> usize {
    let octave = knot.div_ceil(2);
    if knot % 2 == 1 {
        1 << octave
    } else if octave == 0 {
        1
    } else {
        3 << (octave - 1)
    }
}

/// The last knot at or below `work`.
fn knot_below(work: usize) -> usize {
    let work = work.max(1);
    let octave = work.ilog2() as usize;
    let knot = match octave {
        0 => 0,
        _ if work >> (octave - 1) == 3 => 2 * octave,
        _ => 2 * octave - 1,
    };
    knot.min(KNOTS - 1)
}

impl Curve {
    /// Whether anything was measured.
    pub fn is_empty(&self) -> bool {
        self.measured == 0
    }

    /// The largest work that ever ran; 0 where nothing did.
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// Learns that an execution of `work` took `took`.
    pub fn note(&mut self, work: usize, took: Duration) {
        let (work, took) = (work.max(1), took.as_secs_f64().clamp(*SECONDS.start(), *SECONDS.end()).ln());
        self.largest = self.largest.max(work);
        self.runs += 1;
        if self.runs.is_multiple_of(FORGOTTEN_AFTER) {
            self.forget_slow();
        }
        let below = knot_below(work);
        // The knot nearest in work learns; the one on the other side only as a neighbour.
        let knot =
            if below + 1 < KNOTS && work - work_at(below) > work_at(below + 1) - work { below + 1 } else { below };
        self.last[knot] = self.runs;
        if self.measured >> knot & 1 == 0 {
            self.first(knot, work, took);
            return;
        }
        if self.settle_doubt(knot, work, took) {
            return;
        }
        let residual = took - self.predict(work).ln();
        self.learn_spread(residual);
        let changed = self.changed(residual);
        // The first runs of a size say most about itself, and no more than others about the rest.
        let (own, common) = match changed {
            true => (CHANGED * residual, CHANGED * residual),
            false => (self.share(knot) * residual.clamp(-CLIP, CLIP), NEAR * residual.clamp(-CLIP, CLIP)),
        };
        for other in Bits(self.measured) {
            let step = if other == knot { own } else { SHARES[other.abs_diff(knot)] * common };
            self.set(other, self.seconds[other] * step.exp());
        }
        self.seen[knot] = self.seen[knot].saturating_add(1);
        self.keep_monotone(knot);
    }

    /// The time that `work` is predicted to take at the centre of its distribution; zero where nothing is known.
    pub fn centre(&self, work: usize) -> Duration {
        duration(self.predict(work))
    }

    /// The time that 95 % of executions of `work` are predicted to stay below; zero where nothing is known.
    pub fn upper(&self, work: usize) -> Duration {
        duration(self.predict(work) * self.factor)
    }

    /// [`Curve::centre`] and [`Curve::upper`] in seconds.
    pub(super) fn seconds(&self, work: usize) -> (f64, f64) {
        let centre = self.predict(work);
        (centre, centre * self.factor)
    }

    /// The most work whose [`Curve::upper`] is within `limit`: 0 where not even one unit is, [`usize::MAX`] where nothing
    /// is known.
    pub fn work_within(&self, limit: Duration) -> usize {
        if self.is_empty() {
            return usize::MAX;
        }
        let fits = |work: usize| self.upper(work) <= limit;
        if !fits(1) {
            return 0;
        }
        let (mut good, mut bad) = (1, work_at(KNOTS - 1));
        while bad > good + 1 {
            let middle = good + (bad - good) / 2;
            if fits(middle) { good = middle } else { bad = middle }
        }
        good
    }

    /// This curve, which was learned earlier, with what has just been `measured`: twice, so that one of a machine that has
    /// changed comes most of the way.
    #[must_use]
    pub fn corrected_by(mut self, measured: &Curve) -> Self {
        for _ in 0..2 {
            measured.points().for_each(|point| self.note(point.work, point.centre));
        }
        self
    }

    /// What was measured, by ascending work.
    pub fn points(&self) -> impl Iterator<Item = Point> + '_ {
        Bits(self.measured).map(|knot| Point {
            work: work_at(knot),
            centre: duration(self.seconds[knot]),
            upper: duration(self.seconds[knot] * self.factor),
            seen: self.seen[knot],
        })
    }
}

/// Learning.
impl Curve {
    /// The first measurement near `knot`, taken as it is but for the way from `work` to the knot. One that took much longer
    /// than predicted is believed that far only: a size that looks slow is not tried again, so that an outlier would stay.
    fn first(&mut self, knot: usize, work: usize, took: f64) {
        let mut log = took;
        if !self.is_empty() {
            let (here, there) = (self.predict(work).ln(), self.predict(work_at(knot)).ln());
            log = took.min(here + CLIP) + there - here;
            self.doubtful = (took > here + CLIP).then_some((knot, took + there - here)).or(self.doubtful);
        }
        self.set(knot, log.exp());
        self.seen[knot] = 1;
        self.measured |= 1 << knot;
        self.keep_monotone(knot);
    }

    /// The second measurement of a size whose first one was doubtful: the quicker of the two counts. Gives whether this was
    /// one.
    fn settle_doubt(&mut self, knot: usize, work: usize, took: f64) -> bool {
        let Some((_, first)) = self.doubtful.take_if(|(doubtful, _)| *doubtful == knot) else { return false };
        let shift = (self.seconds[knot] / self.predict(work)).ln();
        self.set(knot, first.min(took + shift).exp());
        self.seen[knot] = self.seen[knot].saturating_add(1);
        self.keep_monotone(knot);
        true
    }

    fn set(&mut self, knot: usize, seconds: f64) {
        self.seconds[knot] = seconds.clamp(*SECONDS.start(), *SECONDS.end());
    }

    /// Forgets sizes near which nothing has run for long and that look slower per unit than a smaller one.
    fn forget_slow(&mut self) {
        let mut quickest = f64::INFINITY;
        for knot in Bits(self.measured) {
            let each = self.seconds[knot] / work_at(knot) as f64;
            let is_stale = self.last[knot] + FORGOTTEN_AFTER < self.runs;
            if is_stale && each > quickest {
                self.measured &= !(1 << knot);
                self.seen[knot] = 0;
            } else {
                quickest = quickest.min(each);
            }
        }
    }

    /// The share of a residual that `knot` takes: all of the first ones, to their mean, then a constant one.
    fn share(&self, knot: usize) -> f64 {
        NEAR.max(1.0 / (f64::from(self.seen[knot]) + 1.0))
    }

    /// Whether `residual` is the latest of a run of large ones on the same side.
    fn changed(&mut self, residual: f64) -> bool {
        let side = if residual.abs() <= CLIP { 0 } else { residual.signum() as i32 };
        self.run = if self.run.signum() == side { self.run.saturating_add(side) } else { side };
        self.run.abs() >= CHANGED_AFTER
    }

    fn learn_spread(&mut self, residual: f64) {
        let step = if residual > self.spread { QUANTILE } else { QUANTILE - 1.0 };
        self.spread = (self.spread + SPREAD_STEP * step).clamp(0.0, SPREAD_MAX);
        self.factor = self.spread.exp();
    }

    /// `knot` has news: smaller sizes take no longer, larger ones no less, and so on from one to the next.
    fn keep_monotone(&mut self, knot: usize) {
        let (mut below, above) = (self.measured & !(u64::MAX << knot), self.measured & (u64::MAX << knot));
        let mut bound = self.seconds[knot];
        // Those further off have moved too, each by a share of its own.
        while let Some(other) = highest(below) {
            below &= !(1 << other);
            if self.seconds[other] > bound {
                self.set(other, bound);
            }
            bound = self.seconds[other];
        }
        for other in Bits(above) {
            if other > knot && self.seconds[other] < bound {
                self.set(other, bound);
            }
            bound = self.seconds[other];
        }
    }

    /// Seconds that `work` units are predicted to take; 0 where nothing was measured.
    fn predict(&self, work: usize) -> f64 {
        let work = work.max(1);
        let knot = knot_below(work);
        let below = u64::MAX >> (63 - knot);
        match (highest(self.measured & below), lowest(self.measured & !below)) {
            (Some(low), _) if work_at(low) == work => self.seconds[low],
            (Some(low), Some(high)) => self.line(low, high, work as f64),
            (Some(low), None) => self.beyond(low, work as f64),
            // Fewer rows than ever ran: as long as the fewest that did.
            (None, Some(high)) => self.seconds[high],
            (None, None) => 0.0,
        }
    }

    /// Seconds at `work` on the line through two knots.
    fn line(&self, low: usize, high: usize, work: f64) -> f64 {
        let (from, to) = (work_at(low) as f64, work_at(high) as f64);
        let (start, end) = (self.seconds[low], self.seconds[high]);
        start + (end - start) * (work - from) / (to - from)
    }

    /// Seconds at `work` beyond the last knot: on along the last line, but at least with half the mean cost of a unit, since
    /// what looks flat ends somewhere, and exactly that where there is no line yet, since what nobody tries is never learned.
    fn beyond(&self, last: usize, work: f64) -> f64 {
        let (from, start) = (work_at(last) as f64, self.seconds[last]);
        let mean = start / from;
        let slope = highest(self.measured & !(1 << last)).map_or(mean / 2.0, |before| {
            let slope = (start - self.seconds[before]) / (from - work_at(before) as f64);
            slope.max(mean / 2.0)
        });
        start + slope * (work - from)
    }
}

/// By distance in knots, the share of a move that a size takes part in.
const SHARES: [f64; KNOTS] = {
    let (mut shares, mut nearby, mut distance) = ([1.0; KNOTS], NEARBY, 1);
    while distance < KNOTS {
        nearby *= FALLING;
        shares[distance] = COMMON + nearby;
        distance += 1;
    }
    shares
};

/// A prediction may be of more work than anything ever did.
fn duration(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.min(1e9))
}

fn highest(bits: u64) -> Option<usize> {
    (bits != 0).then(|| 63 - bits.leading_zeros() as usize)
}

fn lowest(bits: u64) -> Option<usize> {
    (bits != 0).then(|| bits.trailing_zeros() as usize)
}

/// The positions of the ones, ascending.
struct Bits(u64);

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let position = lowest(self.0)?;
        self.0 &= self.0 - 1;
        Some(position)
    }
}

#[cfg(test)]
mod tests;
