use std::time::Duration;

use super::*;
use crate::engine::protocol::Failure;
use crate::report::tally::{Closing, Phase, Tally};

fn report(count: u64, slowest_us: u64) -> Report {
    let mut tally = Tally::new(Duration::from_secs(2), Some(Duration::from_millis(10)));
    for n in 0..count {
        let outcome = if n % 10 == 9 { Err(Failure::Status(503)) } else { Ok(()) };
        tally.end(Phase::Window(n * 2_000_000_000 / count), outcome, slowest_us * 1_000 * (n + 1) / count, 10);
    }
    tally.report(Closing { seconds: 2.0, answered: count, ..Closing::default() })
}

/// Every tag is closed in the order in which it was opened.
fn assert_nested(html: &str) {
    let mut open = vec!["html", "head"];
    let body = html.split_once("</style>").unwrap().1;
    assert_tags_close(body, &mut open);
}

fn assert_tags_close<'a>(body: &'a str, open: &mut Vec<&'a str>) {
    for tag in body.split('<').skip(1).map(|part| part.split_once('>').unwrap_or((part, "")).0) {
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "in {body}");
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap());
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_page_is_whole_and_asks_nothing_of_the_network() {
    let reports = [report(100, 5_000), report(200, 30_000)];
    let points: Vec<Point> = reports.iter().map(|report| Point::of(None, report)).collect();
    let named = || reports.iter().map(|report| (format!("{:.0}/s", report.offered_rate), report)).collect::<Vec<_>>();
    let page = Page {
        title: "a <b> & c".to_owned(),
        about: "poisson".to_owned(),
        facts: vec![("50/s".to_owned(), "held".to_owned())],
        slo_ms: Some(10.0),
        best: Some((points[0].offered, "50/s".to_owned())),
        curves: vec![Curve::new("a", points.clone()), Curve::new("b", points)],
        runs: named(),
        table: named(),
        further: Some((vec!["server".to_owned()], vec![vec!["a".to_owned()]])),
    };
    let html = page.render();
    assert!(html.contains("<h1>a &lt;b&gt; &amp; c</h1>"));
    for forbidden in ["http://", "https://", "<script", "@import", "url(", "NaN", "inf"] {
        assert!(!html.replace("information", "").contains(forbidden), "{forbidden}");
    }
    for wanted in ["Latency by offered rate", "Goodput by offered rate", "Outcomes over time: 50/s", "SLO 10 ms"] {
        assert!(html.contains(wanted), "{wanted}");
    }
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("class=\"best\""));
    assert_nested(&html);
}

#[test]
fn a_page_of_a_run_without_any_answer_is_drawn_too() {
    let empty = Tally::new(Duration::from_secs(1), None).report(Closing::default());
    let html = Page { runs: vec![("a".to_owned(), &empty)], table: vec![("a".to_owned(), &empty)], ..Page::default() };
    let html = html.render();
    assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
    assert!(!html.contains("Goodput by offered rate"), "one point is no curve");
    assert_nested(&html);
}

#[test]
fn a_figure_is_one_svg_file_whose_every_class_has_a_colour() {
    let reports = [report(100, 5_000), report(200, 30_000), report(300, 30_000)];
    let points: Vec<Point> = reports.iter().map(|report| Point::of(None, report)).collect();
    let curve = |slo: f64| Curve { name: format!("{slo} ms & less"), slo_ms: Some(slo), points: points.clone() };
    let page = Page { title: "a <b>".to_owned(), curves: vec![curve(10.0), curve(50.0)], ..Page::default() };
    let svg = page.figure();
    assert!(svg.starts_with("<svg xmlns=") && svg.contains("prefers-color-scheme: dark"));
    for wanted in
        ["a &lt;b&gt;", "Goodput by offered rate", "10 ms &amp; less", "SLO 50 ms", "99 % of the answers within"]
    {
        assert!(svg.contains(wanted), "{wanted}");
    }
    let (style, body) = svg.split_once("</style>").unwrap();
    for forbidden in ["<script", "@import", "url(", "var(", "NaN", "inf"] {
        assert!(!svg.contains(forbidden), "{forbidden}");
    }
    for class in
        body.split("class=\"").skip(1).filter_map(|part| part.split_once('"')).flat_map(|(it, _)| it.split(' '))
    {
        assert!(style.contains(&format!(".{class}")), "no style for {class}");
    }
    assert_tags_close(body, &mut vec!["svg"]);
}
