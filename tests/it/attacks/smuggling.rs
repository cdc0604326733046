//! Requests whose end two servers could see at different places: one answer, and the connection is closed.

use super::{others_are_served, serve};
use crate::support::http::raw;

/// What would be taken for another request by a server that sees an earlier end.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";

/// A request for metadata with these headers and this body, and what may follow it.
fn request(version: &str, headers: &str, body: &str) -> String {
    format!("GET /v2 HTTP/{version}\r\nhost: x\r\n{headers}\r\n{body}{SMUGGLED}")
}

fn answers(text: &str) -> usize {
    text.matches("\r\ndate: ").count()
}

#[tokio::test]
async fn heads_that_tell_two_ends_or_none_are_refused_and_nothing_after_them_is_read() {
    let server = serve(|_| {}).await;
    for headers in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "Transfer-Encoding: chunked\r\nCONTENT-LENGTH: 5\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 6\r\n",
        "content-length: +5\r\n",
        "content-length: -1\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5 5\r\n",
        "content-length: 99999999999999999999999\r\n",
        "content-length : 5\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding : chunked\r\n",
        "transfer-encoding: chunked\r\n folded: 1\r\n",
        "x: 1\0\r\n",
    ] {
        let answer = raw(server.http, request("1.1", headers, "0\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("{\"error\":"), "{headers:?}: {answer}");
        assert_eq!(answers(&answer), 1, "{headers:?}: {answer}");
    }
    let answer = raw(server.http, request("1.0", "transfer-encoding: chunked\r\n", "0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answers(&answer) == 1, "{answer}");
    others_are_served(&server).await;
}

#[tokio::test]
async fn a_head_with_two_lengths_is_refused_in_however_many_pieces_it_comes() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = serve(|_| {}).await;
    let sent = request("1.1", "transfer-encoding: chunked\r\ncontent-length: 5\r\n", "0\r\n\r\n");
    let mut stream = tokio::net::TcpStream::connect(server.http).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in sent.as_bytes().chunks(7) {
        // The server may have answered and gone before the last of it.
        let _ = stream.write_all(piece).await;
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answers(&answer) <= 1 && !answer.contains("smuggled"), "{answer}");
}

#[tokio::test]
async fn chunks_that_are_none_are_refused() {
    let server = serve(|_| {}).await;
    let post = |chunks: &str| {
        let head = "POST /v2/repository/index HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        format!("{head}{chunks}{SMUGGLED}")
    };
    let extension = "x".repeat(70_000);
    for chunks in [
        "zz\r\n",
        "-1\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n",
        "2\r\n{}}\r\n0\r\n\r\n",
        "2\n{}\r\n0\r\n\r\n",
        &format!("2;{extension}\r\n{{}}\r\n0\r\n\r\n"),
        &format!("2\r\n{{}}\r\n0\r\n{}\r\n", "a: b\r\n".repeat(2000)),
    ] {
        let answer = raw(server.http, post(chunks).as_bytes()).await;
        let shown = &chunks[..chunks.len().min(40)];
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("chunks"), "{shown:?}: {answer}");
        assert_eq!(answers(&answer), 1, "{shown:?}: {answer}");
    }
    others_are_served(&server).await;
}

#[tokio::test]
async fn chunked_requests_keep_their_connection_where_their_end_is_beyond_doubt() {
    let server = serve(|_| {}).await;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(server.http).await.unwrap();
    let post =
        "POST /v2/repository/index HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    for _ in 0..3 {
        stream.write_all(post.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let count = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..count]);
        assert!(answer.starts_with("HTTP/1.1 200 OK") && !answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn a_request_of_no_host_or_of_two_is_refused() {
    let server = serve(|_| {}).await;
    for hosts in ["", "host: x\r\nhost: y\r\n"] {
        let head = format!("GET /v2 HTTP/1.1\r\n{hosts}connection: close\r\n\r\n");
        let answer = raw(server.http, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("host headers"), "{hosts:?}: {answer}");
    }
    // HTTP/1.0 has none.
    let answer = raw(server.http, b"GET /v2 HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    others_are_served(&server).await;
}
