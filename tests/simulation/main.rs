//! The production planner, admission, curve and ledger on a virtual clock, in worlds made from a seed. A failure prints its
//! seed; `SEED=n` in the environment replays exactly that one.

mod canary;
mod engine;
mod invariants;
mod promises;
mod scenario;

use engine::table::{Cell, REGIMES, Regime, TRAFFIC, tunings};
use scenario::Scenario;

/// Worlds in each run of the tests: some seconds of a debug build.
const WORLDS: u64 = 80;

/// The seeds to play: the one in the environment, or the first ones.
fn seeds() -> Vec<u64> {
    seeds_of(WORLDS)
}

/// The seeds of as many `worlds`, or the one in the environment.
fn seeds_of(worlds: u64) -> Vec<u64> {
    let asked = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    asked.map_or_else(|| (0..worlds).collect(), |seed| vec![seed])
}

/// Says which world it was when one fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the world that failed: SEED={}", self.0);
        }
    }
}

#[test]
fn in_every_world_each_request_ends_once_and_nothing_breaks_its_bounds() {
    for seed in seeds() {
        let _named = Named(seed);
        let told = Scenario::new(seed).play();
        assert!(told.ended > 0, "nothing happened");
    }
}

#[test]
fn the_same_seed_is_the_same_world_to_the_nanosecond() {
    for seed in seeds().into_iter().take(3) {
        let _named = Named(seed);
        assert_eq!(Scenario::new(seed).play(), Scenario::new(seed).play());
        assert_ne!(Scenario::new(seed).play(), Scenario::new(seed + 1000).play());
    }
}

#[test]
fn worlds_hold_every_way_to_end() {
    let mut told = scenario::Told::default();
    for seed in 0..WORLDS {
        told.add(&Scenario::new(seed).play());
    }
    assert!(told.answered > told.ended / 10, "{told:?}");
    for (end, count) in [
        ("failed", told.failed),
        ("refused", told.refused),
        ("shed for a deadline", told.too_late),
        ("shed in overload", told.overload),
        ("left", told.left),
        ("answered late", told.late),
        ("in parts", told.parts),
    ] {
        assert!(count > 0, "none was {end}: {told:?}");
    }
}

/// A cell whose window is so short that a debug build plays it; the whole table is `make simulate`.
fn short(regime: &str, traffic: &str, load: f64) -> Cell {
    let regime = REGIMES.into_iter().find(|known| known.name == regime).unwrap();
    let regime = Regime { window: regime.window / 4.0, ..regime };
    let (_, pattern) = TRAFFIC.into_iter().find(|(name, _)| *name == traffic).unwrap();
    Cell { regime, pattern, load }
}

/// The mean over two seeds.
fn mean(cell: &Cell, score: impl Fn(&[u64], u64) -> f64) -> f64 {
    [1, 2].into_iter().map(|seed| score(&cell.arrivals(seed), seed)).sum::<f64>() / 2.0
}

#[test]
fn without_tuning_goodput_is_that_of_the_best_tuning_in_hindsight() {
    for (regime, traffic, load) in [
        ("mlp", "poisson", 0.3),
        ("medium", "poisson", 0.9),
        ("gpu", "gamma 16", 1.2),
        ("linear", "gamma 16", 2.0),
        ("tight", "poisson", 1.2),
    ] {
        let cell = short(regime, traffic, load);
        let ours = mean(&cell, |arrivals, seed| cell.ours(arrivals, seed, true));
        let tuned = |tuned| mean(&cell, |arrivals, seed| cell.tuned(arrivals, seed, tuned));
        let best = tunings(cell.regime.objective).into_iter().map(tuned).fold(0.0, f64::max);
        assert!(ours >= best - 2.0, "{regime} {traffic} {load}: {ours:.1}, the best tuning {best:.1}");
        let cork = mean(&cell, |arrivals, seed| cell.cork(arrivals, seed));
        assert!(ours >= cork - 2.0, "{regime} {traffic} {load}: {ours:.1}, CORK {cork:.1}");
        let soft = mean(&cell, |arrivals, seed| cell.ours(arrivals, seed, false));
        assert!(
            soft >= ours - 2.0,
            "{regime} {traffic} {load}: {soft:.1} with soft deadlines, {ours:.1} with firm ones"
        );
    }
}

#[test]
fn ten_times_the_load_costs_no_goodput() {
    for (regime, traffic) in [("medium", "poisson"), ("linear", "gamma 16"), ("tight", "poisson")] {
        let [full, tenfold] = [1.0, 10.0].map(|load| {
            let cell = short(regime, traffic, load);
            mean(&cell, |arrivals, seed| cell.ours(arrivals, seed, true))
        });
        // Larger batches fit the objective where there is always one to be filled.
        assert!(tenfold >= full, "{regime} {traffic}: {tenfold:.1} of {full:.1}");
    }
}
