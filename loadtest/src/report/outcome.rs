//! How a request ended, from the side of somebody who needs the answer in time.

use std::time::Duration;

use serde::Serialize;

use crate::engine::protocol::Failure;

/// The class of an ended request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Answered within the objective.
    Good,
    /// Answered, but after it.
    Late,
    /// The server said that it will not: HTTP 429 or 503, gRPC RESOURCE_EXHAUSTED or UNAVAILABLE.
    Refused,
    /// Everything else, never answered included.
    Failed,
}

impl Class {
    /// All classes in the order in which they are shown.
    pub(crate) const ALL: [Self; 4] = [Self::Good, Self::Late, Self::Refused, Self::Failed];

    /// The class of an outcome after `nanos`. Without an objective every answer is good.
    pub(crate) fn of(outcome: Result<(), Failure>, nanos: u64, slo: Option<Duration>) -> Self {
        match outcome {
            Ok(()) if slo.is_none_or(|slo| u128::from(nanos) <= slo.as_nanos()) => Self::Good,
            Ok(()) => Self::Late,
            Err(Failure::Status(429 | 503) | Failure::Grpc(8 | 14)) => Self::Refused,
            Err(_) => Self::Failed,
        }
    }

    /// One word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Late => "late",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Counts by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Outcomes {
    /// See [`Class::Good`].
    pub(crate) good: u64,
    /// See [`Class::Late`].
    pub(crate) late: u64,
    /// See [`Class::Refused`].
    pub(crate) refused: u64,
    /// See [`Class::Failed`].
    pub(crate) failed: u64,
}

impl Outcomes {
    /// Adds `count` of a class.
    pub(crate) fn add(&mut self, class: Class, count: u64) {
        match class {
            Class::Good => self.good += count,
            Class::Late => self.late += count,
            Class::Refused => self.refused += count,
            Class::Failed => self.failed += count,
        }
    }

    /// The count of a class.
    pub(crate) fn of(&self, class: Class) -> u64 {
        match class {
            Class::Good => self.good,
            Class::Late => self.late,
            Class::Refused => self.refused,
            Class::Failed => self.failed,
        }
    }

    /// All classes together.
    pub(crate) fn total(&self) -> u64 {
        Class::ALL.iter().map(|class| self.of(*class)).sum()
    }

    /// Good requests among all, 0 to 1; 0 without any.
    pub(crate) fn good_share(&self) -> f64 {
        if self.total() == 0 { 0.0 } else { self.good as f64 / self.total() as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_class() {
        let slo = Some(Duration::from_millis(50));
        for (outcome, nanos, class) in [
            (Ok(()), 50_000_000, Class::Good),
            (Ok(()), 50_000_001, Class::Late),
            (Err(Failure::Status(429)), 1, Class::Refused),
            (Err(Failure::Status(503)), 90_000_000, Class::Refused),
            (Err(Failure::Grpc(8)), 1, Class::Refused),
            (Err(Failure::Grpc(14)), 1, Class::Refused),
            (Err(Failure::Status(400)), 1, Class::Failed),
            (Err(Failure::Status(504)), 1, Class::Failed),
            (Err(Failure::Grpc(4)), 1, Class::Failed),
            (Err(Failure::Closed), 1, Class::Failed),
            (Err(Failure::Unsent), 1, Class::Failed),
        ] {
            assert_eq!(Class::of(outcome, nanos, slo), class, "{outcome:?} after {nanos} ns");
        }
        assert_eq!(Class::of(Ok(()), u64::MAX, None), Class::Good);
    }

    #[test]
    fn shares_are_of_all_requests() {
        let mut outcomes = Outcomes::default();
        assert_eq!(outcomes.good_share(), 0.0);
        for (class, count) in Class::ALL.into_iter().zip([6, 1, 2, 1]) {
            outcomes.add(class, count);
            assert_eq!(outcomes.of(class), count);
        }
        assert_eq!((outcomes.total(), outcomes.good_share()), (10, 0.6));
    }
}
