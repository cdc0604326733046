//! Deadlines: an answer that comes too late is no answer, and nobody waits for one or computes one.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tensorgate::contract::metrics as names;
use tensorgate::protocol::proto::infer_parameter::ParameterChoice;
use tensorgate::protocol::proto::{InferParameter, ModelInferRequest, ModelInferResponse};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Code;

use crate::support::grpc::call;
use crate::support::http::request;
use crate::support::metrics::Metrics;
use crate::support::tensors::*;
use crate::support::{Http, Models, Server, eventually};

/// Far longer than anything but an execution takes here.
const EXECUTION: Duration = Duration::from_millis(500);

/// What a deadline of the tests is, and how late an answer to it may come on a machine that is busy with a build.
const DEADLINE: Duration = Duration::from_millis(50);
const PROMPT: Duration = Duration::from_millis(400);

fn row() -> Named {
    named([("x", tensor([1, 4], [1_f32, 2., 3., 4.]))])
}

fn with_timeout(microseconds: u64) -> String {
    let mut body = json_body(&row());
    body["parameters"] = json!({ "timeout": microseconds });
    body.to_string()
}

async fn serve() -> Server {
    // Without a warm-up nothing is known of the model when it starts, so that no request is refused for want of time.
    Server::start(&Models::new().with_slow_identity("busy", EXECUTION.as_millis() as u64, UNKNOWN)).await
}

const UNKNOWN: &str = "warm_up = false";

/// Keeps the model's only instance busy; gives the call that does.
async fn occupy(server: &Server) -> JoinHandle<u16> {
    let mut http = server.http().await;
    let call = tokio::spawn(async move { http.infer("busy", &json_body(&row())).await.status.as_u16() });
    eventually("the model to be busy", async || {
        (server.metrics().await.sum(names::IN_FLIGHT, &[]) == 1.0).then_some(())
    })
    .await;
    call
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_parameter_is_kept_over_http_while_the_model_is_busy() {
    let server = serve().await;
    let (busy, mut http) = (occupy(&server).await, server.http().await);
    let started = Instant::now();
    let answer = http.post("/v2/models/busy/infer", with_timeout(DEADLINE.as_micros() as u64)).await;
    let took = started.elapsed();
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(answer.error().contains("deadline"), "{answer:?}");
    assert!(took >= DEADLINE && took < PROMPT, "{took:?}");
    assert_eq!(busy.await.unwrap(), 200);
    // The connection and the model go on, and no instance was spent on the request that was given up.
    assert_eq!(http.infer("busy", &json_body(&row())).await.status, 200);
    let metrics = Metrics::of(&mut http).await;
    assert_eq!(metrics.sum(&format!("{}_count", names::BATCH_ROWS), &[]), 2.0);
    assert_eq!(metrics.sum(names::REQUESTS, &[("model", "busy"), ("kind", "ok")]), 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_parameter_is_kept_over_grpc_while_the_model_is_busy() {
    let server = serve().await;
    let (_busy, mut grpc) = (occupy(&server).await, server.grpc().await);
    let timeout = ParameterChoice::Int64Param(DEADLINE.as_micros() as i64);
    let parameters = [("timeout".to_owned(), InferParameter { parameter_choice: Some(timeout) })];
    let message = ModelInferRequest { parameters: parameters.into(), ..message("busy", &row()) };
    let started = Instant::now();
    let status = grpc.model_infer(message).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_timeout_header_is_kept_by_the_server() {
    let server = serve().await;
    let _busy = occupy(&server).await;
    // tonic's client would keep the time itself, so this one does not.
    let mut connection = Http::connect_http2(server.grpc).await;
    for timeout in ["50m", "50000u", "50000000n"] {
        let started = Instant::now();
        let headers = [("grpc-timeout", timeout)];
        let message = message("busy", &row());
        let outcome = call::<ModelInferResponse>(&mut connection, "ModelInfer", &headers, &message).await.unwrap();
        assert_eq!(outcome.code, Code::DeadlineExceeded, "{outcome:?}");
        assert!(outcome.answer.is_none() && outcome.message.contains("deadline"), "{outcome:?}");
        assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_is_kept_while_the_request_itself_runs() {
    let server = serve().await;
    let mut http = server.http().await;
    let started = Instant::now();
    let answer = http.post("/v2/models/busy/infer", with_timeout(DEADLINE.as_micros() as u64)).await;
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
    // What is left of the execution disturbs nobody's answer.
    assert_eq!(outputs_of(&http.infer("busy", &json_body(&row())).await)[0].1, row()[0].1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_cannot_be_met_is_refused_at_once() {
    let server = Server::start(&Models::new().with_slow_identity("busy", EXECUTION.as_millis() as u64, "")).await;
    let mut http = server.http().await;
    let answer = http.post("/v2/models/busy/infer", with_timeout(DEADLINE.as_micros() as u64)).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, Some("1")), "{answer:?}");
    assert!(answer.error().contains("an answer is predicted in"), "{answer:?}");
    let mut connection = Http::connect_http2(server.grpc).await;
    let message = message("busy", &row());
    let headers = [("grpc-timeout", "50m")];
    let outcome = call::<ModelInferResponse>(&mut connection, "ModelInfer", &headers, &message).await.unwrap();
    assert_eq!(outcome.code, Code::ResourceExhausted, "{outcome:?}");
    let metrics = Metrics::of(&mut http).await;
    assert_eq!(metrics.sum(&format!("{}_count", names::BATCH_ROWS), &[]), 0.0, "nothing was executed");
    assert_eq!(
        http.infer("busy", &json_body(&row())).await.status,
        200,
        "the objective is no deadline of the caller's"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_of_an_http_request_set_its_deadline() {
    let server = serve().await;
    let (busy, mut http) = (occupy(&server).await, server.http().await);
    for (name, value) in
        [("request-timeout", "50ms"), ("x-envoy-expected-rq-timeout-ms", "50"), ("grpc-timeout", "50m")]
    {
        let body = json_body(&row()).to_string();
        let answer = http.send(request(Method::POST, "/v2/models/busy/infer", &[(name, value)], body)).await;
        assert_eq!(answer.status, 504, "{name}: {answer:?}");
    }
    let body = json_body(&row()).to_string();
    let headers = [("request-timeout", "soon")];
    let answer = http.send(request(Method::POST, "/v2/models/busy/infer", &headers, body)).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.error().contains("request-timeout") && answer.error().contains("50ms"), "{answer:?}");
    assert_eq!(busy.await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_is_not_read_where_its_head_says_that_there_is_no_time() {
    let server = Server::start(&Models::new().with_slow_identity("busy", EXECUTION.as_millis() as u64, "")).await;
    let mut http = server.http().await;
    // No body of an inference at all: nobody looks at it.
    let body = "x".repeat(100_000);
    let headers = [("request-timeout", "50ms")];
    let answer = http.send(request(Method::POST, "/v2/models/busy/infer", &headers, body)).await;
    assert_eq!(answer.status, 429, "{answer:?}");
    assert!(answer.error().starts_with("model 'busy': an answer is predicted in"), "{answer:?}");
    let mut http = server.http().await;
    let metrics = Metrics::of(&mut http).await;
    assert_eq!(metrics.sum(names::REQUESTS, &[("model", "busy"), ("kind", "overloaded")]), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_tells_where_its_time_went_as_the_histograms_do() {
    let server = Server::start(&Models::new().with_slow_identity("busy", 20, "")).await;
    let mut http = server.http().await;
    let times = |text: &str| -> Vec<f64> {
        let time = |part: &str| part.split(";dur=").nth(1).and_then(|ms| ms.parse().ok());
        text.split(", ").filter_map(time).collect()
    };
    let answer = http.infer("busy", &json_body(&row())).await;
    let told = answer.header("server-timing").unwrap().to_owned();
    assert!(told.starts_with("queue;dur=") && told.ends_with("batch;desc=\"rows=1 padding=0.00\""), "{told}");
    let over_http = times(&told);
    let mut grpc = server.grpc().await;
    let mut connection = Http::connect_http2(server.grpc).await;
    let message = message("busy", &row());
    let outcome = call::<ModelInferResponse>(&mut connection, "ModelInfer", &[], &message).await.unwrap();
    let told = outcome.trailers.get("server-timing").unwrap().to_str().unwrap().to_owned();
    let over_grpc = times(&told);
    let metrics = server.metrics().await;
    for (position, name) in [(0, names::QUEUE_SECONDS), (1, names::EXECUTE_SECONDS)] {
        let seen = metrics.sum(&format!("{name}_sum"), &[("model", "busy")]) * 1e3;
        let told = over_http[position] + over_grpc[position];
        assert!((seen - told).abs() < 0.01, "{name}: {seen} at /metrics, {told} told");
    }
    assert!(over_http[1] >= 20.0 && over_http.len() == 3, "{over_http:?}");
    // Clients that know nothing of it are not disturbed.
    assert!(grpc.model_infer(message).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_is_met_changes_nothing() {
    let server = serve().await;
    let mut http = server.http().await;
    assert_eq!(http.post("/v2/models/busy/infer", with_timeout(30_000_000)).await.status, 200);
    // Zero means none, as Triton has it.
    assert_eq!(http.post("/v2/models/busy/infer", with_timeout(0)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_timeout_of_the_settings_holds_for_requests_without_a_deadline() {
    let settings = "queue_timeout = \"50ms\"\nwarm_up = false";
    let models = Models::new().with_slow_identity("busy", EXECUTION.as_millis() as u64, settings);
    let server = Server::start(&models).await;
    let (busy, mut http) = (occupy(&server).await, server.http().await);
    let started = Instant::now();
    let answer = http.infer("busy", &json_body(&row())).await;
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(answer.error().contains("queue"), "{answer:?}");
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
    // It is a bound on the wait, not on the execution.
    assert_eq!(busy.await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_takes_its_request_out_of_the_queue() {
    let server = serve().await;
    let busy = occupy(&server).await;
    // HTTP/1.1: the socket closes.
    let body = json_body(&row()).to_string();
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = format!("POST /v2/models/busy/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    // HTTP/2: the stream is reset.
    let mut connection = Http::connect_http2(server.http).await;
    let gone = tokio::spawn(async move {
        let request = request(Method::POST, "/v2/models/busy/infer", &[], json_body(&row()).to_string());
        connection.try_send(request).await
    });
    eventually("both to wait", async || (server.metrics().await.sum(names::IN_FLIGHT, &[]) == 3.0).then_some(())).await;
    drop(stream);
    gone.abort();
    eventually("both to be counted as cancelled", async || {
        (server.metrics().await.sum(names::REQUESTS, &[("kind", "cancelled")]) == 2.0).then_some(())
    })
    .await;
    assert_eq!(busy.await.unwrap(), 200);
    assert_eq!(server.http().await.infer("busy", &json_body(&row())).await.status, 200);
    let metrics = server.metrics().await;
    // Only the two that were still wanted ran.
    assert_eq!(metrics.sum(&format!("{}_count", names::BATCH_ROWS), &[]), 2.0);
    assert_eq!(metrics.sum(names::QUEUE_DEPTH, &[]), 0.0);
    assert_eq!(metrics.sum(names::IN_FLIGHT, &[]), 0.0);
}
