//! Requests, replicas and a cluster on a virtual clock. Requests are followed one by one; a replica batches them as a server does.
//!
//! A replica has one instance: when it is free, it takes all that waits, up to the largest batch. Requests are split at random, as
//! Services do. One that would be answered too late is refused at arrival, as our servers do whoever scales them; without a
//! ready replica requests are held until there is one. All times are in seconds.

use std::collections::VecDeque;

use super::outcome::{Outcome, STEPS, percentile};
use super::trace::Trace;
use tensorgate_random::Random;

/// A model as a server runs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Server {
    /// What a batch takes, however small.
    pub fixed: f64,
    /// What each row adds.
    pub each: f64,
    /// The largest batch.
    pub batch_max: usize,
    /// The objective.
    pub objective: f64,
    /// The median time from an order to readiness.
    pub start: f64,
}

impl Server {
    /// What a batch of `rows` takes at the centre.
    pub fn seconds(&self, rows: usize) -> f64 {
        self.fixed + self.each * rows as f64
    }

    /// Rows per second in the largest batches.
    pub fn throughput(&self) -> f64 {
        self.batch_max as f64 / self.seconds(self.batch_max)
    }
}

/// How large a batch's time varies, and a start's, as deviations of logarithms; and the share of reports that get lost.
const BATCH_NOISE: f64 = 0.05;
const START_NOISE: f64 = 0.25;
const LOST: f64 = 0.05;

/// From readiness until requests arrive: a service's endpoints follow within this range.
const ROUTE: (f64, f64) = (1.0, 5.0);

/// Requests that are held at zero, as many as an activator takes, and for how long: Knative's time-out of a request.
const HELD_MAX: usize = 10_000;
const HELD_FOR: f64 = 300.0;

struct Replica {
    number: u64,
    ordered: f64,
    ready: f64,
    routed: f64,
    told_start: bool,
    leaving: bool,
    free: f64,
    queue: VecDeque<f64>,
    running: usize,
    arrived: f64,
    ended: f64,
    bad: f64,
    busy: f64,
    in_flight: f64,
    /// The last report that came through: counters, and what waited.
    told: Report,
}

/// What a replica's metrics tell, since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests.
    pub arrived: f64,
    /// Requests that ended.
    pub ended: f64,
    /// Of them late or refused.
    pub bad: f64,
    /// Requests that wait.
    pub waiting: f64,
    /// Requests in flight, the mean over the last second.
    pub in_flight: f64,
    /// Seconds of processor time.
    pub busy: f64,
}

/// What scalers see each second, a second late.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The time.
    pub now: f64,
    /// Replicas that are asked for.
    pub current: u32,
    /// Replicas that are ready.
    pub ready: u32,
    /// By replica: its number, and its report if it came through.
    pub reports: Vec<(u64, Option<Report>)>,
    /// Requests that are held for want of a replica, and that came to be since the last second.
    pub held: f64,
    /// See `held`.
    pub held_arrived: f64,
    /// How long those took that became ready since the last second.
    pub starts: Vec<f64>,
    /// The model as it is now.
    pub server: Option<Server>,
}

/// A scaler.
pub trait Scaler {
    /// Sees what there is, once a second; gives the replicas that are to be, if that changes or stays by its decision.
    fn scale(&mut self, seen: &Seen) -> Option<u32>;
}

/// A world under way.
pub struct World<'a> {
    trace: &'a Trace,
    random: Random,
    replicas: Vec<Replica>,
    held: VecDeque<f64>,
    held_arrived: f64,
    current: u32,
    numbers: u64,
    outcome: Outcome,
    /// Of the last ten seconds.
    recent: Vec<u64>,
    recent_arrived: u64,
}

/// Plays `trace` under `scaler`, beginning with `first` replicas that are ready; the same seed brings the same starts and
/// disturbances.
pub fn play(trace: &Trace, scaler: &mut dyn Scaler, first: u32, seed: u64) -> Outcome {
    let mut world = World {
        trace,
        random: Random::part(seed, 77),
        replicas: Vec::new(),
        held: VecDeque::new(),
        held_arrived: 0.0,
        current: first,
        numbers: 0,
        outcome: Outcome { latencies: vec![0; STEPS], most: first, ..Outcome::default() },
        recent: vec![0; STEPS],
        recent_arrived: 0,
    };
    for _ in 0..first {
        world.order(-1e3, -1e3);
    }
    let mut next = 0;
    let mut before = Seen::default();
    let ticks = trace.seconds.ceil() as u64;
    for tick in 1..=ticks {
        let end = tick as f64;
        // In fifths, so that what is in flight is seen as it is over a second.
        for fifth in 1..=5 {
            let until = end - 1.0 + f64::from(fifth) / 5.0;
            while let Some(&at) = trace.arrivals.get(next).filter(|at| **at <= until) {
                world.arrive(at);
                next += 1;
            }
            world.advance(until);
            world.look();
        }
        let seen = std::mem::replace(&mut before, world.seen(end));
        if let Some(wanted) = (tick > 1).then(|| scaler.scale(&Seen { current: world.current, ..seen })).flatten() {
            world.scale(end, wanted);
        }
        if tick % 10 == 0 {
            world.draw();
        }
    }
    world.finish()
}

impl World<'_> {
    fn server(&self, at: f64) -> Server {
        self.trace.server_at(at)
    }

    fn order(&mut self, now: f64, ready: f64) {
        let routed = if ready < 0.0 { ready } else { ready + ROUTE.0 + (ROUTE.1 - ROUTE.0) * self.random.unit() };
        self.numbers += 1;
        self.replicas.push(Replica {
            number: self.numbers,
            ordered: now,
            ready,
            routed,
            told_start: ready < 0.0,
            leaving: false,
            free: now,
            queue: VecDeque::new(),
            running: 0,
            arrived: 0.0,
            ended: 0.0,
            bad: 0.0,
            busy: 0.0,
            in_flight: 0.0,
            told: Report::default(),
        });
    }

    fn arrive(&mut self, at: f64) {
        self.outcome.requests += 1;
        self.recent_arrived += 1;
        let open: Vec<usize> = (0..self.replicas.len()).filter(|&own| self.is_open(own, at)).collect();
        if open.is_empty() {
            self.held_arrived += 1.0;
            if self.held.len() < HELD_MAX {
                self.held.push_back(at);
            } else {
                self.outcome.bad += 1;
                self.outcome.cold += 1;
            }
            return;
        }
        let chosen = open[self.random.below(open.len())];
        self.offer(chosen, at, at);
    }

    fn is_open(&self, own: usize, at: f64) -> bool {
        let replica = &self.replicas[own];
        !replica.leaving && replica.routed <= at
    }

    /// A request that came at `since` reaches a replica at `at`.
    fn offer(&mut self, own: usize, since: f64, at: f64) {
        self.run(own, at);
        let server = self.server(at);
        let replica = &mut self.replicas[own];
        replica.arrived += 1.0;
        let before = replica.queue.len() / server.batch_max;
        let with = replica.queue.len() % server.batch_max + 1;
        let expected =
            (replica.free - at).max(0.0) + before as f64 * server.seconds(server.batch_max) + server.seconds(with);
        // What was held is answered, however late: whoever waited would rather have it.
        if since == at && expected > server.objective {
            replica.ended += 1.0;
            replica.bad += 1.0;
            self.outcome.bad += 1;
            return;
        }
        replica.queue.push_back(since);
        self.run(own, at);
    }

    /// Has a replica run the batches that begin until `until`.
    fn run(&mut self, own: usize, until: f64) {
        loop {
            let server = self.server(self.replicas[own].free.min(until));
            let replica = &mut self.replicas[own];
            if replica.free > until {
                return;
            }
            replica.running = 0;
            let Some(&oldest) = replica.queue.front() else { return };
            let begin = replica.free.max(oldest.max(replica.routed));
            let rows = replica.queue.len().min(server.batch_max);
            let took = server.seconds(rows) * self.random.log_normal(BATCH_NOISE);
            replica.free = begin + took;
            replica.busy += took;
            replica.running = rows;
            replica.ended += rows as f64;
            for since in replica.queue.drain(..rows) {
                let latency = (begin + took - since) / server.objective;
                let step = ((latency * 100.0) as usize).min(STEPS - 1);
                self.outcome.latencies[step] += 1;
                self.recent[step] += 1;
                if latency > 1.0 {
                    replica.bad += 1.0;
                    self.outcome.bad += 1;
                    self.outcome.cold += u64::from(since < replica.routed);
                }
            }
        }
    }

    /// Everything that happens until `now` without anybody arriving.
    fn advance(&mut self, now: f64) {
        (0..self.replicas.len()).for_each(|own| self.run(own, now));
        while self.held.front().is_some_and(|since| now - since > HELD_FOR) {
            self.held.pop_front();
            self.outcome.bad += 1;
            self.outcome.cold += 1;
        }
        let open: Vec<usize> = (0..self.replicas.len()).filter(|&own| self.is_open(own, now)).collect();
        if !open.is_empty() {
            for (index, since) in std::mem::take(&mut self.held).into_iter().enumerate() {
                self.offer(open[index % open.len()], since, now);
            }
        }
        let outcome = &mut self.outcome;
        self.replicas.retain(|replica| {
            let done = replica.leaving && replica.queue.is_empty() && replica.free <= now;
            if done {
                outcome.replica_seconds += now - replica.ordered.max(0.0);
            }
            !done
        });
    }

    fn look(&mut self) {
        for replica in &mut self.replicas {
            replica.in_flight += (replica.queue.len() + replica.running) as f64 / 5.0;
        }
    }

    fn seen(&mut self, now: f64) -> Seen {
        let outage = self.trace.is_outage(now);
        let mut seen = Seen {
            now,
            held: self.held.len() as f64,
            held_arrived: std::mem::take(&mut self.held_arrived),
            server: Some(self.server(now - 5.0)),
            ..Seen::default()
        };
        for replica in &mut self.replicas {
            let in_flight = std::mem::take(&mut replica.in_flight);
            if replica.leaving || replica.ready > now {
                continue;
            }
            seen.ready += 1;
            if !std::mem::replace(&mut replica.told_start, true) {
                seen.starts.push(replica.ready - replica.ordered);
            }
            let lost = outage || self.random.unit() < LOST;
            if !lost {
                replica.told = Report {
                    arrived: replica.arrived,
                    ended: replica.ended,
                    bad: replica.bad,
                    waiting: replica.queue.len() as f64,
                    in_flight,
                    busy: replica.busy,
                };
            }
            seen.reports.push((replica.number, (!lost).then_some(replica.told)));
        }
        seen
    }

    fn scale(&mut self, now: f64, wanted: u32) {
        if wanted == self.current {
            return;
        }
        self.outcome.changes.push((now, wanted));
        self.outcome.most = self.outcome.most.max(wanted);
        for _ in self.current..wanted {
            let start = self.server(now).start * self.random.log_normal(START_NOISE);
            self.order(now, now + start);
        }
        // Those that are not ready go first, then the youngest, as ReplicaSets have it.
        for _ in wanted..self.current {
            let staying = self.replicas.iter_mut().filter(|replica| !replica.leaving);
            if let Some(last) = staying.max_by(|a, b| {
                (a.ready > now, a.ordered).partial_cmp(&(b.ready > now, b.ordered)).unwrap_or(std::cmp::Ordering::Equal)
            }) {
                last.leaving = true;
                last.free = last.free.max(now);
            }
        }
        self.current = wanted;
    }

    fn draw(&mut self) {
        let ready = self
            .replicas
            .iter()
            .filter(|replica| !replica.leaving && replica.ready <= self.outcome.picture.len() as f64 * 10.0 + 10.0);
        let point = [self.recent_arrived as f64 / 10.0, ready.count() as f64, percentile(&self.recent, 0.99)];
        self.outcome.picture.push(point);
        self.recent.fill(0);
        self.recent_arrived = 0;
    }

    fn finish(mut self) -> Outcome {
        let end = self.trace.seconds;
        // What is under way is answered; what is held is not any more.
        (0..self.replicas.len()).for_each(|own| self.run(own, end + 1e6));
        self.outcome.bad += self.held.len() as u64;
        self.outcome.cold += self.held.len() as u64;
        for replica in &self.replicas {
            self.outcome.replica_seconds += end - replica.ordered.max(0.0);
        }
        self.outcome
    }
}
