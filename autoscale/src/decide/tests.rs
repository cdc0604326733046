use proptest::prelude::*;
use tensorgate_contract::capacity::{self, Point};

use super::*;

/// A model that serves some 60 rows per second within 2 s.
fn model() -> Model {
    let point = |work: usize| {
        let centre = Duration::from_millis(50 + 12 * work as u64);
        Point { work, centre, upper: centre.mul_f64(1.1) }
    };
    Model {
        points: capacity::sizes(16).map(point).collect(),
        executions: 1000,
        objective: Duration::from_secs(2),
        instances: 1,
        rows_max: 16,
        unit: 1,
    }
}

fn sample(ready: u32, arrived: f64) -> Sample {
    Sample {
        current: ready,
        ready,
        reporting: ready,
        arrived,
        ended: arrived,
        model: Some(model()),
        ..Sample::default()
    }
}

/// A service whose replicas are ready at once, followed second by second.
struct Course {
    settings: Settings,
    state: State,
    now: Duration,
    replicas: u32,
    reasons: Reasons,
}

impl Course {
    fn new(settings: Settings, replicas: u32) -> Self {
        Self { settings, state: State::default(), now: Duration::ZERO, replicas, reasons: Reasons::default() }
    }

    fn see(&mut self, sample: Sample) -> u32 {
        self.now += Duration::from_secs(1);
        let (replicas, state, reasons) = decide(&self.settings, &self.state, &sample, self.now);
        (self.replicas, self.state, self.reasons) = (replicas, state, reasons);
        replicas
    }

    fn run(&mut self, seconds: u32, rate: f64) -> u32 {
        for _ in 0..seconds {
            self.see(sample(self.replicas, rate));
        }
        self.replicas
    }
}

#[test]
fn replicas_follow_what_arrives_and_the_sentence_says_why() {
    let mut course = Course::new(Settings::within(1, 20), 1);
    let up = course.run(60, 200.0);
    assert!((4..=5).contains(&up), "{up}: {}", course.reasons);
    assert_eq!(course.reasons.cause, Cause::Demand);
    assert!(
        course.reasons.to_string().starts_with(&format!("{up} replicas: 200.0 rows/s arrive, one serves ")),
        "{}",
        course.reasons
    );
    // Not before what was needed lately is over, and then one by one.
    assert_eq!(course.run(60, 20.0), up);
    assert_eq!(course.reasons.cause, Cause::Hold);
    assert_eq!(course.run(400, 20.0), 1);
}

#[test]
fn bounds_hold_whatever_arrives_and_are_told() {
    let mut course = Course::new(Settings::within(2, 3), 2);
    assert_eq!(course.run(60, 1000.0), 3);
    assert_eq!(course.reasons.cause, Cause::Maximum);
    assert_eq!(course.run(600, 0.0), 2);
    assert_eq!(course.reasons.cause, Cause::Minimum);
}

#[test]
fn a_target_that_somebody_set_goes_before_what_was_learned() {
    let mut course = Course::new(Settings { target: Some(Target::Rate(10.0)), ..Settings::within(1, 100) }, 1);
    assert_eq!(course.run(60, 100.0), 10);
    let mut course = Course::new(Settings { target: Some(Target::Concurrency(4.0)), ..Settings::within(1, 100) }, 1);
    for _ in 0..300 {
        let in_flight = 19.0;
        course.see(Sample { in_flight, ..sample(course.replicas, 1.0) });
    }
    assert_eq!(course.replicas, 5);
    assert!(course.reasons.by_concurrency);
}

#[test]
fn the_last_replica_goes_when_nobody_has_asked_for_two_hours_and_held_requests_bring_one_back() {
    let mut course = Course::new(Settings::within(0, 10), 1);
    course.run(60, 5.0);
    assert_eq!(course.run(7190, 0.0), 1);
    assert_eq!(course.run(60, 0.0), 0);
    assert_eq!(course.reasons.cause, Cause::Idle);
    let held = Sample { held: 3.0, held_arrived: 3.0, ..Sample::default() };
    assert_eq!(course.see(held), 1);
    assert_eq!(course.reasons.cause, Cause::Held);
    let many = Sample { held: 5000.0, held_arrived: 5000.0, current: 1, ..Sample::default() };
    assert!(course.see(many) > 1);
}

#[test]
fn the_last_replica_goes_after_the_time_that_somebody_has_set_and_none_is_ordered_for_nobody() {
    let settings = Settings { idle: Some(Duration::from_secs(90)), ..Settings::within(0, 10) };
    let mut course = Course::new(settings, 0);
    assert_eq!(course.run(60, 0.0), 0);
    let held = Sample { held: 1.0, held_arrived: 1.0, ..Sample::default() };
    assert_eq!(course.see(held), 1);
    course.run(60, 5.0);
    assert_eq!(course.run(89, 0.0), 1);
    assert_eq!(course.run(2, 0.0), 0);
}

#[test]
fn after_a_start_of_the_controller_nothing_goes_for_ten_minutes_and_what_was_learned_counts_on() {
    let mut before = Course::new(Settings::within(1, 50), 8);
    for _ in 0..400 {
        before.see(Sample { bad: 20.0, ..sample(before.replicas, 300.0) });
    }
    let memory = before.state.memory();
    assert!(memory.trim < 1.0, "{memory:?}");
    let mut after = Course::new(Settings::within(1, 50), 8);
    after.state = State::resumed(8, Some(memory), Duration::ZERO);
    assert_eq!(after.run(595, 20.0), 8);
    assert_eq!(after.reasons.cause, Cause::Hold);
    assert!(after.run(300, 20.0) < 8);
    let capacity = |course: &Course| course.state.capacity().unwrap();
    let mut fresh = Course::new(Settings::within(1, 50), 8);
    fresh.run(10, 20.0);
    after.state = State::resumed(8, Some(memory), after.now);
    after.run(10, 20.0);
    assert!(capacity(&after) < capacity(&fresh), "{} {}", capacity(&after), capacity(&fresh));
    // What was kept may be anything: somebody may have written it.
    for odd in [f64::NAN, -1.0, 1e300] {
        let memory = Memory { trim: odd, dispersion: odd, start: Duration::MAX };
        let mut course = Course::new(Settings::within(1, 50), 8);
        course.state = State::resumed(8, Some(memory), Duration::ZERO);
        assert!((8..=50).contains(&course.run(60, 100.0)));
    }
}

#[test]
fn pods_that_fail_are_not_answered_by_more_of_them() {
    let mut course = Course::new(Settings::within(1, 50), 2);
    for _ in 0..30 {
        let failing = Sample { failing: 2, ready: 2, reporting: 2, ..sample(5, 2000.0) };
        course.see(failing);
    }
    assert_eq!(course.replicas, 5);
    assert_eq!(course.reasons.cause, Cause::Failing);
}

#[test]
fn an_objective_that_cannot_be_kept_is_told() {
    let mut course = Course::new(Settings::within(1, 50), 1);
    for _ in 0..10 {
        let short = Model { objective: Duration::from_millis(60), ..model() };
        course.see(Sample { model: Some(short), ..sample(1, 10.0) });
    }
    assert!(course.reasons.to_string().contains("the objective is shorter than one execution can keep"));
}

#[test]
fn what_waits_is_worked_off_and_told() {
    let mut course = Course::new(Settings::within(1, 50), 4);
    course.run(60, 100.0);
    let before = course.replicas;
    let more = course.see(Sample { waiting: 3000.0, ..sample(before, 100.0) });
    assert!(more > before, "{more}");
    assert_eq!(course.reasons.cause, Cause::Backlog);
}

#[test]
fn a_version_that_is_new_is_counted_on_for_less_than_the_one_before_and_not_for_next_to_nothing() {
    let mut course = Course::new(Settings::within(1, 50), 4);
    course.run(30, 200.0);
    let known = course.reasons.capacity;
    for _ in 0..30 {
        let young = Model { executions: 20, ..model() };
        course.see(Sample { model: Some(young), ..sample(course.replicas, 200.0) });
    }
    let young = course.reasons.capacity;
    assert!(young < 0.85 * known && young > 0.5 * known, "{young} {known}");
}

/// Rates second by second: stretches of ups and downs.
fn rates() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec((0.0..400.0_f64, 1_usize..60), 1..12)
        .prop_map(|all| all.into_iter().flat_map(|(rate, seconds)| std::iter::repeat_n(rate, seconds)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn without_metrics_no_replica_ever_goes(before in rates(), blind in 1_usize..600, share in 0_u32..3) {
        let mut course = Course::new(Settings::within(0, 100), 3);
        before.iter().for_each(|rate| { course.run(1, *rate); });
        // Of a few pods at most half tell.
        for _ in 0..blind {
            let now = course.replicas;
            let reporting = share.min(now / 2);
            let arrived = 0.0;
            course.see(Sample { reporting, model: None, ..sample(now, arrived) });
            prop_assert!(course.replicas >= now, "{} after {}", course.replicas, now);
        }
    }

    #[test]
    fn the_same_course_of_more_requests_never_gets_fewer_replicas_than_that_of_fewer_needs(
        rates in rates(), more in 1.0..4.0_f64,
    ) {
        let mut light = Course::new(Settings::within(1, 1000), 1);
        let mut heavy = Course::new(Settings::within(1, 1000), 1);
        // Replicas that are there do not depend on what was decided, so that only the loads differ.
        for rate in rates {
            light.see(sample(4, rate));
            heavy.see(sample(4, rate * more));
            // What bursts came back is kept, and of two courses the calmer one has none.
            let needed = (light.reasons.forecast / light.reasons.capacity).ceil() as u32;
            prop_assert!(heavy.replicas >= needed.min(4 * UP_TIMES), "{} {}", heavy.replicas, needed);
        }
    }

    #[test]
    fn one_sample_of_more_requests_never_gets_fewer_replicas(before in rates(), next in 0.0..500.0_f64, more in 0.0..500.0_f64) {
        let mut course = Course::new(Settings::within(1, 1000), 4);
        before.iter().for_each(|rate| { course.run(1, *rate); });
        let decide_with = |rate: f64| {
            let now = course.now + Duration::from_secs(1);
            decide(&course.settings, &course.state, &sample(course.replicas, rate), now).0
        };
        prop_assert!(decide_with(next + more) >= decide_with(next));
    }

    #[test]
    fn bounds_hold_in_every_course(rates in rates(), min in 0_u32..5, span in 0_u32..10) {
        let (min, max) = (min, (min + span).max(1));
        let mut course = Course::new(Settings::within(min, max), max);
        for rate in rates {
            let now = course.run(1, rate);
            prop_assert!((min..=max).contains(&now), "{}", now);
        }
    }
}
