//! The router's binary with a graph before services of this process, and behind the controller's.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tensorgate_controller::tree;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::apiserver::ApiServer;
use super::binary::Controller;
use super::router::Router;

/// What a service does with a request.
#[derive(Clone)]
enum Does {
    /// Answers with a status and this, which says `$body` for what was sent.
    Answers(u16, &'static str),
    /// Answers never.
    Waits,
}

/// A service, and what it was sent: path, headers, body.
struct Service {
    url: String,
    calls: Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>,
    /// Requests under way.
    running: watch::Receiver<usize>,
}

/// Counts down when a request is over, however it ended.
struct Running(watch::Sender<usize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Service {
    async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let calls: Arc<Mutex<Vec<_>>> = Arc::default();
        let (sender, running) = watch::channel(0);
        let seen = calls.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (does, seen, sender) = (does.clone(), seen.clone(), sender.clone());
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    sender.send_modify(|count| *count += 1);
                    let running = Running(sender.clone());
                    let (does, seen) = (does.clone(), seen.clone());
                    async move {
                        let _running = running;
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        seen.lock().unwrap().push((head.uri.path().to_owned(), head.headers.clone(), body.clone()));
                        let Does::Answers(status, text) = does else { return std::future::pending().await };
                        let mut answer = Response::builder().status(status).header("content-type", "application/json");
                        if let Some(length) = head.headers.get("inference-header-content-length") {
                            answer = answer.header("inference-header-content-length", length);
                        }
                        let answer_body = if text == "$body" { body } else { Bytes::from(text) };
                        Ok::<_, Infallible>(answer.body(Full::new(answer_body)).unwrap())
                    }
                });
                tokio::spawn(async move {
                    // The router may go away as it likes.
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ended = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { url, calls, running }
    }

    fn calls(&self) -> Vec<(String, HeaderMap, Bytes)> {
        self.calls.lock().unwrap().clone()
    }

    async fn until_running(&mut self, wanted: usize) {
        self.running.wait_for(|count| *count == wanted).await.unwrap();
    }
}

fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn post(url: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> (u16, HeaderMap, Bytes) {
    let mut request = Request::post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = client().request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    (head.status.as_u16(), head.headers, body.collect().await.unwrap().to_bytes())
}

fn parsed(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {body:?}"))
}

/// A graph of one node.
fn one(kind: &str, steps: Value) -> Value {
    json!({"nodes": {"root": {"routerType": kind, "steps": steps}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nested_graph_answers_over_http_as_its_nodes_say() {
    let cat = Service::start(Does::Answers(200, r#"{"predictions":[{"label":"cat"}]}"#)).await;
    let dog = Service::start(Does::Answers(200, r#"{"predictions":[{"label":"dog"}]}"#)).await;
    let breed = Service::start(Does::Answers(200, r#"{"predictions":[{"label":"beagle"}]}"#)).await;
    let echo = Service::start(Does::Answers(200, "$body")).await;
    let graph = json!({"nodes": {
        "root": {"routerType": "Sequence", "steps": [
            {"node": "animal"}, {"node": "more", "data": "$response", "condition": "predictions.#(label==\"dog\")"},
        ]},
        "animal": {"routerType": "Switch", "steps": [
            {"url": format!("{}/v1/models/cat:predict", cat.url), "condition": "[@this].#(kind==cat)"},
            {"url": format!("{}/v1/models/dog:predict", dog.url), "condition": "kind"},
        ]},
        "more": {"routerType": "Ensemble", "steps": [
            {"name": "breed", "url": breed.url}, {"name": "seen", "url": format!("{}/x", echo.url), "mapPredictionsToInstances": true},
        ]},
    }});
    let router = Router::with("--graph", &graph).await;
    let (status, headers, body) = post(&router.url, &[], r#"{"kind":"cat"}"#).await;
    assert_eq!((status, parsed(&body)), (200, json!({"predictions": [{"label": "cat"}]})));
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(cat.calls()[0].0, "/v1/models/cat:predict");

    let (status, _, body) = post(&router.url, &[("content-type", "application/json")], r#"{"kind":"dog"}"#).await;
    let whole = json!({"breed": {"predictions": [{"label": "beagle"}]}, "seen": {"predictions": [{"label": "dog"}]}});
    assert_eq!((status, parsed(&body)), (200, whole));
    assert_eq!(parsed(&breed.calls()[0].2), json!({"predictions": [{"label": "dog"}]}));

    let (status, _, body) = post(&router.url, &[], r#"{"other":1}"#).await;
    let cause = "None of the routes matched with the switch condition";
    assert_eq!((status, parsed(&body)), (404, json!({"error": "Failed to process request", "cause": cause})));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_tracing_and_those_that_were_asked_for_reach_every_step_and_others_do_not() {
    let (one_step, two) =
        (Service::start(Does::Answers(200, "$body")).await, Service::start(Does::Answers(200, "$body")).await);
    let mut graph = one("Sequence", json!([{"url": one_step.url}, {"url": two.url, "data": "$response"}]));
    graph["propagate"] = json!(["Authorization", "X-Own-.*"]);
    let router = Router::with("--graph", &graph).await;
    let given = [
        ("authorization", "Bearer token"),
        ("x-own-thing", "1"),
        ("cookie", "secret"),
        ("x-request-id", "7"),
        ("request-timeout", "5s"),
        ("content-type", "application/octet-stream"),
        ("inference-header-content-length", "2"),
    ];
    let (status, headers, body) = post(&router.url, &given, &b"{}\x01\x02"[..]).await;
    assert_eq!((status, body), (200, Bytes::from_static(b"{}\x01\x02")));
    assert_eq!(headers["inference-header-content-length"], "2");
    for service in [&one_step, &two] {
        let (_, seen, _) = &service.calls()[0];
        assert_eq!(
            (&seen["authorization"], &seen["x-own-thing"], &seen["x-request-id"]),
            (&"Bearer token".parse().unwrap(), &"1".parse().unwrap(), &"7".parse().unwrap())
        );
        assert_eq!(seen["inference-header-content-length"], "2");
        assert!(!seen.contains_key("cookie"), "{seen:?}");
        let left: u64 = seen["request-timeout"].to_str().unwrap().trim_end_matches("ms").parse().unwrap();
        assert!(left <= 5000, "{left}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_be_reached_fails_its_step_and_a_soft_one_is_done_without() {
    let echo = Service::start(Does::Answers(200, "$body")).await;
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let chain = |dependency: &str| {
        one("Sequence", json!([{"name": "first", "url": gone, "dependency": dependency}, {"url": echo.url}]))
    };
    let soft = Router::with("--graph", &chain("Soft")).await;
    assert_eq!(post(&soft.url, &[], "{}").await.0, 200);
    let hard = Router::with("--graph", &chain("Hard")).await;
    let (status, _, body) = post(&hard.url, &[], "{}").await;
    assert_eq!(status, 503);
    let cause = parsed(&body)["cause"].as_str().unwrap().to_owned();
    assert!(cause.contains("root/first") && cause.contains(&gone), "{cause}");
    let metrics = client().get(format!("{}/metrics", hard.admin).parse().unwrap()).await.unwrap();
    let metrics = String::from_utf8(metrics.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(
        metrics.contains(r#"tensorgate_router_graph_steps_total{outcome="unreachable",step="root/first"} 1"#),
        "{metrics}"
    );
    assert!(metrics.contains(r#"tensorgate_router_graph_requests_total{status="503"} 1"#), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_graph_and_the_calls_under_way() {
    let mut never = Service::start(Does::Waits).await;
    let router = Router::with("--graph", &one("Ensemble", json!([{"url": never.url}, {"url": never.url}]))).await;
    let (status, _, body) = post(&router.url, &[("request-timeout", "50ms")], "{}").await;
    assert_eq!((status, parsed(&body)["error"].as_str()), (504, Some("Failed to process request")));
    never.until_running(0).await;
    assert_eq!(never.calls().len(), 2);

    let mut graph = one("Sequence", json!([{"url": never.url, "dependency": "Hard"}]));
    graph["timeouts"] = json!({"step": 1});
    let router = Router::with("--graph", &graph).await;
    let (status, _, body) = post(&router.url, &[], "{}").await;
    assert_eq!(status, 504);
    assert!(parsed(&body)["cause"].as_str().unwrap().contains("no answer within 1s"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_away_ends_the_calls_under_way() {
    let mut never = Service::start(Does::Waits).await;
    let router = Router::with("--graph", &one("Sequence", json!([{"url": never.url}]))).await;
    let url = router.url.clone();
    let caller = tokio::spawn(async move { post(&url, &[], "{}").await });
    never.until_running(1).await;
    caller.abort();
    never.until_running(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_to_a_graph_is_refused_in_its_own_words_and_the_connection_goes_on() {
    let echo = Service::start(Does::Answers(200, "$body")).await;
    let router = Router::with("--graph", &one("Sequence", json!([{"url": echo.url}]))).await;
    let answer = client().get(router.url.parse().unwrap()).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["allow"].to_str().unwrap()), (405, "POST"));
    let (status, _, body) = post(&router.url, &[("inference-header-content-length", "many")], "{}").await;
    assert_eq!(status, 400, "{body:?}");
    let (status, _, body) = post(&router.url, &[], vec![b' '; (64 << 20) + 1]).await;
    assert_eq!(status, 413);
    assert!(parsed(&body)["error"].as_str().unwrap().contains("67108864"));
    assert_eq!(post(&router.url, &[], "{}").await.0, 200);

    let http2: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request = Request::post(format!("{}/inference.GRPCInferenceService/ModelInfer", router.url));
    let request = request.header("content-type", "application/grpc").body(Full::from("\0\0\0\0\0")).unwrap();
    let answer = http2.request(request).await.unwrap();
    // An echo's answer is no answer of V2.
    assert_eq!((answer.status().as_u16(), answer.headers()["grpc-status"].to_str().unwrap()), (200, "13"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_splitter_splits_and_the_router_says_what_is_wrong_with_its_file() {
    let (a, b) = (Service::start(Does::Answers(200, "{}")).await, Service::start(Does::Answers(200, "{}")).await);
    let router =
        Router::with("--graph", &one("Splitter", json!([{"url": a.url, "weight": 20}, {"url": b.url, "weight": 80}])))
            .await;
    let client = client();
    for _ in 0..500 {
        let request = Request::post(&router.url).body(Full::from("{}")).unwrap();
        let answer = client.request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.unwrap();
    }
    // Five standard deviations of a binomial around 100.
    let first = a.calls().len();
    assert!((55..=145).contains(&first) && first + b.calls().len() == 500, "{first} of 500");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("graph.json");
    std::fs::write(&file, one("Switch", json!([{"url": "http://a"}])).to_string()).unwrap();
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_tensorgate-controller"))
        .args(["router", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--graph"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("its condition is missing"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_goes_from_its_manifest_to_an_answer_of_the_router_and_to_its_deletion() {
    let server = ApiServer::start().await;
    let _controller = Controller::start(&server, "one", &["--router-image=tensorgate:latest"]).await;
    let echo = Service::start(Does::Answers(200, "$body")).await;
    let key = |kind: &str, name: &str| (kind.to_owned(), "models".to_owned(), name.to_owned());
    let graph = |condition: &str| {
        json!({
            "apiVersion": "serving.kserve.io/v1alpha1", "kind": "InferenceGraph", "metadata": {"name": "chain"},
            "spec": {"nodes": {"root": {"routerType": "Sequence", "steps": [
                {"serviceName": "iris"}, {"serviceUrl": echo.url, "data": "$response", "condition": condition},
            ]}}},
        })
    };
    let write = |object: Value| {
        let own = key(object["kind"].as_str().unwrap(), tree::name(&object));
        server.with(|store| store.apply(&own, &object, None, "kubectl", true).unwrap());
    };
    write(graph("a"));
    let condition = |kind: &'static str, wanted: &'static str| {
        let own = key("InferenceGraph", "chain");
        let server = server.clone();
        async move {
            let found = |store: &super::store::Store| {
                let conditions = tree::list(store.get(&own)?, &["status", "conditions"]).to_vec();
                conditions.into_iter().find(|own| own["type"] == kind && own["status"] == wanted)
            };
            server.wait(&format!("{kind} to be {wanted}"), found).await
        }
    };
    let missing = condition("ServicesReady", "False").await;
    assert_eq!(missing["reason"], "ServiceNotFound", "{missing}");

    let model = json!({"modelFormat": {"name": "onnx"}, "protocolVersion": "v2", "storageUri": "s3://models/1"});
    write(json!({
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "iris"},
        "spec": {"predictor": {"model": model}},
    }));
    // As the service's own controller would say it, of a server on this machine.
    let status = json!({"status": {"address": {"url": echo.url}, "conditions": [{"type": "Ready", "status": "True"}]}});
    let config = key("ConfigMap", "chain-graph");
    let text = loop {
        let isvc = key("InferenceService", "iris");
        server.with(|store| store.merge(&isvc, &status, Some("status"), "test").unwrap());
        let program =
            |store: &super::store::Store| tree::text(store.get(&config)?, &["data", "graph.json"]).map(str::to_owned);
        let text = server.wait("the graph's file", program).await;
        if text.contains(&echo.url) {
            break text;
        }
    };
    let program: Value = serde_json::from_str(&text).unwrap();
    let steps: BTreeMap<String, Value> = serde_json::from_value(program["nodes"].clone()).unwrap();
    assert!(steps["root"]["steps"][0]["url"].as_str().unwrap().ends_with("/v2/models/iris/infer"), "{program}");
    let router = Router::with("--graph", &program).await;
    let (code, _, body) = post(&router.url, &[], r#"{"a":1}"#).await;
    assert_eq!((code, parsed(&body)), (200, json!({"a": 1})));

    write(graph("a.@reverse"));
    let invalid = condition("RouterReady", "False").await;
    assert!(invalid["message"].as_str().unwrap().contains("@reverse"), "{invalid}");
    assert!(server.with(|store| store.get(&config).is_some()), "what serves was taken down");
    server.with(|store| store.delete(&key("InferenceGraph", "chain"), None).unwrap());
    server.wait("its children to go", |store| store.get(&config).is_none().then_some(())).await;
}
