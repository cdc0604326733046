//! Judges a canary against its stable: sequential tests that may be looked at as often as one likes.
//!
//! A test that is looked at again and again until it says something says it wrongly sooner or later, unless it is made for
//! that. These are: each keeps an *e-process*, a non-negative number that starts at 1 and is expected not to grow while its
//! hypothesis holds, so that it exceeds `1/a` with a probability of at most `a`, whenever anybody stops (Ville's inequality).
//!
//! # The test of two arms
//! Counts come in blocks: trials and hits (errors, late answers) of the canary and of the stable, in the same stretch of time.
//! The hypothesis is that the canary's ratio is at most the stable's and a tolerance `d`: `p_c <= p_s + d`. Against it stands a
//! guess `(q_c, q_s)` from the blocks before, with `q_c > q_s + d`. With `(r_c, r_s)`, the point of the line `r_c = r_s + d` that
//! minimises `n_c KL(q_c||r_c) + n_s KL(q_s||r_s)`, the likelihood ratio of the block is an e-variable (Turner, Ly and Grünwald,
//! "Generic E-variables for exact sequential k-sample tests", 2024; Turner and Grünwald, "Exact anytime-valid confidence
//! intervals for contingency tables and beyond", 2023, section 3). In short: its expectation under `(p_c, p_s)` is
//! `(1 + (p_c - r_c) g_c)^n_c (1 + (p_s - r_s) g_s)^n_s` with `g = (q - r) / (r (1 - r))`; on the line both differences are equal, the
//! logarithm is concave in them, is 0 at 0, and its slope there is the derivative that the minimum makes 0. Off the line,
//! towards the hypothesis, `g_c > 0` makes it smaller. The other direction, that the canary is fine, is the same with the
//! signs turned.
//!
//! Nothing is assumed about how the ratios move from block to block, only that blocks keep the hypothesis: an outage that hits
//! both arms alike is no evidence. A wrong guess can cost much in a large block, so that only [`STAKE`] of the wealth is bet on
//! each: `1 - f + f E` is an e-variable too. Where hits come in clusters (requests of one batch are late together), the ratio is
//! taken to the power of one over the cluster's size: by Jensen's inequality that is an e-variable, and it is the ratio of
//! the clusters.
//!
//! # The test of one arm
//! The same with a fixed bound in place of the stable: `p <= b`.
//!
//! This module knows of no requests, models or times.

use std::fmt;

/// The part of the wealth that is bet on a block: a block that the guess was wrong about costs at most a factor of ten.
const STAKE: f64 = 0.9;

/// Hits, and misses, that an arm is taken to have had before its first trial (Turner, Ly and Grünwald 2024, section 4.1).
const BEFOREHAND: f64 = 0.18;

/// Trials that a guess looks back on: many enough for a ratio of one in a thousand, few enough to follow the day.
const MEMORY: f64 = 10_000.0;

/// Halvings that find the closest point of the hypothesis: as many as an f64 has digits.
const HALVINGS: usize = 60;

/// How often something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often it could have.
    pub trials: u64,
    /// How often it did; at most [`Self::trials`].
    pub hits: u64,
}

impl Counts {
    /// `hits` out of `trials`.
    pub const fn new(hits: u64, trials: u64) -> Self {
        Self { trials, hits }
    }

    /// The share of hits, from 0 to 1; 0 where there was no trial.
    pub fn ratio(self) -> f64 {
        if self.trials == 0 { 0.0 } else { self.hits as f64 / self.trials as f64 }
    }

    fn add(&mut self, other: Self) {
        self.trials += other.trials;
        self.hits += other.hits;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ({})", self.hits, self.trials, Percent(self.ratio()))
    }
}

/// A ratio as people read it: "0.12 %", "35 %".
#[derive(Clone, Copy, Debug)]
pub struct Percent(pub f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0 * 100.0;
        // Three digits, without zeros behind a point.
        let digits = if percent >= 9.995 { 0 } else { 2 };
        let text = format!("{percent:.digits$}");
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        write!(f, "{text} %")
    }
}

/// How sure a test has to be: the probabilities with which it may be wrong, above 0 and below 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels {
    /// That it says [`Verdict::Bad`] of a canary that keeps its bound.
    pub false_alarm: f64,
    /// That it says [`Verdict::Good`] of one that does not.
    pub missed: f64,
}

/// What a verdict stands on, in words by its `Display`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// The canary's counts.
    pub canary: Counts,
    /// The stable's, where it is compared with one.
    pub stable: Option<Counts>,
    /// How much more than the stable's the canary's ratio may be; without a stable, how much it may be.
    pub bound: f64,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.canary)?;
        match self.stable {
            Some(stable) => write!(f, " against {stable}, at most {} more are allowed", Percent(self.bound)),
            None => write!(f, ", at most {} are allowed", Percent(self.bound)),
        }
    }
}

/// What a test says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Not enough was seen to tell.
    Continue,
    /// The canary is beyond its bound.
    Bad(Evidence),
    /// It is within.
    Good,
}

impl Verdict {
    /// The name in answers.
    pub const fn name(&self) -> &'static str {
        match self {
            Verdict::Continue => "open",
            Verdict::Bad(_) => "bad",
            Verdict::Good => "good",
        }
    }
}

/// Which side of the bound is being shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Worse,
    Fine,
}

/// What an arm has had, as far as it is looked back on.
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    trials: f64,
    hits: f64,
}

impl Past {
    fn guess(self) -> f64 {
        (self.hits + BEFOREHAND) / (self.trials + 2.0 * BEFOREHAND)
    }

    fn add(&mut self, counts: Counts) {
        self.trials += counts.trials as f64;
        self.hits += counts.hits as f64;
        let kept = (MEMORY / self.trials).min(1.0);
        self.trials *= kept;
        self.hits *= kept;
    }
}

/// The logarithms of the two e-processes.
#[derive(Clone, Copy, Debug, Default)]
struct Wealth {
    worse: f64,
    fine: f64,
}

impl Wealth {
    /// Bets on a block whose likelihood ratio has the logarithm `ratio`.
    fn bet(&mut self, side: Side, ratio: f64, cluster: f64) {
        let ratio = ratio / cluster.max(1.0);
        // Beyond what `exp` can take, the rest is nothing beside it.
        let won = if ratio > 500.0 { ratio + STAKE.ln() } else { (1.0 - STAKE + STAKE * ratio.exp()).ln() };
        match side {
            Side::Worse => self.worse += won,
            Side::Fine => self.fine += won,
        }
    }

    fn verdict(self, levels: &Levels, evidence: Evidence) -> Verdict {
        if self.worse >= -levels.false_alarm.ln() {
            Verdict::Bad(evidence)
        } else if self.fine >= -levels.missed.ln() {
            Verdict::Good
        } else {
            Verdict::Continue
        }
    }
}

/// The test of two arms, see the module.
#[derive(Clone, Debug)]
pub struct Comparison {
    tolerance: f64,
    past: [Past; 2],
    seen: [Counts; 2],
    wealth: Wealth,
}

impl Comparison {
    /// A test of whether the canary's ratio is at most the stable's and `tolerance`, from 0 to below 1.
    pub fn new(tolerance: f64) -> Self {
        Self { tolerance, past: Default::default(), seen: Default::default(), wealth: Wealth::default() }
    }

    /// Takes in a block, in which hits came in clusters of `cluster`; 1 where they are independent. The first one only makes
    /// a guess.
    pub fn observe(&mut self, canary: Counts, stable: Counts, cluster: f64) {
        let [past_canary, past_stable] = &mut self.past;
        if past_canary.trials > 0.0 && past_stable.trials > 0.0 && canary.trials > 0 {
            let guess = [past_canary.guess(), past_stable.guess()];
            let side = if guess[0] > guess[1] + self.tolerance { Side::Worse } else { Side::Fine };
            let closest = closest(guess, [canary.trials, stable.trials], self.tolerance);
            let ratio = ratio(canary, guess[0], closest + self.tolerance) + ratio(stable, guess[1], closest);
            self.wealth.bet(side, ratio, cluster);
        }
        past_canary.add(canary);
        past_stable.add(stable);
        self.seen[0].add(canary);
        self.seen[1].add(stable);
    }

    /// What it says now.
    pub fn verdict(&self, levels: &Levels) -> Verdict {
        self.wealth.verdict(levels, self.evidence())
    }

    /// What was seen.
    pub fn evidence(&self) -> Evidence {
        Evidence { canary: self.seen[0], stable: Some(self.seen[1]), bound: self.tolerance }
    }
}

/// The test of one arm, see the module.
#[derive(Clone, Debug)]
pub struct Ceiling {
    bound: f64,
    past: Past,
    seen: Counts,
    wealth: Wealth,
}

impl Ceiling {
    /// A test of whether a ratio is at most `bound`, above 0 and below 1.
    pub fn new(bound: f64) -> Self {
        Self { bound, past: Past::default(), seen: Counts::default(), wealth: Wealth::default() }
    }

    /// Takes in a block. The first one only makes a guess.
    pub fn observe(&mut self, counts: Counts) {
        if self.past.trials > 0.0 && counts.trials > 0 {
            let guess = self.past.guess();
            let side = if guess > self.bound { Side::Worse } else { Side::Fine };
            self.wealth.bet(side, ratio(counts, guess, self.bound), 1.0);
        }
        self.past.add(counts);
        self.seen.add(counts);
    }

    /// What it says now.
    pub fn verdict(&self, levels: &Levels) -> Verdict {
        self.wealth.verdict(levels, self.evidence())
    }

    /// What was seen.
    pub fn evidence(&self) -> Evidence {
        Evidence { canary: self.seen, stable: None, bound: self.bound }
    }
}

/// The logarithm of how much likelier `counts` are with the ratio `guess` than with `bound`.
fn ratio(counts: Counts, guess: f64, bound: f64) -> f64 {
    let misses = (counts.trials - counts.hits.min(counts.trials)) as f64;
    let part = |count: f64, ratio: f64| if count > 0.0 { count * ratio.ln() } else { 0.0 };
    part(counts.hits as f64, guess / bound) + part(misses, (1.0 - guess) / (1.0 - bound))
}

/// The stable's ratio at the point of the line `r_c = r_s + tolerance` that is closest to `guess`, as the module has it.
fn closest(guess: [f64; 2], trials: [u64; 2], tolerance: f64) -> f64 {
    // Between the two, each arm's divergence falls up to its own guess and rises behind it.
    let own = guess[1].min(1.0 - tolerance);
    let canarys = (guess[0] - tolerance).clamp(0.0, 1.0 - tolerance);
    let (mut low, mut high) = (own.min(canarys), own.max(canarys));
    let slope = |at: f64, guess: f64, trials: u64| trials as f64 * (at - guess) / (at * (1.0 - at));
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        let rises = slope(middle + tolerance, guess[0], trials[0]) + slope(middle, guess[1], trials[1]) > 0.0;
        if rises { high = middle } else { low = middle }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests;
