//! The whole table of autoscalers on a virtual clock, and a verdict on each line that has to hold. `SEEDS=n` for other than 20
//! courses of each trace, `FIRST=n` for other than those from seed 1 on, `--filter WORD` for some traces.

use tensorgate_autoscale::simulate::lines::{self, Line};
use tensorgate_autoscale::simulate::ours::Wrong;
use tensorgate_autoscale::simulate::table::{self, Row};
use tensorgate_autoscale::simulate::trace::Kind;
use tensorgate_autoscale::simulate::{Policy, SERVER};

/// Traces of the table of sensitivity and of the line about more load, which are played on some of the courses.
const SENSITIVE: [Kind; 3] = [Kind::Step, Kind::Diurnal, Kind::Bursty];
const FEW: usize = 5;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filter = arguments.iter().position(|argument| argument == "--filter").and_then(|at| arguments.get(at + 1));
    let first = number("FIRST", 1);
    let seeds: Vec<u64> = (first..first + number("SEEDS", 20)).collect();
    let few = &seeds[..seeds.len().min(FEW)];
    let wanted = |kind: &Kind| filter.is_none_or(|word| kind.name().contains(word.as_str()));
    let mut rows: Vec<Row> = Vec::new();
    for kind in Kind::ALL.into_iter().filter(wanted) {
        let row = table::row_of(kind, &Policy::ALL, &seeds, Wrong::default());
        println!("{}", table::text(std::slice::from_ref(&row)));
        rows.push(row);
    }
    let more =
        SENSITIVE.into_iter().filter(wanted).map(|kind| lines::more_load(kind, few, |seed| kind.trace(SERVER, seed)));
    let all: Vec<Line> = lines::lines(&rows).into_iter().chain(more).collect();
    all.iter().for_each(|line| println!("{line}"));
    println!(
        "{} of {} lines hold, over seeds {first} to {}",
        all.iter().filter(|line| line.holds).count(),
        all.len(),
        seeds.last().unwrap_or(&first)
    );
    if filter.is_none() {
        println!("\n{}", table::text(&table::sensitivity(&SENSITIVE, few)));
    }
}
