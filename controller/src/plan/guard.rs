//! The guarded rollout of a predictor: what it is to be, and what its conditions and events say.

use super::component::NotReady;
use super::conditions::Conditions;
use super::events::Event;
use super::fault::Fault;
use super::{Context, revision};
use crate::api::keys;
use crate::api::status::{ComponentStatus, RolloutStatus};
use crate::rollout::{Facts, Guard, Shadow, decide, step};
use crate::tree;

/// What a decision about a predictor needs beside the context.
pub struct Seen<'a> {
    /// The component's status until now.
    pub old: &'a ComponentStatus,
    /// The newest revision.
    pub latest: &'a str,
    /// The one that has rolled out, if it is still kept.
    pub rolled_out: &'a str,
    /// The newest can take requests.
    pub available: bool,
    /// Why its pods have ended.
    pub failure: Option<&'a str>,
    /// A person shares the traffic out: `canaryTrafficPercent`, or `canary`.
    pub by_hand: bool,
    /// The old revision makes room before the new one is ready.
    pub recreates: bool,
}

/// A rollout as it goes on.
#[derive(Debug, Default)]
pub struct Next {
    /// Where it is from now on.
    pub rollout: Option<RolloutStatus>,
    /// Seconds after which to look again.
    pub again_after: Option<i64>,
    /// How the newest revision's answers are to be compared, which nobody gets yet.
    pub shadow: Option<Shadow>,
}

fn written(cx: &Context<'_>) -> Result<Option<Guard>, Fault> {
    let text = tree::annotation(cx.service, keys::ROLLOUT).unwrap_or("");
    Guard::parse(text).map_err(|error| Fault::invalid(format!("{}: {error}", keys::ROLLOUT)))
}

/// Whether rollouts begin with a shadow step, for which there has to be a router that everybody goes through.
///
/// # Errors
/// If the annotation cannot be read.
pub fn has_shadow(cx: &Context<'_>) -> Result<bool, Fault> {
    Ok(written(cx)?.is_some_and(|guard| guard.shadow.is_some()))
}

/// Where the rollout is from now on.
///
/// # Errors
/// If the annotation cannot be read, or nothing could be compared.
pub fn next(cx: &Context<'_>, seen: &Seen<'_>) -> Result<Next, Fault> {
    let text = tree::annotation(cx.service, keys::ROLLOUT).unwrap_or("");
    let guard = written(cx)?;
    if guard.is_some() && seen.recreates {
        return Err(Fault::invalid(format!(
            "{}: with deploymentStrategy Recreate there is no old revision to compare with; leave out one of them",
            keys::ROLLOUT
        )));
    }
    let settings = revision::digest(&text.into());
    let facts = Facts {
        now: cx.now,
        guard: guard.as_ref().filter(|_| !seen.by_hand),
        settings: &settings,
        latest: seen.latest,
        rolled_out: seen.rolled_out,
        previous: &seen.old.previous_rolledout_revision,
        available: seen.available,
        failure: seen.failure,
        finding: cx.finding,
    };
    let rollout = decide(seen.old.rollout.as_ref(), &facts);
    let running = rollout.as_ref().filter(|own| own.phase == RolloutStatus::RUNNING).zip(guard.as_ref());
    let left = running.map(|(rollout, guard)| step::seconds_left(rollout, guard, cx.now));
    let shadow = running.filter(|(rollout, _)| rollout.step == 0 && seen.available).and_then(|(_, guard)| guard.shadow);
    Ok(Next { again_after: left.filter(|seconds| *seconds > 0), shadow, rollout })
}

/// Whether a step of the rollout is another than it was: what is to be known before anything is done about it.
pub fn has_moved(old: Option<&RolloutStatus>, new: Option<&RolloutStatus>) -> bool {
    let step = |own: &RolloutStatus| (own.revision.clone(), own.settings.clone(), own.phase.clone(), own.step);
    old.map(step) != new.map(step)
}

/// Per cent that the newest revision gets by the rollout; none where it says nothing of that.
pub fn percent(rollout: Option<&RolloutStatus>) -> Option<i32> {
    let rollout = rollout?;
    (rollout.phase != RolloutStatus::PROMOTED).then_some(rollout.percent)
}

/// Why the component does not serve as the spec asks, where that is the rollout's doing.
pub fn not_ready(rollout: &RolloutStatus) -> Option<NotReady> {
    let (status, reason) = match rollout.phase.as_str() {
        RolloutStatus::RUNNING => ("Unknown", "RolloutRunning"),
        RolloutStatus::ROLLED_BACK => ("False", RolloutStatus::ROLLED_BACK),
        _ => return None,
    };
    Some(NotReady { status, reason, message: format!("revision {}: {}", rollout.revision, rollout.message) })
}

/// `CanaryAnalysis`: Unknown while it runs, True after it has gone well, False after a rollback.
pub fn condition(conditions: &mut Conditions<'_>, rollout: Option<&RolloutStatus>) {
    let Some(rollout) = rollout else { return };
    let status = match rollout.phase.as_str() {
        RolloutStatus::PROMOTED => "True",
        RolloutStatus::ROLLED_BACK => "False",
        _ => "Unknown",
    };
    let message = format!("revision {}: {}", rollout.revision, rollout.message);
    conditions.set("CanaryAnalysis", status, &rollout.phase, &message, true);
}

/// What changed, for the person who reads it.
pub fn event(kind: &str, old: Option<&RolloutStatus>, new: Option<&RolloutStatus>) -> Option<Event> {
    let new = new.filter(|new| has_moved(old, Some(new)))?;
    let goes_on = old.is_some_and(|old| {
        (&old.revision, &old.settings, old.phase.as_str()) == (&new.revision, &new.settings, RolloutStatus::RUNNING)
    });
    let reason = match new.phase.as_str() {
        RolloutStatus::RUNNING if !goes_on => "RolloutStarted",
        RolloutStatus::RUNNING => "RolloutAdvanced",
        RolloutStatus::PROMOTED => "RolloutPromoted",
        _ => RolloutStatus::ROLLED_BACK,
    };
    let note = format!("{kind}: revision {}, from {}: {}", new.revision, new.stable, new.message);
    Some(Event { warning: new.phase == RolloutStatus::ROLLED_BACK, reason: reason.into(), note })
}
