//! Histograms of latencies (Gil Tene's HdrHistogram) and the quantiles that are told of them.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies above this are recorded as this much.
const LATENCY_MAX: Duration = Duration::from_secs(300);
/// Bins of a drawn histogram for each power of ten.
const BINS_PER_DECADE: f64 = 20.0;

/// Latencies with three significant digits, from a microsecond up.
#[derive(Clone)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// An empty histogram.
    pub(crate) fn new() -> Self {
        Self::with_digits(3)
    }

    /// An empty histogram with two significant digits, an eighth of the size.
    pub(crate) fn coarse() -> Self {
        Self::with_digits(2)
    }

    fn with_digits(digits: u8) -> Self {
        let bounds = Histogram::new_with_bounds(1_000, LATENCY_MAX.as_nanos() as u64, digits);
        Self(bounds.expect("constant bounds are valid"))
    }

    /// Adds one latency in nanoseconds.
    pub(crate) fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    /// Adds all that another run recorded.
    pub(crate) fn merge(&mut self, other: &Self) {
        // Both have the same bounds, so that nothing of the other lies outside.
        let _ = self.0.add(&other.0);
    }

    /// How many were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency in microseconds that this share (0..=1) of the requests did not exceed; 0 when empty.
    pub(crate) fn quantile_us(&self, quantile: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.value_at_quantile(quantile) as f64 / 1e3 }
    }

    /// The longest latency in microseconds.
    pub(crate) fn max_us(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }

    /// HdrHistogram's correction for a closed loop: a request that took several intervals hid those that would have
    /// been sent meanwhile, which are added with the latencies they would have had.
    pub(crate) fn corrected(&self, interval: Duration) -> Self {
        let interval = interval.as_nanos() as u64;
        if interval == 0 { self.clone() } else { Self(self.0.clone_correct(interval)) }
    }

    /// What a report tells.
    pub(crate) fn quantiles(&self) -> Quantiles {
        Quantiles {
            count: self.count(),
            mean_us: if self.0.is_empty() { 0.0 } else { self.0.mean() / 1e3 },
            p50_us: self.quantile_us(0.5),
            p90_us: self.quantile_us(0.9),
            p95_us: self.quantile_us(0.95),
            p99_us: self.quantile_us(0.99),
            p999_us: self.quantile_us(0.999),
            max_us: self.max_us(),
        }
    }

    /// Counts in bins of equal width on a logarithmic scale, from the first that is not empty to the last.
    pub(crate) fn bins(&self) -> Vec<Bin> {
        let mut bins: Vec<(i32, u64)> = Vec::new();
        for value in self.0.iter_recorded() {
            let micros = value.value_iterated_to() as f64 / 1e3;
            let bin = (micros.log10() * BINS_PER_DECADE).floor() as i32;
            let next = bins.last().map_or(bin, |(last, _)| last + 1);
            bins.extend((next..=bin).map(|empty| (empty, 0)));
            if let Some((_, count)) = bins.last_mut() {
                *count += value.count_at_value();
            }
        }
        let edge = |bin: i32| 10f64.powf(f64::from(bin) / BINS_PER_DECADE);
        bins.into_iter().map(|(bin, count)| Bin { from_us: edge(bin), to_us: edge(bin + 1), count }).collect()
    }
}

/// Quantiles in microseconds; all zero when nothing was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    /// How many latencies they are of.
    pub(crate) count: u64,
    /// The mean.
    pub(crate) mean_us: f64,
    /// The median.
    pub(crate) p50_us: f64,
    /// 90 % took no longer.
    pub(crate) p90_us: f64,
    /// 95 % took no longer.
    pub(crate) p95_us: f64,
    /// 99 % took no longer.
    pub(crate) p99_us: f64,
    /// 99.9 % took no longer.
    pub(crate) p999_us: f64,
    /// The longest.
    pub(crate) max_us: f64,
}

/// A bar of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Bin {
    /// Latencies from this many microseconds,
    pub(crate) from_us: f64,
    /// below this many,
    pub(crate) to_us: f64,
    /// were this many.
    pub(crate) count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(micros: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new();
        micros.into_iter().for_each(|micros| latencies.record(micros * 1_000));
        latencies
    }

    #[test]
    fn quantiles_are_within_a_thousandth_of_the_truth() {
        let latencies = filled(1..=10_000);
        for (quantile, micros) in [(0.5, 5_000.0), (0.9, 9_000.0), (0.99, 9_900.0), (0.999, 9_990.0)] {
            let got = latencies.quantile_us(quantile);
            assert!((got - micros).abs() / micros < 2e-3, "{quantile}: {got} is not {micros}");
        }
        assert!((latencies.max_us() - 10_000.0).abs() < 20.0);
        assert_eq!(latencies.quantiles().count, 10_000);
    }

    #[test]
    fn a_latency_beyond_the_bounds_is_kept_at_the_bound() {
        let mut latencies = Latencies::new();
        latencies.record(u64::MAX);
        latencies.record(1);
        assert!(latencies.max_us() >= 300e6 * 0.999);
        assert_eq!(Latencies::new().quantile_us(0.5), 0.0);
        assert_eq!(Latencies::new().quantiles().mean_us, 0.0);
    }

    #[test]
    fn the_correction_adds_the_requests_that_a_stall_kept_from_being_sent() {
        // 99 answers in 1 ms each, and one after 100 ms: sent every millisecond, 99 more would have waited.
        let latencies = filled(std::iter::repeat_n(1_000, 99).chain([100_000]));
        assert!(latencies.quantile_us(0.9) < 1_100.0);
        let corrected = latencies.corrected(Duration::from_millis(1));
        assert!((197..=199).contains(&corrected.count()), "{}", corrected.count());
        assert!((corrected.quantile_us(0.9) - 80_000.0).abs() < 2_000.0, "{}", corrected.quantile_us(0.9));
        assert_eq!(latencies.corrected(Duration::ZERO).count(), 100);
    }

    #[test]
    fn merged_latencies_are_those_of_both() {
        let mut both = filled(1..=50);
        both.merge(&filled(51..=100));
        assert_eq!((both.count(), both.quantile_us(0.5)), (100, filled(1..=100).quantile_us(0.5)));
        both.merge(&filled([400_000_000]));
        assert_eq!(both.count(), 101);
    }

    #[test]
    fn bins_cover_every_latency_without_gaps() {
        let bins = filled([10, 11, 12, 500, 20_000]).bins();
        assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), 5);
        assert!(bins.windows(2).all(|pair| pair[0].to_us == pair[1].from_us));
        assert!(bins[0].count > 0 && bins[bins.len() - 1].count > 0);
        assert!(Latencies::new().bins().is_empty());
    }
}
