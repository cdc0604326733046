//! The services that are to be looked at: each at most once, never two at a time for one, the failing ones later and later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Namespace and name of an InferenceService, or of an InferenceGraph in the queue of those.
pub type Key = (String, String);

/// After the first failure in a row.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// However often it failed: what a person mends meanwhile is seen by its own event.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Changes that come together, such as those of one apply, are one look.
const SETTLE: Duration = Duration::from_millis(50);

/// A queue for each kind of what users write.
#[derive(Debug, Default)]
pub struct Queues {
    /// InferenceServices.
    pub services: Queue,
    /// InferenceGraphs.
    pub graphs: Queue,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    due: BTreeMap<Key, Instant>,
    running: BTreeSet<Key>,
    failures: BTreeMap<Key, u32>,
}

impl Queue {
    /// Something about the service has changed.
    pub fn touch(&self, key: Key) {
        self.at(key, Instant::now() + SETTLE);
    }

    /// Looks again after `delay`, if nothing has it looked at earlier.
    pub fn after(&self, key: Key, delay: Duration) {
        self.at(key, Instant::now() + delay);
    }

    /// It failed; looks again after a while that doubles with each failure in a row. Gives that while.
    pub fn failed(&self, key: Key) -> Duration {
        let delay = {
            let mut state = self.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            let delay = RETRY_FIRST.saturating_mul(1 << (*failures).min(16)).min(RETRY_MAX);
            *failures += 1;
            delay
        };
        self.after(key, delay);
        delay
    }

    /// It went well.
    pub fn succeeded(&self, key: &Key) {
        self.lock().failures.remove(key);
    }

    /// Nobody works on it any more.
    pub fn finished(&self, key: &Key) {
        self.lock().running.remove(key);
        self.changed.notify_one();
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().due.len()
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next that is due, once it is. Call [`Queue::finished`] when done with it.
    pub async fn next(&self) -> Key {
        loop {
            let changed = self.changed.notified();
            let soonest = {
                let mut state = self.lock();
                let now = Instant::now();
                let free = state.due.iter().filter(|(key, _)| !state.running.contains(*key));
                let soonest = free.min_by_key(|(_, at)| **at).map(|(key, at)| (key.clone(), *at));
                if let Some((key, at)) = &soonest
                    && *at <= now
                {
                    state.due.remove(key);
                    state.running.insert(key.clone());
                    return key.clone();
                }
                soonest
            };
            match soonest {
                Some((_, at)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = changed => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    fn at(&self, key: Key, at: Instant) {
        self.lock().due.entry(key).and_modify(|own| *own = (*own).min(at)).or_insert(at);
        self.changed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("ns".into(), name.into())
    }

    #[tokio::test(start_paused = true)]
    async fn changes_that_come_together_are_one_look_and_one_service_is_never_looked_at_twice_at_a_time() {
        let queue = Queue::default();
        queue.touch(key("a"));
        queue.touch(key("a"));
        assert_eq!(queue.next().await, key("a"));
        assert!(queue.is_empty());
        queue.touch(key("a"));
        queue.touch(key("b"));
        assert_eq!(queue.next().await, key("b"));
        queue.finished(&key("a"));
        assert_eq!(queue.next().await, key("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_fails_waits_longer_each_time_and_starts_anew_when_it_has_gone_well() {
        let queue = Queue::default();
        assert_eq!(queue.failed(key("a")), RETRY_FIRST);
        assert_eq!(queue.failed(key("a")), RETRY_FIRST * 2);
        (0..20).for_each(|_| assert!(queue.failed(key("a")) <= RETRY_MAX));
        queue.succeeded(&key("a"));
        assert_eq!(queue.failed(key("a")), RETRY_FIRST);
    }
}
