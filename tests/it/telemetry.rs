//! What is told about the server beside its answers: Triton's metrics, the process, the doors.

mod dashboard;
mod traces;
mod watched;

use tensorgate::contract::metrics::{self as names, process, triton};

use crate::support::tensors::*;
use crate::support::{Http, Models, Server};

fn row() -> Named {
    named([("x", tensor([1, 2], [1_f32, 2.]))])
}

#[tokio::test]
async fn tritons_names_say_the_same_as_ours() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let mut http = server.http().await;
    let three_rows = named([("x", tensor([3, 2], [0_f32; 6]))]);
    assert_eq!(http.infer("identity_fp32", &json_body(&row())).await.status, 200);
    assert_eq!(http.infer("identity_fp32", &json_body(&three_rows)).await.status, 200);
    let wrong = named([("z", tensor([1], [1_f32]))]);
    assert_eq!(http.infer("identity_fp32", &json_body(&wrong)).await.status, 400);
    let metrics = server.metrics().await;
    let of = [("model", "identity_fp32"), ("version", "1")];
    assert_eq!(metrics.sum(triton::SUCCESS, &of), 2.0);
    assert_eq!(metrics.sum(triton::FAILURE, &of), 1.0);
    assert_eq!(metrics.sum(triton::FAILURE, &[("model", "identity_fp32"), ("reason", "OTHER")]), 1.0);
    assert!(metrics.has(triton::FAILURE, &[("model", "identity_fp32"), ("reason", "REJECTED")]));
    assert_eq!((metrics.sum(triton::COUNT, &of), metrics.sum(triton::EXEC_COUNT, &of)), (4.0, 2.0));
    assert_eq!(metrics.sum(triton::PENDING, &of), 0.0);
    let seconds = metrics.sum(&format!("{}_sum", names::REQUEST_SECONDS), &of);
    assert_eq!(metrics.sum(triton::REQUEST_US, &of), (seconds * 1e6).round());
    for name in [triton::QUEUE_US, triton::COMPUTE_INPUT_US, triton::COMPUTE_INFER_US, triton::COMPUTE_OUTPUT_US] {
        assert!(metrics.has(name, &of), "{name}");
    }
    assert!(metrics.sum(triton::LOAD_SECONDS, &of) > 0.0);
}

#[tokio::test]
async fn the_process_and_its_machine_are_shown() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum(process::BUILD, &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    for name in [
        process::CPU_SECONDS,
        process::START,
        process::RESIDENT,
        process::VIRTUAL,
        process::OPEN_FDS,
        triton::CPU_MEMORY_TOTAL,
        triton::CPU_MEMORY_USED,
    ] {
        assert!(metrics.sum(name, &[]) > 0.0, "{name}");
    }
    assert!(metrics.sum(process::RESIDENT, &[]) < metrics.sum(process::VIRTUAL, &[]));
    // 2020, in seconds since 1970.
    assert!(metrics.sum(process::START, &[]) > 1_577_836_800.0);
}

#[tokio::test]
async fn the_doors_count_connections_and_answers_by_protocol_and_status() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    assert_eq!(http.get("/v2/health/live").await.status, 200);
    assert_eq!(http.get("/no/such/path").await.status, 404);
    grpc.model_infer(message("identity_fp32", &row())).await.unwrap();
    grpc.model_infer(message("stranger", &row())).await.unwrap_err();
    let metrics = crate::support::metrics::Metrics::of(&mut http).await;
    let answered = |protocol, status| metrics.sum(names::DOOR_REQUESTS, &[("protocol", protocol), ("status", status)]);
    assert_eq!((answered("http", "200"), answered("http", "404")), (1.0, 1.0));
    assert_eq!((answered("grpc", "OK"), answered("grpc", "NOT_FOUND")), (1.0, 1.0));
    assert_eq!(metrics.sum(names::CONNECTIONS, &[]), 2.0);
    let _third = Http::connect(server.http).await;
    assert!(server.metrics().await.sum(names::CONNECTIONS, &[]) >= 3.0);
}
