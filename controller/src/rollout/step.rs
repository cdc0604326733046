//! The next step of a rollout, from the last one and what was found.

use jiff::Timestamp;

use super::analysis::{Finding, Outcome};
use super::guard::Guard;
use crate::api::status::RolloutStatus;
use tensorgate_contract::verdict::Percent;

/// What a decision looks at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The time, RFC 3339.
    pub now: &'a str,
    /// What is asked for; none without the annotation, or where a person shares the traffic out.
    pub guard: Option<&'a Guard>,
    /// Digest of the annotation: another one begins anew.
    pub settings: &'a str,
    /// The newest revision.
    pub latest: &'a str,
    /// The one that has all the traffic, or had it last.
    pub rolled_out: &'a str,
    /// The one before that: who goes back to it is not kept waiting.
    pub previous: &'a str,
    /// The newest can take requests.
    pub available: bool,
    /// Why its pods have ended, where they have.
    pub failure: Option<&'a str>,
    /// What was found.
    pub finding: Option<&'a Finding>,
}

/// Where a rollout is from now on; none where there is none, so that the newest revision takes over once it is ready. A function of
/// its arguments, and the same again where nothing has changed.
pub fn decide(old: Option<&RolloutStatus>, facts: &Facts<'_>) -> Option<RolloutStatus> {
    let guard = facts.guard?;
    if facts.rolled_out == facts.latest {
        // It has rolled out; how, stays to be read.
        return old.filter(|old| old.revision == facts.latest && old.phase == RolloutStatus::PROMOTED).cloned();
    }
    if facts.rolled_out.is_empty() || facts.previous == facts.latest {
        return None;
    }
    let same = |old: &&RolloutStatus| {
        old.revision == facts.latest && old.stable == facts.rolled_out && old.settings == facts.settings
    };
    let Some(old) = old.filter(same) else { return Some(begun(guard, facts)) };
    if old.phase != RolloutStatus::RUNNING {
        return Some(old.clone());
    }
    let step = usize::try_from(old.step).unwrap_or(1).clamp(guard.first(), guard.steps.len());
    Some(running(old, step, guard, facts))
}

/// Seconds until the step of a running rollout has taken its time; 0 where it has.
pub fn seconds_left(rollout: &RolloutStatus, guard: &Guard, now: &str) -> i64 {
    let parse = |text: &str| text.parse::<Timestamp>().ok();
    let (Some(now), Some(since)) = (parse(now), parse(&rollout.since)) else { return 0 };
    (guard.step_time - (now.as_second() - since.as_second())).max(0)
}

fn begun(guard: &Guard, facts: &Facts<'_>) -> RolloutStatus {
    let first = guard.first();
    RolloutStatus {
        revision: facts.latest.to_owned(),
        stable: facts.rolled_out.to_owned(),
        settings: facts.settings.to_owned(),
        phase: RolloutStatus::RUNNING.into(),
        step: i32::from(first > 0),
        percent: guard.percent(first),
        served: false,
        since: facts.now.to_owned(),
        message: format!("held at {}: waiting for revision {} to become ready", place(guard, first), facts.latest),
    }
}

fn place(guard: &Guard, step: usize) -> String {
    if step == 0 {
        return "the shadow step (no answers of it are given)".into();
    }
    format!("step {step} of {} ({})", guard.steps.len(), shown(guard.percent(step)))
}

fn shown(percent: i32) -> String {
    Percent(f64::from(percent) / 100.0).to_string()
}

fn running(old: &RolloutStatus, step: usize, guard: &Guard, facts: &Facts<'_>) -> RolloutStatus {
    let at = place(guard, step);
    let ended = |phase: &str, percent: i32, message: String| RolloutStatus {
        phase: phase.into(),
        percent,
        since: facts.now.to_owned(),
        message,
        ..old.clone()
    };
    let held = |message: String| RolloutStatus { percent: guard.percent(step), message, ..old.clone() };
    if !facts.available {
        return match facts.failure.filter(|_| old.served) {
            Some(failure) => {
                ended(RolloutStatus::ROLLED_BACK, 0, format!("rolled back at {at}, its pods have failed: {failure}"))
            }
            None => held(format!("held at {at}: waiting for revision {} to become ready", facts.latest)),
        };
    }
    if !old.served {
        // Its time begins with its first request.
        let since = facts.now.to_owned();
        return RolloutStatus { served: true, since, ..held(format!("held at {at}: nothing was judged yet")) };
    }
    let finding = facts.finding.filter(|own| own.revision == old.revision && own.step == step);
    let Some(finding) = finding else { return held(old.message.clone()) };
    match finding.outcome {
        Outcome::Fail => ended(RolloutStatus::ROLLED_BACK, 0, format!("rolled back at {at}, {}", finding.reason)),
        Outcome::Hold => held(format!("held at {at}: {}", finding.reason)),
        Outcome::Pass if seconds_left(old, guard, facts.now) > 0 => {
            held(format!("held at {at}: all is well so far, but the step takes {} s at least", guard.step_time))
        }
        Outcome::Pass if step == guard.steps.len() => {
            ended(RolloutStatus::PROMOTED, 100, format!("promoted after {at}, {}", finding.reason))
        }
        Outcome::Pass => {
            let percent = guard.percent(step + 1);
            let message = format!("gone on to {} after {at}, {}", shown(percent), finding.reason);
            let next = ended(RolloutStatus::RUNNING, percent, message);
            RolloutStatus { step: next.step + 1, ..next }
        }
    }
}
