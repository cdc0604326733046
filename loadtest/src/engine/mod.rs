//! The load generator: one thread, one epoll loop, closed or open loop, over any [`Protocol`].
//!
//! One thread on its own core, with requests built beforehand and no runtime in between, so that the server is the
//! bottleneck and not the generator.

pub(crate) mod connection;
pub(crate) mod poll;
pub(crate) mod protocol;
pub(crate) mod schedule;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use self::connection::Connection;
use self::poll::Poller;
use self::protocol::{Done, Failure, Protocol};
use self::schedule::{Schedule, opening};
use crate::process::cpu_time;
use crate::report::{Report, Tally};

/// Bytes read from a socket at once.
const SCRATCH: usize = 256 * 1024;
/// Pause before a lost connection is opened again: long enough not to spin on a dead server.
const REOPEN_PAUSE: u64 = 20_000_000;
/// The longest sleep, so that no phase change is missed by more.
const SLEEP_MAX_MS: u64 = 50;

/// What one run does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The server.
    pub(crate) address: SocketAddr,
    /// Connections held open.
    pub(crate) connections: usize,
    /// Time over which they are opened; zero opens all in one burst.
    pub(crate) spread: Duration,
    /// Load before the window, after the last connection was opened.
    pub(crate) warmup: Duration,
    /// The measured window.
    pub(crate) window: Duration,
    /// Requests per second of an open loop; `None` is a closed loop.
    pub(crate) rate: Option<f64>,
    /// How long stragglers are awaited after the window.
    pub(crate) drain: Duration,
    /// The process whose CPU time is observed over the window.
    pub(crate) observed: Option<u32>,
}

/// Runs the plan on the calling thread. `client` makes the protocol state of each fresh connection.
///
/// Fails if the first connection cannot be opened; any later trouble is counted in the report instead.
pub(crate) fn run<P: Protocol>(plan: &Plan, client: impl Fn() -> P) -> io::Result<Report> {
    let mut engine = Engine::new(plan, client)?;
    let mut done = Vec::with_capacity(256);
    let mut scratch = vec![0; SCRATCH];
    loop {
        let now = engine.now();
        engine.mark(now);
        if engine.last_mark.is_some() && (engine.in_flight == 0 || now >= engine.drain_end) {
            return Ok(engine.finish(now));
        }
        engine.open_due(now)?;
        engine.dispatch(now);
        let timeout = engine.sleep_ms(now);
        let count = engine.poller.wait(timeout)?;
        for index in 0..count {
            let ready = engine.poller.ready(index);
            engine.serve(ready.token, ready.hung_up, &mut scratch, &mut done);
        }
    }
}

/// A place for a connection: open, or waiting to be opened at a time.
enum Place<P> {
    Open(Connection<P>),
    Due(u64),
}

/// A moment at which the window began or ended.
#[derive(Clone, Copy)]
struct Mark {
    at: u64,
    cpu: Option<Duration>,
    ended: u64,
}

struct Engine<'a, P, F> {
    plan: &'a Plan,
    client: F,
    clock: Instant,
    poller: Poller,
    places: Vec<Place<P>>,
    /// When the next place is due to be opened, `u64::MAX` if none is.
    opening_due: u64,
    opened_once: bool,
    schedule: Option<Schedule>,
    start: u64,
    end: u64,
    drain_end: u64,
    first_mark: Option<Mark>,
    last_mark: Option<Mark>,
    in_flight: usize,
    ended: u64,
    sent: usize,
    /// The place that the open loop tries next.
    turn: usize,
    tally: Tally,
}

impl<'a, P: Protocol, F: Fn() -> P> Engine<'a, P, F> {
    fn new(plan: &'a Plan, client: F) -> io::Result<Self> {
        let nanos = |duration: Duration| duration.as_nanos() as u64;
        let spread = nanos(plan.spread);
        let start = spread + nanos(plan.warmup);
        let end = start + nanos(plan.window);
        let count = plan.connections.max(1);
        Ok(Self {
            plan,
            client,
            clock: Instant::now(),
            poller: Poller::new()?,
            places: (0..count).map(|index| Place::Due(opening(index, count, spread))).collect(),
            opening_due: 0,
            opened_once: false,
            schedule: plan.rate.map(|rate| Schedule::new(rate, 0, end)),
            start,
            end,
            drain_end: end + nanos(plan.drain),
            first_mark: None,
            last_mark: None,
            in_flight: 0,
            ended: 0,
            sent: 0,
            turn: 0,
            tally: Tally::new(),
        })
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    fn in_window(&self) -> bool {
        self.first_mark.is_some() && self.last_mark.is_none()
    }

    /// Notes the window's begin and end as they pass, with the observed process's CPU time.
    fn mark(&mut self, now: u64) {
        let mark = Mark { at: now, cpu: None, ended: self.ended };
        let cpu = || self.plan.observed.and_then(cpu_time);
        if self.first_mark.is_none() && now >= self.start {
            self.first_mark = Some(Mark { cpu: cpu(), ..mark });
        } else if self.in_window() && now >= self.end {
            self.last_mark = Some(Mark { cpu: cpu(), ..mark });
        }
    }

    /// Opens the connections whose time has come.
    fn open_due(&mut self, now: u64) -> io::Result<()> {
        if now < self.opening_due || now >= self.end {
            return Ok(());
        }
        for index in 0..self.places.len() {
            let Place::Due(at) = self.places[index] else { continue };
            if at > now {
                continue;
            }
            match Connection::open(self.plan.address, (self.client)()) {
                Ok(connection) => {
                    self.poller.add(connection.descriptor(), index)?;
                    self.places[index] = Place::Open(connection);
                    self.opened_once = true;
                    self.fill(index, now);
                }
                Err(error) if !self.opened_once => return Err(error),
                Err(_) => {
                    self.tally.failure(Failure::Connect, 1, self.first_mark.is_none());
                    self.places[index] = Place::Due(now + REOPEN_PAUSE);
                }
            }
        }
        let dues = self.places.iter().filter_map(|place| if let Place::Due(at) = place { Some(*at) } else { None });
        self.opening_due = dues.min().unwrap_or(u64::MAX);
        Ok(())
    }

    /// Open loop: hands due requests to the places in turn, as long as one has room.
    fn dispatch(&mut self, now: u64) {
        let mut refused = 0;
        while refused < self.places.len() {
            if self.schedule.as_ref().and_then(Schedule::next).is_none_or(|at| at > now) {
                return;
            }
            let index = self.turn;
            self.turn = (self.turn + 1) % self.places.len();
            let before = self.sent;
            self.send_due(index, now, 1);
            refused = if self.sent > before { 0 } else { refused + 1 };
        }
    }

    /// Starts as many requests on a place as it has room for and as are due.
    fn fill(&mut self, index: usize, now: u64) {
        self.send_due(index, now, usize::MAX);
    }

    /// Starts up to `most` requests on a place and flushes it.
    fn send_due(&mut self, index: usize, now: u64, most: usize) {
        let Place::Open(connection) = &mut self.places[index] else {
            return;
        };
        let mut left = most.min(connection.protocol.room());
        while left > 0 {
            let due = match &mut self.schedule {
                Some(schedule) => schedule.take(now),
                None => (now < self.end).then_some(now),
            };
            let Some(at) = due else { break };
            connection.send(self.sent, at);
            self.sent += 1;
            self.in_flight += 1;
            left -= 1;
        }
        if connection.flush().is_err() {
            self.lose(index, Failure::Closed);
        }
    }

    /// Reads a place that the poller reported, counts what ended, and starts what may follow.
    fn serve(&mut self, index: usize, hung_up: bool, scratch: &mut [u8], done: &mut Vec<Done>) {
        let Place::Open(connection) = &mut self.places[index] else {
            return;
        };
        let result = connection.read(scratch, hung_up, done);
        let retired = connection.protocol.retired() && connection.protocol.in_flight() == 0;
        let now = self.now();
        for one in done.drain(..) {
            self.count(one, now);
        }
        match result {
            Err(failure) => self.lose(index, failure),
            Ok(()) if retired => self.places_due(index, now),
            Ok(()) => self.fill(index, now),
        }
    }

    fn count(&mut self, done: Done, now: u64) {
        self.in_flight -= 1;
        self.ended += 1;
        match done.outcome {
            Err(failure) => self.tally.failure(failure, 1, self.first_mark.is_none()),
            Ok(()) => {
                if self.in_window() {
                    self.tally.success(done.bytes);
                }
                // A closed loop measures what ended in the window; an open loop what was due in it, however late.
                let belongs = if self.schedule.is_some() { done.started >= self.start } else { self.in_window() };
                if belongs {
                    self.tally.latency(now.saturating_sub(done.started));
                }
            }
        }
    }

    /// Gives up a connection with everything in flight on it.
    fn lose(&mut self, index: usize, failure: Failure) {
        let Place::Open(connection) = &self.places[index] else {
            return;
        };
        let lost = connection.protocol.in_flight();
        // A broken protocol is a failure even with nothing in flight; an idle connection may be closed by the peer.
        let count = if failure == Failure::Closed { lost } else { lost.max(1) };
        self.tally.failure(failure, count as u64, self.first_mark.is_none());
        self.in_flight -= lost;
        self.ended += lost as u64;
        let pause = if lost == 0 && failure == Failure::Closed { 0 } else { REOPEN_PAUSE };
        let now = self.now();
        self.places_due(index, now + pause);
    }

    fn places_due(&mut self, index: usize, at: u64) {
        self.places[index] = Place::Due(at);
        self.opening_due = self.opening_due.min(at);
    }

    /// How long the poller may sleep until something else than a socket needs attention.
    fn sleep_ms(&self, now: u64) -> i32 {
        let mut until = if now < self.start {
            self.start
        } else if now < self.end {
            self.end
        } else {
            self.drain_end
        };
        if now < self.end {
            until = until.min(self.opening_due);
        }
        // A request that is already due waits for a socket, not for the clock.
        if let Some(at) = self.schedule.as_ref().and_then(Schedule::next).filter(|at| *at > now) {
            until = until.min(at);
        }
        // Rounded down: the last fraction of a millisecond is spun away, so that requests leave on time.
        (until.saturating_sub(now) / 1_000_000).min(SLEEP_MAX_MS) as i32
    }

    fn finish(mut self, now: u64) -> Report {
        self.tally.failure(Failure::Unanswered, self.in_flight as u64, false);
        while let Some(at) = self.schedule.as_mut().and_then(|schedule| schedule.take(u64::MAX)) {
            self.tally.failure(Failure::Unsent, 1, false);
            if at >= self.start {
                self.tally.latency(now.saturating_sub(at));
            }
        }
        let unmarked = Mark { at: 0, cpu: None, ended: 0 };
        let first = self.first_mark.unwrap_or(unmarked);
        let last = self.last_mark.unwrap_or(unmarked);
        let cpu = last.cpu.zip(first.cpu).map(|(end, begin)| (end.saturating_sub(begin), last.ended - first.ended));
        self.tally.report(last.at.saturating_sub(first.at) as f64 / 1e9, cpu)
    }
}

#[cfg(test)]
mod tests;
