//! The task that has canaries judged.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::table::Split;
use super::{Gone, Router};

/// How often it looks whether there still is a router, where there is no canary.
const IDLE: Duration = Duration::from_secs(60);

/// Judges canaries when they are due, until there is no router any more; `wake` tells of new ones.
pub(super) async fn keep(router: Gone, wake: Arc<Notify>) {
    loop {
        let Some(due) = router.upgrade().map(|router| router.judge(Instant::now())) else { return };
        tokio::select! {
            () = sleep_until(due) => {}
            () = wake.notified() => {}
        }
    }
}

impl Router {
    /// Judges what is due `now`; gives when the next one is.
    fn judge(&self, now: Instant) -> Instant {
        let due = |(name, split): &(String, Arc<Split>)| split.judge(name, &self.repository, now);
        self.splits().iter().filter_map(due).min().unwrap_or(now + IDLE)
    }
}
