//! The up-and-down method (Dixon and Mood 1948): of trials that hold less often the higher their level is, the level at which half
//! of them hold. Each level is a step above the one before where that held, and a step below where it did not, so that a trial
//! which something else disturbed costs two steps, and is not believed for good as a bisection would.

/// Until the first turn, steps are so many times as large, and until the second one, by which what that overshot has been made up
/// for, trials are no result.
const FIRST: f64 = 2.0;
const COUNTED_FROM: u32 = 2;

/// Levels above zero, steps in parts of them.
#[derive(Clone, Debug)]
pub(crate) struct Staircase {
    level: f64,
    /// ln of a step.
    step: f64,
    /// Whether the last trial held; none before the first.
    held: Option<bool>,
    turns: u32,
    /// ln of the levels of all trials that count, summed up, and how many.
    sum: f64,
    count: u32,
}

impl Staircase {
    /// Begins at 1, with steps of `step` (0.08 is 8 %).
    pub(crate) fn new(step: f64) -> Self {
        Self { level: 1.0, step: step.ln_1p(), held: None, turns: 0, sum: 0.0, count: 0 }
    }

    /// The level to try next.
    pub(crate) fn level(&self) -> f64 {
        self.level
    }

    /// Takes in whether the trial at [`Staircase::level`] held.
    pub(crate) fn judge(&mut self, held: bool) {
        self.turns += u32::from(self.held.is_some_and(|before| before != held));
        self.held = Some(held);
        if self.turns >= COUNTED_FROM {
            self.sum += self.level.ln();
            self.count += 1;
        }
        let step = if self.turns > 0 { self.step } else { self.step * FIRST };
        self.level *= if held { step.exp() } else { (-step).exp() };
    }

    /// The level at which half of the trials hold; none where they did not turn twice.
    pub(crate) fn found(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.sum / f64::from(self.count)).exp())
    }
}

#[cfg(test)]
mod tests {
    use tensorgate_random::Random;

    use super::*;

    /// Of trials that hold below `limit`, but for one in `disturbed` that does not in any case: what is found, on average.
    fn found(limit: f64, spread: f64, disturbed: f64, trials: usize) -> f64 {
        let mut random = Random::new(7);
        let one = |random: &mut Random| {
            let mut stairs = Staircase::new(0.08);
            for _ in 0..trials {
                let held = stairs.level() < limit * (spread * random.normal()).exp() && !random.happens(disturbed);
                stairs.judge(held);
            }
            stairs.found().unwrap_or(f64::NAN)
        };
        (0..200).map(|_| one(&mut random)).sum::<f64>() / 200.0
    }

    #[test]
    fn the_level_at_which_half_of_the_trials_hold_is_found_from_above_and_from_below() {
        for limit in [0.5, 0.9, 1.1, 2.0] {
            let sharp = found(limit, 0.0, 0.0, 12);
            assert!((sharp / limit - 1.0).abs() < 0.06, "{sharp} for {limit}");
            let noisy = found(limit, 0.1, 0.0, 16);
            assert!((noisy / limit - 1.0).abs() < 0.06, "{noisy} for {limit}");
        }
    }

    #[test]
    fn a_disturbed_trial_in_ten_moves_it_by_less_than_a_step() {
        let disturbed = found(1.0, 0.05, 0.1, 16);
        assert!((0.93..1.03).contains(&disturbed), "{disturbed}");
    }

    #[test]
    fn trials_that_all_hold_or_never_do_find_nothing() {
        for held in [true, false] {
            let mut stairs = Staircase::new(0.08);
            (0..10).for_each(|_| stairs.judge(held));
            assert_eq!(stairs.found(), None);
            assert!(if held { stairs.level() > 4.0 } else { stairs.level() < 0.25 });
        }
    }
}
