use proptest::prelude::*;

use super::*;

const LEVELS: Levels = Levels { false_alarm: 0.01, missed: 0.01 };

/// The probability of `hits` out of `trials`.
fn binomial(hits: u64, trials: u64, ratio: f64) -> f64 {
    let choose = (0..hits).map(|i| ((trials - i) as f64 / (i + 1) as f64).ln()).sum::<f64>();
    (choose + hits as f64 * ratio.ln() + (trials - hits) as f64 * (1.0 - ratio).ln()).exp()
}

/// What the e-variable of a block is expected to be, exactly.
fn expected(guess: [f64; 2], trials: [u64; 2], tolerance: f64, truth: [f64; 2]) -> f64 {
    let closest = closest(guess, trials, tolerance);
    let mut sum = 0.0;
    for (hits_c, hits_s) in (0..=trials[0]).flat_map(|c| (0..=trials[1]).map(move |s| (c, s))) {
        let (canary, stable) = (Counts::new(hits_c, trials[0]), Counts::new(hits_s, trials[1]));
        let ratio = ratio(canary, guess[0], closest + tolerance) + ratio(stable, guess[1], closest);
        sum += ratio.exp() * binomial(hits_c, trials[0], truth[0]) * binomial(hits_s, trials[1], truth[1]);
    }
    sum
}

proptest! {
    #[test]
    fn a_block_is_expected_to_win_nothing_while_the_hypothesis_holds(
        guess in [0.001..0.999_f64, 0.001..0.999_f64],
        trials in [1_u64..12, 1_u64..12],
        tolerance in prop::sample::select(vec![0.0, 0.01, 0.1, 0.4]),
        stable in 0.001..0.999_f64,
        within in 0.0..1.0_f64,
    ) {
        // Of a guess that the canary is worse, the truth is that it is fine, and the other way round.
        let edge = stable + tolerance;
        let canary = match guess[0] > guess[1] + tolerance {
            true => edge.min(0.999) * within,
            false => edge + (1.0 - edge) * within,
        };
        prop_assume!((0.0005..0.9995).contains(&canary));
        let expected = expected(guess, trials, tolerance, [canary, stable]);
        prop_assert!(expected <= 1.0 + 1e-6, "{expected}");
    }

    #[test]
    fn any_counts_leave_the_test_with_numbers(
        blocks in prop::collection::vec(([0_u64..5000, 0_u64..5000], [0.0..=1.0_f64, 0.0..=1.0_f64], 1.0..64.0_f64), 0..20),
        tolerance in 0.0..0.9_f64,
    ) {
        let (mut comparison, mut ceiling) = (Comparison::new(tolerance), Ceiling::new(tolerance.max(0.001)));
        for ([canary, stable], ratios, cluster) in blocks {
            let counts = |trials: u64, ratio: f64| Counts::new((trials as f64 * ratio) as u64, trials);
            comparison.observe(counts(canary, ratios[0]), counts(stable, ratios[1]), cluster);
            ceiling.observe(counts(canary, ratios[0]));
        }
        for wealth in [comparison.wealth, ceiling.wealth] {
            prop_assert!(!wealth.worse.is_nan() && !wealth.fine.is_nan(), "{wealth:?}");
        }
    }
}

fn told(blocks: usize, canary: Counts, stable: Counts) -> Verdict {
    let mut comparison = Comparison::new(0.01);
    (0..blocks).for_each(|_| comparison.observe(canary, stable, 1.0));
    comparison.verdict(&LEVELS)
}

#[test]
fn a_canary_that_fails_is_bad_after_a_handful_and_one_that_does_not_is_good_after_some_hundreds() {
    assert!(matches!(told(6, Counts::new(1, 1), Counts::new(0, 99)), Verdict::Bad(_)));
    assert_eq!(told(400, Counts::new(0, 1), Counts::new(0, 99)), Verdict::Continue);
    assert_eq!(told(900, Counts::new(0, 1), Counts::new(0, 99)), Verdict::Good);
}

#[test]
fn an_outage_that_hits_both_alike_is_no_evidence() {
    let mut comparison = Comparison::new(0.01);
    for share in [0, 0, 50, 90, 10, 0, 70, 30] {
        comparison.observe(Counts::new(share, 100), Counts::new(9 * share, 900), 1.0);
    }
    assert_eq!(comparison.verdict(&LEVELS), Verdict::Continue);
}

#[test]
fn without_a_stable_nothing_is_said() {
    assert_eq!(told(100, Counts::new(9, 9), Counts::new(0, 0)), Verdict::Continue);
}

#[test]
fn hits_that_come_together_count_as_one() {
    let told = |cluster: f64| {
        let mut comparison = Comparison::new(0.01);
        for hits in [0, 3, 3, 3] {
            comparison.observe(Counts::new(hits, 20), Counts::new(0, 80), cluster);
        }
        comparison.verdict(&LEVELS)
    };
    assert!(matches!(told(1.0), Verdict::Bad(_)));
    assert_eq!(told(16.0), Verdict::Continue);
}

#[test]
fn a_ratio_is_held_against_a_bound() {
    let told = |hits: u64| {
        let mut ceiling = Ceiling::new(0.05);
        (0..40).for_each(|_| ceiling.observe(Counts::new(hits, 10)));
        ceiling.verdict(&LEVELS)
    };
    assert_eq!(told(0), Verdict::Good);
    let Verdict::Bad(evidence) = told(3) else { panic!("three in ten") };
    assert_eq!(evidence.to_string(), "120 of 400 (30 %), at most 5 % are allowed");
}

#[test]
fn ratios_read_well() {
    let shown = |ratio: f64| Percent(ratio).to_string();
    assert_eq!(
        [shown(0.0), shown(0.0012), shown(0.015), shown(0.1), shown(1.0)],
        ["0 %", "0.12 %", "1.5 %", "10 %", "100 %"]
    );
}
