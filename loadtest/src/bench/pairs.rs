//! Windows with and without something, in turn: how much longer the tail is with it, and how much it would seem to change where nothing
//! does.
//!
//! Of every three windows the outer two are without, and their ratio is the null: tails of the same load, one after the other. What a
//! ratio is worth is told by drawing the triples again with replacement (Efron, "Bootstrap Methods: Another Look at the Jackknife",
//! 1979), for the null as for the figure. There are two ways to make a figure of many windows, and the one counts whose null
//! is the narrower.

use tensorgate_random::Random;

use super::open::{Pool, Take};
use super::table::{Row, Target};
use crate::report::Report;
use crate::report::latencies::Latencies;

/// How often the triples are drawn again.
const DRAWS: usize = 300;
/// What is told of the draws: nine in ten of them lie between.
const BETWEEN: (f64, f64) = (0.05, 0.95);

/// What three windows have shown: without, with, and without again.
type Triple = [Latencies; 3];

/// All triples of one row.
pub(super) struct Pairs {
    triples: Vec<Triple>,
    with: Pool,
    without: Pool,
}

/// How a figure is made of triples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// The median of the ratios of windows next to each other.
    Median,
    /// The ratio of the tails of all windows of a kind.
    Together,
}

/// What is held against what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// Without against with.
    Figure,
    /// Without against without.
    Null,
}

/// A ratio, and what it would come to with other draws of the same windows.
#[derive(Clone, Copy, Debug)]
struct Ratio {
    is: f64,
    low: f64,
    high: f64,
}

impl Ratio {
    fn told(&self) -> String {
        format!("{:.1} % ({:.1} to {:.1})", 100.0 * self.is, 100.0 * self.low, 100.0 * self.high)
    }
}

impl Pairs {
    /// Without any window.
    pub(super) fn new() -> Self {
        Self { triples: Vec::new(), with: Pool::new(), without: Pool::new() }
    }

    /// Adds three windows: without, with, and without again.
    pub(super) fn add(&mut self, windows: [&Report; 3]) {
        self.add_some(windows, windows.map(|window| window.latencies.clone()));
    }

    /// Adds three windows of which only these latencies count.
    pub(super) fn add_some(&mut self, [before, with, after]: [&Report; 3], counted: Triple) {
        self.with.add(with);
        [before, after].into_iter().for_each(|report| self.without.add(report));
        self.triples.push(counted);
    }

    /// The way that counts, and its null.
    fn method(&self) -> (Method, Ratio) {
        let nulls = [Method::Median, Method::Together].map(|method| (method, self.ratio(method, Side::Null)));
        let width = |(_, null): &(Method, Ratio)| null.high / null.low.max(f64::MIN_POSITIVE);
        if width(&nulls[0]) < width(&nulls[1]) { nulls[0] } else { nulls[1] }
    }

    /// The figure, and between what nine in ten draws lie.
    pub(super) fn told(&self) -> String {
        self.ratio(self.method().0, Side::Figure).told()
    }

    /// The row of all of it; the first note says how the figure is made, and what the null comes to.
    pub(super) fn row(&self, case: &str, target: Target, notes: Vec<String>) -> Row {
        let (method, null) = self.method();
        let ratio = self.ratio(method, Side::Figure);
        let without = tail(self.triples.iter().flat_map(|[before, _, after]| [before, after])) / 1e3;
        let how = match method {
            Method::Median => "the median of the ratios of neighbouring windows",
            Method::Together => "the ratio of all windows together",
        };
        let noise = format!(
            "{how}, {} times without, with, without: {}, and {} of without against without (nine in ten draws lie within)",
            self.triples.len(),
            ratio.told(),
            null.told(),
        );
        let spread = Some((ratio.low, ratio.high));
        Row {
            cpu_us: (self.with.cpu_us(), self.without.cpu_us()),
            errors: [self.with.failures(), self.without.failures()].concat(),
            notes: [vec![noise], notes].concat(),
            ..Row::of(case, Take::Tail.unit(), target, (without / ratio.is, without), spread)
        }
    }

    fn ratio(&self, method: Method, side: Side) -> Ratio {
        let all: Vec<&Triple> = self.triples.iter().collect();
        // The same draws for every figure.
        let random = &mut Random::new(1979);
        let mut draw = || all.iter().map(|_| all[random.below(all.len())]).collect::<Vec<_>>();
        let mut drawn: Vec<f64> = (0..DRAWS).map(|_| figure(method, side, &draw())).collect();
        drawn.sort_by(f64::total_cmp);
        let at = |share: f64| drawn[((DRAWS - 1) as f64 * share).round() as usize];
        Ratio { is: figure(method, side, &all), low: at(BETWEEN.0), high: at(BETWEEN.1) }
    }
}

/// How long the tail is without in relation to with, or to without again: above 1 where the latter is the shorter.
fn figure(method: Method, side: Side, triples: &[&Triple]) -> f64 {
    let tail_of =
        |windows: &[usize]| tail(triples.iter().flat_map(|triple| windows.iter().map(move |window| &triple[*window])));
    match (method, side) {
        (Method::Together, Side::Figure) => tail_of(&[0, 2]) / tail_of(&[1]),
        (Method::Together, Side::Null) => tail_of(&[0]) / tail_of(&[2]),
        (Method::Median, _) => {
            let mut ratios: Vec<f64> = triples.iter().map(|triple| of_one(side, triple)).collect();
            ratios.sort_by(f64::total_cmp);
            let middle = ratios.len() / 2;
            if ratios.len() % 2 == 1 { ratios[middle] } else { (ratios[middle - 1] + ratios[middle]) / 2.0 }
        }
    }
}

fn of_one(side: Side, triple: &Triple) -> f64 {
    let [before, with, after] = triple.each_ref().map(|window| tail([window]));
    match side {
        Side::Figure => (before + after) / 2.0 / with,
        Side::Null => before / after,
    }
}

/// The 99th percentile of all of them, in microseconds; above zero, so that it can be divided by.
fn tail<'a>(windows: impl IntoIterator<Item = &'a Latencies>) -> f64 {
    let mut windows = windows.into_iter();
    let mut all = windows.next().cloned().unwrap_or_else(Latencies::new);
    windows.for_each(|window| all.merge(window));
    all.quantile_us(0.99).max(1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(micros: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new();
        micros.into_iter().for_each(|micros| latencies.record(micros * 1_000));
        latencies
    }

    /// Windows whose tails are so many microseconds long.
    fn pairs(tails: &[[u64; 3]]) -> Pairs {
        let window = |tail: u64| latencies((0..99).map(|_| 10).chain([tail, tail]));
        Pairs { triples: tails.iter().map(|tails| tails.map(window)).collect(), ..Pairs::new() }
    }

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 2e-3
    }

    #[test]
    fn a_tail_that_is_a_quarter_longer_with_it_is_one_whatever_the_machine_does_meanwhile() {
        let pairs = pairs(&[[100, 125, 100], [200, 250, 200], [50, 63, 50], [400, 500, 400], [100, 125, 100]]);
        let ratio = pairs.ratio(Method::Median, Side::Figure);
        assert!(near(ratio.is, 0.8) && ratio.low > 0.79 && ratio.high < 0.81, "{ratio:?}");
        let null = pairs.ratio(Method::Median, Side::Null);
        assert!(near(null.is, 1.0) && near(null.low, 1.0) && near(null.high, 1.0), "{null:?}");
    }

    #[test]
    fn the_null_tells_how_much_windows_without_differ() {
        let steady = pairs(&[[100, 100, 100]; 12]).ratio(Method::Together, Side::Null);
        let unsteady: Vec<[u64; 3]> =
            (0..12).map(|n| if n % 2 == 0 { [100, 100, 200] } else { [200, 100, 100] }).collect();
        let unsteady = pairs(&unsteady).ratio(Method::Median, Side::Null);
        assert!(near(steady.low, steady.high), "{steady:?}");
        assert!(unsteady.low < 0.6 && unsteady.high > 1.9, "{unsteady:?}");
    }

    #[test]
    fn the_figure_whose_null_is_narrower_counts_and_the_row_says_which() {
        // One window of twelve is far off: that moves the tail of all together, and no median.
        let mut unsteady = pairs(&[[100, 110, 100]; 12]);
        unsteady.triples[3][0] = latencies((0..100).map(|_| 5_000));
        let row = unsteady.row("case", Target::Share(0.9), vec!["note".to_owned()]);
        assert!(
            row.notes[0].starts_with("the median of the ratios of neighbouring windows, 12 times"),
            "{:?}",
            row.notes
        );
        assert_eq!(row.notes[1], "note");
        assert_eq!(row.met(), Some(true), "{row}");
        let slower = pairs(&[[100, 130, 100]; 12]).row("case", Target::Share(0.9), vec![]);
        assert_eq!(slower.met(), Some(false), "{slower}");
    }
}
