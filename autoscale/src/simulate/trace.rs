//! Arrivals over time, from a seed or a file, and what happens beside them.

use std::fmt;

use super::world::Server;
use tensorgate_random::Random;

/// One course of events.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its name.
    pub name: String,
    /// How long it is.
    pub seconds: f64,
    /// When requests arrive, ascending.
    pub arrivals: Vec<f64>,
    /// The model, from each time on.
    pub servers: Vec<(f64, Server)>,
    /// When no metrics come through, from and to.
    pub outages: Vec<(f64, f64)>,
    /// The fewest replicas that are allowed.
    pub min: u32,
    /// The most.
    pub max: u32,
    /// Replicas at the begin.
    pub first: u32,
}

/// The traces that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The same all the time.
    Constant,
    /// From one to ten times as much at once, and back.
    Step,
    /// To ten times as much in ten minutes, and back.
    Ramp,
    /// A day in two hours, with noise.
    Diurnal,
    /// Bursts of half a minute, five times as much as between.
    Bursty,
    /// Calm, then eight times as much for five minutes.
    FlashCrowd,
    /// A request or some each 5 to 60 minutes.
    OnOff,
    /// Counts by the minute with heavy tails, timers and people mixed, as traces of functions have them.
    Functions,
    /// The model takes twice as long from the middle on.
    ModelChange,
    /// No metrics for five minutes, while the load falls and rises.
    Outage,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Constant,
        Self::Step,
        Self::Ramp,
        Self::Diurnal,
        Self::Bursty,
        Self::FlashCrowd,
        Self::OnOff,
        Self::Functions,
        Self::ModelChange,
        Self::Outage,
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Step => "step",
            Self::Ramp => "ramp",
            Self::Diurnal => "diurnal",
            Self::Bursty => "bursty",
            Self::FlashCrowd => "flash-crowd",
            Self::OnOff => "on-off",
            Self::Functions => "functions",
            Self::ModelChange => "model-change",
            Self::Outage => "outage",
        }
    }

    /// Makes the trace that belongs to `seed`.
    pub fn trace(self, server: Server, seed: u64) -> Trace {
        let mut random = Random::part(seed, self as u64 + 1);
        let one = server.throughput() * 0.8;
        let minutes = |count: f64| count * 60.0;
        let (seconds, rate): (f64, Box<dyn Fn(f64) -> f64>) = match self {
            Self::Constant => (minutes(40.0), Box::new(move |_| 4.5 * one)),
            Self::Step => {
                (minutes(40.0), Box::new(move |at| if (600.0..1500.0).contains(&at) { 10.0 * one } else { one }))
            }
            Self::Ramp => (
                minutes(50.0),
                Box::new(move |at| {
                    let share = ((at - 300.0) / 600.0).clamp(0.0, 1.0) - ((at - 1800.0) / 600.0).clamp(0.0, 1.0);
                    one * (1.5 + 10.5 * share)
                }),
            ),
            Self::Diurnal => return diurnal(server, one, &mut random),
            Self::Bursty => return bursty(server, one, &mut random),
            Self::FlashCrowd => {
                (minutes(40.0), Box::new(move |at| if (900.0..1200.0).contains(&at) { 12.0 * one } else { 1.5 * one }))
            }
            Self::OnOff => return on_off(server, &mut random),
            Self::Functions => return functions(server, one, &mut random),
            Self::ModelChange => (minutes(40.0), Box::new(move |_| 4.0 * one)),
            Self::Outage => {
                (minutes(40.0), Box::new(move |at| one * if (960.0..1080.0).contains(&at) { 2.0 } else { 6.0 }))
            }
        };
        let mut trace = Trace::new(self.name(), seconds, poisson(seconds, &*rate, &mut random), server);
        if self == Self::ModelChange {
            let slow = Server { fixed: server.fixed * 2.0, each: server.each * 2.0, ..server };
            trace.servers.push((seconds / 2.0, slow));
        }
        if self == Self::Outage {
            trace.outages.push((900.0, 1200.0));
        }
        trace.first = ((rate(0.0) / server.throughput()).ceil() as u32 + 1).max(1);
        trace
    }
}

impl Trace {
    fn new(name: &str, seconds: f64, arrivals: Vec<f64>, server: Server) -> Self {
        let servers = vec![(0.0, server)];
        Self { name: name.to_owned(), seconds, arrivals, servers, outages: Vec::new(), min: 1, max: 100, first: 1 }
    }

    /// Reads counts of requests, a line for each minute or columns of one line for them (the schema of Azure's traces, whose
    /// first columns are names), and spreads each evenly over its minute at random.
    ///
    /// # Errors
    /// If a value is no count; it names the line.
    pub fn parse(name: &str, text: &str, server: Server, seed: u64) -> Result<Self, ParseError> {
        let mut counts: Vec<f64> = Vec::new();
        for (line, row) in text.lines().enumerate().filter(|(_, row)| !row.trim().is_empty() && !row.starts_with('#')) {
            let values: Vec<&str> = row.split(',').map(str::trim).collect();
            // The headings of the public traces, whose columns are numbered.
            if line == 0 && values.iter().any(|value| value.starts_with("Hash")) {
                continue;
            }
            // Names of owner, application, function and trigger.
            let names = if values.len() > NAMES { NAMES } else { 0 };
            let names = if values.first().is_some_and(|value| value.parse::<f64>().is_err()) { names } else { 0 };
            let row: Result<Vec<f64>, _> = values[names..].iter().map(|value| count(line + 1, value)).collect();
            let row = row?;
            match row.len() {
                1 => counts.extend(row),
                // Several functions of one service: their sum.
                length => {
                    counts.resize(counts.len().max(length), 0.0);
                    counts.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
                }
            }
        }
        if counts.iter().sum::<f64>() > REQUESTS_MAX {
            return Err(ParseError { line: 0, value: format!("more than {REQUESTS_MAX} requests") });
        }
        let mut random = Random::part(seed, 99);
        let mut arrivals: Vec<f64> = counts
            .iter()
            .enumerate()
            .flat_map(|(minute, count)| (0..*count as u64).map(move |_| minute as f64 * 60.0))
            .map(|begin| begin + 60.0 * random.unit())
            .collect();
        arrivals.sort_unstable_by(f64::total_cmp);
        if arrivals.is_empty() {
            return Err(ParseError { line: 0, value: "no requests".to_owned() });
        }
        Ok(Self::new(name, counts.len() as f64 * 60.0, arrivals, server))
    }

    /// The same with so large a `share` of the requests, chosen by chance: those of a smaller share are among those of a larger.
    pub fn thinned(mut self, share: f64, seed: u64) -> Self {
        let mut random = Random::part(seed, 55);
        self.arrivals.retain(|_| random.unit() <= share);
        self
    }

    /// The model as it is at a time.
    pub fn server_at(&self, at: f64) -> Server {
        let found = self.servers.iter().rev().find(|(from, _)| *from <= at);
        found.or(self.servers.first()).map_or_else(|| unreachable!("a trace has a model"), |(_, server)| *server)
    }

    /// Whether no metrics come through at a time.
    pub fn is_outage(&self, at: f64) -> bool {
        self.outages.iter().any(|(from, to)| (*from..*to).contains(&at))
    }
}

/// Columns of names before the counts, in the public traces.
const NAMES: usize = 4;

/// Requests of one trace: 160 MB of times.
const REQUESTS_MAX: f64 = 20e6;

fn count(line: usize, value: &str) -> Result<f64, ParseError> {
    let count = value.parse::<f64>().ok().filter(|count| count.is_finite() && (0.0..=REQUESTS_MAX).contains(count));
    count.ok_or_else(|| ParseError { line, value: value.to_owned() })
}

/// A trace that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    line: usize,
    value: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, value } = self;
        match line {
            0 => write!(f, "{value}; wanted are counts of requests, a line for each minute, or a column for each"),
            _ => write!(f, "line {line}: '{value}' is no count of requests in a minute"),
        }
    }
}

impl std::error::Error for ParseError {}

/// Independent arrivals at a rate that changes: those of the highest rate, thinned out (Lewis and Shedler 1979).
fn poisson(seconds: f64, rate: &dyn Fn(f64) -> f64, random: &mut Random) -> Vec<f64> {
    let steps = (seconds as usize).max(1);
    let most = (0..steps).map(|second| rate(second as f64)).fold(1e-9, f64::max);
    let (mut at, mut arrivals) = (0.0, Vec::new());
    loop {
        at += random.exponential() / most;
        if at >= seconds {
            return arrivals;
        }
        if random.unit() * most <= rate(at) {
            arrivals.push(at);
        }
    }
}

fn diurnal(server: Server, one: f64, random: &mut Random) -> Trace {
    const DAY: f64 = 7200.0;
    // What one day has more or less than another, in stretches of five minutes.
    let noise: Vec<f64> = (0..=25).map(|_| random.log_normal(0.05)).collect();
    let rate = move |at: f64| {
        let (index, share) = ((at / 300.0) as usize, (at / 300.0).fract());
        let noise = noise[index.min(24)] * (1.0 - share) + noise[(index + 1).min(25)] * share;
        one * noise * (7.0 - 5.5 * (std::f64::consts::TAU * at / DAY).cos())
    };
    let first = (rate(0.0) / server.throughput()).ceil() as u32 + 1;
    let arrivals = poisson(DAY, &rate, random);
    Trace { first, ..Trace::new(Kind::Diurnal.name(), DAY, arrivals, server) }
}

fn bursty(server: Server, one: f64, random: &mut Random) -> Trace {
    let seconds = 3600.0;
    // States of a Markov-modulated Poisson process, by their ends.
    let (mut ends, mut at, mut high) = (Vec::new(), 0.0, false);
    while at < seconds {
        at += random.exponential() * if high { 30.0 } else { 60.0 };
        ends.push((at, if high { 6.0 * one } else { 1.2 * one }));
        high = !high;
    }
    let rate = move |at: f64| ends[ends.partition_point(|(end, _)| *end <= at).min(ends.len() - 1)].1;
    let arrivals = poisson(seconds, &rate, random);
    Trace { first: 3, ..Trace::new(Kind::Bursty.name(), seconds, arrivals, server) }
}

fn on_off(server: Server, random: &mut Random) -> Trace {
    let seconds = 24.0 * 3600.0;
    let (mut at, mut arrivals) = (0.0, Vec::new());
    loop {
        at += 300.0 + 3300.0 * random.unit();
        if at >= seconds {
            break;
        }
        let mut use_ = at;
        for _ in 0..1 + random.below(4) {
            arrivals.push(use_);
            use_ += 0.5 * random.exponential();
        }
    }
    arrivals.retain(|at| *at < seconds);
    arrivals.sort_unstable_by(f64::total_cmp);
    Trace { min: 0, first: 0, ..Trace::new(Kind::OnOff.name(), seconds, arrivals, server) }
}

fn functions(server: Server, one: f64, random: &mut Random) -> Trace {
    let minutes = 90;
    let mut arrivals = Vec::new();
    let mut level = 2.0 * one;
    for minute in 0..minutes {
        let begin = f64::from(minute) * 60.0;
        // People: a level that wanders, with a heavy tail of its own each minute.
        level = (level * random.log_normal(0.15)).clamp(0.5 * one, 6.0 * one);
        let people = level * random.log_normal(0.25) * 60.0;
        arrivals.extend((0..people as u64).map(|_| begin + 60.0 * random.unit()));
        // Timers: each five minutes, all within some seconds.
        if minute % 5 == 0 {
            arrivals.extend((0..(one * 20.0) as u64).map(|_| begin + 10.0 * random.unit()));
        }
    }
    arrivals.sort_unstable_by(f64::total_cmp);
    Trace { first: 4, ..Trace::new(Kind::Functions.name(), f64::from(minutes) * 60.0, arrivals, server) }
}
