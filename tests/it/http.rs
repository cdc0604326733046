//! HTTP itself: paths, methods, connections, bodies, and both protocols on both ports.

mod bodies;
mod origins;
mod ports;

use http::Method;
use serde_json::json;
use tensorgate::contract::metrics as names;

use crate::support::http::{raw, raw_to_end, request};
use crate::support::metrics::Metrics;
use crate::support::tensors::*;
use crate::support::{Http, Models, Server, eventually};

fn row() -> Named {
    named([("x", tensor([1, 2], [1_f32, 2.]))])
}

async fn serve() -> Server {
    Server::start(&Models::of(&["identity_fp32"])).await
}

#[tokio::test]
async fn unknown_paths_are_told_in_json() {
    let server = serve().await;
    let mut http = server.http().await;
    let long = format!("/{}", "x".repeat(5000));
    for path in ["/v1", "/v2/models//infer", "/v2/models/identity_fp32/versions", "/favicon.ico", &long] {
        for method in [Method::GET, Method::POST] {
            let answer = http.send(request(method, path, &[], "")).await;
            assert_eq!(answer.status, 404, "{answer:?}");
            assert!(answer.error().contains(&path[..path.len().min(150)]), "{answer:?}");
            assert!(answer.body.len() < 1000, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn methods_that_a_path_does_not_take_are_told_with_those_that_it_does() {
    let server = serve().await;
    let mut http = server.http().await;
    for (method, path, allowed) in [
        (Method::GET, "/v2/models/identity_fp32/infer", "POST, OPTIONS"),
        (Method::PUT, "/v2/models/identity_fp32/versions/1/infer", "POST, OPTIONS"),
        (Method::GET, "/v2/repository/index", "POST, OPTIONS"),
        (Method::DELETE, "/v2/repository/models/identity_fp32/load", "POST, OPTIONS"),
        (Method::POST, "/v2/health/live", "GET, HEAD, OPTIONS"),
        (Method::POST, "/v2/models/identity_fp32", "GET, HEAD, OPTIONS"),
        (Method::DELETE, "/v2", "GET, HEAD, OPTIONS"),
        (Method::POST, "/metrics", "GET, HEAD, OPTIONS"),
    ] {
        let answer = http.send(request(method.clone(), path, &[], "{}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some(allowed)), "{method} {path}");
        let message = answer.error();
        assert!(message.contains(method.as_str()) && message.contains(path) && message.contains(allowed), "{message}");
    }
}

#[tokio::test]
async fn head_answers_as_get_does_without_the_body() {
    let server = serve().await;
    let mut http = server.http().await;
    for path in ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/identity_fp32", "/v2/models/nowhere"] {
        let get = http.get(path).await;
        let head = http.send(request(Method::HEAD, path, &[], "")).await;
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        for name in ["content-type", "content-length"] {
            assert_eq!(head.header(name), get.header(name), "{path}");
        }
    }
}

#[tokio::test]
async fn options_tells_the_methods_of_every_path() {
    let server = serve().await;
    let mut http = server.http().await;
    for (path, allowed) in [
        ("/v2", "GET, HEAD, OPTIONS"),
        ("/metrics", "GET, HEAD, OPTIONS"),
        ("/v2/models/nowhere", "GET, HEAD, OPTIONS"),
        ("/v2/models/identity_fp32/infer", "POST, OPTIONS"),
        ("/v2/repository/index", "POST, OPTIONS"),
    ] {
        let answer = http.send(request(Method::OPTIONS, path, &[], "")).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (204, Some(allowed)), "{path}");
        assert!(answer.body.is_empty());
    }
    assert_eq!(http.send(request(Method::OPTIONS, "/nowhere", &[], "")).await.status, 404);
}

#[tokio::test]
async fn a_prefix_that_a_gateway_leaves_is_taken_off_where_it_is_there() {
    let models = Models::of(&["identity_fp32"]);
    let prefix = Some("/serving/ns/name".to_owned());
    let server = Server::with(&models, |config| config.server.http.path_prefix = prefix).await;
    let mut http = server.http().await;
    assert_eq!(http.get("/serving/ns/name/v2/health/live").await.status, 200);
    assert_eq!(http.get("/v2/health/live").await.status, 200);
    assert_eq!(http.get("/serving/ns/names/v2/health/live").await.status, 404);
    let answer = http.post("/serving/ns/name/v2/models/identity_fp32/infer", json_body(&row()).to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_proxys_request_id_comes_back_beside_the_requests_own() {
    let server = serve().await;
    let mut http = server.http().await;
    let id = [("x-request-id", "proxy-7")];
    let mut body = json_body(&row());
    let infer = "/v2/models/identity_fp32/infer";
    let answer = http.send(request(Method::POST, infer, &id, body.to_string())).await;
    assert_eq!((answer.header("x-request-id"), answer.json().get("id").cloned()), (Some("proxy-7"), None));
    body["id"] = "mine".into();
    let answer = http.send(request(Method::POST, infer, &id, body.to_string())).await;
    assert_eq!((answer.header("x-request-id"), answer.json()["id"].as_str()), (Some("proxy-7"), Some("mine")));
    let answer = http.send(request(Method::GET, "/nowhere", &id, "")).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-request-id")), (404, Some("proxy-7")));
    assert_eq!(http.get("/v2").await.header("x-request-id"), None);
}

#[tokio::test]
async fn a_slash_at_the_end_a_query_and_escapes_do_not_matter() {
    let server = Server::start(&Models::new().with("a b.c", "identity_fp32")).await;
    let mut http = server.http().await;
    assert_eq!(http.get("/v2/models/a%20b.c/?verbose=1").await.json()["name"], "a b.c");
    let body = json_body(&row()).to_string();
    let answer = http.post("/v2/models/a%20b%2Ec/versions/1/infer/?x=y", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn one_connection_survives_every_error_an_answer_can_tell() {
    let server = serve().await;
    let mut http = server.http().await;
    let infer = "/v2/models/identity_fp32/infer";
    for (method, path, body) in [
        (Method::GET, "/nowhere", ""),
        (Method::PATCH, infer, "unread"),
        (Method::POST, infer, "no json"),
        (Method::POST, "/v2/models/nowhere/infer", "{\"inputs\": []}"),
        (Method::POST, "/v2/repository/models/identity_fp32/load", ""),
        (Method::POST, "/v2/repository/index", "{"),
        (Method::POST, "/v2/models/%ff/infer", "{}"),
    ] {
        let answer = http.send(request(method, path, &[], body)).await;
        assert!(answer.status.as_u16() >= 400 && !answer.error().is_empty(), "{answer:?}");
        assert_eq!(answer.header("connection"), None, "{answer:?}");
        assert_eq!(outputs_of(&http.infer("identity_fp32", &json_body(&row())).await)[0].1, row()[0].1, "{path}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let server = serve().await;
    let infer = |id: &str| {
        let mut body = json_body(&row());
        body["id"] = id.into();
        let body = body.to_string();
        let length = body.len();
        format!("POST /v2/models/identity_fp32/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let live = "GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answers = raw(server.http, format!("{}{}{live}", infer("first"), infer("second")).as_bytes()).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    let place = |text: &str| answers.find(text).unwrap_or_else(|| panic!("no {text} in {answers}"));
    assert!(place("first") < place("second") && place("second") < place("\"live\":true"), "{answers}");
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let server = serve().await;
    let answer = raw(server.http, b"GET /v2/health/live HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK") && answer.ends_with("{\"live\":true}"), "{answer}");
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_harms_nobody() {
    let server = serve().await;
    let mut other = server.http().await;
    for nonsense in
        [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"hello\r\n\r\n", b"\0\0\0\0", b"", b"PRI * HTTP/2.0\r\n\r\nXX\r\n"]
    {
        let answer = raw_to_end(server.http, nonsense).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    assert_eq!(other.get("/v2/health/live").await.status, 200);
}

#[tokio::test]
async fn a_head_that_does_not_end_in_time_loses_its_connection() {
    let models = Models::of(&["identity_fp32"]);
    let timeout = std::time::Duration::from_millis(50);
    let server = Server::with(&models, |config| config.server.head_timeout = timeout).await;
    let mut stream = tokio::net::TcpStream::connect(server.http).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /v2/health/live HTTP/1.1\r\nhost:").await.unwrap();
    let mut rest = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest);
    crate::support::patiently("the connection to be closed", read).await.unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains(" 200 "));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_one_that_has_nothing_to_do() {
    let models = Models::new().with_slow_identity("slow", 300, "");
    let server = Server::with(&models, |config| config.server.connections_max = 1).await;
    let mut first = server.http().await;
    let body = json_body(&named([("x", tensor([1, 4], [1_f32, 2., 3., 4.]))]));
    let served = tokio::spawn(async move { first.infer("slow", &body).await.status.as_u16() });
    // The other port has a limit of its own.
    let mut other = Http::connect(server.grpc).await;
    eventually("the request", async || {
        (Metrics::of(&mut other).await.sum(names::IN_FLIGHT, &[("model", "slow")]) > 0.0).then_some(())
    })
    .await;
    let mut second = server.http().await;
    assert_eq!(second.get("/v2/health/live").await.status, 200);
    assert_eq!(served.await.unwrap(), 200, "whoever is served is not sent away for others");
}

#[tokio::test]
async fn liveness_and_readiness_are_json() {
    let server = serve().await;
    let mut http = server.http().await;
    assert_eq!(http.get("/v2/health/live").await.json(), json!({ "live": true }));
    assert_eq!(http.get("/v2/health/ready").await.json(), json!({ "ready": true }));
    let ready = json!({ "name": "identity_fp32", "ready": true });
    assert_eq!(http.get("/v2/models/identity_fp32/ready").await.json(), ready);
    assert_eq!(http.get("/v2/models/identity_fp32/versions/1/ready").await.json(), ready);
    assert_eq!(http.get("/v2/models/identity_fp32/versions/2/ready").await.status, 404);
}
