//! Charts as inline SVG; colours are variables of the page, so that they follow its light or dark.

use std::fmt::Write;

use super::escape;
use super::scale::{Scale, short};
use crate::report::latencies::Bin;
use crate::report::outcome::Class;
use crate::report::timeline::Slot;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 42.0;

/// A curve.
pub(super) struct Line {
    /// In the legend.
    pub(super) name: String,
    /// Which of the page's colours; `None` is that of notes.
    pub(super) colour: Option<usize>,
    /// Drawn in dashes.
    pub(super) dashed: bool,
    /// Ascending in x.
    pub(super) points: Vec<(f64, f64)>,
}

/// What a chart says around its curves.
#[derive(Default)]
pub(super) struct Frame<'a> {
    /// Above it.
    pub(super) title: &'a str,
    /// What lies to the right, and upwards.
    pub(super) labels: (&'a str, &'a str),
    /// Values above zero on a logarithmic scale.
    pub(super) logarithmic: bool,
    /// A dashed line at this y, with its name.
    pub(super) level: Option<(f64, String)>,
    /// A dashed line at this x, with its name.
    pub(super) upright: Option<(f64, String)>,
    /// Straight between points, or in steps.
    pub(super) dots: bool,
}

fn colour(index: Option<usize>) -> String {
    index.map_or("var(--muted)".to_owned(), |index| format!("var(--s{})", index % 6))
}

/// Names with their colours, and whether their curves are dashed.
fn legend<'a>(entries: impl Iterator<Item = (&'a str, String, bool)>) -> String {
    let entry = |(name, colour, dashed): (&str, String, bool)| {
        let class = if dashed { " class=\"dashed\"" } else { "" };
        format!("<span><i{class} style=\"color:{colour}\"></i>{}</span>", escape(name))
    };
    format!("<div class=\"legend\">{}</div>", entries.map(entry).collect::<String>())
}

fn card(title: &str, legend: &str, label: &str, body: &str) -> String {
    format!(
        "<section class=\"card\"><h2>{title}</h2>{legend}<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"{title}\"><text x=\"{LEFT}\" y=\"10\">{label}</text>{body}</svg></section>\n",
        title = escape(title),
        label = escape(label),
    )
}

/// Grid, axes and their numbers.
fn axes(x: &Scale, y: &Scale, x_label: &str) -> String {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let mut svg = String::new();
    for tick in y.ticks() {
        let at = y.at(tick);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            short(tick)
        );
    }
    for tick in x.ticks() {
        let at = x.at(tick);
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 4.0,
            bottom + 18.0,
            short(tick)
        );
    }
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
         <text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        HEIGHT - 6.0,
        escape(x_label)
    );
    svg
}

/// Curves over a common x.
pub(super) fn lines(frame: &Frame<'_>, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let values = || points().map(|point| point.1).chain(frame.level.as_ref().map(|level| level.0));
    let (low, high) = (values().filter(|y| *y > 0.0).fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let x = Scale::linear(points().map(|point| point.0).fold(0.0, f64::max), LEFT, WIDTH - RIGHT);
    let (bottom, top) = (HEIGHT - BOTTOM, TOP + 4.0);
    let y =
        if frame.logarithmic { Scale::logarithmic(low, high, bottom, top) } else { Scale::linear(high, bottom, top) };
    let mut svg = axes(&x, &y, frame.labels.0);
    svg += &marks(frame, &x, &y);
    for line in lines {
        let path: Vec<String> =
            line.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x.at(*px), y.at(*py))).collect();
        let (stroke, dash) = (colour(line.colour), if line.dashed { " dash" } else { "" });
        let _ = write!(svg, "<polyline class=\"curve{dash}\" stroke=\"{stroke}\" points=\"{}\"/>", path.join(" "));
        for (px, py) in line.points.iter().filter(|_| frame.dots && !line.dashed) {
            let _ = write!(
                svg,
                "<circle r=\"3.5\" fill=\"{stroke}\" cx=\"{:.1}\" cy=\"{:.1}\"><title>{}: {} at {}</title></circle>",
                x.at(*px),
                y.at(*py),
                escape(&line.name),
                short(*py),
                short(*px)
            );
        }
    }
    let legend = legend(lines.iter().map(|line| (line.name.as_str(), colour(line.colour), line.dashed)));
    card(frame.title, &legend, frame.labels.1, &svg)
}

fn marks(frame: &Frame<'_>, x: &Scale, y: &Scale) -> String {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let mut svg = String::new();
    if let Some((value, name)) = &frame.level {
        let at = y.at(*value);
        let _ = write!(
            svg,
            "<line class=\"mark\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT + 6.0,
            at + 14.0,
            escape(name)
        );
    }
    if let Some((value, name)) = &frame.upright {
        let at = x.at(*value);
        // On the side where there is more space.
        let (text, anchor) = if at > WIDTH / 2.0 { (at - 6.0, "end") } else { (at + 6.0, "start") };
        let _ = write!(
            svg,
            "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text x=\"{text:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            TOP + 10.0,
            escape(name)
        );
    }
    svg
}

/// Latency histograms on a logarithmic scale, as shares, so that runs of different size compare.
pub(super) fn histogram(title: &str, runs: &[(&str, &[Bin])], slo_ms: Option<f64>) -> String {
    let bins = || runs.iter().flat_map(|(_, bins)| bins.iter());
    let low = bins().map(|bin| bin.from_us / 1e3).fold(f64::INFINITY, f64::min);
    let high = bins().map(|bin| bin.to_us / 1e3).chain(slo_ms).fold(0.0, f64::max);
    let shares: Vec<Vec<f64>> = runs
        .iter()
        .map(|(_, bins)| {
            let total = bins.iter().map(|bin| bin.count).sum::<u64>().max(1) as f64;
            bins.iter().map(|bin| 100.0 * bin.count as f64 / total).collect()
        })
        .collect();
    let most = shares.iter().flatten().copied().fold(0.0, f64::max);
    let bottom = HEIGHT - BOTTOM;
    let (x, y) = (Scale::logarithmic(low, high, LEFT, WIDTH - RIGHT), Scale::linear(most, bottom, TOP + 4.0));
    let mut svg = axes(&x, &y, "latency, ms");
    for (index, ((name, bins), shares)) in runs.iter().zip(&shares).enumerate() {
        let mut path = String::new();
        for (bin, share) in bins.iter().zip(shares) {
            let (from, to, at) = (x.at(bin.from_us / 1e3), x.at(bin.to_us / 1e3), y.at(*share));
            let join = if path.is_empty() { format!("M{from:.1},{bottom}") } else { String::new() };
            let _ = write!(path, "{join}L{from:.1},{at:.1}L{to:.1},{at:.1}");
        }
        if let Some(last) = bins.last() {
            let _ = write!(path, "L{:.1},{bottom}", x.at(last.to_us / 1e3));
        }
        let stroke = colour(Some(index));
        let _ = write!(
            svg,
            "<path d=\"{path}\" fill=\"{stroke}\" fill-opacity=\"0.16\" stroke=\"{stroke}\" stroke-width=\"1.75\">\
             <title>{}</title></path>",
            escape(name)
        );
    }
    let upright = slo_ms.map(|slo| (slo, format!("SLO {slo} ms")));
    svg += &marks(&Frame { upright, ..Frame::default() }, &x, &y);
    let legend = legend(runs.iter().enumerate().map(|(index, (name, _))| (*name, colour(Some(index)), false)));
    card(title, &legend, "share of answers, %", &svg)
}

/// Outcomes over time, stacked, in requests per second.
pub(super) fn timeline(title: &str, slots: &[Slot], most: f64) -> String {
    let end = slots.last().map_or(1.0, |slot| slot.at + slot.seconds);
    let (x, y) = (Scale::exact(end, LEFT, WIDTH - RIGHT), Scale::linear(most, HEIGHT - BOTTOM, TOP + 4.0));
    let mut svg = axes(&x, &y, "seconds into the window");
    for slot in slots.iter().filter(|slot| slot.seconds > 0.0) {
        let (from, to) = (x.at(slot.at), x.at(slot.at + slot.seconds));
        let mut below = 0.0;
        for class in Class::ALL {
            let rate = slot.outcomes.of(class) as f64 / slot.seconds;
            if rate == 0.0 {
                continue;
            }
            let (low, high) = (y.at(below), y.at(below + rate));
            below += rate;
            let _ = write!(
                svg,
                "<rect x=\"{from:.1}\" y=\"{high:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"var(--{name})\">\
                 <title>{:.2} s: {rate:.0}/s {name}, p99 {:.1} ms</title></rect>",
                // A hair of air between slots, where they are wide enough for it.
                (to - from - if to - from > 4.0 { 0.8 } else { 0.0 }).max(0.5),
                (low - high).max(0.0),
                slot.at,
                slot.p99_us / 1e3,
                name = class.name(),
            );
        }
    }
    let legend = legend(Class::ALL.into_iter().map(|class| (class.name(), format!("var(--{})", class.name()), false)));
    card(title, &legend, "requests per second", &svg)
}
