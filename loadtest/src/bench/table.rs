//! The table: one line per case, each figure with its ceiling, their ratio, and whether the target is met.

use std::fmt;

/// What a figure counts, and so how it is written and which direction is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Requests or rows per second: more is better.
    PerSecond,
    /// Microseconds: less is better.
    Micros,
    /// Milliseconds: less is better.
    Millis,
    /// Megabytes (10^6 bytes): less is better.
    Megabytes,
}

impl Unit {
    fn show(self, figure: f64) -> String {
        match self {
            Self::PerSecond if figure >= 10_000.0 => format!("{:.1} k/s", figure / 1e3),
            Self::PerSecond => format!("{figure:.0} /s"),
            Self::Micros => format!("{figure:.0} us"),
            Self::Millis => format!("{figure:.1} ms"),
            Self::Megabytes => format!("{figure:.1} MB"),
        }
    }

    /// How well `server` does against `ceiling`: 1 is as well.
    pub(super) fn ratio(self, server: f64, ceiling: f64) -> f64 {
        if self == Self::PerSecond { server / ceiling } else { ceiling / server }
    }
}

/// What has to be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Target {
    /// At least this share of the ceiling.
    Share(f64),
    /// Less than this, in the row's unit.
    Below(f64),
    /// Only shown.
    None,
}

/// A figure with what the process that reached it used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figure {
    /// In the row's unit.
    pub(super) value: f64,
    /// CPU microseconds per request, where they could be observed.
    pub(super) cpu_us: Option<f64>,
    /// How much of one core that was, 0 to 1.
    pub(super) busy: Option<f64>,
}

impl Figure {
    /// A figure of which nothing else is known.
    pub(super) fn bare(value: f64) -> Self {
        Self { value, cpu_us: None, busy: None }
    }
}

/// A pair of windows measured next to each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pair {
    /// The server's figure.
    pub(super) server: Figure,
    /// The ceiling's figure.
    pub(super) ceiling: Figure,
}

/// The pair with the middle ratio, and the least and the greatest ratio. Neighbouring windows share what the machine is
/// going through, so their ratio is steadier than that of two medians taken apart.
pub(super) fn median(unit: Unit, mut pairs: Vec<Pair>) -> Option<(Pair, (f64, f64))> {
    let ratio = |pair: &Pair| unit.ratio(pair.server.value, pair.ceiling.value);
    pairs.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    let middle = *pairs.get(pairs.len() / 2)?;
    Some((middle, (ratio(pairs.first()?), ratio(pairs.last()?))))
}

/// One line.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// What was measured.
    pub(super) case: String,
    /// In what.
    pub(super) unit: Unit,
    /// The server's figure, or why there is none.
    pub(super) server: Result<f64, String>,
    /// The ceiling's figure.
    pub(super) ceiling: Option<f64>,
    /// The least and the greatest ratio of all pairs.
    pub(super) spread: Option<(f64, f64)>,
    /// CPU microseconds per request: the server's, and the ceiling's.
    pub(super) cpu_us: (Option<f64>, Option<f64>),
    /// What has to be reached.
    pub(super) target: Target,
    /// Failed requests over all windows. A figure with failures meets no target.
    pub(super) errors: Vec<String>,
    /// What a reader has to know of the figures.
    pub(super) notes: Vec<String>,
}

impl Row {
    /// A line without figures, because something was missing or went wrong.
    pub(super) fn failed(case: &str, unit: Unit, target: Target, reason: String) -> Self {
        let (case, errors, notes) = (case.to_owned(), Vec::new(), Vec::new());
        let cpu_us = (None, None);
        Self { case, unit, server: Err(reason), ceiling: None, spread: None, cpu_us, target, errors, notes }
    }

    /// A line of a figure and its ceiling, and the least and greatest ratio of their parts.
    pub(super) fn of(case: &str, unit: Unit, target: Target, figures: (f64, f64), spread: Option<(f64, f64)>) -> Self {
        let (server, ceiling) = (Ok(figures.0), Some(figures.1));
        Self { server, ceiling, spread, ..Self::failed(case, unit, target, String::new()) }
    }

    fn ratio(&self) -> Option<f64> {
        Some(self.unit.ratio(*self.server.as_ref().ok()?, self.ceiling?))
    }

    /// Whether the target is met; `None` without a target.
    pub(super) fn met(&self) -> Option<bool> {
        let reached = match self.target {
            Target::None => return None,
            Target::Share(share) => self.ratio().is_some_and(|ratio| ratio >= share),
            Target::Below(limit) => self.server.as_ref().is_ok_and(|figure| *figure < limit),
        };
        Some(reached && self.errors.is_empty())
    }

    /// The heading of the table.
    pub(super) fn heading() -> &'static str {
        "| case | server | ceiling | ratio | its spread | target | met? | server CPU us/request | ceiling CPU us/request |\n\
         |---|---|---|---|---|---|---|---|---|"
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| self.unit.show(figure));
        let server = self.server.as_ref().map_or_else(|reason| format!("n/a: {reason}"), |it| self.unit.show(*it));
        let ratio = self.ratio().map_or("-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0));
        let spread = self.spread.filter(|_| self.server.is_ok());
        let spread =
            spread.map_or("-".to_owned(), |(low, high)| format!("{:.1} to {:.1} %", low * 100.0, high * 100.0));
        let target = match self.target {
            Target::Share(share) => format!(">= {:.0} %", share * 100.0),
            Target::Below(limit) => format!("< {}", self.unit.show(limit)),
            Target::None => "-".to_owned(),
        };
        let met = self.met().map_or("-", |met| if met { "yes" } else { "NO" });
        let cpu = |cpu: Option<f64>| cpu.map_or("-".to_owned(), |cpu| format!("{cpu:.2}"));
        let server = server.replace(['\n', '|'], " ");
        let ceiling = figure(self.ceiling);
        let (cpu, ceiling_cpu) = (cpu(self.cpu_us.0), cpu(self.cpu_us.1));
        let case = &self.case;
        write!(f, "| {case} | {server} | {ceiling} | {ratio} | {spread} | {target} | {met} | {cpu} | {ceiling_cpu} |")?;
        let marked = |mark: &'static str, lines: &[String]| -> Vec<String> {
            lines.iter().map(|line| format!("\n| - {mark}{line} | | | | | | | | |")).collect()
        };
        let further = [marked("failures: ", &self.errors), marked("", &self.notes)].concat();
        f.write_str(&further.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(server: f64, target: Target) -> Row {
        let failed = Row::failed("case", Unit::PerSecond, target, String::new());
        Row { server: Ok(server), ceiling: Some(100.0), ..failed }
    }

    #[test]
    fn the_median_is_the_pair_with_the_middle_ratio() {
        let pair = |server, ceiling| Pair { server: Figure::bare(server), ceiling: Figure::bare(ceiling) };
        let pairs = vec![pair(50.0, 100.0), pair(90.0, 100.0), pair(30.0, 50.0)];
        assert_eq!(median(Unit::PerSecond, pairs.clone()), Some((pair(30.0, 50.0), (0.5, 0.9))));
        assert_eq!(median(Unit::Micros, pairs), Some((pair(30.0, 50.0), (100.0 / 90.0, 2.0))));
        assert_eq!(median(Unit::Micros, vec![]), None);
    }

    #[test]
    fn a_target_is_met_only_by_a_figure_without_failures() {
        assert_eq!(row(40.0, Target::Share(0.4)).met(), Some(true));
        assert_eq!(row(39.0, Target::Share(0.4)).met(), Some(false));
        assert_eq!(row(39.0, Target::None).met(), None);
        assert_eq!(row(39.0, Target::Below(40.0)).met(), Some(true));
        let failing = Row { errors: vec!["3 http 500".to_owned()], ..row(90.0, Target::Share(0.4)) };
        assert_eq!(failing.met(), Some(false));
        let absent = Row::failed("case", Unit::PerSecond, Target::Share(0.4), "gone".to_owned());
        assert_eq!(absent.met(), Some(false));
        assert!(absent.to_string().contains("n/a: gone"));
        let shown = Row { spread: Some((0.39, 0.41)), ..row(40.0, Target::Share(0.4)) }.to_string();
        assert!(shown.starts_with("| case | 40 /s | 100 /s | 40.0 % | 39.0 to 41.0 % | >= 40 % | yes"), "{shown}");
    }

    #[test]
    fn every_line_of_a_row_has_the_columns_of_the_heading() {
        let columns = |line: &str| line.matches('|').count();
        let wanted = columns(Row::heading().lines().next().unwrap());
        let (errors, notes) = (vec!["3 http 500".to_owned()], vec!["a note".to_owned()]);
        let row = Row { errors, notes, ..row(40.0, Target::None) };
        let lines = [Row::heading().to_owned(), row.to_string()].join("\n");
        assert!(lines.lines().all(|line| columns(line) == wanted), "{lines}");
        assert_eq!(lines.lines().count(), 5);
    }
}
