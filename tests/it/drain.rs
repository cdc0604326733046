//! The way down: nobody who asks is left without an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Method;
use tensorgate::contract::metrics as names;
use tensorgate::protocol::proto::{ModelInferResponse, ServerReadyRequest};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

use crate::support::grpc::call;
use crate::support::http::{Lost, request};
use crate::support::metrics::Metrics;
use crate::support::tensors::*;
use crate::support::{Http, Models, PATIENCE, Process, Server, eventually};

fn row() -> Named {
    named([("x", tensor([1, 4], [1_f32, 2., 3., 4.]))])
}

/// What the clients of a test saw together.
#[derive(Default)]
struct Seen {
    answers: AtomicUsize,
    /// Answers that asked the client to connect elsewhere next time.
    closes: AtomicUsize,
    /// Whether routers know by now: nobody connects here any more.
    elsewhere: AtomicBool,
}

/// Connects for as long as a router would send anybody here. That is what the drain delay is for: a connection that is made
/// in the very moment in which the port closes may be reset by the kernel, whatever the server does.
async fn connect(seen: &Seen, connecting: impl Future<Output = std::io::Result<Http>>) -> Option<Http> {
    if seen.elsewhere.load(Ordering::Relaxed) {
        return None;
    }
    Some(connecting.await.unwrap())
}

/// A closed loop over HTTP/1.1 that keeps its connection until it is told to close it, or finds it closed before it sends.
async fn http_client(address: SocketAddr, seen: Arc<Seen>) {
    let body = json_body(&row()).to_string();
    while let Some(mut http) = connect(&seen, Http::try_connect(address)).await {
        loop {
            let request = request(Method::POST, "/v2/models/identity_fp32/infer", &[], body.clone());
            match http.try_send(request).await {
                Ok(answer) => {
                    assert_eq!(answer.status, 200, "{answer:?}");
                    seen.answers.fetch_add(1, Ordering::Relaxed);
                    if answer.header("connection") == Some("close") {
                        seen.closes.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                }
                Err(Lost::NotSent) => break,
                Err(Lost::Sent(cause)) => panic!("a request was lost: {cause:?}"),
            }
        }
    }
}

/// The same over gRPC: the server says that it goes away in HTTP/2's own way.
async fn grpc_client(address: SocketAddr, seen: Arc<Seen>) {
    let message = message("identity_fp32", &row());
    while let Some(mut connection) = connect(&seen, Http::try_connect_http2(address)).await {
        loop {
            match call::<ModelInferResponse>(&mut connection, "ModelInfer", &[], &message).await {
                Ok(outcome) => {
                    assert_eq!(outcome.code, Code::Ok, "{outcome:?}");
                    seen.answers.fetch_add(1, Ordering::Relaxed);
                }
                Err(Lost::NotSent) => break,
                Err(Lost::Sent(cause)) => panic!("a call was lost: {cause:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_clients_lose_no_request_when_the_server_is_told_to_stop() {
    let models = Models::of(&["identity_fp32"]);
    let process = Process::start(&["--drain-delay", "2s", models.argument()]).await;
    let ready = Http::connect(process.http).await;
    wait_until_ready(ready).await;
    let seen = Arc::new(Seen::default());
    let mut clients = JoinSet::new();
    for _ in 0..16 {
        clients.spawn(http_client(process.http, Arc::clone(&seen)));
        clients.spawn(grpc_client(process.grpc, Arc::clone(&seen)));
    }
    let answers = || seen.answers.load(Ordering::Relaxed);
    eventually("the load to be under way", async || (answers() > 1000).then_some(())).await;
    process.signal("TERM").await;
    // They go on, and come back when they are told to close, until the routers have heard of it. One that loses a request
    // panics.
    eventually("clients to be told to close", async || (seen.closes.load(Ordering::Relaxed) > 200).then_some(())).await;
    seen.elsewhere.store(true, Ordering::Relaxed);
    let before = answers();
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert_eq!(process.exit().await, Some(0));
    assert!(answers() > before, "nothing was answered in the rest of the drain");
}

async fn wait_until_ready(mut http: Http) {
    eventually("the server to be ready", async || (http.get("/v2/health/ready").await.status == 200).then_some(()))
        .await;
}

#[tokio::test]
async fn a_draining_server_is_not_ready_at_once_and_serves_on() {
    let models = Models::of(&["identity_fp32"]);
    let mut process = Process::start(&["--drain-delay", "60s", models.argument()]).await;
    wait_until_ready(process.http().await).await;
    // This connection was open before.
    let mut grpc = process.grpc().await;
    process.signal("TERM").await;
    process.line("draining").await;
    let ready = process.http().await.get("/v2/health/ready").await;
    assert_eq!(ready.status, 503, "{ready:?}");
    assert!(ready.error().contains("shutting down"), "{ready:?}");
    assert!(!grpc.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    assert_eq!(process.http().await.get("/v2/health/live").await.status, 200);
    let answer = process.http().await.infer("identity_fp32", &json_body(&row())).await;
    assert_eq!((answer.status.as_u16(), answer.header("connection")), (200, Some("close")));
    grpc.model_infer(message("identity_fp32", &row())).await.unwrap();
    process.grpc().await.model_infer(message("identity_fp32", &row())).await.unwrap();
    // A second signal means now.
    let started = Instant::now();
    process.signal("TERM").await;
    assert_eq!(process.exit().await, Some(1));
    assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_under_way_are_answered_before_the_end() {
    let models = Models::new().with_slow_identity("busy", 700, "");
    let mut process = Process::start(&["--drain-delay", "0s", models.argument()]).await;
    process.line("serving").await;
    let (mut http, mut grpc) = (process.http().await, process.grpc().await);
    let over_http = tokio::spawn(async move { http.infer("busy", &json_body(&row())).await });
    let over_grpc = tokio::spawn(async move { grpc.model_infer(message("busy", &row())).await });
    under_way(&process, 2.0).await;
    process.signal("TERM").await;
    process.line("closed to new connections").await;
    assert_eq!(outputs_of(&over_http.await.unwrap()), row());
    assert_eq!(outputs_of_message(over_grpc.await.unwrap().unwrap().get_ref()), row());
    assert_eq!(process.exit().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_longer_than_the_drain_timeout_is_cut_off_and_the_exit_code_says_so() {
    let models = Models::new().with_slow_identity("busy", 1000, "");
    let mut process = Process::start(&["--drain-delay", "0s", "--drain-timeout", "100ms", models.argument()]).await;
    process.line("serving").await;
    let mut http = process.http().await;
    let call = tokio::spawn(async move {
        let request = request(Method::POST, "/v2/models/busy/infer", &[], json_body(&row()).to_string());
        http.try_send(request).await
    });
    under_way(&process, 1.0).await;
    process.signal("TERM").await;
    process.line("requests cut off").await;
    assert_eq!(process.exit().await, Some(1));
    assert!(matches!(call.await.unwrap(), Err(Lost::Sent(_))));
}

async fn under_way(process: &Process, count: f64) {
    let mut http = process.http().await;
    eventually("the requests to be under way", async || {
        (Metrics::of(&mut http).await.sum(names::IN_FLIGHT, &[]) == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_interrupt_from_the_keyboard_skips_the_delay() {
    let models = Models::of(&["identity_fp32"]);
    let mut process = Process::start(&["--drain-delay", "50s", models.argument()]).await;
    process.line("serving").await;
    // An idle connection keeps nobody waiting.
    let _idle = process.http().await;
    let started = Instant::now();
    process.signal("INT").await;
    assert_eq!(process.exit().await, Some(0));
    assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_stopped_server_has_given_up_its_ports() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let (http, grpc) = (server.http, server.grpc);
    let mut open = server.http().await;
    assert_eq!(open.get("/v2/health/live").await.status, 200);
    assert!(server.stop().await);
    for address in [http, grpc] {
        std::net::TcpListener::bind(address).unwrap();
    }
    let request = request(Method::GET, "/v2/health/live", &[], "");
    assert!(matches!(open.try_send(request).await, Err(Lost::NotSent)));
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_while_it_loads_stops() {
    let models = Models::new().with_slow_identity("late", 700, "");
    let process = Process::start(&["--drain-delay", "0s", models.argument()]).await;
    assert_eq!(process.http().await.get("/v2/health/ready").await.status, 503);
    process.signal("TERM").await;
    assert_eq!(process.exit().await, Some(0));
}
