//! What the servers of scaled revisions have learned, as plans are made with it: kept as it is until it has changed by more than noise,
//! so that a share that is held to what can be served does not change each second.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::plan::learned::{AllLearned, Learned};
use crate::run::queue::Key;

/// The share of a number by which another has to differ to be news: what arrives within half a minute varies by as much.
const NEWS: f64 = 0.1;

/// By service.
#[derive(Debug, Default)]
pub struct Learnings {
    told: Mutex<BTreeMap<Key, AllLearned>>,
}

impl Learnings {
    /// What is known of a service's revisions.
    pub fn of(&self, service: &Key) -> Option<AllLearned> {
        self.lock().get(service).cloned()
    }

    /// Takes in what is known now; gives the services whose plans may look different by it, which are those with several revisions.
    pub fn tell(&self, all: BTreeMap<Key, AllLearned>) -> Vec<Key> {
        let mut told = self.lock();
        let mut touched = Vec::new();
        told.retain(|service, _| all.contains_key(service));
        for (service, mut now) in all {
            let before = told.entry(service.clone()).or_default();
            let names_differ = before.len() != now.len() || before.keys().any(|name| !now.contains_key(name));
            let mut news = names_differ;
            for (name, own) in &mut now {
                match before.get(name) {
                    Some(kept) if !differs(kept, own) => *own = *kept,
                    _ => news = true,
                }
            }
            if news && now.len().max(before.len()) > 1 {
                touched.push(service);
            }
            *before = now;
        }
        touched
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, AllLearned>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn differs(kept: &Learned, own: &Learned) -> bool {
    let far = |kept: f64, now: f64| (now - kept).abs() > NEWS * kept.abs().max(now.abs());
    kept.sure != own.sure || far(kept.each, own.each) || far(kept.arriving, own.arriving)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(revisions: &[(&str, f64)]) -> BTreeMap<Key, AllLearned> {
        let own = |(name, arriving): &(&str, f64)| {
            ((*name).to_owned(), Learned { each: 10.0, arriving: *arriving, sure: true })
        };
        [(("ns".to_owned(), "iris".to_owned()), revisions.iter().map(own).collect())].into()
    }

    #[test]
    fn a_service_is_looked_at_when_one_of_several_revisions_has_changed_by_more_than_noise() {
        let (learnings, key) = (Learnings::default(), ("ns".to_owned(), "iris".to_owned()));
        let looked_at = [key.clone()];
        assert_eq!(learnings.tell(told(&[("a", 100.0)])), [], "a revision alone has nobody to share with");
        assert_eq!(learnings.tell(told(&[("a", 500.0)])), []);
        assert_eq!(learnings.tell(told(&[("a", 500.0), ("b", 0.0)])), looked_at);
        assert_eq!(learnings.tell(told(&[("a", 540.0), ("b", 0.0)])), []);
        assert_eq!(learnings.of(&key).unwrap()["a"].arriving, 500.0);
        assert_eq!(learnings.tell(told(&[("a", 560.0), ("b", 0.0)])), looked_at);
        assert_eq!(learnings.tell(told(&[("a", 560.0)])), looked_at);
        assert_eq!(learnings.tell(BTreeMap::new()), []);
        assert_eq!(learnings.of(&key), None);
    }
}
