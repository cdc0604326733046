//! What to load and unload next: a pure function of what is wanted and what there is.
//!
//! Availability first (TensorFlow Serving's availability-preserving policy): a version goes only when every version of its
//! model that is wanted has been loaded or has failed, and never if that would leave the model unserved while it is wanted.
//! The function is idempotent: the same snapshots give the same actions, and applying them all ends in no action.

use std::collections::BTreeMap;

use crate::model::{ModelName, Version};

/// A version of a model.
pub type Id = (ModelName, Version);

/// Identifies what is on disk for a version: it changes when files or settings do.
pub type Fingerprint = u64;

/// What a version is doing, as far as the decision goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Being loaded from these files.
    Loading(Fingerprint),
    /// Serving from these files.
    Ready(Fingerprint),
    /// Ready to serve from these files, and not in memory.
    PagedOut(Fingerprint),
    /// These files were tried and failed; where an earlier load still serves, from those.
    Failed(Fingerprint, Option<Fingerprint>),
    /// On its way out.
    Unloading,
}

impl Phase {
    /// Whether requests are answered.
    pub(super) fn serves(&self) -> bool {
        matches!(self, Phase::Ready(_) | Phase::PagedOut(_) | Phase::Failed(_, Some(_)))
    }
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Load this version, in place of what it serves from now, if anything.
    Load(Id),
    /// Take this version out of service.
    Unload(Id),
}

/// The versions of `model` in a table of all.
pub(super) fn versions_of<'a, T>(
    all: &'a BTreeMap<Id, T>,
    model: &'a ModelName,
) -> impl Iterator<Item = (&'a Id, &'a T)> {
    all.range((model.clone(), Version::ONE)..).take_while(move |((name, _), _)| name == model)
}

/// The steps that can be taken now.
pub fn next_actions(wanted: &BTreeMap<Id, Fingerprint>, actual: &BTreeMap<Id, Phase>) -> Vec<Action> {
    actions(wanted.iter(), actual.iter(), wanted, actual)
}

/// Those of them that are about `model`: all, where nothing is new of the others. It takes as long however many those are.
pub fn next_actions_of(
    model: &ModelName,
    wanted: &BTreeMap<Id, Fingerprint>,
    actual: &BTreeMap<Id, Phase>,
) -> Vec<Action> {
    actions(versions_of(wanted, model), versions_of(actual, model), wanted, actual)
}

/// The steps about some of what is wanted and of what there is.
fn actions<'a>(
    of_wanted: impl Iterator<Item = (&'a Id, &'a Fingerprint)>,
    of_actual: impl Iterator<Item = (&'a Id, &'a Phase)>,
    wanted: &BTreeMap<Id, Fingerprint>,
    actual: &BTreeMap<Id, Phase>,
) -> Vec<Action> {
    let load = |(id, &fingerprint): (&Id, &Fingerprint)| {
        let tried = match actual.get(id) {
            None => false,
            // One thing at a time for each version: what comes next is decided when this has ended.
            Some(Phase::Loading(_) | Phase::Unloading) => true,
            Some(Phase::Ready(loaded) | Phase::PagedOut(loaded) | Phase::Failed(loaded, _)) => *loaded == fingerprint,
        };
        (!tried).then(|| Action::Load(id.clone()))
    };
    let unload = |(id, phase): (&Id, &Phase)| {
        (phase.serves() && !wanted.contains_key(id) && may_go(&id.0, wanted, actual))
            .then(|| Action::Unload(id.clone()))
    };
    of_wanted.filter_map(load).chain(of_actual.filter_map(unload)).collect()
}

/// Whether a version of `model` that is no longer wanted may go: nothing of the model is wanted, or all that is wanted has
/// been tried and something of it serves.
fn may_go(model: &ModelName, wanted: &BTreeMap<Id, Fingerprint>, actual: &BTreeMap<Id, Phase>) -> bool {
    let of_model = || versions_of(wanted, model);
    if of_model().next().is_none() {
        return true;
    }
    let tried = |(id, fingerprint): (&Id, &Fingerprint)| match actual.get(id) {
        Some(Phase::Ready(loaded) | Phase::PagedOut(loaded) | Phase::Failed(loaded, _)) => loaded == fingerprint,
        _ => false,
    };
    let serves = |(id, _): (&Id, &Fingerprint)| actual.get(id).is_some_and(Phase::serves);
    of_model().all(tried) && of_model().any(serves)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(version: u64) -> Id {
        (ModelName::new("m"), Version::new(version).unwrap())
    }

    fn wanted(versions: &[(u64, Fingerprint)]) -> BTreeMap<Id, Fingerprint> {
        versions.iter().map(|&(version, fingerprint)| (id(version), fingerprint)).collect()
    }

    fn actual(versions: &[(u64, Phase)]) -> BTreeMap<Id, Phase> {
        versions.iter().map(|&(version, phase)| (id(version), phase)).collect()
    }

    #[test]
    fn what_is_wanted_is_loaded_once() {
        assert_eq!(next_actions(&wanted(&[(1, 7)]), &actual(&[])), [Action::Load(id(1))]);
        assert_eq!(next_actions(&wanted(&[(1, 7)]), &actual(&[(1, Phase::Loading(7))])), []);
        assert_eq!(next_actions(&wanted(&[(1, 7)]), &actual(&[(1, Phase::Ready(7))])), []);
        assert_eq!(next_actions(&wanted(&[(1, 7)]), &actual(&[(1, Phase::Failed(7, None))])), []);
    }

    #[test]
    fn changed_files_are_loaded_anew() {
        assert_eq!(next_actions(&wanted(&[(1, 8)]), &actual(&[(1, Phase::Ready(7))])), [Action::Load(id(1))]);
        assert_eq!(next_actions(&wanted(&[(1, 8)]), &actual(&[(1, Phase::Failed(7, None))])), [Action::Load(id(1))]);
    }

    #[test]
    fn the_old_version_serves_until_the_new_one_does() {
        let want = wanted(&[(2, 7)]);
        assert_eq!(next_actions(&want, &actual(&[(1, Phase::Ready(7))])), [Action::Load(id(2))]);
        assert_eq!(next_actions(&want, &actual(&[(1, Phase::Ready(7)), (2, Phase::Loading(7))])), []);
        let both = actual(&[(1, Phase::Ready(7)), (2, Phase::Ready(7))]);
        assert_eq!(next_actions(&want, &both), [Action::Unload(id(1))]);
    }

    #[test]
    fn a_new_version_that_fails_leaves_the_old_one_serving() {
        let failed = actual(&[(1, Phase::Ready(7)), (2, Phase::Failed(7, None))]);
        assert_eq!(next_actions(&wanted(&[(2, 7)]), &failed), []);
    }

    #[test]
    fn what_nobody_wants_goes() {
        assert_eq!(next_actions(&wanted(&[]), &actual(&[(1, Phase::Ready(7))])), [Action::Unload(id(1))]);
    }

    #[test]
    fn the_steps_about_one_model_are_those_of_all_that_are_about_it() {
        let id = |(name, version): (u8, u64)| (ModelName::new(format!("m{name}")), Version::new(version).unwrap());
        let ids = (0..4).flat_map(|name| (1..4).map(move |version| (name, version)));
        // Of the last model nothing is wanted, of the others two versions; every other version is there.
        let is_wanted = |(name, version): &(u8, u64)| *name != 3 && *version != 3;
        let want: BTreeMap<Id, Fingerprint> = ids.clone().filter(is_wanted).map(|one| (id(one), 7)).collect();
        let have =
            ids.enumerate().filter(|(place, _)| place % 2 == 0).map(|(_, one)| (id(one), Phase::Ready(7))).collect();
        let all = next_actions(&want, &have);
        let about = |action: &Action| match action {
            Action::Load(id) | Action::Unload(id) => id.0.clone(),
        };
        let unloads = all.iter().filter(|action| matches!(action, Action::Unload(_))).count();
        assert_eq!((all.len(), unloads), (4, 1), "{all:?}");
        for name in ["m0", "m1", "m2", "m3", "m"].map(ModelName::new) {
            let own: Vec<Action> = all.iter().filter(|action| about(action) == name).cloned().collect();
            assert_eq!(next_actions_of(&name, &want, &have), own);
        }
    }

    fn phase() -> impl Strategy<Value = Phase> {
        prop_oneof![
            (0_u64..3).prop_map(Phase::Loading),
            (0_u64..3).prop_map(Phase::Ready),
            (0_u64..3).prop_map(Phase::PagedOut),
            (0_u64..3, prop::option::of(0_u64..3)).prop_map(|(tried, serves)| Phase::Failed(tried, serves)),
            Just(Phase::Unloading),
        ]
    }

    /// Applies one action, successfully or not.
    fn apply(action: &Action, succeeds: bool, wanted: &BTreeMap<Id, Fingerprint>, actual: &mut BTreeMap<Id, Phase>) {
        match action {
            Action::Unload(id) => drop(actual.remove(id)),
            Action::Load(id) => {
                let serves = match actual.get(id) {
                    Some(Phase::Ready(serving) | Phase::PagedOut(serving) | Phase::Failed(_, Some(serving))) => {
                        Some(*serving)
                    }
                    _ => None,
                };
                let outcome = if succeeds { Phase::Ready(wanted[id]) } else { Phase::Failed(wanted[id], serves) };
                actual.insert(id.clone(), outcome);
            }
        }
    }

    proptest! {
        #[test]
        fn a_wanted_model_that_serves_is_never_left_unserved_and_the_steps_end(
            want in prop::collection::btree_map(1_u64..5, 0_u64..3, 1..4),
            have in prop::collection::btree_map(1_u64..5, phase(), 0..4),
            outcomes in prop::collection::vec(any::<bool>(), 64),
        ) {
            let want: BTreeMap<Id, Fingerprint> = want.into_iter().map(|(v, f)| (id(v), f)).collect();
            let mut have: BTreeMap<Id, Phase> = have.into_iter().map(|(v, p)| (id(v), p)).collect();
            let serves = |have: &BTreeMap<Id, Phase>| have.values().any(Phase::serves);
            let mut outcomes = outcomes.into_iter();
            for _ in 0..16 {
                let actions = next_actions(&want, &have);
                for action in &actions {
                    let served = serves(&have);
                    apply(action, outcomes.next().unwrap_or(true), &want, &mut have);
                    prop_assert!(!served || serves(&have), "{action:?} left the model unserved");
                }
                // What was in progress ends well.
                for (known, phase) in have.clone() {
                    match phase {
                        Phase::Loading(f) => drop(have.insert(known, Phase::Ready(f))),
                        Phase::Unloading => drop(have.remove(&known)),
                        _ => {}
                    }
                }
            }
            prop_assert_eq!(next_actions(&want, &have), []);
        }
    }
}
