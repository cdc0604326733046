//! `tensorgate-controller simulate`: our autoscaler beside others' on traces, on a virtual clock.

use std::path::PathBuf;

use clap::Args;
use tensorgate_autoscale::simulate::lines;
use tensorgate_autoscale::simulate::ours::Wrong;
use tensorgate_autoscale::simulate::page::{self, Course};
use tensorgate_autoscale::simulate::table::{self, Row};
use tensorgate_autoscale::simulate::trace::{Kind, Trace};
use tensorgate_autoscale::simulate::world::Server;
use tensorgate_autoscale::simulate::{Policy, SERVER};

/// What is compared, and for which model.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// A trace of constant, step, ramp, diurnal, bursty, flash-crowd, on-off, functions, model-change, outage; may be repeated
    /// [default: all]
    #[arg(long = "trace", value_parser = kind)]
    pub traces: Vec<Kind>,

    /// Requests by the minute from a file: a line for each minute, or a column, as in the public traces of functions
    #[arg(long, conflicts_with = "traces")]
    pub counts: Option<PathBuf>,

    /// Courses of each trace, of which the means are told
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,

    /// The seed of the first course; the others follow it
    #[arg(long, default_value_t = 1)]
    pub first_seed: u64,

    /// Writes the table, and load, replicas and latency over time, to one HTML file
    #[arg(long)]
    pub html: Option<PathBuf>,

    /// Milliseconds that a batch takes, however small
    #[arg(long, default_value_t = SERVER.fixed * 1e3, value_parser = positive)]
    pub fixed: f64,

    /// Milliseconds that each row of a batch adds
    #[arg(long, default_value_t = SERVER.each * 1e3, value_parser = positive)]
    pub each: f64,

    /// Rows of the largest batch
    #[arg(long, default_value_t = SERVER.batch_max as u16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch_max: u16,

    /// Milliseconds of the latency objective
    #[arg(long, default_value_t = SERVER.objective * 1e3, value_parser = positive)]
    pub slo: f64,

    /// Seconds from the order of a replica until it is ready
    #[arg(long, default_value_t = SERVER.start, value_parser = positive)]
    pub start: f64,

    /// The bounds of the replicas, where a file is played
    #[arg(long, default_value_t = 1)]
    pub min_replicas: u32,

    /// See --min-replicas
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_replicas: u32,
}

fn kind(text: &str) -> Result<Kind, String> {
    let names = || Kind::ALL.map(Kind::name).join(", ");
    Kind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| format!("one of {} is wanted", names()))
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0 && *number <= 1e7);
    number.ok_or_else(|| "a number above 0, at most 10000000, is wanted".to_owned())
}

/// Plays everything; prints the table, and writes the page where one is asked for.
///
/// # Errors
/// If a file cannot be read or written, or holds no counts; in words.
pub fn run(args: &SimulateArgs) -> Result<(), String> {
    let server = Server {
        fixed: args.fixed / 1e3,
        each: args.each / 1e3,
        batch_max: usize::from(args.batch_max),
        objective: args.slo / 1e3,
        start: args.start,
    };
    let seeds: Vec<u64> = (args.first_seed..args.first_seed.saturating_add(args.seeds)).collect();
    let (mut rows, mut courses) = (Vec::new(), Vec::new());
    let mut play = |name: &str, make: &dyn Fn(u64) -> Trace| {
        let row = table::row(name, &Policy::ALL, &seeds, make, Wrong::default());
        println!("{}", table::text(std::slice::from_ref(&row)));
        rows.push(row);
        if args.html.is_some() {
            let trace = make(seeds[0]);
            let all = Policy::ALL.into_iter().filter(|policy| policy.plays(&trace));
            let outcomes = all.map(|policy| (policy, policy.play(&trace, seeds[0], Wrong::default()))).collect();
            courses.push(Course { trace, outcomes });
        }
    };
    match &args.counts {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let first =
                Trace::parse(&name, &text, server, 1).map_err(|error| format!("{}: {error}", path.display()))?;
            let bounds = (args.min_replicas.min(args.max_replicas), args.max_replicas);
            play(&name, &|seed| {
                let trace = Trace::parse(&name, &text, server, seed).unwrap_or_else(|_| first.clone());
                Trace { min: bounds.0, max: bounds.1, first: bounds.0, ..trace }
            });
        }
        None => {
            let kinds = if args.traces.is_empty() { Kind::ALL.to_vec() } else { args.traces.clone() };
            for kind in kinds {
                play(kind.name(), &|seed| kind.trace(server, seed));
            }
        }
    }
    for line in lines::lines(&rows) {
        println!("{line}");
    }
    finish(args, &rows, &courses)
}

fn finish(args: &SimulateArgs, rows: &[Row], courses: &[Course]) -> Result<(), String> {
    let Some(path) = &args.html else { return Ok(()) };
    let about = format!(
        "Batches of b rows take {} + {} b ms, at most {} rows; objective {} ms; ready {} s after the order. Means of {} courses; \
         the curves are of the first.",
        args.fixed, args.each, args.batch_max, args.slo, args.start, args.seeds
    );
    std::fs::write(path, page::render(&about, rows, courses)).map_err(|error| format!("{}: {error}", path.display()))
}
