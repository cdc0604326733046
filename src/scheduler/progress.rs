//! Work that gives way to batches still gets on: some of a core is kept from them for it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::cores::Cores;

/// What gives way has one core to itself for so long in each such time: a tenth of a core, so that what takes a second of it is
/// there in ten however much is asked of the models, and those notice it no more than another request now and then.
const KEPT: Duration = Duration::from_millis(20);
const EACH: Duration = Duration::from_millis(200);

impl Cores {
    /// Awaits `work`, which goes on on threads that run only where no batch does. Where batches would take all cores all the time,
    /// one of them is kept free for it now and then, as for a model with a batch that is due at once.
    pub async fn see_to<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> T {
        let granted = Arc::new(Notify::new());
        let wake = Arc::clone(&granted);
        let share = self.share(1, 1.0, move || wake.notify_one());
        let mut work = pin!(work);
        loop {
            if let Ok(done) = timeout(EACH - KEPT, work.as_mut()).await {
                return done;
            }
            while !share.take() {
                share.wish(Instant::now());
                tokio::select! {
                    done = work.as_mut() => return done,
                    () = granted.notified() => {}
                }
            }
            let since = Instant::now();
            let outcome = timeout(KEPT, work.as_mut()).await;
            share.give_back(since.elapsed());
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
        assert!((1_700..=1_850).contains(&count.get()), "{count:?} batches of 10 ms in 20 s");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_at_once_takes_no_core_and_all_are_given_back() {
        let cores = Cores::new(1);
        assert_eq!(cores.see_to(async { 7 }).await, 7);
        cores.see_to(sleep(Duration::from_millis(190))).await;
        assert!(cores.share(1, 1.0, || {}).take());
    }
}
