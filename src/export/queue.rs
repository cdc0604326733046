//! A bounded queue to a task: never waits, counts what it drops.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::telemetry::DropCounter;

/// What a queue carries.
pub(super) trait Weighed: Send + 'static {
    /// Bytes that it holds while it waits.
    fn bytes(&self) -> usize;
}

/// The sending end. The task on the other end goes on until this is closed and everything is handed over.
pub(super) struct Queue<T> {
    sender: Mutex<Option<mpsc::UnboundedSender<T>>>,
    held: Arc<Held>,
    dropped: DropCounter,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Held {
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// The receiving end.
pub(super) struct Receiver<T> {
    receiver: mpsc::UnboundedReceiver<T>,
    held: Arc<Held>,
    /// Counts what the receiver behind the task did not take.
    pub(super) dropped: DropCounter,
}

impl<T: Weighed> Queue<T> {
    /// A queue of at most `bytes_max` bytes to the task that `run` makes.
    pub(super) fn start<F>(bytes_max: usize, dropped: DropCounter, run: impl FnOnce(Receiver<T>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, receiver) = mpsc::unbounded_channel();
        let held = Arc::new(Held { bytes: AtomicUsize::new(0), bytes_max });
        let task = tokio::spawn(run(Receiver { receiver, held: Arc::clone(&held), dropped: dropped.clone() }));
        Self { sender: Mutex::new(Some(sender)), held, dropped, task: Mutex::new(Some(task)) }
    }

    /// Queues `item`, or drops and counts it.
    pub(super) fn push(&self, item: T) {
        let bytes = item.bytes();
        let before = self.held.bytes.fetch_add(bytes, Relaxed);
        let fits = before + bytes <= self.held.bytes_max;
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if !fits || sender.as_ref().is_none_or(|sender| sender.send(item).is_err()) {
            self.held.bytes.fetch_sub(bytes, Relaxed);
            self.dropped.add(1);
        }
    }

    /// Takes nothing more, and waits at most `timeout` until the task has handed over what it has.
    pub(super) async fn close(&self, timeout: Duration) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // What is left then ends with the process.
            let _ = tokio::time::timeout(timeout, task).await;
        }
    }
}

impl<T: Weighed> Receiver<T> {
    /// Moves at most `limit` items into `into`, waiting for one; gives how many, none at the end.
    pub(super) async fn take(&mut self, into: &mut Vec<T>, limit: usize) -> usize {
        let taken = self.receiver.recv_many(into, limit).await;
        let bytes: usize = into[into.len() - taken..].iter().map(Weighed::bytes).sum();
        self.held.bytes.fetch_sub(bytes, Relaxed);
        taken
    }
}
