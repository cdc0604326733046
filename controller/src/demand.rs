//! What a router tells of the requests that wait at it or run behind it, and the controller reads: the form of `/demand`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The path at a router's address of health and metrics. `?seen=N` waits for another sequence than N.
pub const PATH: &str = "/demand";

/// How long a question waits for news: how stale the seconds of idleness may be at whoever asks.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// All revisions behind a router.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Demand {
    /// Another one where something is new that should not wait.
    pub sequence: u64,
    /// Seconds since the router began to count.
    pub up_seconds: u64,
    /// By name; those that were asked for.
    pub revisions: BTreeMap<String, RevisionDemand>,
}

/// One revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionDemand {
    /// Requests that wait for a pod.
    pub waiting: usize,
    /// Requests that are with one.
    pub running: usize,
    /// Since when neither, in seconds.
    pub idle_seconds: u64,
}

impl Demand {
    /// Adds what another router of the same service tells: who waits and runs is counted together, and nobody has asked only as long
    /// as nobody has at either.
    pub fn add(&mut self, other: &Self) {
        self.up_seconds = self.up_seconds.min(other.up_seconds);
        for (name, theirs) in &other.revisions {
            let own = self
                .revisions
                .entry(name.clone())
                .or_insert_with(|| RevisionDemand { idle_seconds: u64::MAX, ..RevisionDemand::default() });
            own.waiting += theirs.waiting;
            own.running += theirs.running;
            own.idle_seconds = own.idle_seconds.min(theirs.idle_seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demand_of_several_routers_is_counted_together() {
        let one = |waiting, running, idle_seconds| Demand {
            sequence: 1,
            up_seconds: idle_seconds,
            revisions: [("r".to_owned(), RevisionDemand { waiting, running, idle_seconds })].into(),
        };
        let mut all = one(0, 0, 900);
        all.add(&one(1, 0, 0));
        all.add(&one(2, 3, 90));
        assert_eq!(all.up_seconds, 0);
        assert_eq!(all.revisions["r"], RevisionDemand { waiting: 3, running: 3, idle_seconds: 0 });
    }
}
