//! The whole table of autoscalers on a virtual clock. `SEEDS=n` for other than 20 courses of each trace, `--filter WORD` for some
//! traces.

use tensorgate_autoscale::simulate::Policy;
use tensorgate_autoscale::simulate::ours::Wrong;
use tensorgate_autoscale::simulate::table::{self, Row};
use tensorgate_autoscale::simulate::trace::Kind;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filter = arguments.iter().position(|argument| argument == "--filter").and_then(|at| arguments.get(at + 1));
    let count = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(20);
    let seeds: Vec<u64> = (1..=count).collect();
    let kinds = Kind::ALL.into_iter().filter(|kind| filter.is_none_or(|word| kind.name().contains(word.as_str())));
    let mut rows: Vec<Row> = Vec::new();
    for kind in kinds {
        let row = table::row_of(kind, &Policy::ALL, &seeds, Wrong::default());
        println!("{}", table::text(std::slice::from_ref(&row)));
        rows.push(row);
    }
    for row in &rows {
        match row.fault() {
            None => println!("{}: no more violations than the better of KPA and HPA, at no more cost", row.name),
            Some(fault) => println!("{fault}"),
        }
    }
    if filter.is_none() {
        let few = &seeds[..seeds.len().min(5)];
        println!("\n{}", table::text(&table::sensitivity(&[Kind::Step, Kind::Diurnal, Kind::Bursty], few)));
    }
}
