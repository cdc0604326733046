//! One model version of ours: the production planner and admission, driven as the dispatcher drives them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tensorgate::scheduler::admission::Outlook;
use tensorgate::scheduler::planner::{Due, Next, Planner, Shed};
use tensorgate::scheduler::queue::Item;
use tensorgate::scheduler::{BatchLimits, Curve, Priority};
use tokio::time::Instant;

use super::Nanos;
use super::machine::Machine;

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// When it comes.
    pub(crate) at: Nanos,
    /// Its rows, at least 1.
    pub(crate) rows: usize,
    /// Its own deadline, counted from its arrival; without one, the model's objective counts.
    pub(crate) deadline: Option<Nanos>,
    /// Its class.
    pub(crate) class: Priority,
    /// When its client goes away, answered or not.
    pub(crate) leaves: Option<Nanos>,
    /// Whether every batch that it is in fails.
    pub(crate) poisoned: bool,
}

/// A request, or a part of one, in the queue and in a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    /// The request, by its position.
    pub(crate) id: usize,
    /// The part, by its position.
    pub(crate) part: usize,
    /// How many parts the request is in.
    pub(crate) parts: usize,
    /// Rows of the part.
    pub(crate) rows: usize,
    /// When the request came.
    pub(crate) arrived: Nanos,
    /// When it is due, and whether by its own deadline.
    pub(crate) due: Nanos,
    /// Whether the deadline is the client's own.
    pub(crate) firm: bool,
    class: Priority,
    poisoned: bool,
}

impl Item for Ticket {
    fn rows(&self) -> usize {
        self.rows
    }

    fn joins(&self, _: &Self) -> bool {
        true
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With its rows.
    Answered,
    /// With an error of the runtime.
    Failed,
    /// Not admitted.
    Refused,
    /// Given up in the queue.
    Shed(Shed),
    /// Its client went away first.
    Left,
}

/// Sees what happens at a server.
pub(crate) trait Witness {
    /// A request ends, at `now`.
    fn ends(&mut self, id: usize, request: &Request, end: End, now: Nanos);

    /// A batch begins at `now`; the dispatcher has not looked for at most `unseeing`, while it ran a batch in place.
    fn begins(&mut self, _batch: &[Ticket], _now: Nanos, _unseeing: Nanos) {}

    /// The dispatcher has done all it can for now.
    fn settles(&mut self, _server: &State<'_>, _now: Nanos) {}
}

/// What a witness may look at.
pub(crate) struct State<'a> {
    /// The planner.
    pub(crate) planner: &'a Planner<Ticket>,
    /// Instances without work.
    pub(crate) idle: usize,
    /// The earliest deadline of all that wait.
    pub(crate) due: Option<Nanos>,
    /// Parts that wait, in the inbox too.
    pub(crate) waiting: usize,
    /// Whether cores are shared with other models.
    pub(crate) shares: bool,
    /// Whether a request ever waited in parts, each of which takes a place that only one was asked for.
    pub(crate) split: bool,
}

/// A batch that runs.
struct Running {
    end: Nanos,
    started: Nanos,
    batch: Vec<Ticket>,
    /// One for each of the batch.
    failed: Vec<bool>,
    took: Option<Nanos>,
    has_cores: bool,
    /// Whether the dispatcher's own thread runs it.
    in_place: bool,
}

/// Settings of a server.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How batches are formed.
    pub(crate) limits: BatchLimits,
    /// Instances.
    pub(crate) instances: usize,
    /// Requests that may wait.
    pub(crate) queue_max: usize,
    /// Batches that short run in place.
    pub(crate) in_place_max: Duration,
    /// How many times the time alone an objective is stretched to.
    pub(crate) stretch: u32,
}

impl Settings {
    /// Production's defaults with this objective, which somebody stated.
    pub(crate) fn new(objective: Duration, instances: usize) -> Self {
        let limits = BatchLimits { objective, ..BatchLimits::default() };
        Self { limits, instances, queue_max: 4096, in_place_max: Duration::from_micros(100), stretch: 2 }
    }
}

/// What the dispatcher gets cores from, where they are shared.
pub(crate) trait Cores {
    /// Takes those of one batch, if they are there.
    fn take(&mut self) -> bool;
    /// Asks to be woken for a request that is due then.
    fn wish(&mut self, due: Instant);
    /// Asks for nothing any more.
    fn renounce(&mut self);
    /// Gives those of one batch back.
    fn give_back(&mut self, used: Duration);
}

/// See the module.
pub(crate) struct Server<W> {
    base: Instant,
    settings: Settings,
    machine: Machine,
    planner: Planner<Ticket>,
    /// What clients wait for: parts that are missing, and whether one failed.
    open: HashMap<usize, (Request, usize)>,
    gone: HashSet<usize>,
    /// Whether a client has gone since the last look.
    left: bool,
    inbox: Vec<(Ticket, Due)>,
    offered: u64,
    outlook: Outlook,
    rows_ahead: usize,
    idle: usize,
    waiting: usize,
    running: Vec<Running>,
    wake_at: Option<Nanos>,
    split: bool,
    /// The longest batch that ran in place.
    unseeing: Nanos,
    /// What sees all this.
    pub(crate) witness: W,
}

/// A curve from the runs that `warm_up` makes before a model serves.
pub(crate) fn warmed_up(machine: &mut Machine, rows_max: usize) -> Curve {
    let mut curve = Curve::default();
    for rows in [1, 2, 8, rows_max].into_iter().filter(|&rows| rows <= rows_max) {
        if rows == 1 || curve.centre(rows) <= Duration::from_millis(20) {
            let best = (0..2).map(|_| machine.execute(rows, 0)).min().unwrap_or(1);
            curve.note(rows, Duration::from_nanos(best));
        }
    }
    curve
}

impl<W: Witness> Server<W> {
    /// A server that has run nothing but its warm-up.
    pub(crate) fn new(base: Instant, settings: Settings, mut machine: Machine, witness: W) -> Self {
        let curve = warmed_up(&mut machine, settings.limits.rows_max);
        let planner = Planner::new(base, settings.limits, settings.instances, curve);
        Self {
            base,
            outlook: planner.outlook(base),
            planner,
            machine,
            open: HashMap::new(),
            gone: HashSet::new(),
            left: false,
            inbox: Vec::new(),
            offered: 0,
            rows_ahead: 0,
            idle: settings.instances,
            waiting: 0,
            running: Vec::new(),
            wake_at: None,
            split: false,
            unseeing: 0,
            settings,
            witness,
        }
    }

    fn instant(&self, now: Nanos) -> Instant {
        self.base + Duration::from_nanos(now)
    }

    fn since_start(&self, at: Instant) -> Nanos {
        at.saturating_duration_since(self.base).as_nanos() as Nanos
    }

    /// When something happens next without anybody asking.
    pub(crate) fn next_event(&self) -> Option<Nanos> {
        // While its thread runs a batch, the dispatcher does not hear of others that end.
        let blocked = self.blocked();
        let heard = self.running.iter().filter(|running| running.in_place || !blocked);
        heard.map(|running| running.end).chain(self.wake_at.filter(|_| !blocked)).min()
    }

    /// Whether the dispatcher's thread is busy with a batch.
    fn blocked(&self) -> bool {
        self.running.iter().any(|running| running.in_place)
    }

    /// What it has learned.
    pub(crate) fn curve(&self) -> &Curve {
        self.planner.curve()
    }

    /// Requests that have no end yet.
    pub(crate) fn unanswered(&self) -> usize {
        self.open.len()
    }

    /// A request comes. Gives whether the dispatcher is to look.
    pub(crate) fn submit(&mut self, id: usize, request: &Request) -> bool {
        let (now, arrived) = (request.at, self.instant(request.at));
        if self.waiting >= self.settings.queue_max {
            self.witness.ends(id, request, End::Refused, now);
            return false;
        }
        let slack = match request.deadline {
            Some(deadline) => Duration::from_nanos(deadline),
            None => self.settings.limits.objective.max(self.outlook.alone(request.rows) * self.settings.stretch),
        };
        self.offered += request.rows as u64;
        if self.outlook.admit(arrived, request.rows, self.rows_ahead, slack).is_err() {
            self.witness.ends(id, request, End::Refused, now);
            return false;
        }
        let firm = request.deadline.is_some();
        let due = if firm { Due::Deadline(arrived + slack) } else { Due::Objective(arrived + slack) };
        let ticket = Ticket {
            id,
            part: 0,
            parts: 1,
            rows: request.rows,
            arrived: now,
            due: now + slack.as_nanos() as Nanos,
            firm,
            class: request.class,
            poisoned: request.poisoned,
        };
        self.open.insert(id, (*request, 1));
        self.rows_ahead += request.rows;
        self.waiting += 1;
        self.inbox.push((ticket, due));
        true
    }

    /// The client of a request goes away. Gives whether the dispatcher is to look.
    pub(crate) fn leave(&mut self, id: usize, now: Nanos) -> bool {
        let Some((request, _)) = self.open.remove(&id) else { return false };
        self.witness.ends(id, &request, End::Left, now);
        self.gone.insert(id);
        self.left = true;
        true
    }

    /// The dispatcher looks: takes in what came and ended by `now`, and starts what can be.
    pub(crate) fn look(&mut self, now: Nanos, cores: &mut Option<impl Cores>) {
        self.finish(now, cores, true);
        if self.blocked() {
            return;
        }
        let at = self.instant(now);
        self.planner.offered(at, std::mem::take(&mut self.offered));
        self.finish(now, cores, false);
        let joining = self.settings.limits.rows_max > 1;
        let largest = if joining { self.planner.outlook(at).largest } else { usize::MAX };
        for (ticket, due) in std::mem::take(&mut self.inbox) {
            let parts = ticket.rows.div_ceil(largest);
            self.waiting += parts - 1;
            self.split |= parts > 1;
            if let Some((_, missing)) = self.open.get_mut(&ticket.id) {
                *missing = parts;
            }
            for part in 0..parts {
                let rows = largest.min(ticket.rows - part * largest);
                self.planner.push(
                    Ticket { part, parts, rows, ..ticket },
                    self.instant(ticket.arrived),
                    due,
                    ticket.class,
                );
            }
        }
        self.forget_abandoned(now);
        while self.step(now, cores) {}
        if let Some(cores) = cores.as_mut().filter(|_| self.planner.is_empty()) {
            cores.renounce();
        }
        (self.outlook, self.rows_ahead) = (self.planner.outlook(at), self.planner.rows_ahead());
        let shares = cores.is_some();
        let state = State {
            planner: &self.planner,
            due: self.planner.earliest_deadline().map(|due| self.since_start(due)),
            idle: self.idle,
            waiting: self.waiting,
            shares,
            split: self.split,
        };
        if !self.running.iter().any(|running| running.in_place) {
            self.witness.settles(&state, now);
        }
    }

    /// Takes out what nobody waits for any more, and stops batches all of whose callers are gone.
    fn forget_abandoned(&mut self, now: Nanos) {
        if !std::mem::take(&mut self.left) {
            return;
        }
        let (gone, waiting) = (&self.gone, &mut self.waiting);
        self.planner.remove(|ticket| gone.contains(&ticket.id), |_| *waiting -= 1);
        for running in &mut self.running {
            if !running.in_place && running.batch.iter().all(|ticket| gone.contains(&ticket.id)) {
                (running.end, running.took) = (running.end.min(now + 1), None);
            }
        }
        let runs: HashSet<usize> = self.running.iter().flat_map(|running| &running.batch).map(|part| part.id).collect();
        self.gone.retain(|id| runs.contains(id));
    }

    /// Answers batches that have ended by `now`, those that ran in place or the others.
    fn finish(&mut self, now: Nanos, cores: &mut Option<impl Cores>, in_place: bool) {
        while let Some(position) = self.running.iter().position(|run| run.end <= now && run.in_place == in_place) {
            let Running { started, batch, failed, took, has_cores, end, .. } = self.running.swap_remove(position);
            self.idle += 1;
            if let Some(cores) = cores.as_mut().filter(|_| has_cores) {
                cores.give_back(Duration::from_nanos(end - started));
            }
            let rows = batch.iter().map(|ticket| ticket.rows).sum();
            self.planner.finished(rows, took.map(Duration::from_nanos));
            for (ticket, failed) in batch.iter().zip(failed) {
                self.part_ends(ticket, if failed { End::Failed } else { End::Answered }, end);
            }
        }
    }

    /// One part has its outcome; the last one, or one that is not answered, ends the request.
    fn part_ends(&mut self, ticket: &Ticket, end: End, now: Nanos) {
        let Some((_, missing)) = self.open.get_mut(&ticket.id) else { return };
        *missing -= 1;
        if (*missing == 0 || end != End::Answered)
            && let Some((request, missing)) = self.open.remove(&ticket.id)
        {
            if missing > 0 {
                // Its other parts are nobody's any more.
                self.gone.insert(ticket.id);
            }
            self.witness.ends(ticket.id, &request, end, now);
        }
    }

    /// Starts one batch; gives whether there may be another.
    fn step(&mut self, now: Nanos, cores: &mut Option<impl Cores>) -> bool {
        let at = self.instant(now);
        let mut shed: Vec<(Ticket, Shed)> = Vec::new();
        self.planner.expire(at, |ticket, why| shed.push((ticket, why)));
        self.give_up(&mut shed, now);
        let due = self.planner.earliest_deadline();
        self.wake_at = due.map(|due| self.since_start(due));
        let Some(due) = due.filter(|_| self.idle > 0 && !self.blocked()) else { return false };
        let has_cores = cores.as_mut().is_none_or(Cores::take);
        if !has_cores && !self.planner.is_brief(self.settings.in_place_max) {
            if let Some(cores) = cores {
                cores.wish(due);
            }
            return false;
        }
        let next = self.planner.next(at, |ticket, why| shed.push((ticket, why)));
        self.give_up(&mut shed, now);
        if let Next::Run(batch) = next {
            self.run(batch, has_cores, now);
            return true;
        }
        if let Some(cores) = cores.as_mut().filter(|_| has_cores) {
            cores.give_back(Duration::ZERO);
        }
        let due = self.planner.earliest_deadline();
        let until = if let Next::WaitUntil(at) = next { due.into_iter().chain([at]).min() } else { None };
        self.wake_at = until.map(|until| self.since_start(until));
        false
    }

    fn give_up(&mut self, shed: &mut Vec<(Ticket, Shed)>, now: Nanos) {
        for (ticket, why) in shed.drain(..) {
            self.waiting -= 1;
            self.part_ends(&ticket, End::Shed(why), now);
        }
    }

    /// Runs `batch`; one that fails is retried request by request.
    fn run(&mut self, batch: Vec<Ticket>, has_cores: bool, now: Nanos) {
        self.idle -= 1;
        self.waiting -= batch.len();
        self.witness.begins(&batch, now, self.unseeing);
        let rows: usize = batch.iter().map(|ticket| ticket.rows).sum();
        let short = self.planner.curve().centre(rows) <= self.settings.in_place_max;
        let in_place = !has_cores || short && (self.planner.is_empty() || self.settings.instances == 1);
        let joint = self.machine.execute(rows, now);
        let mut end = now + joint;
        let succeeded = !self.machine.fails() && !batch.iter().any(|ticket| ticket.poisoned);
        let mut failed = vec![!succeeded; batch.len()];
        if !succeeded && batch.len() > 1 {
            for (ticket, failed) in batch.iter().zip(&mut failed) {
                end += self.machine.execute(ticket.rows, end);
                *failed = ticket.poisoned;
            }
        }
        if in_place {
            self.unseeing = self.unseeing.max(end - now);
        }
        let took = succeeded.then_some(joint);
        self.running.push(Running { end, started: now, batch, failed, took, has_cores, in_place });
    }
}
