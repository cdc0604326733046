//! All that decides about one version's requests, in one place and without any task, thread or clock of its own: the
//! queue, the learned curve, the rate of arrivals, and the policy over them. The dispatcher drives it with the real time,
//! the simulator with a virtual one.

use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::admission::Outlook;
use super::arrivals::Arrivals;
use super::curve::Curve;
use super::policy::{self, BatchLimits, Dispatch, Entry, Load, Plan};
use super::queue::{Item, Priority, Queue};

/// A version that is asked for more than this share of what it can do is overloaded: what is late is given up.
const OVERLOADED: f64 = 0.9;

/// How much longer than the objective a late request may take, in objectives.
const LATE_MAX: u32 = 10;

/// Share of a request in the mean work of a row: some twenty requests are remembered.
const UNIT_SHARE: f64 = 0.05;

/// When a request has to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The caller's own deadline.
    Deadline(Instant),
    /// The model's objective: an answer a little later is better than none, unless there are too many.
    Objective(Instant),
}

/// Why a waiting request is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// Its own deadline can no longer be met.
    Deadline,
    /// There is too much to do.
    Overload,
}

/// What the next free instance does.
#[derive(Debug)]
pub enum Next<T> {
    /// It runs these together.
    Run(Vec<T>),
    /// Nothing before then, unless something arrives.
    WaitUntil(Instant),
    /// Nothing waits.
    Idle,
}

/// See the module.
pub struct Planner<T> {
    queue: Queue<T>,
    curve: Curve,
    arrivals: Arrivals,
    limits: BatchLimits,
    instances: usize,
    /// When each running batch is predicted to end.
    running: SmallVec<[Instant; 8]>,
    /// Work of one row as it lately was in the mean; 0 before the first. Always 1 where work is rows.
    unit: f64,
    best: Option<Best>,
}

/// The batch worth running, remembered: a model of microseconds would spend more on finding it than on running it.
#[derive(Clone, Copy)]
struct Best {
    unit: usize,
    rows: usize,
    until: Instant,
    /// The largest work that had run then.
    ran: usize,
}

/// For how long it is.
const REMEMBERED: Duration = Duration::from_millis(1);

impl<T: Item> Planner<T> {
    /// A planner for `instances` instances that begins with what `curve` knows; without joining where
    /// [`BatchLimits::rows_max`] is 1.
    pub fn new(now: Instant, limits: BatchLimits, instances: usize, curve: Curve) -> Self {
        let queue = Queue::new(limits.rows_max > 1);
        let arrivals = Arrivals::new(now);
        let (instances, running) = (instances.max(1), SmallVec::new());
        Self { queue, curve, arrivals, limits, instances, running, unit: 0.0, best: None }
    }

    /// What was learned.
    pub fn curve(&self) -> &Curve {
        &self.curve
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether all that waits is predicted to run within `limit`.
    pub fn is_brief(&self, limit: Duration) -> bool {
        !self.curve.is_empty() && self.curve.centre(self.queue.work_ahead()) <= limit
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Rows of [`Planner::unit`] work that go before one that arrives now.
    pub fn rows_ahead(&self) -> usize {
        self.queue.work_ahead().div_ceil(self.unit())
    }

    /// Work of a typical row, in the curve's units: what the outlook's rows are.
    pub fn unit(&self) -> usize {
        (self.unit.round() as usize).max(1)
    }

    /// Rows of the largest batch that the objective allows, of rows of `unit` work each.
    pub fn largest(&self, unit: usize) -> usize {
        match self.best {
            Some(best) if best.unit == unit => best.rows,
            _ => policy::largest(&self.curve, &self.limits, &self.load(), unit),
        }
    }

    /// Rows of [`Planner::unit`] work that wait in each lane, with its class.
    pub fn rows_by_lane(&self) -> impl Iterator<Item = (Priority, usize)> + '_ {
        let unit = self.unit();
        self.queue.work_by_lane().map(move |(class, work)| (class, work.div_ceil(unit)))
    }

    /// Rows that arrive per second, refused ones included, as of the last [`Planner::offered`].
    pub fn rows_per_second(&self) -> f64 {
        self.arrivals.rate()
    }

    /// `rows` more rows were offered since the last call, admitted or not.
    pub fn offered(&mut self, now: Instant, rows: u64) {
        self.arrivals.note(now, rows);
        self.remember(now);
    }

    fn remember(&mut self, now: Instant) {
        let (unit, ran) = (self.unit(), self.curve.largest());
        if self.best.is_none_or(|best| best.unit != unit || best.ran != ran || best.until <= now) {
            self.best = None;
            let rows = self.largest(unit);
            self.best = Some(Best { unit, rows, until: now + REMEMBERED, ran });
        }
    }

    /// Takes a request in.
    pub fn push(&mut self, item: T, arrived: Instant, due: Due, class: Priority) {
        let (deadline, firm) = match due {
            Due::Deadline(at) => (at, true),
            Due::Objective(at) => (at, false),
        };
        let (rows, unit) = (item.rows(), item.unit() as f64);
        self.unit += (unit - self.unit) * if self.unit > 0.0 { UNIT_SHARE } else { 1.0 };
        self.queue.push(item, Entry { deadline, arrived, rows, firm }, class);
    }

    /// Takes out the requests for which `gone` holds and gives them to `to`.
    pub fn remove(&mut self, gone: impl Fn(&T) -> bool, to: impl FnMut(T)) {
        self.queue.remove(gone, to);
    }

    /// Gives up, or puts behind all others, what was due at `now` or before.
    pub fn expire(&mut self, now: Instant, mut shed: impl FnMut(T, Shed)) {
        if self.queue.earliest_deadline().is_none_or(|due| due > now) {
            return;
        }
        let overloaded = self.overloaded(&self.load());
        let mut late: SmallVec<[(Entry, T); 4]> = SmallVec::new();
        self.queue.take_expired(now, |entry, class, item| match entry.firm {
            true => shed(item, Shed::Deadline),
            false if overloaded || class == Priority::LATE => shed(item, Shed::Overload),
            false => late.push((entry, item)),
        });
        self.put_behind(now, late);
    }

    /// What an instance that is free at `now` does. Requests that are given up go to `shed`.
    pub fn next(&mut self, now: Instant, mut shed: impl FnMut(T, Shed)) -> Next<T> {
        loop {
            self.remember(now);
            let load = self.load();
            match policy::plan(now, self.queue.views(), &self.curve, &self.limits, &load) {
                Plan::Idle => return Next::Idle,
                Plan::WaitUntil(at) => return Next::WaitUntil(at),
                Plan::Dispatch(dispatch) => {
                    let batch = self.take(now, &dispatch, &load, &mut shed);
                    if !batch.is_empty() {
                        return Next::Run(batch);
                    }
                }
            }
        }
    }

    fn take(&mut self, now: Instant, dispatch: &Dispatch, load: &Load, shed: &mut impl FnMut(T, Shed)) -> Vec<T> {
        let overloaded = self.overloaded(load);
        let was_late = self.queue.views().nth(dispatch.lane).is_some_and(|lane| lane.class == Priority::LATE);
        let mut late: SmallVec<[(Entry, T); 4]> = SmallVec::new();
        self.queue.take(dispatch.lane, dispatch.hopeless, |entry, item| match entry.firm {
            true => shed(item, Shed::Deadline),
            false if overloaded || was_late => shed(item, Shed::Overload),
            false => late.push((entry, item)),
        });
        let mut batch = Vec::with_capacity(dispatch.requests);
        let (mut rows, mut unit) = (0, 1);
        let lanes = std::iter::once((dispatch.lane, dispatch.requests)).chain(dispatch.fill.iter().copied());
        for (lane, count) in lanes {
            self.queue.take(lane, count, |entry, item| {
                (rows, unit) = (rows + entry.rows, item.unit().max(unit));
                batch.push(item);
            });
        }
        self.queue.settle();
        if overloaded {
            self.queue.remove_class(Priority::LATE, |item| shed(item, Shed::Overload));
        }
        self.put_behind(now, late);
        if !batch.is_empty() {
            self.running.push(now + self.curve.centre(rows * unit));
            self.forget_past(now, overloaded, shed);
        }
        batch
    }

    /// Gives up, or puts behind all others, what is too late for the batch after those that run: it would only keep fresher
    /// requests out, and its callers learn it sooner.
    fn forget_past(&mut self, now: Instant, overloaded: bool, shed: &mut impl FnMut(T, Shed)) {
        if self.queue.is_empty() || self.running.len() < self.instances {
            return;
        }
        let outlook = self.outlook(now);
        let mut late: SmallVec<[(Entry, T); 4]> = SmallVec::new();
        let past = |entry: &Entry| outlook.is_past(now, entry.deadline.saturating_duration_since(now));
        self.queue.take_first(past, |entry, class, item| match entry.firm {
            true => shed(item, Shed::Deadline),
            false if overloaded || class == Priority::LATE => shed(item, Shed::Overload),
            false => late.push((entry, item)),
        });
        self.put_behind(now, late);
    }

    /// Requests that missed their objective without overload are answered after all others, for some time.
    fn put_behind(&mut self, now: Instant, late: SmallVec<[(Entry, T); 4]>) {
        for (entry, item) in late {
            let deadline = now + self.limits.objective * LATE_MAX;
            self.queue.push(item, Entry { deadline, ..entry }, Priority::LATE);
        }
    }

    /// A batch of `work` has ended: it took `took`, or failed.
    pub fn finished(&mut self, work: usize, took: Option<Duration>) {
        let soonest = self.running.iter().enumerate().min_by_key(|(_, end)| **end).map(|(position, _)| position);
        if let Some(position) = soonest {
            self.running.swap_remove(position);
        }
        if let Some(took) = took {
            self.curve.note(work, took);
        }
    }

    /// The earliest deadline of all that wait.
    pub fn earliest_deadline(&self) -> Option<Instant> {
        self.queue.earliest_deadline()
    }

    /// What can be promised to requests that arrive at `now`.
    pub fn outlook(&self, now: Instant) -> Outlook {
        let unit = self.unit();
        let largest = self.largest(unit);
        let soonest = self.running.iter().min().copied();
        Outlook {
            free_at: soonest.filter(|_| self.running.len() >= self.instances).unwrap_or(now),
            rows_per_second: self.arrivals.latest(),
            largest,
            single: self.curve.centre(unit),
            full: self.curve.centre(largest * unit),
            full_upper: self.curve.upper(largest * unit),
            instances: self.instances,
        }
    }

    /// Whether the version is asked for more than it can do.
    fn overloaded(&self, load: &Load) -> bool {
        let unit = self.unit();
        let largest = self.largest(unit);
        let takes = self.curve.seconds(largest * unit).0.max(1e-9);
        load.rows_per_second > OVERLOADED * self.instances as f64 * largest as f64 / takes
    }

    fn load(&self) -> Load {
        let best = self.best.map(|best| (best.unit, best.rows));
        Load { rows_per_second: self.arrivals.rate(), instances: self.instances, best }
    }
}
