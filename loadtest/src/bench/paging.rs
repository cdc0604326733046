//! More models than memory: a thousand small ones with room for fifty, asked by Zipf's law, beside the same requests to a server that
//! has room for all.
//!
//! Which requests found their model in memory is read from the server's log, which tells of every version when it comes and when it
//! leaves. The tail of these is held against that of the very same requests where nothing is ever paged.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tensorgate_random::Random;

use super::neighbour::link;
use super::open::{Source, Take};
use super::pairs::Pairs;
use super::server::get;
use super::stranger;
use super::table::{Row, Target};
use super::traffic::{Door, http};
use super::{Place, Process, Show};
use crate::engine::Requests;
use crate::payload::{Encoding, ModelSpec};
use crate::process::resident_bytes;
use crate::report::Report;
use crate::report::latencies::Latencies;

/// How the table calls it.
const CASE: &str = "1,000 small models, room for 50, by Zipf's law, cores shared with the generator: p99 of requests that found theirs in \
                    memory, against room for all";
/// The model, of which there are so many, and room for so many.
const MODEL: &str = "iris";
const MODELS: usize = 1_000;
const ROOM: usize = 50;
/// Requests per second: more than a hundred page-ins a second come of them.
const RATE: f64 = 300.0;
/// The tail may be so many times as long.
const LONGER_MAX: f64 = 1.1;
/// Points that hits may be below those of the least recently used rule.
const POINTS: f64 = 5.0;
/// How often it is measured without, with and without again, and for how long each time.
const TRIPLES: u64 = 13;
const WINDOW: Duration = Duration::from_millis(1_100);
const WINDOW_QUICK: Duration = Duration::from_millis(700);
/// Before that, with room for some only: until memory is full of what is asked for, and the rates are known.
const FILLING: Duration = Duration::from_secs(4);
/// A request that is due so close to when its model comes or leaves may have found either.
const CLOSE: Duration = Duration::from_millis(1);

/// Measures and shows the row, if anybody wants to see it.
pub(super) fn show(place: &Place<'_>, show: &mut Show<'_>) {
    if show.wants(CASE) {
        let target = Target::Share(1.0 / LONGER_MAX);
        let failed = |error: Box<dyn Error>| Row::failed(CASE, Take::Tail.unit(), target, error.to_string());
        show.row(&measure(place, target).unwrap_or_else(failed));
    }
}

/// A server and where it logs.
struct Served {
    server: Process,
    log: PathBuf,
}

impl Served {
    fn start(place: &Place<'_>, repository: &Path, name: &str, further: &[&OsStr]) -> Result<Self, Box<dyn Error>> {
        let log = place.scratch.path(&format!("{name}.log"));
        let level = ["--log-level", "warn,tensorgate::repository=debug"].map(AsRef::as_ref);
        let further = [&level[..], further].concat();
        let server = Process::server(&place.args.server, repository, None, log.clone(), &further)?;
        server.wait_ready()?;
        Ok(Self { server, log })
    }

    /// A window of requests to the models of `turns`.
    fn window(&self, turns: &[usize], seed: u64, window: Duration) -> Result<Report, Box<dyn Error>> {
        let spec = ModelSpec::parse(MODEL)?;
        let mut bodies: BTreeMap<usize, Box<[u8]>> = BTreeMap::new();
        let mut body = |model: &usize| {
            let made =
                || http(&ModelSpec { name: name(*model), ..spec.clone() }, Encoding::Json, &self.server)[0].clone();
            bodies.entry(*model).or_insert_with(made).clone()
        };
        let requests: Vec<Box<[u8]>> = turns.iter().map(&mut body).collect();
        let source = Source::new(&self.server, Door::Http(Encoding::Json), &spec);
        source.requests(Requests::Http(requests.into())).warmup(Duration::ZERO).window(RATE, seed, window)
    }
}

fn measure(place: &Place<'_>, target: Target) -> Result<Row, Box<dyn Error>> {
    let repository = models(place)?;
    let all = Served::start(place, &repository, "paging-all", &[])?;
    let each = bytes_in_memory(&all.server)? / MODELS as f64;
    let memory = format!("{:.0}", each * (ROOM as f64 + 0.5));
    let some = Served::start(place, &repository, "paging-some", &["--memory-max", &memory].map(AsRef::as_ref))?;
    let random = &mut Random::new(7);
    let mut turns = |window: Duration| zipf(random, (RATE * window.as_secs_f64() * 1.5) as usize + 100);
    let filling = turns(FILLING);
    let mut asked = taken(&filling, &some.window(&filling, 0, FILLING)?);
    let begun = SystemTime::now();
    let filled = asked.len();
    let window = if place.args.quick { WINDOW_QUICK } else { WINDOW };
    let mut windows = Vec::new();
    for seed in 1..=TRIPLES {
        let turns = turns(window);
        let before = all.window(&turns, seed, window)?;
        let with = some.window(&turns, seed, window)?;
        let after = all.window(&turns, seed, window)?;
        asked.extend(taken(&turns, &with));
        windows.push((turns, [before, with, after]));
    }
    let stays = Stays::read(&fs::read_to_string(&some.log)?)?;
    let (mut pairs, mut found) = (Pairs::new(), 0);
    for (turns, reports) in &windows {
        let (counted, count) = counted(turns, reports, &stays);
        found += count;
        pairs.add_some(reports.each_ref(), counted);
    }
    let asked_for = (asked.len() - filled).max(1) as f64;
    let loads = stays.loads_since(begun);
    let (hits, ideal) = (100.0 * (1.0 - loads as f64 / asked_for), 100.0 * least_recently_used(&asked, filled));
    let resident = resident_bytes(some.server.pid()).ok_or("the server is gone: out of memory?")? as f64 / 1e6;
    let note = format!(
        "{RATE:.0} requests/s, {loads} page-ins; hits {hits:.1} %, by the least recently used rule {ideal:.1} %; {found} of {asked_for} \
         requests were certain to find their model; {:.1} MB for models, the process has {resident:.0} MB",
        each * ROOM as f64 / 1e6
    );
    let busy = more_busy(windows.iter().map(|(_, reports)| reports)).ok_or("the server's time cannot be observed")?;
    let mut bound = Pairs::new();
    for seed in 1..=TRIPLES {
        let turns = turns(window);
        let before = all.window(&turns, seed, window)?;
        let with = stranger::beside(None, 1, busy, || all.window(&turns, seed, window))?;
        let after = all.window(&turns, seed, window)?;
        bound.add([&before, &with, &after]);
    }
    let bound = format!(
        "the same requests with room for all, beside a stranger that computes {:.0} % of a core's time at the lowest priority, which is \
         what paging takes: {}",
        100.0 * busy,
        bound.told()
    );
    let mut row = pairs.row(CASE, target, vec![note, bound]);
    if hits < ideal - POINTS {
        row.errors.push(format!("{:.1} points fewer hits than by the least recently used rule", ideal - hits));
    }
    Ok(row)
}

/// How much of a core's time the second of three windows of the same requests takes more than the others.
fn more_busy<'a>(windows: impl Iterator<Item = &'a [Report; 3]>) -> Option<f64> {
    let (mut more, mut count) = (0.0, 0.0);
    for reports in windows {
        let [before, with, after] = reports.each_ref().map(|report| report.server_cpu_us);
        more += with? - (before? + after?) / 2.0;
        count += 1.0;
    }
    Some(RATE * more / count / 1e6)
}

fn name(model: usize) -> String {
    format!("{MODEL}-{model}")
}

/// A repository of all of them, each of one version.
fn models(place: &Place<'_>) -> Result<PathBuf, Box<dyn Error>> {
    let repository = place.scratch.repository("paging", &[MODEL], &place.args.models)?;
    let sample = repository.join(MODEL).join("1");
    for model in 0..MODELS {
        link(&sample, &repository.join(name(model)).join("1"))?;
    }
    fs::remove_dir_all(repository.join(MODEL))?;
    Ok(repository)
}

fn bytes_in_memory(server: &Process) -> Result<f64, Box<dyn Error>> {
    let (_, metrics) = get(server.http, "/metrics")?;
    let metrics = String::from_utf8(metrics)?;
    let value = |metric: &str| -> Result<f64, Box<dyn Error>> {
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(metric)).ok_or_else(|| format!("no metric {metric}"))?;
        Ok(line.trim().parse()?)
    };
    let count = value("tensorgate_models_in_memory ")?;
    if count < MODELS as f64 {
        return Err(format!("only {count} of {MODELS} models fit into this machine's memory").into());
    }
    value("tensorgate_models_memory_bytes{what=\"used\"} ")
}

/// Models by Zipf's law: the k-th is asked for as often as the first over k.
fn zipf(random: &mut Random, count: usize) -> Vec<usize> {
    let mut sums: Vec<f64> = (1..=MODELS).map(|rank| 1.0 / rank as f64).collect();
    for rank in 1..MODELS {
        sums[rank] += sums[rank - 1];
    }
    let total = sums[MODELS - 1];
    let draw = |_| {
        let at = random.unit() * total;
        sums.partition_point(|sum| *sum < at).min(MODELS - 1)
    };
    (0..count).map(draw).collect()
}

/// The models that were asked for: as many of `turns` as there were requests, in their order.
fn taken(turns: &[usize], report: &Report) -> Vec<usize> {
    turns.iter().cycle().take(report.offered as usize).copied().collect()
}

/// What of three windows of the same requests counts: where the second found its model in memory, in all three; and how many those are.
fn counted(turns: &[usize], reports: &[Report; 3], stays: &Stays) -> ([Latencies; 3], usize) {
    let mut dues: BTreeSet<u64> = BTreeSet::new();
    for report in reports {
        dues.extend(report.each.iter().map(|(due, _)| *due));
    }
    let [_, with, _] = reports;
    let found = |(turn, due): (usize, &u64)| {
        let at = with.begun + Duration::from_nanos(*due);
        stays.is_in_memory(turns[turn % turns.len()], at).then_some(*due)
    };
    let found: BTreeSet<u64> = dues.iter().enumerate().filter_map(found).collect();
    let counted = reports.each_ref().map(|report| {
        let mut latencies = Latencies::new();
        report.each.iter().filter(|(due, _)| found.contains(due)).for_each(|(_, took)| latencies.record(*took));
        latencies
    });
    (counted, found.len())
}

/// When versions came into memory and left it.
struct Stays {
    /// Of each model, in order of time: whether it came.
    events: BTreeMap<usize, Vec<(SystemTime, bool)>>,
}

impl Stays {
    /// Reads the server's log.
    fn read(log: &str) -> Result<Self, Box<dyn Error>> {
        let mut events: BTreeMap<usize, Vec<(SystemTime, bool)>> = BTreeMap::new();
        for line in log.lines().filter(|line| line.contains("\"ready\"") || line.contains("\"paged out\"")) {
            let line: Value = serde_json::from_str(line)?;
            let came = match line["message"].as_str() {
                Some("ready") => true,
                Some("paged out") => false,
                _ => continue,
            };
            let model = line["model"].as_str().and_then(|model| model.strip_prefix(MODEL)?.strip_prefix('-'));
            let model = model.ok_or_else(|| format!("a log line about no model of ours: {line}"))?.parse()?;
            let at = line["timestamp"]
                .as_str()
                .and_then(time)
                .ok_or_else(|| format!("a log line without its time: {line}"))?;
            events.entry(model).or_default().push((at, came));
        }
        Ok(Self { events })
    }

    /// Whether a request for `model` that was due `at` is certain to have found it in memory.
    fn is_in_memory(&self, model: usize, at: SystemTime) -> bool {
        let Some(events) = self.events.get(&model) else { return false };
        let before = events.partition_point(|(when, _)| *when + CLOSE <= at);
        let leaves_at_once = events.get(before).is_some_and(|(when, _)| *when <= at + CLOSE);
        !leaves_at_once && before > 0 && events[before - 1].1
    }

    fn loads_since(&self, begun: SystemTime) -> usize {
        self.events.values().flatten().filter(|(when, came)| *came && *when >= begun).count()
    }
}

/// The time of a log line: "2026-11-27T03:02:54.887583Z" (RFC 3339, in UTC).
fn time(text: &str) -> Option<SystemTime> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (hours, rest) = clock.split_once(':')?;
    let (minutes, seconds) = rest.split_once(':')?;
    let seconds = hours.parse::<u64>().ok()? as f64 * 3600.0
        + minutes.parse::<u64>().ok()? as f64 * 60.0
        + seconds.parse::<f64>().ok()?;
    // Days since 1970 in the Gregorian calendar, years counted from March (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let whole = Duration::from_secs(u64::try_from(days).ok()? * 86_400);
    Some(SystemTime::UNIX_EPOCH + whole + Duration::from_secs_f64(seconds))
}

/// The share of the requests after the first `filled` that the least recently used rule would have had in memory.
fn least_recently_used(asked: &[usize], filled: usize) -> f64 {
    let (mut used, mut hits) = (BTreeMap::new(), 0_usize);
    let mut order = BTreeSet::new();
    for (now, model) in asked.iter().enumerate() {
        match used.insert(*model, now) {
            Some(last) => {
                order.remove(&(last, *model));
                hits += usize::from(now >= filled);
            }
            None if order.len() == ROOM => {
                if let Some((_, leaver)) = order.pop_first() {
                    used.remove(&leaver);
                }
            }
            None => {}
        }
        order.insert((now, *model));
    }
    hits as f64 / asked.len().saturating_sub(filled).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_tells_when_a_model_was_in_memory_and_what_is_close_is_left_out() {
        let line = |at: &str, message: &str, model: &str| {
            format!(
                r#"{{"timestamp":"2026-11-27T03:02:{at}Z","level":"INFO","message":"{message}","model":"{model}","version":"1"}}"#
            )
        };
        let log = [
            "not a line of ours".to_owned(),
            line("10.000000", "ready", "iris-3"),
            line("20.000000", "paged out", "iris-3"),
            line("20.500000", "ready", "iris-3"),
        ];
        let stays = Stays::read(&log.join("\n")).unwrap();
        let at = |second: &str| time(&format!("2026-11-27T03:02:{second}Z")).unwrap();
        for (second, found) in
            [("09.5", false), ("10.0005", false), ("15", true), ("19.9995", false), ("20.2", false), ("21", true)]
        {
            assert_eq!(stays.is_in_memory(3, at(second)), found, "{second}");
        }
        assert!(!stays.is_in_memory(4, at("15")), "never heard of");
        assert_eq!((stays.loads_since(at("00")), stays.loads_since(at("20.1"))), (2, 1));
        assert!(Stays::read(r#"{"timestamp":"2026-11-27T03:02:10Z","message":"ready","model":"other"}"#).is_err());
    }

    #[test]
    fn times_are_seconds_since_1970() {
        let since = |text: &str| time(text).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        assert_eq!(since("1970-01-01T00:00:00Z"), 0.0);
        assert_eq!(since("2000-02-29T12:00:00.5Z"), 951_825_600.5);
        assert_eq!(since("2026-11-27T03:02:54Z"), 1_795_748_574.0);
        assert_eq!(time("yesterday"), None);
    }

    #[test]
    fn the_least_recently_used_rule_hits_what_was_asked_within_the_last_fifty_models() {
        let round = |count: usize| (0..4).flat_map(|_| 0..count).collect::<Vec<_>>();
        assert_eq!(least_recently_used(&round(ROOM), ROOM), 1.0);
        assert_eq!(least_recently_used(&round(ROOM + 1), ROOM + 1), 0.0);
        assert_eq!(least_recently_used(&[1, 1, 2, 1], 0), 0.5);
    }

    #[test]
    fn the_first_of_a_thousand_is_asked_for_by_zipf_s_law() {
        let turns = zipf(&mut Random::new(1), 100_000);
        let share = |rank: usize| turns.iter().filter(|turn| **turn == rank).count() as f64 / 1e5;
        // The thousandth harmonic number is 7.485.
        assert!((share(0) - 1.0 / 7.485).abs() < 0.005 && (share(9) - 0.1 / 7.485).abs() < 0.002);
        assert!(turns.iter().all(|turn| *turn < MODELS));
    }
}
