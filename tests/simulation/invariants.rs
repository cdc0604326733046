//! What has to hold at every step of every world.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::engine::Nanos;
use super::engine::server::{End, Request, Settings, State, Ticket, Witness};
use super::scenario::Told;
use tensorgate::scheduler::planner::Shed;

/// Late answers are given for so many objectives after the deadline, as the planner documents.
const LATE_MAX: u64 = 10;

/// Panics where something does not hold; else tells what happened.
pub(crate) struct Watchman {
    settings: Settings,
    told: Rc<RefCell<Told>>,
    /// When each request ended.
    ends: HashMap<usize, End>,
    /// Rows of each request that have been in batches.
    ran: HashMap<usize, usize>,
}

impl Watchman {
    pub(crate) fn new(settings: Settings, told: Rc<RefCell<Told>>) -> Self {
        Self { settings, told, ends: HashMap::new(), ran: HashMap::new() }
    }
}

impl Witness for Watchman {
    fn ends(&mut self, id: usize, request: &Request, end: End, now: Nanos) {
        let before = self.ends.insert(id, end);
        assert!(before.is_none(), "request {id} ends twice, {before:?} and {end:?}");
        let rows = self.ran.remove(&id);
        if end == End::Answered {
            assert_eq!(rows, Some(request.rows), "request {id} is answered without all of its rows");
        }
        let own = request.deadline.is_some();
        assert!(own || end != End::Shed(Shed::Deadline), "request {id} has no deadline of its own");
        let objective = self.settings.limits.objective.as_nanos() as Nanos;
        let late = now > request.at + request.deadline.unwrap_or(objective);
        self.told.borrow_mut().note(id, end, now, late);
    }

    fn begins(&mut self, batch: &[Ticket], now: Nanos, unseeing: Nanos) {
        let limits = &self.settings.limits;
        assert!(!batch.is_empty(), "an empty batch");
        let rows: usize = batch.iter().map(|ticket| ticket.rows).sum();
        let alone = batch.len() == 1 && limits.rows_max == 1;
        assert!(rows <= limits.rows_max || alone, "{rows} rows in a batch, at most {}", limits.rows_max);
        assert!(limits.rows_max > 1 || batch.len() == 1, "requests joined that must not be");
        // Counted from when the dispatcher could notice that a request is late.
        let late_max = unseeing + LATE_MAX * limits.objective.as_nanos() as Nanos;
        for ticket in batch {
            assert!(ticket.arrived <= now, "request {} runs before it came", ticket.id);
            let until = if ticket.firm { ticket.due } else { ticket.due + late_max };
            assert!(now < until, "request {} runs {} ns after its deadline", ticket.id, now - until);
            // Where one part of a request was given up or failed, the others may still run.
            let ended = self.ends.contains_key(&ticket.id);
            assert!(!ended || ticket.parts > 1, "request {} runs after its end", ticket.id);
            *self.ran.entry(ticket.id).or_default() += ticket.rows;
        }
        let mut parts: Vec<_> = batch.iter().map(|ticket| (ticket.id, ticket.part)).collect();
        parts.sort_unstable();
        parts.dedup();
        assert_eq!(parts.len(), batch.len(), "a part is twice in a batch");
        self.told.borrow_mut().parts += batch.iter().filter(|ticket| ticket.part > 0).count();
    }

    fn settles(&mut self, server: &State<'_>, now: Nanos) {
        let State { planner, due, idle, waiting, shares, split } = server;
        assert_eq!(planner.waiting(), *waiting, "the count of what waits is wrong");
        assert!(due.is_none_or(|due| due > now), "something waits at {now} that was due before");
        let may_wait = *shares || !self.settings.limits.delay.is_zero();
        assert!(planner.is_empty() || *idle == 0 || may_wait, "{waiting} wait at {now} while an instance is free");
        let queue_max = self.settings.queue_max;
        assert!(*waiting <= queue_max || *split, "{waiting} wait, at most {queue_max}");
        for point in planner.curve().points() {
            assert!(point.centre <= point.upper && point.upper.as_secs_f64() < 3600.0, "{point:?}");
        }
    }
}
