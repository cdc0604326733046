//! TLS and mutual TLS at both ports, and certificates that change under way.

use std::time::Duration;

use tensorgate::protocol::proto::{ServerLiveRequest, ServerLiveResponse};
use tensorgate::server::TlsVersion;
use tonic::Code;

use crate::support::certificates::{Authority, connect, shown};
use crate::support::grpc::{Outcome, call};
use crate::support::http::raw;
use crate::support::process::{command, run_to_end};
use crate::support::tensors::*;
use crate::support::{Http, Models, Server, eventually};

fn row() -> Named {
    named([("x", tensor([1, 2], [1_f32, 2.]))])
}

async fn serving(authority: &Authority, models: &Models, mutual: bool) -> Server {
    let mut tls = authority.tls();
    tls.client_ca = mutual.then(|| authority.ca_file());
    Server::with(models, |config| {
        config.server.tls = Some(tls);
        config.server.reload_interval = Duration::from_millis(5);
    })
    .await
}

#[tokio::test]
async fn both_ports_speak_http_1_and_http_2_and_grpc_over_tls() {
    let (authority, models) = (Authority::new(), Models::of(&["identity_fp32"]));
    let server = serving(&authority, &models, false).await;
    for address in [server.http, server.grpc] {
        let stream = connect(&authority.client(&["http/1.1"], None), address).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut http = Http::over(stream, address).await.unwrap();
        assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
        let stream = connect(&authority.client(&["h2", "http/1.1"], None), address).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut http = Http::http2_over(stream, address).await.unwrap();
        assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
        let live: Outcome<ServerLiveResponse> =
            call(&mut http, "ServerLive", &[], &ServerLiveRequest {}).await.unwrap();
        assert_eq!((live.code, live.answer), (Code::Ok, Some(ServerLiveResponse { live: true })));
    }
}

#[tokio::test]
async fn a_client_without_tls_is_told_so_and_the_connection_closed() {
    let (authority, models) = (Authority::new(), Models::of(&["identity_fp32"]));
    let server = serving(&authority, &models, false).await;
    let answer = raw(server.http, b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("this port speaks TLS"), "{answer}");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_ends_the_connection() {
    let (authority, models) = (Authority::new(), Models::of(&["identity_fp32"]));
    let mut tls = authority.tls();
    tls.handshake_timeout = Duration::from_millis(20);
    let server = Server::with(&models, |config| config.server.tls = Some(tls)).await;
    assert_eq!(raw(server.http, b"").await, "");
    assert_eq!(raw(server.http, b"\x16\x03\x01").await, "");
}

#[tokio::test]
async fn mutual_tls_refuses_a_client_without_a_certificate_of_the_authority() {
    let (authority, models) = (Authority::new(), Models::of(&["identity_fp32"]));
    let server = serving(&authority, &models, true).await;
    let ours = authority.sign();
    let stream = connect(&authority.client(&["http/1.1"], Some(&ours)), server.http).await.unwrap();
    let mut http = Http::over(stream, server.http).await.unwrap();
    assert_eq!(http.get("/v2/health/live").await.status, 200);
    let strangers = Authority::new().sign();
    for identity in [None, Some(&strangers)] {
        let client = authority.client(&["http/1.1"], identity);
        // With TLS 1.3 a client has shaken hands before the server has looked at its certificate.
        let Ok(stream) = connect(&client, server.http).await else { continue };
        let mut http = Http::over(stream, server.http).await.unwrap();
        let request = crate::support::http::request(http::Method::GET, "/v2/health/live", &[], "");
        assert!(http.try_send(request).await.is_err());
    }
}

#[tokio::test]
async fn a_new_certificate_serves_new_connections_and_old_ones_live_on() {
    let (authority, models) = (Authority::new(), Models::of(&["identity_fp32"]));
    let server = serving(&authority, &models, false).await;
    let client = authority.client(&["http/1.1"], None);
    let stream = connect(&client, server.http).await.unwrap();
    let first = shown(&stream);
    let mut old = Http::over(stream, server.http).await.unwrap();
    let next = authority.sign();
    // Replaced before its key: for now the pair does not fit together, and the earlier one is kept.
    authority.write("server.pem", &next.certificate);
    assert_eq!(shown(&connect(&client, server.http).await.unwrap()), first);
    authority.write("server.key", &next.key);
    eventually("the new certificate", async || {
        let stream = connect(&client, server.http).await.unwrap();
        (shown(&stream) != first).then_some(())
    })
    .await;
    assert_eq!(old.get("/v2/health/live").await.status, 200);
}

#[tokio::test]
async fn the_oldest_version_can_be_1_3() {
    let (authority, models) = (Authority::new(), Models::of(&["identity_fp32"]));
    let mut tls = authority.tls();
    tls.version_min = TlsVersion::V1_3;
    let server = Server::with(&models, |config| config.server.tls = Some(tls)).await;
    let stream = connect(&authority.client(&["h2"], None), server.grpc).await.unwrap();
    assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn every_fault_of_the_files_is_told_at_the_start() {
    let authority = Authority::new();
    authority.install(&authority.sign());
    let other = authority.write("other.key", &authority.sign().key);
    let empty = authority.write("empty.pem", "");
    let (cert, key) = (authority.path("server.pem"), authority.path("server.key"));
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let (other, empty) = (other.to_str().unwrap(), empty.to_str().unwrap());
    for (flags, told) in [
        (&["--tls-cert", cert][..], "--tls-cert: needs --tls-key"),
        (&["--tls-client-ca", cert], "--tls-client-ca: needs --tls-cert"),
        (&["--tls-cert", cert, "--tls-key", other], "is not the key of the certificate"),
        (&["--tls-cert", empty, "--tls-key", key], "holds no certificate in PEM"),
        (&["--tls-cert", cert, "--tls-key", empty], "no private key in PEM"),
        (&["--tls-cert", "/no/such/file", "--tls-key", key], "/no/such/file: No such file"),
        (&["--tls-cert", cert, "--tls-key", key, "--tls-client-ca", empty], "--tls-client-ca"),
        (&["--tls-cert", cert, "--tls-key", key, "--tls-min-version", "1.1"], "'1.1' is unknown, expected 1.2 or 1.3"),
    ] {
        let ended = run_to_end(&mut command(&[&["serve"], flags].concat())).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.errors.contains(told), "{told}: {ended:?}");
    }
}
