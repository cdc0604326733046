//! How much the requests of one model notice what else its server does: a model loaded, warmed and unloaded over and over; small
//! models paged in as they are asked for; a slow version that is asked the same as they are.

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::open::{Source, Take};
use super::pairs::Pairs;
use super::server::exchange;
use super::stranger;
use super::table::{Row, Target};
use super::traffic::{Door, http};
use super::{Place, Process, Show};
use crate::onnx_file::SLOWER;
use crate::payload::{Encoding, ModelSpec};
use crate::process;

/// The model that comes and goes: tens of megabytes of weights, as a sentence encoder has.
const GUEST: &str = "minilm";
/// The small model, of which there are many.
const SMALL: &str = "iris";
/// How many, and how many page-ins a second: what a fifth of fifty requests a second is, as misses of a cache that is of use are.
const SMALL_COUNT: usize = 200;
const PAGE_INS: u32 = 10;
/// Memory for the host and a few of those.
const MEMORY: &str = "40MB";
/// How often it is measured without, with and without again, and for how long each time.
const TRIPLES: u64 = 13;
const WINDOW: Duration = Duration::from_millis(1_000);
const WINDOW_QUICK: Duration = Duration::from_millis(600);
/// Load before each window: what one window leaves behind is no part of the next.
const WARMUP: Duration = Duration::from_millis(250);
/// How much of the cores that it may use a server takes at half its load, and how often the rate is corrected until it does.
const HALF: f64 = 0.5;
const CORRECTIONS: usize = 3;

/// What the server does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    Loads,
    PageIns,
    /// A second version of this model is asked the same.
    Shadow(&'static str),
}

/// A model that is asked at half its load meanwhile.
struct Host {
    model: &'static str,
    /// Whether server and generator have a core each, or share all there are.
    apart: bool,
    /// Requests at once that saturate it.
    busy: usize,
    beside: Disturbance,
    /// The tail may be this many times as long as without.
    longer_max: f64,
}

const COMPUTE: Host = Host { model: "compute", apart: false, busy: 8, beside: Disturbance::Loads, longer_max: 1.2 };
const MLP: Host = Host { model: "mlp", apart: true, busy: 64, ..COMPUTE };

const HOSTS: [Host; 6] = [
    COMPUTE,
    MLP,
    Host { beside: Disturbance::PageIns, ..COMPUTE },
    Host { beside: Disturbance::PageIns, ..MLP },
    Host { beside: Disturbance::Shadow("slow"), longer_max: 1.1, ..COMPUTE },
    Host { beside: Disturbance::Shadow("compute"), longer_max: 1.1, ..MLP },
];

impl Host {
    fn case(&self) -> String {
        let Self { model, beside, .. } = self;
        let cores = if self.apart { "one core" } else { "cores shared with the generator" };
        let beside = match beside {
            Disturbance::Loads => format!("{GUEST} is loaded and unloaded"),
            Disturbance::PageIns => format!("{PAGE_INS} models a second are paged in"),
            Disturbance::Shadow("slow") => format!("a version {SLOWER} times as slow is asked the same"),
            Disturbance::Shadow(_) => "a version a hundred times as slow is asked the same".to_owned(),
        };
        format!("{model} at half its load, {cores}: p99 while {beside}, against without")
    }

    fn server(&self, place: &Place<'_>, core: Option<usize>) -> Result<Process, Box<dyn Error>> {
        let name = format!("neighbour-{}-{:?}", self.model, self.beside).replace(['(', ')', '"'], "");
        let explicit = ["--model-control", "explicit", "--load-model", self.model].map(AsRef::as_ref);
        match self.beside {
            Disturbance::Loads => place.server(&name, &[self.model, GUEST], core, &explicit),
            Disturbance::PageIns => {
                let repository = place.scratch.repository(&name, &[self.model, SMALL], &place.args.models)?;
                fs::write(repository.join(self.model).join("model.toml"), "pin = true\n")?;
                for number in 0..SMALL_COUNT {
                    link(&repository.join(SMALL), &repository.join(format!("{SMALL}-{number}")))?;
                }
                place.server(&name, &[], core, &["--memory-max", MEMORY].map(AsRef::as_ref))
            }
            Disturbance::Shadow(shadow) => {
                let repository = place.scratch.repository(&name, &[self.model, shadow], &place.args.models)?;
                link(&repository.join(shadow).join("1"), &repository.join(self.model).join("2"))?;
                fs::remove_dir_all(repository.join(shadow))?;
                fs::write(repository.join(self.model).join("model.toml"), "versions = \"all\"\n")?;
                let server = place.server(&name, &[], core, &[])?;
                traffic(&server, self.model, r#"{"weights": {"1": 1}}"#)?;
                Ok(server)
            }
        }
    }

    /// Does `work` meanwhile, and counts what else was done.
    fn beside<T>(&self, server: &Process, did: &mut Did, work: impl FnOnce() -> T) -> Result<T, Box<dyn Error>> {
        match self.beside {
            Disturbance::Loads => {
                let (done, count) = beside(work, |end| come_and_go(server.http, end))?;
                did.times += count as u64;
                Ok(done)
            }
            Disturbance::PageIns => {
                let (done, count) = beside(work, |end| page_in(server, end))?;
                did.times += count as u64;
                Ok(done)
            }
            Disturbance::Shadow(_) => {
                let shadow = r#"{"weights": {"1": 1}, "shadow": {"version": 2, "share": 1}}"#;
                traffic(server, self.model, shadow)?;
                let done = work();
                let (_, told) = super::server::get(server.http, &format!("/v2/models/{}/traffic", self.model))?;
                let told: serde_json::Value = serde_json::from_slice(&told)?;
                traffic(server, self.model, r#"{"weights": {"1": 1}}"#)?;
                let of = |outcome: &str| told["shadow"][outcome].as_u64().unwrap_or(0);
                did.times += of("agreed") + of("disagreed");
                did.failed += of("failed");
                did.broken_off += of("not_run");
                did.dropped += of("dropped");
                Ok(done)
            }
        }
    }

    fn told(&self, did: &Did) -> String {
        let Did { times, failed, broken_off, dropped } = did;
        match self.beside {
            Disturbance::Loads => format!("{GUEST} came and went {times} times"),
            Disturbance::PageIns => format!("{times} models were asked in turn"),
            Disturbance::Shadow(_) => format!(
                "the shadow answered {times} ({failed} of them with errors), {broken_off} were broken off, {dropped} not mirrored"
            ),
        }
    }
}

/// What was done meanwhile, in all windows.
#[derive(Debug, Default)]
struct Did {
    times: u64,
    failed: u64,
    broken_off: u64,
    dropped: u64,
}

/// Measures and shows every row that anybody wants to see.
pub(super) fn show(place: &Place<'_>, show: &mut Show<'_>) {
    for host in HOSTS.iter().filter(|host| show.wants(&host.case())).collect::<Vec<_>>() {
        let target = Target::Share(1.0 / host.longer_max);
        let failed = |error: Box<dyn Error>| Row::failed(&host.case(), Take::Tail.unit(), target, error.to_string());
        show.row(&measure(place, host, target).unwrap_or_else(failed));
    }
}

fn measure(place: &Place<'_>, host: &Host, target: Target) -> Result<Row, Box<dyn Error>> {
    let window = if place.args.quick { WINDOW_QUICK } else { WINDOW };
    let (server_core, load_core) =
        if host.apart { (Some(place.server_core), Some(place.load_core)) } else { (None, None) };
    let server = host.server(place, server_core)?;
    let model = ModelSpec::parse(host.model)?;
    let source = Source::new(&server, Door::Http(Encoding::Binary), &model).core(load_core).warmup(WARMUP);
    let cores = if host.apart { 1 } else { process::cores()?.len() };
    let (rate, used) = half(&source, host.busy, cores)?;
    let (mut pairs, mut did) = (Pairs::new(), Did::default());
    for seed in 1..=TRIPLES {
        let before = source.window(rate, seed, window)?;
        let with = host.beside(&server, &mut did, || source.window(rate, seed, window))??;
        let after = source.window(rate, seed, window)?;
        pairs.add([&before, &with, &after]);
    }
    if did.times + did.broken_off == 0 {
        return Err(format!("nothing happened meanwhile: {did:?}").into());
    }
    let load = format!("{rate:.0}/s, at which the server alone takes {:.0} % of {cores} cores", 100.0 * used);
    let mut notes = vec![format!("{load}; {}", host.told(&did))];
    if matches!(host.beside, Disturbance::Shadow(_)) {
        let mut bound = Pairs::new();
        for seed in 1..=TRIPLES {
            let before = source.window(rate, seed, window)?;
            let with = stranger::beside(server_core, cores, 1.0, || source.window(rate, seed, window))?;
            let after = source.window(rate, seed, window)?;
            bound.add([&before, &with, &after]);
        }
        notes.push(format!(
            "beside a stranger that computes without end on the same cores at the lowest priority, and no shadow: {}",
            bound.told()
        ));
    }
    Ok(pairs.row(&host.case(), target, notes))
}

/// The rate at which a server takes half of the time of its cores, or less where half of what a closed loop reaches is less; and how
/// much it takes. Half of the requests is not half of the time: where fewer wait, fewer share a batch.
fn half(source: &Source, busy: usize, cores: usize) -> Result<(f64, f64), Box<dyn Error>> {
    let mut rate = source.closed(busy, WINDOW)?.rate / 2.0;
    let mut used = 0.0;
    for seed in 0..CORRECTIONS {
        let report = source.any_window(rate, seed as u64, WINDOW_QUICK)?;
        let cpu = report.server_cpu_us.ok_or("the server's time cannot be observed")?;
        used = rate * cpu / 1e6 / cores as f64;
        if used <= HALF * 1.1 {
            break;
        }
        rate *= HALF / used;
    }
    Ok((rate, used))
}

/// Does `work` while `guest` goes on until it is told to end; with how often it did what it does. Fails if that failed, or was never
/// done.
fn beside<T>(
    work: impl FnOnce() -> T,
    guest: impl FnOnce(&AtomicBool) -> Result<usize, String> + Send,
) -> Result<(T, usize), Box<dyn Error>> {
    let end = AtomicBool::new(false);
    let (done, count) = std::thread::scope(|scope| {
        let guest = scope.spawn(|| guest(&end));
        let done = work();
        end.store(true, Ordering::Relaxed);
        (done, guest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    match count? {
        0 => Err("nothing happened meanwhile".into()),
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

/// Asks the small models in turn, so that each has left memory when its turn comes again; tells how many requests that were.
fn page_in(server: &Process, end: &AtomicBool) -> Result<usize, String> {
    let spec = ModelSpec::parse(SMALL)?;
    let (mut count, begin) = (0_u32, Instant::now());
    while !end.load(Ordering::Relaxed) {
        let name = format!("{SMALL}-{}", count as usize % SMALL_COUNT);
        let request = http(&ModelSpec { name: name.clone(), ..spec.clone() }, Encoding::Json, server);
        let request = String::from_utf8_lossy(&request[0]).replacen("\r\n", "\r\nConnection: close\r\n", 1);
        let (status, answer) = exchange(server.http, request.as_bytes()).map_err(|error| error.to_string())?;
        if status != 200 {
            return Err(format!("{name}: http {status}: {}", String::from_utf8_lossy(&answer)));
        }
        count += 1;
        std::thread::sleep(
            (begin + count * Duration::from_secs(1) / PAGE_INS).saturating_duration_since(Instant::now()),
        );
    }
    Ok(count as usize)
}

/// Changes who is asked.
fn traffic(server: &Process, model: &str, setting: &str) -> Result<(), Box<dyn Error>> {
    let (host, length) = (server.http, setting.len());
    let request = format!(
        "PUT /v2/models/{model}/traffic HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{setting}"
    );
    match exchange(server.http, request.as_bytes())? {
        (200, _) => Ok(()),
        (status, answer) => Err(format!("traffic: http {status}: {}", String::from_utf8_lossy(&answer)).into()),
    }
}

/// A folder of the same files.
pub(super) fn link(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { link(&path, &target)? } else { fs::hard_link(&path, &target)? }
    }
    Ok(())
}
