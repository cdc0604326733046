//! What the servers of a revision have learned to serve, and how much of the traffic that allows it: pure.

use std::collections::BTreeMap;

/// The part of a share by which it has to be able to grow before it does: what arrives is never quite the same.
const GROWTH: i32 = 10;

/// What is known of a revision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learned {
    /// Rows per second that one replica serves within the objective.
    pub each: f64,
    /// Rows per second that arrive at all of its replicas.
    pub arriving: f64,
    /// Its servers have run often enough for `each` to be known; else it is a careful guess.
    pub sure: bool,
}

/// By revision.
pub type AllLearned = BTreeMap<String, Learned>;

/// The replicas that serve `percent` of `arriving` rows per second; none where nothing arrives, or `each` is only guessed.
pub fn replicas(own: &Learned, arriving: f64, percent: i32) -> Option<i64> {
    (own.sure && own.each > 0.0 && arriving > 0.0)
        .then(|| (arriving * f64::from(percent) / 100.0 / own.each).ceil().min(1e6) as i64)
}

/// The most per cent of `arriving` rows per second that a revision with `pods` replicas may get, where it is to get `wanted` and has
/// `share` now; none where it can serve what is wanted. It shrinks at once, and grows where it is worth a change.
///
/// One that was never measured well gets one per cent at least: without requests it would stay so.
pub fn most(own: &Learned, pods: i64, arriving: f64, wanted: i32, share: i32) -> Option<i32> {
    if arriving <= 0.0 {
        return None;
    }
    let served = (100.0 * pods.max(0) as f64 * own.each.max(0.0) / arriving).floor().min(100.0) as i32;
    let served = served.max(i32::from(!own.sure && pods > 0));
    let grows = served >= share + (share / GROWTH).max(1);
    let capped = if served > share && !grows { share } else { served };
    (capped < wanted).then_some(capped)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn learned(each: f64) -> Learned {
        Learned { each, arriving: 0.0, sure: true }
    }

    #[test]
    fn a_share_is_what_the_ready_pods_serve_of_what_arrives() {
        assert_eq!(most(&learned(60.0), 2, 600.0, 50, 0), Some(20));
        assert_eq!(most(&learned(60.0), 5, 600.0, 50, 20), None);
        assert_eq!(most(&learned(60.0), 0, 600.0, 50, 20), Some(0));
        assert_eq!(most(&learned(60.0), 1, 0.0, 50, 0), None, "nothing arrives");
        assert_eq!(replicas(&learned(60.0), 600.0, 50), Some(5));
        assert_eq!(replicas(&learned(60.0), 601.0, 50), Some(6));
    }

    #[test]
    fn a_share_shrinks_at_once_and_grows_by_what_is_worth_a_change() {
        assert_eq!(most(&learned(60.0), 2, 650.0, 50, 20), Some(18));
        assert_eq!(most(&learned(60.0), 2, 550.0, 50, 20), Some(20), "21 would be no news");
        assert_eq!(most(&learned(60.0), 2, 480.0, 50, 20), Some(25));
    }

    #[test]
    fn what_is_only_guessed_gets_a_little_to_be_measured_by_and_orders_no_replicas() {
        let guessed = Learned { sure: false, ..learned(0.1) };
        assert_eq!(most(&guessed, 1, 1000.0, 50, 0), Some(1));
        assert_eq!(most(&guessed, 0, 1000.0, 50, 0), Some(0));
        assert_eq!(replicas(&guessed, 1000.0, 50), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nobody_gets_more_than_is_served_or_wanted_and_it_comes_to_rest(
            each in 0.0..1e3_f64, pods in 0..50_i64, arriving in 0.0..1e5_f64, wanted in 0..=100_i32, share in 0..=100_i32,
        ) {
            let own = learned(each);
            let found = most(&own, pods, arriving, wanted, share);
            let gets = found.unwrap_or(wanted);
            prop_assert!((0..=wanted).contains(&gets));
            prop_assert!(gets == 0 || f64::from(gets) / 100.0 * arriving <= pods as f64 * each * (1.0 + 1e-9) + 1e-9);
            prop_assert_eq!(most(&own, pods, arriving, wanted, gets).unwrap_or(wanted), gets);
        }
    }
}
