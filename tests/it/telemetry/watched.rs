//! Access lines, spans and payloads: what is told about each request where somebody asked.

use std::path::Path;

use http::{Method, StatusCode};
use prost::Message;
use serde_json::{Value, json};
use tensorgate::contract::metrics as names;
use tensorgate::export::{Endpoint, PayloadMode};
use tensorgate::protocol::proto::{ModelInferRequest, ModelInferResponse};

use crate::support::grpc::{Outcome, call};
use crate::support::http::request;
use crate::support::process::{command, run_to_end};
use crate::support::receiver::{Posted, Receiver};
use crate::support::tensors::*;
use crate::support::{Http, Models, Server, eventually};

const PARENT: (&str, &str) = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");

fn row() -> Named {
    named([("x", tensor([1, 2], [1_f32, 2.]))])
}

fn endpoint(receiver: &Receiver) -> Option<Endpoint> {
    Some(Endpoint::parse(&format!("http://{}", receiver.address), "/v1/traces", 80).unwrap())
}

async fn lines(path: &Path, count: usize) -> Vec<Value> {
    eventually("lines of the access log", async || {
        let text = std::fs::read_to_string(path).unwrap();
        let whole = text.ends_with('\n') && text.lines().count() >= count;
        whole.then(|| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    })
    .await
}

#[tokio::test]
async fn the_access_log_has_a_line_for_each_request() {
    let models = Models::of(&["identity_fp32"]);
    let path = models.path().join("access.log");
    let log = path.clone();
    let server = Server::with(&models, |config| config.server.watch.access_log = Some(log)).await;
    let mut http = server.http().await;
    let body = json_body(&row()).to_string();
    let headers = [PARENT, ("x-request-id", "r-1")];
    let answer = http.send(request(Method::POST, "/v2/models/identity_fp32/infer", &headers, body)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(http.get("/no/such/path").await.status, 404);
    let mut grpc = Http::connect_http2(server.grpc).await;
    for model in ["identity_fp32", "stranger"] {
        let mut message = message(model, &row());
        message.id = "m-1".into();
        let _: Outcome<ModelInferResponse> = call(&mut grpc, "ModelInfer", &[], &message).await.unwrap();
    }
    let mut lines = lines(&path, 4).await;
    lines.sort_by_key(|line| line["time"].as_str().unwrap().to_owned());
    let of = |path: &str, model: &str| {
        let found = lines.iter().find(|line| line["path"] == path && line["model"].as_str().unwrap_or("") == model);
        found.unwrap_or_else(|| panic!("{path}, {model}: {lines:#?}")).clone()
    };
    let line = of("/v2/models/identity_fp32/infer", "identity_fp32");
    assert_eq!((&line["protocol"], &line["method"]), (&json!("http"), &json!("POST")));
    assert_eq!((&line["status"], &line["bytes"]), (&json!(200), &json!(answer.body.len())));
    assert_eq!((&line["version"], &line["request_id"]), (&json!("1"), &json!("r-1")));
    assert_eq!((&line["peer"], &line["trace_id"]), (&json!("127.0.0.1"), &json!("4bf92f3577b34da6a3ce929d0e0e4736")));
    assert!(line["ms"].as_f64().unwrap() > 0.0);
    assert_eq!(of("/no/such/path", "")["status"], 404);
    let method = "/inference.GRPCInferenceService/ModelInfer";
    let done = of(method, "identity_fp32");
    assert_eq!((&done["protocol"], &done["status"], &done["request_id"]), (&json!("grpc"), &json!(0), &json!("m-1")));
    assert!(done["bytes"].as_u64().unwrap() > 0);
    assert_eq!(of(method, "stranger")["status"], 5);
}

#[tokio::test]
async fn a_client_that_goes_away_is_a_line_too() {
    let models = Models::new().with_slow_identity("slow", 500, "");
    let path = models.path().join("access.log");
    let log = path.clone();
    let server = Server::with(&models, |config| {
        config.server.watch.access_log = Some(log);
    })
    .await;
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]});
    let mut http = server.http().await;
    let mut other = server.http().await;
    tokio::select! {
        answer = http.infer("slow", &body) => panic!("{answer:?}"),
        () = eventually("the request", async || {
            let metrics = crate::support::metrics::Metrics::of(&mut other).await;
            (metrics.sum(names::IN_FLIGHT, &[("model", "slow")]) > 0.0).then_some(())
        }) => {}
    }
    drop(http);
    let line = eventually("the line", async || {
        let lines = lines(&path, 1).await;
        lines.into_iter().find(|line| line["model"] == "slow")
    })
    .await;
    assert_eq!(line["status"], 499);
}

#[tokio::test]
async fn spans_continue_the_callers_trace_and_show_where_the_time_went() {
    let models = Models::of(&["identity_fp32"]);
    let collector = Receiver::answering(StatusCode::OK).await;
    let otlp = endpoint(&collector);
    let server = Server::with(&models, |config| {
        config.server.watch.otlp = otlp;
        config.server.watch.trace_ratio = 0.0;
    })
    .await;
    let mut http = server.http().await;
    let body = json_body(&row()).to_string();
    // Not recorded: by the ratio, by its caller's word, and for not being an inference.
    assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
    let unsampled = (PARENT.0, "00-11111111111111111111111111111111-00f067aa0ba902b7-00");
    let send = |header| request(Method::POST, "/v2/models/identity_fp32/infer", &[header], body.clone());
    assert_eq!(http.send(send(unsampled)).await.status, 200);
    assert_eq!(http.send(request(Method::GET, "/v2", &[PARENT], "")).await.status, 200);
    assert_eq!(http.send(send(PARENT)).await.status, 200);
    let mut grpc = Http::connect_http2(server.grpc).await;
    let infer = message("identity_fp32", &row());
    let _: Outcome<ModelInferResponse> = call(&mut grpc, "ModelInfer", &[PARENT], &infer).await.unwrap();
    assert!(server.stop().await);
    // The end of the server hands over what waits, so there is nothing more to come.
    let posted = collector.posted(1).await;
    let mut spans: Vec<Value> = Vec::new();
    for message in &posted {
        assert_eq!((message.path.as_str(), message.header("content-type")), ("/v1/traces", "application/json"));
        let message: Value = serde_json::from_slice(&message.body).unwrap();
        let scope = &message["resourceSpans"][0]["scopeSpans"][0];
        spans.extend(scope["spans"].as_array().unwrap().iter().cloned());
    }
    let roots: Vec<&Value> = spans.iter().filter(|span| span["parentSpanId"] == "00f067aa0ba902b7").collect();
    assert_eq!(roots.len(), 2, "{spans:#?}");
    for root in roots {
        assert_eq!((&root["name"], &root["traceId"]), (&json!("infer"), &json!("4bf92f3577b34da6a3ce929d0e0e4736")));
        let parts: Vec<&str> = spans
            .iter()
            .filter(|span| span["parentSpanId"] == root["spanId"])
            .map(|span| span["name"].as_str().unwrap())
            .collect();
        assert_eq!(parts, ["decode", "queue", "execute", "encode"]);
        let attributes = root["attributes"].as_array().unwrap();
        assert!(attributes.contains(&json!({"key": "model", "value": {"stringValue": "identity_fp32"}})));
    }
    assert_eq!(spans.len(), 10);
}

#[tokio::test]
async fn payloads_are_events_in_pairs_as_kserve_sends_them() {
    let models = Models::of(&["identity_fp32"]);
    let sink = Receiver::answering(StatusCode::ACCEPTED).await;
    let payload = endpoint(&sink);
    let server = Server::with(&models, |config| config.server.watch.payload = payload).await;
    let mut http = server.http().await;
    let body = json_body(&row()).to_string();
    let headers = [("ce-id", "pair-1"), ("content-type", "application/json")];
    let send = request(Method::POST, "/v2/models/identity_fp32/infer", &headers, body.clone());
    let answer = http.send(send).await;
    assert_eq!(answer.status, 200);
    assert_eq!(http.get("/v2").await.status, 200);
    let posted = sink.posted(2).await;
    let of = |kind: &str| {
        let kind = format!("org.kubeflow.serving.inference.{kind}");
        posted.iter().find(|event| event.header("ce-type") == kind).unwrap()
    };
    assert_eq!(of("request").body, body);
    assert_eq!(of("response").body, answer.body);
    for event in &posted {
        assert_eq!((event.header("ce-specversion"), event.header("ce-id")), ("1.0", "pair-1"));
        assert_eq!(event.header("ce-inferenceservicename"), "identity_fp32");
        assert_eq!(event.header("content-type"), "application/json");
        assert!(event.header("ce-time").ends_with('Z'));
    }
    assert_eq!(posted.len(), 2);
}

#[tokio::test]
async fn payloads_of_grpc_are_the_messages_of_calls_and_of_each_request_of_a_stream() {
    let models = Models::of(&["identity_fp32"]);
    let sink = Receiver::answering(StatusCode::ACCEPTED).await;
    let payload = endpoint(&sink);
    let server = Server::with(&models, |config| config.server.watch.payload = payload).await;
    let mut first = message("identity_fp32", &row());
    first.id = "unary".into();
    let answer = server.grpc().await.model_infer(first.clone()).await.unwrap().into_inner();
    let posted = sink.posted(2).await;
    assert_eq!(ModelInferRequest::decode(of_kind(&posted, "request").body.clone()).unwrap(), first);
    assert_eq!(ModelInferResponse::decode(of_kind(&posted, "response").body.clone()).unwrap(), answer);
    let requests = ["a", "b"].map(|id| ModelInferRequest { id: id.into(), ..message("identity_fp32", &row()) });
    let mut stream = tonic::Request::new(futures_util::stream::iter(requests.clone()));
    stream.metadata_mut().insert("ce-id", "pair".parse().unwrap());
    let mut answers = server.grpc().await.model_stream_infer(stream).await.unwrap().into_inner();
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!(answer.error_message, "");
    }
    let posted = sink.posted(6).await;
    for event in &posted {
        assert_eq!(event.header("content-type"), "application/protobuf");
        assert_eq!(event.header("ce-inferenceservicename"), "identity_fp32");
    }
    let mut ids: Vec<String> = posted[2..]
        .iter()
        .filter(|event| event.header("ce-type").ends_with("request"))
        .inspect(|event| assert_eq!(event.header("ce-id"), "pair"))
        .map(|event| ModelInferRequest::decode(event.body.clone()).unwrap().id)
        .collect();
    ids.sort();
    assert_eq!(ids, ["a", "b"]);
}

fn of_kind<'a>(posted: &'a [Posted], kind: &str) -> &'a Posted {
    let kind = format!("org.kubeflow.serving.inference.{kind}");
    posted.iter().find(|event| event.header("ce-type") == kind).unwrap()
}

#[tokio::test]
async fn events_tell_where_they_come_from_as_kserves_agent_does() {
    let models = Models::of(&["identity_fp32"]);
    let sink = Receiver::answering(StatusCode::ACCEPTED).await;
    let payload = endpoint(&sink);
    let server = Server::with(&models, |config| {
        let watch = &mut config.server.watch;
        watch.payload = payload;
        let origin = &mut watch.payload_origin;
        origin.source = "http://flowers.example".into();
        (origin.service, origin.namespace) = (Some("flowers".into()), Some("garden".into()));
        (origin.component, origin.endpoint) = ("transformer".into(), Some("canary".into()));
        origin.add_header("X-Tenant").unwrap();
        origin.annotate(&[("team", "bees")]);
    })
    .await;
    let headers = [("x-tenant", "t1"), ("x-other", "o"), PARENT];
    let body = json_body(&row()).to_string();
    server.http().await.send(request(Method::POST, "/v2/models/identity_fp32/infer", &headers, body)).await;
    for event in sink.posted(2).await {
        for (name, value) in [
            ("ce-source", "http://flowers.example"),
            ("ce-inferenceservicename", "flowers"),
            ("ce-namespace", "garden"),
            ("ce-component", "transformer"),
            ("ce-endpoint", "canary"),
            ("ce-metadata", "{\"x-tenant\":[\"t1\"]}"),
            ("ce-annotations", "{\"team\":\"bees\"}"),
        ] {
            assert_eq!(event.header(name), value, "{name}");
        }
        assert!(event.header("ce-traceparent").starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
    }
}

#[tokio::test]
async fn an_answer_that_is_an_error_is_no_payload_and_a_sink_that_fails_is_counted() {
    let models = Models::of(&["identity_fp32"]);
    let sink = Receiver::answering(StatusCode::SERVICE_UNAVAILABLE).await;
    let payload = endpoint(&sink);
    let server = Server::with(&models, |config| {
        config.server.watch.payload = payload;
        config.server.watch.payload_mode = PayloadMode::Response;
    })
    .await;
    let mut http = server.http().await;
    let wrong = named([("z", tensor([1], [1_f32]))]);
    assert_eq!(http.infer("identity_fp32", &json_body(&wrong)).await.status, 400);
    assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
    eventually("the drop", async || {
        let metrics = crate::support::metrics::Metrics::of(&mut http).await;
        (metrics.sum(names::DROPPED, &[("sink", "payload")]) == 1.0).then_some(())
    })
    .await;
    assert_eq!(sink.posted(1).await.len(), 1);
}

#[tokio::test]
async fn faults_of_the_sinks_are_told_at_the_start() {
    for (flags, told) in [
        (&["--access-log", "/no/such/directory/log"][..], "--access-log: /no/such/directory/log: No such file"),
        (&["--otlp-endpoint", "https://collector"], "--otlp-endpoint: 'https://collector': https is not spoken"),
        (&["--trace-ratio", "1.5"], "--trace-ratio: is 1.5, expected 0 to 1"),
        (&["--payload-log", "sink:80"], "--payload-log: 'sink:80' is no address"),
        (&["--trace-dir", "/no/such/directory"], "--trace-dir: /no/such/directory: No such file"),
        (&["--payload-log-header", "no header"], "--payload-log-header: 'no header' is no name of a header"),
        (&["--payload-log-annotation", "team"], "--payload-log-annotation: has no '='"),
        (&["--payload-log-mode", "both"], "--payload-log-mode: 'both' is unknown"),
    ] {
        let ended = run_to_end(&mut command(&[&["serve"], flags].concat())).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.errors.contains(told), "{told}: {ended:?}");
    }
}
