//! Where requests and finished batches wait for the dispatcher, and where requests are admitted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::Learned;
use super::admission::{Outlook, Refusal};
use super::dispatcher::Finished;
use super::job::Job;
use super::queue::{Item, Priority};

/// Filled by many, emptied by one. A lock held for a push or a swap, uncontended nearly always, costs less than a
/// channel's slot per request.
pub(super) struct Inbox {
    contents: Mutex<Contents>,
    arrived: Notify,
}

/// What has come in since the last look.
pub(super) struct Contents {
    pub(super) jobs: Vec<Job>,
    pub(super) finished: Vec<Finished>,
    /// Who wants to know what was learned.
    pub(super) asked: Vec<oneshot::Sender<Learned>>,
    /// Rows of all requests that came, refused ones included.
    pub(super) offered: u64,
    /// Whether a caller has gone away.
    pub(super) left: bool,
    pub(super) closed: bool,
    abandoned: bool,
    /// What the dispatcher last knew.
    outlook: Outlook,
    /// Rows in the dispatcher's queue then, and those that have come in since, by their class.
    rows_by_class: RowsByClass,
    /// Work of such a row, see [`Contents::typical_rows`].
    unit: usize,
}

/// Rows that wait, by the class of their requests; each class once.
pub(super) type RowsByClass = SmallVec<[(Priority, usize); 2]>;

/// Adds `rows` rows of `class`.
pub(super) fn add_rows(by_class: &mut RowsByClass, class: Priority, rows: usize) {
    match by_class.iter_mut().find(|(known, _)| *known == class) {
        Some((_, sum)) => *sum += rows,
        None => by_class.push((class, rows)),
    }
}

impl Contents {
    /// Nothing has come in.
    pub(super) fn new(outlook: Outlook) -> Self {
        Self {
            jobs: Vec::new(),
            finished: Vec::new(),
            asked: Vec::new(),
            offered: 0,
            left: false,
            closed: false,
            abandoned: false,
            outlook,
            rows_by_class: SmallVec::new(),
            unit: 1,
        }
    }

    /// Rows that go before a request of `class` that arrives now.
    fn rows_before(&self, class: Priority) -> usize {
        self.rows_by_class.iter().filter(|(other, _)| *other <= class).map(|(_, rows)| rows).sum()
    }

    /// As how many rows of the typical length `rows` rows of `unit` work each count: what is promised is in such rows.
    fn typical_rows(&self, rows: usize, unit: usize) -> usize {
        if unit == self.unit { rows } else { (rows * unit).div_ceil(self.unit) }
    }
}

impl Inbox {
    pub(super) fn new(outlook: Outlook) -> Self {
        Self { contents: Mutex::new(Contents::new(outlook)), arrived: Notify::new() }
    }

    /// Whether a request of `class` with `rows` rows can be answered within `slack` from `now`.
    pub(super) fn admit(&self, now: Instant, rows: usize, class: Priority, slack: Duration) -> Result<(), Refusal> {
        let mut contents = self.lock();
        let decision = contents.outlook.admit(now, rows, contents.rows_before(class), slack);
        if decision.is_err() {
            contents.offered += rows as u64;
        }
        decision
    }

    /// How long a request of `rows` rows takes on a machine that has nothing else to do; `unit` is the work of one of its
    /// rows, `None` for a typical one.
    pub(super) fn alone(&self, rows: usize, unit: Option<usize>) -> Duration {
        let contents = self.lock();
        contents.outlook.alone(unit.map_or(rows, |unit| contents.typical_rows(rows, unit)))
    }

    /// Puts `job` in, if it can be answered within `slack`; where nobody will take it out any more it is dropped, which its
    /// caller notices.
    pub(super) fn submit(&self, job: Job, slack: Duration) -> Result<(), Refusal> {
        let class = job.ticket.class;
        let mut contents = self.lock();
        contents.offered += job.rows() as u64;
        let rows = contents.typical_rows(job.rows(), job.unit());
        contents.outlook.admit(job.ticket.arrived, rows, contents.rows_before(class), slack)?;
        if !contents.abandoned {
            add_rows(&mut contents.rows_by_class, class, rows);
            contents.jobs.push(job);
        }
        drop(contents);
        self.arrived.notify_one();
        Ok(())
    }

    pub(super) fn finish(&self, finished: Finished) {
        self.lock().finished.push(finished);
        self.arrived.notify_one();
    }

    /// Has the dispatcher tell `reply` what it has learned; where nobody will, it is dropped.
    pub(super) fn ask(&self, reply: oneshot::Sender<Learned>) {
        let mut contents = self.lock();
        if !contents.abandoned {
            contents.asked.push(reply);
        }
        drop(contents);
        self.arrived.notify_one();
    }

    /// Has the dispatcher look again.
    pub(super) fn wake(&self) {
        self.arrived.notify_one();
    }

    /// A caller has gone away: the dispatcher looks whose.
    pub(super) fn leave(&self) {
        self.lock().left = true;
        self.arrived.notify_one();
    }

    /// Nobody takes anything out any more: callers that wait get an error instead of waiting for ever.
    pub(super) fn abandon(&self) {
        let mut contents = self.lock();
        contents.abandoned = true;
        contents.jobs.clear();
        contents.asked.clear();
    }

    /// Somebody takes out again what comes from now on, who promises `outlook`.
    pub(super) fn take_over(&self, outlook: Outlook) {
        let mut contents = self.lock();
        contents.abandoned = false;
        (contents.outlook, contents.unit) = (outlook, 1);
        contents.rows_by_class.clear();
    }

    /// No more jobs will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves what has come in into `into`, whose buffers are reused for what comes next.
    pub(super) fn take(&self, into: &mut Contents) {
        let mut contents = self.lock();
        into.closed = contents.closed;
        into.left = std::mem::take(&mut contents.left);
        into.offered = std::mem::take(&mut contents.offered);
        std::mem::swap(&mut contents.jobs, &mut into.jobs);
        std::mem::swap(&mut contents.finished, &mut into.finished);
        std::mem::swap(&mut contents.asked, &mut into.asked);
    }

    /// What requests are admitted by from now on: `outlook`, with `rows` waiting in the dispatcher's queue, both in rows of
    /// `unit` work.
    pub(super) fn publish(&self, outlook: Outlook, mut rows: RowsByClass, unit: usize) {
        let mut contents = self.lock();
        (contents.outlook, contents.unit) = (outlook, unit);
        for job in &contents.jobs {
            add_rows(&mut rows, job.ticket.class, contents.typical_rows(job.rows(), job.unit()));
        }
        contents.rows_by_class = rows;
    }

    /// Waits until something has come in since the last wait.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}
