//! The trace extension: which requests are traced, in which form, and where to.

use std::path::Path;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tensorgate::export::Endpoint;

use crate::support::http::request;
use crate::support::receiver::Receiver;
use crate::support::tensors::*;
use crate::support::{Models, Server, eventually};

const SETTING: &str = "/v2/trace/setting";

fn row() -> Named {
    named([("x", tensor([1, 2], [1_f32, 2.]))])
}

async fn traced(models: &Models) -> Server {
    let directory = models.path().join("identity_fp32");
    Server::with(models, |config| config.server.watch.trace_directory = Some(directory)).await
}

/// The traces of a file of at least `count`: the names of their times, by the request's id.
async fn traces(path: &Path, count: usize) -> Vec<(Value, Vec<String>)> {
    eventually("traces", async || {
        let text = std::fs::read_to_string(path).ok()?;
        let list: Vec<Value> = serde_json::from_str(&text).ok()?;
        (list.len() >= 2 * count).then(|| {
            let pairs = list.chunks(2);
            pairs
                .map(|pair| {
                    assert_eq!(pair[0]["id"], pair[1]["id"]);
                    let times = pair[1]["timestamps"].as_array().unwrap();
                    assert!(times.is_sorted_by_key(|time| time["ns"].as_u64().unwrap()), "{times:?}");
                    let names = times.iter().map(|time| time["name"].as_str().unwrap().to_owned());
                    (pair[0].clone(), names.collect())
                })
                .collect()
        })
    })
    .await
}

#[tokio::test]
async fn traces_are_written_in_tritons_form_over_both_doors() {
    let models = Models::of(&["identity_fp32"]);
    let server = traced(&models).await;
    let mut http = server.http().await;
    let on = json!({"trace_level": ["TIMESTAMPS"], "trace_rate": "2", "trace_file": "t.json"});
    assert_eq!(http.post(SETTING, on.to_string()).await.json()["trace_file"], "t.json");
    for id in 0..4 {
        let mut body = json_body(&row());
        body["id"] = format!("r{id}").into();
        assert_eq!(http.infer("identity_fp32", &body).await.status, 200);
    }
    let path = models.path().join("identity_fp32/t.json");
    let http_traces = traces(&path, 2).await;
    let (named, times) = &http_traces[0];
    assert_eq!((&named["model_name"], &named["model_version"]), (&json!("identity_fp32"), &json!(1)));
    assert_eq!(named["request_id"], "r1");
    let expected = [
        "HTTP_RECV_START",
        "HTTP_RECV_END",
        "REQUEST_START",
        "QUEUE_START",
        "COMPUTE_START",
        "COMPUTE_END",
        "REQUEST_END",
        "HTTP_SEND_START",
        "HTTP_SEND_END",
    ];
    assert_eq!(times[..], expected);
    for _ in 0..2 {
        server.grpc().await.model_infer(message("identity_fp32", &row())).await.unwrap();
    }
    let requests = futures_util::stream::iter([message("identity_fp32", &row()), message("identity_fp32", &row())]);
    let mut answers = server.grpc().await.model_stream_infer(requests).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
    let all = traces(&path, 4).await;
    assert_eq!(all.len(), 4);
    assert!(all[2..].iter().all(|(_, times)| times[0] == "GRPC_WAITREAD_START"), "{all:?}");
}

#[tokio::test]
async fn a_model_has_traces_of_its_own_in_files_of_so_many() {
    let models = Models::of(&["identity_fp32", "scalar"]);
    let server = traced(&models).await;
    let mut http = server.http().await;
    let on = json!({
        "trace_level": ["TIMESTAMPS"], "trace_rate": "1", "trace_count": "3", "log_frequency": "2",
        "trace_file": "own.json",
    });
    assert_eq!(http.post("/v2/models/identity_fp32/trace/setting", on.to_string()).await.status, 200);
    for _ in 0..5 {
        assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
    }
    let directory = models.path().join("identity_fp32");
    assert_eq!(traces(&directory.join("own.json.0"), 2).await.len(), 2);
    assert_eq!(traces(&directory.join("own.json.1"), 1).await.len(), 1);
}

#[tokio::test]
async fn a_caller_chooses_no_path() {
    let models = Models::of(&["identity_fp32"]);
    let server = traced(&models).await;
    let mut http = server.http().await;
    for path in ["/etc/passwd", "../up.json", "a/b.json", ".bashrc"] {
        let answer = http.post(SETTING, json!({"trace_file": path}).to_string()).await;
        assert!(answer.status == 400 && answer.error().contains("--trace-dir"), "{answer:?}");
    }
    let closed = Server::start(&models).await;
    let answer = closed.http().await.post(SETTING, r#"{"trace_file": "t.json"}"#).await;
    assert!(answer.status == 501 && answer.error().contains("--trace-dir"), "{answer:?}");
}

#[tokio::test]
async fn traces_go_to_a_collector_in_the_other_mode_and_the_caller_is_told_its_span() {
    let models = Models::of(&["identity_fp32"]);
    let collector = Receiver::answering(StatusCode::OK).await;
    let otlp = Endpoint::parse(&format!("http://{}", collector.address), "/v1/traces", 80).unwrap();
    let server = Server::with(&models, |config| {
        config.server.watch.otlp = Some(otlp);
        config.server.watch.trace_ratio = 0.0;
    })
    .await;
    let mut http = server.http().await;
    let on = json!({"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "trace_mode": "opentelemetry"});
    assert_eq!(http.post(SETTING, on.to_string()).await.status, 200);
    let answer = http.infer("identity_fp32", &json_body(&row())).await;
    assert_eq!(answer.header("traceresponse"), None);
    let posted: Value = serde_json::from_slice(&collector.posted(1).await[0].body).unwrap();
    assert_eq!(posted["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"], "infer");
    let parent = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let body = json_body(&row()).to_string();
    let answer = http.send(request(Method::POST, "/v2/models/identity_fp32/infer", &[parent], body)).await;
    let told = answer.header("traceresponse").unwrap().to_owned();
    let posted = collector.posted(2).await;
    let posted: Value = serde_json::from_slice(&posted[1].body).unwrap();
    let id = posted["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["spanId"].as_str().unwrap();
    assert_eq!(told, format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{id}-01"));
}
