//! `loadtest capacity`: what a server says it can serve within its objective, and what an autoscaler makes of its metrics, beside
//! what it can: the rate of independent callers at which 99 % of them are answered in time in half of the windows.
//!
//! Server and generator have a core each. A machine that is shared changes its speed from one second to the next, by half and more
//! where a neighbour works on the other thread of a core. So the rate is searched up and down instead of by halving, which a single
//! disturbed window would lead astray for good; what is predicted is read before each window, and the median of that is held
//! against the rate; and there are several searches, the cases in turn, of which the median counts.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tensorgate_autoscale::{Model, plan};
use tensorgate_contract::capacity::with_overhead;
use tensorgate_contract::overhead::Overhead;
use tensorgate_contract::signals::{self, Signals};

use crate::bench::{Door, Process, Scratch, Source, get};
use crate::cli::CapacityArgs;
use crate::payload::ModelSpec;
use crate::process;
use crate::report::text::{HEADING, row};
use crate::staircase::Staircase;

/// The share of the requests that have to be good, which is what an objective means everywhere else too.
const GOOD: f64 = 0.99;
/// How far a prediction may be off, in parts of the measured rate.
const WITHIN: f64 = 0.15;
/// Requests at once before the first search, so that batches of all sizes are known.
const LEARNING: [usize; 5] = [1, 4, 16, 64, 16];
/// The load, in parts of what that reached, of a window after it that nobody judges: whoever was refused came again at once.
const CALM: f64 = 0.5;

/// A model and its objective, as `NAME=SLO`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    model: String,
    slo: Duration,
}

impl Case {
    /// Reads `mlp=20ms`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (model, slo) = text.rsplit_once('=').ok_or_else(|| format!("{text}: a case is MODEL=SLO, mlp=20ms"))?;
        ModelSpec::parse(model)?;
        Ok(Self { model: model.to_owned(), slo: crate::cli::parse::span(slo)? })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} within {:?}", self.model, self.slo)
    }
}

/// Rows per second, in one search: measured, by the server's statistics, and by the autoscaler from the server's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Rates {
    measured: f64,
    server: f64,
    autoscaler: f64,
}

/// Who predicts, and which of the rates that is.
type Prediction = (&'static str, fn(&Rates) -> f64);

/// Median, least and greatest of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    middle: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let count = sorted.len();
        Self {
            middle: (at(count.saturating_sub(1) / 2) + at(count / 2)) / 2.0,
            least: at(0),
            most: at(count.saturating_sub(1)),
        }
    }
}

/// What the searches of a case found.
#[derive(Debug)]
struct Found {
    case: Case,
    searches: Vec<Rates>,
    /// Windows of all searches, and those of them in which the generator was the limit.
    windows: usize,
    bounded: usize,
}

impl Found {
    fn spread(&self, of: impl Fn(&Rates) -> f64) -> Spread {
        Spread::of(self.searches.iter().map(of))
    }

    /// Whether the median ratio of a prediction is within what it may be off.
    fn holds(&self, of: impl Fn(&Rates) -> f64) -> bool {
        (self.spread(|own| of(own) / own.measured).middle - 1.0).abs() <= WITHIN
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let measured = self.spread(|own| own.measured);
        write!(
            f,
            "{:<24} {:>10.1} ({:.1} to {:.1})",
            self.case.to_string(),
            measured.middle,
            measured.least,
            measured.most
        )?;
        let of: [Prediction; 2] = [("server", |own| own.server), ("autoscaler", |own| own.autoscaler)];
        for (name, of) in of {
            let (rate, ratio) = (self.spread(of), self.spread(|own| of(own) / own.measured));
            let verdict = if self.holds(of) { "holds" } else { "MISSED" };
            write!(
                f,
                "   {name} {:.1} = {:.2} ({:.2} to {:.2}) {verdict}",
                rate.middle, ratio.middle, ratio.least, ratio.most
            )?;
        }
        match self.bounded {
            0 => Ok(()),
            bounded => write!(f, "   the generator was the limit in {bounded} of {} windows", self.windows),
        }
    }
}

/// Measures every case and prints a line for each. False if the autoscaler's prediction of one is off.
pub(crate) fn run(args: &CapacityArgs) -> Result<bool, Box<dyn Error>> {
    let scratch = Scratch::new("capacity")?;
    let cores = process::cores()?;
    let own = *cores.first().ok_or("no core to run on")?;
    let load = cores.get(1).copied().unwrap_or(own);
    if own == load {
        eprintln!("loadtest: only one core: generator and server share it, figures are not comparable");
    }
    let mut all = Vec::new();
    for case in &args.cases {
        all.push(Measured::start(args, case, &scratch, (own, load))?);
    }
    for search in 1..=args.searches {
        for measured in &mut all {
            println!("{}, search {search}\n{HEADING}", measured.found.case);
            measured.search(args)?;
        }
    }
    println!(
        "\nrows per second that are answered in time, and what was predicted of them ({} searches each)",
        args.searches
    );
    all.iter().for_each(|measured| println!("{}", measured.found));
    Ok(all.iter().all(|measured| measured.found.holds(|own| own.autoscaler)))
}

/// A case with its server.
struct Measured {
    server: Process,
    source: Source,
    /// What was counted when it was last looked at, and what rows cost beside their execution since the start.
    seen: Signals,
    overhead: Overhead,
    found: Found,
    /// Of the next window's arrivals.
    seed: u64,
}

impl Measured {
    /// Starts a server and has it learn.
    fn start(
        args: &CapacityArgs,
        case: &Case,
        scratch: &Scratch,
        (own, load): (usize, usize),
    ) -> Result<Self, Box<dyn Error>> {
        let model = ModelSpec::parse(&case.model)?;
        let repository = scratch.repository(&case.model, &[&case.model], &args.models)?;
        let slo = format!("{}us", case.slo.as_micros());
        let further: [&OsStr; 4] = ["--slo".as_ref(), slo.as_ref(), "--state-dir".as_ref(), "".as_ref()];
        let log = scratch.path(&format!("{}.log", case.model));
        let server = Process::server(&args.server, &repository, Some(own), log, &further)?;
        server.wait_ready()?;
        let source = Source::new(&server, Door::Http(args.encoding), &model).slo(case.slo).core(Some(load));
        let mut closed = 0.0_f64;
        for at_once in LEARNING {
            closed = closed.max(source.closed(at_once, args.duration / 2)?.rate);
        }
        source.any_window(CALM * closed, 0, args.duration)?;
        let (_, seen) = told(&server, &case.model)?;
        let found = Found { case: case.clone(), searches: Vec::new(), windows: 0, bounded: 0 };
        Ok(Self { server, source, seen, overhead: Overhead::default(), found, seed: 0 })
    }

    /// What is predicted now: by the server's statistics, and by the autoscaler.
    fn predicted(&mut self) -> Result<(f64, f64), Box<dyn Error>> {
        let (server, signals) = told(&self.server, &self.found.case.model)?;
        self.overhead.note(&self.seen, &signals);
        self.seen = signals;
        let autoscaler = planned(&self.seen, &self.overhead).filter(|rate| *rate > 0.0);
        Ok((server, autoscaler.ok_or("the server tells no latency curve")?))
    }

    /// One search: the rate at which half of the windows hold, and the medians of what was predicted meanwhile.
    fn search(&mut self, args: &CapacityArgs) -> Result<(), Box<dyn Error>> {
        let mut stairs = Staircase::new(args.step);
        let (_, start) = self.predicted()?;
        let (mut server, mut autoscaler) = (Vec::new(), Vec::new());
        for _ in 0..args.windows {
            let predicted = self.predicted()?;
            server.push(predicted.0);
            autoscaler.push(predicted.1);
            self.seed += 1;
            let report = self.source.any_window(stairs.level() * start, self.seed, args.duration)?;
            println!("{}", row(&report));
            let holds = report.offered > 0 && report.outcomes.good_share() >= GOOD;
            stairs.judge(holds);
            self.found.windows += 1;
            self.found.bounded += usize::from(report.generator_limit().is_some());
            if !holds {
                // What is left over must not be the next window's.
                self.source.closed(1, Duration::from_millis(200))?;
            }
        }
        let [server, autoscaler] = [server, autoscaler].map(|rates| Spread::of(rates.into_iter()).middle);
        let level = stairs
            .found()
            .ok_or("hardly any window held, or hardly any did not: more --windows, or longer ones with --duration")?;
        let rates = Rates { measured: level * start, server, autoscaler };
        println!("{}", serde_json::to_string(&rates)?);
        if args.curve {
            self.show_curve();
        }
        self.found.searches.push(rates);
        Ok(())
    }

    fn show_curve(&self) {
        let Signals { instances, threads, executions, overhead, .. } = self.seen;
        for point in &self.seen.points {
            println!("{} rows: {:?}, 95 % {:?}", point.work, point.centre, point.upper);
        }
        println!(
            "{instances} instances of {threads} threads, {executions} executions, a row takes beside {overhead:?}, as counted here {:?}",
            self.overhead.per_row()
        );
    }
}

/// What the server's statistics and its metrics tell of a model.
fn told(server: &Process, model: &str) -> Result<(f64, Signals), Box<dyn Error>> {
    let (status, body) = get(server.http, &format!("/v2/models/{model}/stats"))?;
    let statistics: serde_json::Value = serde_json::from_slice(&body).map_err(|_| format!("statistics: {status}"))?;
    let capacity = &statistics["model_stats"][0]["learned"]["capacity_rows_per_second"];
    let capacity = capacity.as_f64().ok_or("the statistics tell no capacity")?;
    let (_, body) = get(server.http, "/metrics")?;
    let all = signals::read(std::str::from_utf8(&body)?).map_err(|error| error.to_string())?;
    let found = all.into_iter().find(|((name, _), _)| name == model).ok_or("the metrics tell nothing of the model")?;
    Ok((capacity, found.1))
}

/// What the autoscaler counts on of one replica, for independent callers.
fn planned(signals: &Signals, overhead: &Overhead) -> Option<f64> {
    let Signals { objective, instances, threads, rows_max, unit, executions, .. } = *signals;
    // Older servers do not tell what a row takes beside its execution.
    let each = signals.overhead.or(overhead.per_row()).unwrap_or_default();
    let points = with_overhead(&signals.points, each.div_f64(threads.max(1) as f64), unit);
    let model = Model { points, executions, objective, instances, rows_max, unit };
    plan::plan(&model, 1.0).map(|plan| plan.rows_per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_a_model_and_an_objective() {
        assert_eq!(Case::parse("mlp=20ms"), Ok(Case { model: "mlp".into(), slo: Duration::from_millis(20) }));
        assert!(Case::parse("mlp").unwrap_err().contains("MODEL=SLO"));
        assert!(Case::parse("nosuch=20ms").is_err() && Case::parse("mlp=20").is_err());
    }

    #[test]
    fn the_median_of_the_ratios_decides() {
        let rates = |measured: f64, server: f64, autoscaler: f64| Rates { measured, server, autoscaler };
        let found = Found {
            case: Case::parse("mlp=20ms").unwrap(),
            searches: vec![rates(100.0, 90.0, 130.0), rates(50.0, 50.0, 65.0), rates(200.0, 60.0, 190.0)],
            windows: 30,
            bounded: 0,
        };
        assert!(found.holds(|own| own.server) && !found.holds(|own| own.autoscaler));
        let shown = found.to_string();
        assert!(shown.starts_with("mlp within 20ms               100.0 (50.0 to 200.0)"), "{shown}");
        assert!(shown.contains("server 60.0 = 0.90 (0.30 to 1.00) holds"), "{shown}");
        assert!(shown.ends_with("autoscaler 130.0 = 1.30 (0.95 to 1.30) MISSED"), "{shown}");
        let bounded = Found { bounded: 4, ..found };
        assert!(bounded.to_string().ends_with("MISSED   the generator was the limit in 4 of 30 windows"), "{bounded}");
        assert_eq!(Spread::of([4.0, 1.0].into_iter()), Spread { middle: 2.5, least: 1.0, most: 4.0 });
    }
}
