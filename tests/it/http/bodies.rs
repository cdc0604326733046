//! Bodies: in pieces, cut off, and too large.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{row, serve};
use crate::support::http::{raw, raw_to_end};
use crate::support::tensors::*;
use crate::support::{Models, Server};

const INFER: &str = "POST /v2/models/identity_fp32/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";

/// `body` in chunks of `size` bytes.
fn chunked(body: &str, size: usize) -> String {
    let chunk = |chunk: &[u8]| format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap());
    body.as_bytes().chunks(size).map(chunk).collect::<String>() + "0\r\n\r\n"
}

#[tokio::test]
async fn a_chunked_body_is_read_whatever_its_pieces() {
    let server = serve().await;
    let body = json_body(&row()).to_string();
    for size in [1, 7, body.len()] {
        let sent = format!("{INFER}transfer-encoding: chunked\r\n\r\n{}", chunked(&body, size));
        let answer = raw(server.http, sent.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("[1.0,2.0]"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_in_many_segments_is_read_to_its_end() {
    let server = serve().await;
    let rows = named([("x", tensor([2000, 50], vec![0.125_f32; 100_000]))]);
    let answer = server.http().await.infer("identity_fp32", &json_body(&rows)).await;
    assert_eq!(outputs_of(&answer)[0].1, rows[0].1);
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    let server = serve().await;
    let body = json_body(&row()).to_string();
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = format!("{INFER}expect: 100-continue\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go = [0; 25];
    let asked = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut go);
    crate::support::patiently("100 Continue", asked).await.unwrap();
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn a_body_that_ends_early_harms_nobody() {
    let server = serve().await;
    let sent = format!("{INFER}content-length: 1000\r\n\r\n{{\"inputs\"");
    let answer = raw_to_end(server.http, sent.as_bytes()).await;
    assert!(!answer.contains(" 200 "), "{answer}");
    assert_eq!(server.http().await.get("/v2/health/live").await.status, 200);
}

#[tokio::test]
async fn a_body_above_its_limit_is_refused_whether_it_is_announced_or_not() {
    let models = Models::of(&["identity_fp32"]);
    let server = Server::with(&models, |config| config.server.body_bytes_max = 500).await;
    let good = json_body(&row()).to_string();
    let large = " ".repeat(600);
    let announced = format!("{INFER}content-length: {}\r\n\r\n{large}", large.len());
    let in_pieces = format!("{INFER}transfer-encoding: chunked\r\n\r\n{}", chunked(&large, 100));
    // By the announcement alone, before any of it is sent.
    let unsent = format!("{INFER}expect: 100-continue\r\ncontent-length: 999999999999\r\n\r\n");
    for sent in [announced, in_pieces, unsent] {
        let answer = raw(server.http, sent.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("application/json") && answer.contains("at most 500 are accepted"), "{answer}");
    }
    let fits = format!("{INFER}content-length: {}\r\n\r\n{good}{}", 500, " ".repeat(500 - good.len()));
    let answer = raw(server.http, fits.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}
