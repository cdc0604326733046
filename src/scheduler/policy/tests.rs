//! Properties of the plan, over any queue, curve and load.

use proptest::prelude::*;

use super::*;
use crate::scheduler::queue::{Item, Queue};

#[derive(Clone, Copy, Debug, PartialEq)]
struct Thing {
    rows: usize,
}

impl Item for Thing {
    fn rows(&self) -> usize {
        self.rows
    }

    fn joins(&self, _: &Self) -> bool {
        true
    }
}

/// A server and the time left to each of its waiting requests, in microseconds, with their rows.
#[derive(Clone, Debug)]
struct Case {
    curve: Curve,
    limits: BatchLimits,
    load: Load,
    waiting: Vec<(u64, usize)>,
}

fn curve(fixed: u64, per_row: u64) -> Curve {
    let mut curve = Curve::default();
    for power in 0..10 {
        curve.note(1 << power, Duration::from_micros(fixed + (per_row << power)));
    }
    curve
}

fn cases(rows: std::ops::Range<usize>) -> impl Strategy<Value = Case> {
    let times = (0..20_000_u64, 1..5_000_u64, 1..200_000_u64);
    let waiting = prop::collection::vec((0..200_000_u64, rows), 1..60);
    (times, 0.0..1e5, 1..4_usize, 2..300_usize, waiting).prop_map(|(times, rate, instances, rows_max, waiting)| {
        let objective = Duration::from_micros(times.2);
        let limits = BatchLimits { rows_max, delay: Duration::ZERO, objective };
        Case {
            curve: curve(times.0, times.1),
            limits,
            load: Load { rows_per_second: rate, instances, best: None },
            waiting,
        }
    })
}

fn queue(now: Instant, waiting: &[(u64, usize)], class: Priority, queue: &mut Queue<Thing>) {
    for &(slack, rows) in waiting {
        let deadline = now + Duration::from_micros(slack);
        queue.push(Thing { rows }, Entry { deadline, arrived: now, rows, firm: true }, class);
    }
}

impl Case {
    fn queue(&self, now: Instant) -> Queue<Thing> {
        let mut made = Queue::new(true);
        queue(now, &self.waiting, Priority::NORMAL, &mut made);
        made
    }

    fn plan(&self, now: Instant, queue: &Queue<Thing>) -> Dispatch {
        match plan(now, queue.views(), &self.curve, &self.limits, &self.load) {
            Plan::Dispatch(dispatch) => dispatch,
            other => panic!("{other:?} while requests wait and nobody asked for a delay"),
        }
    }

    fn upper(&self, rows: usize) -> Duration {
        self.curve.upper(rows)
    }
}

/// Rows of the requests from `from` on, `count` of them, of the first lane.
fn rows_of(queue: &Queue<Thing>, from: usize, count: usize) -> usize {
    queue.views().next().map_or(0, |lane| lane.entries.from(from).take(count).map(|entry| entry.rows).sum())
}

proptest! {
    #[test]
    fn a_batch_keeps_to_the_limits_and_to_the_deadline_of_its_first_request(case in cases(1..5)) {
        let now = Instant::now();
        let queue = case.queue(now);
        let Dispatch { hopeless, requests, .. } = case.plan(now, &queue);
        prop_assert!(hopeless + requests <= case.waiting.len());
        if requests > 1 {
            let rows = rows_of(&queue, hopeless, requests);
            prop_assert!(rows <= largest(&case.curve, &case.limits, &case.load, 1).max(2));
            prop_assert!(rows <= case.limits.rows_max);
            let head = queue.views().next().map(|lane| lane.entries.at(hopeless)).unwrap();
            prop_assert!(now + case.upper(rows) <= head.deadline);
        }
    }

    #[test]
    fn nothing_starves_each_plan_takes_something_out_until_nothing_waits(case in cases(1..5), pace in 0..20_000_u64) {
        let mut now = Instant::now();
        let mut queue = case.queue(now);
        let mut left = case.waiting.len();
        while !queue.is_empty() {
            let Dispatch { lane, hopeless, requests, .. } = case.plan(now, &queue);
            prop_assert!(hopeless + requests > 0);
            queue.take(lane, hopeless + requests, |_, _| left -= 1);
            queue.settle();
            now += Duration::from_micros(pace);
        }
        prop_assert_eq!(left, 0);
    }

    #[test]
    fn nobody_is_given_up_where_all_are_in_time_for_one_batch(case in cases(1..2)) {
        let now = Instant::now();
        let target = largest(&case.curve, &case.limits, &case.load, 1);
        let count = case.waiting.len().min(target);
        let enough = case.upper(count).as_micros() as u64 + 1;
        let waiting = case.waiting.iter().take(count).map(|&(slack, rows)| (enough + slack, rows)).collect();
        let case = Case { waiting, ..case };
        prop_assert_eq!(case.plan(now, &case.queue(now)).hopeless, 0);
    }

    #[test]
    fn a_hopeless_head_does_not_shrink_the_batch_of_the_others(case in cases(1..2), share in 0.0..0.9) {
        let now = Instant::now();
        let alone = case.plan(now, &case.queue(now));
        let late = case.curve.centre(1).mul_f64(share).as_micros() as u64;
        let mut waiting = case.waiting.clone();
        waiting.push((late.min(case.waiting.iter().map(|(slack, _)| *slack).min().unwrap()), 1));
        let with = Case { waiting, ..case };
        let planned = with.plan(now, &with.queue(now));
        prop_assert!(planned.hopeless > alone.hopeless);
        prop_assert!(planned.requests >= alone.requests, "{planned:?} without it {alone:?}");
    }

    #[test]
    fn work_that_only_fills_makes_the_batch_of_the_others_no_longer_than_a_twentieth(
        case in cases(1..5),
        fillers in prop::collection::vec((0..200_000_u64, 1..5_usize), 1..60),
    ) {
        let now = Instant::now();
        let mut waiting = case.queue(now);
        let without = case.plan(now, &waiting);
        queue(now, &fillers, Priority::LOW, &mut waiting);
        let with = case.plan(now, &waiting);
        prop_assert_eq!((with.lane, with.hopeless, with.requests), (0, without.hopeless, without.requests));
        let rows = rows_of(&waiting, with.hopeless, with.requests);
        let added: usize = with.fill.iter().map(|&(lane, count)| {
            waiting.views().nth(lane).map_or(0, |lane| lane.entries.from(0).take(count).map(|entry| entry.rows).sum())
        }).sum();
        if added > 0 {
            prop_assert!(case.upper(rows + added) <= case.upper(rows).mul_f64(FILLER_COST));
            prop_assert!(rows + added <= case.limits.rows_max);
        }
    }

    #[test]
    fn a_request_that_waits_alone_and_is_in_time_runs(case in cases(1..5), spare in 0..100_000_u64) {
        let now = Instant::now();
        let rows = case.waiting[0].1;
        let slack = case.curve.centre(rows).as_micros() as u64 + 1 + spare;
        let case = Case { waiting: vec![(slack, rows)], ..case };
        let planned = case.plan(now, &case.queue(now));
        prop_assert_eq!((planned.hopeless, planned.requests), (0, 1));
    }

    #[test]
    fn with_a_later_deadline_no_more_are_given_up(
        case in cases(1..2),
        slack in 0..200_000_u64,
        more in 0..200_000_u64,
    ) {
        let now = Instant::now();
        let given_up = |slack: u64| {
            let waiting = case.waiting.iter().map(|&(_, rows)| (slack, rows)).collect();
            let case = Case { waiting, ..case.clone() };
            case.plan(now, &case.queue(now)).hopeless
        };
        prop_assert!(given_up(slack + more) <= given_up(slack));
    }

    #[test]
    fn a_head_is_given_up_only_where_the_next_two_batches_answer_more_without_it(case in cases(1..2)) {
        let now = Instant::now();
        let target = largest(&case.curve, &case.limits, &case.load, 1);
        let queue = case.queue(now);
        let lane = queue.views().next().unwrap();
        let sight = Sight { now, curve: &case.curve, limits: &case.limits, load: &case.load, unit: 1 };
        let rows = lane.rows;
        let begin = sight.worth(lane.entries, 0, rows, target);
        let answered = |start| sight.in_time(lane.entries, start, rows - start, target);
        prop_assert!(begin == 0 || answered(begin) > answered(0));
    }
}

#[test]
fn a_head_that_only_a_small_batch_is_in_time_for_goes_alone_where_the_others_can_wait_and_is_given_up_where_not() {
    let now = Instant::now();
    let limits = BatchLimits { objective: Duration::from_millis(30), ..BatchLimits::default() };
    let load = Load { rows_per_second: 1400.0, instances: 1, best: None };
    let mut case = Case { curve: curve(8_000, 100), limits, load, waiting: vec![(9_000, 1)] };
    case.waiting.extend([(12_000, 1); 19]);
    let planned = case.plan(now, &case.queue(now));
    assert_eq!((planned.hopeless, planned.requests), (1, 19));
    case.waiting.truncate(1);
    case.waiting.extend([(28_000, 1); 19]);
    let planned = case.plan(now, &case.queue(now));
    assert_eq!((planned.hopeless, planned.requests), (0, 1));
}

/// How many of `waiting` requests of a row run together, where a batch takes `fixed` and `per_row` microseconds.
fn together(fixed: u64, per_row: u64, waiting: usize) -> usize {
    let limits = BatchLimits { rows_max: 64, delay: Duration::ZERO, objective: Duration::from_millis(500) };
    let load = Load { rows_per_second: 1.0, instances: 1, best: None };
    let case = Case { curve: curve(fixed, per_row), limits, load, waiting: vec![(1_000_000, 1); waiting] };
    let now = Instant::now();
    let queue = case.queue(now);
    case.plan(now, &queue).requests
}

#[test]
fn a_model_whose_time_is_in_proportion_to_its_rows_runs_them_one_by_one() {
    assert_eq!(together(0, 1_000, 16), 1);
}

#[test]
fn a_model_that_takes_less_than_the_server_does_for_a_batch_runs_rows_together_even_so() {
    assert_eq!(together(0, 1, 16), 16);
}

#[test]
fn what_would_be_left_over_for_a_small_batch_comes_along() {
    // Nearly as quick per row as 64: 24 rows.
    assert_eq!(together(200, 100, 24), 24);
    assert_eq!(together(200, 100, 30), 30);
    assert_eq!(together(200, 100, 40), 24);
}
