//! A report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere; its curves also as
//! one SVG file.

mod chart;
mod figure;
mod scale;

use std::fmt::Write;

use self::chart::{Chart, Frame, Line, Mark, Size};
use crate::report::Report;
use crate::report::text::millis;
use crate::report::timeline::Slot;

const STYLE: &str = include_str!("style.css");
/// The most runs drawn one by one.
const DRAWN_MAX: usize = 6;

/// A point of a server's curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// Requests per second.
    pub(crate) offered: f64,
    /// Good ones per second.
    pub(crate) goodput: f64,
    /// Latencies of answers in microseconds: median, 99 %, 99.9 %.
    pub(crate) latency: [f64; 3],
}

impl Point {
    /// The point of one run, at the rate that was asked for if one was.
    pub(crate) fn of(asked: Option<f64>, report: &Report) -> Self {
        let latency = [report.answered.p50_us, report.answered.p99_us, report.answered.p999_us];
        Self { offered: asked.unwrap_or(report.offered_rate), goodput: report.goodput, latency }
    }
}

/// The points of one server, or of one objective.
#[derive(Clone, Debug, Default)]
pub(crate) struct Curve {
    /// In the legend.
    pub(crate) name: String,
    /// The objective in milliseconds that holds for this curve alone.
    pub(crate) slo_ms: Option<f64>,
    /// Ascending in what was offered.
    pub(crate) points: Vec<Point>,
}

impl Curve {
    /// Under the objective of the whole page.
    pub(crate) fn new(name: &str, points: Vec<Point>) -> Self {
        Self { name: name.to_owned(), slo_ms: None, points }
    }
}

/// What a page shows.
#[derive(Default)]
pub(crate) struct Page<'a> {
    /// The heading.
    pub(crate) title: String,
    /// Below it: what was asked, how, with which seed.
    pub(crate) about: String,
    /// Figures in large: value and meaning.
    pub(crate) facts: Vec<(String, String)>,
    /// The objective in milliseconds.
    pub(crate) slo_ms: Option<f64>,
    /// The rate to point out, and its name in the table.
    pub(crate) best: Option<(f64, String)>,
    /// A curve for each server.
    pub(crate) curves: Vec<Curve>,
    /// Runs to draw one by one.
    pub(crate) runs: Vec<(String, &'a Report)>,
    /// Lines of the table, with their first column.
    pub(crate) table: Vec<(String, &'a Report)>,
    /// A further table: heading and lines.
    pub(crate) further: Option<(Vec<String>, Vec<Vec<String>>)>,
}

/// Text as HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Page<'_> {
    /// The page.
    pub(crate) fn render(&self) -> String {
        let fact = |(value, name): &(String, String)| {
            format!("<div class=\"fact\"><b>{}</b><span class=\"muted\">{}</span></div>", escape(value), escape(name))
        };
        let title = escape(&self.title);
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{title}</title><style>\n{STYLE}</style></head>\n<body><main><h1>{title}</h1>\
             <p class=\"muted\">{}</p>\n<div class=\"facts\">{}</div>\n<div class=\"cards\">\n{}{}</div>\n{}{}\
             <footer class=\"muted\">Latencies count from when a request was due (open loop) or sent (closed loop). \
             Good: answered within the objective. Late: answered after it. Refused: 429, 503, RESOURCE_EXHAUSTED or \
             UNAVAILABLE. Failed: everything else. * The generator was the limit: its own lag is large, or requests \
             waited for a connection.</footer></main></body></html>\n",
            escape(&self.about),
            self.facts.iter().map(fact).collect::<String>(),
            self.curves(),
            self.runs(),
            self.further(),
            self.table(),
        )
    }

    /// The curves of goodput and latency as one SVG file.
    pub(crate) fn figure(&self) -> String {
        figure::render(&self.title, &self.about, &self.charts(figure::PANEL))
    }

    fn curves(&self) -> String {
        if self.curves.iter().all(|curve| curve.points.len() < 2) {
            return String::new();
        }
        self.charts(Size::default()).iter().map(Chart::card).collect()
    }

    /// Goodput and latency over what was offered.
    fn charts(&self, size: Size) -> [Chart<'static>; 2] {
        let upright = self.best.clone().map(|(at, name)| Mark { at, name, colour: None });
        let x = "offered, requests per second";
        let goodput = Frame {
            title: "Goodput by offered rate",
            labels: (x, "good answers per second"),
            diagonal: Some("all offered"),
            size,
            upright,
            dots: true,
            ..Frame::default()
        };
        let lines = self.curves.iter().enumerate().map(|(index, curve)| {
            let points = curve.points.iter().map(|point| (point.offered, point.goodput)).collect();
            Line { name: curve.name.clone(), colour: Some(index), dashed: false, points }
        });
        let lines: Vec<Line> = lines.collect();
        let all = self.slo_ms.map(|slo| Mark { at: slo, name: format!("SLO {slo} ms"), colour: None });
        let own = self.curves.iter().enumerate().filter_map(|(index, curve)| {
            let at = curve.slo_ms?;
            Some(Mark { at, name: format!("SLO {at} ms"), colour: Some(index) })
        });
        let latency = Frame {
            title: if self.by_objective() { "99 % of the answers within" } else { "Latency by offered rate" },
            labels: (x, "latency, ms"),
            levels: all.into_iter().chain(own).collect(),
            logarithmic: true,
            diagonal: None,
            upright: goodput.upright.clone(),
            ..goodput
        };
        [chart::lines(&goodput, &lines), chart::lines(&latency, &self.latencies())]
    }

    /// Whether curves differ in their objective.
    fn by_objective(&self) -> bool {
        self.curves.iter().any(|curve| curve.slo_ms.is_some())
    }

    /// Of one server three quantiles, of several two, of several objectives the one that the objective is about.
    fn latencies(&self) -> Vec<Line> {
        let line = |name: String, colour, dashed, points: &[Point], which: usize| {
            let answered = points.iter().filter(|point| point.latency[which] > 0.0);
            let points = answered.map(|point| (point.offered, point.latency[which] / 1e3)).collect();
            Line { name, colour: Some(colour), dashed, points }
        };
        let curves = self.curves.iter().enumerate();
        if self.by_objective() {
            return curves.map(|(index, curve)| line(curve.name.clone(), index, false, &curve.points, 1)).collect();
        }
        if let [Curve { points, .. }] = &self.curves[..] {
            let quantiles = ["p50", "p99", "p99.9"].into_iter().enumerate();
            return quantiles.map(|(which, name)| line(name.to_owned(), which, false, points, which)).collect();
        }
        curves
            .flat_map(|(index, Curve { name, points, .. })| {
                [(1, false), (0, true)].map(|(which, dashed)| {
                    let quantile = if dashed { "p50" } else { "p99" };
                    line(format!("{name} {quantile}"), index, dashed, points, which)
                })
            })
            .collect()
    }

    fn runs(&self) -> String {
        let drawn = &self.runs[..self.runs.len().min(DRAWN_MAX)];
        let histograms: Vec<_> =
            drawn.iter().map(|(name, report)| (name.as_str(), report.histogram.as_slice())).collect();
        let mut cards = chart::histogram("Latency of answers", &histograms, self.slo_ms).card();
        let rate = |slot: &Slot| slot.outcomes.total() as f64 / slot.seconds.max(1e-9);
        let most = drawn.iter().flat_map(|(_, report)| &report.timeline).map(rate).fold(0.0, f64::max);
        for (name, report) in drawn {
            let title =
                if drawn.len() > 1 { format!("Outcomes over time: {name}") } else { "Outcomes over time".into() };
            cards += &chart::timeline(&title, &report.timeline, most).card();
        }
        cards
    }

    fn further(&self) -> String {
        let Some((heading, lines)) = &self.further else { return String::new() };
        let cells = |tag: &str, cells: &[String]| {
            let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
            format!("<tr>{cells}</tr>\n")
        };
        let lines: String = lines.iter().map(|line| cells("td", line)).collect();
        format!(
            "<section class=\"card wide\"><table class=\"named\">{}{lines}</table></section>\n",
            cells("th", heading)
        )
    }

    fn table(&self) -> String {
        let names = [
            "",
            "offered/s",
            "good/s",
            "good %",
            "late %",
            "refused %",
            "failed %",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms",
            "cpu us",
        ];
        let mut html = String::from("<section class=\"card wide\"><table><tr>");
        names.iter().for_each(|name| {
            let _ = write!(html, "<th>{name}</th>");
        });
        html += "</tr>\n";
        for (name, report) in &self.table {
            let total = report.outcomes.total().max(1) as f64;
            let of = report.outcomes;
            let share = |count: u64| format!("{:.2}", 100.0 * count as f64 / total);
            let limit = if report.generator_limit().is_some() { " *" } else { "" };
            let mut cells = vec![
                format!("{}{limit}", escape(name)),
                format!("{:.1}", report.offered_rate),
                format!("{:.1}", report.goodput),
            ];
            cells.extend([of.good, of.late, of.refused, of.failed].map(share));
            let q = &report.answered;
            cells.extend([q.p50_us, q.p90_us, q.p99_us, q.p999_us, q.max_us].map(millis));
            cells.push(report.server_cpu_us.map_or("-".to_owned(), |cpu| format!("{cpu:.1}")));
            let best = self.best.as_ref().is_some_and(|(_, best)| best == name);
            let class = if best { " class=\"best\"" } else { "" };
            let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
            let _ = writeln!(html, "<tr{class}>{cells}</tr>");
        }
        html + "</table></section>\n"
    }
}

#[cfg(test)]
mod tests;
