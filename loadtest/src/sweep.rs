//! `loadtest sweep`: the highest rate at which a server keeps its objective, and the curve around it.

use std::error::Error;
use std::time::Duration;

use serde::Serialize;

use crate::cli::load::SweepArgs;
use crate::engine::protocol::Failure;
use crate::html::{Curve, Page, Point};
use crate::progress::Progress;
use crate::report::text::{HEADING, row};
use crate::run::{Run, about, facts, label, prepare, shown, write};
use crate::target::Target;

/// No server is asked for less or for more, in requests per second.
const RATES: (f64, f64) = (0.1, 5e6);
/// Further rates that the curve shows, as shares of the one found.
const AROUND: [f64; 6] = [0.25, 0.5, 0.75, 1.1, 1.25, 1.5];
/// Rates nearer than this to one that was measured are not measured again.
const NEAR: f64 = 0.06;
/// How often a server is asked whether it has worked off what an earlier step left.
const SETTLE_TRIES: usize = 20;

/// Brackets the highest rate that holds by doubling and halving, then bisects on a logarithmic scale.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    first: f64,
    precision: f64,
    held: Option<f64>,
    broken: Option<f64>,
}

impl Search {
    /// Begins at `first`, ends when held and broken rate are within `precision` (0.05 is 5 %) of each other.
    pub(crate) fn new(first: f64, precision: f64) -> Self {
        Self { first: first.clamp(RATES.0, RATES.1), precision, held: None, broken: None }
    }

    /// The rate to measure next; `None` when the search has ended.
    pub(crate) fn next(&self) -> Option<f64> {
        match (self.held, self.broken) {
            (None, None) => Some(self.first),
            (Some(held), None) => Some(held * 2.0).filter(|rate| *rate <= RATES.1),
            (None, Some(broken)) => Some(broken / 2.0).filter(|rate| *rate >= RATES.0),
            (Some(held), Some(broken)) => (broken / held > 1.0 + self.precision).then(|| (held * broken).sqrt()),
        }
    }

    /// Takes in whether a rate held.
    pub(crate) fn judge(&mut self, rate: f64, holds: bool) {
        if holds {
            self.held = Some(self.held.map_or(rate, |held| held.max(rate)));
        } else {
            self.broken = Some(self.broken.map_or(rate, |broken| broken.min(rate)));
        }
    }

    /// The highest rate that held.
    pub(crate) fn best(&self) -> Option<f64> {
        self.held
    }
}

/// What a sweep found.
#[derive(Serialize)]
struct Found {
    slo_ms: f64,
    share: f64,
    /// The highest rate that held; `None` if none did.
    best: Option<f64>,
    /// Every step in order of its rate.
    steps: Vec<Run>,
}

/// Searches and shows.
pub(crate) fn run(args: &SweepArgs) -> Result<(), Box<dyn Error>> {
    prepare(&args.load)?;
    let target = Target::new(&args.url, &args.request, args.load.concurrency, args.load.pid.first().copied())?;
    let mut sweep = Sweep { args, target, progress: Progress::new(), windows: 0, steps: Vec::new() };
    let first = args.from.map_or_else(|| sweep.estimate(), Ok)?;
    let mut search = Search::new(first, args.precision);
    if !args.output.json {
        println!("{HEADING}");
    }
    while let Some(rate) = search.next() {
        let holds = sweep.holds(rate)?;
        search.judge(rate, holds);
    }
    let best = search.best();
    for rate in AROUND.iter().filter_map(|share| best.map(|best| best * share)) {
        let asked = |step: &Run| step.asked.unwrap_or(0.0);
        if sweep.steps.iter().all(|step| (asked(step) / rate - 1.0).abs() > NEAR) {
            sweep.holds(rate)?;
        }
    }
    sweep.steps.sort_by(|a, b| a.asked.unwrap_or(0.0).total_cmp(&b.asked.unwrap_or(0.0)));
    let slo_ms = args.slo.as_secs_f64() * 1e3;
    let found = Found { slo_ms, share: args.share, best, steps: sweep.steps };
    write(&args.output, &page(args, &found))?;
    if args.output.json {
        println!("{}", serde_json::to_string(&found)?);
    } else {
        print_curve(&found);
    }
    Ok(())
}

struct Sweep<'a> {
    args: &'a SweepArgs,
    target: Target,
    progress: Progress,
    /// Windows so far.
    windows: u64,
    steps: Vec<Run>,
}

impl Sweep<'_> {
    /// Half of what a closed loop reaches.
    fn estimate(&mut self) -> Result<f64, Box<dyn Error>> {
        let report = self.target.probe(16, Duration::from_secs(1), self.args.load.drain)?;
        if report.ok == 0 {
            return Err(format!("no request succeeds: {:?}", report.errors).into());
        }
        Ok(report.rate / 2.0)
    }

    /// Whether a rate holds. Further tries only where one did not: somebody else's burst of work is no limit of the
    /// server.
    fn holds(&mut self, rate: f64) -> Result<bool, Box<dyn Error>> {
        for _ in 0..self.args.tries {
            if self.step(rate)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Measures one rate in a fresh window, with arrivals of its own, and tells whether it holds.
    fn step(&mut self, rate: f64) -> Result<bool, Box<dyn Error>> {
        let Self { args, target, progress, windows, steps } = self;
        let seed = args.load.seed.wrapping_add(*windows);
        *windows += 1;
        progress.label(format!("step {windows}: {}", label(Some(rate))));
        let report = target.measure(&args.load, Some(rate), seed, Some(args.slo), &mut |look| progress.draw(look));
        progress.clear();
        let report = report?;
        if !args.output.json {
            println!("{}", row(&report));
        }
        let holds = report.offered > 0 && report.outcomes.good_share() >= args.share;
        // Of several tries at a rate the best one stays.
        let run = Run { asked: Some(rate), seed, report };
        match steps.iter_mut().find(|step| step.asked == Some(rate)) {
            Some(step) if step.report.outcomes.good_share() >= run.report.outcomes.good_share() => {}
            Some(step) => *step = run,
            None => steps.push(run),
        }
        if !holds {
            self.settle()?;
        }
        Ok(holds)
    }

    /// Waits until a single request is answered within the objective, so that no step pays for the one before it.
    fn settle(&self) -> Result<(), Box<dyn Error>> {
        for _ in 0..SETTLE_TRIES {
            let report = self.target.probe(1, Duration::from_millis(200), self.args.load.drain)?;
            // A refusal at once is as good a sign.
            let unanswered = report.errors.contains_key(&Failure::Unanswered.to_string());
            if !unanswered && report.p50_us <= self.args.slo.as_secs_f64() * 1e6 {
                break;
            }
        }
        Ok(())
    }
}

fn print_curve(found: &Found) {
    const BAR: usize = 40;
    let most = found.steps.iter().map(|step| step.report.offered_rate).fold(1.0, f64::max);
    println!("\n  offered/s    p99 ms  goodput (#) of the offered (.)");
    for step in &found.steps {
        let report = &step.report;
        let length = |rate: f64| ((rate / most * BAR as f64).round() as usize).min(BAR);
        let (good, offered) = (length(report.goodput), length(report.offered_rate));
        let bar = "#".repeat(good) + &".".repeat(offered.saturating_sub(good));
        let mark = if step.asked == found.best { "  <- holds" } else { "" };
        let p99 = crate::report::text::millis(report.answered.p99_us);
        println!("{:>11.1} {p99:>9}  {bar}{mark}", report.offered_rate);
    }
    let share = found.share * 100.0;
    match found.best {
        Some(best) => {
            println!("\n{best:.1}/s is the highest rate with {share} % of the answers within {} ms", found.slo_ms)
        }
        None => println!("\nno rate has {share} % of the answers within {} ms", found.slo_ms),
    }
    if found.steps.iter().any(|step| step.asked >= found.best && step.report.generator_limit().is_some()) {
        println!("the generator was the limit in some steps from there on; see 'generator is the limit' above");
    }
}

fn page<'a>(args: &SweepArgs, found: &'a Found) -> Page<'a> {
    let best = found.steps.iter().find(|step| step.asked == found.best && found.best.is_some());
    let name = |step: &Run| label(step.asked);
    let mut large = vec![(
        found.best.map_or("none".to_owned(), |best| label(Some(best))),
        format!("highest rate with {} % good", found.share * 100.0),
    )];
    large.extend(best.map(|best| facts(&best.report)).unwrap_or_default().into_iter().skip(3));
    // Drawn one by one: the rate that holds and the farthest beyond it.
    let drawn = best.into_iter().chain(found.steps.last());
    Page {
        title: format!("Throughput within {} ms", found.slo_ms),
        about: about(&shown(&args.url), &args.request, &args.load, true),
        facts: large,
        slo_ms: Some(found.slo_ms),
        best: found.best.map(|rate| (rate, label(Some(rate)))),
        curves: vec![Curve::new(
            "server",
            found.steps.iter().map(|step| Point::of(step.asked, &step.report)).collect(),
        )],
        runs: drawn.map(|step| (name(step), &step.report)).collect(),
        table: found.steps.iter().map(|step| (name(step), &step.report)).collect(),
        ..Page::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a server that holds every rate up to `capacity`: what it found, and in how many steps.
    fn search(first: f64, capacity: f64) -> (Option<f64>, usize) {
        let mut search = Search::new(first, 0.05);
        let mut steps = 0;
        while let Some(rate) = search.next() {
            search.judge(rate, rate <= capacity);
            steps += 1;
        }
        (search.best(), steps)
    }

    #[test]
    fn the_search_comes_within_its_precision_from_below_in_few_steps() {
        for capacity in [0.7, 9.0, 100.0, 1234.0, 250_000.0] {
            for first in [1.0, 100.0, 100_000.0] {
                let (found, steps) = search(first, capacity);
                let found = found.unwrap();
                assert!(found <= capacity && found * 1.05 >= capacity, "{found} for {capacity}");
                assert!(steps <= 7 + (first / capacity).log2().abs().ceil() as usize, "{steps} from {first}");
            }
        }
    }

    #[test]
    fn a_server_that_holds_nothing_or_everything_ends_the_search_too() {
        assert_eq!(search(100.0, 0.0).0, None);
        assert!(search(100.0, f64::INFINITY).0.unwrap() > 2e6);
    }

    #[test]
    fn a_rate_that_holds_above_one_that_did_not_does_not_confuse_it() {
        let mut search = Search::new(100.0, 0.05);
        search.judge(100.0, false);
        search.judge(110.0, true);
        assert_eq!(search.next(), None);
        assert_eq!(search.best(), Some(110.0));
    }
}
