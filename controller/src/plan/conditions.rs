//! Conditions in Knative's style: a time is when the status of a condition last changed.

use super::component::NotReady;
use super::network::RouteState;
use crate::api::status::{CanaryStatus, Condition};

/// The condition that a canary gets as much as it is to get; False where its pods could not serve that.
pub const CANARY_CAPACITY: &str = "CanaryCapacity";
/// Why it does not.
pub const UNDER_PROVISIONED: &str = "CanaryUnderProvisioned";

/// Collects the conditions of a status.
pub struct Conditions<'a> {
    old: &'a [Condition],
    now: &'a str,
    new: Vec<Condition>,
}

/// The conditions `old` with one that says what the API server has refused, and why: nothing of the plan holds then but that.
pub fn refused(old: &[Condition], kind: &str, message: &str, now: &str) -> Vec<Condition> {
    let mut conditions = Conditions::new(old, now);
    old.iter().for_each(|own| conditions.keep(own));
    conditions.set(kind, "False", "ApplyFailed", message, false);
    conditions.finish()
}

/// `PredictorReady` for `predictor`, and so on.
pub fn of_component(kind: &str) -> String {
    let mut letters = kind.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).chain("Ready".chars()).collect()
}

impl<'a> Conditions<'a> {
    /// To follow on `old`.
    pub fn new(old: &'a [Condition], now: &'a str) -> Self {
        Self { old, now, new: Vec::new() }
    }

    /// Takes over an old condition as it is, until it is set.
    pub fn keep(&mut self, old: &Condition) {
        if old.kind != "Ready" {
            self.new.push(old.clone());
        }
    }

    /// States a condition; `aside` for one that Ready does not depend on.
    pub fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str, aside: bool) {
        let same = self.old.iter().find(|old| old.kind == kind && old.status == status);
        self.new.retain(|other| other.kind != kind);
        self.new.push(Condition {
            kind: kind.to_owned(),
            status: status.to_owned(),
            severity: if aside { "Info".into() } else { String::new() },
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: same.map_or(self.now, |old| &old.last_transition_time).to_owned(),
        });
    }

    /// `PredictorReady` and the like.
    pub fn component(&mut self, kind: &str, ready: &Result<(), NotReady>) {
        match ready {
            Ok(()) => self.set(&of_component(kind), "True", "", "", false),
            Err(not) => self.set(&of_component(kind), not.status, not.reason, &not.message, false),
        }
    }

    /// `CanaryPredictorReady`, where there are canaries.
    pub fn canaries(&mut self, canaries: &[CanaryStatus]) {
        let waiting: Vec<&str> = canaries.iter().filter(|own| !own.ready).map(|own| own.name.as_str()).collect();
        match (canaries, waiting.as_slice()) {
            ([], _) => {}
            (_, []) => self.set("CanaryPredictorReady", "True", "AllCanariesReady", "", true),
            _ => {
                let message = format!("not ready: {}", waiting.join(", "));
                self.set("CanaryPredictorReady", "False", "CanariesNotReady", &message, true);
            }
        }
    }

    /// `CanaryCapacity`, while a canary gets less than it is to get.
    pub fn shortages(&mut self, shortages: &[String]) {
        if !shortages.is_empty() {
            self.set(CANARY_CAPACITY, "False", UNDER_PROVISIONED, &shortages.join("; "), true);
        }
    }

    /// `IngressReady`.
    pub fn ingress(&mut self, state: &RouteState) {
        match state {
            RouteState::Accepted => self.set("IngressReady", "True", "", "", false),
            RouteState::Absent => {
                let message = "there are no routes before a revision is ready";
                self.set("IngressReady", "Unknown", "RevisionNotReady", message, false);
            }
            RouteState::Waiting => {
                self.set(
                    "IngressReady",
                    "Unknown",
                    "RouteNotAccepted",
                    "waiting for the Gateway to accept the routes",
                    false,
                );
            }
            RouteState::Refused(reason, message) => self.set("IngressReady", "False", reason, message, false),
        }
    }

    /// All of them sorted by type, with `Ready`, which is as bad as the worst that it depends on.
    pub fn finish(mut self) -> Vec<Condition> {
        let parts = self.new.iter().filter(|own| own.severity.is_empty());
        // The first of the worst: a component before the routes to it.
        let worst = parts.rev().max_by_key(|own| match own.status.as_str() {
            "False" => 2,
            "True" => 0,
            _ => 1,
        });
        let (status, reason, message) = match worst {
            Some(worst) if worst.status != "True" => {
                (worst.status.clone(), worst.reason.clone(), worst.message.clone())
            }
            _ => ("True".into(), String::new(), String::new()),
        };
        self.set("Ready", &status, &reason, &message, false);
        self.new.sort_by(|left, right| left.kind.cmp(&right.kind));
        self.new
    }
}
