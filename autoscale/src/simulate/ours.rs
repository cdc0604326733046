//! The production decision in a world.

use std::time::Duration;

use tensorgate_contract::capacity::{self, Point};

use super::reports::Totals;
use super::world::{Scaler, Seen, Server};
use crate::decide::{State, decide};
use crate::model::Model;
use crate::sample::{Sample, Settings};

/// How wrong what it is told is, for the table of sensitivity: factors, 1 for the truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wrong {
    /// Of the latency curve.
    pub curve: f64,
    /// Of the time of a start.
    pub start: f64,
    /// Of the index of dispersion.
    pub bursts: f64,
}

impl Default for Wrong {
    fn default() -> Self {
        Self { curve: 1.0, start: 1.0, bursts: 1.0 }
    }
}

/// Ours.
pub struct Ours {
    settings: Settings,
    state: State,
    totals: Totals,
    wrong: Wrong,
    told: Option<(Server, Model)>,
    /// The last decision in words.
    pub sentence: String,
}

impl Ours {
    /// Within bounds, told what is `wrong`; the last replica goes after `idle`, where that is set.
    pub fn new((min, max): (u32, u32), wrong: Wrong, idle: Option<Duration>) -> Self {
        let settings = Settings { bursts: wrong.bursts, idle, ..Settings::within(min, max) };
        let (state, totals) = (State::default(), Totals::default());
        Self { settings, state, totals, wrong, told: None, sentence: String::new() }
    }
}

/// What a server of this kind has learned of its model.
pub fn learned(server: &Server, factor: f64) -> Model {
    let point = |work: usize| {
        let centre = Duration::from_secs_f64(server.seconds(work) * factor);
        Point { work, centre, upper: centre.mul_f64(1.09) }
    };
    Model {
        points: capacity::sizes(server.batch_max).map(point).collect(),
        executions: 10_000,
        objective: Duration::from_secs_f64(server.objective),
        instances: 1,
        rows_max: server.batch_max,
        unit: 1,
    }
}

impl Scaler for Ours {
    fn scale(&mut self, seen: &Seen) -> Option<u32> {
        self.totals.take(seen);
        let server = seen.server?;
        if self.told.as_ref().is_none_or(|(told, _)| *told != server) {
            self.told = Some((server, learned(&server, self.wrong.curve)));
        }
        let heard = self.totals.reporting > 0 || seen.ready == 0;
        let model = self.told.as_ref().filter(|_| heard).map(|(_, model)| model.clone());
        let sample = Sample {
            current: seen.current,
            ready: seen.ready,
            failing: 0,
            reporting: self.totals.reporting,
            arrived: self.totals.new.arrived,
            waiting: self.totals.waiting(),
            in_flight: self.totals.in_flight_told(),
            ended: self.totals.new.ended,
            bad: self.totals.new.bad,
            held: seen.held,
            held_arrived: seen.held_arrived,
            model,
            starts: seen.starts.iter().map(|start| Duration::from_secs_f64(start * self.wrong.start)).collect(),
        };
        let now = Duration::from_secs_f64(seen.now);
        let (replicas, state, reasons) = decide(&self.settings, &self.state, &sample, now);
        self.state = state;
        if replicas != seen.current {
            self.sentence = reasons.to_string();
        }
        Some(replicas)
    }
}
