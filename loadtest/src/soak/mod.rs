//! `soak`: a server under good and malformed traffic for a long time. Phases with attackers and without take turns, so that a
//! good client's latency is compared with its own in the same minutes.

mod attacks;
mod good;
mod http2;
mod server;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::cli::SoakArgs;
use server::Server;

/// Length of a phase: long enough for the time-outs that the server is started with.
const PHASE: Duration = Duration::from_secs(10);
/// At the start of a phase, before its latencies count: what the phase before left has to end.
const SETTLE: Duration = Duration::from_secs(3);
/// How often the server's memory and descriptors are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Looks of two phases.
const CYCLE_LOOKS: usize = 2 * (PHASE.as_secs() - SETTLE.as_secs()) as usize;
/// Growth from after the first tenth to the end that counts as none: a share of what was there, and bytes beside it.
const GROWTH: (f64, u64) = (0.1, 16 << 20);
/// Descriptors more at the end that count as none.
const DESCRIPTORS_MORE: u64 = 16;

/// What the two kinds of phases share.
#[derive(Default)]
pub(crate) struct Shared {
    /// Whether attackers are at work.
    attack: AtomicBool,
    /// Whether latencies count.
    settled: AtomicBool,
    stop: AtomicBool,
    attacks: AtomicU64,
    /// Answers to malformed requests that were what they should be.
    refusals: AtomicU64,
}

/// One look at the server.
#[derive(Clone, Copy)]
struct Look {
    resident: u64,
    descriptors: u64,
}

/// What a good client saw, apart by phase: without attackers, with them.
pub(crate) struct Seen {
    name: &'static str,
    micros: [Histogram<u64>; 2],
    failures: Vec<String>,
}

impl Seen {
    fn new(name: &'static str) -> Result<Self, Box<dyn Error>> {
        Ok(Self { name, micros: [Histogram::new(3)?, Histogram::new(3)?], failures: Vec::new() })
    }

    fn p99(&self, attacked: bool) -> f64 {
        self.micros[usize::from(attacked)].value_at_quantile(0.99) as f64 / 1e3
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [quiet, attacked] = &self.micros;
        let p50 = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.5) as f64 / 1e3;
        let (before, under) = (self.p99(false), self.p99(true));
        writeln!(
            f,
            "good client over {}: {} and {} answers, {} failures",
            self.name,
            quiet.len(),
            attacked.len(),
            self.failures.len()
        )?;
        writeln!(f, "  without attackers  p50 {:.2} ms  p99 {before:.2} ms", p50(quiet))?;
        writeln!(f, "  with attackers     p50 {:.2} ms  p99 {under:.2} ms", p50(attacked))?;
        write!(f, "  p99 with / without {:.2}", under / before.max(1e-3))
    }
}

/// Runs the soak; gives whether everything held.
pub(crate) fn run(args: &SoakArgs) -> Result<bool, Box<dyn Error>> {
    let server = Server::start(&args.server, &args.models)?;
    let shared = Arc::new(Shared::default());
    let addresses = (server.http, server.grpc);
    let clients =
        [good::over_http(addresses.0, Arc::clone(&shared)), good::over_grpc(addresses.1, Arc::clone(&shared))];
    let attackers = {
        let shared = Arc::clone(&shared);
        std::thread::spawn(move || attacks::run(addresses, &shared))
    };
    let looks = phases(args.duration, &server, &shared)?;
    shared.stop.store(true, Relaxed);
    attackers.join().map_err(|_| "the attackers panicked")??;
    let mut held = true;
    let mut check = |what: String, fine: bool| {
        println!("{} {what}", if fine { "ok  " } else { "FAIL" });
        held &= fine;
    };
    for client in clients {
        let seen = client.join().map_err(|_| "a good client panicked")?.map_err(|cause| cause.to_string())?;
        println!("{seen}");
        seen.failures.iter().take(5).for_each(|failure| println!("    {failure}"));
        check(format!("{}: every good request was answered", seen.name), seen.failures.is_empty());
    }
    let (attacks, refusals) = (shared.attacks.load(Relaxed), shared.refusals.load(Relaxed));
    check(format!("{attacks} attacks, {refusals} of them answered as they should be"), refusals > 0);
    // What the first attackers ever make the server take is no growth.
    let looks = if looks.len() > 2 * CYCLE_LOOKS { &looks[CYCLE_LOOKS..] } else { &looks[..] };
    let (early, late) = (tenth(looks, 1), tenth(looks, 9));
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let allowed = early.resident + (early.resident as f64 * GROWTH.0) as u64 + GROWTH.1;
    let memory = format!("resident memory {:.1} MiB early, {:.1} MiB late", mib(early.resident), mib(late.resident));
    check(memory, late.resident <= allowed);
    let descriptors = format!("descriptors {} early, {} late", early.descriptors, late.descriptors);
    check(descriptors, late.descriptors <= early.descriptors + DESCRIPTORS_MORE);
    let panics = server.log_lines("panicked");
    panics.iter().take(3).for_each(|line| println!("    {line}"));
    check(format!("{} panics in the log", panics.len()), panics.is_empty());
    check("the server is ready at the end".into(), server.is_ready());
    server.print_metrics(&["tensorgate_connections_ended_total", "tensorgate_door_requests_total"]);
    Ok(held)
}

/// Lets phases take turns for `duration`, and looks at the server every second of them once they have settled.
fn phases(duration: Duration, server: &Server, shared: &Shared) -> Result<Vec<Look>, Box<dyn Error>> {
    let begun = Instant::now();
    let mut looks = Vec::new();
    while begun.elapsed() < duration {
        for attack in [false, true] {
            shared.settled.store(false, Relaxed);
            shared.attack.store(attack, Relaxed);
            let phase = Instant::now();
            while phase.elapsed() < PHASE {
                std::thread::sleep(LOOK);
                let settled = phase.elapsed() >= SETTLE;
                shared.settled.store(settled, Relaxed);
                if settled {
                    looks.push(server.look()?);
                }
            }
        }
    }
    Ok(looks)
}

/// The middle look of the `number`th tenth, counted from zero, by each figure.
fn tenth(looks: &[Look], number: usize) -> Look {
    let part = &looks[looks.len() * number / 10..(looks.len() * (number + 1) / 10).max(1)];
    let middle = |mut figures: Vec<u64>| {
        figures.sort_unstable();
        figures.get(figures.len() / 2).copied().unwrap_or_default()
    };
    Look {
        resident: middle(part.iter().map(|look| look.resident).collect()),
        descriptors: middle(part.iter().map(|look| look.descriptors).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_is_told_by_its_middle() {
        let looks: Vec<Look> = (0..100).map(|i| Look { resident: i, descriptors: 100 - i }).collect();
        let (early, late) = (tenth(&looks, 1), tenth(&looks, 9));
        assert_eq!((early.resident, late.resident), (15, 95));
        assert_eq!((early.descriptors, late.descriptors), (86, 6));
    }
}
