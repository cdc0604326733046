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
mod progress;
pub mod queue;
#[cfg(test)]
mod tests;
mod waiting;
mod warm_up;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::capacity::{self, Capacity, Conditions};
use crate::error::{Error, Result};
use crate::infer::{Parameters, ValidRequest};
use crate::runtime::{Instance, LoadedModel, idle_time_is_free, put_away};
use crate::telemetry::ModelMetrics;

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
use waiting::{Held, Waiting, refused};
pub use warm_up::{Batching, Padded, WarmUp, profile, prove, warm_up};

/// An objective that somebody stated is stretched to this many times what a request takes alone, where it takes that long:
/// half of it for the request before.
const STRETCH_STATED: u32 = 2;

/// The default objective was stated by nobody: a model too slow for it still serves a few callers at once.
const STRETCH_DEFAULT: u32 = 8;

/// Requests that only fill what is left over, and those that are delayed when they are late, may wait so many times as long as
/// others: as long as one that was late.
const PATIENCE: u32 = 10;

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
    /// Bytes that the inputs of requests which wait or run may take; a single request may always. Default 256 MiB: 4096
    /// requests of 64 KiB, above which `--buffered-max` bounds the bodies of all models together too.
    pub queue_bytes_max: usize,
    /// Whether a request that has waited for `queue_timeout` is answered after all others instead of refused.
    pub late_is_delayed: bool,
    /// The most important class that requests may have: what is asked for before a body is read is asked for it.
    pub top_class: Priority,
    /// Time-outs of single priorities, in place of `queue_timeout`.
    pub class_timeouts: Vec<(Priority, Duration)>,
    /// The share of cores that this version gets where there are too few, beside that of the others; above zero.
    pub weight: f64,
    /// Threads that one execution takes.
    pub threads: usize,
    /// Whether work that gives way takes nothing from others but idle time.
    pub idle_time_is_free: bool,
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
            queue_bytes_max: 256 << 20,
            late_is_delayed: false,
            top_class: Priority::NORMAL,
            class_timeouts: Vec::new(),
            weight: 1.0,
            threads: 1,
            idle_time_is_free: idle_time_is_free(),
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

    /// Whether batches of the lowest priority leave a core to whatever else wants it, at once and of themselves: the kernel sees to
    /// that where they have no thread but the one that they are given, which is an idle one (sched(7)), and where that takes
    /// nothing from others but idle time. An engine's own threads are those of all its batches.
    pub fn gives_way(&self) -> bool {
        self.threads == 1 && self.idle_time_is_free
    }
}

/// Accepts requests for one version of a model.
pub struct Scheduler {
    inbox: Arc<Inbox>,
    metrics: Arc<ModelMetrics>,
    queue_max: usize,
    queue_bytes_max: usize,
    queue_timeout: Option<Duration>,
    late_is_delayed: bool,
    top_class: Priority,
    class_timeouts: Vec<(Priority, Duration)>,
    objective: Duration,
    stretch: u32,
    padding: Option<Arc<Padding>>,
    /// Bytes of the inputs of all requests that have no answer yet.
    bytes_held: AtomicUsize,
}

/// Resolves once a scheduler has answered all its requests and given up its instances, to what it had learned.
pub type Stopped = oneshot::Receiver<Curve>;

/// What a scheduler knows of its version at a moment.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    /// Latency against work.
    pub curve: Curve,
    /// Rows that arrive per second, refused ones included.
    pub rows_per_second: f64,
    /// Work of a typical row, in the curve's units.
    pub unit: usize,
}

/// The rows of `unit` work per second that `instances` instances of a version with `curve` can serve for independent callers,
/// within the objective of `limits`; were they `speedup` times as fast, where a row takes `beside` of each of an execution's threads
/// beside it.
pub fn capacity_of(
    curve: &Curve,
    limits: &BatchLimits,
    unit: usize,
    instances: usize,
    speedup: f64,
    beside: Duration,
) -> Capacity {
    let point = |curve::Point { work, centre, upper, .. }| capacity::Point {
        work,
        centre: centre.div_f64(speedup),
        upper: upper.div_f64(speedup),
    };
    let points: Vec<capacity::Point> = curve.points().map(point).collect();
    let points = capacity::with_overhead(&points, beside, unit);
    let (objective, rows_max) = (limits.objective, limits.rows_max);
    capacity::capacity(&points, &Conditions { objective, instances, unit, rows_max, ..Conditions::default() })
}

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
        let (now, count) = (Instant::now(), instances.len());
        metrics.statistics.set_objective(config.limits.objective);
        metrics.set_threads(config.threads);
        let planner = Planner::new(now, config.limits, count, curve);
        let inbox = Arc::new(Inbox::new(planner.outlook(now)));
        let (stopping, stopped) = oneshot::channel();
        let start = {
            let (inbox, metrics, config) = (Arc::clone(&inbox), Arc::clone(&metrics), config.clone());
            let (model, cores) = (Arc::clone(&model), cores.cloned());
            move |planner, instances| {
                let waking = Arc::clone(&inbox);
                let share =
                    cores.as_ref().map(|cores| cores.share(config.threads, config.weight, move || waking.wake()));
                let (inbox, metrics, model) = (Arc::clone(&inbox), Arc::clone(&metrics), Arc::clone(&model));
                dispatcher::Dispatcher::new(inbox, planner, model, instances, share, &config, metrics)
            }
        };
        let mut dispatcher = start(planner, instances);
        let (again, counted, limits) = (Arc::clone(&inbox), Arc::clone(&metrics), config.limits);
        tokio::spawn(async move {
            let (learned, left) = loop {
                if let Ok(learned) = AssertUnwindSafe(dispatcher.run()).catch_unwind().await {
                    break (learned, Some(dispatcher));
                }
                // Its callers get errors now. A version that answers nobody any more would be worse than one that has
                // forgotten what it had learned.
                drop(dispatcher);
                let Ok(instances) = (0..count).map(|_| model.instance()).collect() else {
                    break (Curve::default(), None);
                };
                let planner = Planner::new(Instant::now(), limits, count, Curve::default());
                counted.queue_depth.set(0);
                again.take_over(planner.outlook(Instant::now()));
                dispatcher = start(planner, instances);
            };
            // Freed before anybody hears of the end, and not on a thread that serves: weights take milliseconds to give back.
            put_away(move || drop((left, start, model))).await;
            // Nobody may be waiting for the end.
            let _ = stopping.send(learned);
        });
        let scheduler = Self {
            inbox,
            metrics,
            queue_max: config.queue_max,
            queue_bytes_max: config.queue_bytes_max,
            queue_timeout: config.queue_timeout,
            late_is_delayed: config.late_is_delayed,
            top_class: config.top_class,
            class_timeouts: config.class_timeouts,
            objective: config.limits.objective,
            stretch: if config.objective_stated { STRETCH_STATED } else { STRETCH_DEFAULT },
            padding: config.padding,
            bytes_held: AtomicUsize::new(0),
        };
        (scheduler, stopped)
    }

    /// What was learned up to now; `None` where the scheduler has ended. Costs requests nothing: the dispatcher copies it
    /// between two looks at its queue.
    pub async fn learned(&self) -> Option<Learned> {
        let (reply, answer) = oneshot::channel();
        self.inbox.ask(reply);
        answer.await.ok()
    }

    /// Whether a request of `rows` rows that arrives now could be answered before `deadline`, or else within the objective:
    /// asked before a body is read.
    ///
    /// # Errors
    /// [`crate::error::Kind::Overloaded`] where it could not.
    pub fn admit(&self, rows: usize, deadline: Option<Instant>) -> Result<()> {
        let (now, class) = (Instant::now(), self.top_class);
        let (due, slack) = self.due(now, rows, None, deadline, class);
        self.inbox.admit(now, rows, class, slack).map_err(|refusal| refused(refusal, due, slack))
    }

    /// Queues `request` and waits for its outputs. Dropping the future takes the request out of the queue.
    ///
    /// # Errors
    /// [`crate::error::Kind::Overloaded`] at once where the queue is full or the request cannot be answered in time;
    /// `DeadlineExceeded` where it waited too long; `Execution` where the runtime failed on this request alone.
    pub fn submit(
        &self,
        request: ValidRequest,
        parameters: Parameters,
        deadline: Option<Instant>,
        priority: Priority,
    ) -> impl Future<Output = Result<Executed>> + Send {
        let whole = request.rows;
        self.submit_part(request, parameters, deadline, priority, whole)
    }

    /// The same for a part of what is one request of `whole` rows to its caller, where the parts before are not of more work a
    /// row: within the objective is when all of it would be there.
    pub fn submit_part(
        &self,
        request: ValidRequest,
        parameters: Parameters,
        deadline: Option<Instant>,
        priority: Priority,
        whole: usize,
    ) -> impl Future<Output = Result<Executed>> + Send {
        // At once: a future that held the request, and then waits without it, would be moved and kept at that size.
        let queued = self.queue(request, parameters, deadline, priority, whole);
        async move {
            let (mut waiting, answer) = queued?;
            let outcome = answer.await;
            waiting.answered = true;
            outcome.unwrap_or_else(|_| Err(Error::internal("the scheduler stopped before it answered")))
        }
    }

    fn queue(
        &self,
        request: ValidRequest,
        parameters: Parameters,
        deadline: Option<Instant>,
        priority: Priority,
        whole: usize,
    ) -> Result<(Waiting<'_>, oneshot::Receiver<Result<Executed>>)> {
        if self.metrics.queue_depth.get() >= self.queue_max as i64 {
            return Err(Error::overloaded(format!("the queue is full: {} requests wait already", self.queue_max))
                .with_retry_after(Duration::from_secs(1)));
        }
        let held = self.hold(&request)?;
        let now = Instant::now();
        let fit = self.padding.as_ref().map(|padding| Fit::of(padding, &request));
        let unit = fit.as_ref().map(Fit::unit);
        let (due, slack) = self.due(now, request.rows.max(whole).max(1), unit, deadline, priority);
        let (reply, answer) = oneshot::channel();
        let job = Job::new(request, fit, parameters, now, due, priority, reply);
        self.metrics.queue_depth.inc();
        if let Err(refusal) = self.inbox.submit(job, slack) {
            self.metrics.queue_depth.dec();
            return Err(refused(refusal, due, slack));
        }
        Ok((Waiting { inbox: &self.inbox, answered: false, _held: held }, answer))
    }

    /// Counts the bytes of `request` until it is answered.
    fn hold(&self, request: &ValidRequest) -> Result<Held<'_>> {
        let bytes = request.inputs.iter().flatten().map(|input| input.data().len()).sum();
        let others = self.bytes_held.fetch_add(bytes, Ordering::Relaxed);
        let held = Held { all: &self.bytes_held, bytes };
        if others > 0 && others + bytes > self.queue_bytes_max {
            return Err(Error::overloaded(format!(
                "the queue is full: its requests hold {others} bytes already, at most {} are held (queue_bytes_max)",
                self.queue_bytes_max
            ))
            .with_retry_after(Duration::from_secs(1)));
        }
        Ok(held)
    }

    /// When a request of `class` with `rows` rows of `unit` work each is due, and how long that is from `now`.
    fn due(
        &self,
        now: Instant,
        rows: usize,
        unit: Option<usize>,
        deadline: Option<Instant>,
        class: Priority,
    ) -> (Due, Duration) {
        if let Some(deadline) = deadline {
            return (Due::Deadline(deadline), deadline.saturating_duration_since(now));
        }
        let of_class = self.class_timeouts.iter().find(|(known, _)| *known == class).map(|(_, timeout)| *timeout);
        if let Some(timeout) = of_class.or(self.queue_timeout) {
            return match self.late_is_delayed {
                // Late is no reason to refuse it, unless it would be very late.
                true => (Due::Objective(now + timeout), timeout * PATIENCE),
                false => (Due::Deadline(now + timeout), timeout),
            };
        }
        let slack = self.objective.max(self.inbox.alone(rows, unit) * self.stretch);
        // What only fills what is left over has time.
        let slack = if class.is_filler() { slack * PATIENCE } else { slack };
        (Due::Objective(now + slack), slack)
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.inbox.close();
    }
}
