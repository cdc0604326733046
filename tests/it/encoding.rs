//! Content codings: bodies that come and go compressed, over both doors; and the numbers that JSON has no word for.

mod json_numbers;

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::Method;
use http::header::HeaderValue;
use serde_json::json;
use tonic::codec::CompressionEncoding;

use crate::support::http::{Answer, request};
use crate::support::tensors::*;
use crate::support::{Models, Server};

const INFER: &str = "/v2/models/identity_fp32/infer";
const CODINGS: [&str; 4] = ["gzip", "x-gzip", "deflate", "zstd"];

async fn serve() -> Server {
    Server::start(&Models::of(&["identity_fp32"])).await
}

fn rows(count: usize) -> Named {
    named([("x", tensor([count, 50], (0..count * 50).map(|i| i as f32).collect::<Vec<_>>()))])
}

fn compressed(coding: &str, data: &[u8]) -> Vec<u8> {
    match coding {
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::encode_all(data, 3).unwrap(),
        _ => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
    }
}

/// The answer as it was before its coding, which it is relieved of.
fn inflated(mut answer: Answer) -> Answer {
    let coding = answer.headers.remove("content-encoding").unwrap_or_else(|| panic!("not compressed: {answer:?}"));
    let mut whole = Vec::new();
    match coding.to_str().unwrap() {
        "gzip" => GzDecoder::new(&answer.body[..]).read_to_end(&mut whole).unwrap(),
        "deflate" => ZlibDecoder::new(&answer.body[..]).read_to_end(&mut whole).unwrap(),
        _ => {
            whole = zstd::decode_all(&answer.body[..]).unwrap();
            whole.len()
        }
    };
    answer.body = Bytes::from(whole);
    answer
}

#[tokio::test]
async fn a_compressed_body_of_json_is_answered_as_a_plain_one_is() {
    let server = serve().await;
    let mut http = server.http().await;
    let body = json_body(&rows(8)).to_string();
    for coding in CODINGS {
        let sent = compressed(coding, body.as_bytes());
        let answer = http.send(request(Method::POST, INFER, &[("content-encoding", coding)], sent)).await;
        assert_eq!(outputs_of(&answer)[0].1, rows(8)[0].1, "{coding}");
        assert_eq!(answer.header("content-encoding"), None);
    }
}

#[tokio::test]
async fn the_header_length_counts_json_that_is_not_compressed_in_both_directions() {
    let server = serve().await;
    let mut http = server.http().await;
    for coding in ["gzip", "deflate", "zstd"] {
        let more = json!({ "parameters": { "binary_data_output": true } });
        let (mut head, body) = binary_request("identity_fp32", &rows(20), more, |_| true).into_parts();
        head.headers.insert("content-encoding", HeaderValue::from_str(coding).unwrap());
        head.headers.insert("accept-encoding", HeaderValue::from_str(coding).unwrap());
        let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
        let body = http_body_util::Full::new(Bytes::from(compressed(coding, &body)));
        let answer = http.send(http::Request::from_parts(head, body)).await;
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
        let answer = inflated(answer);
        assert!(answer.header(HEADER_LENGTH).is_some());
        assert_eq!(outputs_of(&answer)[0].1, rows(20)[0].1, "{coding}");
    }
}

#[tokio::test]
async fn answers_are_compressed_only_for_those_who_ask_and_only_where_it_is_worth_it() {
    let server = serve().await;
    let mut http = server.http().await;
    let large = json_body(&rows(20)).to_string();
    let small = json_body(&rows(1)).to_string();
    let answer = http.post(INFER, large.clone()).await;
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None));
    for (accepted, coding) in [
        ("gzip;q=0.5, deflate", Some("deflate")),
        ("gzip;q=0.5, zstd", Some("zstd")),
        ("br, *;q=0.1", Some("gzip")),
        ("br", None),
    ] {
        let answer = http.send(request(Method::POST, INFER, &[("accept-encoding", accepted)], large.clone())).await;
        assert_eq!(answer.header("content-encoding"), coding, "{accepted}");
        assert_eq!(answer.header("vary"), Some("accept-encoding"), "{accepted}");
        let answer = if coding.is_some() { inflated(answer) } else { answer };
        assert_eq!(outputs_of(&answer)[0].1, rows(20)[0].1);
    }
    let answer = http.send(request(Method::POST, INFER, &[("accept-encoding", "gzip")], small)).await;
    assert_eq!(answer.header("content-encoding"), None, "fits one packet");
    // Prometheus asks for it with every scrape.
    let answer = inflated(http.send(request(Method::GET, "/metrics", &[("accept-encoding", "gzip")], "")).await);
    assert!(answer.text().contains("# TYPE"));
}

#[tokio::test]
async fn only_inference_and_metrics_are_compressed_because_tritons_client_inflates_nothing_else() {
    let models = Models::of(&["identity_fp32"]);
    (2..42).for_each(|version| models.put("identity_fp32", version, "identity_fp32"));
    models.write("identity_fp32", "model.toml", "versions = \"all\"");
    let server = Server::start(&models).await;
    let asked = [("accept-encoding", "gzip")];
    let index = server.http().await.send(request(Method::POST, "/v2/repository/index", &asked, "")).await;
    assert!(index.body.len() > 1400 && index.json().as_array().unwrap().len() == 41, "{index:?}");
}

#[tokio::test]
async fn codings_that_are_not_served_are_told_with_those_that_are() {
    let server = serve().await;
    let mut http = server.http().await;
    let body = json_body(&rows(1)).to_string();
    for coding in ["br", "gzip, gzip", "gzip, zstd"] {
        let answer = http.send(request(Method::POST, INFER, &[("content-encoding", coding)], body.clone())).await;
        assert_eq!(answer.status, 501);
        assert!(answer.error().contains("content-encoding"), "{answer:?}");
    }
    let answer = http.send(request(Method::POST, INFER, &[("content-encoding", "identity")], body.clone())).await;
    assert_eq!(answer.status, 200);
    for coding in CODINGS {
        let answer = http.send(request(Method::POST, INFER, &[("content-encoding", coding)], body.clone())).await;
        assert_eq!(answer.status, 400, "{coding}");
    }
}

#[tokio::test]
async fn a_bomb_is_defused_and_its_connection_goes_on() {
    let models = Models::of(&["identity_fp32"]);
    let server = Server::with(&models, |config| config.server.body_bytes_max = 4 << 20).await;
    let mut http = server.http().await;
    for (megabytes, flag) in [(2, "--decompression-ratio-max"), (32, "--decompression-ratio-max")] {
        for coding in CODINGS {
            let bomb = compressed(coding, &vec![b' '; megabytes << 20]);
            let answer = http.send(request(Method::POST, INFER, &[("content-encoding", coding)], bomb)).await;
            assert_eq!(answer.status, 413);
            assert!(answer.error().contains(flag), "{answer:?}");
        }
    }
    let server = Server::with(&models, |config| {
        config.server.body_bytes_max = 1 << 20;
        config.server.bounds.decompression_ratio_max = usize::MAX;
    });
    let server = server.await;
    let bomb = compressed("gzip", &vec![b' '; 32 << 20]);
    let mut http = server.http().await;
    let answer = http.send(request(Method::POST, INFER, &[("content-encoding", "gzip")], bomb)).await;
    assert!(answer.status == 413 && answer.error().contains("--body-max"), "{answer:?}");
    assert_eq!(http.get("/v2/health/live").await.status, 200);
}

#[tokio::test]
async fn grpc_messages_may_be_compressed_and_answers_are_where_the_client_does() {
    let server = serve().await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate, CompressionEncoding::Zstd] {
        let mut client = server.grpc().await.send_compressed(encoding).accept_compressed(encoding);
        let answer = client.model_infer(message("identity_fp32", &rows(20))).await.unwrap();
        assert_eq!(answer.metadata().get("grpc-encoding").unwrap(), encoding.to_string().as_str());
        assert_eq!(answer.into_inner().raw_output_contents[0], rows(20)[0].1.data());
        // grpcio's clients accept compression whether or not anybody wants it.
        let mut client = server.grpc().await.accept_compressed(encoding);
        let answer = client.model_infer(message("identity_fp32", &rows(20))).await.unwrap();
        assert!(answer.metadata().get("grpc-encoding").is_none());
    }
}
