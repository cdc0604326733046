//! How much one model notices when another is loaded, warmed and unloaded beside it, over and over.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::open::{Pool, Source, Take, spread};
use super::server::exchange;
use super::table::{Row, Target};
use super::traffic::Door;
use super::{Place, Show};
use crate::payload::{Encoding, ModelSpec};

/// The model that comes and goes: tens of megabytes of weights, as a sentence encoder has.
const GUEST: &str = "minilm";
/// The tail may be this many times as long as without it.
const LONGER_MAX: f64 = 1.2;
/// Pairs of windows.
const ROUNDS: u64 = 4;
const ROUNDS_QUICK: u64 = 2;

/// Who is asked meanwhile.
struct Host {
    model: &'static str,
    /// Whether server and generator have a core each, or share all there are.
    apart: bool,
    /// Requests at once that saturate it.
    busy: usize,
}

const HOSTS: [Host; 2] =
    [Host { model: "compute", apart: false, busy: 8 }, Host { model: "mlp", apart: true, busy: 64 }];

impl Host {
    fn case(&self) -> String {
        let cores = if self.apart { "one core" } else { "cores shared with the generator" };
        format!("{} at half its load, {cores}: p99 while {GUEST} is loaded and unloaded, against without", self.model)
    }
}

/// Measures and shows every row that anybody wants to see.
pub(super) fn show(place: &Place<'_>, show: &mut Show<'_>) {
    for host in HOSTS.iter().filter(|host| show.wants(&host.case())).collect::<Vec<_>>() {
        let target = Target::Share(1.0 / LONGER_MAX);
        let failed = |error: Box<dyn Error>| Row::failed(&host.case(), Take::Tail.unit(), target, error.to_string());
        show.row(&measure(place, host, target).unwrap_or_else(failed));
    }
}

fn measure(place: &Place<'_>, host: &Host, target: Target) -> Result<Row, Box<dyn Error>> {
    let (rounds, window) = if place.args.quick { (ROUNDS_QUICK, 1_500) } else { (ROUNDS, 3_000) };
    let window = Duration::from_millis(window);
    let (server_core, load_core) =
        if host.apart { (Some(place.server_core), Some(place.load_core)) } else { (None, None) };
    let explicit = ["--model-control", "explicit", "--load-model", host.model].map(AsRef::as_ref);
    let name = format!("neighbour-{}", host.model);
    let server = place.server(&name, &[host.model, GUEST], server_core, &explicit)?;
    let model = ModelSpec::parse(host.model)?;
    let source = Source::new(&server, Door::Http(Encoding::Binary), &model).core(load_core);
    let rate = source.closed(host.busy, window / 2)?.rate / 2.0;
    let (mut without, mut with, mut loads) = (Pool::new(), Pool::new(), 0);
    for seed in 1..=rounds {
        without.add(&source.window(rate, seed, window)?);
        let (report, count) = beside(server.http, || source.window(rate, seed, window))?;
        with.add(&report?);
        loads += count;
    }
    let figures = (with.figure(Take::Tail), without.figure(Take::Tail));
    Ok(Row {
        cpu_us: (with.cpu_us(), without.cpu_us()),
        errors: [with.failures(), without.failures()].concat(),
        notes: vec![format!("{rate:.0}/s; {GUEST} came and went {loads} times")],
        ..Row::of(&host.case(), Take::Tail.unit(), target, figures, spread(Take::Tail, &with, without.each(Take::Tail)))
    })
}

/// Does `work` while the guest comes and goes, and tells how often it did. Fails if it could not, or never did.
fn beside<T>(server: SocketAddr, work: impl FnOnce() -> T) -> Result<(T, usize), Box<dyn Error>> {
    let end = AtomicBool::new(false);
    let (done, count) = std::thread::scope(|scope| {
        let guest = scope.spawn(|| come_and_go(server, &end));
        let done = work();
        end.store(true, Ordering::Relaxed);
        (done, guest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    match count? {
        0 => Err(format!("{GUEST} was never loaded").into()),
        count => Ok((done, count)),
    }
}

/// Loads and unloads the guest until the end; tells how often.
fn come_and_go(server: SocketAddr, end: &AtomicBool) -> Result<usize, String> {
    let mut count = 0;
    while !end.load(Ordering::Relaxed) {
        for call in ["load", "unload"] {
            let request = format!(
                "POST /v2/repository/models/{GUEST}/{call} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            let (status, answer) = exchange(server, request.as_bytes()).map_err(|error| error.to_string())?;
            if status != 200 {
                return Err(format!("{call}: http {status}: {}", String::from_utf8_lossy(&answer)));
            }
        }
        count += 1;
    }
    Ok(count)
}
