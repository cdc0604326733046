//! `tensorgate profile`: what a model takes by batch size, and what it can serve within the objective.

mod chart;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tensorgate::config::{Config, Fault, Flags, resolve};
use tensorgate::error::Kind;
use tensorgate::repository::{Profile, ProfiledSize, Runtimes, profile};
use tensorgate::runtime::find_library;
use tensorgate::telemetry::init_logs;

use chart::Chart;

/// Columns of a terminal that does not say.
const COLUMNS: usize = 100;

/// Most rows that can be asked for: beyond, inputs alone take gigabytes.
const ROWS_MAX: usize = 65_536;

/// Flags of `tensorgate profile`.
#[derive(Args)]
pub(crate) struct ProfileFlags {
    /// The model to measure, out of a repository or from --model-dir
    #[arg(value_name = "MODEL")]
    model: String,

    /// Measure batches of up to this many rows [default: what the scheduler would form, at most 256]
    #[arg(long, value_name = "COUNT")]
    rows_max: Option<usize>,

    /// Print JSON instead of a table and a chart
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    flags: Flags,
}

/// Measures, and prints what was found.
pub(crate) fn run(mut given: ProfileFlags) -> ExitCode {
    if given.flags.model_dir.is_some() && given.flags.model_name.is_none() {
        given.flags.model_name = Some(given.model.clone());
    }
    let config = match check(&given) {
        Ok(config) => config,
        Err(faults) => return super::usage("profile", &faults),
    };
    // What goes wrong on the way, and nothing else.
    if let Err(message) = init_logs(config.log_format, "warn") {
        eprintln!("tensorgate: {message}");
    }
    let Some(found) = measured(&config, &given) else { return ExitCode::FAILURE };
    if given.json {
        println!("{:#}", as_json(&given.model, &found));
    } else {
        print!("{}", report(&given.model, &found, columns()));
    }
    ExitCode::SUCCESS
}

fn check(given: &ProfileFlags) -> Result<Config, Vec<Fault>> {
    let mut faults = Vec::new();
    if given.rows_max.is_some_and(|rows| !(1..=ROWS_MAX).contains(&rows)) {
        faults.push(Fault::new("--rows-max", format!("expected 1 to {ROWS_MAX}")));
    }
    match resolve(&given.flags) {
        Ok(config) if config.repository.repositories.is_empty() && config.repository.single.is_empty() => {
            let message = "nothing to measure: name the repository that holds the model, or its --model-dir";
            faults.push(Fault::new("REPOSITORY", message));
        }
        Ok(config) if faults.is_empty() => return Ok(config),
        Ok(_) => {}
        Err(more) => faults.extend(more),
    }
    Err(faults)
}

fn measured(config: &Config, given: &ProfileFlags) -> Option<Profile> {
    let library = find_library();
    if library.is_none() {
        eprintln!("tensorgate: no libonnxruntime.so found: ONNX models run on tract");
    }
    match profile(&config.repository, Runtimes::new(library), &given.model, given.rows_max) {
        Ok(found) => Some(found),
        Err(error) => {
            eprintln!("tensorgate: {error}");
            if error.kind() == Kind::Execution {
                eprintln!("tensorgate: serve it instead: what it takes is learned from requests (/metrics)");
            }
            None
        }
    }
}

fn columns() -> Option<usize> {
    let output = std::io::stdout();
    output.is_terminal().then(|| {
        let size = rustix::termios::tcgetwinsize(&output).ok().map(|size| usize::from(size.ws_col));
        size.filter(|&columns| columns > 0).unwrap_or(COLUMNS)
    })
}

/// The table and the chart; `columns` of the terminal, where it is one.
fn report(model: &str, found: &Profile, columns: Option<usize>) -> String {
    let Profile { version, runtime, instances, threads, objective, capacity, .. } = found;
    let copies = if *instances == 1 { "instance" } else { "instances" };
    let each = if *threads == 1 { "thread" } else { "threads" };
    let mut text = format!(
        "{model} version {version} on {runtime}: {instances} {copies} of {threads} {each}, objective {objective:?}\n"
    );
    if let Some(reason) = &found.not_joined {
        text.push_str(&format!("Requests are not joined: {reason}\n"));
    }
    text.push_str(&format!("\n{:>6}  {:>10}  {:>10}  {:>10}  {:>6}\n", "ROWS", "P50", "P95", "ROWS/S", "GAIN"));
    let alone = found.sizes.first().map_or(0.0, ProfiledSize::rows_per_second);
    for size in &found.sizes {
        let rate = size.rows_per_second();
        text.push_str(&format!(
            "{:>6}  {:>10}  {:>10}  {:>10}  {:>5.1}x{}\n",
            size.rows,
            time(size.p50),
            time(size.p95),
            count(rate),
            rate / alone.max(1e-9),
            if size.rows == capacity.batch { "  <" } else { "" }
        ));
    }
    text.push('\n');
    text.push_str(&Chart::new(columns).draw(&found.sizes));
    text.push_str(&match capacity.batch {
        0 => format!("\nNot even one row is answered within {objective:?}: it takes longer than that alone.\n"),
        batch => format!(
            "\nCapacity within {objective:?}: {} rows/s on {instances} {copies}, in batches of {batch} (<), for independent \
             callers.\nROWS/S and GAIN are one instance's.\n",
            count(capacity.rows_per_second)
        ),
    });
    text
}

fn as_json(model: &str, found: &Profile) -> Value {
    let size = |size: &ProfiledSize| {
        json!({
            "rows": size.rows, "p50_seconds": size.p50.as_secs_f64(), "p95_seconds": size.p95.as_secs_f64(),
            "rows_per_second": size.rows_per_second(), "runs": size.runs,
        })
    };
    json!({
        "model": model,
        "version": found.version.to_string(),
        "runtime": found.runtime,
        "instances": found.instances,
        "threads": found.threads,
        "objective_seconds": found.objective.as_secs_f64(),
        "not_joined": found.not_joined,
        "sizes": found.sizes.iter().map(size).collect::<Vec<_>>(),
        "capacity": {
            "rows_per_second": found.capacity.rows_per_second, "batch_rows": found.capacity.batch,
        },
    })
}

/// A time with three digits.
fn time(time: Duration) -> String {
    let (value, unit) = match time.as_secs_f64() {
        seconds if seconds < 1e-3 => (seconds * 1e6, "us"),
        seconds if seconds < 1.0 => (seconds * 1e3, "ms"),
        seconds => (seconds, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// A rate with its thousands apart, as long as it has none behind the point.
fn count(rate: f64) -> String {
    if rate < 100.0 {
        return format!("{rate:.1}");
    }
    let digits = format!("{rate:.0}");
    let apart = |(place, digit): (usize, char)| {
        let comma = place > 0 && (digits.len() - place).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(apart).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_rates_their_thousands_apart() {
        let micros = |micros| time(Duration::from_micros(micros));
        assert_eq!([micros(5), micros(123), micros(4_567)], ["5.00 us", "123 us", "4.57 ms"]);
        assert_eq!([micros(45_670), micros(1_500_000)], ["45.7 ms", "1.50 s"]);
        assert_eq!(
            [count(9.87), count(123.4), count(1234.0), count(1_234_567.0)],
            ["9.9", "123", "1,234", "1,234,567"]
        );
    }
}
