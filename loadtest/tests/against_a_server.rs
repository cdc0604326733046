//! The program as people run it, against a tiny V2 server of fixed answers that checks what it is asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use prost::Message;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// One worker that takes this long for the model `slow`.
const EXECUTE: Duration = Duration::from_millis(2);
static WORKER: Semaphore = Semaphore::const_new(1);

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, repeated, tag = "4")]
    inputs: Vec<Tensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Infer {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "2")]
    model_version: String,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<Tensor>,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    raw_input_contents: Vec<Bytes>,
}

/// The inputs of every model: name, datatype, shape, bytes of an element with one row of five ids.
const INPUTS: [(&str, &str, &[i64], usize); 3] =
    [("x", "FP32", &[-1, 4], 16), ("ids", "INT64", &[-1, -1], 40), ("text", "BYTES", &[-1, 1], 4 + 16)];

/// A server on a thread of its own, for as long as the test runs.
fn serve() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
                });
            }
        });
    });
    address
}

async fn answer(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if head.headers.contains_key("x-refuse") && head.method == "POST" {
        return Ok(plain(StatusCode::TOO_MANY_REQUESTS, b"{}".as_slice().into()));
    }
    if head.headers.get("content-type").is_some_and(|value| value == "application/grpc") {
        return Ok(grpc(head.uri.path(), &body[5..]));
    }
    let path = head.uri.path();
    if path.contains("/slow/infer") {
        let _turn = WORKER.acquire().await.unwrap();
        tokio::time::sleep(EXECUTE).await;
        return Ok(plain(StatusCode::OK, b"{}".as_slice().into()));
    }
    let fits = match head.method.as_str() {
        "GET" => {
            let inputs: Vec<Value> = INPUTS
                .iter()
                .map(|(name, datatype, shape, _)| json!({"name": name, "datatype": datatype, "shape": shape}))
                .collect();
            let known = path == "/v2/models/fixed/versions/3" || path.starts_with("/v2/models/slow");
            let status = if known { StatusCode::OK } else { StatusCode::NOT_FOUND };
            return Ok(plain(status, json!({"name": "fixed", "inputs": inputs}).to_string().into()));
        }
        _ => path == "/v2/models/fixed/versions/3/infer" && http_fits(&head.headers, &body).is_some(),
    };
    let status = if fits { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    Ok(plain(status, b"{\"outputs\":[]}".as_slice().into()))
}

fn plain(status: StatusCode, body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body).boxed());
    *response.status_mut() = status;
    response
}

/// Whether a request has every input with the shape and the bytes or numbers that one row of five ids has.
fn http_fits(headers: &HeaderMap, body: &[u8]) -> Option<()> {
    let length = headers.get("inference-header-content-length");
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let (json, raw) = body.split_at(length.unwrap_or(body.len()));
    let value: Value = serde_json::from_slice(json).ok()?;
    let mut bytes = 0;
    for (input, (name, datatype, shape, size)) in value["inputs"].as_array()?.iter().zip(INPUTS) {
        let shape: Vec<i64> = shape.iter().zip([1, 5]).map(|(dim, own)| if *dim == -1 { own } else { *dim }).collect();
        let alike = input["name"] == name && input["datatype"] == datatype && input["shape"] == json!(shape);
        let whole = if length.is_some() {
            bytes += size;
            input["parameters"]["binary_data_size"] == size
        } else {
            input["data"].as_array()?.len() as i64 == shape.iter().product::<i64>()
        };
        (alike && whole).then_some(())?;
    }
    (bytes == raw.len()).then_some(())
}

fn grpc(path: &str, message: &[u8]) -> Answer {
    let (message, status) = if path.ends_with("/ModelMetadata") {
        let tensor = |(name, datatype, shape, _): &(&str, &str, &[i64], usize)| Tensor {
            name: (*name).to_owned(),
            datatype: (*datatype).to_owned(),
            shape: shape.to_vec(),
        };
        (Metadata { inputs: INPUTS.iter().map(tensor).collect() }.encode_to_vec(), "0")
    } else {
        let request = Infer::decode(message).unwrap();
        let sizes: Vec<usize> = request.raw_input_contents.iter().map(Bytes::len).collect();
        let fits = sizes == INPUTS.map(|input| input.3)
            && request.inputs[1].shape == [1, 5]
            && (request.model_name.as_str(), request.model_version.as_str()) == ("fixed", "3");
        (Vec::new(), if fits { "0" } else { "3" })
    };
    let framed = [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat();
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(status))]);
    let body = Full::new(Bytes::from(framed)).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body.boxed());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// Runs the program; its standard output, or what it says when it fails.
fn loadtest(line: &str) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(line.split_whitespace()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn report(line: &str) -> Value {
    let text = loadtest(&format!("{line} --json")).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Where a page is written to.
fn page(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

const FIXED: &str = "--model fixed --model-version 3 --shape ids:5 --duration 300ms --warmup 50ms";

#[test]
fn every_door_is_asked_what_the_metadata_says() {
    let address = serve();
    for door in ["http", "http --encoding binary", "grpc"] {
        let (scheme, flags) = door.split_once(' ').unwrap_or((door, ""));
        let report = report(&format!("run {scheme}://{address} {FIXED} {flags} --rate 500 --slo 10s"));
        let offered = report["offered"].as_u64().unwrap();
        assert!(offered > 0, "{door}: {report}");
        assert_eq!(report["outcomes"], json!({"good": offered, "late": 0, "refused": 0, "failed": 0}), "{door}");
        assert_eq!(report["errors"], json!({}), "{door}");
    }
}

#[test]
fn arrivals_are_those_of_the_seed_whatever_the_server() {
    let address = serve();
    let offered = |seed: u32, scheme: &str| {
        let line = format!("run {scheme}://{address} {FIXED} --rate 400 --arrivals gamma:4 --seed {seed}");
        report(&line)["offered"].as_u64().unwrap()
    };
    assert_eq!(offered(5, "http"), offered(5, "grpc"));
}

#[test]
fn a_closed_loop_needs_no_rate_and_refusals_are_a_class_of_their_own() {
    let address = serve();
    let closed = report(&format!("run http://{address} {FIXED} --connections 2 --expected-interval 1ms"));
    assert!(closed["outcomes"]["good"].as_u64().unwrap() > 0, "{closed}");
    assert!(closed["corrected"]["count"].as_u64() >= closed["answered"]["count"].as_u64(), "{closed}");
    assert_eq!(closed["generator"], Value::Null);
    let refused = report(&format!("run http://{address} {FIXED} --rate 200 --header x-refuse:1"));
    assert_eq!(refused["outcomes"]["refused"], refused["offered"], "{refused}");
    assert_eq!(refused["errors"]["http 429"], refused["offered"]);
}

#[test]
fn several_rates_make_a_table_a_page_and_a_picture_and_one_makes_no_picture() {
    let (file, picture) = (page("run.html"), page("run.svg"));
    let address = serve();
    let files = format!("--html {} --svg {}", file.display(), picture.display());
    let text = loadtest(&format!("run http://{address} {FIXED} --rate 100,200 --slo 1s {files}")).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    let svg = std::fs::read_to_string(&picture).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("Goodput by offered rate"), "{svg}");
    let refusal =
        loadtest(&format!("run http://{address} {FIXED} --rate 100 --svg {}", picture.display())).unwrap_err();
    assert!(refusal.contains("--rate 500,1000,2000"), "{refusal}");
    let html = std::fs::read_to_string(file).unwrap();
    assert!(html.contains("Latency by offered rate") && html.contains("Outcomes over time: 200/s"));
}

#[test]
fn a_sweep_finds_a_rate_that_holds_and_shows_what_is_beyond() {
    let file = page("sweep.html");
    let line = format!(
        "sweep http://{} --model slow --shape ids:5 --slo 100ms --duration 300ms --warmup 50ms --drain 1s \
         --precision 40% --html {}",
        serve(),
        file.display()
    );
    let found = report(&line);
    let best = found["best"].as_f64().unwrap();
    let steps = found["steps"].as_array().unwrap();
    let asked: Vec<f64> = steps.iter().map(|step| step["asked"].as_f64().unwrap()).collect();
    assert!(asked.is_sorted() && *asked.last().unwrap() >= best * 1.4, "{asked:?} around {best}");
    assert!(steps.iter().any(|step| step["asked"] == found["best"]));
    assert!(std::fs::read_to_string(file).unwrap().contains("class=\"best\""));
    let nothing = report(&format!("sweep http://{} {FIXED} --slo 1s --from 2 --header x-refuse:1", serve()));
    assert_eq!(nothing["best"], Value::Null);
}

#[test]
fn a_comparison_alternates_and_pairs_turns_of_the_same_seed() {
    let file = page("compare.html");
    let (a, b) = (serve(), serve());
    let line = format!(
        "compare a=http://{a} b=grpc://{b} {FIXED} --rate 100,300 --turns 3 --slo 10s --html {}",
        file.display()
    );
    let found = report(&line);
    let turns = found["turns"].as_array().unwrap();
    assert_eq!(turns.len(), 4, "two servers at two rates");
    for pair in turns.chunks(2) {
        let offered = |turns: &Value| {
            let runs = turns["runs"].as_array().unwrap();
            runs.iter().map(|run| (run["seed"].clone(), run["offered"].clone())).collect::<Vec<_>>()
        };
        assert_eq!(offered(&pair[0]), offered(&pair[1]));
        assert_eq!(offered(&pair[0]).len(), 3);
    }
    let figures = found["figures"].as_array().unwrap();
    let good = figures.iter().find(|figure| figure["server"] == "b" && figure["measure"] == "good %").unwrap();
    assert_eq!(good["ratio"]["median"], 1.0, "{good}");
    assert!(std::fs::read_to_string(file).unwrap().contains("Goodput by offered rate"));
}

#[test]
fn what_cannot_be_asked_is_told_before_any_load() {
    let address = serve();
    for (line, part) in [
        (format!("run http://{address} --model fixed --model-version 3"), "--shape ids:DIMS"),
        (format!("run grpc://{address} --model fixed --model-version 3"), "--shape ids:DIMS"),
        (format!("run http://{address} --model other"), "GET /v2/models/other: http 404"),
        (format!("run http://{address}"), "what is to be asked"),
        (format!("run grpc://{address} --body x.json"), "--body is for HTTP"),
        (format!("run http://{address} --model fixed --arrivals trace:/nowhere"), "/nowhere"),
        ("run http://127.0.0.1:1 --preset iris".to_owned(), "refused"),
    ] {
        let error = loadtest(&line).unwrap_err();
        assert!(error.contains(part), "{line}: {error}");
    }
}
