//! The task that owns the planner and the idle instances of one model version.
//!
//! It feeds and applies the planner's decisions, and decides nothing itself but where a batch runs: a short one in place,
//! on this task's thread, because a hand-off to another thread and back costs more than it; a long one on a thread
//! that is there for batches, so that the connections this thread serves do not wait for it. Callers' tickets stay here while
//! their requests run elsewhere, so that a batch that nobody waits for any more can be stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::batch::{Batch, Ran, Stop};
use super::cores::Share;
use super::curve::Curve;
use super::inbox::{Contents, Inbox, RowsByClass, add_rows};
use super::job::{Job, Ticket};
use super::padding::Padding;
use super::planner::{Next, Planner, Shed};
use super::queue::{Item, Priority};
use super::{Learned, SchedulerConfig};
use crate::error::Error;
use crate::runtime::{self, Instance, Left, LoadedModel};
use crate::telemetry::ModelMetrics;

/// Batches that were ever started on another thread, by any dispatcher.
static STARTED: AtomicU64 = AtomicU64::new(0);

/// A batch that ran on another thread.
pub(super) struct Finished {
    instance: Box<dyn Instance>,
    number: u64,
    ran: Ran,
}

/// A batch that runs on another thread.
struct Running {
    number: u64,
    tickets: Vec<Ticket>,
    /// In the curve's units.
    work: usize,
    stop: Arc<Stop>,
    /// It only fills what is left over, on a thread that gives way; what it took says nothing of others.
    unhurried: bool,
    /// Where it is left to threads that give way.
    left: Option<Left>,
    /// Whether it has taken cores.
    has_cores: bool,
}

/// A batch that has run on another thread.
struct Ended {
    callers: usize,
    took: Duration,
}

/// Its callers are awaited for this part of the time that it took, and no longer than this; in so many looks at most, for
/// where time stands still.
const WELCOME_SHARE: u32 = 100;
const WELCOME_MAX: Duration = Duration::from_millis(1);
const WELCOME_LOOKS_MAX: usize = 10_000;

/// What a hand-off to another thread and back costs. Work that only fills what is left over runs in place where it takes no more:
/// on a thread that gives way, longer work costs the others no more than that.
const HAND_OFF: Duration = Duration::from_micros(50);

/// What a look at the queue led to.
enum Step {
    /// A batch was started, or run.
    Ran,
    /// Nothing more can be done before this time, unless something comes in.
    Stuck(Option<Instant>),
}

pub(super) struct Dispatcher {
    inbox: Arc<Inbox>,
    contents: Contents,
    planner: Planner<Job>,
    idle: Vec<Box<dyn Instance>>,
    running: Vec<Running>,
    /// The batch that ended last, until its callers had time to come back.
    ended: Option<Ended>,
    instances: usize,
    joining: bool,
    padding: Option<Arc<Padding>>,
    in_place_max: Duration,
    /// Whether the kernel takes the core from a batch of the lowest priority for any other work: then it needs none of its own.
    gives_way: bool,
    /// What batches on threads of their own take cores from; `None` for a model that was given instances by hand.
    share: Option<Share>,
    metrics: Arc<ModelMetrics>,
    /// Dropped last: instances may use what it holds.
    _model: Arc<dyn LoadedModel>,
}

impl Dispatcher {
    pub(super) fn new(
        inbox: Arc<Inbox>,
        planner: Planner<Job>,
        model: Arc<dyn LoadedModel>,
        idle: Vec<Box<dyn Instance>>,
        share: Option<Share>,
        config: &SchedulerConfig,
        metrics: Arc<ModelMetrics>,
    ) -> Self {
        let contents = Contents::new(planner.outlook(Instant::now()));
        Self {
            inbox,
            contents,
            planner,
            instances: idle.len(),
            idle,
            running: Vec::new(),
            ended: None,
            joining: config.limits.rows_max > 1,
            padding: config.padding.clone(),
            in_place_max: config.in_place_max,
            gives_way: config.gives_way(),
            share,
            metrics,
            _model: model,
        }
    }

    /// Runs until nothing more comes and all is answered; gives what was learned.
    pub(super) async fn run(&mut self) -> Curve {
        let mut wake_at = None;
        loop {
            self.wait(wake_at).await;
            // Lets every connection that is readable now submit first: tokio runs a yielded task after all that is ready
            // and one more look at the sockets. Requests that came together run together, and nobody waits for a timer.
            tokio::task::yield_now().await;
            self.take_in();
            self.welcome().await;
            wake_at = self.dispatch();
            if self.contents.closed && self.planner.is_empty() && self.running.is_empty() {
                return self.planner.curve().clone();
            }
        }
    }

    /// Callers of a batch that ran together come back together, if they come back: for a hundredth of the time that it took,
    /// the next one is not formed of the first of them alone. The connections of this thread are served meanwhile.
    async fn welcome(&mut self) {
        let Some(Ended { callers, took }) = self.ended.take().filter(|ended| self.joining && ended.callers > 1) else {
            return;
        };
        let until = Instant::now() + (took / WELCOME_SHARE).min(WELCOME_MAX);
        for _ in 0..WELCOME_LOOKS_MAX {
            if self.planner.waiting() >= callers || !self.running.is_empty() || Instant::now() >= until {
                return;
            }
            tokio::task::yield_now().await;
            self.take_in();
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
        let now = Instant::now();
        self.planner.offered(now, self.contents.offered);
        self.metrics.note_offered(self.contents.offered);
        let mut finished = std::mem::take(&mut self.contents.finished);
        for finished in finished.drain(..) {
            self.finish(finished);
        }
        self.contents.finished = finished;
        for reply in self.contents.asked.drain(..) {
            let planner = &self.planner;
            let (rows_per_second, unit) = (planner.rows_per_second(), planner.unit());
            // Whoever asked may have stopped waiting.
            let _ = reply.send(Learned { curve: planner.curve().clone(), rows_per_second, unit });
        }
        for job in self.contents.jobs.drain(..) {
            let (arrived, due, class) = (job.ticket.arrived, job.ticket.due, job.ticket.class);
            let parts = if self.joining && job.request.rows > 1 {
                let largest = self.planner.largest(job.unit());
                job.split(largest)
            } else {
                SmallVec::from_buf([job])
            };
            // The request counted once when it was submitted.
            self.metrics.queue_depth.add(parts.len() as i64 - 1);
            for part in parts {
                self.planner.push(part, arrived, due, class);
            }
        }
        if self.contents.left {
            self.forget_abandoned();
        }
    }

    /// Takes out what nobody waits for any more, and stops batches all of whose callers are gone.
    fn forget_abandoned(&mut self) {
        let metrics = &self.metrics;
        self.planner.remove(|job| job.ticket.is_abandoned(), |_| metrics.queue_depth.dec());
        for running in &self.running {
            if running.tickets.iter().all(Ticket::is_abandoned) {
                running.stop.now();
            }
        }
    }

    fn finish(&mut self, finished: Finished) {
        let Finished { instance, number, ran } = finished;
        // Of a dispatcher before this one, whose callers and cores are gone.
        let Some(position) = self.running.iter().position(|running| running.number == number) else { return };
        self.idle.push(instance);
        let Running { tickets, work, unhurried, has_cores, .. } = self.running.swap_remove(position);
        self.give_cores_back(has_cores, ran.busy);
        self.ended = Some(Ended { callers: tickets.len(), took: ran.busy });
        let ran = if unhurried { Ran { took: None, ..ran } } else { ran };
        self.answer(tickets, work, ran);
    }

    /// Runs what the planner says until there is nothing free to run it on, or nothing to run; gives the time to look again.
    fn dispatch(&mut self) -> Option<Instant> {
        let wake_at = loop {
            match self.step(Instant::now()) {
                Step::Ran => {}
                Step::Stuck(wake_at) => break wake_at,
            }
        };
        if let Some(share) = self.share.as_ref().filter(|_| self.planner.is_empty()) {
            share.renounce();
        }
        let mut rows = RowsByClass::new();
        self.planner.rows_by_lane().for_each(|(class, waiting)| add_rows(&mut rows, class, waiting));
        self.inbox.publish(self.planner.outlook(Instant::now()), rows, self.planner.unit());
        wake_at
    }

    fn step(&mut self, now: Instant) -> Step {
        let (metrics, inbox) = (&self.metrics, &self.inbox);
        let mut shed = |job: Job, why| {
            metrics.queue_depth.dec();
            if job.ticket.is_part() {
                inbox.leave();
            }
            give_up(job, why, now);
        };
        self.planner.expire(now, &mut shed);
        let due = self.planner.earliest_deadline();
        if self.idle.is_empty() || due.is_none() {
            self.urge(due);
            return Step::Stuck(due);
        }
        // What only fills what is left over needs no cores where the kernel sees to that, and asks nobody to leave any.
        let fills = self.gives_way && self.planner.rows_by_lane().all(|(class, _)| class == Priority::LOW);
        let has_cores = !fills && self.share.as_ref().is_none_or(Share::take);
        if !has_cores && !fills && !self.planner.is_brief(self.in_place_max) {
            // The batch is formed when there are cores for it, out of what waits then.
            if let (Some(share), Some(due)) = (&self.share, due) {
                share.wish(due);
            }
            return Step::Stuck(due);
        }
        let stuck = match self.planner.next(now, &mut shed) {
            Next::Run(jobs) => {
                self.run_batch(jobs, has_cores);
                return Step::Ran;
            }
            Next::Idle => None,
            Next::WaitUntil(at) => self.planner.earliest_deadline().into_iter().chain([at]).min(),
        };
        self.give_cores_back(has_cores, Duration::ZERO);
        Step::Stuck(stuck)
    }

    /// Where requests wait behind a batch that only fills what is left over, cores are taken for it as for one of theirs: else other
    /// models could leave it nothing for as long as they like.
    fn urge(&mut self, due: Option<Instant>) {
        let (Some(share), Some(due)) = (&self.share, due) else { return };
        let Some(filler) = self.running.iter_mut().find(|running| running.unhurried && !running.has_cores) else {
            return;
        };
        if !self.planner.rows_by_lane().any(|(class, rows)| rows > 0 && !class.is_filler()) {
            return;
        }
        if !share.take() {
            share.wish(due);
            return;
        }
        filler.has_cores = true;
        if let Some(run) = filler.left.as_ref().and_then(Left::take_back) {
            // Nobody has got to it yet.
            runtime::promptly(|_| run());
        }
    }

    fn run_batch(&mut self, jobs: Vec<Job>, mut has_cores: bool) {
        let Some(mut instance) = self.idle.pop() else { return };
        self.metrics.queue_depth.sub(jobs.len() as i64);
        let arrived = jobs.iter().map(|job| job.ticket.arrived).collect();
        let (requests, tickets): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.request, job.ticket)).unzip();
        let batch = Batch::new(requests, arrived, self.padding.clone());
        let work = batch.extent.work;
        // A model of unknown pace may be a slow one, and would keep this thread's connections waiting.
        let curve = self.planner.curve();
        let unhurried = tickets.iter().all(|ticket| ticket.class == Priority::LOW);
        let in_place_max = if unhurried { self.in_place_max.min(HAND_OFF) } else { self.in_place_max };
        let short = !curve.is_empty() && curve.centre(work) <= in_place_max;
        // Work beyond this batch could run beside it on another instance, but not while this thread is busy with it.
        let alone = self.planner.is_empty() || self.instances == 1;
        if !has_cores && !unhurried || short && alone {
            self.metrics.batches_in_place.inc();
            let ran = batch.run(instance.as_mut(), &self.metrics, &Stop::default());
            drop(batch);
            self.idle.push(instance);
            self.give_cores_back(has_cores, ran.busy);
            self.answer(tickets, work, ran);
            return;
        }
        self.metrics.batches_on_thread.inc();
        // Only to tell batches apart.
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let stop = Arc::new(Stop::new(instance.interrupt()));
        if unhurried && self.gives_way {
            self.give_cores_back(has_cores, Duration::ZERO);
            has_cores = false;
        }
        let (stopped, inbox, metrics) = (Arc::clone(&stop), Arc::clone(&self.inbox), Arc::clone(&self.metrics));
        let run = move |set_free: &dyn Fn()| {
            let ran = batch.run(instance.as_mut(), &metrics, &stopped);
            // Its tensors are let go of before anybody has an answer.
            drop(batch);
            set_free();
            // Through the inbox, so that one wake-up serves the whole batch instead of one for each request.
            inbox.finish(Finished { instance, number, ran });
        };
        let left = match unhurried {
            true => Some(runtime::unhurriedly(move || run(&|| ()))),
            false => {
                runtime::promptly(run);
                None
            }
        };
        self.running.push(Running { number, tickets, work, stop, unhurried, left, has_cores });
    }

    fn give_cores_back(&self, taken: bool, used: Duration) {
        if let Some(share) = self.share.as_ref().filter(|_| taken) {
            share.give_back(used);
        }
    }

    /// Gives each caller its outcome, after the planner has learned from the batch.
    fn answer(&mut self, tickets: Vec<Ticket>, work: usize, ran: Ran) {
        self.planner.finished(work, ran.took);
        let all = tickets.len().max(1);
        let mut useless = 0_usize;
        for (ticket, outcome) in tickets.into_iter().zip(ran.outcomes) {
            useless += usize::from(ticket.is_abandoned());
            if outcome.is_err() && ticket.is_part() {
                // The whole request has failed, and its other parts are for nobody.
                self.inbox.leave();
            }
            if let Ok(executed) = &outcome {
                self.metrics.queue_seconds.observe(executed.timing.queue.as_secs_f64());
            }
            ticket.answer(outcome);
        }
        if useless > 0 {
            self.metrics.wasted_seconds.inc_by(ran.busy.as_secs_f64() * useless as f64 / all as f64);
        }
    }
}

/// Tells the caller of `job` that it will not be run.
fn give_up(job: Job, why: Shed, now: Instant) {
    let waited = now.saturating_duration_since(job.ticket.arrived);
    job.ticket.answer(Err(match why {
        Shed::Deadline => {
            Error::deadline_exceeded(format!("the deadline cannot be met any more after {waited:.1?} in the queue"))
        }
        Shed::Overload => Error::overloaded(format!(
            "the server is asked for more than it can do, and after {waited:.1?} in the queue the objective cannot be met any more"
        ))
        .with_retry_after(waited),
    }));
}

/// However the dispatcher ends, even by a panic: no caller is left waiting.
impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.inbox.abandon();
    }
}
