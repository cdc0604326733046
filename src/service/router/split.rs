//! Which version answers: by chance in proportion to the weights, or by the caller's key.

use crate::model::Version;

/// Weights by version.
pub(super) type Weights = Vec<(Version, f64)>;

/// What [`Chance`] goes on by: 2^64 over the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A number in (0, 1).
fn unit(bits: u64) -> f64 {
    ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// Numbers by chance for many threads: SplitMix64, whose state is a counter, so that an atomic one will do.
#[derive(Debug)]
pub(super) struct Chance(std::sync::atomic::AtomicU64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.into())
    }

    /// Evenly in (0, 1).
    pub(super) fn draw(&self) -> f64 {
        unit(mixed(self.0.fetch_add(GOLDEN, std::sync::atomic::Ordering::Relaxed)))
    }
}

/// The key of a caller of `model` who is known by `value`: FNV-1a, the same in every process and release. With the model's name
/// in it, so that the same callers are not the first of every canary.
pub fn sticky_key(model: &str, value: &[u8]) -> u64 {
    let bytes = model.as_bytes().iter().chain([&0]).chain(value);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// One of those of `weights` that are `ready`, for the caller of `key`, or else by `chance`; `None` where none is.
///
/// A key goes to the version with the largest `-weight / ln(h)`, `h` in (0, 1) a hash of key and version: weighted rendezvous
/// hashing by the logarithmic method (Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005). Each version
/// gets its share of the keys; when one weight changes, or a version goes, only keys that its share loses or wins move.
pub(super) fn pick(
    weights: &[(Version, f64)],
    ready: impl Fn(Version) -> bool,
    key: Option<u64>,
    chance: impl FnOnce() -> f64,
) -> Option<Version> {
    let serving = || weights.iter().filter(|(version, weight)| *weight > 0.0 && ready(*version));
    if let Some(key) = key {
        let score = |&(version, weight): &(Version, f64)| {
            -weight / unit(mixed(mixed(key ^ version.number().wrapping_mul(GOLDEN)))).ln()
        };
        return serving().max_by(|one, other| score(one).total_cmp(&score(other))).map(|(version, _)| *version);
    }
    let total: f64 = serving().map(|(_, weight)| weight).sum();
    let mut left = chance() * total;
    let mut last = None;
    for (version, weight) in serving() {
        left -= weight;
        last = Some(*version);
        if left < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(number: u64) -> Version {
        Version::new(number).unwrap()
    }

    fn weights(weights: &[f64]) -> Weights {
        weights.iter().enumerate().map(|(index, &weight)| (version(index as u64 + 1), weight)).collect()
    }

    fn by_key(weights: &Weights, key: u64) -> Option<Version> {
        pick(weights, |_| true, Some(key), || unreachable!("a key leaves nothing to chance"))
    }

    #[test]
    fn twenty_thousand_requests_are_split_within_statistical_bounds_by_chance_and_by_key() {
        let split = weights(&[90.0, 10.0]);
        for seed in 0..20 {
            let chance = Chance::new(mixed(seed));
            let drawn = (0..20_000).filter(|_| pick(&split, |_| true, None, || chance.draw()) == Some(version(2)));
            let users = (0..20_000).map(|user| sticky_key("m", format!("{seed} user-{user}").as_bytes()));
            let keyed = users.filter(|&key| by_key(&split, key) == Some(version(2)));
            for count in [drawn.count(), keyed.count()] {
                // Five standard deviations of a binomial with p = 0.1.
                assert!(count.abs_diff(2000) < 212, "seed {seed}: {count}");
            }
        }
    }

    #[test]
    fn what_is_not_ready_gives_its_weight_to_the_others_in_proportion() {
        let split = weights(&[60.0, 30.0, 10.0]);
        let chance = Chance::new(7);
        let mut counts = [0; 3];
        for _ in 0..20_000 {
            let picked = pick(&split, |known| known != version(1), None, || chance.draw()).unwrap();
            counts[picked.number() as usize - 1] += 1;
        }
        assert_eq!(counts[0], 0);
        assert!((counts[1] as f64 / 20_000.0 - 0.75).abs() < 0.02, "{counts:?}");
        assert_eq!(pick(&split, |_| false, None, || 0.5), None);
        assert_eq!(pick(&weights(&[0.0]), |_| true, Some(1), || 0.5), None);
    }

    proptest! {
        #[test]
        fn keys_stay_while_weights_stand_and_move_only_to_or_from_the_version_whose_weight_changed(
            before in prop::collection::vec(0.0..100.0_f64, 2..6),
            changed in any::<prop::sample::Index>(),
            weight in 0.0..100.0_f64,
            keys in prop::collection::vec(any::<u64>(), 1..50),
        ) {
            let changed = changed.index(before.len());
            let mut after = before.clone();
            after[changed] = weight;
            let (before, after) = (weights(&before), weights(&after));
            for key in keys {
                let (was, is) = (by_key(&before, key), by_key(&after, key));
                prop_assert_eq!(was, by_key(&before, key));
                let touched = Some(before[changed].0);
                let grown = after[changed].1 >= before[changed].1;
                prop_assert!(was == is || if grown { is == touched } else { was == touched }, "{:?} {:?}", was, is);
            }
        }

        #[test]
        fn a_version_that_goes_moves_no_keys_but_its_own(
            split in prop::collection::vec(0.1..100.0_f64, 2..6),
            gone in any::<prop::sample::Index>(),
            keys in prop::collection::vec(any::<u64>(), 1..50),
        ) {
            let split = weights(&split);
            let gone = split[gone.index(split.len())].0;
            for key in keys {
                let was = by_key(&split, key);
                let is = pick(&split, |known| known != gone, Some(key), || 0.5);
                prop_assert!(was == is || was == Some(gone));
            }
        }

        #[test]
        fn whatever_is_picked_is_ready_and_has_a_weight(
            split in prop::collection::vec(prop_oneof![Just(0.0), 0.0..100.0_f64], 1..6),
            ready in prop::collection::vec(any::<bool>(), 6),
            key in any::<Option<u64>>(),
            chance in 0.0..=1.0_f64,
        ) {
            let split = weights(&split);
            let is_ready = |known: Version| ready[known.number() as usize - 1];
            let may = |known: Version| is_ready(known) && split.iter().any(|(v, weight)| *v == known && *weight > 0.0);
            match pick(&split, is_ready, key, || chance) {
                Some(picked) => prop_assert!(may(picked)),
                None => prop_assert!(!split.iter().any(|(known, _)| may(*known))),
            }
        }
    }
}
