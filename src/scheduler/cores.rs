//! The machine's cores as one resource of all models.
//!
//! A batch that runs on a thread of its own takes as many cores as it has threads, and gives them back when it ends. While
//! there are enough, nobody notices. When models compete, a core that comes free goes to the request that is due first,
//! among the models that have had no more than their share; models that have had more wait for the others. A share is
//! measured in core-seconds actually used, divided by the model's weight (start-time fair queueing, Goyal et al., SIGCOMM
//! 1996, with measured service instead of announced one). Whoever was idle has saved up nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// A model may be this many core-seconds ahead of another before deadlines give way to shares: some batches of tens of
/// milliseconds, so that a short burst is served by its deadlines alone.
const QUANTUM: f64 = 0.1;

/// Who has which cores: decisions only, without time or tasks.
#[derive(Debug)]
pub struct Ledger {
    free: usize,
    total: usize,
    accounts: Slab<Account>,
    /// Core-seconds of all batches that have ended.
    used: f64,
}

#[derive(Debug)]
struct Account {
    weight: f64,
    /// Core-seconds used, over the weight.
    spent: f64,
    /// Cores wanted, and when the request is due that they are wanted for.
    wish: Option<(usize, Instant)>,
    /// Cores that a wish was granted and that are not yet taken.
    granted: usize,
    /// Cores in use.
    taken: usize,
}

impl Ledger {
    /// A ledger over `total` cores, at least one.
    pub fn new(total: usize) -> Self {
        let total = total.max(1);
        Self { free: total, total, accounts: Slab::new(), used: 0.0 }
    }

    /// Opens an account. Shares are in proportion to `weight`, which is above zero.
    pub fn open(&mut self, weight: f64) -> usize {
        let spent = self.least_spent();
        self.accounts.insert(Account { weight, spent, wish: None, granted: 0, taken: 0 })
    }

    /// Closes an account; what it holds comes free. Gives the accounts that cores were granted to.
    pub fn close(&mut self, account: usize) -> Vec<usize> {
        let Account { granted, taken, .. } = self.accounts.remove(account);
        self.free += granted + taken;
        self.grant()
    }

    /// Takes `cores` cores if they are there and nobody has a better claim. What is more than the machine has counts as all
    /// of it.
    pub fn take(&mut self, account: usize, cores: usize) -> bool {
        let cores = cores.min(self.total);
        let wanted = self.accounts.iter().any(|(other, known)| other != account && known.wish.is_some());
        let least = self.least_spent();
        let Some(known) = self.accounts.get_mut(account) else { return false };
        if known.granted >= cores {
            self.free += known.granted - cores;
            known.granted = 0;
        } else if !wanted && self.free + known.granted >= cores {
            self.free = self.free + known.granted - cores;
            known.granted = 0;
        } else {
            return false;
        }
        if known.taken == 0 {
            // Whoever was idle starts level with those who were not.
            known.spent = known.spent.max(least);
        }
        known.taken += cores;
        known.wish = None;
        true
    }

    /// Asks for `cores` cores, for a request that is due at `due`. Gives the accounts that cores were granted to.
    pub fn wish(&mut self, account: usize, cores: usize, due: Instant) -> Vec<usize> {
        let (cores, least) = (cores.min(self.total), self.least_spent());
        if let Some(known) = self.accounts.get_mut(account).filter(|known| known.granted == 0) {
            if known.wish.is_none() && known.taken == 0 {
                known.spent = known.spent.max(least);
            }
            known.wish = Some((cores, due));
        }
        self.grant()
    }

    /// Nothing is wanted any more; what was granted and not taken goes to others. Gives the accounts that it was granted to.
    pub fn renounce(&mut self, account: usize) -> Vec<usize> {
        let Some(known) = self.accounts.get_mut(account) else { return Vec::new() };
        if known.wish.take().is_none() && known.granted == 0 {
            return Vec::new();
        }
        self.free += std::mem::take(&mut known.granted);
        self.grant()
    }

    /// Gives `cores` cores back that were used for `used`. Gives the accounts that cores were granted to.
    pub fn give_back(&mut self, account: usize, cores: usize, used: Duration) -> Vec<usize> {
        let cores = cores.min(self.total);
        if let Some(known) = self.accounts.get_mut(account) {
            known.taken -= cores.min(known.taken);
            let used = used.as_secs_f64() * cores as f64;
            known.spent += used / known.weight;
            self.used += used;
            self.free += cores;
        }
        self.grant()
    }

    /// Gives free cores to wishes, the best claim first. A wish for more than is free keeps others from what is: it would
    /// wait for ever behind small ones.
    fn grant(&mut self) -> Vec<usize> {
        let mut granted = Vec::new();
        while let Some((account, cores)) = self.best_claim().filter(|&(_, cores)| cores <= self.free) {
            self.free -= cores;
            let known = &mut self.accounts[account];
            (known.granted, known.wish) = (cores, None);
            granted.push(account);
        }
        granted
    }

    fn best_claim(&self) -> Option<(usize, usize)> {
        let wishes = || self.accounts.iter().filter_map(|(account, known)| Some((account, known, known.wish?)));
        let least = wishes().map(|(_, known, _)| known.spent).fold(f64::INFINITY, f64::min);
        let fair = wishes().filter(|(_, known, _)| known.spent <= least + QUANTUM);
        fair.min_by_key(|(_, _, (_, due))| *due).map(|(account, _, (cores, _))| (account, cores))
    }

    /// The least that any account which uses or wants cores has spent.
    fn least_spent(&self) -> f64 {
        let active = self.accounts.iter().filter(|(_, known)| known.taken + known.granted > 0 || known.wish.is_some());
        let least = active.map(|(_, known)| known.spent).fold(f64::INFINITY, f64::min);
        if least.is_finite() { least } else { self.accounts.iter().map(|(_, known)| known.spent).fold(0.0, f64::max) }
    }
}

/// The cores of a process, shared by all its schedulers.
pub struct Cores {
    ledger: Mutex<Ledger>,
    wakers: Mutex<Slab<Box<dyn Fn() + Send + Sync>>>,
    /// Tells that somebody wants cores that are not there.
    pressed: Notify,
}

impl Cores {
    /// `total` cores.
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { ledger: Mutex::new(Ledger::new(total)), wakers: Mutex::default(), pressed: Notify::new() })
    }

    /// A share of the cores for batches of `width` threads each; `wake` is called when cores are granted.
    pub fn share(self: &Arc<Self>, width: usize, weight: f64, wake: impl Fn() + Send + Sync + 'static) -> Share {
        // Both slabs hand out the lowest free key, and both are changed under the ledger's lock.
        let mut ledger = self.ledger();
        let account = ledger.open(weight);
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).insert(Box::new(wake));
        Share { cores: Arc::clone(self), account, width }
    }

    /// Core-seconds that batches have used up to now, those that still run left out, and how many cores there are.
    pub(super) fn used(&self) -> (f64, usize) {
        let ledger = self.ledger();
        (ledger.used, ledger.total)
    }

    /// Waits until a batch finds too few cores free, from now on: whoever can do without his gives way.
    pub fn pressed(&self) -> Notified<'_> {
        self.pressed.notified()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, accounts: &[usize]) {
        if accounts.is_empty() {
            return;
        }
        let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.iter().filter_map(|&account| wakers.get(account)).for_each(|wake| wake());
    }
}

/// What one scheduler takes its cores from.
pub struct Share {
    cores: Arc<Cores>,
    account: usize,
    width: usize,
}

impl Share {
    /// Takes the cores of one batch, if they are there.
    pub fn take(&self) -> bool {
        self.cores.ledger().take(self.account, self.width)
    }

    /// Asks to be woken when there are cores for a request that is due at `due`.
    pub fn wish(&self, due: Instant) {
        let granted = self.cores.ledger().wish(self.account, self.width, due);
        if !granted.contains(&self.account) {
            self.cores.pressed.notify_waiters();
        }
        self.cores.wake(&granted);
    }

    /// Asks for nothing any more.
    pub fn renounce(&self) {
        let granted = self.cores.ledger().renounce(self.account);
        self.cores.wake(&granted);
    }

    /// Gives the cores of one batch back, which used them for `used`.
    pub fn give_back(&self, used: Duration) {
        let granted = self.cores.ledger().give_back(self.account, self.width, used);
        self.cores.wake(&granted);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let granted = {
            let mut ledger = self.cores.ledger();
            drop(self.cores.wakers.lock().unwrap_or_else(PoisonError::into_inner).remove(self.account));
            ledger.close(self.account)
        };
        self.cores.wake(&granted);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whoever_can_do_without_is_told_of_a_batch_that_finds_too_few_cores_and_of_no_other() {
        let cores = Cores::new(2);
        let [one, other] = [(); 2].map(|()| cores.share(1, 1.0, || {}));
        assert!(one.take());
        let pressed = cores.pressed();
        other.wish(Instant::now());
        assert!(other.take());
        assert!(pressed.now_or_never().is_none(), "there was one");
        let pressed = cores.pressed();
        other.wish(Instant::now());
        assert!(pressed.now_or_never().is_some(), "there was none");
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn cores_are_taken_until_none_is_left_and_granted_to_whoever_is_due_first() {
        let (mut ledger, now) = (Ledger::new(2), Instant::now());
        let (a, b, c) = (ledger.open(1.0), ledger.open(1.0), ledger.open(1.0));
        assert!(ledger.take(a, 1) && ledger.take(a, 1) && !ledger.take(b, 1));
        assert!(ledger.wish(b, 1, now + seconds(2.0)).is_empty());
        assert!(ledger.wish(c, 1, now + seconds(1.0)).is_empty());
        assert_eq!(ledger.give_back(a, 1, seconds(0.01)), [c]);
        assert!(!ledger.take(a, 1), "b waits");
        assert!(ledger.take(c, 1));
        assert_eq!(ledger.give_back(a, 1, seconds(0.01)), [b]);
        assert!(ledger.take(b, 1));
    }

    #[test]
    fn over_time_busy_models_get_cores_in_proportion_to_their_weights_whatever_their_deadlines() {
        let (mut ledger, now) = (Ledger::new(1), Instant::now());
        let accounts = [ledger.open(1.0), ledger.open(3.0)];
        let mut used = [0.0; 2];
        let mut running = 0;
        assert!(ledger.take(accounts[0], 1));
        // The first one is always due first, and its batches take five times as long.
        for _ in 0..4000 {
            let took = [0.05, 0.01][running];
            used[running] += took;
            for (account, due) in [(0, 0.001), (1, 10.0)] {
                ledger.wish(accounts[account], 1, now + seconds(due));
            }
            let granted = ledger.give_back(accounts[running], 1, seconds(took));
            running = usize::from(granted == [accounts[1]]);
            assert!(ledger.take(accounts[running], 1));
        }
        let ratio = used[1] / used[0];
        assert!((2.8..3.2).contains(&ratio), "{used:?}");
    }

    #[test]
    fn whoever_was_idle_has_saved_up_nothing() {
        let (mut ledger, now) = (Ledger::new(1), Instant::now());
        let (busy, idle) = (ledger.open(1.0), ledger.open(1.0));
        for _ in 0..100 {
            assert!(ledger.take(busy, 1));
            ledger.give_back(busy, 1, seconds(1.0));
        }
        assert!(ledger.take(busy, 1));
        ledger.wish(idle, 1, now);
        ledger.wish(busy, 1, now);
        let mut turns = [0, 0];
        let mut running = busy;
        for _ in 0..20 {
            let granted = ledger.give_back(running, 1, seconds(0.05));
            running = granted[0];
            turns[usize::from(running == idle)] += 1;
            assert!(ledger.take(running, 1));
            ledger.wish(running, 1, now);
        }
        assert!(turns.iter().all(|turns| *turns >= 8), "{turns:?}");
    }

    #[test]
    fn a_wide_wish_is_not_starved_by_narrow_ones_and_a_closed_account_gives_all_back() {
        let (mut ledger, now) = (Ledger::new(2), Instant::now());
        let (narrow, wide) = (ledger.open(1.0), ledger.open(1.0));
        assert!(ledger.take(narrow, 1) && ledger.take(narrow, 1));
        ledger.wish(wide, 8, now);
        assert!(ledger.give_back(narrow, 1, seconds(0.01)).is_empty());
        assert!(!ledger.take(narrow, 1));
        assert_eq!(ledger.close(narrow), [wide]);
        assert!(ledger.take(wide, 8), "more than there are means all");
    }

    proptest! {
        #[test]
        fn models_that_always_have_work_use_the_cores_in_proportion_to_their_weights(
            total in 1..4_usize,
            models in prop::collection::vec((0.5..4.0, 1..80_u64), 2..4),
            dues in prop::collection::vec(0..1000_u64, 4),
        ) {
            let (mut ledger, start) = (Ledger::new(total), Instant::now());
            let accounts: Vec<usize> = models.iter().map(|(weight, _)| ledger.open(*weight)).collect();
            let mut used = vec![0.0; models.len()];
            // Who runs, and until when, in milliseconds.
            let mut running: Vec<(u64, usize)> = Vec::new();
            let mut now = 0;
            for _ in 0..4000 {
                for (model, account) in accounts.iter().enumerate() {
                    while ledger.take(*account, 1) {
                        running.push((now + models[model].1, model));
                    }
                    ledger.wish(*account, 1, start + Duration::from_millis(dues[model]));
                }
                prop_assert!(running.len() <= total);
                let (position, &(end, model)) = running.iter().enumerate().min_by_key(|(_, runs)| **runs).unwrap();
                running.swap_remove(position);
                now = end;
                let took = Duration::from_millis(models[model].1);
                used[model] += took.as_secs_f64() / models[model].0;
                ledger.give_back(accounts[model], 1, took);
            }
            let most = used.iter().copied().fold(0.0, f64::max);
            let least = used.iter().copied().fold(f64::INFINITY, f64::min);
            // A quantum, and what was granted before it was known how long the batches of the others take.
            let longest = models.iter().map(|(weight, millis)| *millis as f64 / 1e3 / weight).fold(0.0, f64::max);
            prop_assert!(most - least <= QUANTUM + 2.0 * total as f64 * longest, "{used:?}");
        }
    }
}
