//! Web pages of other origins.

use http::Method;
use tensorgate::server::Cors;

use super::{row, serve};
use crate::support::http::request;
use crate::support::tensors::*;
use crate::support::{Models, Server};

const INFER: &str = "/v2/models/identity_fp32/infer";
const PREFLIGHT: [(&str, &str); 3] = [
    ("origin", "https://app.example"),
    ("access-control-request-method", "POST"),
    ("access-control-request-headers", "inference-header-content-length"),
];

async fn open_to(origins: &[&str]) -> Server {
    let cors = Cors::new(origins.iter().map(ToString::to_string).collect());
    Server::with(&Models::of(&["identity_fp32"]), |config| config.server.http.cors = cors).await
}

#[tokio::test]
async fn a_page_of_a_known_origin_may_ask_and_read() {
    let server = open_to(&["https://other.example", "https://app.example"]).await;
    let mut http = server.http().await;
    let answer = http.send(request(Method::OPTIONS, INFER, &PREFLIGHT, "")).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST, OPTIONS"));
    let sent = answer.header("access-control-allow-headers").unwrap();
    assert!(sent.contains("inference-header-content-length") && sent.contains("content-type"), "{sent}");
    let body = json_body(&row()).to_string();
    let answer = http.send(request(Method::POST, INFER, &PREFLIGHT[..1], body)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(answer.header("vary"), Some("origin"));
    assert!(answer.header("access-control-expose-headers").unwrap().contains(HEADER_LENGTH));
    // An error has to be readable too.
    let answer = http.send(request(Method::POST, INFER, &PREFLIGHT[..1], "{")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("access-control-allow-origin")),
        (400, Some("https://app.example"))
    );
}

#[tokio::test]
async fn pages_of_other_origins_and_servers_without_any_get_no_permission() {
    for server in [open_to(&["https://known.example"]).await, serve().await] {
        let mut http = server.http().await;
        for method in [Method::OPTIONS, Method::POST] {
            let answer = http.send(request(method, INFER, &PREFLIGHT, json_body(&row()).to_string())).await;
            assert!(answer.status.is_success());
            assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_star_lets_every_page_in() {
    let server = open_to(&["*"]).await;
    let answer = server.http().await.send(request(Method::GET, "/v2", &PREFLIGHT[..1], "")).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
}
