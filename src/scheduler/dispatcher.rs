//! The task that owns the queue and the idle instances of one model version.
//!
//! It feeds and applies the decisions of [`policy::plan`], and decides nothing else but where a batch runs: a short one in
//! place, on this task's thread, because a hand-off to another thread and back costs more than it; a long one on a thread
//! of tokio's blocking pool, so that the connections this thread serves do not wait for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::SchedulerConfig;
use super::batch::{Answers, Batch};
use super::inbox::{Contents, Inbox};
use super::pace::Pace;
use super::policy::{self, BatchLimits, Plan};
use super::queue::{Job, Queue};
use crate::error::Error;
use crate::runtime::{Instance, LoadedModel};
use crate::telemetry::ModelMetrics;

/// A batch that ran on another thread.
pub(super) struct Finished {
    instance: Box<dyn Instance>,
    answers: Answers,
    rows: usize,
    took: Duration,
}

pub(super) struct Dispatcher {
    inbox: Arc<Inbox>,
    contents: Contents,
    queue: Queue,
    idle: Vec<Box<dyn Instance>>,
    instances: usize,
    pace: Pace,
    limits: BatchLimits,
    in_place_max: Duration,
    metrics: Arc<ModelMetrics>,
    /// Dropped last: instances may use what it holds.
    _model: Arc<dyn LoadedModel>,
}

impl Dispatcher {
    pub(super) fn new(
        inbox: Arc<Inbox>,
        model: Arc<dyn LoadedModel>,
        idle: Vec<Box<dyn Instance>>,
        pace: Pace,
        config: &SchedulerConfig,
        metrics: Arc<ModelMetrics>,
    ) -> Self {
        let SchedulerConfig { limits, in_place_max, .. } = *config;
        let queue = Queue::new(limits.rows_max > 1);
        let instances = idle.len();
        Self {
            inbox,
            contents: Contents::default(),
            queue,
            idle,
            instances,
            pace,
            limits,
            in_place_max,
            metrics,
            _model: model,
        }
    }

    pub(super) async fn run(mut self) {
        let mut wake_at = None;
        loop {
            self.wait(wake_at).await;
            // Lets every connection that is readable now submit first: tokio runs a yielded task after all that is ready
            // and one more look at the sockets. Requests that came together run together, and nobody waits for a timer.
            tokio::task::yield_now().await;
            self.take_in();
            wake_at = self.dispatch();
            if self.contents.closed && self.queue.is_empty() && self.idle.len() == self.instances {
                return;
            }
        }
    }

    async fn wait(&mut self, wake_at: Option<Instant>) {
        match wake_at {
            None => self.inbox.arrived().await,
            // A passed time is not an error, it is now.
            Some(at) => {
                let _ = tokio::time::timeout_at(at, self.inbox.arrived()).await;
            }
        }
    }

    fn take_in(&mut self) {
        self.inbox.take(&mut self.contents);
        for finished in self.contents.finished.drain(..) {
            self.idle.push(finished.instance);
            self.pace.note(finished.rows, finished.took);
            answer(finished.answers, &self.metrics);
        }
        for job in self.contents.jobs.drain(..) {
            self.queue.push(job);
        }
    }

    /// Runs what the policy says until there is no free instance or nothing to run; gives the time to look again.
    fn dispatch(&mut self) -> Option<Instant> {
        loop {
            let now = Instant::now();
            self.drop_useless(now);
            if self.idle.is_empty() {
                return self.queue.earliest_deadline();
            }
            let rows_in_time = self.pace.rows_within(self.limits.execute_max);
            match policy::plan(now, &self.queue.views(), &self.limits, rows_in_time) {
                Plan::Idle => return None,
                Plan::WaitUntil(at) => return self.queue.earliest_deadline().into_iter().chain([at]).min(),
                Plan::Dispatch { lane, rows_max } => {
                    let batch = Batch::new(self.queue.take(lane, rows_max));
                    self.run_batch(batch);
                }
            }
        }
    }

    /// Takes out requests whose client is gone or whose deadline has passed.
    fn drop_useless(&mut self, now: Instant) {
        let expired = |job: &Job| job.deadline.is_some_and(|deadline| deadline <= now);
        let metrics = &self.metrics;
        self.queue.remove(
            |job| job.reply.is_closed() || expired(job),
            |job| {
                metrics.queue_depth.dec();
                let waited = now.saturating_duration_since(job.arrived);
                let error = Error::deadline_exceeded(format!("the deadline passed after {waited:.1?} in the queue"));
                // A client that is gone hears nothing.
                let _ = job.reply.send(Err(error));
            },
        );
    }

    fn run_batch(&mut self, batch: Batch) {
        let Some(mut instance) = self.idle.pop() else { return };
        self.metrics.queue_depth.sub(batch.requests() as i64);
        // A model of unknown pace may be a slow one, and would keep this thread's connections waiting.
        let short = self.pace.predict(batch.rows).is_some_and(|predicted| predicted <= self.in_place_max);
        // Work beyond this batch could run beside it on another instance, but not while this thread is busy with it.
        let alone = self.queue.is_empty() || self.instances == 1;
        if short && alone {
            let rows = batch.rows;
            let (answers, took) = batch.run(instance.as_mut(), &self.metrics);
            self.idle.push(instance);
            self.pace.note(rows, took);
            answer(answers, &self.metrics);
            return;
        }
        let (inbox, metrics) = (Arc::clone(&self.inbox), Arc::clone(&self.metrics));
        tokio::task::spawn_blocking(move || {
            let rows = batch.rows;
            let (answers, took) = batch.run(instance.as_mut(), &metrics);
            // Through the inbox, so that one wake-up serves the whole batch instead of one for each request.
            inbox.finish(Finished { instance, answers, rows, took });
        });
    }
}

fn answer(answers: Answers, metrics: &ModelMetrics) {
    for (job, outcome) in answers {
        if let Ok(executed) = &outcome {
            metrics.queue_seconds.observe(executed.timing.queue.as_secs_f64());
        }
        // A client that went away meanwhile hears nothing.
        let _ = job.reply.send(outcome);
    }
}

/// However the dispatcher ends, even by a panic: no caller is left waiting.
impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.inbox.abandon();
    }
}
