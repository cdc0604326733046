//! What has to hold of our autoscaler beside others' on a few courses of each trace; the whole table is `make simulate`.

use tensorgate_autoscale::simulate::ours::Wrong;
use tensorgate_autoscale::simulate::page::{self, Course};
use tensorgate_autoscale::simulate::table::{self, Row};
use tensorgate_autoscale::simulate::trace::{Kind, Trace};
use tensorgate_autoscale::simulate::{Policy, SERVER};

const RIVALS: [Policy; 3] = [Policy::Ours, Policy::Kpa, Policy::Hpa];

fn rows(kinds: &[Kind], seeds: &[u64]) -> Vec<Row> {
    kinds.iter().map(|kind| table::row_of(*kind, &RIVALS, seeds, Wrong::default())).collect()
}

#[test]
fn on_every_trace_no_more_is_late_than_under_the_better_of_the_others_and_it_costs_no_more() {
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| *kind != Kind::OnOff).collect();
    let rows = rows(&kinds, &[1, 2]);
    let faults: Vec<String> = rows.iter().filter_map(Row::fault).collect();
    assert!(faults.is_empty(), "{}\n{}", faults.join("\n"), table::text(&rows));
}

#[test]
fn where_it_may_go_to_zero_nobody_has_fewer_cold_requests_for_less() {
    let seeds = [1, 2];
    let row = table::row_of(Kind::OnOff, &Policy::ALL, &seeds, Wrong::default());
    let ours = row.cell(Policy::Ours).unwrap();
    for policy in Policy::ALL {
        let other = row.cell(policy).unwrap();
        let dominates = other.cold + other.violations < ours.cold + ours.violations && other.hours < ours.hours;
        assert!(!dominates, "{}", table::text(&[row]));
    }
}

#[test]
fn a_day_and_a_ramp_cost_at_most_a_quarter_more_than_knowing_the_future_would() {
    for row in rows(&[Kind::Diurnal, Kind::Ramp], &[1, 2]) {
        let ours = row.cell(Policy::Ours).unwrap();
        assert!(ours.over_least <= 1.25, "{}", table::text(&[row]));
    }
}

#[test]
fn a_constant_load_changes_nothing_after_ten_minutes() {
    for seed in 1..=4 {
        let row = table::row_of(Kind::Constant, &[Policy::Ours], &[seed], Wrong::default());
        assert!(row.cell(Policy::Ours).unwrap().late_changes <= 1.0, "{}", table::text(&[row]));
    }
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
    let outcomes = RIVALS.map(|policy| (policy, policy.play(&trace, 1, Wrong::default()))).to_vec();
    let row = table::row_of(Kind::FlashCrowd, &RIVALS, &[1], Wrong::default());
    let page = page::render("about <it>", &[row], &[Course { trace, outcomes }]);
    assert_eq!(page.matches("<polyline").count(), 1 + 3 + 3);
    assert!(page.contains("about &lt;it&gt;") && !page.contains("http") && !page.contains("<script"));
}
