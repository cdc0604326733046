//! One run under way: the connections, the clock, and who sends what when.

mod places;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::connection::Connection;
use super::poll::Poller;
use super::protocol::{Done, Failure, Protocol};
use super::schedule::{Schedule, opening};
use super::{Look, Plan};
use crate::process::cpu_time;
use crate::report::Report;
use crate::report::tally::{Closing, Phase, Tally};

/// Bytes read from a socket at once.
const SCRATCH: usize = 256 * 1024;
/// Pause before a lost connection is opened again: long enough not to spin on a dead server.
const REOPEN_PAUSE: u64 = 20_000_000;
/// The longest sleep, so that no phase change is missed by more.
const SLEEP_MAX: u64 = 50_000_000;
/// Requests sent before sockets are looked at again, so that a burst does not leave answers lying there.
const BURST: usize = 32;
/// Between two looks of a spectator.
const LOOK: u64 = 100_000_000;

/// Runs to the end.
pub(super) fn drive<P: Protocol>(
    plan: &Plan,
    client: impl Fn() -> P,
    spectator: &mut dyn FnMut(Look),
) -> io::Result<Report> {
    let mut engine = Engine::new(plan, client)?;
    let mut done = Vec::with_capacity(256);
    let mut scratch = vec![0; SCRATCH];
    let mut look = 0;
    loop {
        let now = engine.now();
        engine.mark(now);
        if engine.last_mark.is_some() && (engine.is_idle() || now >= engine.drain_end) {
            return Ok(engine.finish(now));
        }
        if now >= look {
            look = now + LOOK;
            spectator(engine.look(now));
        }
        engine.open_due(now)?;
        engine.dispatch();
        let timeout = engine.sleep(engine.now());
        let count = engine.poller.wait(timeout)?;
        for index in 0..count {
            let ready = engine.poller.ready(index);
            engine.serve(ready.token, ready.hung_up, &mut scratch, &mut done);
        }
    }
}

/// A place for a connection: open, waiting to be opened at a time, or given up until it is needed again.
enum Place<P> {
    Open(Connection<P>),
    Due(u64),
    Vacant,
}

/// A moment at which the window began or ended.
#[derive(Clone, Copy)]
struct Mark {
    at: u64,
    cpu: Option<Duration>,
    ended: u64,
    answered: u64,
}

struct Engine<'a, P, F> {
    plan: &'a Plan,
    client: F,
    clock: Instant,
    poller: Poller,
    places: Vec<Place<P>>,
    /// When the next place is due to be opened, `u64::MAX` if none is.
    opening_due: u64,
    opened: u64,
    schedule: Option<Schedule>,
    start: u64,
    end: u64,
    drain_end: u64,
    first_mark: Option<Mark>,
    last_mark: Option<Mark>,
    in_flight: usize,
    in_flight_max: usize,
    ended: u64,
    answered: u64,
    sent: usize,
    /// Open loop: places that may have room, in the order in which they got it.
    free: VecDeque<usize>,
    /// Whether a place stands in `free`.
    listed: Vec<bool>,
    /// Places without a connection that may be used when more are needed.
    vacant: Vec<usize>,
    /// No connection is opened on demand before this time, because the last try failed.
    grow_after: u64,
    tally: Tally,
    /// Open loop: when each successful request of the window was due, and how long it took; no more than there are due times.
    each: Vec<(u64, u64)>,
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
            opened: 0,
            schedule: plan.open.as_ref().map(|open| Schedule::new(Arc::clone(&open.due), spread)),
            start,
            end,
            drain_end: end + nanos(plan.drain),
            first_mark: None,
            last_mark: None,
            in_flight: 0,
            in_flight_max: 0,
            ended: 0,
            answered: 0,
            sent: 0,
            free: VecDeque::new(),
            listed: vec![false; count],
            vacant: Vec::new(),
            grow_after: 0,
            tally: Tally::new(plan.window, plan.slo),
            each: Vec::new(),
        })
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    fn in_window(&self) -> bool {
        self.first_mark.is_some() && self.last_mark.is_none()
    }

    /// Nothing is awaited and nothing left to send.
    fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.schedule.as_ref().and_then(Schedule::next).is_none()
    }

    fn look(&self, now: u64) -> Look {
        let share = (now as f64 / self.end.max(1) as f64).min(1.0);
        Look { share, outcomes: self.tally.outcomes(), in_flight: self.in_flight }
    }

    /// Notes the window's begin and end as they pass, with the observed process's CPU time.
    fn mark(&mut self, now: u64) {
        let mark = Mark { at: now, cpu: None, ended: self.ended, answered: self.answered };
        let cpu = || self.plan.observed.and_then(cpu_time);
        if self.first_mark.is_none() && now >= self.start {
            self.first_mark = Some(Mark { cpu: cpu(), ..mark });
        } else if self.in_window() && now >= self.end {
            self.last_mark = Some(Mark { cpu: cpu(), ..mark });
        }
    }

    /// Open loop: hands due requests to connections with room, and opens more where there is none.
    fn dispatch(&mut self) {
        for _ in 0..BURST {
            let Some(at) = self.schedule.as_ref().and_then(Schedule::next) else { return };
            let now = self.now();
            if at > now {
                return;
            }
            let Some(index) = self.place_with_room().or_else(|| self.grow(now)) else {
                if let Some(schedule) = &mut self.schedule {
                    schedule.hold(now);
                }
                return;
            };
            self.send_due(index, now, 1);
            self.list(index);
        }
    }

    /// Lets a place take work again: a closed loop fills it, an open loop sends what is due.
    fn resume(&mut self, index: usize, now: u64) {
        if self.schedule.is_some() {
            self.list(index);
        } else {
            self.send_due(index, now, usize::MAX);
        }
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
            if self.schedule.is_some() && at >= self.start {
                self.tally.lag(now - at);
            }
            connection.send(self.sent, at);
            self.sent += 1;
            self.in_flight += 1;
            left -= 1;
        }
        self.in_flight_max = self.in_flight_max.max(self.in_flight);
        if let Err(failure) = connection.flush() {
            self.lose(index, failure);
        }
    }

    /// Reads a place that the poller reported, counts what ended, and starts what may follow.
    fn serve(&mut self, index: usize, hung_up: bool, scratch: &mut [u8], done: &mut Vec<Done>) {
        let Place::Open(connection) = &mut self.places[index] else {
            return;
        };
        match connection.connected() {
            Ok(true) => {}
            Ok(false) => return,
            Err(failure) => return self.lose(index, failure),
        }
        let result = connection.read(scratch, hung_up, done);
        let retired = connection.protocol.retired() && connection.protocol.in_flight() == 0;
        let flushed = connection.flush();
        let now = self.now();
        for one in done.drain(..) {
            self.count(one, now);
        }
        match result.and(flushed) {
            Err(failure) => self.lose(index, failure),
            Ok(()) if retired => self.leave(index, now),
            Ok(()) => self.resume(index, now),
        }
        self.dispatch();
    }

    /// To which part of the run a request belongs: a closed loop measures what ended in the window, an open loop what
    /// was due in it, however late.
    fn phase(&self, started: u64, now: u64) -> Phase {
        if self.schedule.is_some() {
            return if started < self.start { Phase::Warming } else { Phase::Window(started - self.start) };
        }
        match (self.first_mark, self.last_mark) {
            (None, _) => Phase::Warming,
            (Some(first), None) => Phase::Window(now.saturating_sub(first.at)),
            (Some(_), Some(_)) => Phase::After,
        }
    }

    fn count(&mut self, done: Done, now: u64) {
        self.in_flight -= 1;
        self.ended += 1;
        self.answered += u64::from(done.outcome.is_ok());
        let phase = self.phase(done.started, now);
        let took = now.saturating_sub(done.started);
        if self.schedule.is_some() && done.outcome.is_ok() && phase != Phase::Warming {
            self.each.push((done.started, took));
        }
        self.tally.end(phase, done.outcome, took, done.bytes);
    }

    /// Gives up a connection with everything in flight on it.
    fn lose(&mut self, index: usize, failure: Failure) {
        let Place::Open(connection) = &mut self.places[index] else {
            return;
        };
        let mut lost = Vec::new();
        connection.protocol.abandon(failure, &mut lost);
        let quiet = lost.is_empty() && failure == Failure::Closed;
        // A broken protocol is a failure even with nothing in flight; an idle connection may be closed by the peer.
        if lost.is_empty() && !quiet {
            self.tally.trouble(failure, self.first_mark.is_none());
        }
        let now = self.now();
        lost.into_iter().for_each(|one| self.count(one, now));
        if failure == Failure::Connect {
            self.grow_after = now + REOPEN_PAUSE;
        }
        self.leave(index, if quiet { now } else { now + REOPEN_PAUSE });
    }

    /// How long the poller may sleep until something else than a socket needs attention.
    fn sleep(&self, now: u64) -> Duration {
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
        match self.schedule.as_ref().and_then(Schedule::next) {
            Some(at) if at > now => until = until.min(at),
            // One that is already due waits for a socket or until a connection may be tried again, not for the clock;
            // unless there is a place, and it was only a burst's turn to end.
            Some(_) if !self.free.is_empty() => until = now,
            Some(_) if self.grow_after > now => until = until.min(self.grow_after),
            _ => {}
        }
        Duration::from_nanos(until.saturating_sub(now).min(SLEEP_MAX))
    }

    fn finish(mut self, now: u64) -> Report {
        let mut left = Vec::new();
        for place in &mut self.places {
            if let Place::Open(connection) = place {
                connection.protocol.abandon(Failure::Unanswered, &mut left);
            }
        }
        while let Some(at) = self.schedule.as_mut().and_then(|schedule| schedule.take(u64::MAX)) {
            self.in_flight += 1;
            left.push(Done { started: at, outcome: Err(Failure::Unsent), bytes: 0 });
        }
        left.into_iter().for_each(|one| self.count(one, now));
        let unmarked = Mark { at: 0, cpu: None, ended: 0, answered: 0 };
        let first = self.first_mark.unwrap_or(unmarked);
        let last = self.last_mark.unwrap_or(unmarked);
        let report = self.tally.report(Closing {
            seconds: last.at.saturating_sub(first.at) as f64 / 1e9,
            cpu: last.cpu.zip(first.cpu).map(|(end, begin)| end.saturating_sub(begin)),
            ended: last.ended - first.ended,
            answered: last.answered - first.answered,
            connections: self.opened,
            in_flight_max: self.in_flight_max as u64,
            held: self.schedule.as_ref().map(Schedule::held),
        });
        self.each.sort_unstable();
        Report { each: self.each, begun: SystemTime::now() - self.clock.elapsed(), ..report }
    }
}
