//! `loadtest compare`: several servers under the same load in alternating turns, and paired figures.

use std::error::Error;
use std::fmt::Write;

use serde::Serialize;

use crate::cli::load::CompareArgs;
use crate::html::{Curve, Page, Point};
use crate::progress::Progress;
use crate::report::Report;
use crate::report::text::millis;
use crate::run::{Run, about, check_picture, label, prepare, rates, shown, write};
use crate::target::Target;

/// What is compared: its name, how it is taken from a report, how it is written.
struct Measure {
    name: &'static str,
    of: fn(&Report) -> Option<f64>,
    show: fn(f64) -> String,
}

const MEASURES: [Measure; 6] = [
    Measure { name: "good/s", of: |report| Some(report.goodput), show: |value| format!("{value:.1}") },
    Measure {
        name: "good %",
        of: |report| Some(100.0 * report.outcomes.good_share()),
        show: |value| format!("{value:.2}"),
    },
    Measure { name: "answers/s", of: |report| Some(report.rate), show: |value| format!("{value:.1}") },
    Measure { name: "p50 ms", of: |report| answered(report, report.answered.p50_us), show: millis },
    Measure { name: "p99 ms", of: |report| answered(report, report.answered.p99_us), show: millis },
    Measure { name: "cpu us", of: |report| report.server_cpu_us, show: |value| format!("{value:.2}") },
];

/// A latency only where there were answers.
fn answered(report: &Report, latency: f64) -> Option<f64> {
    (report.answered.count > 0).then_some(latency)
}

/// The middle of several values, and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The median; of an even count, the mean of the two in the middle.
    pub(crate) median: f64,
    /// The least.
    pub(crate) low: f64,
    /// The greatest.
    pub(crate) high: f64,
}

impl Spread {
    /// Of these values; `None` of none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, low, high })
    }
}

/// A measure of one server at one rate.
#[derive(Serialize)]
struct Figure {
    server: String,
    asked: Option<f64>,
    measure: &'static str,
    /// Over the turns.
    value: Spread,
    /// This server's value divided by the first server's of the same turn, over the turns.
    ratio: Option<Spread>,
}

/// A server's turns at one rate.
#[derive(Serialize)]
struct Turns {
    server: String,
    asked: Option<f64>,
    runs: Vec<Run>,
}

impl Turns {
    /// The turn with the middle goodput, to be drawn.
    fn middle(&self) -> Option<&Report> {
        let mut reports: Vec<&Report> = self.runs.iter().map(|run| &run.report).collect();
        reports.sort_by(|a, b| a.goodput.total_cmp(&b.goodput));
        reports.get(reports.len() / 2).copied()
    }

    fn spread(&self, of: impl Fn(&Report) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| of(&run.report)))
    }

    fn point(&self) -> Point {
        let middle =
            |of: fn(&Report) -> f64| self.spread(|report| Some(of(report))).map_or(0.0, |spread| spread.median);
        Point {
            offered: self.asked.unwrap_or_else(|| middle(|report| report.offered_rate)),
            goodput: middle(|report| report.goodput),
            latency: [
                middle(|report| report.answered.p50_us),
                middle(|report| report.answered.p99_us),
                middle(|report| report.answered.p999_us),
            ],
        }
    }
}

/// Compares and shows.
pub(crate) fn run(args: &CompareArgs) -> Result<(), Box<dyn Error>> {
    check_picture(&args.output, &args.rate)?;
    prepare(&args.load)?;
    if ![0, 1, args.servers.len()].contains(&args.load.pid.len()) {
        return Err(format!("{} --pid for {} servers", args.load.pid.len(), args.servers.len()).into());
    }
    let target = |(index, (name, url)): (usize, &(String, _))| {
        let pid = args.load.pid.get(index).copied();
        Target::new(url, &args.request, args.load.concurrency, pid).map_err(|error| format!("{name}: {error}"))
    };
    let targets: Vec<Target> = args.servers.iter().enumerate().map(target).collect::<Result<_, _>>()?;
    let mut progress = Progress::new();
    let mut all = Vec::new();
    for asked in rates(&args.rate) {
        all.extend(alternate(args, &targets, asked, &mut progress)?);
    }
    let figures = figures(&all, args.servers.len());
    write(&args.output, &page(args, &all, &figures))?;
    if args.output.json {
        println!("{}", serde_json::to_string(&serde_json::json!({"figures": figures, "turns": all}))?);
    } else {
        print!("{}", table(&figures));
    }
    Ok(())
}

/// All turns at one rate: A B A B, each pair with the arrivals of the same seed.
fn alternate(
    args: &CompareArgs,
    targets: &[Target],
    asked: Option<f64>,
    progress: &mut Progress,
) -> Result<Vec<Turns>, Box<dyn Error>> {
    let name = |index: usize| args.servers[index].0.clone();
    let mut all: Vec<Turns> =
        (0..targets.len()).map(|index| Turns { server: name(index), asked, runs: Vec::new() }).collect();
    for turn in 0..args.turns {
        let seed = args.load.seed.wrapping_add(turn);
        for (target, turns) in targets.iter().zip(&mut all) {
            progress.label(format!("{}, turn {} of {}: {}", label(asked), turn + 1, args.turns, turns.server));
            let report = target.measure(&args.load, asked, seed, args.slo, &mut |look| progress.draw(look));
            progress.clear();
            turns.runs.push(Run { asked, seed, report: report.map_err(|error| format!("{}: {error}", turns.server))? });
        }
    }
    Ok(all)
}

fn figures(all: &[Turns], servers: usize) -> Vec<Figure> {
    let mut figures = Vec::new();
    for group in all.chunks(servers) {
        for Measure { name, of, .. } in MEASURES {
            for turns in group {
                let Some(value) = turns.spread(of) else { continue };
                let pairs = turns.runs.iter().zip(&group[0].runs);
                let ratio = pairs.filter_map(|(own, first)| Some(of(&own.report)? / of(&first.report)?));
                let ratio = Spread::of(ratio).filter(|_| turns.server != group[0].server);
                figures.push(Figure { server: turns.server.clone(), asked: turns.asked, measure: name, value, ratio });
            }
        }
    }
    figures
}

/// The cells of a figure's line behind its names.
fn cells(figure: &Figure) -> [String; 3] {
    let show = MEASURES
        .iter()
        .find(|measure| measure.name == figure.measure)
        .map_or(millis as fn(f64) -> String, |it| it.show);
    let Spread { median, low, high } = figure.value;
    let ratio = figure
        .ratio
        .map_or("-".to_owned(), |ratio| format!("{:.3} ({:.3} to {:.3})", ratio.median, ratio.low, ratio.high));
    [show(median), format!("{} to {}", show(low), show(high)), ratio]
}

const COLUMNS: [&str; 6] = ["rate", "measure", "server", "median", "spread", "ratio to the first, by turn"];

fn table(figures: &[Figure]) -> String {
    let mut text = String::new();
    let mut line = |cells: [&str; 6]| {
        let [rate, measure, server, median, spread, ratio] = cells;
        let _ = writeln!(text, "{rate:<10} {measure:<10} {server:<16} {median:>10}  {spread:>22}  {ratio:>27}");
    };
    line(COLUMNS);
    for figure in figures {
        let [median, spread, ratio] = cells(figure);
        line([&label(figure.asked), figure.measure, &figure.server, &median, &spread, &ratio]);
    }
    text
}

fn page<'a>(args: &CompareArgs, all: &'a [Turns], figures: &[Figure]) -> Page<'a> {
    let servers: Vec<String> = args.servers.iter().map(|(name, _)| name.clone()).collect();
    let curve =
        |name: &String| Curve::new(name, all.iter().filter(|turns| turns.server == *name).map(Turns::point).collect());
    let named = |turns: &'a Turns| Some((format!("{}, {}", turns.server, label(turns.asked)), turns.middle()?));
    let line = |figure: &Figure| {
        let names = [label(figure.asked), figure.measure.to_owned(), figure.server.clone()];
        names.into_iter().chain(cells(figure)).collect()
    };
    let urls: Vec<String> = args.servers.iter().map(|(name, url)| format!("{name} = {}", shown(url))).collect();
    let open = all.iter().flat_map(|turns| &turns.runs).any(|run| run.report.generator.is_some());
    // The last rate is the highest in most command lines, and where servers differ most.
    let last = all.len().saturating_sub(servers.len());
    Page {
        title: servers.join(" and "),
        about: format!("{}; {} turns each", about(&urls.join(", "), &args.request, &args.load, open), args.turns),
        slo_ms: args.slo.map(|slo| slo.as_secs_f64() * 1e3),
        curves: servers.iter().map(curve).collect(),
        runs: all[last..].iter().filter_map(named).collect(),
        table: all.iter().filter_map(named).collect(),
        further: Some((COLUMNS.map(str::to_owned).to_vec(), figures.iter().map(line).collect())),
        ..Page::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::tally::{Closing, Phase, Tally};

    fn run(good: u64) -> Run {
        let mut tally = Tally::new(Duration::from_secs(1), None);
        (0..good).for_each(|_| tally.end(Phase::Window(0), Ok(()), 1_000_000, 1));
        let report = tally.report(Closing { seconds: 1.0, answered: good, ..Closing::default() });
        Run { asked: None, seed: 1, report }
    }

    fn turns(server: &str, good: &[u64]) -> Turns {
        Turns { server: server.to_owned(), asked: None, runs: good.iter().map(|good| run(*good)).collect() }
    }

    #[test]
    fn a_spread_is_the_median_and_the_ends() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(Spread::of([1.0, 4.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([f64::NAN]), None);
    }

    #[test]
    fn ratios_are_taken_turn_by_turn() {
        // The machine slowed down by half in the second turn: the ratio does not notice.
        let all = [turns("a", &[100, 50, 100]), turns("b", &[200, 100, 210])];
        let figures = figures(&all, 2);
        let good: Vec<&Figure> = figures.iter().filter(|figure| figure.measure == "good/s").collect();
        assert_eq!(good[0].ratio, None);
        assert_eq!(good[1].value, Spread { median: 200.0, low: 100.0, high: 210.0 });
        assert_eq!(good[1].ratio, Some(Spread { median: 2.0, low: 2.0, high: 2.1 }));
        let text = table(&figures);
        assert!(text.contains("2.000 (2.000 to 2.100)"), "{text}");
        assert!(!text.contains("cpu us"), "nothing was observed:\n{text}");
        assert_eq!(all[1].middle().unwrap().offered, 200);
    }

    #[test]
    fn a_server_that_answers_nothing_has_no_latency_to_compare() {
        let figures = figures(&[turns("a", &[10]), turns("b", &[0])], 2);
        assert!(figures.iter().all(|figure| figure.server == "a" || figure.measure != "p50 ms"));
        assert_eq!(figures.iter().find(|figure| figure.server == "b").unwrap().ratio.unwrap().median, 0.0);
    }
}
