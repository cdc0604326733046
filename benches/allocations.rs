//! Allocations of one [1,3,224,224] FP32 request to the identity model, from the whole body to the whole answer, and of the
//! same request over a socket, with hyper's part. Counts are the point here; times are in the other benches.

use std::path::Path;

use bytes::Bytes;
use divan::{AllocProfiler, Bencher};
use prost::Message;
use tensorgate::app::App;
use tensorgate::config::Config;
use tensorgate::protocol::json::{self, Limits, OutputEncoding};
use tensorgate::protocol::proto::model_infer_request::InferInputTensor;
use tensorgate::protocol::proto::{self, ModelInferRequest};
use tensorgate::repository::{Repository, Runtimes};
use tensorgate::service::{self, Dispatch, Router, Stack};
use tensorgate::telemetry::Telemetry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tower::Service;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const SHAPE: [usize; 4] = [1, 3, 224, 224];
const COUNT: usize = SHAPE[0] * SHAPE[1] * SHAPE[2] * SHAPE[3];
const MODEL: &str =
    "runtime = \"identity\"\n[[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 3, 224, 224]\n";

fn main() {
    divan::main();
}

/// One thread for client, server and model: the profiler counts by thread.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn repository() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let model = directory.path().join("identity");
    std::fs::create_dir(&model).and_then(|()| std::fs::write(model.join("model.toml"), MODEL)).expect("a model");
    directory
}

fn config(repository: &Path) -> Config {
    let mut config = Config::default();
    (config.server.http_port, config.server.grpc_port) = (0, 0);
    config.repository.repositories.push(repository.into());
    config
}

async fn stack(repository: &Path) -> Stack {
    let telemetry = std::sync::Arc::new(Telemetry::new());
    let runtimes = std::sync::Arc::new(Runtimes::new(None));
    let repository = Repository::open(config(repository).repository, runtimes, std::sync::Arc::clone(&telemetry));
    let repository = std::sync::Arc::new(repository.await.expect("a repository"));
    repository.settled().await;
    service::stack(Router::start(repository, Dispatch::new(None)), telemetry, None, false)
}

fn json_body() -> Bytes {
    let values: Vec<f32> = (0..COUNT).map(|i| (i as f32 * 0.618_034).fract()).collect();
    let input = serde_json::json!({"name": "x", "shape": SHAPE, "datatype": "FP32", "data": values});
    serde_json::json!({"inputs": [input]}).to_string().into()
}

/// A body with a binary tensor, and the length of its JSON; the answer is binary too.
fn binary_body() -> (Bytes, usize) {
    let parameters = serde_json::json!({"binary_data_size": COUNT * 4});
    let input = serde_json::json!({"name": "x", "shape": SHAPE, "datatype": "FP32", "parameters": parameters});
    let json = serde_json::json!({"inputs": [input], "parameters": {"binary_data_output": true}}).to_string();
    let mut body = json.into_bytes();
    let length = body.len();
    body.resize(length + COUNT * 4, 0);
    (body.into(), length)
}

fn message() -> Bytes {
    let shape = SHAPE.map(|dim| dim as i64).to_vec();
    let input = InferInputTensor { name: "x".into(), datatype: "FP32".into(), shape, ..Default::default() };
    let message = ModelInferRequest {
        model_name: "identity".into(),
        inputs: vec![input],
        raw_input_contents: vec![vec![0; COUNT * 4].into()],
        ..Default::default()
    };
    message.encode_to_vec().into()
}

fn over_http(bencher: Bencher<'_, '_>, body: &Bytes, header_length: Option<usize>) {
    let (runtime, directory, limits) = (runtime(), repository(), Limits::default());
    let mut stack = runtime.block_on(stack(directory.path()));
    bencher.bench_local(|| {
        let (mut request, encoding): (_, OutputEncoding) =
            json::decode_request(body.clone(), header_length, &limits).expect("a request");
        request.model = "identity".into();
        let response = runtime.block_on(stack.call(request)).expect("an answer");
        json::encode_response(&response, &encoding).expect("an answer in JSON").body_length()
    });
}

#[divan::bench_group(sample_count = 50)]
mod stack_alone {
    use super::*;

    #[divan::bench]
    fn http_json(bencher: Bencher<'_, '_>) {
        over_http(bencher, &json_body(), None);
    }

    #[divan::bench]
    fn http_binary(bencher: Bencher<'_, '_>) {
        let (body, length) = binary_body();
        over_http(bencher, &body, Some(length));
    }

    #[divan::bench]
    fn grpc_raw(bencher: Bencher<'_, '_>) {
        let (runtime, directory, limits, message) = (runtime(), repository(), Limits::default(), message());
        let mut stack = runtime.block_on(stack(directory.path()));
        bencher.bench_local(|| {
            let message = ModelInferRequest::decode(message.clone()).expect("a message");
            let request = proto::decode_request(message, &limits).expect("a request");
            let response = runtime.block_on(stack.call(request)).expect("an answer");
            proto::encode_response(response).encoded_len()
        });
    }
}

/// A request and its answer on a kept-alive connection of a whole server. The client allocates nothing.
fn over_socket(bencher: Bencher<'_, '_>, body: &Bytes, header: &str) {
    let (runtime, directory) = (runtime(), repository());
    let app = runtime.block_on(App::start(config(directory.path()))).expect("a server");
    runtime.block_on(app.repository().settled());
    let head =
        format!("POST /v2/models/identity/infer HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n{header}\r\n", body.len());
    let request = [head.as_bytes(), body].concat();
    let mut client = runtime.block_on(TcpStream::connect(app.addresses().http)).expect("a connection");
    let mut answer = vec![0; 8 << 20];
    bencher.bench_local(|| {
        runtime.block_on(async {
            let (mut reader, mut writer) = client.split();
            let (sent, received) = tokio::join!(writer.write_all(&request), whole(&mut reader, &mut answer));
            sent.map(|()| received).expect("the server takes the request")
        })
    });
}

/// Reads an answer into `buffer`: its head, then as many bytes as that says.
async fn whole(reader: &mut (impl AsyncReadExt + Unpin), buffer: &mut [u8]) -> usize {
    const LENGTH: &[u8] = b"\r\ncontent-length: ";
    let (mut filled, mut end) = (0, usize::MAX);
    while filled < end {
        filled += reader.read(&mut buffer[filled..]).await.expect("an answer");
        let seen = &buffer[..filled.min(1024)];
        let head = seen.windows(4).position(|window| window == b"\r\n\r\n");
        let length = seen.windows(LENGTH.len()).position(|window| window == LENGTH);
        if let (Some(head), Some(length)) = (head, length) {
            let digits = seen[length + LENGTH.len()..].iter().take_while(|byte| byte.is_ascii_digit());
            end = head + 4 + digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
        }
    }
    filled
}

#[divan::bench_group(sample_count = 50)]
mod whole_server {
    use super::*;

    #[divan::bench]
    fn http_json(bencher: Bencher<'_, '_>) {
        over_socket(bencher, &json_body(), "");
    }

    #[divan::bench]
    fn http_binary(bencher: Bencher<'_, '_>) {
        let (body, length) = binary_body();
        over_socket(bencher, &body, &format!("inference-header-content-length: {length}\r\n"));
    }

    /// A request without inputs: what head, routing and a refusal cost.
    #[divan::bench]
    fn http_refusal(bencher: Bencher<'_, '_>) {
        over_socket(bencher, &Bytes::from_static(br#"{"inputs":[]}"#), "");
    }
}
