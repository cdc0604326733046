//! Whether a new revision does as well as the old one, at one step of a rollout: fed with what their pods have counted.

use std::collections::BTreeMap;

use super::guard::Guard;
use super::tally::Tally;
use tensorgate_contract::verdict::{Comparison, Counts, Evidence, Levels, Verdict};

/// How sure it has to be: of a hundred good revisions less than one is rolled back, over all steps and conditions, and of a hundred
/// bad ones less than one rolled out, which would have to seem good at every step.
const LEVELS: Levels = Levels { false_alarm: 0.01, missed: 0.01 };
/// The quantile of the old revision's latency that the new one's is held against: high enough to see what is slow only at times, low
/// enough to be known after few answers.
const QUANTILE: f64 = 0.9;
/// Requests of the old revision that the quantile is read from.
const QUANTILE_REQUESTS_MIN: u64 = 20;
/// A revision is slower only where it takes this many seconds longer: threads are woken, and caches cold, in less.
const SLOWER_MIN: f64 = 0.001;
/// How much more of the new revision's requests may be beyond the old one's quantile, stretched, than of the old one's beyond it.
const SLOWER_TOLERANCE: f64 = 0.05;
/// Conditions of a step.
const CONDITIONS: usize = 4;

/// What an analysis says of its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Hold,
    /// Every condition holds.
    Pass,
    /// One is broken.
    Fail,
}

/// The outcome of a step, in words too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The new revision.
    pub revision: String,
    /// The step, from 1.
    pub step: usize,
    /// What was found.
    pub outcome: Outcome,
    /// Why, for a person.
    pub reason: String,
}

/// What the pods of a revision have counted, each by its uid; or why that is not known.
pub type Reading = Result<BTreeMap<String, Tally>, String>;

/// The tests of one step.
#[derive(Debug, Clone)]
pub struct Analysis {
    guard: Guard,
    revision: String,
    step: usize,
    /// What callers do wrong goes to both revisions alike only where requests are shared out at random.
    at_random: bool,
    errors: Comparison,
    refused: Comparison,
    late: Comparison,
    latency: Comparison,
    /// By pod: where the next difference begins.
    last: BTreeMap<String, Tally>,
    /// What the old revision has done in this step, up to the last look.
    stable: Tally,
    requests: u64,
    missing: Option<String>,
}

impl Analysis {
    /// Of a step, from 1, of the rollout of `revision`; `at_random` unless callers are kept at a revision.
    pub fn new(guard: &Guard, revision: &str, step: usize, at_random: bool) -> Self {
        Self {
            guard: guard.clone(),
            revision: revision.to_owned(),
            step,
            at_random,
            errors: Comparison::new(guard.errors),
            refused: Comparison::new(guard.errors),
            late: Comparison::new(guard.late),
            latency: Comparison::new(SLOWER_TOLERANCE),
            last: BTreeMap::new(),
            stable: Tally::default(),
            requests: 0,
            missing: None,
        }
    }

    /// Whether it is of this step and these settings.
    pub fn is_of(&self, guard: &Guard, revision: &str, step: usize, at_random: bool) -> bool {
        self.guard == *guard && self.revision == revision && self.step == step && self.at_random == at_random
    }

    /// Takes in what the pods of the new and the old revision have counted up to now. A pod that is seen for the first time only
    /// tells where its next difference begins.
    pub fn observe(&mut self, canary: Reading, stable: Reading) {
        let (canary, stable) = match (canary, stable) {
            (Ok(canary), Ok(stable)) => (canary, stable),
            (Err(missing), _) | (_, Err(missing)) => {
                self.missing = Some(missing);
                return;
            }
        };
        self.missing = None;
        let new = self.difference(&canary);
        let old = self.difference(&stable);
        self.last.retain(|uid, _| canary.contains_key(uid) || stable.contains_key(uid));
        self.requests = self.requests.saturating_add(new.answered);
        let served = |tally: &Tally| tally.answered.saturating_add(tally.failed);
        let errors = |tally: &Tally| Counts::new(tally.failed, served(tally));
        self.errors.observe(errors(&new), errors(&old), 1.0);
        let refused = |tally: &Tally| Counts::new(tally.refused, served(tally).saturating_add(tally.refused));
        self.refused.observe(refused(&new), refused(&old), 1.0);
        // Requests of one batch are late together.
        let batches = new.batches.saturating_add(old.batches).max(1) as f64;
        let together = (new.answered as f64 + old.answered as f64) / batches;
        // The old revision's objective is what callers are used to.
        let objective = if old.objective > 0.0 { old.objective } else { new.objective };
        let beyond = |tally: &Tally, bound: f64| Counts::new(tally.longer_than(bound), tally.timed());
        if objective > 0.0 {
            let bound = new.bound_above(objective);
            self.late.observe(beyond(&new, bound), beyond(&old, bound), together);
        }
        // From what was seen before, so that the measure does not depend on what is measured.
        let known = self.stable.timed() >= QUANTILE_REQUESTS_MIN;
        if let Some(usual) = self.stable.quantile(QUANTILE).filter(|_| known) {
            let slow = new.bound_above((usual * self.guard.latency).max(usual + SLOWER_MIN));
            self.latency.observe(beyond(&new, slow), beyond(&old, usual), together);
        }
        self.stable.add(&old);
    }

    fn difference(&mut self, pods: &BTreeMap<String, Tally>) -> Tally {
        let mut sum = Tally::default();
        for (uid, now) in pods {
            let mut since = match self.last.insert(uid.clone(), now.clone()) {
                Some(before) => now.since(&before),
                None => now.since(now),
            };
            since.objective = now.objective;
            sum.add(&since);
        }
        sum
    }

    fn tests(&self) -> Vec<(&'static str, Verdict, Evidence)> {
        let levels =
            Levels { false_alarm: LEVELS.false_alarm / (CONDITIONS * self.guard.steps.len()) as f64, ..LEVELS };
        let refused = self.at_random.then_some(("refused", &self.refused));
        // Where no objective is told there is nothing to be late for.
        let late = (self.stable.objective > 0.0).then_some(("late", &self.late));
        let all = [Some(("errors", &self.errors)), refused, late, Some(("latency", &self.latency))];
        all.into_iter().flatten().map(|(name, test)| (name, test.verdict(&levels), test.evidence())).collect()
    }

    /// What is found up to now.
    pub fn finding(&self) -> Finding {
        let tests = self.tests();
        let shown = |(name, _, evidence): &(&str, Verdict, Evidence)| format!("{name}: {evidence}");
        let bad = tests.iter().find(|(_, verdict, _)| matches!(verdict, Verdict::Bad(_)));
        let open = tests.iter().find(|(_, verdict, _)| *verdict == Verdict::Continue);
        let (outcome, reason) = match (bad, &self.missing, open) {
            (Some(bad), _, _) => (Outcome::Fail, shown(bad)),
            (None, Some(missing), _) => (Outcome::Hold, missing.clone()),
            (None, None, Some(open)) => (Outcome::Hold, format!("too little was seen to tell, {}", shown(open))),
            (None, None, None) if self.requests < self.guard.step_requests => {
                (Outcome::Hold, format!("{} of {} requests answered", self.requests, self.guard.step_requests))
            }
            (None, None, None) => (Outcome::Pass, tests.iter().map(shown).collect::<Vec<_>>().join("; ")),
        };
        Finding { revision: self.revision.clone(), step: self.step, outcome, reason }
    }
}
