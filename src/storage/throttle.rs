//! A bound on bytes per second, shared by all downloads.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Hands out time for bytes: each chunk takes its share of a second, one after the other.
pub(super) struct Throttle {
    bytes_per_second: Option<u64>,
    free_at: Mutex<Option<Instant>>,
}

impl Throttle {
    /// Without `bytes_per_second`, as fast as it goes.
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, free_at: Mutex::new(None) }
    }

    /// Waits until the bytes that came before these have had their time.
    pub(super) async fn take(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_second else { return };
        let until = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let until = reserve(Instant::now(), *free_at, bytes, rate);
            *free_at.insert(until)
        };
        tokio::time::sleep_until(until).await;
    }
}

/// When bytes that came `now` have had their time, after those before them.
fn reserve(now: Instant, free_at: Option<Instant>, bytes: usize, rate: u64) -> Instant {
    free_at.unwrap_or(now).max(now) + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_take_their_time_and_idleness_saves_none_up() {
        let throttle = Throttle::new(Some(1000));
        let start = Instant::now();
        for _ in 0..4 {
            throttle.take(500).await;
        }
        assert_eq!(start.elapsed().as_millis() / 100, 20);
        tokio::time::advance(Duration::from_secs(60)).await;
        let start = Instant::now();
        throttle.take(1000).await;
        assert_eq!(start.elapsed().as_millis() / 100, 10);
        Throttle::new(None).take(usize::MAX).await;
        assert_eq!(start.elapsed().as_millis() / 100, 10);
    }
}
