//! The decision: how many replicas, from what was seen.
//!
//! Up at once, for what will arrive when the new replicas are ready; down slowly, when the highest need of the last minutes and a
//! test of what one less would have to carry allow it. Never down without metrics.

use std::collections::VecDeque;
use std::time::Duration;

use crate::demand::Demand;
use crate::idle::{Due, Idle};
use crate::model::Model;
use crate::needs::Needs;
use crate::plan::{self, Plan};
use crate::reasons::{Cause, Reasons};
use crate::sample::{Bounds, Sample, Settings, Target};
use crate::trim::Trim;

/// The share of ready pods whose metrics have to be there for replicas to go.
const REPORTING_MIN: f64 = 0.8;

/// What one replica less may be loaded to, of what is planned.
const LESS_ONE: f64 = 0.97;

/// Replicas go by a tenth, at least one, in this part of the least hold: 15 s.
const DOWN_PARTS: u32 = 4;
const DOWN_SHARE: f64 = 0.1;

/// From one decision to the next it goes up by so many, or times so much, so that one wrong sample cannot order a cluster full.
const UP_STEP: u32 = 4;
const UP_TIMES: u32 = 3;

/// Pods that fail at which no more are ordered.
const FAILING_MIN: u32 = 2;

/// Seconds in which what waits is worked off.
const DRAIN: f64 = 10.0;

/// How long a start takes where none was seen yet, and the range of what is believed.
const START: Duration = Duration::from_secs(60);
const START_MAX: Duration = Duration::from_secs(600);

/// From readiness until requests arrive: endpoints and routes follow within seconds. And until the next sample.
const ROUTES: Duration = Duration::from_secs(4);

/// Starts that are remembered.
const STARTS_MAX: usize = 20;

/// Plans are made anew where a batch's time has moved by more than this share.
const PLAN_MOVED: f64 = 0.05;
/// Plans of one model that are kept, by how bursty the arrivals are: a plan takes some milliseconds.
const PLANS_MAX: usize = 8;

/// What is counted on of the plan before where a new version is not known yet.
const BEFORE: f64 = 1.0 / 1.3;

/// Requests in flight for each replica where nothing is known: Knative's default of 100 at 70 %.
const IN_FLIGHT: f64 = 70.0;

/// What is kept from one decision to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    last: Option<Duration>,
    born: Option<Duration>,
    demand: Demand,
    /// Mean requests in flight, over seconds and over a minute.
    in_flight: [f64; 2],
    idle: Idle,
    trim: Trim,
    starts: VecDeque<Duration>,
    needs: Needs,
    down: Option<Duration>,
    /// Until when what was not seen keeps all replicas.
    blind_until: Duration,
    planned: Option<Planned>,
}

#[derive(Clone, Debug, PartialEq)]
struct Planned {
    model: Model,
    /// By the index of dispersion, rounded up; that of the last decision is the last.
    plans: VecDeque<(f64, Plan)>,
}

impl Planned {
    fn last(&self) -> Option<Plan> {
        self.plans.back().map(|(_, plan)| *plan)
    }
}

/// What is to be served and what one replica serves, in one unit.
struct Load {
    now: f64,
    then: f64,
    each: f64,
    plan: Option<Plan>,
    by_concurrency: bool,
}

/// How many replicas there are to be, what to remember, and why.
pub fn decide(settings: &Settings, state: &State, sample: &Sample, now: Duration) -> (u32, State, Reasons) {
    let mut next = state.clone();
    next.note(settings, sample, now);
    let load = next.load(settings, sample, now);
    let (need, mut cause) = next.need(settings, sample, &load, now);
    let hold = next.hold(settings);
    next.needs.note((need, load.then), hold, now);
    let current = sample.current;
    let mut replicas = need;
    if need > current {
        let most = (current + UP_STEP).max(current.saturating_mul(UP_TIMES));
        replicas = need.min(most);
        if sample.failing >= FAILING_MIN {
            (replicas, cause) = (current, Cause::Failing);
        }
    } else if need < current {
        (replicas, cause) = match next.stays(hold, now) {
            Some(cause) => (current, cause),
            None => next.less(settings, current, (need, cause), &load, now),
        };
    }
    let Bounds { min, max } = settings.bounds;
    let bounded = replicas.max(min).min(max.max(1));
    if bounded != replicas {
        cause = if bounded > replicas { Cause::Minimum } else { Cause::Maximum };
    }
    if bounded < current {
        next.down = Some(now);
    }
    let reasons = Reasons {
        cause,
        replicas: bounded,
        demand: load.now,
        forecast: load.then,
        capacity: load.each,
        held: sample.held,
        start: next.start(),
        feasible: load.plan.is_none_or(|plan| plan.feasible),
        reporting: (sample.ready, sample.reporting),
        by_concurrency: load.by_concurrency,
    };
    (bounded, next, reasons)
}

/// What outlasts the controller, beside the number of replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// What the plan is corrected by.
    pub trim: f64,
    /// The index of dispersion of the arrivals.
    pub dispersion: f64,
    /// How long a start takes.
    pub start: Duration,
}

impl State {
    /// After a start of the controller, where there are `replicas`: that many count as needed again and again, so that none goes
    /// before what is needed was seen for as long as that is remembered.
    pub fn resumed(replicas: u32, memory: Option<Memory>, now: Duration) -> Self {
        let mut state = Self { needs: Needs::resumed(replicas, now), ..Self::default() };
        if let Some(Memory { trim, dispersion, start }) = memory {
            state.trim = Trim::new(trim);
            state.demand = Demand::new(dispersion);
            state.starts.push_back(start);
        }
        state
    }

    /// What to keep.
    pub fn memory(&self) -> Memory {
        Memory { trim: self.trim.factor(), dispersion: self.demand.dispersion(), start: self.start() }
    }

    /// How long it takes from an order to a replica that gets requests: the 95th percentile of what was seen.
    pub fn start(&self) -> Duration {
        let mut sorted: Vec<Duration> = self.starts.iter().copied().collect();
        sorted.sort_unstable();
        let index = (sorted.len() * 95).div_ceil(100).saturating_sub(1);
        sorted.get(index).copied().unwrap_or(START).min(START_MAX)
    }

    /// The rows per second that a replica is counted on for, where it is known.
    pub fn capacity(&self) -> Option<f64> {
        self.planned.as_ref()?.last().map(|plan| plan.rows_per_second * self.trim.factor())
    }

    /// Takes in what was seen.
    fn note(&mut self, settings: &Settings, sample: &Sample, now: Duration) {
        let seconds = self.last.map_or(0.0, |last| now.saturating_sub(last).as_secs_f64());
        self.born.get_or_insert(now);
        self.last = Some(now);
        self.idle.begin(now);
        let known = match sample.ready {
            // At zero the requests that are held are all there are.
            0 if sample.current == 0 || sample.held_arrived > 0.0 => 1.0,
            0 => 0.0,
            ready => f64::from(sample.reporting) / f64::from(ready),
        };
        if known > 0.0 {
            // Pods that do not tell are taken to be like those that do.
            let arrived = sample.arrived / known + sample.held_arrived;
            let lag = sample.model.as_ref().map_or(1.0, |model| model.objective.as_secs_f64() / 2.0);
            self.demand.note(seconds, arrived, lag);
            let in_flight = sample.in_flight / known + sample.held;
            for (mean, window) in self.in_flight.iter_mut().zip([6.0, 60.0]) {
                let kept = (-seconds / window).exp();
                *mean = *mean * kept + in_flight * (1.0 - kept);
            }
            if arrived > 0.0 || in_flight > 0.0 {
                self.idle.used(now, arrived, self.start());
            }
        }
        self.starts.extend(sample.starts.iter().copied());
        while self.starts.len() > STARTS_MAX {
            self.starts.pop_front();
        }
        // After an outage what is known of the demand is old, and has to grow anew.
        let keeps = match known {
            0.0 => self.hold(settings),
            known if known < REPORTING_MIN => settings.hold / DOWN_PARTS,
            _ => Duration::ZERO,
        };
        if !keeps.is_zero() {
            self.blind_until = self.blind_until.max(now + keeps);
        }
    }

    /// For how long the highest need counts.
    fn hold(&self, settings: &Settings) -> Duration {
        settings.hold.max(self.start())
    }

    fn load(&mut self, settings: &Settings, sample: &Sample, now: Duration) -> Load {
        let plan = self.plan(settings, sample);
        let rates = self.demand.rates((self.start() + ROUTES).as_secs_f64());
        let in_flight = self.in_flight[0].max(self.in_flight[1]);
        let (now_, then, each, by_concurrency) = match (settings.target, plan) {
            (Some(Target::Concurrency(each)), _) => (in_flight, in_flight, each.max(1e-3), true),
            (Some(Target::Rate(each)), _) => (rates.now, rates.then, each.max(1e-3), false),
            (None, Some(plan)) => (rates.now, rates.then, plan.rows_per_second * self.trim.factor(), false),
            (None, None) => (in_flight, in_flight, IN_FLIGHT, true),
        };
        let strained = sample.ready < sample.current || self.demand.recent(60.0) > each * f64::from(sample.ready);
        self.trim.note(now, sample.ended, sample.bad, by_concurrency || strained);
        Load { now: now_, then, each, plan, by_concurrency }
    }

    /// What a replica serves, by the newest that was learned; by what is known of the version before where that is little.
    fn plan(&mut self, settings: &Settings, sample: &Sample) -> Option<Plan> {
        let model = sample.model.as_ref().filter(|model| !model.points.is_empty());
        let Some(model) = model else { return self.planned.as_ref().and_then(Planned::last) };
        let young = |model: &Model| model.executions < plan::TRUSTED_AFTER;
        if let Some(kept) = self.planned.as_ref().filter(|kept| young(model) && !young(&kept.model)) {
            // The version before stays what is compared with until the new one is known.
            let plan = plan::plan(model, 1.0)?;
            let before = kept.last().map_or(0.0, |plan| plan.rows_per_second * BEFORE);
            return Some(Plan { rows_per_second: plan.rows_per_second.max(before), ..plan });
        }
        // Independent streams at several replicas: what bursts there are is split up too.
        let split = f64::from(sample.ready.max(1));
        let dispersion = rounded(1.0 + (self.demand.dispersion() * settings.bursts - 1.0) / split);
        let batch = self.planned.as_ref().and_then(Planned::last).map_or(1, |plan| plan.batch.max(1));
        let time = |model: &Model| model.seconds(batch).1;
        let holds = |kept: &Planned| {
            let alike = (time(model) / time(&kept.model) - 1.0).abs() <= PLAN_MOVED;
            let known = young(model) == young(&kept.model);
            alike && known && kept.model.objective == model.objective && kept.model.instances == model.instances
        };
        let mut planned = match self.planned.take() {
            Some(kept) if holds(&kept) => kept,
            _ => Planned { model: model.clone(), plans: VecDeque::new() },
        };
        let found = planned.plans.iter().position(|(of, _)| *of == dispersion);
        let newest = match found.and_then(|index| planned.plans.remove(index)) {
            Some(kept) => Some(kept),
            None => plan::plan(model, dispersion).map(|plan| (dispersion, plan)),
        };
        planned.plans.extend(newest);
        if planned.plans.len() > PLANS_MAX {
            planned.plans.pop_front();
        }
        let plan = planned.last();
        self.planned = Some(planned);
        plan
    }

    /// Replicas for what is to be served, whatever there are now.
    fn need(&self, settings: &Settings, sample: &Sample, load: &Load, now: Duration) -> (u32, Cause) {
        let batch = load.plan.map_or(1.0, |plan| plan.batch.max(1) as f64);
        let replicas = |rows: f64| (rows / load.each.max(1e-9)).min(1e6).ceil() as u32;
        let backlog = (sample.waiting - f64::from(sample.ready) * batch).max(0.0) / DRAIN;
        let backlog = if load.by_concurrency { 0.0 } else { backlog };
        // Less than a row an hour is nobody.
        let then = if load.then * 3600.0 < 1.0 { 0.0 } else { load.then };
        let need = replicas(then + backlog);
        let cause = match () {
            () if backlog > 0.0 && need > replicas(then) => Cause::Backlog,
            () if need > replicas(load.now) => Cause::Forecast,
            () => Cause::Demand,
        };
        let mut best = (need, cause);
        if sample.ready == 0 && sample.held > 0.0 {
            best = (self.woken(sample, load, batch).max(need), Cause::Held);
        }
        if settings.bounds.min > 0 {
            return best;
        }
        let due = match settings.idle {
            // Nothing that is not there stays.
            Some(_) if sample.current == 0 => Due::Leave,
            Some(idle) => self.idle.due_after(now, idle),
            None => self.idle.due(now, self.start()),
        };
        match due {
            _ if sample.held > 0.0 || sample.in_flight > 0.0 => best.max_by(1, Cause::Demand),
            Due::Stay => best.max_by(1, Cause::Hold),
            Due::Prewarm => best.max_by(1, Cause::Prewarm),
            Due::Leave => (0, Cause::Idle),
        }
    }

    /// The replicas that answer what is held within the objective after they are there.
    fn woken(&self, sample: &Sample, load: &Load, batch: f64) -> u32 {
        let rounds = load.plan.filter(|plan| plan.rows_per_second > 0.0).map_or(1.0, |plan| {
            let objective = self.planned.as_ref().map_or(0.0, |planned| planned.model.allowed());
            (objective * plan.rows_per_second / batch).floor().max(1.0)
        });
        ((sample.held / (batch * rounds)).ceil() as u32).max(1)
    }

    /// Why no replica may go, if that is so.
    fn stays(&self, hold: Duration, now: Duration) -> Option<Cause> {
        if now < self.blind_until {
            return Some(Cause::Blind);
        }
        // What was before this controller took over is not known.
        self.born.is_some_and(|born| now.saturating_sub(born) < hold).then_some(Cause::Hold)
    }

    /// How far the replicas may go down from `current`, where `need` would do.
    fn less(
        &self,
        settings: &Settings,
        current: u32,
        (need, cause): (u32, Cause),
        load: &Load,
        now: Duration,
    ) -> (u32, Cause) {
        let highest = self.needs.highest().max(self.needs.returning().min(current)).min(current);
        // A rate that falls by chance would be back at once, and the replica with it.
        let demand = self.needs.demand().max(load.then);
        let carries = |replicas: u32| demand <= LESS_ONE * load.each * f64::from(replicas);
        // The last one goes by what is known of the gaps, which looks back far enough.
        let floor = if need == 0 && highest <= 1 { 0 } else { highest };
        let fits = |replicas: &u32| (*replicas == 0 && need == 0) || carries(*replicas);
        let least = (floor..current).find(fits).unwrap_or(current);
        let step = ((f64::from(current) * DOWN_SHARE) as u32).max(1);
        let went = self.down.is_some_and(|at| now.saturating_sub(at) < settings.hold / DOWN_PARTS);
        let replicas = if went { current } else { least.max(current - step) };
        match replicas {
            0 => (0, Cause::Idle),
            _ if replicas == need => (replicas, cause),
            _ => (replicas, Cause::Hold),
        }
    }
}

/// Of two needs the larger, with its cause.
trait Larger {
    fn max_by(self, need: u32, cause: Cause) -> Self;
}

impl Larger for (u32, Cause) {
    fn max_by(self, need: u32, cause: Cause) -> Self {
        if need > self.0 { (need, cause) } else { self }
    }
}

/// Up to a step of a fifth, so that a plan is not made anew for nothing.
fn rounded(dispersion: f64) -> f64 {
    const STEP: f64 = 1.2;
    STEP.powf((dispersion.max(1.0).ln() / STEP.ln() - 0.05).ceil().max(0.0))
}

#[cfg(test)]
mod tests;
