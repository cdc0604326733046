//! Who gets how much: the file of routes, and the choice for a request. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::v2::agreement::Agreement;

/// The largest file of routes makes no larger table: the Gateway's own bound on backends of a rule.
const BACKENDS_MAX: usize = 16;

/// The revisions of a component and their weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Table {
    /// Requests with the same value of this header go to the same revision, as long as the weights stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky_header: Option<String>,
    /// Requests wait for a revision's pods, where it may have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// A revision that is asked too, and gives no answers.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "shared")]
    pub shadow: Option<Arc<Shadow>>,
    /// In the order in which their shares lie: who was with one of the first stays with it while its weight grows.
    pub backends: Vec<Backend>,
}

/// How requests wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hold {
    /// Seconds, for requests that state no deadline of their own.
    pub timeout_seconds: u32,
}

/// A revision whose answers are compared with those that callers get.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shadow {
    /// Its name.
    pub revision: String,
    /// Host and port for HTTP.
    pub http: String,
    /// Host and port for gRPC, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<String>,
    /// The share of the requests that it is asked too, above 0, at most 1.
    pub share: f64,
    /// When two answers are the same.
    #[serde(default)]
    pub compare: Agreement,
}

/// A shadow goes along with each request that it is asked.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Shadow;

    pub(super) fn serialize<S: Serializer>(own: &Option<Arc<Shadow>>, serializer: S) -> Result<S::Ok, S::Error> {
        own.as_deref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<Shadow>>, D::Error> {
        Ok(Option::<Shadow>::deserialize(deserializer)?.map(Arc::new))
    }
}

/// A revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    /// Its name.
    pub revision: String,
    /// Its share of the sum of all weights.
    pub weight: u32,
    /// Host and port for HTTP.
    pub http: String,
    /// Host and port for gRPC, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<String>,
}

impl Backend {
    /// Host and port for a protocol.
    pub fn address(&self, grpc: bool) -> &str {
        self.grpc.as_ref().filter(|_| grpc).unwrap_or(&self.http)
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, backend) in self.backends.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", backend.revision, backend.weight)?;
        }
        Ok(())
    }
}

impl Table {
    /// Reads a file of routes.
    ///
    /// # Errors
    /// If it is no JSON of this form, nobody has a weight, or a revision is named twice.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if table.backends.len() > BACKENDS_MAX {
            return Err(format!("{} backends; at most {BACKENDS_MAX} are possible", table.backends.len()));
        }
        if table.total() == 0 {
            return Err("no backend has a weight; give one at least 1".into());
        }
        let mut names = BTreeSet::new();
        for backend in &table.backends {
            if backend.revision.parse::<hyper::http::uri::Authority>().is_err() || !names.insert(&backend.revision) {
                return Err(format!(
                    "backend '{}': each needs a name of its own, of letters, digits and -",
                    backend.revision
                ));
            }
            check_addresses(&backend.revision, &backend.http, backend.grpc.as_deref())?;
        }
        if let Some(shadow) = &table.shadow {
            check_addresses(&shadow.revision, &shadow.http, shadow.grpc.as_deref())?;
            let wrong = |why: String| format!("shadow '{}': {why}", shadow.revision);
            if !(shadow.share > 0.0 && shadow.share <= 1.0) {
                return Err(wrong(format!("its share is {}; above 0 and at most 1 is possible", shadow.share)));
            }
            shadow.compare.check().map_err(wrong)?;
        }
        Ok(table)
    }

    fn total(&self) -> u64 {
        self.backends.iter().map(|backend| u64::from(backend.weight)).sum()
    }

    /// The revision for a point of the whole range of `u64`, to which requests are spread evenly.
    pub fn pick(&self, point: u64) -> &Backend {
        // The upper half of a product of 128 bits: a range of any size without a division, and without a bias worth the name.
        let mut place = u64::try_from((u128::from(point) * u128::from(self.total())) >> 64).unwrap_or(0);
        for backend in &self.backends {
            let weight = u64::from(backend.weight);
            if place < weight {
                return backend;
            }
            place -= weight;
        }
        // Not reached: the place is below the sum of the weights.
        &self.backends[0]
    }

    /// Those who may stand in for a revision that takes no connection, the largest share first.
    pub fn others<'a>(&'a self, revision: &'a str) -> impl Iterator<Item = &'a Backend> {
        let mut others: Vec<&Backend> =
            self.backends.iter().filter(|own| own.revision != revision && own.weight > 0).collect();
        others.sort_by_key(|own| std::cmp::Reverse(own.weight));
        others.into_iter()
    }
}

/// That a revision's addresses are some.
fn check_addresses(revision: &str, http: &str, grpc: Option<&str>) -> Result<(), String> {
    for address in [Some(http), grpc].into_iter().flatten() {
        let port =
            address.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
        if port.is_none() {
            return Err(format!("backend '{revision}': '{address}' is not HOST:PORT"));
        }
    }
    Ok(())
}

/// SplitMix64's mixing: spreads what is counted up over the whole range.
pub fn mix(counter: u64) -> u64 {
    let mut z = counter;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The step between two counters of SplitMix64.
pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The point of a sticky header's value: FNV-1a, mixed, since FNV's upper bits hardly differ for values that hardly differ.
pub fn point_of(value: &[u8]) -> u64 {
    let hash = value
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mix(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(weights: &[u32]) -> Table {
        let backend = |(index, weight): (usize, &u32)| Backend {
            revision: format!("r{index}"),
            weight: *weight,
            http: "localhost:1".into(),
            grpc: None,
        };
        Table {
            sticky_header: None,
            hold: None,
            shadow: None,
            backends: weights.iter().enumerate().map(backend).collect(),
        }
    }

    #[test]
    fn counted_requests_are_split_by_the_weights() {
        let table = table(&[10, 0, 90]);
        let canary = (0..100_000_u64).filter(|n| table.pick(mix(n.wrapping_mul(STEP))).revision == "r0").count();
        assert!((9_500..10_500).contains(&canary), "{canary} of 100,000");
    }

    #[test]
    fn who_is_with_a_canary_stays_with_it_while_its_weight_grows() {
        let (before, after) = (table(&[10, 90]), table(&[50, 50]));
        for user in 0..10_000 {
            let point = point_of(format!("user-{user}").as_bytes());
            if before.pick(point).revision == "r0" {
                assert_eq!(after.pick(point).revision, "r0");
            }
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_says_why() {
        let parse = |text: &str| Table::parse(text).unwrap_err();
        assert!(parse("{").contains("EOF"));
        assert!(parse(r#"{"backends": []}"#).contains("no backend has a weight"));
        assert!(parse(r#"{"backends": [{"revision": "a", "weight": 1, "http": "nowhere"}]}"#).contains("HOST:PORT"));
        let twice = r#"{"backends": [{"revision": "a", "weight": 1, "http": "b:1"}, {"revision": "a", "weight": 1, "http": "b:1"}]}"#;
        assert!(parse(twice).contains("name of its own"));
        let with = |shadow: &str| {
            format!(
                r#"{{"backends": [{{"revision": "a", "weight": 1, "http": "b:1"}}], "shadow": {{"revision": "s", "http": "c:1", {shadow}}}}}"#
            )
        };
        assert!(parse(&with(r#""share": 0"#)).contains("its share is 0"));
        assert!(parse(&with(r#""share": 1, "compare": {"absolute": -1}"#)).contains("absolute is -1"));
        let table = Table::parse(&with(r#""share": 0.5, "compare": {"by": "argmax"}"#)).unwrap();
        assert_eq!(Table::parse(&serde_json::to_string(&table).unwrap()), Ok(table));
    }

    proptest! {
        #[test]
        fn nobody_without_a_weight_is_picked(weights in prop::collection::vec(0..50_u32, 1..16), point in any::<u64>()) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            prop_assert!(table(&weights).pick(point).weight > 0);
        }

        #[test]
        fn no_text_makes_parsing_panic(text in ".{0,200}") {
            let _any_outcome_will_do = Table::parse(&text);
        }
    }
}
