//! What was learned from shadows, by revision: read by people, and by the controller, which judges a rollout by it.

use std::time::Duration;

use prometheus::{CounterVec, GaugeVec, IntCounterVec, Opts, Registry};
use tensorgate_contract::compare::Difference;
use tensorgate_contract::metrics as names;

/// Counts of compared answers.
#[derive(Debug, Clone)]
pub struct Told {
    /// Mirrored requests by `outcome`: agreed, disagreed, failed where only the shadow did; not_run, dropped, unreadable where nothing
    /// was compared.
    pub requests: IntCounterVec,
    /// Disagreements by `kind`: names, datatypes, shapes, contents, not_finite.
    differences: IntCounterVec,
    /// Rows whose largest elements were looked for, by whether their place is the `same`.
    rows: IntCounterVec,
    /// The largest difference of two elements, and the largest divided by the larger of the two.
    absolute: GaugeVec,
    relative: GaugeVec,
    /// What compared answers took, by `side`: live, shadow.
    seconds: CounterVec,
}

impl Told {
    /// Registered in `registry`.
    ///
    /// # Errors
    /// If a name is taken, which would be a bug.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, label: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &["revision", label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let gauges = |name: &str, help: &str| {
            let gauges = GaugeVec::new(Opts::new(name, help), &["revision"])?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let seconds = Opts::new(names::SHADOW_SECONDS, "Seconds of compared answers.");
        let seconds = CounterVec::new(seconds, &["revision", "side"])?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            requests: counters(
                names::SHADOW_REQUESTS,
                "Requests that a revision without a share was asked too.",
                "outcome",
            )?,
            differences: counters(names::SHADOW_DIFFERENCES, "Disagreements in which such things differ.", "kind")?,
            rows: counters(names::SHADOW_ROWS, "Rows whose largest elements were looked for.", "same")?,
            absolute: gauges(names::SHADOW_ABSOLUTE, "The largest difference of two elements.")?,
            relative: gauges(names::SHADOW_RELATIVE, "The largest difference divided by the larger of the two.")?,
            seconds,
        })
    }

    /// Takes in two answers that were compared.
    pub fn note(&self, revision: &str, found: &Difference, agrees: bool, live: Duration, shadow: Duration) {
        self.requests.with_label_values(&[revision, if agrees { "agreed" } else { "disagreed" }]).inc();
        let kinds = [
            ("names", u64::from(found.names)),
            ("datatypes", u64::from(found.datatypes)),
            ("shapes", u64::from(found.shapes)),
            ("contents", u64::from(found.contents)),
            ("not_finite", u64::from(found.not_finite > 0)),
        ];
        for (kind, count) in kinds.into_iter().filter(|(_, count)| *count > 0) {
            self.differences.with_label_values(&[revision, kind]).inc_by(count);
        }
        self.rows.with_label_values(&[revision, "yes"]).inc_by(found.same_argmax);
        self.rows.with_label_values(&[revision, "no"]).inc_by(found.rows - found.same_argmax);
        for (gauges, value) in [(&self.absolute, found.absolute), (&self.relative, found.relative)] {
            let gauge = gauges.with_label_values(&[revision]);
            gauge.set(gauge.get().max(value));
        }
        for (side, took) in [("live", live), ("shadow", shadow)] {
            self.seconds.with_label_values(&[revision, side]).inc_by(took.as_secs_f64());
        }
    }
}
