//! Charts side by side as one SVG file that needs nothing else, light or dark as the reader's system is.

use std::fmt::Write;

use super::chart::{Chart, Size};
use super::escape;

const STYLE: &str = include_str!("figure.css");
/// Around everything.
const MARGIN: f64 = 20.0;
/// Of the figure's title and what stands below it.
const HEAD: f64 = 52.0;
/// Of a chart's title and its legend.
const LEGEND: f64 = 52.0;
/// Between charts.
const GAP: f64 = 16.0;
/// Where a chart's text begins, as its axis does.
const INDENT: f64 = 56.0;
/// Width of a letter, near enough to put one name behind the other.
const LETTER: f64 = 7.0;

/// A chart in a figure: two of them are as wide as a page of text.
pub(super) const PANEL: Size = Size { width: 470.0, height: 300.0 };

/// The file.
pub(super) fn render(title: &str, about: &str, charts: &[Chart<'_>]) -> String {
    let count = charts.len() as f64;
    let width = 2.0 * MARGIN + count * PANEL.width + (count - 1.0).max(0.0) * GAP;
    let height = 2.0 * MARGIN + HEAD + LEGEND + PANEL.height;
    let (title, about) = (escape(title), escape(about));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">\n\
         <style>\n{STYLE}</style>\n<title>{title}</title>\n\
         <rect class=\"page\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"12\"/>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"{:.0}\">{title}</text>\n\
         <text x=\"{MARGIN}\" y=\"{:.0}\">{about}</text>\n",
        width - 1.0,
        height - 1.0,
        MARGIN + 16.0,
        MARGIN + 38.0,
    );
    for (index, chart) in charts.iter().enumerate() {
        let x = MARGIN + index as f64 * (PANEL.width + GAP);
        let _ = writeln!(svg, "<g transform=\"translate({x} {})\">{}</g>", MARGIN + HEAD, panel(chart));
    }
    svg + "</svg>\n"
}

/// A chart below its name and its legend.
fn panel(chart: &Chart<'_>) -> String {
    let mut svg = format!("<text class=\"name\" x=\"{INDENT}\" y=\"20\">{}</text>", escape(chart.title));
    let mut x = INDENT;
    for (name, colour, dashed) in &chart.legend {
        let dashed = if *dashed { " dashed" } else { "" };
        let _ = write!(
            svg,
            "<path class=\"key {colour}{dashed}\" d=\"M{:.1} 38H{:.1}\"/><text x=\"{:.1}\" y=\"42\">{}</text>",
            x + 2.0,
            x + 18.0,
            x + 26.0,
            escape(name)
        );
        x += 26.0 + name.chars().count() as f64 * LETTER + 14.0;
    }
    let label = escape(chart.label);
    let _ = write!(
        svg,
        "<g transform=\"translate(0 {LEGEND})\"><text x=\"{INDENT}\" y=\"10\">{label}</text>{}</g>",
        chart.body
    );
    svg
}
