//! From requests to batches: one scheduler per model version.
//!
//! [`Scheduler::submit`] puts a request into an inbox and waits for its rows. One task per version, the [`dispatcher`],
//! moves the inbox into the [`queue`], asks the [`policy`] what to run, and runs it: in place where that is quicker than a
//! thread hand-off, else on a thread of its own. [`batch`] joins the rows and gives them back to their owners. The policy is
//! a pure function of a snapshot and the time, so it is tested and simulated without any of the rest.

mod batch;
mod dispatcher;
mod inbox;
mod pace;
pub mod policy;
mod queue;
#[cfg(test)]
mod tests;
mod warm_up;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::infer::{Parameters, Timing, ValidRequest};
use crate::runtime::{Instance, LoadedModel};
use crate::telemetry::ModelMetrics;
use crate::tensor::Tensor;

use inbox::Inbox;
pub use pace::Pace;
pub use policy::BatchLimits;
use queue::Job;
pub use warm_up::{Batching, WarmUp, warm_up};

/// Bounds of one scheduler.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    /// How batches are formed.
    pub limits: BatchLimits,
    /// Requests that may wait. Default 4096: at one millisecond a request that is four seconds, far beyond any latency
    /// objective, yet each waiting request holds only its tensors.
    pub queue_max: usize,
    /// A batch that is predicted to run this long or less runs in place, on the dispatcher's thread: a hand-off costs two
    /// wake-ups and as many context switches, some 10 to 50 us, and a connection that waits 100 us for its thread does not
    /// notice. See [`SchedulerConfig::for_cores`] for one core.
    pub in_place_max: Duration,
    /// How long a request that brings no deadline may wait; `None` for as long as it takes.
    pub queue_timeout: Option<Duration>,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        let in_place_max = Duration::from_micros(100);
        Self { limits: BatchLimits::default(), queue_max: 4096, in_place_max, queue_timeout: None }
    }
}

impl SchedulerConfig {
    /// The defaults for a process that has `cores` cores. On one core a thread of its own gives a batch nothing, since it
    /// takes the same core from the connections; only a long batch is handed off there, so that the kernel shares the core.
    pub fn for_cores(cores: usize) -> Self {
        let defaults = Self::default();
        if cores > 1 { defaults } else { Self { in_place_max: Duration::from_millis(2), ..defaults } }
    }
}

/// Accepts requests for one version of a model.
pub struct Scheduler {
    inbox: Arc<Inbox>,
    metrics: Arc<ModelMetrics>,
    queue_max: usize,
    queue_timeout: Option<Duration>,
}

/// What a request got.
#[derive(Debug)]
pub struct Executed {
    /// The outputs wanted, in the order wanted.
    pub outputs: Vec<Tensor>,
    /// Where the time went.
    pub timing: Timing,
}

/// Resolves once a scheduler has answered all its requests and given up its instances.
pub type Stopped = oneshot::Receiver<()>;

impl Scheduler {
    /// Starts the dispatcher on the current tokio runtime. It lives until the scheduler is dropped and every request that
    /// was submitted before has its answer.
    pub fn start(
        model: Arc<dyn LoadedModel>,
        instances: Vec<Box<dyn Instance>>,
        pace: Pace,
        config: SchedulerConfig,
        metrics: Arc<ModelMetrics>,
    ) -> (Self, Stopped) {
        let inbox = Arc::new(Inbox::default());
        let (stopping, stopped) = oneshot::channel();
        let dispatcher =
            dispatcher::Dispatcher::new(Arc::clone(&inbox), model, instances, pace, &config, Arc::clone(&metrics));
        tokio::spawn(async move {
            dispatcher.run().await;
            // Nobody may be waiting for the end.
            let _ = stopping.send(());
        });
        (Self { inbox, metrics, queue_max: config.queue_max, queue_timeout: config.queue_timeout }, stopped)
    }

    /// Queues `request` and waits for its outputs. Dropping the future takes the request out of the queue.
    ///
    /// # Errors
    /// [`crate::error::Kind::Overloaded`] at once where the queue is full; `DeadlineExceeded` where it waited too long;
    /// `Execution` where the runtime failed on this request alone.
    pub async fn submit(
        &self,
        request: ValidRequest,
        parameters: Parameters,
        deadline: Option<Instant>,
    ) -> Result<Executed> {
        if self.metrics.queue_depth.get() >= self.queue_max as i64 {
            return Err(Error::overloaded(format!("the queue is full: {} requests wait already", self.queue_max))
                .with_retry_after(Duration::from_secs(1)));
        }
        let now = Instant::now();
        let deadline = deadline.or_else(|| self.queue_timeout.map(|timeout| now + timeout));
        let (reply, answer) = oneshot::channel();
        self.metrics.queue_depth.inc();
        self.inbox.submit(Job::new(request, parameters, now, deadline, reply));
        let mut waiting = Waiting { inbox: &self.inbox, answered: false };
        let outcome = answer.await;
        waiting.answered = true;
        outcome.unwrap_or_else(|_| Err(Error::internal("the scheduler stopped before it answered")))
    }
}

/// A caller that waits. One that goes away unanswered leaves its place in the queue at once, not when something else comes.
struct Waiting<'a> {
    inbox: &'a Inbox,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.inbox.wake();
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.inbox.close();
    }
}
