//! Good clients at a steady rate: what they see is what the soak is about. Each has a thread and a connection of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Seen, Shared};
use crate::payload::{Encoding, ModelSpec};

/// Requests are due this often, whatever became of those before; each is timed from when it was due.
const PACE: Duration = Duration::from_millis(5);
/// Bodies that rotate.
const BODIES: usize = 64;
/// How long one request may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome = Result<Seen, Failure>;

/// A connection of either kind.
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

async fn connect(address: SocketAddr, grpc: bool) -> Result<Sender, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let io = TokioIo::new(stream);
    Ok(if grpc {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        Sender::Http2(sender)
    } else {
        let (sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection);
        Sender::Http1(sender)
    })
}

async fn send(sender: &mut Sender, request: Request<Full<Bytes>>, grpc: bool) -> Result<(), Failure> {
    let answer = match sender {
        Sender::Http1(sender) => sender.send_request(request).await?,
        Sender::Http2(sender) => sender.send_request(request).await?,
    };
    let (head, body) = answer.into_parts();
    let body = body.collect().await?;
    let code = body.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
    let fine = head.status == 200 && (!grpc || code.as_ref().map(HeaderValue::as_bytes) == Some(b"0"));
    if fine { Ok(()) } else { Err(format!("{} {code:?} {:?}", head.status, body.to_bytes()).into()) }
}

fn requests(address: SocketAddr, grpc: bool) -> Result<Vec<Request<Full<Bytes>>>, Failure> {
    let spec = ModelSpec::parse("iris")?;
    let request = |path: &str, content_type: &'static str, body: Bytes| {
        let uri = if grpc { format!("http://{address}{path}") } else { path.to_owned() };
        let request = Request::post(uri).header(header::HOST, address.to_string());
        request.header(header::CONTENT_TYPE, content_type).header(header::TE, "trailers").body(Full::new(body))
    };
    let all: Result<Vec<_>, _> = if grpc {
        let framed = |message: &Vec<u8>| {
            let mut framed = vec![0];
            framed.extend((message.len() as u32).to_be_bytes());
            framed.extend_from_slice(message);
            Bytes::from(framed)
        };
        let call = |message: &Vec<u8>| {
            request("/inference.GRPCInferenceService/ModelInfer", "application/grpc", framed(message))
        };
        spec.messages(BODIES).iter().map(call).collect()
    } else {
        let bodies = spec.bodies(BODIES, Encoding::Json);
        let post = |body: Vec<u8>| request("/v2/models/iris/infer", "application/json", body.into());
        bodies.into_iter().map(|body| post(body.bytes)).collect()
    };
    Ok(all?)
}

async fn run(address: SocketAddr, grpc: bool, shared: Arc<Shared>) -> Outcome {
    let mut seen = Seen::new(if grpc { "gRPC" } else { "HTTP" }).map_err(|cause| cause.to_string())?;
    let requests = requests(address, grpc)?;
    let mut sender = connect(address, grpc).await?;
    let mut due = Instant::now();
    for request in requests.iter().cycle() {
        if shared.stop.load(Relaxed) {
            break;
        }
        due += PACE;
        tokio::time::sleep_until(due).await;
        let (attack, settled) = (shared.attack.load(Relaxed), shared.settled.load(Relaxed));
        let outcome = tokio::time::timeout(ANSWER_MAX, send(&mut sender, request.clone(), grpc)).await;
        match outcome.map_err(Into::into).and_then(|sent| sent) {
            Ok(()) if settled => seen.micros[usize::from(attack)].record(due.elapsed().as_micros() as u64)?,
            Ok(()) => {}
            Err(failure) => {
                seen.failures.push(failure.to_string());
                sender = connect(address, grpc).await?;
            }
        }
    }
    Ok(seen)
}

fn start(address: SocketAddr, grpc: bool, shared: Arc<Shared>) -> JoinHandle<Outcome> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(run(address, grpc, shared))
    })
}

/// One over HTTP/1.1, in JSON.
pub(super) fn over_http(address: SocketAddr, shared: Arc<Shared>) -> JoinHandle<Outcome> {
    start(address, false, shared)
}

/// One over gRPC.
pub(super) fn over_grpc(address: SocketAddr, shared: Arc<Shared>) -> JoinHandle<Outcome> {
    start(address, true, shared)
}
