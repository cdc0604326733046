//! From requests to batches: one scheduler per model version.
//!
//! [`Scheduler::submit`] puts a request into an inbox and waits for its rows. One task per version, the [`dispatcher`],
//! moves the inbox into the [`queue`], asks the [`policy`] what to run, and runs it: in place where that is quicker than a
//! thread hand-off, else on a thread of its own. [`batch`] joins the rows and gives them back to their owners. The policy is
//! a pure function of a snapshot and the time, so it is tested and simulated without any of the rest.

pub mod admission;
pub mod arrivals;
mod batch;
pub mod cores;
pub mod curve;
mod dispatcher;
mod inbox;
mod job;
mod padding;
pub mod planner;
pub mod policy;
pub mod queue;
#[cfg(test)]
mod tests;
mod warm_up;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::infer::{Parameters, ValidRequest};
use crate::runtime::{Instance, LoadedModel};
use crate::telemetry::ModelMetrics;

use admission::Refusal;
pub use cores::Cores;
pub use curve::Curve;
use inbox::Inbox;
pub use job::Executed;
use job::Job;
use padding::Fit;
pub use padding::Padding;
use planner::{Due, Planner};
pub use policy::BatchLimits;
pub use queue::Priority;
pub use warm_up::{Batching, Padded, WarmUp, warm_up};

/// An objective that somebody stated is stretched to this many times what a request takes alone, where it takes that long:
/// half of it for the request before.
const STRETCH_STATED: u32 = 2;

/// The default objective was stated by nobody: a model too slow for it still serves a few callers at once.
const STRETCH_DEFAULT: u32 = 8;

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
    /// How long a request that brings no deadline may wait; `None` for as long as the objective allows.
    pub queue_timeout: Option<Duration>,
    /// Threads that one execution takes.
    pub threads: usize,
    /// Whether somebody stated the objective in `limits`: then a model that is too slow for it sheds what comes too late.
    pub objective_stated: bool,
    /// How requests of different lengths are joined, where that was declared and verified.
    pub padding: Option<Arc<Padding>>,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        let in_place_max = Duration::from_micros(100);
        Self {
            limits: BatchLimits::default(),
            queue_max: 4096,
            in_place_max,
            queue_timeout: None,
            threads: 1,
            objective_stated: false,
            padding: None,
        }
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
    objective: Duration,
    stretch: u32,
    padding: Option<Arc<Padding>>,
}

/// Resolves once a scheduler has answered all its requests and given up its instances.
pub type Stopped = oneshot::Receiver<()>;

impl Scheduler {
    /// Starts the dispatcher on the current tokio runtime. Batches on threads of their own take their cores from `cores`;
    /// without it, they run whenever an instance is free. It lives until the scheduler is dropped and every request that
    /// was submitted before has its answer.
    pub fn start(
        model: Arc<dyn LoadedModel>,
        instances: Vec<Box<dyn Instance>>,
        curve: Curve,
        config: SchedulerConfig,
        cores: Option<&Arc<Cores>>,
        metrics: Arc<ModelMetrics>,
    ) -> (Self, Stopped) {
        let now = Instant::now();
        let planner = Planner::new(now, config.limits, instances.len(), curve);
        let inbox = Arc::new(Inbox::new(planner.outlook(now)));
        let (stopping, stopped) = oneshot::channel();
        let waking = Arc::clone(&inbox);
        let share = cores.map(|cores| cores.share(config.threads, 1.0, move || waking.wake()));
        let (shared, counted) = (Arc::clone(&inbox), Arc::clone(&metrics));
        let dispatcher = dispatcher::Dispatcher::new(shared, planner, model, instances, share, &config, counted);
        tokio::spawn(async move {
            dispatcher.run().await;
            // Nobody may be waiting for the end.
            let _ = stopping.send(());
        });
        let SchedulerConfig { limits, queue_max, queue_timeout, objective_stated, padding, .. } = config;
        let stretch = if objective_stated { STRETCH_STATED } else { STRETCH_DEFAULT };
        let objective = limits.objective;
        (Self { inbox, metrics, queue_max, queue_timeout, objective, stretch, padding }, stopped)
    }

    /// Whether a request of `rows` rows that arrives now could be answered before `deadline`, or else within the objective:
    /// asked before a body is read.
    ///
    /// # Errors
    /// [`crate::error::Kind::Overloaded`] where it could not.
    pub fn admit(&self, rows: usize, deadline: Option<Instant>) -> Result<()> {
        let now = Instant::now();
        let (due, slack) = self.due(now, rows, None, deadline);
        self.inbox.admit(now, rows, slack).map_err(|refusal| refused(refusal, due, slack))
    }

    /// Queues `request` and waits for its outputs. Dropping the future takes the request out of the queue.
    ///
    /// # Errors
    /// [`crate::error::Kind::Overloaded`] at once where the queue is full or the request cannot be answered in time;
    /// `DeadlineExceeded` where it waited too long; `Execution` where the runtime failed on this request alone.
    pub async fn submit(
        &self,
        request: ValidRequest,
        parameters: Parameters,
        deadline: Option<Instant>,
        priority: Priority,
    ) -> Result<Executed> {
        if self.metrics.queue_depth.get() >= self.queue_max as i64 {
            return Err(Error::overloaded(format!("the queue is full: {} requests wait already", self.queue_max))
                .with_retry_after(Duration::from_secs(1)));
        }
        let now = Instant::now();
        let fit = self.padding.as_ref().map(|padding| Fit::of(padding, &request));
        let unit = fit.as_ref().map(Fit::unit);
        let (due, slack) = self.due(now, request.rows.max(1), unit, deadline);
        let (reply, answer) = oneshot::channel();
        let job = Job::new(request, fit, parameters, now, due, priority, reply);
        self.metrics.queue_depth.inc();
        if let Err(refusal) = self.inbox.submit(job, slack) {
            self.metrics.queue_depth.dec();
            return Err(refused(refusal, due, slack));
        }
        let mut waiting = Waiting { inbox: &self.inbox, answered: false };
        let outcome = answer.await;
        waiting.answered = true;
        outcome.unwrap_or_else(|_| Err(Error::internal("the scheduler stopped before it answered")))
    }

    /// When a request of `rows` rows of `unit` work each is due, and how long that is from `now`.
    fn due(&self, now: Instant, rows: usize, unit: Option<usize>, deadline: Option<Instant>) -> (Due, Duration) {
        if let Some(deadline) = deadline.or_else(|| self.queue_timeout.map(|timeout| now + timeout)) {
            return (Due::Deadline(deadline), deadline.saturating_duration_since(now));
        }
        let slack = self.objective.max(self.inbox.alone(rows, unit) * self.stretch);
        (Due::Objective(now + slack), slack)
    }
}

fn refused(refusal: Refusal, due: Due, slack: Duration) -> Error {
    let Refusal { answer_in, retry_after } = refusal;
    let bound = match due {
        Due::Deadline(_) => "the request's deadline",
        Due::Objective(_) => "the model's latency objective",
    };
    let message = format!("an answer is predicted in {answer_in:.1?}, beyond {bound} in {slack:.1?}");
    Error::overloaded(message).with_retry_after(retry_after)
}

/// A caller that waits. One that goes away unanswered leaves its place in the queue at once, not when something else comes.
struct Waiting<'a> {
    inbox: &'a Inbox,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.inbox.leave();
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.inbox.close();
    }
}
