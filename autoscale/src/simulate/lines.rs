//! What has to hold of our decision beside others', line by line: each says whether it does, and by which figures.
//!
//! Lines are about means over courses; beside it stands in how many of the single courses they hold, since one course's chance is
//! part of it.

use std::fmt;

use super::Policy;
use super::ours::Wrong;
use super::table::{Cell, Row};
use super::trace::{Kind, Trace};

/// Violations that are as good as each other, in per cent of the requests: one in two thousand is what a mean over seeds is known to.
pub const SAME: f64 = 0.05;

/// What a day and a ramp may cost over the least.
pub const OVER_LEAST: f64 = 1.25;

/// Changes under a constant load after ten minutes.
pub const LATE_CHANGES: f64 = 1.0;

/// What a mean over courses of less load may cost above one of more: a replica second in ten thousand is chance.
const MORE_SLACK: f64 = 1.0001;

/// The shares of a trace's requests that are played for the line about more load.
const SHARES: [f64; 3] = [0.5, 0.75, 1.0];

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What has to hold, and of which trace.
    pub what: String,
    /// Whether it does.
    pub holds: bool,
    /// By which figures.
    pub figures: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, holds, figures } = self;
        write!(f, "{:<7} {what}: {figures}", if *holds { "holds" } else { "MISSED" })
    }
}

/// All lines about these rows.
pub fn lines(rows: &[Row]) -> Vec<Line> {
    rows.iter().flat_map(of_row).collect()
}

fn of_row(row: &Row) -> Vec<Line> {
    let mut lines = Vec::new();
    lines.extend(compared(row, Policy::Ours, &[Policy::Kpa, Policy::Hpa]));
    lines.extend(compared(row, Policy::OursIdle, &[Policy::Kpa]));
    let Some(ours) = row.cell(Policy::Ours) else { return lines };
    let each = row.each(Policy::Ours);
    let counted = |holds: &dyn Fn(&Cell) -> bool| {
        format!("{} of {} courses", each.iter().filter(|cell| holds(cell)).count(), each.len())
    };
    if [Kind::Diurnal.name(), Kind::Ramp.name()].contains(&row.name.as_str()) {
        let within = |cell: &Cell| cell.over_least <= OVER_LEAST;
        lines.push(Line {
            what: format!("{}: cost at most {OVER_LEAST} of the least there is", row.name),
            holds: within(ours),
            figures: format!("{:.2}; in {}", ours.over_least, counted(&within)),
        });
    }
    if row.name == Kind::Constant.name() {
        let most = each.iter().map(|cell| cell.late_changes).fold(0.0, f64::max);
        lines.push(Line {
            what: format!("{}: at most {LATE_CHANGES} change after ten minutes, in every course", row.name),
            holds: most <= LATE_CHANGES,
            figures: format!("{most} at most"),
        });
    }
    if row.name == Kind::Outage.name() {
        let downs: f64 = each.iter().map(|cell| cell.blind_downs).sum();
        lines.push(Line {
            what: format!("{}: without metrics no replica goes, in every course", row.name),
            holds: downs == 0.0,
            figures: format!("{downs} went"),
        });
    }
    lines
}

/// No more violations than the rival with the fewest, at no more than its cost; of two rivals that are alike the cheaper one.
fn compared(row: &Row, policy: Policy, rivals: &[Policy]) -> Option<Line> {
    let ours = row.cell(policy)?;
    let cells = |of: &dyn Fn(Policy) -> Option<Cell>| -> Option<Vec<(Policy, Cell)>> {
        rivals.iter().map(|rival| of(*rival).map(|cell| (*rival, cell))).collect()
    };
    let (rival, better) = best(&cells(&|rival| row.cell(rival).copied())?)?;
    let holds = |ours: &Cell, better: &Cell| ours.bad() <= better.bad() + SAME && ours.hours <= better.hours;
    let each = row.each(policy);
    let own = each.iter().enumerate().filter(|(index, ours)| {
        let rivals = cells(&|rival| row.each(rival).get(*index).copied());
        rivals.and_then(|rivals| best(&rivals)).is_some_and(|(_, better)| holds(ours, &better))
    });
    let names: Vec<&str> = rivals.iter().map(|rival| rival.name()).collect();
    Some(Line {
        what: format!(
            "{}: {} no later than the better of {}, at no more cost",
            row.name,
            policy.name(),
            names.join(" and ")
        ),
        holds: holds(ours, &better),
        figures: format!(
            "{:.3} % late at {:.3} h, {} {:.3} % at {:.3} h; in {} of {} courses",
            ours.bad(),
            ours.hours,
            rival.name(),
            better.bad(),
            better.hours,
            own.count(),
            each.len()
        ),
    })
}

fn best(rivals: &[(Policy, Cell)]) -> Option<(Policy, Cell)> {
    let least = rivals.iter().map(|(_, cell)| cell.bad()).fold(f64::INFINITY, f64::min);
    let alike = rivals.iter().filter(|(_, cell)| cell.bad() <= least + SAME);
    alike.min_by(|(_, a), (_, b)| a.hours.total_cmp(&b.hours)).copied()
}

/// More load never fewer replicas: parts of the same requests are played, and what they cost has to rise with them.
pub fn more_load(kind: Kind, seeds: &[u64], make: impl Fn(u64) -> Trace) -> Line {
    let hours = SHARES.map(|share| {
        let played = seeds.iter().map(|seed| {
            let trace = make(*seed).thinned(share, *seed);
            Policy::Ours.play(&trace, *seed, Wrong::default()).replica_seconds / 3600.0
        });
        played.sum::<f64>() / seeds.len().max(1) as f64
    });
    let parts: Vec<String> =
        SHARES.iter().zip(&hours).map(|(share, hours)| format!("{hours:.3} h of {share} of them")).collect();
    Line {
        what: format!("{}: more requests never get fewer replicas", kind.name()),
        holds: hours.windows(2).all(|pair| pair[0] <= pair[1] * MORE_SLACK),
        figures: parts.join(", "),
    }
}
