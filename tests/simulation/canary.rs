//! Guarded canaries in worlds made from seeds: the production decision, fed once a second with what its versions did.

use std::time::Duration;

use tensorgate::model::Version;
use tensorgate::model::traffic::CanarySettings;
use tensorgate::service::router::canary::{Phase, Rollout, Seen};
use tensorgate::verdict::Counts;
use tokio::time::Instant;

use tensorgate_random::Random;

/// Worlds of each kind: as many as it takes to tell one in a hundred from none.
const WORLDS: u64 = 400;

/// Requests that are played at most: a good canary needs some hundreds in each step, twenty times that at its first.
const REQUESTS_MAX: u64 = 200_000;

/// How a version behaves.
#[derive(Clone, Copy)]
struct Behaviour {
    fails: f64,
    /// The median of what an answer takes, in seconds; the logarithm is normal with a deviation of `spread`.
    takes: f64,
    spread: f64,
    differs: f64,
}

/// What is wrong with a canary.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Fails,
    Slow,
    Late,
    Wrong,
}

struct World {
    stable: Behaviour,
    canary: Behaviour,
    settings: CanarySettings,
    /// Requests a second.
    rate: f64,
    random: Random,
    /// Whether the world has hours in which everything fails more and takes longer, whichever version answers.
    stormy: bool,
}

impl World {
    fn new(seed: u64, fault: Fault) -> Self {
        let mut random = Random::stream(seed, 4);
        let stable = Behaviour {
            fails: random.between(0.0, 0.005),
            takes: random.between(0.001, 0.03),
            spread: random.between(0.05, 0.5),
            differs: 0.0,
        };
        let mut canary = Behaviour {
            // As good, or better.
            fails: stable.fails * random.between(0.5, 1.0),
            takes: stable.takes * random.between(0.7, 1.1),
            differs: random.between(0.0, 0.005),
            ..stable
        };
        match fault {
            Fault::None => {}
            Fault::Fails => canary.fails += random.between(0.03, 0.5),
            Fault::Slow => canary.takes = stable.takes * random.between(3.0, 50.0) + 0.002,
            Fault::Late => canary.takes = 0.12,
            Fault::Wrong => canary.differs = random.between(0.06, 1.0),
        }
        let mut settings = CanarySettings::new(Version::new(2).unwrap());
        settings.steps = [vec![5.0, 25.0, 50.0], vec![10.0, 50.0], vec![20.0]][random.below(3)].clone();
        settings.disagreement = Some(0.02);
        settings.step_time = Duration::from_secs(5);
        let (rate, stormy) = (random.between(200.0, 2000.0), random.happens(0.3));
        Self { stable, canary, settings, rate, random, stormy }
    }

    fn one(&mut self, canary: bool, storm: f64) -> Option<Duration> {
        let version = if canary { self.canary } else { self.stable };
        if self.random.happens((version.fails * storm).min(1.0)) {
            return None;
        }
        let takes = version.takes * storm.sqrt() * (self.random.normal() * version.spread).exp();
        Some(Duration::from_secs_f64(takes))
    }

    /// Plays it until it is over; gives how it ended, and why.
    fn play(mut self) -> (Phase, String) {
        let start = Instant::now();
        let mut rollout = Rollout::new(start, self.settings.clone(), Version::ONE);
        let mut seen = Seen { objective: Duration::from_millis(100), ..Seen::default() };
        let (mut requests, mut second) = (0, 0);
        while matches!(rollout.phase(), Phase::Running(_)) && requests < REQUESTS_MAX {
            let storm = if self.stormy && second % 40 >= 30 { 5.0 } else { 1.0 };
            for _ in 0..self.rate as u64 {
                requests += 1;
                let canary = self.random.happens(rollout.percent() / 100.0);
                let took = self.one(canary, storm);
                if canary {
                    seen.canary.note(took)
                } else {
                    seen.stable.note(took)
                }
                // A tenth of the stable's answers is compared.
                if !canary && self.random.happens(0.1) {
                    let differs = self.random.happens(self.canary.differs);
                    seen.compared = Counts::new(seen.compared.hits + u64::from(differs), seen.compared.trials + 1);
                }
            }
            second += 1;
            rollout.judge(start + Duration::from_secs(second), seen.clone());
        }
        (rollout.phase(), rollout.reason().to_owned())
    }
}

/// How many worlds ended otherwise than they should, of those that ended; panics where hardly any did.
fn wrong(fault: Fault, worlds: u64, right: Phase) -> u64 {
    let (mut wrong, mut held) = (0, 0);
    for seed in super::seeds_of(worlds) {
        let _named = super::Named(seed);
        match World::new(seed, fault).play() {
            (phase, _) if phase == right => {}
            (Phase::Running(_), _) => held += 1,
            (_, reason) => {
                println!("{fault:?}, SEED={seed}: {reason}");
                wrong += 1;
            }
        }
    }
    assert!(held * 20 <= worlds, "{fault:?}: {held} of {worlds} were held for ever");
    wrong
}

#[test]
fn of_good_canaries_less_than_one_in_a_hundred_is_rolled_back() {
    let wrong = wrong(Fault::None, WORLDS, Phase::Promoted);
    assert!(wrong * 100 < WORLDS, "{wrong} of {WORLDS}");
}

#[test]
fn of_bad_canaries_less_than_one_in_a_hundred_is_promoted() {
    let faults = [Fault::Fails, Fault::Slow, Fault::Late, Fault::Wrong];
    let wrong: u64 = faults.map(|fault| wrong(fault, WORLDS / 4, Phase::RolledBack)).iter().sum();
    assert!(wrong * 100 < WORLDS, "{wrong} of {WORLDS}");
}

#[test]
fn a_canary_as_bad_as_is_just_tolerated_is_rarely_rolled_back() {
    let mut wrong = 0;
    for seed in super::seeds_of(WORLDS / 8) {
        let _named = super::Named(seed);
        let mut world = World::new(seed, Fault::None);
        world.canary = Behaviour { fails: world.stable.fails + 0.01, ..world.stable };
        world.stormy = false;
        wrong += u64::from(world.play().0 == Phase::RolledBack);
    }
    assert!(wrong <= 1, "{wrong} of {}", WORLDS / 8);
}

#[test]
fn a_canary_without_requests_is_held_and_says_why() {
    let mut rollout = Rollout::new(Instant::now(), CanarySettings::new(Version::new(2).unwrap()), Version::ONE);
    let mut seen = Seen { objective: Duration::from_millis(100), ..Seen::default() };
    for second in 1..100 {
        (0..100).for_each(|_| seen.stable.note(Some(Duration::from_millis(3))));
        assert!(!rollout.judge(Instant::now() + Duration::from_secs(second), seen.clone()));
    }
    assert_eq!(rollout.phase(), Phase::Running(0));
    assert!(rollout.reason().starts_with("held at step 1 of 4 (1 %): too little was seen"), "{}", rollout.reason());
    seen.missing = Some("model 'm' version 2 is not ready: unloaded".into());
    rollout.judge(Instant::now(), seen);
    assert!(rollout.reason().ends_with("version 2 is not ready: unloaded"), "{}", rollout.reason());
}
