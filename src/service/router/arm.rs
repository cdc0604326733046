//! What one version of a guarded canary has done: counted by requests as they end, read by whoever judges.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::error::{Error, Kind};
use crate::infer::InferResponse;

/// Eight times to an octave, so that neighbours are 9 to 12 % apart, from a microsecond to a quarter of an hour.
const TIMES: usize = 8 * 30;

/// The time that a time counts as: times of one place are alike.
pub(super) fn place(time: Duration) -> usize {
    let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1 << 10);
    let octave = 63 - ns.leading_zeros() as usize;
    let eighth = (ns >> (octave - 3)) as usize & 7;
    (8 * (octave - 10) + eighth).min(TIMES - 1)
}

/// The longest time of a place.
pub(super) fn longest(place: usize) -> Duration {
    let (octave, eighth) = (place / 8 + 10, place as u64 % 8);
    Duration::from_nanos(((8 + eighth + 1) << (octave - 3)) - 1)
}

/// The counters.
#[derive(Debug)]
pub(super) struct Arm {
    failed: AtomicU64,
    took: Box<[AtomicU64]>,
    /// The sum, over all that were answered, of the requests of their batches.
    together: AtomicU64,
    /// Whether a request that does not fit is the version's fault, because its signature is another than the other's.
    pub(super) strict: AtomicBool,
}

/// The counters at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArmCounts {
    /// Requests that were refused, or failed; what was wrong with a request itself is not counted.
    pub failed: u64,
    /// Requests answered, by their time's place: see [`ArmCounts::note`].
    pub took: Vec<u64>,
    /// The sum, over all that were answered, of the requests of their batches.
    pub together: u64,
}

impl Default for Arm {
    fn default() -> Self {
        let took = (0..TIMES).map(|_| AtomicU64::new(0)).collect();
        Self { failed: AtomicU64::new(0), took, together: AtomicU64::new(0), strict: AtomicBool::new(false) }
    }
}

impl Arm {
    /// Counts a request of `rows` rows that ended after `took`.
    pub(super) fn note(&self, outcome: Result<&InferResponse, &Error>, took: Duration, rows: usize) {
        match outcome {
            Ok(answer) => {
                self.took[place(took)].fetch_add(1, Relaxed);
                self.together.fetch_add((answer.timing.batch_rows / rows.max(1)).max(1) as u64, Relaxed);
            }
            Err(error) => match error.kind() {
                // The caller's own doing, whichever version answers, unless the two take different requests.
                Kind::InvalidRequest | Kind::TooLarge | Kind::Unsupported | Kind::Conflict
                    if !self.strict.load(Relaxed) => {}
                Kind::Cancelled => {}
                _ => drop(self.failed.fetch_add(1, Relaxed)),
            },
        }
    }

    /// Counts a request whose caller went away after `waited`, where that was longer than the objective: it was late.
    pub(super) fn gone(&self, waited: Duration, objective: Duration) {
        if waited > objective {
            self.took[place(waited)].fetch_add(1, Relaxed);
            self.together.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn read(&self) -> ArmCounts {
        ArmCounts {
            failed: self.failed.load(Relaxed),
            took: self.took.iter().map(|count| count.load(Relaxed)).collect(),
            together: self.together.load(Relaxed),
        }
    }
}

impl ArmCounts {
    /// Counts a request as the server does: answered after `took` where there is one, else failed. For simulations.
    pub fn note(&mut self, took: Option<Duration>) {
        self.took.resize(TIMES, 0);
        match took {
            Some(took) => {
                self.took[place(took)] += 1;
                self.together += 1;
            }
            None => self.failed += 1,
        }
    }

    /// Requests answered.
    pub fn answered(&self) -> u64 {
        self.took.iter().sum()
    }

    /// Requests answered that took longer than a time at this place.
    pub(super) fn longer_than(&self, place: usize) -> u64 {
        self.took.iter().skip(place + 1).sum()
    }

    /// The place that a share of `part` of the answers stays at or below; `None` without answers.
    pub(super) fn quantile(&self, part: f64) -> Option<usize> {
        let rank = (self.answered() as f64 * part).ceil() as u64;
        let mut below = 0;
        self.took.iter().position(|count| {
            below += count;
            below > 0 && below >= rank
        })
    }

    /// What was counted since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = earlier.took.iter().copied().chain(std::iter::repeat(0));
        Self {
            failed: self.failed.saturating_sub(earlier.failed),
            took: self.took.iter().zip(before).map(|(now, before)| now.saturating_sub(before)).collect(),
            together: self.together.saturating_sub(earlier.together),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_ascend_and_hold_their_times() {
        let times = (0..4000).map(|step| Duration::from_nanos((1.01_f64.powi(step / 2) * 1000.0) as u64));
        let mut last = 0;
        for time in times.filter(|time| *time < Duration::from_secs(600)) {
            let at = place(time);
            assert!(at >= last && time <= longest(at), "{time:?}");
            assert!(at == 0 || time > longest(at - 1), "{time:?}");
            assert!(longest(at).as_secs_f64() <= time.as_secs_f64().max(1.1e-6) * 1.126, "{time:?}");
            last = at;
        }
        assert_eq!(place(Duration::MAX), TIMES - 1);
    }

    #[test]
    fn what_callers_do_wrong_is_no_failure_unless_the_versions_take_different_requests() {
        let arm = Arm::default();
        let note = |error: Error| arm.note(Err(&error), Duration::ZERO, 1);
        note(Error::invalid("shape"));
        note(Error::cancelled("gone"));
        assert_eq!(arm.read().failed, 0);
        note(Error::execution("boom"));
        note(Error::overloaded("full"));
        arm.strict.store(true, Relaxed);
        note(Error::invalid("shape"));
        assert_eq!(arm.read().failed, 3);
    }

    #[test]
    fn a_caller_that_waited_longer_than_the_objective_was_answered_late() {
        let arm = Arm::default();
        arm.gone(Duration::from_millis(10), Duration::from_millis(100));
        assert_eq!(arm.read().answered(), 0);
        arm.gone(Duration::from_millis(300), Duration::from_millis(100));
        let counts = arm.read();
        assert_eq!((counts.answered(), counts.longer_than(place(Duration::from_millis(100)))), (1, 1));
    }
}
