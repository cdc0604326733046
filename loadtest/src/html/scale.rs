//! Axes: which numbers they carry and where.

/// Maps values to a length on the page.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    from: f64,
    to: f64,
}

impl Scale {
    /// From zero to a round number above `high`.
    pub(super) fn linear(high: f64, from: f64, to: f64) -> Self {
        let high = if high > 0.0 { high } else { 1.0 };
        let step = step(high);
        Self { low: 0.0, high: (high / step).ceil() * step, logarithmic: false, from, to }
    }

    /// From zero to exactly `high`.
    pub(super) fn exact(high: f64, from: f64, to: f64) -> Self {
        Self { low: 0.0, high: if high > 0.0 { high } else { 1.0 }, logarithmic: false, from, to }
    }

    /// Logarithmic, with some air around values above zero.
    pub(super) fn logarithmic(low: f64, high: f64, from: f64, to: f64) -> Self {
        let low = if low > 0.0 && low.is_finite() { low } else { 1.0 };
        let high = high.max(low);
        Self { low: low / 1.15, high: high * 1.15, logarithmic: true, from, to }
    }

    /// The value at its end.
    pub(super) fn high(&self) -> f64 {
        self.high
    }

    /// Where a value lies; values outside lie on the edge.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round values to write beside the axis.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if !self.logarithmic {
            let step = step(self.high);
            return (0..=12).map(|n| f64::from(n) * step).take_while(|tick| *tick <= self.high * 1.0001).collect();
        }
        let decades = (self.high / self.low).log10();
        let factors: &[f64] = if decades > 4.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let all = (first..=last).flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
        all.filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }
}

/// A round step that cuts `high` into four to ten.
fn step(high: f64) -> f64 {
    let power = 10f64.powf((high / 4.0).log10().floor());
    let factors = [5.0, 2.5, 2.0, 1.0];
    factors.into_iter().find(|factor| high / (factor * power) >= 3.99).unwrap_or(1.0) * power
}

/// A number as short as it may be on an axis.
pub(super) fn short(value: f64) -> String {
    let trim = |text: String| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    };
    match value.abs() {
        size if size >= 1e6 => trim(format!("{:.2}", value / 1e6)) + "M",
        size if size >= 10_000.0 => trim(format!("{:.1}", value / 1e3)) + "k",
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 1.0 => trim(format!("{value:.2}")),
        size if size >= 0.001 => trim(format!("{value:.3}")),
        0.0 => "0".to_owned(),
        _ => format!("{value:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_few_and_within_the_axis() {
        for high in [0.07, 1.0, 3.0, 47.0, 99.0, 100.0, 1234.0, 87_000.0] {
            let scale = Scale::linear(high, 0.0, 100.0);
            let ticks = scale.ticks();
            assert!((4..=12).contains(&ticks.len()), "{high}: {ticks:?}");
            assert!(*ticks.last().unwrap() >= high * 0.999, "{high}: {ticks:?}");
        }
        let ticks = Scale::logarithmic(0.3, 80.0, 0.0, 100.0).ticks();
        assert_eq!(ticks, [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
    }

    #[test]
    fn values_lie_between_the_ends_and_beyond_them_on_the_edge() {
        let scale = Scale::linear(100.0, 300.0, 0.0);
        assert_eq!((scale.at(0.0), scale.at(50.0), scale.at(1e9)), (300.0, 150.0, 0.0));
        let scale = Scale::logarithmic(1.0, 100.0, 0.0, 100.0);
        assert!((scale.at(10.0) - 50.0).abs() < 1e-9);
        assert_eq!(scale.at(0.0), 0.0);
        assert!(Scale::logarithmic(f64::INFINITY, 0.0, 0.0, 1.0).at(1.0).is_finite());
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.25, 1.0, 12.5, 250.0, 1000.0, 12_000.0, 2.5e6].map(short);
        assert_eq!(shown, ["0", "0.25", "1", "12.5", "250", "1000", "12k", "2.5M"]);
    }
}
