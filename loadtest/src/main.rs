//! Load generator for V2 inference servers, and the ceilings to compare them against; see README.md.

mod bench;
mod ceiling;
mod cli;
mod engine;
mod http1;
mod http2;
mod onnx_file;
mod payload;
mod process;
mod report;
mod soak;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;

use self::cli::{Ceiling, Cli, Command, GrpcArgs, HttpArgs, LoadArgs};
use self::engine::Plan;
use self::http1::HttpClient;
use self::http2::{Calls, GrpcClient};
use self::payload::{Echo, HttpBody};
use self::report::Report;

/// Distinct bodies that rotate.
const BODIES: usize = 64;
/// How long stragglers are awaited.
const DRAIN: Duration = Duration::from_secs(5);
/// The V2 inference method.
const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Http(args) => http(&args),
        Command::Grpc(args) => grpc(&args),
        Command::Ceiling(ceiling) => serve(&ceiling),
        Command::Bench(args) => match bench::run(&args) {
            Ok(false) if args.strict => Err("a target was missed".into()),
            result => result.map(|_| ()),
        },
        Command::Soak(args) => match soak::run(&args) {
            Ok(false) => Err("the server did not hold".into()),
            result => result.map(|_| ()),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn plan(load: &LoadArgs, address: std::net::SocketAddr) -> Result<Plan, Box<dyn Error>> {
    if let Some(core) = load.pin {
        process::pin(core)?;
    }
    Ok(Plan {
        address,
        connections: load.connections,
        spread: load.connect.spread(),
        warmup: load.warmup,
        window: load.duration,
        rate: load.rate,
        drain: DRAIN,
        observed: load.pid,
    })
}

fn http(args: &HttpArgs) -> Result<(), Box<dyn Error>> {
    let (host, address, path) = cli::split_url(&args.url)?;
    let mut path = path.to_owned();
    let bodies = match &args.model_preset {
        Some(spec) => {
            if path.len() <= 1 {
                path = format!("/v2/models/{}/infer", spec.name);
            }
            spec.bodies(BODIES, args.encoding)
        }
        None => {
            let read = |file| std::fs::read(file).map(|bytes| HttpBody { bytes, json_length: None });
            args.body.iter().map(read).collect::<Result<_, _>>()?
        }
    };
    let requests: Arc<[_]> = bodies.iter().map(|body| http1::request(host, &path, body, &args.header)).collect();
    let report = engine::run(&plan(&args.load, address)?, || HttpClient::new(Arc::clone(&requests)))?;
    show(&report, args.load.json)
}

fn grpc(args: &GrpcArgs) -> Result<(), Box<dyn Error>> {
    let messages = match (&args.model, args.echo) {
        (Some(spec), _) => spec.messages(BODIES),
        (None, length) => vec![Echo::alike(&vec![0; length.unwrap_or(0)])],
    };
    let calls = Arc::new(Calls::new(&args.address, MODEL_INFER, &messages, &args.header));
    let plan = plan(&args.load, cli::resolve(&args.address)?)?;
    let report = engine::run(&plan, || GrpcClient::new(Arc::clone(&calls), args.concurrency))?;
    show(&report, args.load.json)
}

fn show(report: &Report, json: bool) -> Result<(), Box<dyn Error>> {
    if json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

fn serve(ceiling: &Ceiling) -> Result<(), Box<dyn Error>> {
    let (Ceiling::Http(cli::EchoArgs { pin, .. })
    | Ceiling::Grpc(cli::EchoArgs { pin, .. })
    | Ceiling::Session(cli::SessionArgs { pin, .. })) = ceiling;
    if let Some(core) = pin {
        process::pin(*core)?;
    }
    match ceiling {
        Ceiling::Http(args) => match ceiling::http::serve(args.port)? {},
        Ceiling::Grpc(args) => match ceiling::grpc::serve(args.port)? {},
        Ceiling::Session(args) => ceiling::session::sweep(&args.model, args.rows, args.duration),
    }
}
