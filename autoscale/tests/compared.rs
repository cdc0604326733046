//! What has to hold of our autoscaler beside others' on a few courses of each trace; the whole table is `make simulate`.

use tensorgate_autoscale::simulate::lines;
use tensorgate_autoscale::simulate::ours::Wrong;
use tensorgate_autoscale::simulate::page::{self, Course};
use tensorgate_autoscale::simulate::table::{self, Row};
use tensorgate_autoscale::simulate::trace::{Kind, Trace};
use tensorgate_autoscale::simulate::{Policy, SERVER};

const RIVALS: [Policy; 4] = [Policy::Ours, Policy::Kpa, Policy::Hpa, Policy::OursIdle];

/// Courses that the decision was not made with.
const SEEDS: [u64; 3] = [101, 102, 103];

fn row(kind: Kind) -> Row {
    table::row_of(kind, &RIVALS, &SEEDS, Wrong::default())
}

/// Every line about a trace holds.
fn check(kind: Kind) {
    let row = row(kind);
    let lines = lines::lines(std::slice::from_ref(&row));
    assert!(!lines.is_empty());
    let missed: Vec<String> = lines.iter().filter(|line| !line.holds).map(ToString::to_string).collect();
    assert!(missed.is_empty(), "{}\n{}", missed.join("\n"), table::text(&[row]));
}

#[test]
fn on_steady_and_slowly_changing_loads_every_line_holds() {
    [Kind::Constant, Kind::Ramp, Kind::Diurnal, Kind::ModelChange].into_iter().for_each(check);
}

#[test]
fn on_jumps_and_bursts_every_line_holds() {
    [Kind::Step, Kind::Bursty, Kind::FlashCrowd, Kind::Functions].into_iter().for_each(check);
}

#[test]
fn without_metrics_and_down_to_zero_every_line_holds() {
    [Kind::Outage, Kind::OnOff].into_iter().for_each(check);
}

#[test]
fn more_requests_never_get_fewer_replicas() {
    for kind in [Kind::Step, Kind::Bursty] {
        let line = lines::more_load(kind, &SEEDS[..1], |seed| kind.trace(SERVER, seed));
        assert!(line.holds, "{line}");
    }
}

#[test]
fn a_line_that_does_not_hold_is_told() {
    // Knative's rule in place of ours: worse than Kubernetes' on every trace, and it changes all the time.
    let mut row = row(Kind::Constant);
    let of = |row: &Row, policy: Policy| (row.cell(policy).copied().unwrap(), row.each(policy).to_vec());
    let (cell, each) = of(&row, Policy::Kpa);
    row.cells[0].1 = cell;
    row.courses[0].1 = each;
    let lines = lines::lines(&[row]);
    assert!(lines[0].to_string().starts_with("MISSED  constant: tensorgate no later than the better of KPA and HPA"));
    assert!(lines[0].to_string().ends_with("in 0 of 3 courses"), "{}", lines[0]);
}

#[test]
fn the_same_seed_is_the_same_course_and_another_is_another() {
    let play = |seed: u64| Policy::Ours.play(&Kind::Bursty.trace(SERVER, seed), seed, Wrong::default());
    assert_eq!(play(1), play(1));
    assert_ne!(play(1), play(2));
}

#[test]
fn counts_by_the_minute_are_read_in_both_forms_and_faults_name_their_line() {
    let lines = Trace::parse("x", "# a comment\n30\n0\n90\n", SERVER, 1).unwrap();
    let columns = "HashOwner,HashApp,HashFunction,Trigger,1,2,3\na1,b2,c3,http,10,0,40\na1,b2,d4,timer,20,0,50\n";
    let columns = Trace::parse("x", columns, SERVER, 1);
    let count = |trace: &Trace, from: f64| trace.arrivals.iter().filter(|at| (from..from + 60.0).contains(*at)).count();
    assert_eq!([0.0, 60.0, 120.0].map(|from| count(&lines, from)), [30, 0, 90]);
    let columns = columns.unwrap();
    assert_eq!([0.0, 60.0, 120.0].map(|from| count(&columns, from)), [30, 0, 90]);
    let fault = |text: &str| Trace::parse("x", text, SERVER, 1).unwrap_err().to_string();
    assert_eq!(fault("1\n-2\n"), "line 2: '-2' is no count of requests in a minute");
    assert_eq!(fault("3\n1,x\n"), "line 2: 'x' is no count of requests in a minute");
    assert!(fault("").starts_with("no requests; wanted are counts"));
}

#[test]
fn the_page_shows_every_scaler_and_needs_nothing_from_elsewhere() {
    let trace = Kind::FlashCrowd.trace(SERVER, 1);
    let rivals = &RIVALS[..3];
    let outcomes = rivals.iter().map(|policy| (*policy, policy.play(&trace, 1, Wrong::default()))).collect();
    let row = table::row_of(Kind::FlashCrowd, rivals, &[1], Wrong::default());
    let page = page::render("about <it>", &[row], &[Course { trace, outcomes }]);
    assert_eq!(page.matches("<polyline").count(), 1 + 3 + 3);
    assert!(page.contains("about &lt;it&gt;") && !page.contains("http") && !page.contains("<script"));
}
