//! Work that gives way to batches still gets on: some of a core is kept from them for it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::cores::Cores;

/// How much of a core is kept, at least, for work that gives way: what takes a second of it is there in ten however much is asked
/// of the models, and those notice it no more than another request now and then.
const KEPT: f64 = 0.1;

/// One core is kept free for so long at a time: no shorter, as little is done in less, and no longer, as a batch may wait for it.
const SLICE: Duration = Duration::from_millis(5);
const SLICE_MAX: Duration = Duration::from_millis(20);

/// From one slice to the next.
const PAUSE: Duration = Duration::from_millis(45);

impl Cores {
    /// Awaits `work`, which goes on on threads that run only where no batch does. Where batches leave it less than a tenth of a core,
    /// one is kept free for it now and then, as for a model with a batch that is due at once.
    pub async fn see_to<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> T {
        let granted = Arc::new(Notify::new());
        let wake = Arc::clone(&granted);
        let share = self.share(1, 1.0, move || wake.notify_one());
        let (begin, (used_before, total)) = (Instant::now(), self.used());
        let (mut work, mut own) = (pin!(work), 0.0);
        loop {
            if let Ok(done) = timeout(PAUSE, work.as_mut()).await {
                return done;
            }
            let (elapsed, used) = (begin.elapsed().as_secs_f64(), self.used().0 - used_before);
            // Its own slices count as used, and were left to it.
            let left = total as f64 * elapsed - used + own;
            let lacking = elapsed * KEPT - left;
            if lacking <= 0.0 {
                continue;
            }
            while !share.take() {
                share.wish(Instant::now());
                tokio::select! {
                    done = work.as_mut() => return done,
                    () = granted.notified() => {}
                }
            }
            let since = Instant::now();
            let slice = Duration::from_secs_f64(lacking).clamp(SLICE, SLICE_MAX);
            let outcome = timeout(slice, work.as_mut()).await;
            share.give_back(since.elapsed());
            own += since.elapsed().as_secs_f64();
            if let Ok(done) = outcome {
                return done;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// Runs batches of 10 ms without end, and counts them.
    async fn busy(cores: Arc<Cores>, count: &std::cell::Cell<u32>) {
        let granted = Arc::new(Notify::new());
        let wake = Arc::clone(&granted);
        let share = cores.share(1, 1.0, move || wake.notify_one());
        loop {
            while !share.take() {
                share.wish(Instant::now());
                granted.notified().await;
            }
            sleep(Duration::from_millis(10)).await;
            share.give_back(Duration::from_millis(10));
            count.set(count.get() + 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenth_of_a_core_is_kept_from_models_that_would_take_all_the_time() {
        let (cores, count) = (Cores::new(1), std::cell::Cell::new(0));
        tokio::select! {
            () = busy(Arc::clone(&cores), &count) => {}
            () = cores.see_to(sleep(Duration::from_secs(20))) => {}
        }
        assert!((1_750..=1_850).contains(&count.get()), "{count:?} batches of 10 ms in 20 s");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_from_models_that_leave_enough() {
        let cores = Cores::new(2);
        // One core is always taken, and the other one never.
        let (share, count) = (cores.share(1, 1.0, || {}), std::cell::Cell::new(0));
        assert!(share.take());
        let probe = async {
            loop {
                let other = cores.share(1, 1.0, || {});
                assert!(other.take(), "the other core is kept from batches");
                other.give_back(Duration::ZERO);
                share.give_back(Duration::from_millis(1));
                assert!(share.take());
                count.set(count.get() + 1);
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = probe => {}
            () = cores.see_to(sleep(Duration::from_secs(5))) => {}
        }
        assert!(count.get() > 4_000, "{count:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_at_once_takes_no_core_and_all_are_given_back() {
        let cores = Cores::new(1);
        assert_eq!(cores.see_to(async { 7 }).await, 7);
        cores.see_to(sleep(Duration::from_millis(44))).await;
        assert!(cores.share(1, 1.0, || {}).take());
    }
}
