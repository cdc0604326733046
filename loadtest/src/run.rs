//! `loadtest run`: one server, in a closed loop or at one or more rates.

use std::error::Error;
use std::path::PathBuf;

use serde::Serialize;

use crate::cli::load::{LoadArgs, OutputArgs, RequestArgs, RunArgs};
use crate::cli::parse::Url;
use crate::html::{Curve, Page, Point};
use crate::progress::Progress;
use crate::report::Report;
use crate::report::text::{HEADING, millis, row};
use crate::target::Target;
use crate::{process, report::outcome::Class};

/// A report with what was asked for.
#[derive(Serialize)]
pub(crate) struct Run {
    /// Requests per second that were asked for; `None` in a closed loop or of a recording.
    pub(crate) asked: Option<f64>,
    /// The seed of the arrivals.
    pub(crate) seed: u64,
    /// The figures.
    #[serde(flatten)]
    pub(crate) report: Report,
}

/// Measures and shows.
pub(crate) fn run(args: &RunArgs) -> Result<(), Box<dyn Error>> {
    check_picture(&args.output, &args.rate)?;
    prepare(&args.load)?;
    let target = Target::new(&args.url, &args.request, args.load.concurrency, args.load.pid.first().copied())?;
    let (mut progress, mut runs) = (Progress::new(), Vec::new());
    let seed = args.load.seed;
    for asked in rates(&args.rate) {
        progress.label(label(asked));
        let report = target.measure(&args.load, asked, seed, args.slo, &mut |look| progress.draw(look));
        progress.clear();
        runs.push(Run { asked, seed, report: report? });
    }
    write(&args.output, &page(args, &runs))?;
    show(&runs, &args.output)
}

/// Before any load: the core to run on.
pub(crate) fn prepare(load: &LoadArgs) -> std::io::Result<()> {
    load.pin.map_or(Ok(()), process::pin)
}

/// Refuses a picture of a curve that would have less than two points.
pub(crate) fn check_picture(output: &OutputArgs, rates: &[f64]) -> Result<(), String> {
    match (&output.svg, rates) {
        (Some(_), [] | [_]) => Err("--svg draws curves over several rates: --rate 500,1000,2000".to_owned()),
        _ => Ok(()),
    }
}

/// Writes what is wanted as files.
pub(crate) fn write(output: &OutputArgs, page: &Page<'_>) -> Result<(), String> {
    let write = |file: &Option<PathBuf>, text: &dyn Fn() -> String| match file {
        Some(file) => std::fs::write(file, text()).map_err(|error| format!("{}: {error}", file.display())),
        None => Ok(()),
    };
    write(&output.html, &|| page.render())?;
    write(&output.svg, &|| page.figure())
}

/// The rates to measure at; `None` stands for what needs none.
pub(crate) fn rates(rates: &[f64]) -> Vec<Option<f64>> {
    if rates.is_empty() { vec![None] } else { rates.iter().copied().map(Some).collect() }
}

/// A run's name.
pub(crate) fn label(rate: Option<f64>) -> String {
    match rate {
        None => "no rate".to_owned(),
        Some(rate) if rate < 100.0 => format!("{rate:.2}/s"),
        Some(rate) => format!("{rate:.0}/s"),
    }
}

/// What was asked, for the head of a page.
pub(crate) fn about(url: &str, request: &RequestArgs, load: &LoadArgs, open: bool) -> String {
    let model = request.model.clone().or(request.preset.as_ref().map(|preset| preset.name.clone()));
    let model = model.map_or(String::new(), |model| format!(", model {model}"));
    let window = load.duration.map_or(String::new(), |window| format!(", windows of {window:?}"));
    if open {
        return format!("{url}{model}; open loop, {} arrivals, seed {}{window}", load.arrivals, load.seed);
    }
    format!("{url}{model}; closed loop{window}")
}

/// A URL as it was given.
pub(crate) fn shown(url: &Url) -> String {
    format!("{}://{}{}", format!("{:?}", url.scheme).to_lowercase(), url.host, url.path)
}

fn show(runs: &[Run], output: &OutputArgs) -> Result<(), Box<dyn Error>> {
    match (runs, output.json) {
        ([run], true) => println!("{}", serde_json::to_string(run)?),
        (many, true) => println!("{}", serde_json::to_string(many)?),
        ([run], false) => print!("{}", run.report),
        (many, false) => {
            println!("{HEADING}");
            many.iter().for_each(|run| println!("{}", row(&run.report)));
        }
    }
    Ok(())
}

/// Figures in large.
pub(crate) fn facts(report: &Report) -> Vec<(String, String)> {
    let total = report.outcomes.total().max(1) as f64;
    let share = 100.0 * report.outcomes.of(Class::Good) as f64 / total;
    let q = &report.answered;
    let good = report.slo_ms.map_or("answered".to_owned(), |slo| format!("good, within {slo} ms"));
    let mut facts = vec![
        (format!("{:.0}/s", report.offered_rate), "offered".to_owned()),
        (format!("{:.0}/s", report.goodput), good),
        (format!("{share:.2} %"), "of the offered are good".to_owned()),
    ];
    let quantiles = [("p50", q.p50_us), ("p99", q.p99_us), ("p99.9", q.p999_us)];
    facts.extend(quantiles.map(|(name, micros)| (format!("{} ms", millis(micros)), name.to_owned())));
    facts.extend(report.server_cpu_us.map(|cpu| (format!("{cpu:.1} us"), "server CPU a request".to_owned())));
    facts
}

fn page<'a>(args: &RunArgs, runs: &'a [Run]) -> Page<'a> {
    let named: Vec<_> = runs.iter().map(|run| (label(run.asked), &run.report)).collect();
    let open = runs.iter().any(|run| run.report.generator.is_some());
    Page {
        title: "Load on one server".to_owned(),
        about: about(&shown(&args.url), &args.request, &args.load, open),
        facts: if let [run] = runs { facts(&run.report) } else { Vec::new() },
        slo_ms: args.slo.map(|slo| slo.as_secs_f64() * 1e3),
        curves: vec![Curve::new("server", runs.iter().map(|run| Point::of(run.asked, &run.report)).collect())],
        runs: named.clone(),
        table: named,
        ..Page::default()
    }
}
