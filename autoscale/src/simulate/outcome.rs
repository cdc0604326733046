//! What came of a course: what was late, what it cost, and when the number of replicas changed.

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Requests.
    pub requests: u64,
    /// Refused, or answered after the objective.
    pub bad: u64,
    /// Of `bad`, those that had to wait for a first replica.
    pub cold: u64,
    /// Replicas times seconds, from order to end.
    pub replica_seconds: f64,
    /// Latencies of answers, by steps of a hundredth of the objective, the last for all above twice of it.
    pub latencies: Vec<u64>,
    /// When the number asked for changed, and to what.
    pub changes: Vec<(f64, u32)>,
    /// For pictures, each ten seconds: arrivals per second, replicas ready, 99th percentile in objectives.
    pub picture: Vec<[f64; 3]>,
    /// The highest number that was asked for.
    pub most: u32,
}

impl Outcome {
    /// Per cent of the requests that were refused or late.
    pub fn violations(&self) -> f64 {
        100.0 * self.bad as f64 / self.requests.max(1) as f64
    }

    /// The 99th percentile of answers, in objectives.
    pub fn p99(&self) -> f64 {
        percentile(&self.latencies, 0.99)
    }

    /// Turns from more to less or back, per hour.
    pub fn turns(&self, seconds: f64) -> f64 {
        let steps: Vec<bool> = self.changes.windows(2).map(|pair| pair[1].1 > pair[0].1).collect();
        steps.windows(2).filter(|pair| pair[0] != pair[1]).count() as f64 * 3600.0 / seconds
    }
}

/// Steps of latencies that are counted: to twice the objective.
pub(super) const STEPS: usize = 200;

/// The latency in objectives that this share of `counts`, by [`STEPS`], stays below; 0 where there are none.
pub(super) fn percentile(counts: &[u64], share: f64) -> f64 {
    let all: u64 = counts.iter().sum();
    let mut below = 0;
    for (step, count) in counts.iter().enumerate() {
        below += count;
        if below as f64 >= share * all as f64 && all > 0 {
            return (step + 1) as f64 / 100.0;
        }
    }
    0.0
}
