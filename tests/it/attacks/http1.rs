//! HTTP/1: clients that stop halfway, read nothing, or say more than anybody can hear.

use tensorgate::contract::metrics as names;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{SOON, ended, others_are_served, serve};
use crate::support::http::{raw, raw_to_end};
use crate::support::tensors::*;
use crate::support::{Models, Server, eventually, patiently};

/// An inference of the slow model, with a version of HTTP.
fn slow_request(version: &str) -> String {
    let body = json_body(&named([("x", tensor([1, 4], [1_f32, 2., 3., 4.]))])).to_string();
    let length = body.len();
    format!("POST /v2/models/slow/infer {version}\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn a_client_that_closes_only_its_sending_side_is_answered() {
    let models = Models::new().with_slow_identity("slow", 100, "");
    let server = Server::start(&models).await;
    let answer = raw_to_end(server.http, slow_request("HTTP/1.1").as_bytes()).await;
    // Asked whether it is there, as every client of HTTP/1.1 has to bear.
    let answer = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("[1.0,2.0,3.0,4.0]"), "{answer}");
    let answer = raw_to_end(server.http, slow_request("HTTP/1.0").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.0 200 OK") && answer.contains("[1.0,2.0,3.0,4.0]"), "{answer}");
    // What is answered at once needs no question.
    let answer = raw_to_end(server.http, b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn a_client_that_has_gone_gives_up_its_place_in_the_queue() {
    let models = Models::new().with_slow_identity("slow", 200, "");
    let server = Server::start(&models).await;
    let mut first = TcpStream::connect(server.http).await.unwrap();
    first.write_all(slow_request("HTTP/1.1").as_bytes()).await.unwrap();
    for _ in 0..20 {
        let mut gone = TcpStream::connect(server.http).await.unwrap();
        gone.write_all(slow_request("HTTP/1.1").as_bytes()).await.unwrap();
    }
    eventually("the cancellations", async || {
        let metrics = server.metrics().await;
        (metrics.sum(names::REQUESTS, &[("model", "slow"), ("kind", "cancelled")]) >= 18.0).then_some(())
    })
    .await;
    let executed = server.metrics().await.sum(&format!("{}_count", names::BATCH_ROWS), &[("model", "slow")]);
    assert!(executed < 10.0, "{executed} were executed for nobody");
}

#[tokio::test]
async fn what_hyper_refuses_itself_has_the_body_of_every_error_and_is_counted() {
    let server = serve(|_| {}).await;
    let many: String = (0..200).map(|i| format!("x-{i}: 1\r\n")).collect();
    let long = "x".repeat(70_000);
    for (sent, status, told) in [
        (format!("GET /v2 HTTP/1.1\r\n{many}\r\n"), 431, "--headers-max"),
        (format!("GET /v2 HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(600_000)), 431, "--header-bytes-max"),
        (format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"), 414, "--uri-max"),
        ("GET /v2 HTTP/1.1\r\nno colon\r\n\r\n".into(), 400, "malformed"),
        ("GET /v2 HTTP/3.9\r\n\r\n".into(), 400, "malformed"),
        ("\x16\x03\x01 hello\r\n\r\n".into(), 400, "malformed"),
    ] {
        let answer = raw(server.http, sent.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(head.contains("content-type: application/json") && head.contains("connection: close"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(body["error"].as_str().unwrap().contains(told), "{body}");
    }
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum(names::DOOR_REQUESTS, &[("status", "400")]), 3.0);
    assert_eq!(metrics.sum(names::DOOR_REQUESTS, &[("status", "431")]), 2.0);
    others_are_served(&server).await;
}

#[tokio::test]
async fn a_client_that_never_reads_its_answer_is_ended() {
    let server = serve(|config| config.server.bounds.answer_timeout = SOON).await;
    // More than what the sockets hold.
    let rows = named([("x", tensor([1000, 2000], vec![0.5_f32; 2_000_000]))]);
    let body = json_body(&rows).to_string();
    let mut deaf = TcpStream::connect(server.http).await.unwrap();
    let head = format!(
        "POST /v2/models/identity_fp32/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    deaf.write_all(head.as_bytes()).await.unwrap();
    ended(&server, "answer_timeout", 1.0).await;
    others_are_served(&server).await;
}

#[tokio::test]
async fn a_flood_of_pipelined_requests_whose_answers_nobody_reads_is_held_back_and_ended() {
    let server = serve(|config| config.server.bounds.answer_timeout = SOON).await;
    let mut flood = TcpStream::connect(server.http).await.unwrap();
    let requests = "GET /v2/models/identity_fp32 HTTP/1.1\r\nhost: x\r\n\r\n".repeat(10_000);
    // Written until the server takes no more, and then until it has ended the connection.
    let flooding = async { while flood.write_all(requests.as_bytes()).await.is_ok() {} };
    patiently("the end of the flood", flooding).await;
    ended(&server, "answer_timeout", 1.0).await;
    others_are_served(&server).await;
}

#[tokio::test]
async fn heads_that_drip_are_ended_while_others_are_served() {
    let server = serve(|config| config.server.head_timeout = SOON).await;
    let mut dripping = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(server.http).await.unwrap();
        stream.write_all(b"GET /v2 HTTP/1.1\r\nx").await.unwrap();
        dripping.push(stream);
    }
    others_are_served(&server).await;
    ended(&server, "head_timeout", 50.0).await;
    for mut stream in dripping {
        let mut answer = Vec::new();
        let _ = patiently("the end", stream.read_to_end(&mut answer)).await;
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn connections_that_bring_nothing_are_ended() {
    let server = serve(|config| config.server.bounds.idle_timeout = SOON).await;
    let mut idle = TcpStream::connect(server.http).await.unwrap();
    let mut answer = Vec::new();
    let _ = patiently("the end", idle.read_to_end(&mut answer)).await;
    ended(&server, "idle", 1.0).await;
    others_are_served(&server).await;
}
