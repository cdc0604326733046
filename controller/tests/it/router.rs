//! The router's binary before servers of this process.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tensorgate_controller::router::table::Table;
use tensorgate_controller::tree;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// A revision: echoes bodies and counts requests. Over HTTP/2 it ends with the trailers of gRPC.
struct Revision {
    address: String,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Revision {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (requests, connections) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (counted, accepted) = (requests.clone(), connections.clone());
        let serving = tokio::spawn(async move {
            // Dropped with this task, and the connections with it.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let counted = counted.clone();
                accepted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(async move {
                    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                        counted.fetch_add(1, Ordering::Relaxed);
                        let grpc = request.version() == hyper::Version::HTTP_2;
                        let mut answer = Response::builder().header("keep-alive", "timeout=5");
                        for name in ["host", "x-own", "content-type"] {
                            if let Some(value) = request.headers().get(name) {
                                answer = answer.header(format!("seen-{name}"), value);
                            }
                        }
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", "0".parse().unwrap());
                        let end = futures_util::stream::iter(grpc.then(|| Ok(Frame::trailers(trailers))));
                        let frames =
                            request.into_body().into_data_stream().map(|data| data.map(Frame::data)).chain(end);
                        let answer = answer.body(StreamBody::new(frames)).unwrap();
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // The router may go away as it likes.
                    let _ended = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { address, requests, connections, serving }
    }

    async fn stop(self) {
        self.serving.abort();
        let _aborted = self.serving.await;
    }
}

pub(crate) struct Router {
    pub(crate) process: Child,
    pub(crate) url: String,
    pub(crate) admin: String,
    routes: PathBuf,
    _folder: tempfile::TempDir,
}

fn routes(backends: &[(&str, u32, &str)], sticky: Option<&str>) -> Value {
    let backend = |(revision, weight, address): &(&str, u32, &str)| json!({"revision": revision, "weight": weight, "http": address});
    let mut table = json!({"backends": backends.iter().map(backend).collect::<Vec<_>>()});
    if let Some(header) = sticky {
        table["stickyHeader"] = json!(header);
    }
    table
}

impl Router {
    async fn start(table: &Value) -> Self {
        Self::with("--routes", table).await
    }

    /// A router of the file that `flag` names, with `content`.
    pub(crate) async fn with(flag: &str, content: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let routes = folder.path().join("routes.json");
        std::fs::write(&routes, content.to_string()).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_tensorgate-controller"))
            .args(["router", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--drain-delay=0", "--log-format=json"])
            .arg(flag)
            .arg(&routes)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("the router ended at once");
        let log: Value = serde_json::from_str(&line).unwrap();
        let field = |name: &str| tree::text(&log, &["fields", name]).unwrap().to_owned();
        let (url, admin) = (format!("http://{}", field("address")), format!("http://{}", field("admin_address")));
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("{line}")
            }
        });
        Self { process, url, admin, routes, _folder: folder }
    }

    /// Writes other routes as the kubelet does, all at once.
    fn change(&self, table: &Value) {
        let beside = self.routes.with_extension("new");
        std::fs::write(&beside, table.to_string()).unwrap();
        std::fs::rename(beside, &self.routes).unwrap();
    }
}

fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn get(
    client: &Client<HttpConnector, Full<Bytes>>,
    url: &str,
    headers: &[(&str, &str)],
) -> (u16, HeaderMap, String) {
    let mut request = Request::post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = client.request(request.body(Full::from("a body")).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
}

fn revision(headers: &HeaderMap) -> String {
    headers["x-tensorgate-revision"].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_split_by_weight_and_new_weights_are_taken_over_without_a_failure() {
    let (one, two) = (Revision::start().await, Revision::start().await);
    let router = Router::start(&routes(&[("two", 10, &two.address), ("one", 90, &one.address)], None)).await;
    let client = client();
    for _ in 0..2000 {
        let (status, headers, body) =
            get(&client, &router.url, &[("x-own", "kept"), ("connection", "x-private"), ("x-private", "1")]).await;
        assert_eq!((status, body.as_str(), headers["seen-x-own"].to_str().unwrap()), (200, "a body", "kept"));
        assert!(!headers.contains_key("keep-alive"), "a header of the connection behind");
    }
    // Five standard deviations of a binomial around 200.
    let canary = two.requests.load(Ordering::Relaxed);
    assert!((133..=267).contains(&canary), "{canary} of 2000");
    assert_eq!(canary + one.requests.load(Ordering::Relaxed), 2000);

    router.change(&json!("no routes"));
    router.change(&routes(&[("two", 100, &two.address)], None));
    let mut in_a_row = 0;
    while in_a_row < 200 {
        let (status, headers, _) = get(&client, &router.url, &[]).await;
        assert_eq!(status, 200);
        in_a_row = if revision(&headers) == "two" { in_a_row + 1 } else { 0 };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_takes_no_connection_costs_nobody_a_request() {
    let (one, two) = (Revision::start().await, Revision::start().await);
    let router = Router::start(&routes(&[("two", 50, &two.address), ("one", 50, &one.address)], None)).await;
    let client = client();
    two.stop().await;
    for _ in 0..200 {
        assert_eq!(get(&client, &router.url, &[]).await.0, 200);
    }
    let (_, _, metrics) = {
        let answer = client.get(format!("{}/metrics", router.admin).parse().unwrap()).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (0, 0, String::from_utf8(body.to_vec()).unwrap())
    };
    assert!(!metrics.contains("tensorgate_router_diverted_total 0"), "{metrics}");

    one.stop().await;
    let (status, headers, body) = get(&client, &router.url, &[]).await;
    assert_eq!(status, 503, "{body}");
    assert_eq!(headers["content-type"], "application/json");
    assert!(serde_json::from_str::<Value>(&body).unwrap()["error"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_value_of_the_sticky_header_goes_to_the_same_revision() {
    let (one, two) = (Revision::start().await, Revision::start().await);
    let router = Router::start(&routes(&[("two", 50, &two.address), ("one", 50, &one.address)], Some("x-user"))).await;
    let client = client();
    let mut seen = BTreeMap::new();
    for round in 0..3 {
        for user in 0..40 {
            let (_, headers, _) = get(&client, &router.url, &[("x-user", &format!("user-{user}"))]).await;
            let before = seen.insert(user, revision(&headers));
            assert!(round == 0 || before == seen.get(&user).cloned());
        }
    }
    assert!(["one", "two"].iter().all(|name| seen.values().any(|own| own == name)), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_goes_through_with_its_trailers_and_fails_in_its_own_words() {
    let one = Revision::start().await;
    let router = Router::start(&routes(&[("one", 1, &one.address)], None)).await;
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request = || {
        let request = Request::post(format!("{}/inference.GRPCInferenceService/ServerLive", router.url));
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        request.body(Full::from("\0\0\0\0\0")).unwrap()
    };
    let answer = client.request(request()).await.unwrap();
    assert_eq!(answer.headers()["seen-content-type"], "application/grpc");
    let collected = answer.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(collected.to_bytes(), "\0\0\0\0\0");

    one.stop().await;
    loop {
        let answer = client.request(request()).await.unwrap();
        if let Some(status) = answer.headers().get("grpc-status") {
            assert_eq!(status, "14");
            assert!(answer.headers()["grpc-message"].to_str().unwrap().contains("one"));
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_callers_grpc_goes_by_several_connections_since_a_service_gives_each_to_one_pod() {
    let one = Revision::start().await;
    let router = Router::start(&routes(&[("one", 1, &one.address)], None)).await;
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    for _ in 0..32 {
        let request = Request::post(format!("{}/inference.GRPCInferenceService/ServerLive", router.url));
        let request = request.header("content-type", "application/grpc").body(Full::from("\0\0\0\0\0")).unwrap();
        let answer = client.request(request).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().trailers().unwrap()["grpc-status"], "0");
    }
    let connections = one.connections.load(Ordering::Relaxed);
    // As many again where it is the turn of the others meanwhile.
    assert!((8..=16).contains(&connections), "{connections}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_goes_through_as_it_comes() {
    let one = Revision::start().await;
    let router = Router::start(&routes(&[("one", 1, &one.address)], None)).await;
    let (send, receive) = mpsc::channel::<&'static str>(1);
    let frames = futures_util::stream::unfold(receive, |mut receive| async {
        let text = receive.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), receive))
    });
    let client = Client::builder(TokioExecutor::new()).build_http::<StreamBody<_>>();
    let request = Request::post(&router.url).body(StreamBody::new(Box::pin(frames))).unwrap();
    send.send("first").await.unwrap();
    let mut body = client.request(request).await.unwrap().into_body();
    // The answer to the first part is there while the second has not been sent.
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "first");
    send.send("second").await.unwrap();
    drop(send);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_is_answered_after_sigterm() {
    let one = Revision::start().await;
    let mut router = Router::start(&routes(&[("one", 1, &one.address)], None)).await;
    let (send, receive) = mpsc::channel::<&'static str>(1);
    let frames = futures_util::stream::unfold(receive, |mut receive| async {
        let text = receive.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), receive))
    });
    let client = Client::builder(TokioExecutor::new()).build_http::<StreamBody<_>>();
    let request = Request::post(&router.url).body(StreamBody::new(Box::pin(frames))).unwrap();
    send.send("first").await.unwrap();
    let mut body = client.request(request).await.unwrap().into_body();
    assert!(body.frame().await.is_some());
    let pid = router.process.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    // It takes nobody new any more, so it has seen the signal.
    let plain: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    while plain.get(router.url.parse().unwrap()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    send.send("second").await.unwrap();
    drop(send);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "second");
    assert!(router.process.wait().await.unwrap().success());
}

#[test]
fn the_routes_that_a_plan_writes_can_be_read_by_the_router() {
    let plan = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/router.out")).unwrap();
    let written = plan.lines().filter_map(|line| line.trim().strip_prefix("routes.json: "));
    let mut tables = Vec::new();
    for text in written {
        let text: String = serde_saphyr::from_str(text).unwrap();
        tables.push(Table::parse(&text).unwrap());
    }
    assert!(tables.iter().any(|table| table.backends.len() == 2), "{tables:?}");
    assert!(tables.iter().all(|table| table.sticky_header.as_deref() == Some("x-user")));
}
