//! Who gets how much of the traffic: pure, from what is wanted and what can take requests.

/// What is known about a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its pods can take requests.
    pub available: bool,
    /// It has pods enough for the share that it is to get.
    pub enough: bool,
    /// What it got of the traffic until now.
    pub share: i32,
    /// The most that its pods can serve, where that is known and less than it is to get.
    pub most: Option<i32>,
}

impl Candidate {
    /// As much of a canary's share as its pods can serve.
    fn bounded(&self, share: i32) -> i32 {
        share.min(self.most.unwrap_or(100))
    }
}

/// What the spec and the last status say about a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The newest revision.
    pub latest: Candidate,
    /// The last revision that had all the traffic, if it is still kept.
    pub rolled_out: Option<Candidate>,
    /// The one before that, if it is still kept.
    pub previous: Option<Candidate>,
    /// `canaryTrafficPercent`.
    pub percent: Option<i32>,
    /// `spec.canary`: each canary's newest revision and its share.
    pub canaries: Vec<(Candidate, i32)>,
}

/// The outcome. `shares` adds up to 100, and names nobody twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// By revision; 0 for one that is kept warm without traffic.
    pub shares: Vec<(String, i32)>,
    /// The one that has rolled out, from now on.
    pub rolled_out: Option<String>,
    /// The one before it.
    pub previous: Option<String>,
}

impl Split {
    /// What a revision gets.
    pub fn share(&self, revision: &str) -> i32 {
        self.shares.iter().find(|(name, _)| name == revision).map_or(0, |(_, share)| *share)
    }
}

/// Splits the traffic as KServe's Knative mode does by `canaryTrafficPercent`, and as its Standard mode does by `spec.canary`.
///
/// A revision that cannot take requests gets none while another can, a new one takes over only when it is ready, and what a
/// canary cannot take returns to the stable revision.
pub fn split(wanted: &Wanted) -> Split {
    let latest = &wanted.latest;
    let percent = wanted.percent.unwrap_or(100).clamp(0, 100);
    let mut rolled_out = wanted.rolled_out.clone();
    let previous = wanted.previous.clone();
    if percent < 100
        && rolled_out.as_ref().is_none_or(|rolled| rolled.name == latest.name)
        && previous.as_ref().is_some_and(|previous| previous.name != latest.name)
    {
        // A share for what has rolled out already: back to the revision before it, beside this one.
        rolled_out = previous.clone();
    }
    let Some(rolled) = rolled_out.filter(|rolled| rolled.name != latest.name) else {
        let done = latest.available || wanted.rolled_out.is_some();
        let previous = previous.filter(|previous| previous.name != latest.name).map(|previous| previous.name);
        let stable = vec![(latest.clone(), 100)];
        return Split {
            shares: beside_canaries(stable, &wanted.canaries),
            rolled_out: done.then(|| latest.name.clone()),
            previous,
        };
    };
    let serves = latest.available && (percent > 0 || latest.share > 0);
    let share = match (serves, rolled.available) {
        (false, _) => 0,
        (true, false) => 100,
        // More only when there are pods for more; until then as much as it had. Beside another never more than these can serve.
        (true, true) if percent == 100 => {
            if latest.enough {
                100
            } else {
                latest.share
            }
        }
        (true, true) if latest.enough || latest.share >= percent => latest.bounded(percent),
        (true, true) => latest.bounded(latest.share),
    };
    if percent == 100 && share == 100 {
        let stable = vec![(latest.clone(), 100)];
        let shares = beside_canaries(stable, &wanted.canaries);
        return Split { shares, rolled_out: Some(latest.name.clone()), previous: Some(rolled.name) };
    }
    let stable = match (percent, share) {
        (100, 0) => vec![(rolled.clone(), 100)],
        _ => vec![(latest.clone(), share), (rolled.clone(), 100 - share)],
    };
    Split { shares: beside_canaries(stable, &wanted.canaries), rolled_out: Some(rolled.name), previous: name(previous) }
}

fn name(candidate: Option<Candidate>) -> Option<String> {
    candidate.map(|candidate| candidate.name)
}

/// Canaries that are ready get their shares, the stable revisions what is left; where none of these can take requests, canaries get
/// all.
fn beside_canaries(stable: Vec<(Candidate, i32)>, canaries: &[(Candidate, i32)]) -> Vec<(String, i32)> {
    let others: Vec<&(Candidate, i32)> =
        canaries.iter().filter(|(canary, _)| stable.iter().all(|(own, _)| own.name != canary.name)).collect();
    let wants: Vec<i32> =
        others.iter().map(|(canary, share)| if canary.available { canary.bounded(*share) } else { 0 }).collect();
    let to_canaries = wants.iter().sum::<i32>().min(100);
    let stable_serves = stable.iter().any(|(own, share)| *share > 0 && own.available);
    let to_canaries = if stable_serves || to_canaries == 0 { to_canaries } else { 100 };
    let of_stable: Vec<i32> = stable.iter().map(|(_, share)| *share).collect();
    let shares = divide(100 - to_canaries, &of_stable).into_iter().chain(divide(to_canaries, &wants));
    let names = stable.iter().chain(others).map(|(candidate, _)| candidate.name.clone());
    names.zip(shares).collect()
}

/// Divides a whole in proportion to `parts`, the remainder to the largest.
fn divide(whole: i32, parts: &[i32]) -> Vec<i32> {
    let sum: i32 = parts.iter().sum();
    if sum == 0 {
        return vec![0; parts.len()];
    }
    let mut shares: Vec<i32> = parts.iter().map(|part| part * whole / sum).collect();
    let rest = whole - shares.iter().sum::<i32>();
    let largest = (0..parts.len()).max_by_key(|index| parts[*index]).unwrap_or(0);
    shares[largest] += rest;
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(name: &str, available: bool, share: i32) -> Candidate {
        Candidate { name: name.into(), available, enough: available, share, most: None }
    }

    fn wanted(latest: Candidate, rolled: Option<Candidate>, percent: Option<i32>) -> Wanted {
        Wanted { latest, rolled_out: rolled, previous: None, percent, canaries: Vec::new() }
    }

    #[test]
    fn the_first_revision_gets_everything_and_rolls_out_when_it_is_ready() {
        let first = split(&wanted(candidate("a", false, 0), None, Some(10)));
        assert_eq!((first.share("a"), first.rolled_out), (100, None));
        assert_eq!(split(&wanted(candidate("a", true, 100), None, None)).rolled_out.as_deref(), Some("a"));
    }

    #[test]
    fn a_new_revision_takes_over_only_when_it_is_ready() {
        let old = Some(candidate("a", true, 100));
        assert_eq!(split(&wanted(candidate("b", false, 0), old.clone(), None)).share("a"), 100);
        let done = split(&wanted(candidate("b", true, 0), old, None));
        assert_eq!(done.share("b"), 100);
        assert_eq!((done.rolled_out.as_deref(), done.previous.as_deref()), (Some("b"), Some("a")));
    }

    #[test]
    fn a_revision_gets_more_only_when_it_has_pods_for_more() {
        let old = Some(candidate("a", true, 90));
        let small = Candidate { enough: false, ..candidate("b", true, 10) };
        assert_eq!(split(&wanted(small.clone(), old.clone(), None)).share("b"), 10);
        assert_eq!(split(&wanted(small.clone(), old.clone(), Some(50))).share("b"), 10);
        assert_eq!(split(&wanted(small.clone(), old, Some(5))).share("b"), 5);
        assert_eq!(split(&wanted(small, Some(candidate("a", false, 90)), None)).share("b"), 100);
    }

    #[test]
    fn a_canary_gets_as_much_as_its_pods_can_serve_and_the_stable_revision_the_rest() {
        let old = Some(candidate("a", true, 90));
        let small = Candidate { most: Some(4), ..candidate("b", true, 10) };
        assert_eq!(split(&wanted(small.clone(), old.clone(), Some(10))).shares, [("b".into(), 4), ("a".into(), 96)]);
        // One that takes over is held until it has pods enough, and one that is all there is takes all.
        assert_eq!(split(&wanted(small.clone(), old, None)).share("b"), 100);
        assert_eq!(split(&wanted(small.clone(), Some(candidate("a", false, 90)), Some(10))).share("b"), 100);
        let mut listed = wanted(candidate("a", true, 90), Some(candidate("a", true, 90)), None);
        listed.canaries = vec![(Candidate { name: "c".into(), ..small }, 10)];
        assert_eq!(split(&listed).shares, [("a".into(), 96), ("c".into(), 4)]);
    }

    #[test]
    fn a_canary_that_is_not_ready_leaves_its_share_to_the_stable_revision() {
        let old = Some(candidate("a", true, 90));
        assert_eq!(split(&wanted(candidate("b", true, 10), old.clone(), Some(10))).share("b"), 10);
        assert_eq!(split(&wanted(candidate("b", false, 10), old, Some(10))).share("a"), 100);
    }

    #[test]
    fn a_rollback_waits_until_the_revision_that_it_goes_back_to_is_ready() {
        let down = Some(candidate("a", false, 0));
        assert_eq!(split(&wanted(candidate("b", true, 100), down, Some(0))).share("b"), 100);
        let up = Some(candidate("a", true, 0));
        assert_eq!(split(&wanted(candidate("b", true, 100), up, Some(0))).share("a"), 100);
        // One that never had any is not woken by a stable revision that fails.
        let failing = Some(candidate("a", false, 100));
        assert_eq!(split(&wanted(candidate("b", true, 0), failing, Some(0))).share("a"), 100);
    }

    #[test]
    fn a_share_for_what_has_rolled_out_brings_the_revision_before_it_back() {
        let mut wanted = wanted(candidate("b", true, 100), Some(candidate("b", true, 100)), Some(20));
        wanted.previous = Some(candidate("a", true, 0));
        let split = split(&wanted);
        assert_eq!((split.share("a"), split.share("b"), split.rolled_out.as_deref()), (80, 20, Some("a")));
    }

    fn any_candidate(name: &'static str) -> impl Strategy<Value = Candidate> {
        let most = prop::option::of(0..=100);
        (any::<bool>(), any::<bool>(), 0..=100, most).prop_map(move |(available, enough, share, most)| Candidate {
            enough: available && enough,
            most,
            ..candidate(name, available, share)
        })
    }

    fn any_wanted() -> impl Strategy<Value = Wanted> {
        let rolled = prop_oneof![Just(None), any_candidate("a").prop_map(Some), any_candidate("b").prop_map(Some)];
        let previous = prop_oneof![Just(None), any_candidate("p").prop_map(Some), any_candidate("b").prop_map(Some)];
        let canaries = prop_oneof![
            Just(Vec::new()),
            (any_candidate("c1"), any_candidate("c2"), 0..=60, 0..=40)
                .prop_map(|(one, two, share, other)| vec![(one, share), (two, other)]),
        ];
        (any_candidate("b"), rolled, previous, prop::option::of(0..=100), canaries).prop_map(
            |(latest, rolled_out, previous, percent, canaries)| {
                // The API lets only one of the two be stated.
                let percent = if canaries.is_empty() { percent } else { None };
                Wanted { latest, rolled_out, previous, percent, canaries }
            },
        )
    }

    proptest! {
        #[test]
        fn shares_add_up_to_a_hundred_and_name_nobody_twice(wanted in any_wanted()) {
            let split = split(&wanted);
            prop_assert_eq!(split.shares.iter().map(|(_, share)| share).sum::<i32>(), 100);
            let mut names: Vec<_> = split.shares.iter().map(|(name, _)| name).collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), split.shares.len());
            prop_assert!(split.shares.iter().all(|(_, share)| *share >= 0));
        }

        #[test]
        fn nobody_who_cannot_take_requests_gets_any_while_another_with_a_share_can(wanted in any_wanted()) {
            let split = split(&wanted);
            let known: Vec<&Candidate> = [Some(&wanted.latest), wanted.rolled_out.as_ref(), wanted.previous.as_ref()]
                .into_iter().flatten().chain(wanted.canaries.iter().map(|(canary, _)| canary)).collect();
            // Names are told apart in `any_wanted`, but the same revision may play two parts: then take any of them.
            let available = |name: &str| known.iter().any(|own| own.name == name && own.available);
            let some_can = split.shares.iter().any(|(name, share)| *share > 0 && available(name));
            if some_can {
                for (name, share) in &split.shares {
                    prop_assert!(*share == 0 || available(name), "{} gets {} and cannot take it", name, share);
                }
            }
        }

        #[test]
        fn a_canary_never_gets_more_than_its_pods_can_serve_while_the_stable_revision_serves(wanted in any_wanted()) {
            let split = split(&wanted);
            let share = |own: &Candidate| own.available && split.share(&own.name) > 0;
            let stable = split.rolled_out.as_deref().unwrap_or("");
            let serves = [&wanted.rolled_out, &wanted.previous].into_iter().flatten()
                .any(|own| own.name == stable && share(own)) || (stable == "b" && share(&wanted.latest));
            if !serves {
                return Ok(());
            }
            let latest = Some(&wanted.latest).filter(|own| own.name != stable && wanted.percent.is_some_and(|own| own < 100));
            for own in latest.into_iter().chain(wanted.canaries.iter().map(|(canary, _)| canary)) {
                let most = own.most.unwrap_or(100);
                prop_assert!(split.share(&own.name) <= most, "{} gets {} of {}", own.name, split.share(&own.name), most);
            }
        }

        #[test]
        fn a_split_of_a_split_is_the_same(wanted in any_wanted()) {
            let first = split(&wanted);
            let find = |name: &Option<String>| name.as_ref().map(|name| {
                let all = [Some(&wanted.latest), wanted.rolled_out.as_ref(), wanted.previous.as_ref()];
                let available = all.into_iter().flatten().find(|own| own.name == *name).is_some_and(|own| own.available);
                candidate(name, available, first.share(name))
            });
            let mut again = wanted.clone();
            again.latest.share = first.share(&again.latest.name);
            again.rolled_out = find(&first.rolled_out);
            again.previous = find(&first.previous);
            let second = split(&again);
            prop_assert_eq!(&second.rolled_out, &first.rolled_out);
        }
    }
}
