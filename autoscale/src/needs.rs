//! What was needed in the last minutes: the highest number counts for a while before replicas go, and one that was needed again
//! and again for longer.

use std::collections::VecDeque;
use std::time::Duration;

/// A number that was needed again after the hold was over, so often within this time, is kept: bursts come back.
const RETURNS: usize = 2;
const RETURNS_WITHIN: Duration = Duration::from_secs(600);
/// Changes of the held need that are remembered.
const CHANGES_MAX: usize = 128;

/// What was needed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// What was needed within the hold, when, and the demand that it was for.
    needs: VecDeque<(Duration, u32, f64)>,
    /// When the highest need of the hold changed, from what, to what.
    changes: VecDeque<(Duration, u32, u32)>,
}

impl Needs {
    /// After a start without a memory: the number that is there counts as one that was needed again and again.
    pub fn resumed(replicas: u32, now: Duration) -> Self {
        Self { needs: VecDeque::new(), changes: [(now, 0, replicas); RETURNS].into() }
    }

    /// Keeps the need of now and its demand, and when the highest need of the last `hold` changed.
    pub fn note(&mut self, (need, demand): (u32, f64), hold: Duration, now: Duration) {
        let before = self.highest();
        self.needs.push_back((now, need, demand));
        while self.needs.front().is_some_and(|(at, ..)| now.saturating_sub(*at) > hold) {
            self.needs.pop_front();
        }
        let highest = self.highest();
        if highest != before {
            self.changes.push_back((now, before, highest));
        }
        let old = |(at, ..): &(Duration, u32, u32)| now.saturating_sub(*at) > RETURNS_WITHIN;
        while self.changes.len() > CHANGES_MAX || self.changes.front().is_some_and(old) {
            self.changes.pop_front();
        }
    }

    /// The highest need of the hold.
    pub fn highest(&self) -> u32 {
        self.needs.iter().map(|(_, need, _)| *need).max().unwrap_or(0)
    }

    /// The mean demand of the hold.
    pub fn demand(&self) -> f64 {
        self.needs.iter().map(|(.., demand)| *demand).sum::<f64>() / self.needs.len().max(1) as f64
    }

    /// The highest number that was needed again and again.
    pub fn returning(&self) -> u32 {
        let rises = |level: u32| self.changes.iter().filter(|(_, from, to)| *from < level && *to >= level).count();
        let top = self.changes.iter().map(|(_, _, to)| *to).max().unwrap_or(0);
        (1..=top).rev().find(|level| rises(*level) >= RETURNS).unwrap_or(0)
    }
}
