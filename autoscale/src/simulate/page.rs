//! The comparison as one HTML page that needs nothing else: no script, no font, no picture from elsewhere.

use std::fmt::Write;

use super::Policy;
use super::outcome::Outcome;
use super::table::Row;
use super::trace::Trace;

const STYLE: &str = include_str!("page.css");
const WIDTH: f64 = 1080.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 22.0;
/// The most points of a curve: as many as there are pixels.
const POINTS_MAX: usize = 1000;
/// Latencies above twice the objective are drawn as that.
const LATENCY_MAX: f64 = 2.0;

/// A trace and what each policy made of one course of it.
pub struct Course {
    /// The trace.
    pub trace: Trace,
    /// By policy.
    pub outcomes: Vec<(Policy, Outcome)>,
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The page: the table, then load, replicas and latency of each course.
pub fn render(about: &str, rows: &[Row], courses: &[Course]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Autoscalers compared</title>\
         <style>\n{STYLE}</style></head>\n<body><main><h1>Autoscalers compared</h1><p class=\"muted\">{}</p>\n",
        escape(about)
    );
    page += &table(rows);
    for course in courses {
        let _ = write!(page, "<section class=\"card\"><h2>{}</h2>{}", escape(&course.trace.name), legend(course));
        let titles = ["requests per second", "replicas ready", "99th percentile, in objectives"];
        for (measure, title) in titles.iter().enumerate() {
            let _ = write!(page, "<p class=\"muted\">{title}</p>{}", chart(course, measure));
        }
        page += "</section>\n";
    }
    page + "<footer class=\"muted\">Late: answered after the objective, or refused because it would have been. Cold: the same for \
            want of a first replica. x least: cost over the least at which a scaler that knows the future can answer all in time. \
            Turns: changes of direction per hour. Changes: after the tenth minute.</footer></main></body></html>\n"
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "<div class=\"card\"><table><tr><th>trace</th><th>scaler</th><th>late, %</th><th>cold, %</th><th>replica hours</th>\
         <th>x least</th><th>p99</th><th>turns/h</th><th>changes</th><th>most</th></tr>\n",
    );
    for row in rows {
        for (index, (policy, cell)) in row.cells.iter().enumerate() {
            let name = if index == 0 { escape(&row.name) } else { String::new() };
            let own = if *policy == Policy::Ours { " class=\"own\"" } else { "" };
            let _ = writeln!(
                text,
                "<tr{own}><td>{name}</td><td>{}</td><td>{:.3}</td><td>{:.3}</td><td>{:.3}</td><td>{:.2}</td><td>{:.2}</td>\
                 <td>{:.1}</td><td>{:.1}</td><td>{:.1}</td></tr>",
                escape(policy.name()),
                cell.violations,
                cell.cold,
                cell.hours,
                cell.over_least,
                cell.p99,
                cell.turns,
                cell.late_changes,
                cell.most
            );
        }
    }
    text + "</table></div>\n"
}

fn colour(policy: Policy) -> usize {
    Policy::ALL.iter().position(|own| *own == policy).unwrap_or(0)
}

fn legend(course: &Course) -> String {
    let entry = |(policy, _): &(Policy, Outcome)| {
        format!("<span><i class=\"s{}\"></i>{}</span>", colour(*policy), escape(policy.name()))
    };
    format!("<div class=\"legend\">{}</div>", course.outcomes.iter().map(entry).collect::<String>())
}

/// Load, replicas or latency over time; the load is everybody's.
fn chart(course: &Course, measure: usize) -> String {
    let shown = if measure == 0 { &course.outcomes[..course.outcomes.len().min(1)] } else { &course.outcomes[..] };
    let value = |point: &[f64; 3]| if measure == 2 { point[2].min(LATENCY_MAX) } else { point[measure] };
    let points = || shown.iter().flat_map(|(_, outcome)| outcome.picture.iter());
    let high = points().map(value).fold(if measure == 2 { 1.0 } else { 1e-9 }, f64::max) * 1.05;
    let length = shown.iter().map(|(_, outcome)| outcome.picture.len()).max().unwrap_or(1).max(1);
    let (right, floor) = (WIDTH - 8.0, HEIGHT - BOTTOM);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    for share in [0.0, 0.5, 1.0] {
        let y = floor - share * (floor - 8.0);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.1}</text>",
            LEFT - 6.0,
            y + 4.0,
            high * share
        );
    }
    for (policy, outcome) in shown.iter().rev() {
        // Of several points on one pixel the highest: a short peak must not vanish.
        let step = outcome.picture.len().div_ceil(POINTS_MAX).max(1);
        let path: Vec<String> = outcome
            .picture
            .chunks(step)
            .enumerate()
            .map(|(index, chunk)| {
                let x = LEFT + (index * step) as f64 / length as f64 * (right - LEFT);
                let y = floor - chunk.iter().map(value).fold(0.0, f64::max) / high * (floor - 8.0);
                format!("{x:.1},{y:.1}")
            })
            .collect();
        let class = if measure == 0 { "load".to_owned() } else { format!("s{}", colour(*policy)) };
        let _ = write!(svg, "<polyline class=\"curve {class}\" points=\"{}\"/>", path.join(" "));
    }
    let minutes = course.trace.seconds / 60.0;
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let (x, anchor) = (LEFT + share * (right - LEFT), if quarter == 4 { "end" } else { "middle" });
        let _ = write!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{:.0} min</text>",
            HEIGHT - 5.0,
            minutes * share
        );
    }
    svg + "</svg>"
}
