//! What changed between two statuses, worded for the person who reads `kubectl describe`.

use super::conditions::{CANARY_CAPACITY, UNDER_PROVISIONED};
use crate::api::status::{ComponentStatus, RolloutStatus, Status};

/// A Kubernetes Event about the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// A Warning, not Normal.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub note: String,
}

/// The events of a step from `old` to `new`; none where nothing changed that anybody waits for.
pub fn between(old: &Status, new: &Status) -> Vec<Event> {
    let mut events = Vec::new();
    for (kind, own) in &new.components {
        let before = old.components.get(kind).cloned().unwrap_or_default();
        component(kind, &before, own, &mut events);
    }
    let failure = |status: &Status| status.model_status.as_ref().and_then(|model| model.last_failure_info.clone());
    if let Some(failed) = failure(new)
        && failure(old)
            .is_none_or(|before| (before.reason, before.message) != (failed.reason.clone(), failed.message.clone()))
    {
        let place = if failed.location.is_empty() { String::new() } else { format!("{}: ", failed.location) };
        events.push(Event { warning: true, reason: failed.reason, note: format!("{place}{}", failed.message) });
    }
    let state = |status: &Status, kind: &str| {
        let found = status.conditions.iter().find(|own| own.kind == kind);
        found.map(|own| (own.status.clone(), own.reason.clone(), own.message.clone())).unwrap_or_default()
    };
    let (now, reason, message) = state(new, CANARY_CAPACITY);
    if reason == UNDER_PROVISIONED && now != state(old, CANARY_CAPACITY).0 {
        events.push(Event { warning: true, reason, note: message });
    }
    let (now, reason, message) = state(new, "Ready");
    if now != state(old, "Ready").0 && failure(new) == failure(old) {
        match now.as_str() {
            "True" => events.push(normal("Ready", "serves as the spec asks".into())),
            "False" if state(new, "Stopped").0 == "True" => events.push(normal("Stopped", message)),
            // Told with the rollout.
            "False" if reason == RolloutStatus::ROLLED_BACK => {}
            "False" => events.push(Event { warning: true, reason, note: message }),
            _ => {}
        }
    }
    events
}

fn component(kind: &str, old: &ComponentStatus, new: &ComponentStatus, events: &mut Vec<Event>) {
    let created = &new.latest_created_revision;
    if !created.is_empty() && *created != old.latest_created_revision {
        events.push(normal("RevisionCreated", format!("{kind}: the newest revision is {created}")));
    }
    let rolled = &new.latest_rolledout_revision;
    let moved = !rolled.is_empty() && *rolled != old.latest_rolledout_revision;
    let shares = |status: &ComponentStatus| {
        let shares = status.traffic.iter().filter(|target| target.percent > 0);
        shares.map(|target| format!("{} {} %", target.revision_name, target.percent)).collect::<Vec<_>>().join(", ")
    };
    let (before, now) = (shares(old), shares(new));
    if before != now && !now.is_empty() && (moved || !before.is_empty()) {
        let reason = if moved && new.traffic.iter().any(|target| target.percent == 100) {
            "RolledOut"
        } else {
            "TrafficShifted"
        };
        events.push(normal(reason, format!("{kind}: the traffic goes to {now}")));
    } else if moved && new.traffic.iter().any(|target| target.revision_name == *rolled && target.percent == 100) {
        events.push(normal("RolledOut", format!("{kind}: revision {rolled} is ready and has all the traffic")));
    }
}

/// That a revision goes from some pods to none, or back.
pub fn sleep(kind: &str, revision: &str, before: i64, now: i64) -> Option<Event> {
    match (before, now) {
        (1.., 0) => {
            let note = format!(
                "{kind}: nobody has asked revision {revision} for long enough; it has no pods until somebody does"
            );
            Some(normal("Asleep", note))
        }
        (0, 1..) => {
            Some(normal("Woken", format!("{kind}: requests wait for revision {revision}; it is to have {now} pods")))
        }
        _ => None,
    }
}

fn normal(reason: &str, note: String) -> Event {
    Event { warning: false, reason: reason.to_owned(), note }
}
