//! Charts as SVG. Colours are classes, which the style around a chart defines for light and dark.

use std::fmt::Write;

use super::escape;
use super::scale::{Scale, short};
use crate::report::latencies::Bin;
use crate::report::outcome::Class;
use crate::report::timeline::Slot;

const LEFT: f64 = 56.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 42.0;
/// Room behind the last point of a curve.
const MARGIN: f64 = 1.02;
/// Room above the highest point where a curve is held against a diagonal that leaves the chart.
const HEADROOM: f64 = 1.12;

/// How large a chart is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// From edge to edge.
    pub(super) width: f64,
    /// From edge to edge.
    pub(super) height: f64,
}

impl Size {
    /// Of a card of the page.
    const CARD: Self = Self { width: 640.0, height: 300.0 };

    fn right(self) -> f64 {
        self.width - RIGHT
    }

    fn bottom(self) -> f64 {
        self.height - BOTTOM
    }
}

impl Default for Size {
    fn default() -> Self {
        Self::CARD
    }
}

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

/// A dashed line with a name.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// Where.
    pub(super) at: f64,
    /// What it is.
    pub(super) name: String,
    /// As of a curve.
    pub(super) colour: Option<usize>,
}

/// What a chart says around its curves.
#[derive(Default)]
pub(super) struct Frame<'a> {
    /// Above it.
    pub(super) title: &'a str,
    /// What lies to the right, and upwards.
    pub(super) labels: (&'a str, &'a str),
    /// Its size.
    pub(super) size: Size,
    /// Values above zero on a logarithmic scale.
    pub(super) logarithmic: bool,
    /// Lines across.
    pub(super) levels: Vec<Mark>,
    /// A line upright.
    pub(super) upright: Option<Mark>,
    /// Names the dashed line on which y is x.
    pub(super) diagonal: Option<&'a str>,
    /// A dot on each point.
    pub(super) dots: bool,
}

/// A drawn chart.
pub(super) struct Chart<'a> {
    /// Above it.
    pub(super) title: &'a str,
    /// What lies upwards.
    pub(super) label: &'a str,
    /// Name and class of each colour, and whether it is dashed.
    pub(super) legend: Vec<(String, String, bool)>,
    /// Its size.
    pub(super) size: Size,
    /// The elements.
    pub(super) body: String,
}

/// The class of a colour.
fn colour(index: Option<usize>) -> String {
    index.map_or("note".to_owned(), |index| format!("s{}", index % 6))
}

impl Chart<'_> {
    /// As a card of the page.
    pub(super) fn card(&self) -> String {
        let entry = |(name, colour, dashed): &(String, String, bool)| {
            let dashed = if *dashed { " dashed" } else { "" };
            format!("<span><i class=\"{colour}{dashed}\"></i>{}</span>", escape(name))
        };
        let (title, label) = (escape(self.title), escape(self.label));
        let Size { width, height } = self.size;
        format!(
            "<section class=\"card\"><h2>{title}</h2><div class=\"legend\">{}</div>\
             <svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">\
             <text x=\"{LEFT}\" y=\"10\">{label}</text>{}</svg></section>\n",
            self.legend.iter().map(entry).collect::<String>(),
            self.body
        )
    }
}

/// Grid, axes and their numbers.
fn axes(size: Size, x: &Scale, y: &Scale, x_label: &str) -> String {
    let (bottom, right) = (size.bottom(), size.right());
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
        size.height - 6.0,
        escape(x_label)
    );
    svg
}

/// Curves over a common x.
pub(super) fn lines<'a>(frame: &Frame<'a>, lines: &[Line]) -> Chart<'a> {
    let size = frame.size;
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let values = || points().map(|point| point.1).chain(frame.levels.iter().map(|level| level.at));
    let (low, high) = (values().filter(|y| *y > 0.0).fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let x = Scale::exact(points().map(|point| point.0).fold(0.0, f64::max) * MARGIN, LEFT, size.right());
    let (bottom, top) = (size.bottom(), TOP + 4.0);
    let y = match (frame.logarithmic, frame.diagonal) {
        (true, _) => Scale::logarithmic(low, high, bottom, top),
        (false, Some(_)) => Scale::exact(high * HEADROOM, bottom, top),
        (false, None) => Scale::linear(high, bottom, top),
    };
    let mut body = axes(size, &x, &y, frame.labels.0);
    body += &marks(frame, &x, &y);
    if frame.diagonal.is_some() {
        // As far as both axes go.
        let (to_x, to_y) = (x.at(x.high().min(y.high())), y.at(x.high().min(y.high())));
        let _ = write!(
            body,
            "<path class=\"curve dash note\" d=\"M{:.1} {:.1}L{to_x:.1} {to_y:.1}\"/>",
            x.at(0.0),
            y.at(0.0)
        );
    }
    for line in lines {
        body += &curve(frame, line, &x, &y);
    }
    let diagonal = frame.diagonal.map(|name| (name.to_owned(), colour(None), true));
    let legend = lines.iter().map(|line| (line.name.clone(), colour(line.colour), line.dashed)).chain(diagonal);
    Chart { title: frame.title, label: frame.labels.1, legend: legend.collect(), size, body }
}

fn curve(frame: &Frame<'_>, line: &Line, x: &Scale, y: &Scale) -> String {
    let path: Vec<String> = line.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x.at(*px), y.at(*py))).collect();
    let (colour, dash) = (colour(line.colour), if line.dashed { " dash" } else { "" });
    let mut svg = format!("<polyline class=\"curve{dash} {colour}\" points=\"{}\"/>", path.join(" "));
    for (px, py) in line.points.iter().filter(|_| frame.dots && !line.dashed) {
        let _ = write!(
            svg,
            "<circle class=\"dot {colour}\" r=\"3.5\" cx=\"{:.1}\" cy=\"{:.1}\"><title>{}: {} at {}</title></circle>",
            x.at(*px),
            y.at(*py),
            escape(&line.name),
            short(*py),
            short(*px)
        );
    }
    svg
}

fn marks(frame: &Frame<'_>, x: &Scale, y: &Scale) -> String {
    let (bottom, right) = (frame.size.bottom(), frame.size.right());
    let mut svg = String::new();
    for Mark { at, name, colour: index } in &frame.levels {
        let (at, colour) = (y.at(*at), colour(*index));
        let _ = write!(
            svg,
            "<line class=\"mark {colour}\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"{colour}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            right - 4.0,
            // Above the line, since the curves come from below; below it where there is no room.
            if at > TOP + 16.0 { at - 5.0 } else { at + 14.0 },
            escape(name)
        );
    }
    if let Some(Mark { at, name, colour: index }) = &frame.upright {
        let (at, colour) = (x.at(*at), colour(*index));
        // On the side where there is more space.
        let (text, anchor) = if at > frame.size.width / 2.0 { (at - 6.0, "end") } else { (at + 6.0, "start") };
        let _ = write!(
            svg,
            "<line class=\"mark {colour}\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text class=\"{colour}\" x=\"{text:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            TOP + 10.0,
            escape(name)
        );
    }
    svg
}

/// Latency histograms on a logarithmic scale, as shares, so that runs of different size compare.
pub(super) fn histogram<'a>(title: &'a str, runs: &[(&str, &[Bin])], slo_ms: Option<f64>) -> Chart<'a> {
    let size = Size::CARD;
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
    let bottom = size.bottom();
    let (x, y) = (Scale::logarithmic(low, high, LEFT, size.right()), Scale::linear(most, bottom, TOP + 4.0));
    let mut svg = axes(size, &x, &y, "latency, ms");
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
        let colour = colour(Some(index));
        let _ = write!(svg, "<path class=\"area {colour}\" d=\"{path}\"><title>{}</title></path>", escape(name));
    }
    let upright = slo_ms.map(|at| Mark { at, name: format!("SLO {at} ms"), colour: None });
    svg += &marks(&Frame { upright, ..Frame::default() }, &x, &y);
    let legend = runs.iter().enumerate().map(|(index, (name, _))| ((*name).to_owned(), colour(Some(index)), false));
    Chart { title, label: "share of answers, %", legend: legend.collect(), size, body: svg }
}

/// Outcomes over time, stacked, in requests per second.
pub(super) fn timeline<'a>(title: &'a str, slots: &[Slot], most: f64) -> Chart<'a> {
    let size = Size::CARD;
    let end = slots.last().map_or(1.0, |slot| slot.at + slot.seconds);
    let (x, y) = (Scale::exact(end, LEFT, size.right()), Scale::linear(most, size.bottom(), TOP + 4.0));
    let mut svg = axes(size, &x, &y, "seconds into the window");
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
                "<rect class=\"slot {name}\" x=\"{from:.1}\" y=\"{high:.1}\" width=\"{:.1}\" height=\"{:.1}\">\
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
    let legend = Class::ALL.into_iter().map(|class| (class.name().to_owned(), class.name().to_owned(), false));
    Chart { title, label: "requests per second", legend: legend.collect(), size, body: svg }
}
