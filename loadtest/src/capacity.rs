//! `loadtest capacity`: what a server says it can serve within its objective, and what an autoscaler makes of its metrics, beside
//! what it can: the highest rate of independent callers at which 99 % of them are answered in time, found by bisection.
//!
//! Server and generator have a core each. A search's rate is known to its precision and to what else the machine does meanwhile, so
//! that there are several, of which the median counts and the spread is shown.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tensorgate_autoscale::{Model, plan};
use tensorgate_contract::overhead::Overhead;
use tensorgate_contract::signals::{self, Signals};

use crate::bench::{Door, Process, Scratch, Source, get};
use crate::cli::CapacityArgs;
use crate::payload::{Encoding, ModelSpec};
use crate::process;
use crate::report::text::{HEADING, row};
use crate::sweep::Search;

/// The share of the requests that have to be good, which is what an objective means everywhere else too.
const GOOD: f64 = 0.99;
/// How far a prediction may be off, in parts of the measured rate.
const WITHIN: f64 = 0.15;
/// Requests at once before a search, so that batches of all sizes are known.
const LEARNING: [usize; 5] = [1, 4, 16, 64, 16];
/// Windows of one rate, until one holds: somebody else's burst of work is no limit of the server.
const TRIES: usize = 2;

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
        Ok(())
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
        all.push(measure(args, case, &scratch, (own, load))?);
    }
    println!(
        "\nrows per second that are answered in time, and what was predicted of them ({} searches each)",
        args.searches
    );
    all.iter().for_each(|found| println!("{found}"));
    Ok(all.iter().all(|found| found.holds(|own| own.autoscaler)))
}

fn measure(
    args: &CapacityArgs,
    case: &Case,
    scratch: &Scratch,
    cores: (usize, usize),
) -> Result<Found, Box<dyn Error>> {
    let model = ModelSpec::parse(&case.model)?;
    let repository = scratch.repository(&case.model, &[&case.model], &args.models)?;
    let slo = format!("{}us", case.slo.as_micros());
    let further: [&OsStr; 4] = ["--slo".as_ref(), slo.as_ref(), "--state-dir".as_ref(), "".as_ref()];
    let log = scratch.path(&format!("{}.log", case.model));
    let server = Process::server(&args.server, &repository, Some(cores.0), log, &further)?;
    server.wait_ready()?;
    let source = Source::new(&server, Door::Http(Encoding::Binary), &model).slo(case.slo).core(Some(cores.1));
    let mut searches = Vec::new();
    for search in 0..args.searches {
        println!("{case}, search {}\n{HEADING}", search + 1);
        let mut closed = 0.0_f64;
        for at_once in LEARNING {
            closed = closed.max(source.closed(at_once, args.duration / 2)?.rate);
        }
        let measured = highest(&source, args, closed / 2.0, 1000 * search)?;
        let (server_rate, signals) = told(&server, &case.model)?;
        // What rows cost beside their execution, at a load that is just served.
        source.any_window(0.9 * measured, 1000 * search, args.duration)?;
        let mut overhead = Overhead::default();
        overhead.note(&signals, &told(&server, &case.model)?.1);
        let autoscaler = planned(&signals, &overhead).ok_or("the server tells no latency curve")?;
        let rates = Rates { measured, server: server_rate, autoscaler };
        println!("{}", serde_json::to_string(&rates)?);
        if args.curve {
            signals
                .points
                .iter()
                .for_each(|point| println!("{} rows: {:?}, 95 % {:?}", point.work, point.centre, point.upper));
            let Signals { instances, threads, executions, .. } = signals;
            println!(
                "{instances} instances of {threads} threads, {executions} executions, {:?} a row beside",
                overhead.per_row()
            );
        }
        searches.push(rates);
    }
    Ok(Found { case: case.clone(), searches })
}

/// The highest rate at which enough requests are answered in time.
fn highest(source: &Source, args: &CapacityArgs, first: f64, seeds: u64) -> Result<f64, Box<dyn Error>> {
    let mut search = Search::new(first, args.precision);
    let mut seed = seeds;
    while let Some(rate) = search.next() {
        let mut holds = false;
        for _ in 0..TRIES {
            seed += 1;
            let report = source.any_window(rate, seed, args.duration)?;
            println!("{}", row(&report));
            holds = report.offered > 0 && report.outcomes.good_share() >= GOOD;
            if holds {
                break;
            }
            // What is left over must not be the next window's.
            source.closed(1, Duration::from_millis(200))?;
        }
        search.judge(rate, holds);
    }
    search.best().ok_or_else(|| "no rate was answered in time".into())
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
    let points = overhead.added_to(&signals.points, unit, threads);
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
        };
        assert!(found.holds(|own| own.server) && !found.holds(|own| own.autoscaler));
        let shown = found.to_string();
        assert!(shown.starts_with("mlp within 20ms               100.0 (50.0 to 200.0)"), "{shown}");
        assert!(shown.contains("server 60.0 = 0.90 (0.30 to 1.00) holds"), "{shown}");
        assert!(shown.ends_with("autoscaler 130.0 = 1.30 (0.95 to 1.30) MISSED"), "{shown}");
        assert_eq!(Spread::of([4.0, 1.0].into_iter()), Spread { middle: 2.5, least: 1.0, most: 4.0 });
    }
}
