//! What a server has counted since it started, out of its metrics in Prometheus' text format. Knows no pods and no times.

use std::collections::BTreeMap;

use tensorgate_contract::exposition;
use tensorgate_contract::metrics as names;

/// Kinds of refusals that are the caller's doing: two revisions that share requests out at random get them alike.
const CALLERS: [&str; 7] =
    ["invalid_request", "unauthenticated", "forbidden", "unknown_model", "conflict", "too_large", "unsupported"];
/// Kinds that say nothing about a server: the caller went away, or did not send on.
const NOBODYS: [&str; 2] = ["cancelled", "slow_request"];
/// Buckets at most: far more than a server of ours has.
const BUCKETS_MAX: usize = 64;
/// What an f64 counts exactly, and more requests than any server lives to see.
const COUNT_MAX: f64 = 9_007_199_254_740_992.0;

/// Adds a sample, which is not negative, to a count.
pub(super) fn add(count: &mut u64, sample: f64) {
    *count = count.saturating_add(sample.min(COUNT_MAX) as u64);
}

/// Counters of a server, or of a whole revision.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Requests answered.
    pub answered: u64,
    /// Requests that the server failed.
    pub failed: u64,
    /// Requests refused for what was wrong with them.
    pub refused: u64,
    /// Batches run.
    pub batches: u64,
    /// How many took at most as long, by upper bound in seconds, ascending, each beyond the bound before; the last is infinite.
    pub took: Vec<(f64, u64)>,
    /// The latency objective in seconds; 0 where none is told.
    pub objective: f64,
}

impl Tally {
    /// Reads a page of metrics; none where it is not one of a server of ours. Lines that are no samples are passed over.
    pub fn parse(page: &str) -> Option<Self> {
        let mut tally = Self::default();
        let mut known = false;
        let mut cumulative: BTreeMap<u64, u64> = BTreeMap::new();
        let bucket = format!("{}_bucket", names::REQUEST_SECONDS);
        for sample in exposition::samples(page).flatten().filter(|sample| sample.value >= 0.0) {
            let add_to = |count: &mut u64| add(count, sample.value);
            match sample.name {
                names::REQUESTS => {
                    known = true;
                    match sample.label("kind").unwrap_or("") {
                        "ok" => add_to(&mut tally.answered),
                        kind if CALLERS.contains(&kind) => add_to(&mut tally.refused),
                        kind if NOBODYS.contains(&kind) => {}
                        _ => add_to(&mut tally.failed),
                    }
                }
                names::BATCHES => add_to(&mut tally.batches),
                names::MODEL_OBJECTIVE => tally.objective = tally.objective.max(sample.value.min(1e6)),
                name if name == bucket => {
                    let bound = sample.label("le").and_then(|own| own.parse::<f64>().ok()).filter(|own| *own >= 0.0);
                    // The bits of floats that are not negative are in their order.
                    let Some(bound) = bound.map(f64::to_bits) else { continue };
                    if cumulative.len() < BUCKETS_MAX || cumulative.contains_key(&bound) {
                        add_to(cumulative.entry(bound).or_default());
                    }
                }
                _ => {}
            }
        }
        let mut before = 0;
        tally.took = cumulative
            .into_iter()
            .map(|(bound, count)| {
                let own = count.saturating_sub(before);
                before = before.max(count);
                (f64::from_bits(bound), own)
            })
            .collect();
        known.then_some(tally)
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Self) {
        self.answered = self.answered.saturating_add(other.answered);
        self.failed = self.failed.saturating_add(other.failed);
        self.refused = self.refused.saturating_add(other.refused);
        self.batches = self.batches.saturating_add(other.batches);
        self.objective = self.objective.max(other.objective);
        for (bound, count) in &other.took {
            match self.took.binary_search_by(|(own, _)| own.total_cmp(bound)) {
                Ok(place) => self.took[place].1 = self.took[place].1.saturating_add(*count),
                Err(place) => self.took.insert(place, (*bound, *count)),
            }
        }
    }

    /// What the same server has counted since `earlier`; all of it where it has started anew in between.
    pub fn since(&self, earlier: &Self) -> Self {
        let restarted = self.answered < earlier.answered
            || self.failed < earlier.failed
            || self.refused < earlier.refused
            || self.timed() < earlier.timed();
        if restarted {
            return self.clone();
        }
        let before = |bound: f64| earlier.took.iter().find(|(own, _)| *own == bound).map_or(0, |(_, count)| *count);
        Self {
            answered: self.answered - earlier.answered,
            failed: self.failed - earlier.failed,
            refused: self.refused - earlier.refused,
            batches: self.batches.saturating_sub(earlier.batches),
            took: self.took.iter().map(|(bound, count)| (*bound, count.saturating_sub(before(*bound)))).collect(),
            objective: self.objective,
        }
    }

    /// Requests whose time is known: those that ended, however that was.
    pub fn timed(&self) -> u64 {
        self.took.iter().fold(0, |sum: u64, (_, count)| sum.saturating_add(*count))
    }

    /// Those of them that took longer than `bound`.
    pub fn longer_than(&self, bound: f64) -> u64 {
        self.took.iter().filter(|(own, _)| *own > bound).fold(0, |sum: u64, (_, count)| sum.saturating_add(*count))
    }

    /// The bound that a share of `part` of the requests stays within; none without requests.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let rank = (self.timed() as f64 * part).ceil().max(1.0);
        let mut below = 0.0;
        self.took.iter().find_map(|(bound, count)| {
            below += *count as f64;
            (below >= rank).then_some(*bound)
        })
    }

    /// The smallest bound at or above `time`: what is told apart.
    pub fn bound_above(&self, time: f64) -> f64 {
        self.took.iter().map(|(bound, _)| *bound).find(|bound| *bound >= time).unwrap_or(f64::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: &str = r#"# HELP tensorgate_requests_total Requests answered
# TYPE tensorgate_requests_total counter
tensorgate_requests_total{kind="ok",model="a \"b\", {c} ",version="1"} 90
tensorgate_requests_total{kind="execution",model="iris",version="1"} 3
tensorgate_requests_total{kind="invalid_request",model="iris",version="1"} 5
tensorgate_requests_total{kind="cancelled",model="iris",version="1"} 2
tensorgate_request_seconds_bucket{model="iris",version="1",le="0.001"} 40
tensorgate_request_seconds_bucket{model="iris",version="1",le="0.01"} 95
tensorgate_request_seconds_bucket{model="iris",version="1",le="+Inf"} 100
tensorgate_batches_total{model="iris",place="in_place",version="1"} 50
tensorgate_model_objective_seconds{model="iris",version="1"} 0.1
nonsense
"#;

    #[test]
    fn a_page_of_a_server_is_read_and_one_of_another_is_none() {
        let tally = Tally::parse(PAGE).unwrap();
        assert_eq!((tally.answered, tally.failed, tally.refused, tally.batches), (90, 3, 5, 50));
        assert_eq!(tally.took, [(0.001, 40), (0.01, 55), (f64::INFINITY, 5)]);
        assert_eq!((tally.timed(), tally.longer_than(0.01), tally.quantile(0.9)), (100, 5, Some(0.01)));
        assert_eq!((tally.bound_above(0.002), tally.objective), (0.01, 0.1));
        assert_eq!(Tally::parse("python_gc_objects_collected_total{generation=\"0\"} 1\n"), None);
    }

    #[test]
    fn what_was_counted_since_is_the_difference_and_after_a_restart_all_of_it() {
        let now = Tally::parse(PAGE).unwrap();
        let before = Tally { answered: 80, took: vec![(0.001, 40), (0.01, 50)], ..now.clone() };
        let since = now.since(&before);
        assert_eq!((since.answered, since.failed, since.timed()), (10, 0, 10));
        assert_eq!(now.since(&Tally { answered: 91, ..now.clone() }), now);
    }

    fn any_page() -> impl Strategy<Value = String> {
        let kind = prop::sample::select(vec!["ok", "internal", "too_large", "cancelled", "new"]);
        let bound = prop::sample::select(vec!["0.001", "0.1", "+Inf", "NaN", "-1", "x"]);
        let value = prop_oneof![any::<u32>().prop_map(|own| own.to_string()), "[-0-9eE.+aNnIif ]{0,8}"];
        let line = prop_oneof![
            (kind, value.clone()).prop_map(|(kind, value)| format!("{}{{kind=\"{kind}\"}} {value}", names::REQUESTS)),
            (bound, value).prop_map(|(le, value)| format!("{}_bucket{{le=\"{le}\"}} {value}", names::REQUEST_SECONDS)),
            r#"[ -~\n]{0,40}"#,
        ];
        prop::collection::vec(line, 0..30).prop_map(|lines| lines.join("\n"))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_two_pages_are_read_and_compared_without_a_panic(one in any_page(), other in any_page()) {
            let (one, other) = (Tally::parse(&one).unwrap_or_default(), Tally::parse(&other).unwrap_or_default());
            let since = one.since(&other);
            prop_assert!(since.timed() <= one.timed() && since.answered <= one.answered);
            prop_assert!(one.took.windows(2).all(|pair| pair[0].0 < pair[1].0));
            let mut sum = one.clone();
            sum.add(&other);
            prop_assert_eq!(sum.answered, one.answered.saturating_add(other.answered));
            prop_assert!(sum.took.windows(2).all(|pair| pair[0].0 < pair[1].0));
            prop_assert!(one.quantile(0.9).is_none_or(|bound| one.longer_than(bound) as f64 <= 0.11 * one.timed() as f64));
        }
    }
}
