//! More offered than can be done: goodput beyond the peak, latencies of what is answered, and half the load beside one
//! request alone. Server and generator share the machine's cores, as two processes on a small machine do.

use std::error::Error;
use std::time::Duration;

use super::open::{Pool, SLO, Source, Take, spread};
use super::server::Process;
use super::table::{Row, Target};
use super::traffic::Door;
use super::{Place, Show};
use crate::arrivals::Arrivals;
use crate::payload::{Encoding, ModelSpec};

/// Rates around the capacity at which the peak is looked for, as shares of what a closed loop reaches.
const AROUND: [f64; 4] = [0.8, 0.95, 1.1, 1.3];
/// Requests at once in that closed loop.
const BUSY: usize = 8;
/// What is offered beyond the peak, in multiples of its goodput.
const OVER: [f64; 2] = [2.0, 5.0];
/// Turns of all windows.
const ROUNDS: u64 = 3;
const ROUNDS_QUICK: u64 = 2;

/// A way in and a kind of arrivals.
struct Scenario {
    door: Door,
    arrivals: Arrivals,
    /// Whether half the load is looked at too. Bursty arrivals queue at any load.
    half: bool,
}

impl Scenario {
    fn all() -> Vec<Self> {
        let scenario = |door, arrivals, half| Self { door, arrivals, half };
        vec![
            scenario(Door::Http(Encoding::Binary), Arrivals::Poisson, true),
            scenario(Door::Grpc, Arrivals::Poisson, true),
            scenario(Door::Http(Encoding::Binary), Arrivals::Gamma { cv2: 16.0 }, false),
        ]
    }

    /// Name, what is compared and target of each row: for each overload goodput and tail, then half the load.
    fn rows(&self) -> Vec<(String, Take, Target)> {
        let begin = format!("compute {}, {}", self.door.name(), self.arrivals);
        let mut rows = Vec::new();
        for over in OVER {
            rows.push((format!("{begin}, {over} x the peak: goodput, against the peak's"), Take::Goodput, 0.9));
            rows.push((format!("{begin}, {over} x the peak: p99 of answers, against the SLO"), Take::Tail, 1.0));
        }
        if self.half {
            rows.push((format!("{begin}, half the peak: p50, against one request alone"), Take::Median, 1.0 / 1.1));
        }
        rows.into_iter().map(|(name, take, share)| (name, take, Target::Share(share))).collect()
    }
}

/// How long it is looked.
struct Pace {
    rounds: u64,
    warmup: Duration,
    window: Duration,
}

/// The windows of one scenario.
struct Pools {
    peak: Pool,
    over: [Pool; 2],
    half: Pool,
    alone: Pool,
}

/// Measures and shows every scenario that anybody wants to see.
pub(super) fn show(place: &Place<'_>, show: &mut Show<'_>) {
    let scenarios = Scenario::all();
    let wanted = |scenario: &&Scenario| scenario.rows().iter().any(|(name, ..)| show.wants(name));
    let wanted: Vec<&Scenario> = scenarios.iter().filter(wanted).collect();
    if wanted.is_empty() {
        return;
    }
    let slo = format!("{}ms", SLO.as_millis());
    let further = ["--slo".as_ref(), slo.as_ref()];
    let server = place.server("overload", &["compute"], None, &further).map_err(|error| error.to_string());
    for scenario in wanted {
        let measure = |server: &Process| measure(place, scenario, server).map_err(|error| error.to_string());
        let pools = server.as_ref().map_err(Clone::clone).and_then(measure);
        for (index, (name, take, target)) in scenario.rows().into_iter().enumerate() {
            show.row(&match &pools {
                Ok(pools) => row(pools, index, &name, take, target),
                Err(reason) => Row::failed(&name, take.unit(), target, reason.clone()),
            });
        }
    }
}

fn row(pools: &Pools, index: usize, name: &str, take: Take, target: Target) -> Row {
    let (pool, ceiling) = match take {
        Take::Goodput => (&pools.over[index / 2], Some(&pools.peak)),
        Take::Tail => (&pools.over[index / 2], None),
        Take::Median => (&pools.half, Some(&pools.alone)),
    };
    // The objective is the same in every window.
    let slo = SLO.as_secs_f64() * 1e3;
    let (figure, spread) = match ceiling {
        Some(ceiling) => (ceiling.figure(take), spread(take, pool, ceiling.each(take))),
        None => (slo, spread(take, pool, std::iter::repeat(slo))),
    };
    let notes = if take == Take::Goodput { vec![pool.story()] } else { Vec::new() };
    Row {
        cpu_us: (pool.cpu_us(), ceiling.and_then(Pool::cpu_us)),
        errors: pool.failures(),
        notes,
        ..Row::of(name, take.unit(), target, (pool.figure(take), figure), spread)
    }
}

fn measure(place: &Place<'_>, scenario: &Scenario, server: &Process) -> Result<Pools, Box<dyn Error>> {
    let pace = if place.args.quick {
        Pace { rounds: ROUNDS_QUICK, warmup: Duration::from_millis(300), window: Duration::from_millis(1_200) }
    } else {
        Pace { rounds: ROUNDS, warmup: Duration::from_millis(500), window: Duration::from_secs(3) }
    };
    let model = ModelSpec::parse("compute")?;
    let source = Source::new(server, scenario.door, &model).arrivals(scenario.arrivals.clone()).warmup(pace.warmup);
    let rate = peak(&source, &pace)?;
    let mut pools =
        Pools { peak: Pool::new(), over: [Pool::new(), Pool::new()], half: Pool::new(), alone: Pool::new() };
    let mut top = None;
    for seed in 1..=pace.rounds {
        let report = source.window(rate, seed, pace.window)?;
        // What the overloads are multiples of stays what it was in the first turn.
        let top = *top.get_or_insert(report.goodput);
        pools.peak.add(&report);
        for (over, pool) in OVER.iter().zip(&mut pools.over) {
            pool.add(&source.window(top * over, seed, pace.window)?);
        }
        if scenario.half {
            pools.alone.add(&source.closed(1, pace.window / 3)?);
            pools.half.add(&source.window(top / 2.0, seed, pace.window)?);
        }
    }
    Ok(pools)
}

/// The rate with the most good answers.
fn peak(source: &Source, pace: &Pace) -> Result<f64, Box<dyn Error>> {
    let closed = source.closed(BUSY, pace.window / 2)?;
    let mut best = (0.0, 0.0);
    for share in AROUND {
        let rate = closed.rate * share;
        let report = source.window(rate, 0, pace.window)?;
        if report.goodput > best.1 {
            best = (rate, report.goodput);
        }
    }
    if best.1 > 0.0 { Ok(best.0) } else { Err("no rate has a good answer".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own() {
        let names: Vec<String> = Scenario::all().iter().flat_map(Scenario::rows).map(|(name, ..)| name).collect();
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!((distinct.len(), names.len()), (14, 14));
        assert!(names.contains(&"compute gRPC, poisson, half the peak: p50, against one request alone".to_owned()));
        assert!(
            names.contains(&"compute HTTP binary, gamma, CV2 16, 5 x the peak: goodput, against the peak's".to_owned())
        );
    }
}
