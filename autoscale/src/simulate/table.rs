//! The comparison: each trace under each policy, course by course and in the mean.

use std::fmt::Write;

use super::bound;
use super::ours::Wrong;
use super::outcome::Outcome;
use super::trace::{Kind, Trace};
use super::world::Server;
use super::{Policy, SERVER};

/// One policy on one trace: one course, or the mean over some.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    /// Per cent of the requests that were late or refused, those that waited for a first replica apart.
    pub violations: f64,
    /// Per cent of the requests that waited too long for a first replica.
    pub cold: f64,
    /// Replica hours.
    pub hours: f64,
    /// Cost over the least that it could have been; 0 where there may be no replica, since that is compared by what is cold.
    pub over_least: f64,
    /// 99th percentile of answers, in objectives.
    pub p99: f64,
    /// Changes of direction per hour.
    pub turns: f64,
    /// Changes after the tenth minute.
    pub late_changes: f64,
    /// Changes to less while no metrics came through.
    pub blind_downs: f64,
    /// The highest number.
    pub most: f64,
}

impl Cell {
    fn of(outcome: &Outcome, trace: &Trace, least: f64) -> Self {
        let requests = outcome.requests.max(1) as f64;
        let count = |of: &dyn Fn(f64, u32, u32) -> bool| {
            let befores = std::iter::once(trace.first).chain(outcome.changes.iter().map(|(_, wanted)| *wanted));
            let changes = outcome.changes.iter().zip(befores);
            changes.filter(|((when, wanted), before)| of(*when, *wanted, *before)).count() as f64
        };
        Self {
            violations: 100.0 * (outcome.bad - outcome.cold) as f64 / requests,
            cold: 100.0 * outcome.cold as f64 / requests,
            hours: outcome.replica_seconds / 3600.0,
            over_least: if trace.min == 0 { 0.0 } else { outcome.replica_seconds / least },
            p99: outcome.p99(),
            turns: outcome.turns(trace.seconds),
            late_changes: count(&|when, _, _| when > 600.0),
            // What was told last counts for three seconds more, and came a second late.
            blind_downs: count(&|when, wanted, before| trace.is_outage(when - 5.0) && wanted < before),
            most: f64::from(outcome.most),
        }
    }

    fn mean(cells: &[Self]) -> Self {
        let mean = |of: &dyn Fn(&Self) -> f64| cells.iter().map(of).sum::<f64>() / cells.len().max(1) as f64;
        Self {
            violations: mean(&|cell| cell.violations),
            cold: mean(&|cell| cell.cold),
            hours: mean(&|cell| cell.hours),
            over_least: mean(&|cell| cell.over_least),
            p99: mean(&|cell| cell.p99),
            turns: mean(&|cell| cell.turns),
            late_changes: mean(&|cell| cell.late_changes),
            blind_downs: mean(&|cell| cell.blind_downs),
            most: mean(&|cell| cell.most),
        }
    }

    /// Per cent of the requests that were not answered in time, for whatever reason.
    pub fn bad(&self) -> f64 {
        self.violations + self.cold
    }
}

/// One trace.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// By policy, the means over the courses.
    pub cells: Vec<(Policy, Cell)>,
    /// By policy, each course.
    pub courses: Vec<(Policy, Vec<Cell>)>,
}

impl Row {
    /// What a policy made of it, in the mean.
    pub fn cell(&self, policy: Policy) -> Option<&Cell> {
        self.cells.iter().find(|(own, _)| *own == policy).map(|(_, cell)| cell)
    }

    /// What a policy made of each course.
    pub fn each(&self, policy: Policy) -> &[Cell] {
        self.courses.iter().find(|(own, _)| *own == policy).map_or(&[], |(_, cells)| cells)
    }
}

/// Plays a trace for each of `seeds` under each of `policies`.
pub fn row(name: &str, policies: &[Policy], seeds: &[u64], make: impl Fn(u64) -> Trace, wrong: Wrong) -> Row {
    let traces: Vec<Trace> = seeds.iter().map(|seed| make(*seed)).collect();
    let least: Vec<f64> = traces.iter().map(bound::least).collect();
    let play = |policy: &Policy| {
        let played = traces.iter().zip(seeds).zip(&least).filter(|((trace, _), _)| policy.plays(trace));
        let cells = played.map(|((trace, seed), least)| Cell::of(&policy.play(trace, *seed, wrong), trace, *least));
        (*policy, cells.collect::<Vec<Cell>>())
    };
    let courses: Vec<(Policy, Vec<Cell>)> = policies.iter().map(play).filter(|(_, cells)| !cells.is_empty()).collect();
    let cells = courses.iter().map(|(policy, cells)| (*policy, Cell::mean(cells))).collect();
    Row { name: name.to_owned(), cells, courses }
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
        "{:<22} {:<16} {:>8} {:>7} {:>9} {:>7} {:>6} {:>7} {:>8} {:>5}",
        "trace", "scaler", "late %", "cold %", "replica-h", "x least", "p99", "turns/h", "changes", "most"
    );
    for row in rows {
        for (index, (policy, cell)) in row.cells.iter().enumerate() {
            let name = if index == 0 { row.name.as_str() } else { "" };
            let Cell { violations, cold, hours, over_least, p99, turns, late_changes, most, .. } = cell;
            let _ = writeln!(
                text,
                "{name:<22} {:<16} {violations:>8.3} {cold:>7.3} {hours:>9.3} {over_least:>7.2} {p99:>6.2} {turns:>7.1} {late_changes:>8.1} {most:>5.1}",
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
