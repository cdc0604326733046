//! The threads that tokenize, and work through large outputs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::error::{Error, Result};

/// Pieces of work that may wait for a thread. As many long texts take a second or so on one core; whoever comes then is better
/// told at once.
const WAITING_MAX: usize = 1024;

/// As many threads of tokio's blocking pool as there are cores, for all models together: more would take turns.
pub struct Pool {
    threads: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// One that waits, or no longer.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    /// A pool of `threads` threads.
    pub fn new(threads: usize) -> Self {
        Self { threads: Arc::new(Semaphore::new(threads.max(1))), waiting: AtomicUsize::new(0) }
    }

    /// Does `work` on a thread of the pool. Dropping the future gives up the wait; work that has begun is done.
    ///
    /// # Errors
    /// `Overloaded` where too much waits already; `Internal` where it panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            return Err(Error::overloaded(format!("{WAITING_MAX} requests wait for a tokenizer already"))
                .with_retry_after(std::time::Duration::from_secs(1)));
        }
        let thread = Arc::clone(&self.threads).acquire_owned().await;
        drop(waiting);
        let done = spawn_blocking(move || {
            let done = work();
            drop(thread);
            done
        });
        done.await.map_err(|_| Error::internal("a piece of work on texts was broken off"))
    }
}
