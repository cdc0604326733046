//! A guarded canary: what comes next is decided from counters alone, by sequential tests ([`crate::verdict`]).
//!
//! Each step gives the canary a larger share. It is gone on from when every condition is shown to hold, the canary has answered
//! enough, and the step has taken its time; any condition that is shown to be broken ends it, with nothing left for the canary.
//! What can be shown neither way is held: a canary without traffic, or as bad as is just tolerated, stays where it is. A
//! step is judged by its own counts, since a version may be slow only under load.
//!
//! Pure: time and counters come in, the share comes out. `Router` feeds it.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::arm::{ArmCounts, longest, place};
use crate::model::Version;
use crate::model::traffic::CanarySettings;
use crate::verdict::{Ceiling, Comparison, Counts, Evidence, Levels, Percent, Verdict};

/// How sure it has to be: of a hundred good canaries less than one is rolled back, over all its steps and conditions, and of a
/// hundred bad ones less than one promoted, which would have to seem good in every step.
const LEVELS: Levels = Levels { false_alarm: 0.01, missed: 0.01 };

/// The stable's latency that the canary's is held against. High enough to see what is slow only at times, low enough to be
/// known after few answers.
const QUANTILE: f64 = 0.9;

/// Answers of the stable that the quantile is read from.
const QUANTILE_ANSWERS_MIN: u64 = 20;

/// A canary is slower only where it takes this much longer: threads are woken, and caches cold, in less.
const SLOWER_MIN: Duration = Duration::from_millis(1);

/// How much more of the canary's answers may be beyond the stable's quantile, stretched, than of the stable's beyond it.
const SLOWER_TOLERANCE: f64 = 0.05;

/// Where a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// At this step, from 0.
    Running(usize),
    /// The canary has taken over.
    Promoted,
    /// The canary gets nothing any more.
    RolledBack,
}

impl Phase {
    /// Every name, for metrics.
    pub const NAMES: [&str; 3] = ["running", "promoted", "rolled_back"];

    /// The name in metrics and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Running(_) => Self::NAMES[0],
            Phase::Promoted => Self::NAMES[1],
            Phase::RolledBack => Self::NAMES[2],
        }
    }
}

/// What both versions have done up to now.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The canary's counters.
    pub canary: ArmCounts,
    /// The stable's.
    pub stable: ArmCounts,
    /// Answers that were compared, and those that differ.
    pub compared: Counts,
    /// The canary's latency objective.
    pub objective: Duration,
    /// Why there is nothing to judge: a version that is not ready.
    pub missing: Option<String>,
}

/// A condition, and how it stands in this step.
#[derive(Clone, Debug)]
pub struct Condition {
    /// What must not be worse: "errors", "late", "latency", "disagreement".
    pub name: &'static str,
    /// What the test says.
    pub verdict: Verdict,
    /// What it says it of.
    pub evidence: Evidence,
}

/// The tests of one step.
#[derive(Clone, Debug)]
struct Tests {
    errors: Comparison,
    late: Comparison,
    latency: Comparison,
    disagreement: Option<Ceiling>,
}

impl Tests {
    fn new(settings: &CanarySettings) -> Self {
        Self {
            errors: Comparison::new(settings.errors),
            late: Comparison::new(settings.late),
            latency: Comparison::new(SLOWER_TOLERANCE),
            disagreement: settings.disagreement.map(Ceiling::new),
        }
    }

    fn conditions(&self, levels: &Levels) -> Vec<Condition> {
        let compared = [("errors", &self.errors), ("late", &self.late), ("latency", &self.latency)];
        let compared = compared.into_iter().map(|(name, test)| (name, test.verdict(levels), test.evidence()));
        let held = self.disagreement.iter().map(|test| ("disagreement", test.verdict(levels), test.evidence()));
        compared.chain(held).map(|(name, verdict, evidence)| Condition { name, verdict, evidence }).collect()
    }
}

/// A rollout.
#[derive(Clone, Debug)]
pub struct Rollout {
    settings: CanarySettings,
    stable: Version,
    phase: Phase,
    /// When the step began.
    since: Instant,
    /// What was seen when it was last judged.
    last: Seen,
    /// Requests of the canary in this step.
    requests: u64,
    tests: Tests,
    reason: String,
}

impl Rollout {
    /// A rollout at its first step, from `stable` to the canary of `settings`, which has at least one step.
    pub fn new(now: Instant, settings: CanarySettings, stable: Version) -> Self {
        let tests = Tests::new(&settings);
        let (phase, last, reason) = (Phase::Running(0), Seen::default(), "nothing was judged yet".to_owned());
        Self { settings, stable, phase, since: now, last, requests: 0, tests, reason }
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The version that is taken over from.
    pub fn stable(&self) -> Version {
        self.stable
    }

    /// What was asked for.
    pub fn settings(&self) -> &CanarySettings {
        &self.settings
    }

    /// Why it is where it is, for a person.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The percentage that the canary gets now.
    pub fn percent(&self) -> f64 {
        match self.phase {
            Phase::Running(step) => self.settings.steps.get(step).copied().unwrap_or(100.0),
            Phase::Promoted => 100.0,
            Phase::RolledBack => 0.0,
        }
    }

    /// How each condition stands in this step, or stood when it ended.
    pub fn conditions(&self) -> Vec<Condition> {
        self.tests.conditions(&self.levels())
    }

    /// A false alarm may come from any test of any step; a bad canary has to pass them all.
    fn levels(&self) -> Levels {
        let tests = 3 + usize::from(self.tests.disagreement.is_some());
        let false_alarm = LEVELS.false_alarm / (tests * self.settings.steps.len()) as f64;
        Levels { false_alarm, ..LEVELS }
    }

    /// Judges what was `seen` up to `now`; gives whether the share is another from now on.
    pub fn judge(&mut self, now: Instant, seen: Seen) -> bool {
        let Phase::Running(step) = self.phase else { return false };
        self.observe(&seen);
        self.last = seen;
        let conditions = self.conditions();
        let at = format!("step {} of {} ({})", step + 1, self.settings.steps.len(), Percent(self.percent() / 100.0));
        let of = |condition: &Condition| format!("{}: {}", condition.name, condition.evidence);
        if let Some(bad) = conditions.iter().find(|condition| matches!(condition.verdict, Verdict::Bad(_))) {
            self.reason = format!("rolled back at {at}, {}", of(bad));
            self.phase = Phase::RolledBack;
            return true;
        }
        if let Some(missing) = &self.last.missing {
            self.reason = format!("held at {at}: {missing}");
            return false;
        }
        if let Some(open) = conditions.iter().find(|condition| condition.verdict == Verdict::Continue) {
            self.reason = format!("held at {at}: too little was seen to tell, {}", of(open));
            return false;
        }
        let (requests, wanted) = (self.requests, self.settings.step_requests);
        if requests < wanted {
            self.reason = format!("held at {at}: {requests} of {wanted} requests answered");
            return false;
        }
        let (took, wanted) = (now.saturating_duration_since(self.since), self.settings.step_time);
        if took < wanted {
            self.reason = format!("held at {at}: {took:.0?} of {wanted:.0?} have passed");
            return false;
        }
        let shown = conditions.iter().map(of).collect::<Vec<_>>().join("; ");
        self.go_on(now, step + 1);
        self.reason = match self.phase {
            Phase::Promoted => format!("promoted after {at}, {shown}"),
            _ => format!("gone on to {} after {at}, {shown}", Percent(self.percent() / 100.0)),
        };
        true
    }

    fn go_on(&mut self, now: Instant, step: usize) {
        if step == self.settings.steps.len() {
            self.phase = Phase::Promoted;
            return;
        }
        self.phase = Phase::Running(step);
        (self.since, self.requests) = (now, 0);
        self.tests = Tests::new(&self.settings);
    }

    fn observe(&mut self, seen: &Seen) {
        let (canary, stable) = (seen.canary.since(&self.last.canary), seen.stable.since(&self.last.stable));
        let answered = [canary.answered(), stable.answered()];
        self.requests += answered[0];
        let errors = |counts: &ArmCounts, answered: u64| Counts::new(counts.failed, counts.failed + answered);
        self.tests.errors.observe(errors(&canary, answered[0]), errors(&stable, answered[1]), 1.0);
        // Requests of one batch are late together.
        let together = (canary.together + stable.together) as f64 / (answered[0] + answered[1]).max(1) as f64;
        let beyond = |counts: &ArmCounts, answered: u64, place: usize| Counts::new(counts.longer_than(place), answered);
        let objective = place(seen.objective);
        let late = beyond(&canary, answered[0], objective);
        self.tests.late.observe(late, beyond(&stable, answered[1], objective), together);
        // From what was seen before, so that the measure does not depend on what is measured.
        let known = self.last.stable.answered() >= QUANTILE_ANSWERS_MIN;
        if let Some(quantile) = self.last.stable.quantile(QUANTILE).filter(|_| known) {
            let usual = longest(quantile);
            let slow = usual.mul_f64(self.settings.latency).max(usual + SLOWER_MIN);
            let slower = beyond(&canary, answered[0], place(slow));
            self.tests.latency.observe(slower, beyond(&stable, answered[1], quantile), together);
        }
        if let Some(test) = &mut self.tests.disagreement {
            let (now, before) = (seen.compared, self.last.compared);
            test.observe(Counts::new(now.hits.saturating_sub(before.hits), now.trials.saturating_sub(before.trials)));
        }
    }
}

/// In a log line.
impl fmt::Display for Rollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "version {} has {} of the requests: {}",
            self.settings.version,
            Percent(self.percent() / 100.0),
            self.reason
        )
    }
}
