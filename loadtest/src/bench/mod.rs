//! `loadtest bench`: the whole performance table in one run, every figure beside its ceiling.
//!
//! The server runs on one core, the generator on another, and windows of ceiling and server alternate, because the
//! machine changes its speed more than a server changes from one commit to the next.

mod cases;
mod repository;
mod server;
mod single;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ort::environment::Environment;

use self::cases::{Against, Case, Door};
use self::repository::Scratch;
use self::server::{Process, exchange};
use self::table::{Pair, Row, Unit};
use crate::ceiling::session::{self, BATCHES, Driver};
use crate::cli::BenchArgs;
use crate::engine::{self, Plan};
use crate::http1::{self, HttpClient};
use crate::http2::{Calls, GrpcClient};
use crate::payload::{Echo, Encoding};
use crate::process;
use crate::report::Report;
use crate::tls::Trust;
use crate::{BODIES, DRAIN, MODEL_INFER};

/// Pairs of windows for each case.
const ROUNDS: usize = 5;
const ROUNDS_QUICK: usize = 3;
/// How far a served value may lie from the one computed in-process, relative to the largest.
const TOLERANCE: f64 = 1e-3;

/// Runs the bench and prints the table as it comes. False if a target was missed.
pub(crate) fn run(args: &BenchArgs) -> Result<bool, Box<dyn Error>> {
    let scratch = Scratch::new()?;
    let wanted = |name: &str| args.filter.as_ref().is_none_or(|part| name.contains(part.as_str()));
    println!("{}", Row::heading());
    let mut all_met = true;
    let mut show = |row: Row| {
        println!("{row}");
        all_met &= row.met() != Some(false);
    };
    let cases: Vec<Case> = cases::all().into_iter().filter(|case| wanted(&case.name)).collect();
    if !cases.is_empty() {
        let mut bench = Bench::start(args, &scratch)?;
        for case in &cases {
            let failed = |error: Box<dyn Error>| Row::failed(&case.name, case.unit, case.target, error.to_string());
            show(bench.case(case).unwrap_or_else(failed));
        }
    }
    if wanted("resident memory") {
        show(single::idle_memory(&args.server, &scratch));
    }
    if wanted("process start") {
        show(single::first_answer(&args.server, &args.models, &scratch));
    }
    Ok(all_met)
}

/// The running servers and loaded sessions.
struct Bench {
    rounds: usize,
    window: Duration,
    warmup: Duration,
    server_core: usize,
    load_core: usize,
    repository: PathBuf,
    server: Process,
    tls_server: Process,
    trust: Trust,
    http_echo: Process,
    grpc_echo: Process,
    environment: Option<Environment>,
    sessions: HashMap<String, (Driver, Vec<usize>)>,
}

impl Bench {
    fn start(args: &BenchArgs, scratch: &Scratch) -> Result<Self, Box<dyn Error>> {
        let cores = process::cores()?;
        let server_core = *cores.first().ok_or("no core to run on")?;
        let load_core = cores.get(1).copied().unwrap_or(server_core);
        if server_core == load_core {
            eprintln!("loadtest: only one core: generator and server share it, figures are not comparable");
        }
        let repository = scratch.repository(&args.models)?;
        let http_echo = Process::echo("http", server_core, scratch.path("http-echo.log"))?;
        let grpc_echo = Process::echo("grpc", server_core, scratch.path("grpc-echo.log"))?;
        let server = Process::server(&args.server, &repository, Some(server_core), scratch.path("server.log"), &[])?;
        server.wait_ready()?;
        let (certificate, key) = (scratch.path("server.pem"), scratch.path("server.key"));
        let trust = Trust::fresh(&certificate, &key)?;
        let tls = ["--tls-cert".as_ref(), certificate.as_os_str(), "--tls-key".as_ref(), key.as_os_str()];
        let log = scratch.path("tls-server.log");
        let tls_server = Process::server(&args.server, &repository, Some(server_core), log, &tls)?;
        tls_server.wait_ready_over(&trust)?;
        Ok(Self {
            rounds: if args.quick { ROUNDS_QUICK } else { ROUNDS },
            window: Duration::from_millis(if args.quick { 500 } else { 1_500 }),
            warmup: Duration::from_millis(if args.quick { 150 } else { 300 }),
            server_core,
            load_core,
            repository,
            server,
            tls_server,
            trust,
            http_echo,
            grpc_echo,
            environment: None,
            sessions: HashMap::new(),
        })
    }

    /// Measures one case in pairs of windows.
    fn case(&mut self, case: &Case) -> Result<Row, Box<dyn Error>> {
        let least = self.check_answer(case)?;
        let mut pairs = Vec::new();
        let mut errors: BTreeMap<String, u64> = BTreeMap::new();
        for _ in 0..self.rounds {
            let ceiling = match case.against {
                Against::Session => self.session_window(case)?,
                Against::Echo | Against::Plain => {
                    let plain = case.against == Against::Plain;
                    let report = if plain { self.server_window(case)? } else { self.echo_window(case)? };
                    if report.error_count() > 0 {
                        return Err(format!("the ceiling failed: {:?}", report.errors).into());
                    }
                    figure(case.unit, &report)
                }
            };
            let report =
                if case.against == Against::Plain { self.tls_window(case)? } else { self.server_window(case)? };
            if report.bytes < report.ok * least {
                return Err("answers are too short to hold the values".into());
            }
            for (kind, count) in &report.errors {
                *errors.entry(kind.clone()).or_default() += count;
            }
            if report.warmup_errors > 0 {
                *errors.entry("during the warm-up".to_owned()).or_default() += report.warmup_errors;
            }
            pairs.push(Pair { server: figure(case.unit, &report), ceiling, cpu_us: report.server_cpu_us });
        }
        let pair = table::median(case.unit, pairs).ok_or("no window was measured")?;
        let failed = Row::failed(&case.name, case.unit, case.target, String::new());
        let errors = errors.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        Ok(Row { server: Ok(pair.server), ceiling: Some(pair.ceiling), cpu_us: pair.cpu_us, errors, ..failed })
    }

    fn plan(&self, case: &Case, address: SocketAddr, observed: u32) -> Plan {
        Plan {
            address,
            connections: case.connections,
            spread: case.connect.spread(),
            warmup: self.warmup,
            window: self.window,
            open: None,
            slo: None,
            drain: DRAIN,
            observed: Some(observed),
        }
    }

    fn server_window(&self, case: &Case) -> Result<Report, Box<dyn Error>> {
        match case.door {
            Door::Http(encoding) => self.http_window(case, encoding, &self.server),
            Door::Grpc => self.grpc_window(case, case.model.messages(BODIES), &self.server),
        }
    }

    /// The same bytes, or as many, against the bare echo.
    fn echo_window(&self, case: &Case) -> Result<Report, Box<dyn Error>> {
        match case.door {
            Door::Http(encoding) => self.http_window(case, encoding, &self.http_echo),
            Door::Grpc => {
                let messages = case.model.messages(BODIES).iter().map(|message| Echo::alike(message)).collect();
                self.grpc_window(case, messages, &self.grpc_echo)
            }
        }
    }

    fn http_window(&self, case: &Case, encoding: Encoding, target: &Process) -> Result<Report, Box<dyn Error>> {
        let requests = requests(case, encoding, target);
        let plan = self.plan(case, target.http, target.pid());
        Ok(process::on_core(self.load_core, || engine::run(&plan, || HttpClient::new(Arc::clone(&requests))))??)
    }

    /// The same requests over TLS.
    fn tls_window(&self, case: &Case) -> Result<Report, Box<dyn Error>> {
        let Door::Http(encoding) = case.door else { return Err("only HTTP is measured with TLS".into()) };
        let target = &self.tls_server;
        let requests = requests(case, encoding, target);
        let plan = self.plan(case, target.http, target.pid());
        let client = || self.trust.client(HttpClient::new(Arc::clone(&requests)));
        Ok(process::on_core(self.load_core, || engine::run(&plan, client))??)
    }

    fn grpc_window(&self, case: &Case, messages: Vec<Vec<u8>>, target: &Process) -> Result<Report, Box<dyn Error>> {
        let calls = Arc::new(Calls::new(&target.grpc.to_string(), MODEL_INFER, &messages, &[]));
        let plan = self.plan(case, target.grpc, target.pid());
        let client = || GrpcClient::new(Arc::clone(&calls), case.streams);
        Ok(process::on_core(self.load_core, || engine::run(&plan, client))??)
    }

    /// The session of a case's model, loaded and swept at first use.
    fn session(&mut self, case: &Case) -> Result<&mut (Driver, Vec<usize>), Box<dyn Error>> {
        let name = &case.model.name;
        if !self.sessions.contains_key(name) {
            let file = repository::newest(&self.repository.join(name))?;
            // At first use, so that the echo cases run without ONNX Runtime.
            if self.environment.is_none() {
                self.environment = Some(session::environment()?);
            }
            let environment = self.environment.as_ref().ok_or("no environment")?;
            let mut driver = Driver::load(environment, &file, session::ROWS, Some(&case.model))?;
            let each = self.window / 4;
            let rates = process::on_core(self.server_core, || {
                BATCHES.map(|batch| (driver.measure(batch, each).unwrap_or(0.0), batch))
            })?;
            let mut rates = rates.to_vec();
            rates.sort_by(|a, b| b.0.total_cmp(&a.0));
            // The two best: the sweep is too short to tell neighbours apart.
            let best = rates.iter().take(2).map(|(_, batch)| *batch).collect();
            self.sessions.insert(name.clone(), (driver, best));
        }
        self.sessions.get_mut(name).ok_or_else(|| "no session".into())
    }

    /// Rows per second in-process on the server's core, at the best batch size.
    fn session_window(&mut self, case: &Case) -> Result<f64, Box<dyn Error>> {
        let (core, window) = (self.server_core, self.window / 2);
        let (driver, batches) = self.session(case)?;
        let mut best = 0.0_f64;
        for batch in batches {
            best = best.max(process::on_core(core, || driver.measure(*batch, window))??);
        }
        Ok(best)
    }

    /// A fast wrong answer is worth nothing: before the windows, the first row's answer is compared with what is
    /// known of it. Returns how many bytes an answer has at least, by whichever door.
    fn check_answer(&mut self, case: &Case) -> Result<u64, Box<dyn Error>> {
        if let Door::Http(Encoding::Binary) = case.door {
            let answer = self.ask(case, Encoding::Binary)?;
            if !answer.windows(16).any(|window| window == b"binary_data_size") {
                return Err("the answer is not binary".into());
            }
        }
        let answer: serde_json::Value = serde_json::from_slice(&self.ask(case, Encoding::Json)?)?;
        let outputs = answer["outputs"].as_array().ok_or("the answer has no outputs")?;
        let (name, expected) = match (case.model.name.as_str(), case.against) {
            ("identity", _) => (case.model.input.clone(), case.model.rows(1)),
            (_, Against::Session) => self.session(case)?.0.first_answer()?,
            _ if outputs.is_empty() => return Err("the answer has no outputs".into()),
            _ => return Ok(outputs.len() as u64),
        };
        let output = outputs.iter().find(|output| output["name"] == name.as_str());
        let data = output.and_then(|output| output["data"].as_array()).ok_or("the answer lacks an output")?;
        let scale = expected.iter().fold(1e-6_f64, |most, value| most.max(f64::from(value.abs())));
        let near = |(got, want): (&serde_json::Value, &f32)| {
            got.as_f64().is_some_and(|got| (got - f64::from(*want)).abs() <= TOLERANCE * scale)
        };
        if data.len() == expected.len() && data.iter().zip(&expected).all(near) {
            // JSON may write a number in as little as one digit and a comma; raw values take four bytes.
            let each = if case.door == Door::Http(Encoding::Json) { 2 } else { 4 };
            return Ok(expected.len() as u64 * each);
        }
        Err(format!("the answer's {name} is wrong").into())
    }

    fn ask(&self, case: &Case, encoding: Encoding) -> Result<Vec<u8>, Box<dyn Error>> {
        let body = case.model.bodies(1, encoding).remove(0);
        let extra = [("Connection".to_owned(), "close".to_owned())];
        let request = http1::request(&self.server.http.to_string(), &infer_path(case), &body, &extra);
        let (status, answer) = exchange(self.server.http, &request)?;
        if status == 200 {
            return Ok(answer);
        }
        Err(format!("http {status}: {}", String::from_utf8_lossy(&answer)).into())
    }
}

/// Whole HTTP requests of a case for `target`.
fn requests(case: &Case, encoding: Encoding, target: &Process) -> Arc<[Box<[u8]>]> {
    let (host, path) = (target.http.to_string(), infer_path(case));
    let bodies = case.model.bodies(BODIES, encoding);
    bodies.iter().map(|body| http1::request(&host, &path, body, &[])).collect()
}

fn infer_path(case: &Case) -> String {
    format!("/v2/models/{}/infer", case.model.name)
}

/// What a report says in a case's unit.
fn figure(unit: Unit, report: &Report) -> f64 {
    if unit == Unit::PerSecond { report.rate } else { report.p50_us }
}
