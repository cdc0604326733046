//! The comparison: means over seeds, and what has to hold of them.

use std::fmt::Write;

use super::bound;
use super::ours::Wrong;
use super::trace::{Kind, Trace};
use super::world::{Outcome, Server};
use super::{Policy, SERVER};

/// Violations that are as good as each other, in per cent of the requests: one in two thousand is what a mean over seeds is known to.
pub const SAME: f64 = 0.05;

/// One policy on one trace, the mean over seeds.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// Per cent of the requests that were late or refused, those that waited for a first replica apart.
    pub violations: f64,
    /// Per cent of the requests that waited too long for a first replica.
    pub cold: f64,
    /// Replica hours.
    pub hours: f64,
    /// Cost over the least that it could have been.
    pub over_least: f64,
    /// 99th percentile of answers, in objectives.
    pub p99: f64,
    /// Changes of direction per hour.
    pub turns: f64,
    /// Changes after the tenth minute.
    pub late_changes: f64,
    /// The highest number.
    pub most: f64,
}

/// One trace.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// By policy.
    pub cells: Vec<(Policy, Cell)>,
}

impl Row {
    /// What a policy made of it.
    pub fn cell(&self, policy: Policy) -> Option<&Cell> {
        self.cells.iter().find(|(own, _)| *own == policy).map(|(_, cell)| cell)
    }

    /// Why ours does not do better than Knative's and Kubernetes': none where its violations are at most the lower of theirs at no
    /// more cost, or it is better in both than one of them with the fewest.
    pub fn fault(&self) -> Option<String> {
        let (ours, kpa, hpa) = (self.cell(Policy::Ours)?, self.cell(Policy::Kpa)?, self.cell(Policy::Hpa)?);
        let bad = |cell: &Cell| cell.violations + cell.cold;
        let better = if bad(kpa) <= bad(hpa) { kpa } else { hpa };
        // Of two that are alike the cheaper one.
        let better = if (bad(kpa) - bad(hpa)).abs() <= SAME && kpa.hours > hpa.hours { hpa } else { better };
        let holds = bad(ours) <= bad(better) + SAME && ours.hours <= better.hours;
        (!holds).then(|| {
            let (own, other) = (bad(ours), bad(better));
            format!("{}: {own:.3} % at {:.3} h beside {other:.3} % at {:.3} h", self.name, ours.hours, better.hours)
        })
    }
}

fn cell(outcomes: &[Outcome], traces: &[Trace], least: &[f64]) -> Cell {
    let count = outcomes.len() as f64;
    let mean = |of: &dyn Fn(usize) -> f64| (0..outcomes.len()).map(of).sum::<f64>() / count;
    let requests = |index: usize| outcomes[index].requests.max(1) as f64;
    Cell {
        violations: mean(&|at| 100.0 * (outcomes[at].bad - outcomes[at].cold) as f64 / requests(at)),
        cold: mean(&|at| 100.0 * outcomes[at].cold as f64 / requests(at)),
        hours: mean(&|at| outcomes[at].replica_seconds / 3600.0),
        // Whoever may go to zero is compared by what is cold.
        over_least: mean(&|at| if traces[at].min == 0 { 0.0 } else { outcomes[at].replica_seconds / least[at] }),
        p99: mean(&|at| outcomes[at].p99()),
        turns: mean(&|at| outcomes[at].turns(traces[at].seconds)),
        late_changes: mean(&|at| outcomes[at].changes.iter().filter(|(when, _)| *when > 600.0).count() as f64),
        most: mean(&|at| f64::from(outcomes[at].most)),
    }
}

/// Plays a trace for each of `seeds` under each of `policies`.
pub fn row(name: &str, policies: &[Policy], seeds: &[u64], make: impl Fn(u64) -> Trace, wrong: Wrong) -> Row {
    let traces: Vec<Trace> = seeds.iter().map(|seed| make(*seed)).collect();
    let least: Vec<f64> = traces.iter().map(bound::least).collect();
    let cells = policies.iter().map(|policy| {
        let outcomes: Vec<Outcome> =
            traces.iter().zip(seeds).map(|(trace, seed)| policy.play(trace, *seed, wrong)).collect();
        (*policy, cell(&outcomes, &traces, &least))
    });
    Row { name: name.to_owned(), cells: cells.collect() }
}

/// The trace of a kind, played with the usual model.
pub fn row_of(kind: Kind, policies: &[Policy], seeds: &[u64], wrong: Wrong) -> Row {
    row(kind.name(), policies, seeds, |seed| kind.trace(SERVER, seed), wrong)
}

/// What is told wrong in the table of sensitivity, and its name.
pub const ERRORS: [(&str, Wrong); 7] = [
    ("as it is", Wrong { curve: 1.0, start: 1.0, bursts: 1.0 }),
    ("curve 30 % too short", Wrong { curve: 0.7, start: 1.0, bursts: 1.0 }),
    ("curve 30 % too long", Wrong { curve: 1.3, start: 1.0, bursts: 1.0 }),
    ("starts 3x as long", Wrong { curve: 1.0, start: 3.0, bursts: 1.0 }),
    ("starts a third", Wrong { curve: 1.0, start: 1.0 / 3.0, bursts: 1.0 }),
    ("bursts 4x as heavy", Wrong { curve: 1.0, start: 1.0, bursts: 4.0 }),
    ("bursts a quarter", Wrong { curve: 1.0, start: 1.0, bursts: 0.25 }),
];

/// The rows as text.
pub fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<22} {:<11} {:>8} {:>7} {:>9} {:>7} {:>6} {:>7} {:>8} {:>5}",
        "trace", "scaler", "late %", "cold %", "replica-h", "x least", "p99", "turns/h", "changes", "most"
    );
    for row in rows {
        for (index, (policy, cell)) in row.cells.iter().enumerate() {
            let name = if index == 0 { row.name.as_str() } else { "" };
            let Cell { violations, cold, hours, over_least, p99, turns, late_changes, most } = cell;
            let _ = writeln!(
                text,
                "{name:<22} {:<11} {violations:>8.3} {cold:>7.3} {hours:>9.3} {over_least:>7.2} {p99:>6.2} {turns:>7.1} {late_changes:>8.1} {most:>5.1}",
                policy.name()
            );
        }
    }
    text
}

/// The table of sensitivity: ours, told wrong things, on `kinds`.
pub fn sensitivity(kinds: &[Kind], seeds: &[u64]) -> Vec<Row> {
    let rows = kinds.iter().flat_map(|kind| {
        ERRORS.map(|(error, wrong)| {
            let mut row = row_of(*kind, &[Policy::Ours], seeds, wrong);
            row.name = format!("{}: {error}", kind.name());
            row
        })
    });
    rows.collect()
}

/// The model that files are played with, where nothing else is said.
pub fn server() -> Server {
    SERVER
}
