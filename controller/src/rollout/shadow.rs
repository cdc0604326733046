//! The step before the first: requests are answered by the old revision alone, and what the new one would have answered is compared.
//! Fed with what the routers, which do that, have counted.

use std::collections::BTreeMap;

use serde::Deserialize;
use tensorgate_contract::exposition;
use tensorgate_contract::metrics as names;
use tensorgate_contract::verdict::{Ceiling, Counts, Levels, Verdict};

use super::analysis::{Finding, Outcome};
use super::guard::Guard;
use super::tally;
use crate::v2::agreement::{Agreement, Word};

/// How sure it has to be: as the steps with requests are.
const LEVELS: Levels = Levels { false_alarm: 0.01, missed: 0.01 };
/// The smallest bound of disagreement: below it a good revision would need thousands of answers to show that it is.
const DISAGREEMENT_MIN: f64 = 0.001;

/// What the shadow step is to do; names are those of the servers' own (`[traffic.shadow]`, `[traffic.compare]`).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shadow {
    /// The share of the requests that the new revision is asked too. Default 0.1.
    pub share: f64,
    /// How many of its answers may differ, as a ratio. Default 0.05.
    pub disagreement: f64,
    /// What has to agree: `values` or `argmax`. Default values.
    pub by: Word,
    /// How far apart elements may be. Default 1e-5.
    pub absolute: f64,
    /// And how far for each unit of the larger. Default 1e-3.
    pub relative: f64,
}

impl Default for Shadow {
    fn default() -> Self {
        let Agreement { by, absolute, relative } = Agreement::default();
        Self { share: 0.1, disagreement: 0.05, by, absolute, relative }
    }
}

impl Shadow {
    /// As it is compared by.
    pub fn agreement(&self) -> Agreement {
        Agreement { by: self.by, absolute: self.absolute, relative: self.relative }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// Which one is wrong, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        if !(self.share > 0.0 && self.share <= 1.0) {
            return Err(format!("share is {}; a ratio above 0, at most 1, is possible", self.share));
        }
        if !(DISAGREEMENT_MIN..=0.5).contains(&self.disagreement) {
            return Err(format!(
                "disagreement is {}; a ratio from {DISAGREEMENT_MIN} to 0.5 is possible",
                self.disagreement
            ));
        }
        self.agreement().check()
    }
}

/// What a router has counted of a shadow since it started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Compared {
    /// Answers that were the same.
    pub agreed: u64,
    /// Answers that were not.
    pub disagreed: u64,
    /// Requests that only the shadow failed at.
    pub failed: u64,
    /// Requests of which nothing was learned, by why: it was not run, had no room, or its answers could not be read.
    pub missed: BTreeMap<String, u64>,
    /// Disagreements by what differs.
    pub kinds: BTreeMap<String, u64>,
    /// The largest difference, absolute and relative, since the router started.
    pub apart: (f64, f64),
    /// Rows whose largest elements are at the same place, and all.
    pub rows: (u64, u64),
    /// What the live answers and the shadow's took, in seconds.
    pub seconds: (f64, f64),
}

/// What is remembered of words that name why: there are fewer than ten.
const WORDS_MAX: usize = 16;

impl Compared {
    /// Reads a router's page of metrics, of one revision; none where it is not one of a router of ours.
    pub fn parse(page: &str, revision: &str) -> Option<Self> {
        let mut found = Self::default();
        let mut known = false;
        for sample in exposition::samples(page).flatten().filter(|sample| sample.value >= 0.0) {
            known |= sample.name.starts_with("tensorgate_router_");
            if sample.label("revision") != Some(revision) {
                continue;
            }
            let add_to = |count: &mut u64| tally::add(count, sample.value);
            let word = |label: &str| sample.label(label).unwrap_or("").to_owned();
            match sample.name {
                names::SHADOW_REQUESTS => match word("outcome").as_str() {
                    "agreed" => add_to(&mut found.agreed),
                    "disagreed" => add_to(&mut found.disagreed),
                    "failed" => add_to(&mut found.failed),
                    other if found.missed.len() < WORDS_MAX => add_to(found.missed.entry(other.into()).or_default()),
                    _ => {}
                },
                names::SHADOW_DIFFERENCES if found.kinds.len() < WORDS_MAX => {
                    add_to(found.kinds.entry(word("kind")).or_default());
                }
                names::SHADOW_ROWS => {
                    add_to(&mut found.rows.1);
                    if word("same") == "yes" {
                        add_to(&mut found.rows.0);
                    }
                }
                names::SHADOW_ABSOLUTE => found.apart.0 = found.apart.0.max(sample.value),
                names::SHADOW_RELATIVE => found.apart.1 = found.apart.1.max(sample.value),
                names::SHADOW_SECONDS if word("side") == "live" => found.seconds.0 += sample.value,
                names::SHADOW_SECONDS => found.seconds.1 += sample.value,
                _ => {}
            }
        }
        known.then_some(found)
    }

    fn answers(&self) -> u64 {
        self.agreed.saturating_add(self.disagreed).saturating_add(self.failed)
    }

    /// What the same router has counted since `earlier`; all of it where it has started anew in between.
    fn since(&self, earlier: &Self) -> Self {
        if self.answers() < earlier.answers() || self.agreed < earlier.agreed || self.seconds.0 < earlier.seconds.0 {
            return self.clone();
        }
        let less = |now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>| {
            let left = |(word, count): (&String, &u64)| {
                (word.clone(), count.saturating_sub(before.get(word).copied().unwrap_or(0)))
            };
            now.iter().map(left).collect()
        };
        Self {
            agreed: self.agreed - earlier.agreed,
            disagreed: self.disagreed.saturating_sub(earlier.disagreed),
            failed: self.failed.saturating_sub(earlier.failed),
            missed: less(&self.missed, &earlier.missed),
            kinds: less(&self.kinds, &earlier.kinds),
            apart: self.apart,
            rows: (self.rows.0.saturating_sub(earlier.rows.0), self.rows.1.saturating_sub(earlier.rows.1)),
            seconds: (self.seconds.0 - earlier.seconds.0, (self.seconds.1 - earlier.seconds.1).max(0.0)),
        }
    }

    fn add(&mut self, other: &Self) {
        self.agreed = self.agreed.saturating_add(other.agreed);
        self.disagreed = self.disagreed.saturating_add(other.disagreed);
        self.failed = self.failed.saturating_add(other.failed);
        for (own, more) in [(&mut self.missed, &other.missed), (&mut self.kinds, &other.kinds)] {
            for (word, count) in more {
                let own = own.entry(word.clone()).or_default();
                *own = own.saturating_add(*count);
            }
        }
        self.apart = (self.apart.0.max(other.apart.0), self.apart.1.max(other.apart.1));
        self.rows = (self.rows.0.saturating_add(other.rows.0), self.rows.1.saturating_add(other.rows.1));
        self.seconds = (self.seconds.0 + other.seconds.0, self.seconds.1 + other.seconds.1);
    }
}

impl std::fmt::Display for Compared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut told: Vec<String> = self
            .kinds
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(kind, count)| format!("{count} in {kind}"))
            .collect();
        if self.failed > 0 {
            told.push(format!("{} failed", self.failed));
        }
        if self.apart.0 > 0.0 {
            told.push(format!("values at most {:.3e} apart, {:.3e} of the larger", self.apart.0, self.apart.1));
        }
        if self.rows.1 > 0 {
            told.push(format!("the largest of {} of {} rows at the same place", self.rows.0, self.rows.1));
        }
        let answers = (self.agreed + self.disagreed) as f64;
        if answers > 0.0 && self.seconds.0 > 0.0 {
            let [live, own] = [self.seconds.0, self.seconds.1].map(|own| own / answers * 1e3);
            told.push(format!("{own:.3} ms a request, live {live:.3} ms"));
        }
        let missed: Vec<String> =
            self.missed.iter().filter(|(_, count)| **count > 0).map(|(why, count)| format!("{count} {why}")).collect();
        if !missed.is_empty() {
            told.push(format!("not compared: {}", missed.join(", ")));
        }
        f.write_str(&told.join("; "))
    }
}

/// What routers have counted, each by its pod's uid; or why that is not known.
pub type Reading = Result<BTreeMap<String, Compared>, String>;

/// The test of the shadow step.
#[derive(Debug, Clone)]
pub struct ShadowAnalysis {
    guard: Guard,
    shadow: Shadow,
    revision: String,
    disagreement: Ceiling,
    /// By router: where the next difference begins.
    last: BTreeMap<String, Compared>,
    seen: Compared,
    missing: Option<String>,
}

impl ShadowAnalysis {
    /// Of the rollout of `revision`.
    pub fn new(guard: &Guard, shadow: Shadow, revision: &str) -> Self {
        Self {
            guard: guard.clone(),
            shadow,
            revision: revision.to_owned(),
            disagreement: Ceiling::new(shadow.disagreement),
            last: BTreeMap::new(),
            seen: Compared::default(),
            missing: None,
        }
    }

    /// Whether it is of this rollout and these settings.
    pub fn is_of(&self, guard: &Guard, revision: &str) -> bool {
        self.guard == *guard && self.revision == revision
    }

    /// Takes in what the routers have counted up to now. One that is seen for the first time only tells where its next difference
    /// begins: before, it may have compared by other settings.
    pub fn observe(&mut self, routers: Reading) {
        let routers = match routers {
            Ok(routers) => routers,
            Err(missing) => {
                self.missing = Some(missing);
                return;
            }
        };
        self.missing = None;
        let mut new = Compared::default();
        for (uid, now) in &routers {
            let before = self.last.insert(uid.clone(), now.clone());
            new.add(&now.since(before.as_ref().unwrap_or(now)));
        }
        self.last.retain(|uid, _| routers.contains_key(uid));
        self.disagreement.observe(Counts::new(new.disagreed.saturating_add(new.failed), new.answers()));
        self.seen.add(&new);
    }

    /// What is found up to now.
    pub fn finding(&self) -> Finding {
        let evidence = self.disagreement.evidence();
        let details = self.seen.to_string();
        let details = if details.is_empty() { details } else { format!(" ({details})") };
        let shown = format!("disagreement: {evidence}{details}");
        let (outcome, reason) = match (self.disagreement.verdict(&LEVELS), &self.missing) {
            (Verdict::Bad(_), _) => (Outcome::Fail, shown),
            (_, Some(missing)) => (Outcome::Hold, missing.clone()),
            (Verdict::Continue, None) => (Outcome::Hold, format!("too little was seen to tell, {shown}")),
            (Verdict::Good, None) if self.seen.answers() < self.guard.step_requests => {
                (Outcome::Hold, format!("{} of {} answers compared", self.seen.answers(), self.guard.step_requests))
            }
            (Verdict::Good, None) => (Outcome::Pass, shown),
        };
        Finding { revision: self.revision.clone(), step: 0, outcome, reason }
    }

    /// What its answers are compared by.
    pub fn shadow(&self) -> &Shadow {
        &self.shadow
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: &str = r#"# TYPE tensorgate_router_shadow_requests_total counter
tensorgate_router_shadow_requests_total{outcome="agreed",revision="new"} 90
tensorgate_router_shadow_requests_total{outcome="disagreed",revision="new"} 7
tensorgate_router_shadow_requests_total{outcome="failed",revision="new"} 3
tensorgate_router_shadow_requests_total{outcome="dropped",revision="new"} 4
tensorgate_router_shadow_requests_total{outcome="agreed",revision="other"} 1000
tensorgate_router_shadow_differences_total{kind="shapes",revision="new"} 2
tensorgate_router_shadow_rows_total{revision="new",same="yes"} 95
tensorgate_router_shadow_rows_total{revision="new",same="no"} 2
tensorgate_router_shadow_absolute_max{revision="new"} 0.25
tensorgate_router_shadow_relative_max{revision="new"} 0.5
tensorgate_router_shadow_seconds_total{revision="new",side="live"} 0.097
tensorgate_router_shadow_seconds_total{revision="new",side="shadow"} 0.194
"#;

    fn told(agreed: u64, disagreed: u64) -> Reading {
        let own = Compared { agreed, disagreed, ..Compared::default() };
        Ok([("router".to_owned(), own)].into())
    }

    fn guard() -> Guard {
        Guard { shadow: Some(Shadow::default()), ..Guard::default() }
    }

    #[test]
    fn a_routers_page_is_read_of_one_revision_and_told_in_words() {
        let found = Compared::parse(PAGE, "new").unwrap();
        assert_eq!((found.agreed, found.disagreed, found.failed, found.rows), (90, 7, 3, (95, 97)));
        assert_eq!(
            found.to_string(),
            "2 in shapes; 3 failed; values at most 2.500e-1 apart, 5.000e-1 of the larger; the largest of 95 of 97 rows at \
             the same place; 2.000 ms a request, live 1.000 ms; not compared: 4 dropped"
        );
        assert_eq!(Compared::parse(PAGE, "none"), Some(Compared::default()));
        assert_eq!(Compared::parse("tensorgate_requests_total{kind=\"ok\"} 1", "new"), None);
    }

    #[test]
    fn answers_that_agree_pass_answers_that_do_not_fail_and_few_are_held() {
        let play = |each: (u64, u64), looks: u64| {
            let mut analysis = ShadowAnalysis::new(&guard(), Shadow::default(), "new");
            (0..looks).for_each(|look| analysis.observe(told(look * each.0, look * each.1)));
            analysis.finding()
        };
        assert_eq!(play((10, 0), 30).outcome, Outcome::Pass);
        let bad = play((5, 5), 10);
        assert!(bad.outcome == Outcome::Fail && bad.reason.starts_with("disagreement: 45 of 90 (50 %)"), "{bad:?}");
        let few = play((1, 0), 5);
        assert!(few.outcome == Outcome::Hold && few.reason.starts_with("too little was seen to tell"), "{few:?}");
        let mut silent = ShadowAnalysis::new(&guard(), Shadow::default(), "new");
        silent.observe(Err("no router is ready".into()));
        assert_eq!(silent.finding().reason, "no router is ready");
    }

    #[test]
    fn a_router_that_is_seen_for_the_first_time_or_starts_anew_brings_no_past_along() {
        let mut analysis = ShadowAnalysis::new(&guard(), Shadow::default(), "new");
        analysis.observe(told(0, 1000));
        assert!(analysis.finding().reason.contains("0 of 0"), "{:?}", analysis.finding());
        analysis.observe(told(3, 0));
        assert!(analysis.finding().reason.contains("0 of 3"), "{:?}", analysis.finding());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_page_is_read_and_compared_without_a_panic(one in r#"[ -~\n]{0,200}"#, cut in 0..PAGE.len(), again in 0..PAGE.len()) {
            let _any = Compared::parse(&one, "new");
            let parse = |cut: usize| Compared::parse(&PAGE[..cut], "new").unwrap_or_default();
            let (one, other) = (parse(cut), parse(again));
            let since = one.since(&other);
            prop_assert!(since.answers() <= one.answers());
            let mut sum = one.clone();
            sum.add(&other);
            prop_assert_eq!(sum.answers(), one.answers() + other.answers());
        }
    }
}
