//! What a look at the repositories changes: a pure function of what was taken up, of the look before and of this one.
//!
//! Only what looked the same twice is taken up, so that a version which is still being written is not loaded, and neither
//! are settings that are: between the two looks lies at least one interval, which is longer than the steps in which file
//! systems keep time, so that a write unseen by the second look lies before the load. What vanishes has to be gone twice too:
//! some writers remove before they write. Meanwhile what serves goes on.

use super::marks::Marks;

/// What to do about one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing, for now.
    Wait,
    /// Take up what is marked so.
    Take(Marks),
    /// It is gone.
    Drop,
}

/// The turn of a model of which `taken` was taken up, the look before showed `before`, and this one shows `now`.
pub(super) fn turn(taken: Option<&Marks>, before: Option<&Marks>, now: Option<&Marks>) -> Turn {
    let (before, now) = match (before, now) {
        (None, None) => return if taken.is_some() { Turn::Drop } else { Turn::Wait },
        (Some(before), Some(now)) if before.settings == now.settings => (before, now),
        _ => return Turn::Wait,
    };
    let mut next = Marks { settings: now.settings, ..Marks::default() };
    let none = Marks::default();
    let taken_versions = &taken.unwrap_or(&none).versions;
    for (version, mark) in &now.versions {
        let settled = before.versions.get(version) == Some(mark);
        // What is being written goes on as it was taken up, if it was.
        let mark = if settled { Some(mark) } else { taken_versions.get(version) };
        next.versions.extend(mark.map(|mark| (*version, *mark)));
    }
    let vanished = |version| !now.versions.contains_key(version) && before.versions.contains_key(version);
    next.versions.extend(taken_versions.iter().filter(|(version, _)| vanished(version)));
    let nothing_whole = next.versions.is_empty() && !now.versions.is_empty();
    match taken {
        Some(taken) if *taken == next => Turn::Wait,
        None if nothing_whole => Turn::Wait,
        _ => Turn::Take(next),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Version;

    fn marks(settings: u64, versions: &[(u64, u64)]) -> Marks {
        let versions = versions.iter().map(|&(version, mark)| (Version::new(version).unwrap(), mark)).collect();
        Marks { settings, versions }
    }

    #[test]
    fn a_version_is_taken_up_once_it_looked_the_same_twice() {
        let (old, half, whole) = (marks(0, &[(1, 1)]), marks(0, &[(1, 1), (2, 1)]), marks(0, &[(1, 1), (2, 2)]));
        assert_eq!(turn(Some(&old), Some(&old), Some(&half)), Turn::Wait);
        assert_eq!(turn(Some(&old), Some(&half), Some(&whole)), Turn::Wait);
        assert_eq!(turn(Some(&old), Some(&whole), Some(&whole)), Turn::Take(whole.clone()));
        assert_eq!(turn(Some(&whole), Some(&whole), Some(&whole)), Turn::Wait);
    }

    #[test]
    fn a_version_that_is_rewritten_goes_on_as_it_was_and_holds_up_no_other() {
        let (old, one) = (marks(0, &[(1, 1)]), marks(0, &[(1, 2), (2, 1)]));
        let other = marks(0, &[(1, 3), (2, 1)]);
        assert_eq!(turn(Some(&old), Some(&one), Some(&other)), Turn::Take(marks(0, &[(1, 1), (2, 1)])));
    }

    #[test]
    fn a_model_or_version_has_to_be_gone_twice() {
        let (both, one) = (marks(0, &[(1, 1), (2, 1)]), marks(0, &[(1, 1)]));
        assert_eq!(turn(Some(&both), Some(&both), Some(&one)), Turn::Wait);
        assert_eq!(turn(Some(&both), Some(&one), Some(&one)), Turn::Take(one.clone()));
        assert_eq!(turn(Some(&one), Some(&one), None), Turn::Wait);
        assert_eq!(turn(Some(&one), None, None), Turn::Drop);
        assert_eq!(turn(None, None, None), Turn::Wait);
    }

    #[test]
    fn settings_are_taken_up_once_they_looked_the_same_twice() {
        let (old, new) = (marks(0, &[(1, 1)]), marks(1, &[(1, 1)]));
        assert_eq!(turn(Some(&old), Some(&old), Some(&new)), Turn::Wait);
        assert_eq!(turn(Some(&old), Some(&new), Some(&new)), Turn::Take(new.clone()));
    }

    fn any_look() -> impl Strategy<Value = Option<Marks>> {
        let versions = prop::collection::btree_map(1_u64..4, 0_u64..3, 0..3);
        prop::option::of(
            (0_u64..2, versions)
                .prop_map(|(settings, versions)| marks(settings, &versions.into_iter().collect::<Vec<_>>())),
        )
    }

    proptest! {
        #[test]
        fn nothing_is_taken_up_that_was_not_seen_twice_and_all_that_stays_is(
            looks in prop::collection::vec(any_look(), 1..12),
            last in any_look(),
        ) {
            let (mut taken, mut before): (Option<Marks>, Option<Marks>) = (None, None);
            let repeated = [last.clone(), last.clone(), last.clone()];
            for now in looks.into_iter().chain(repeated) {
                match turn(taken.as_ref(), before.as_ref(), now.as_ref()) {
                    Turn::Wait => {}
                    Turn::Drop => {
                        prop_assert!(before.is_none() && now.is_none());
                        taken = None;
                    }
                    Turn::Take(next) => {
                        for (version, mark) in &next.versions {
                            let of = |marks: &Option<Marks>| marks.as_ref().and_then(|marks| marks.versions.get(version).copied());
                            let twice = of(&before) == Some(*mark) && of(&now) == Some(*mark);
                            prop_assert!(twice || of(&taken) == Some(*mark), "{version} {mark}");
                        }
                        taken = Some(next);
                    }
                }
                before = now;
            }
            prop_assert_eq!(taken, last);
        }
    }
}
