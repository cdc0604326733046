//! A server with the requests that it is sent, and one measurement of it.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;

use crate::arrivals::Arrivals;
use crate::ask;
use crate::cli::load::{LoadArgs, RequestArgs};
use crate::cli::parse::{Scheme, Url};
use crate::engine::{Look, OpenPlan, Plan, Requests, open_loop};
use crate::http1;
use crate::http2::Calls;
use crate::inputs::{self, Request, Wishes};
use crate::payload::{Echo, HttpBody};
use crate::proto::{MODEL_INFER, MODEL_METADATA, ModelInferRequest, ModelMetadataRequest};
use crate::report::Report;

/// The window where none is given.
const WINDOW: Duration = Duration::from_secs(5);
/// Connections where none are given: of a closed loop, and opened beforehand in an open one.
const CLOSED: usize = 64;
const OPEN: usize = 16;

/// A server with the requests that it is sent.
pub(crate) struct Target {
    address: SocketAddr,
    requests: Requests,
    observed: Option<u32>,
}

impl Target {
    /// Makes the requests, with the help of the server's metadata where only a model is named.
    pub(crate) fn new(
        url: &Url,
        args: &RequestArgs,
        concurrency: usize,
        observed: Option<u32>,
    ) -> Result<Self, Box<dyn Error>> {
        let requests = match url.scheme {
            Scheme::Http => Requests::Http(http(url, args)?.into()),
            Scheme::Grpc => {
                let messages = messages(url, args)?;
                let calls = Calls::new(&url.host, MODEL_INFER, &messages, &args.header);
                Requests::Grpc(Arc::new(calls), concurrency.max(1))
            }
        };
        Ok(Self { address: url.address, requests, observed })
    }

    /// One run: an open loop at this rate or of a recording, else a closed one.
    pub(crate) fn measure(
        &self,
        load: &LoadArgs,
        rate: Option<f64>,
        seed: u64,
        slo: Option<Duration>,
        spectator: &mut dyn FnMut(Look),
    ) -> Result<Report, Box<dyn Error>> {
        let recorded = matches!(load.arrivals, Arrivals::Recorded(_));
        let window = load.duration.or_else(|| load.arrivals.length(rate)).unwrap_or(WINDOW);
        if rate.is_some() || recorded {
            let plan = OpenPlan {
                address: self.address,
                requests: self.requests.clone(),
                arrivals: load.arrivals.clone(),
                rate,
                seed,
                warmup: load.warmup,
                window,
                slo,
                connections: (load.connections.unwrap_or(OPEN), load.connections_max),
                drain: load.drain,
                observed: self.observed,
            };
            return open_loop(&plan, spectator);
        }
        let plan = Plan {
            address: self.address,
            connections: load.connections.unwrap_or(CLOSED),
            spread: load.connect.spread(),
            warmup: load.warmup,
            window,
            open: None,
            slo,
            drain: load.drain,
            observed: self.observed,
        };
        let mut report = self.requests.run(&plan, spectator)?;
        if let Some(interval) = load.expected_interval {
            report.correct(interval);
        }
        Ok(report)
    }

    /// A closed loop of a few connections over a short window; `connections` 1 asks whether the server is idle.
    pub(crate) fn probe(&self, connections: usize, window: Duration, drain: Duration) -> std::io::Result<Report> {
        let plan = Plan {
            address: self.address,
            connections,
            spread: Duration::ZERO,
            warmup: Duration::ZERO,
            window,
            open: None,
            slo: None,
            drain,
            observed: None,
        };
        self.requests.run(&plan, &mut |_| {})
    }
}

/// `PREFIX/v2/models/MODEL[/versions/VERSION]`.
fn model_path(prefix: &str, model: &str, version: &str) -> String {
    let version = if version.is_empty() { String::new() } else { format!("/versions/{version}") };
    format!("{prefix}/v2/models/{model}{version}")
}

fn http(url: &Url, args: &RequestArgs) -> Result<Vec<Box<[u8]>>, Box<dyn Error>> {
    if args.echo.is_some() {
        return Err("--echo is for gRPC; over HTTP an echo takes any --preset or --body".into());
    }
    let name = args.model.as_deref().or(args.preset.as_ref().map(|preset| preset.name.as_str()));
    // A whole path of an infer endpoint stands for itself.
    let infer = match (url.path.strip_suffix("/infer"), name) {
        (Some(_), _) => url.path.clone(),
        (None, Some(name)) => model_path(&url.path, name, &args.model_version) + "/infer",
        (None, None) if !args.body.is_empty() && !url.path.is_empty() => url.path.clone(),
        (None, None) => return Err("what is to be asked? --model, --preset, or a URL that ends with /infer".into()),
    };
    let bodies: Vec<HttpBody> = if let Some(preset) = &args.preset {
        preset.bodies(args.distinct, args.encoding)
    } else if !args.body.is_empty() {
        let read = |file: &std::path::PathBuf| match std::fs::read(file) {
            Ok(bytes) => Ok(HttpBody { bytes, json_length: None }),
            Err(error) => Err(format!("{}: {error}", file.display())),
        };
        args.body.iter().map(read).collect::<Result<_, _>>()?
    } else {
        let path = infer.trim_end_matches("/infer");
        let (status, answer) = ask::get(url.address, &url.host, path, &args.header)?;
        if status != 200 {
            return Err(format!("GET {path}: http {status}: {}", String::from_utf8_lossy(&answer)).into());
        }
        let requests = made(&inputs::from_json(&answer)?, args)?;
        requests.iter().map(|request| request.body(args.encoding)).collect::<Result<_, _>>()?
    };
    Ok(bodies.iter().map(|body| http1::request(&url.host, &infer, body, &args.header)).collect())
}

fn messages(url: &Url, args: &RequestArgs) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    if !args.body.is_empty() {
        return Err("--body is for HTTP".into());
    }
    if let Some(length) = args.echo {
        return Ok(vec![Echo::alike(&vec![0; length])]);
    }
    if let Some(preset) = &args.preset {
        let versioned = |message: Vec<u8>| {
            let request = ModelInferRequest::decode(&message[..])?;
            Ok(ModelInferRequest { model_version: args.model_version.clone(), ..request }.encode_to_vec())
        };
        return preset.messages(args.distinct).into_iter().map(versioned).collect();
    }
    let name = args.model.clone().ok_or("what is to be asked? --model, --preset or --echo")?;
    let version = args.model_version.clone();
    let question = ModelMetadataRequest { name: name.clone(), version: version.clone() }.encode_to_vec();
    let answer = ask::call(url.address, &url.host, MODEL_METADATA, &question, &args.header)
        .map_err(|error| format!("metadata of '{name}': {error}"))?;
    let requests = made(&inputs::from_proto(&answer)?, args)?;
    Ok(requests.iter().map(|request| request.message(&name, &version)).collect())
}

fn made(inputs: &[inputs::Input], args: &RequestArgs) -> Result<Vec<Request>, String> {
    let wishes = Wishes {
        shapes: args.shape.clone(),
        ranges: args.range.clone(),
        rows: args.rows,
        string_length: args.string_length,
        parameters: args.parameter.clone(),
        distinct: args.distinct,
    };
    inputs::requests(inputs, &wishes)
}
