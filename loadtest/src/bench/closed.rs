//! The closed loops of the bench: the server on one core, the generator on another, and pairs of windows.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ort::environment::Environment;

use super::Place;
use super::cases::{Against, Case};
use super::repository;
use super::server::{Process, exchange};
use super::table::{self, Figure, Pair, Row, Unit};
use super::traffic::{self, Door};
use crate::DRAIN;
use crate::ceiling::session::{self, Driver};
use crate::engine::{self, Plan, Requests};
use crate::http1::{self, HttpClient};
use crate::payload::{Column, Encoding};
use crate::process;
use crate::report::Report;
use crate::tls::Trust;

/// Pairs of windows for each case.
const ROUNDS: usize = 5;
const ROUNDS_QUICK: usize = 3;
/// How far a served value may lie from the one computed in-process, relative to the largest.
const TOLERANCE: f64 = 1e-3;
/// A process that used less of its core than this in a closed loop was not what bounded the rate.
const BUSY_LEAST: f64 = 0.9;

/// The running servers and loaded sessions.
pub(super) struct Closed {
    rounds: usize,
    window: Duration,
    warmup: Duration,
    server_core: usize,
    load_core: usize,
    repository: PathBuf,
    server: Process,
    tls: Option<(Process, Trust)>,
    http_echo: Process,
    grpc_echo: Process,
    environment: Option<Environment>,
    sessions: HashMap<String, (Driver, Vec<usize>)>,
}

impl Closed {
    /// Starts what these cases need.
    pub(super) fn start(place: &Place<'_>, cases: &[Case]) -> Result<Self, Box<dyn Error>> {
        let Place { args, scratch, server_core, load_core } = *place;
        let mut models: Vec<&str> = cases.iter().map(|case| case.model.name.as_str()).collect();
        models.sort_unstable();
        models.dedup();
        let http_echo = Process::echo("http", server_core, scratch.path("http-echo.log"))?;
        let grpc_echo = Process::echo("grpc", server_core, scratch.path("grpc-echo.log"))?;
        let server = place.server("closed", &models, Some(server_core), &[])?;
        let with_tls = cases.iter().any(|case| case.against == Against::Plain);
        Ok(Self {
            rounds: if args.quick { ROUNDS_QUICK } else { ROUNDS },
            window: Duration::from_millis(if args.quick { 500 } else { 1_200 }),
            warmup: Duration::from_millis(if args.quick { 150 } else { 300 }),
            server_core,
            load_core,
            repository: scratch.path("closed"),
            server,
            tls: if with_tls { Some(start_tls(place)?) } else { None },
            http_echo,
            grpc_echo,
            environment: None,
            sessions: HashMap::new(),
        })
    }

    /// Measures one case in pairs of windows.
    pub(super) fn case(&mut self, case: &Case) -> Result<Row, Box<dyn Error>> {
        let least = self.check_answer(case)?;
        let mut pairs = Vec::new();
        let mut errors: BTreeMap<String, u64> = BTreeMap::new();
        for _ in 0..self.rounds {
            let ceiling = self.ceiling_window(case)?;
            let report = match case.against {
                Against::Plain => self.tls_window(case)?,
                _ => self.server_window(case)?,
            };
            if report.bytes < report.ok * least {
                return Err("answers are too short to hold the values".into());
            }
            for (kind, count) in &report.errors {
                *errors.entry(kind.clone()).or_default() += count;
            }
            if report.warmup_errors > 0 {
                *errors.entry("during the warm-up".to_owned()).or_default() += report.warmup_errors;
            }
            pairs.push(Pair { server: figure(case.unit, &report), ceiling });
        }
        let (Pair { server, ceiling }, spread) = table::median(case.unit, pairs).ok_or("no window was measured")?;
        let errors = errors.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let figures = (server.value, ceiling.value);
        Ok(Row {
            cpu_us: (server.cpu_us, ceiling.cpu_us),
            errors,
            notes: idle_note(case.unit, server, ceiling).into_iter().collect(),
            ..Row::of(&case.name, case.unit, case.target, figures, Some(spread))
        })
    }

    /// One window of what the case is compared with.
    fn ceiling_window(&mut self, case: &Case) -> Result<Figure, Box<dyn Error>> {
        let report = match case.against {
            Against::Session => return self.session_window(case).map(Figure::bare),
            Against::InOrder(rows) => {
                // Long enough that the rows of both are alike.
                let (core, window) = (self.server_core, 2 * self.window);
                let (driver, _) = self.session(case)?;
                return Ok(Figure::bare(process::on_core(core, || driver.measure(rows, window))??));
            }
            Against::Plain => self.server_window(case)?,
            Against::Echo | Against::SessionAndEcho => self.echo_window(case)?,
        };
        if report.error_count() > 0 {
            return Err(format!("the ceiling failed: {:?}", report.errors).into());
        }
        let mut ceiling = figure(case.unit, &report);
        if case.against == Against::SessionAndEcho {
            let (core, window) = (self.server_core, self.window / 2);
            let (driver, _) = self.session(case)?;
            ceiling.value += process::on_core(core, || driver.alone(window))??;
        }
        Ok(ceiling)
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
        self.window(case, &case.door.requests(&case.model, &self.server, case.streams), &self.server)
    }

    /// The same bytes, or as many, against the bare echo.
    fn echo_window(&self, case: &Case) -> Result<Report, Box<dyn Error>> {
        let echo = if case.door == Door::Grpc { &self.grpc_echo } else { &self.http_echo };
        self.window(case, &case.door.echoes(&case.model, echo, case.streams), echo)
    }

    fn window(&self, case: &Case, requests: &Requests, target: &Process) -> Result<Report, Box<dyn Error>> {
        let plan = self.plan(case, case.door.of(target), target.pid());
        Ok(process::on_core(self.load_core, || requests.run(&plan, &mut |_| {}))??)
    }

    /// The same requests over TLS.
    fn tls_window(&self, case: &Case) -> Result<Report, Box<dyn Error>> {
        let Door::Http(encoding) = case.door else { return Err("only HTTP is measured with TLS".into()) };
        let (target, trust) = self.tls.as_ref().ok_or("no server with TLS")?;
        let requests = traffic::http(&case.model, encoding, target);
        let plan = self.plan(case, target.http, target.pid());
        let client = || trust.client(HttpClient::new(Arc::clone(&requests)));
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
            // The two best: the sweep is too short to tell neighbours apart.
            let best = process::on_core(self.server_core, || driver.best(each))??;
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
            ("identity", _) => match &case.model.columns(1)[..] {
                [Column::Floats(row)] => (case.model.inputs[0].name.clone(), row.clone()),
                _ => return Err("the identity is asked with numbers".into()),
            },
            (_, Against::Session | Against::InOrder(_) | Against::SessionAndEcho) => {
                self.session(case)?.0.first_answer()?
            }
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
            return Ok((expected.len() as f64 * case.model.shortest()) as u64 * each);
        }
        Err(format!("the answer's {name} is wrong").into())
    }

    fn ask(&self, case: &Case, encoding: Encoding) -> Result<Vec<u8>, Box<dyn Error>> {
        let body = case.model.bodies(1, encoding).remove(0);
        let extra = [("Connection".to_owned(), "close".to_owned())];
        let request = http1::request(&self.server.http.to_string(), &traffic::infer_path(&case.model), &body, &extra);
        let (status, answer) = exchange(self.server.http, &request)?;
        if status == 200 {
            return Ok(answer);
        }
        Err(format!("http {status}: {}", String::from_utf8_lossy(&answer)).into())
    }
}

/// The server with TLS, of the identity alone.
fn start_tls(place: &Place<'_>) -> Result<(Process, Trust), Box<dyn Error>> {
    let scratch = place.scratch;
    let (certificate, key) = (scratch.path("server.pem"), scratch.path("server.key"));
    let trust = Trust::fresh(&certificate, &key)?;
    let tls = ["--tls-cert".as_ref(), certificate.as_os_str(), "--tls-key".as_ref(), key.as_os_str()];
    let repository = scratch.repository("with-tls", &["identity"], &place.args.models)?;
    let log = scratch.path("with-tls.log");
    let server = Process::server(&place.args.server, &repository, Some(place.server_core), log, &tls)?;
    server.wait_ready_over(&trust)?;
    Ok((server, trust))
}

/// What a report says in a case's unit.
fn figure(unit: Unit, report: &Report) -> Figure {
    let value = if unit == Unit::PerSecond { report.rate } else { report.p50_us };
    let busy = report.server_cpu_us.map(|cpu| cpu * report.rate / 1e6);
    Figure { value, cpu_us: report.server_cpu_us, busy }
}

/// Says so where a rate was not bounded by the process that was measured.
fn idle_note(unit: Unit, server: Figure, ceiling: Figure) -> Option<String> {
    let idle = |who: &str, figure: Figure| {
        let busy = figure.busy.filter(|busy| *busy < BUSY_LEAST)?;
        Some(format!("{who} used {:.0} % of its core", busy * 100.0))
    };
    let parts: Vec<_> = [idle("the server", server), idle("the ceiling", ceiling)].into_iter().flatten().collect();
    let bounded = unit == Unit::PerSecond && !parts.is_empty();
    bounded.then(|| format!("{}: the generator, or other work on the machine, was the limit", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_the_generator_bounded_is_told() {
        let figure = |busy| Figure { value: 1.0, cpu_us: Some(1.0), busy: Some(busy) };
        assert_eq!(idle_note(Unit::PerSecond, figure(0.99), figure(0.95)), None);
        assert_eq!(idle_note(Unit::Micros, figure(0.2), figure(0.2)), None, "one connection leaves every server idle");
        assert_eq!(idle_note(Unit::PerSecond, figure(0.99), Figure::bare(1.0)), None);
        let note = idle_note(Unit::PerSecond, figure(0.99), figure(0.7)).unwrap();
        assert!(note.starts_with("the ceiling used 70 % of its core:"), "{note}");
    }
}
