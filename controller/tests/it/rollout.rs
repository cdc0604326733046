//! Guarded rollouts in worlds made from seeds: the production decision, fed once a second with what pods would have counted.
//! `SEED=n` replays one world.

use std::collections::BTreeMap;

use tensorgate_controller::api::status::RolloutStatus;
use tensorgate_controller::rollout::{
    Analysis, Compared, Facts, Guard, Outcome, Shadow, ShadowAnalysis, Tally, decide,
};
use tensorgate_random::Random;

/// Worlds of each kind: as many as it takes to tell one in a hundred from none.
const WORLDS: u64 = 400;
/// Requests that are played at most: a good revision needs some hundreds at each step, twenty times that at its first.
const REQUESTS_MAX: u64 = 200_000;
/// Where the clock stands at first.
const START: i64 = 1_790_000_000;
/// The bounds of a server's buckets (`telemetry/metrics.rs`).
const BOUNDS: [f64; 24] = [
    100e-6,
    160e-6,
    250e-6,
    400e-6,
    630e-6,
    1e-3,
    1.6e-3,
    2.5e-3,
    4e-3,
    6.3e-3,
    10e-3,
    16e-3,
    25e-3,
    40e-3,
    63e-3,
    0.1,
    0.16,
    0.25,
    0.4,
    0.63,
    1.0,
    1.6,
    2.5,
    f64::INFINITY,
];

/// How a revision behaves.
#[derive(Clone, Copy)]
struct Behaviour {
    fails: f64,
    refuses: f64,
    /// The median of what an answer takes, in seconds; the logarithm is normal with a deviation of `spread`.
    takes: f64,
    spread: f64,
}

/// What is wrong with a new revision.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Fails,
    /// Takes other requests than the old one did.
    Refuses,
    Slow,
    Late,
}

struct World {
    behaviours: [Behaviour; 2],
    /// Of each revision, by pod.
    pods: [Vec<Tally>; 2],
    guard: Guard,
    /// Requests a second.
    rate: f64,
    random: Random,
    /// Whether the world has hours in which everything fails more and takes longer, whichever revision answers.
    stormy: bool,
    /// Whether the controller, or pods, start anew at times.
    restless: bool,
}

fn note(tally: &mut Tally, took: f64) {
    let place = BOUNDS.iter().position(|bound| took <= *bound).unwrap();
    tally.took[place].1 += 1;
}

impl World {
    fn new(seed: u64, fault: Fault) -> Self {
        let mut random = Random::stream(seed, 7);
        let stable = Behaviour {
            fails: random.between(0.0, 0.005),
            refuses: random.between(0.0, 0.02),
            takes: random.between(0.001, 0.03),
            spread: random.between(0.05, 0.5),
        };
        // As good, or better.
        let mut canary = Behaviour {
            fails: stable.fails * random.between(0.5, 1.0),
            takes: stable.takes * random.between(0.7, 1.1),
            ..stable
        };
        match fault {
            Fault::None => {}
            Fault::Fails => canary.fails += random.between(0.03, 0.5),
            Fault::Refuses => canary.refuses += random.between(0.05, 0.9),
            Fault::Slow => canary.takes = stable.takes * random.between(3.0, 50.0) + 0.002,
            Fault::Late => canary.takes = 0.12,
        }
        let steps = [vec![5, 25, 50], vec![10, 50], vec![20]][random.below(3)].clone();
        let guard = Guard { steps, step_time: 5, ..Guard::default() };
        let fresh = Tally { took: BOUNDS.map(|bound| (bound, 0)).to_vec(), objective: 0.1, ..Tally::default() };
        let pods = [vec![fresh.clone(); 1 + random.below(2)], vec![fresh; 1 + random.below(4)]];
        let (rate, stormy, restless) = (random.between(200.0, 2000.0), random.happens(0.3), random.happens(0.3));
        Self { behaviours: [canary, stable], pods, guard, rate, random, stormy, restless }
    }

    fn request(&mut self, percent: i32, storm: f64) {
        let arm = usize::from(!self.random.happens(f64::from(percent) / 100.0));
        let own = self.behaviours[arm];
        let pod = self.random.below(self.pods[arm].len());
        let takes = own.takes * storm.sqrt() * (self.random.normal() * own.spread).exp();
        let (fails, refused) = (self.random.happens((own.fails * storm).min(1.0)), self.random.happens(own.refuses));
        let tally = &mut self.pods[arm][pod];
        match (refused, fails) {
            (true, _) => tally.refused += 1,
            (_, true) => tally.failed += 1,
            _ => {
                tally.answered += 1;
                tally.batches += 1;
            }
        }
        note(tally, if refused || fails { 50e-6 } else { takes });
    }

    fn restart(&mut self) {
        let arm = self.random.below(2);
        let pod = self.random.below(self.pods[arm].len());
        let tally = &mut self.pods[arm][pod];
        *tally = Tally { took: BOUNDS.map(|bound| (bound, 0)).to_vec(), objective: 0.1, ..Tally::default() };
    }

    /// What the pods of a revision say; now and then one does not answer.
    fn reading(&mut self, arm: usize) -> Result<BTreeMap<String, Tally>, String> {
        let mut pods: BTreeMap<String, Tally> =
            self.pods[arm].iter().enumerate().map(|(pod, tally)| (format!("{arm}-{pod}"), tally.clone())).collect();
        if self.restless && self.random.happens(0.05) {
            pods.pop_first();
        }
        if pods.is_empty() { Err("no pod is ready".into()) } else { Ok(pods) }
    }

    /// Plays it until it is over; gives the last status.
    fn play(mut self) -> RolloutStatus {
        let facts = |guard| Facts {
            now: "",
            guard: Some(guard),
            settings: "s",
            latest: "new",
            rolled_out: "old",
            previous: "",
            available: true,
            failure: None,
            finding: None,
        };
        let guard = self.guard.clone();
        let (mut status, mut analysis): (Option<RolloutStatus>, Option<Analysis>) = (None, None);
        let (mut requests, mut second) = (0, 0);
        loop {
            let now = jiff::Timestamp::from_second(START + second).unwrap().to_string();
            let finding = analysis.as_ref().map(Analysis::finding);
            let next =
                decide(status.as_ref(), &Facts { now: &now, finding: finding.as_ref(), ..facts(&guard) }).unwrap();
            if next.phase != RolloutStatus::RUNNING || requests >= REQUESTS_MAX {
                return next;
            }
            let step = usize::try_from(next.step).unwrap();
            let is_same = |own: &Analysis| own.is_of(&guard, "new", step, true);
            // A controller that starts anew knows the status and nothing else.
            if self.restless && self.random.happens(0.03) {
                analysis = None;
            }
            let mut own = analysis.take().filter(is_same).unwrap_or_else(|| Analysis::new(&guard, "new", step, true));
            if self.restless && self.random.happens(0.02) {
                self.restart();
            }
            let storm = if self.stormy && second % 40 >= 30 { 5.0 } else { 1.0 };
            for _ in 0..self.rate as u64 {
                self.request(next.percent, storm);
                requests += 1;
            }
            let (canary, stable) = (self.reading(0), self.reading(1));
            own.observe(canary, stable);
            (status, analysis) = (Some(next), Some(own));
            second += 1;
        }
    }
}

fn seeds(worlds: u64) -> Vec<u64> {
    let asked = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    asked.map_or_else(|| (0..worlds).collect(), |seed| vec![seed])
}

/// How many worlds ended otherwise than they should, of those that ended; panics where hardly any did.
fn wrong(fault: Fault, worlds: u64, right: &str) -> u64 {
    let (mut wrong, mut held) = (0, 0);
    for seed in seeds(worlds) {
        let status = World::new(seed, fault).play();
        match status.phase.as_str() {
            phase if phase == right => {}
            RolloutStatus::RUNNING => held += 1,
            _ => {
                println!("{fault:?}, SEED={seed}: {}", status.message);
                wrong += 1;
            }
        }
    }
    assert!(held * 20 <= worlds, "{fault:?}: {held} of {worlds} were held for ever");
    wrong
}

#[test]
fn of_good_revisions_less_than_one_in_a_hundred_is_rolled_back() {
    let wrong = wrong(Fault::None, WORLDS, RolloutStatus::PROMOTED);
    assert!(wrong * 100 < WORLDS, "{wrong} of {WORLDS}");
}

#[test]
fn of_bad_revisions_less_than_one_in_a_hundred_is_rolled_out() {
    let faults = [Fault::Fails, Fault::Refuses, Fault::Slow, Fault::Late];
    let wrong: u64 = faults.map(|fault| wrong(fault, WORLDS / 4, RolloutStatus::ROLLED_BACK)).iter().sum();
    assert!(wrong * 100 < WORLDS, "{wrong} of {WORLDS}");
}

#[test]
fn a_revision_as_bad_as_is_just_tolerated_is_rarely_rolled_back() {
    let worlds = WORLDS / 8;
    let mut wrong = 0;
    for seed in seeds(worlds) {
        let mut world = World::new(seed, Fault::None);
        let stable = world.behaviours[1];
        world.behaviours[0] = Behaviour { fails: stable.fails + 0.01, ..stable };
        world.stormy = false;
        wrong += u64::from(world.play().phase == RolloutStatus::ROLLED_BACK);
    }
    assert!(wrong <= 1, "{wrong} of {worlds}");
}

/// Plays the shadow step of a revision of whose answers such a part differs, before two routers that may start anew; gives how it ended.
fn play_shadow(seed: u64, differs: f64) -> Outcome {
    let mut random = Random::stream(seed, 11);
    let shadow = Shadow { share: 0.2, ..Shadow::default() };
    let guard = Guard { shadow: Some(shadow), ..Guard::default() };
    let mut analysis = ShadowAnalysis::new(&guard, shadow, "new");
    let mut routers = [Compared::default(), Compared::default()];
    let restless = random.happens(0.3);
    for _ in 0..600 {
        for _ in 0..random.below(60) {
            let router = &mut routers[random.below(2)];
            match random.happens(differs) {
                true => router.disagreed += 1,
                false => router.agreed += 1,
            }
        }
        if restless && random.happens(0.05) {
            routers[random.below(2)] = Compared::default();
        }
        // A controller that starts anew knows nothing of what was compared.
        if restless && random.happens(0.02) {
            analysis = ShadowAnalysis::new(&guard, shadow, "new");
        }
        let told = |(index, own): (usize, &Compared)| (index.to_string(), own.clone());
        analysis.observe(Ok(routers.iter().enumerate().map(told).collect()));
        let outcome = analysis.finding().outcome;
        if outcome != Outcome::Hold {
            return outcome;
        }
    }
    Outcome::Hold
}

#[test]
fn of_shadows_less_than_one_in_a_hundred_is_judged_wrongly() {
    let count = |part: &dyn Fn(&mut Random) -> f64, wrong: Outcome| {
        let plays = seeds(WORLDS).into_iter().map(|seed| play_shadow(seed, part(&mut Random::stream(seed, 13))));
        let outcomes: Vec<Outcome> = plays.collect();
        let held = outcomes.iter().filter(|own| **own == Outcome::Hold).count();
        assert!(held * 20 <= outcomes.len(), "{held} were held for ever");
        outcomes.iter().filter(|own| **own == wrong).count()
    };
    let good = count(&|random| random.between(0.0, 0.025), Outcome::Fail);
    let bad = count(&|random| random.between(0.1, 1.0), Outcome::Pass);
    assert!(
        good * 100 < WORLDS as usize && bad * 100 < WORLDS as usize,
        "{good} good ones and {bad} bad ones of {WORLDS}"
    );
}

#[test]
fn a_rollout_begins_with_its_shadow_and_goes_on_to_its_steps_or_ends_there() {
    let guard = Guard { shadow: Some(Shadow::default()), step_time: 5, ..Guard::default() };
    let at = |second: i64| jiff::Timestamp::from_second(START + second).unwrap().to_string();
    let look = |old: Option<&RolloutStatus>, second: i64, outcome: Option<(usize, Outcome)>| {
        let finding = outcome.map(|(step, outcome)| tensorgate_controller::rollout::Finding {
            revision: "new".into(),
            step,
            outcome,
            reason: "disagreement: some".into(),
        });
        let now = at(second);
        let facts = Facts {
            now: &now,
            guard: Some(&guard),
            settings: "s",
            latest: "new",
            rolled_out: "old",
            previous: "",
            available: true,
            failure: None,
            finding: finding.as_ref(),
        };
        decide(old, &facts).unwrap()
    };
    let begun = look(None, 0, None);
    assert_eq!((begun.step, begun.percent, begun.served), (0, 0, false));
    let running = look(Some(&begun), 1, None);
    assert!(running.served && running.message.starts_with("held at the shadow step"), "{running:?}");
    let undone = look(Some(&running), 2, Some((0, Outcome::Fail)));
    assert_eq!((undone.phase.as_str(), undone.percent), (RolloutStatus::ROLLED_BACK, 0));
    assert!(undone.message.starts_with("rolled back at the shadow step"), "{}", undone.message);
    let early = look(Some(&running), 3, Some((0, Outcome::Pass)));
    assert_eq!((early.step, early.percent), (0, 0), "it takes its time");
    let on = look(Some(&running), 10, Some((0, Outcome::Pass)));
    assert_eq!((on.step, on.percent), (1, 1));
    assert_eq!(
        look(Some(&on), 11, Some((0, Outcome::Fail))).phase,
        RolloutStatus::RUNNING,
        "what the shadow showed is past"
    );
}

fn tally(answered: u64) -> Tally {
    Tally { answered, took: vec![(0.001, answered), (f64::INFINITY, 0)], objective: 0.1, ..Tally::default() }
}

#[test]
fn a_revision_without_requests_is_held_and_says_why() {
    let guard = Guard::default();
    let mut analysis = Analysis::new(&guard, "new", 1, true);
    for second in 1..100 {
        let of = |pod: &str, answered: u64| Ok(BTreeMap::from([(pod.to_owned(), tally(answered))]));
        analysis.observe(of("a", 0), of("b", second * 100));
    }
    let finding = analysis.finding();
    assert!(finding.reason.starts_with("too little was seen to tell, errors: 0 of 0"), "{finding:?}");
    analysis.observe(Err("no pod of revision new is ready".into()), Ok(BTreeMap::new()));
    assert_eq!(analysis.finding().reason, "no pod of revision new is ready");
}

#[test]
fn a_pod_that_is_seen_for_the_first_time_brings_none_of_its_past_along() {
    let guard = Guard { steps: vec![50], step_requests: 1_000_000, ..Guard::default() };
    let mut analysis = Analysis::new(&guard, "new", 1, true);
    let failed = Tally { failed: 5000, ..tally(5000) };
    for second in 0..20 {
        // Another pod each time, each with a past full of failures.
        let canary = BTreeMap::from([(format!("a{second}"), failed.clone())]);
        analysis.observe(Ok(canary), Ok(BTreeMap::from([("b".to_owned(), tally(second * 100))])));
    }
    assert!(analysis.finding().reason.contains("errors: 0 of 0"), "{:?}", analysis.finding());
}
