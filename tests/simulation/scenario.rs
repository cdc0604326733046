//! Worlds made from a seed: one model or two that share cores, their traffic, and everything that goes wrong.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use tensorgate::scheduler::planner::Shed;
use tensorgate::scheduler::{BatchLimits, Priority};
use tokio::time::Instant;

use super::engine::machine::Machine;
use super::engine::server::{End, Request, Server, Settings};
use super::engine::traffic::Pattern;
use super::engine::world::{Shared, Site, run};
use super::engine::{Nanos, nanos};
use super::invariants::Watchman;
use tensorgate_random::Random;

/// Requests that come to one model of a world, about.
const REQUESTS: f64 = 1500.0;

/// What happened in a world.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) ended: usize,
    pub(crate) answered: usize,
    pub(crate) late: usize,
    pub(crate) failed: usize,
    pub(crate) refused: usize,
    pub(crate) too_late: usize,
    pub(crate) overload: usize,
    pub(crate) left: usize,
    pub(crate) parts: usize,
    /// Of every end, in order.
    digest: u64,
}

impl Told {
    pub(crate) fn note(&mut self, id: usize, end: End, now: Nanos, late: bool) {
        self.ended += 1;
        self.late += usize::from(end == End::Answered && late);
        *match end {
            End::Answered => &mut self.answered,
            End::Failed => &mut self.failed,
            End::Refused => &mut self.refused,
            End::Shed(Shed::Deadline) => &mut self.too_late,
            End::Shed(Shed::Overload) => &mut self.overload,
            End::Left => &mut self.left,
        } += 1;
        let mut hasher = DefaultHasher::new();
        (self.digest, id, end_name(end), now).hash(&mut hasher);
        self.digest = hasher.finish();
    }

    pub(crate) fn add(&mut self, other: &Told) {
        self.ended += other.ended;
        self.answered += other.answered;
        self.late += other.late;
        self.failed += other.failed;
        self.refused += other.refused;
        self.too_late += other.too_late;
        self.overload += other.overload;
        self.left += other.left;
        self.parts += other.parts;
    }
}

/// A world to play.
pub(crate) struct Scenario {
    models: Vec<(Settings, Machine, Vec<Request>, usize)>,
    /// Where models share cores: how many, and the models' weights.
    shared: Option<(usize, Vec<f64>)>,
}

impl Scenario {
    /// The world of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::stream(seed, 7);
        let count = 1 + usize::from(random.happens(0.3));
        let models: Vec<_> = (0..count as u64).map(|model| model_of(seed, model, &mut random)).collect();
        let shared = (count > 1 || random.happens(0.2)).then(|| {
            let weights = models.iter().map(|_| [1.0, 1.0, 2.0, 5.0][random.below(4)]).collect();
            (1 + random.below(4), weights)
        });
        Self { models, shared }
    }

    /// Plays it to the end of its last request; panics where an invariant does not hold.
    pub(crate) fn play(self) -> Told {
        let told = Rc::new(RefCell::new(Told::default()));
        let base = Instant::now();
        let shared = self.shared.map(|(cores, weights)| Shared::new(cores, &weights));
        let mut came = 0;
        let site = |(settings, machine, requests, width): (Settings, Machine, Vec<Request>, usize)| {
            came += requests.len();
            let watchman = Watchman::new(settings.clone(), Rc::clone(&told));
            Site { server: Server::new(base, settings, machine, watchman), requests: requests.into_iter(), width }
        };
        let mut sites: Vec<_> = self.models.into_iter().map(site).collect();
        run(&mut sites, shared.as_ref());
        for site in &sites {
            assert_eq!(site.server.unanswered(), 0, "requests without an end");
        }
        let told = told.borrow().clone();
        assert_eq!(told.ended, came, "each request ends once");
        told
    }
}

/// One model: its machine from microseconds to half a second, and an objective that is mostly possible.
fn model_of(seed: u64, model: u64, random: &mut Random) -> (Settings, Machine, Vec<Request>, usize) {
    let fixed = 10_f64.powf(random.between(-5.0, -2.0));
    let per_row = fixed * 10_f64.powf(random.between(-2.5, 1.0));
    let alone = fixed + per_row;
    let mut machine = Machine::new(fixed, per_row, Random::stream(seed, 100 + model));
    machine.failures = if random.happens(0.3) { 0.02 } else { 0.0 };
    let objective = Duration::from_secs_f64(alone * random.between(1.5, 40.0));
    let rows_max = [1, 4, 16, 256, 256, 256][random.below(6)];
    let delay = if random.happens(0.15) { objective.mul_f64(random.between(0.05, 0.5)) } else { Duration::ZERO };
    let mut settings = Settings::new(objective, 1 + random.below(3));
    settings.limits = BatchLimits { rows_max, delay, objective };
    settings.queue_max = if random.happens(0.2) { 1 + random.below(20) } else { 4096 };
    let joined = ((objective.as_secs_f64() / 2.0 - fixed) / per_row).clamp(1.0, rows_max as f64);
    let capacity = settings.instances as f64 * joined / (fixed + per_row * joined);
    let rate = capacity * [0.3, 0.6, 0.9, 1.2, 2.0, 10.0][random.below(6)];
    let seconds = REQUESTS / rate;
    let pattern = [
        Pattern::Poisson,
        Pattern::Gamma(16.0),
        Pattern::OnOff(seconds / random.between(2.0, 20.0)),
        Pattern::Step,
        Pattern::Ramp,
    ][random.below(5)];
    if random.happens(0.3) {
        let from = random.between(0.1, 0.7) * seconds;
        machine.slow.push((nanos(from), nanos(from + seconds * random.between(0.02, 0.3))));
    }
    let arrivals = pattern.arrivals(rate, seconds, random);
    let client = Client::new(objective, random);
    let requests = arrivals.into_iter().map(|at| client.request(at, random)).collect();
    (settings, machine, requests, 1 + random.below(2))
}

/// What the clients of one model are like.
struct Client {
    objective: f64,
    own_deadlines: f64,
    many_rows: f64,
    leaving: f64,
    poisoned: f64,
    low: f64,
}

impl Client {
    fn new(objective: Duration, random: &mut Random) -> Self {
        let mut rarely = |most: f64| if random.happens(0.5) { random.between(0.0, most) } else { 0.0 };
        Self {
            objective: objective.as_secs_f64(),
            many_rows: rarely(0.5),
            leaving: rarely(0.3),
            poisoned: rarely(0.02),
            low: rarely(0.3),
            own_deadlines: [0.0, 0.5, 1.0][random.below(3)],
        }
    }

    fn request(&self, at: Nanos, random: &mut Random) -> Request {
        let rows = match random.happens(self.many_rows) {
            true if random.happens(0.05) => 1 + random.below(300),
            true => 1 + random.below(8),
            false => 1,
        };
        let own = random.happens(self.own_deadlines);
        let deadline = own.then(|| nanos(self.objective * 10_f64.powf(random.between(-1.0, 0.7))));
        let leaves = random.happens(self.leaving).then(|| at + nanos(self.objective * random.between(0.0, 1.5)));
        let class = if random.happens(self.low) { Priority::LOW } else { Priority::NORMAL };
        Request { at, rows, deadline, class, leaves, poisoned: random.happens(self.poisoned) }
    }
}

fn end_name(end: End) -> u8 {
    match end {
        End::Answered => 0,
        End::Failed => 1,
        End::Refused => 2,
        End::Shed(Shed::Deadline) => 3,
        End::Shed(Shed::Overload) => 4,
        End::Left => 5,
    }
}
