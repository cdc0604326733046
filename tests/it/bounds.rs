//! Bounds on what one client may ask of the doors: each refusal names its flag, and harms nobody else.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tensorgate::server::Bounds;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::support::http::{Http, request};
use crate::support::tensors::*;
use crate::support::{Models, Server, eventually, grpc, patiently};

const INFER: &str = "/v2/models/identity_fp32/infer";

/// A client's preface and its empty SETTINGS (RFC 9113, 3.4).
const HTTP2_START: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The type of a GOAWAY frame.
const GOAWAY: u8 = 7;

fn row() -> Named {
    named([("x", tensor([1, 2], [1_f32, 2.]))])
}

async fn bounded(change: impl FnOnce(&mut Bounds)) -> Server {
    Server::with(&Models::of(&["identity_fp32"]), |config| change(&mut config.server.bounds)).await
}

/// The status and message of the answer to `request`, on a connection that has to go on afterwards.
async fn refusal(http: &mut Http, headers: &[(&str, &str)], path: &str, body: &Value) -> (u16, String) {
    let answer = http.send(request(Method::POST, path, headers, body.to_string())).await;
    assert_eq!(http.get("/v2/health/live").await.status, 200);
    (answer.status.as_u16(), answer.error())
}

#[tokio::test]
async fn a_path_that_is_too_long_is_told_its_bound() {
    let server = bounded(|bounds| bounds.uri_bytes_max = 100).await;
    let path = format!("{INFER}?{}", "x".repeat(100));
    for mut http in [server.http().await, Http::connect_http2(server.http).await] {
        let (status, message) = refusal(&mut http, &[], &path, &json_body(&row())).await;
        assert!(status == 414 && message.contains("--uri-max"), "{status} {message}");
    }
}

#[tokio::test]
async fn too_many_or_too_large_headers_are_told_their_bounds_over_both_doors() {
    let server = bounded(|bounds| (bounds.headers_max, bounds.header_bytes_max) = (8, 500)).await;
    let large = "x".repeat(500);
    let names: Vec<String> = (0..9).map(|i| format!("x-{i}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    for (headers, flag) in [(many, "--headers-max"), (vec![("x-large", large.as_str())], "--header-bytes-max")] {
        for mut http in [server.http().await, Http::connect_http2(server.http).await] {
            let (status, message) = refusal(&mut http, &headers, INFER, &json_body(&row())).await;
            assert!(status == 431 && message.contains(flag), "{status} {message}");
        }
        let mut http = Http::connect_http2(server.grpc).await;
        let message = message("identity_fp32", &row());
        let outcome =
            grpc::call::<tensorgate::protocol::proto::ModelInferResponse>(&mut http, "ModelInfer", &headers, &message);
        let outcome = outcome.await.unwrap();
        assert!(outcome.code == Code::ResourceExhausted && outcome.message.contains(flag), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_request_of_usual_headers_meets_no_bound() {
    let server = bounded(|_| {}).await;
    let cookie = "c".repeat(8000);
    let headers = [("cookie", cookie.as_str()), ("authorization", "Bearer x"), ("accept", "*/*")];
    let body = json_body(&row()).to_string();
    assert_eq!(server.http().await.send(request(Method::POST, INFER, &headers, body)).await.status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_is_answered_and_its_connection_closed() {
    let server = bounded(|bounds| bounds.body_timeout = Duration::from_millis(50)).await;
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = format!("POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{{\"inputs\"");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    patiently("the connection to be closed", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close"), "{answer}");
    assert!(answer.contains("only 9 bytes") && answer.contains("--body-timeout"), "{answer}");
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_after_its_time() {
    let server = bounded(|bounds| bounds.idle_timeout = Duration::from_millis(50)).await;
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    patiently("the connection to be closed", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    stream.write_all(HTTP2_START).await.unwrap();
    let mut answer = Vec::new();
    patiently("the HTTP/2 connection to be closed", stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.windows(17).any(|frame| frame[3] == GOAWAY && frame[13..17] == [0; 4]), "{answer:?}");
}

#[tokio::test]
async fn a_request_under_way_is_not_idle() {
    let models = Models::new().with_slow_identity("slow", 300, "");
    let server = Server::with(&models, |config| {
        config.server.bounds.idle_timeout = Duration::from_millis(50);
        config.server.head_timeout = Duration::from_millis(50);
    });
    let server = server.await;
    let body = json_body(&named([("x", tensor([1, 4], [1_f32, 2., 3., 4.]))]));
    assert_eq!(server.http().await.infer("slow", &body).await.status, 200);
}

#[tokio::test]
async fn bodies_that_together_take_too_much_memory_are_asked_to_come_later() {
    let server = bounded(|bounds| bounds.buffered_bytes_max = 1 << 20).await;
    // Announced, and held for as long as its client takes.
    let mut slow = TcpStream::connect(server.http).await.unwrap();
    let head = format!("POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{{", 1 << 20);
    slow.write_all(head.as_bytes()).await.unwrap();
    let large = json_body(&named([("x", tensor([100, 200], vec![0.5_f32; 20_000]))])).to_string();
    assert!(large.len() > 64 << 10);
    // Each on a connection of its own: one whose body was not read is closed.
    let refused = eventually("a refusal", async || {
        let answer = server.http().await.post(INFER, large.clone()).await;
        (answer.status == 429).then_some(answer)
    });
    let refused = refused.await;
    assert!(refused.error().contains("--buffered-max") && refused.header("retry-after") == Some("1"), "{refused:?}");
    let answer = server.http().await.infer("identity_fp32", &json_body(&row())).await;
    assert_eq!(answer.status, 200, "small bodies are not counted");
    let mut client = server.grpc().await;
    let tensors = named([("x", tensor([100, 200], vec![0.5_f32; 20_000]))]);
    let status = client.model_infer(message("identity_fp32", &tensors)).await.unwrap_err();
    assert!(status.code() == Code::ResourceExhausted && status.message().contains("--buffered-max"), "{status:?}");
    drop(slow);
    eventually("the memory to be given back", async || {
        (server.http().await.post(INFER, large.clone()).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_request_holds_is_bounded_by_flags_that_are_named() {
    let server = bounded(|bounds| {
        let request = &mut bounds.request;
        (request.depth_max, request.tensors_max, request.outputs_max) = (4, 2, 2);
        (request.parameters_max, request.string_bytes_max) = (2, 40);
    });
    let server = server.await;
    let mut http = server.http().await;
    let (x, long) = (json_body(&row())["inputs"][0].clone(), "n".repeat(41));
    let mut deep = x.clone();
    deep["data"] = json!([[[[[1.0, 2.0]]]]]);
    let named_output = |name: &str| json!({ "name": name });
    for (body, flag) in [
        (json!({ "inputs": [deep] }), "--json-depth-max"),
        (json!({ "inputs": [x], "more": [[[[[]]]]] }), "--json-depth-max"),
        (json!({ "inputs": [x, x, x] }), "--tensors-max"),
        (
            json!({ "inputs": [x], "outputs": [named_output("a"), named_output("b"), named_output("c")] }),
            "--outputs-max",
        ),
        (json!({ "inputs": [x], "parameters": { "a": 1, "b": 2, "c": 3 } }), "--parameters-max"),
        (json!({ "inputs": [x], "id": long }), "--string-max"),
        (json!({ "inputs": [x], "outputs": [named_output(&long)] }), "--string-max"),
    ] {
        let (status, message) = refusal(&mut http, &[], INFER, &body).await;
        assert!(status == 413 && message.contains(flag), "{status} {message}");
    }
    let x = message("identity_fp32", &row());
    let (mut inputs, mut id) = (x.clone(), x);
    inputs.inputs = vec![inputs.inputs[0].clone(); 3];
    inputs.raw_input_contents = vec![inputs.raw_input_contents[0].clone(); 3];
    id.id = long;
    for (message, flag) in [(inputs, "--tensors-max"), (id, "--string-max")] {
        let status = server.grpc().await.model_infer(message).await.unwrap_err();
        assert!(status.code() == Code::ResourceExhausted && status.message().contains(flag), "{status:?}");
    }
}

#[tokio::test]
async fn streams_of_one_connection_beyond_their_bound_wait_for_their_turn() {
    let models = Models::new().with_slow_identity("slow", 1, "");
    let server = Server::with(&models, |config| config.server.bounds.streams_max = 2).await;
    let body = named([("x", tensor([1, 4], [1_f32, 2., 3., 4.]))]);
    let mut client = server.grpc().await;
    // A client that has not heard of the bound yet is refused what is beyond it, and has to try again.
    client.model_infer(message("slow", &body)).await.unwrap();
    let calls = (0..20).map(|_| {
        let (mut client, message) = (client.clone(), message("slow", &body));
        async move { client.model_infer(message).await.map(drop) }
    });
    for outcome in futures_util::future::join_all(calls).await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_resets_its_streams_faster_than_they_are_looked_at_is_sent_away() {
    let server = bounded(|bounds| bounds.resets_max = 5).await;
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let mut sent = HTTP2_START.to_vec();
    for stream in (1..200_u32).step_by(2) {
        // HEADERS that end head and stream (:method GET, :scheme http, :path / from HPACK's static table), then RST_STREAM.
        sent.extend([0, 0, 3, 1, 5]);
        sent.extend(stream.to_be_bytes());
        sent.extend([0x82, 0x86, 0x84]);
        sent.extend([0, 0, 4, 3, 0]);
        sent.extend(stream.to_be_bytes());
        sent.extend(8_u32.to_be_bytes());
    }
    stream.write_all(&sent).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end like any other.
    let _ = patiently("the connection to be closed", stream.read_to_end(&mut answer)).await;
    // GOAWAY with ENHANCE_YOUR_CALM.
    let calm = answer.windows(17).any(|frame| frame[3] == GOAWAY && frame[13..17] == 11_u32.to_be_bytes());
    assert!(calm, "{answer:?}");
    assert_eq!(server.http().await.get("/v2/health/live").await.status, 200);
}
