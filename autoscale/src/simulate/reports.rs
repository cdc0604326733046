//! What scalers work out of replicas' reports: sums over those that came through, carried over to those that did not.

use std::collections::BTreeMap;

use super::world::{Report, Seen};

/// Reports that were missing for so many seconds are missing; until then the one before holds.
const KEPT: u32 = 3;

/// The last reports, and what came to be since those before.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    last: BTreeMap<u64, (Report, u32)>,
    /// Replicas whose report is not too old.
    pub reporting: u32,
    /// What came to be since the last call.
    pub new: Report,
}

impl Totals {
    /// Takes in what is seen in a second.
    pub fn take(&mut self, seen: &Seen) {
        self.new = Report::default();
        self.reporting = 0;
        self.last.retain(|number, _| seen.reports.iter().any(|(other, _)| other == number));
        for (number, report) in &seen.reports {
            match report {
                Some(report) => {
                    let (before, age) = self.last.insert(*number, (*report, 0)).unwrap_or_default();
                    // What came to be while it was missing did not all come in this second.
                    let share = if age < KEPT { 1.0 } else { 1.0 / f64::from(age + 1) };
                    self.new.arrived += (report.arrived - before.arrived) * share;
                    self.new.ended += (report.ended - before.ended) * share;
                    self.new.bad += (report.bad - before.bad) * share;
                    self.new.busy += (report.busy - before.busy) * share;
                    self.reporting += 1;
                }
                None => {
                    if let Some((_, age)) = self.last.get_mut(number) {
                        *age += 1;
                        self.reporting += u32::from(*age < KEPT);
                    }
                }
            }
        }
    }

    fn sum(&self, of: impl Fn(&Report) -> f64) -> f64 {
        self.last.values().filter(|(_, age)| *age < KEPT).map(|(report, _)| of(report)).sum()
    }

    /// Rows that wait at those that report.
    pub fn waiting(&self) -> f64 {
        self.sum(|report| report.waiting)
    }

    /// Requests in flight at those that report.
    pub fn in_flight_told(&self) -> f64 {
        self.sum(|report| report.in_flight)
    }

    /// Requests in flight at all ready replicas, as if those that do not report were like the others; none where none does.
    pub fn in_flight(&self, seen: &Seen) -> Option<f64> {
        (self.reporting > 0).then(|| self.in_flight_told() * f64::from(seen.ready) / f64::from(self.reporting))
    }
}
