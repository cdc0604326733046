//! What settings pin: the size of a batch, the wait for company, the length of the queue.

use tensorgate::contract::metrics as names;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::metrics::Metrics;
use crate::support::tensors::*;
use crate::support::{Models, Server, eventually};

fn one_row() -> Named {
    named([("x", tensor([1, 4], [1_f32, 2., 3., 4.]))])
}

/// Sends `count` requests at once; gives the answers' statuses.
async fn at_once(server: &Server, model: &'static str, count: usize) -> Vec<u16> {
    let mut calls = JoinSet::new();
    for _ in 0..count {
        let mut http = server.http().await;
        calls.spawn(async move { http.infer(model, &json_body(&one_row())).await.status.as_u16() });
    }
    calls.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_never_larger_than_max_batch_size() {
    let settings = "max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 20000 }";
    let server = Server::start(&Models::of(&["identity_fp32"]).with_pbtxt("identity_fp32", settings)).await;
    assert_eq!(at_once(&server, "identity_fp32", 100).await, [200; 100]);
    let metrics = server.metrics().await;
    let all = metrics.sum(&format!("{}_count", names::BATCH_ROWS), &[]);
    assert_eq!(metrics.sum(&format!("{}_bucket", names::BATCH_ROWS), &[("le", "4")]), all);
    assert!(all < 100.0, "{all} batches of 100 rows");
}

#[tokio::test]
async fn a_request_of_more_rows_than_max_batch_size_is_refused_by_name() {
    let models = Models::of(&["identity_fp32"]).with_toml("identity_fp32", "max_batch_size = 4");
    let server = Server::start(&models).await;
    let mut http = server.http().await;
    let rows = |rows: usize| json_body(&named([("x", tensor([rows, 1], vec![1_f32; rows]))]));
    assert_eq!(http.infer("identity_fp32", &rows(4)).await.status, 200);
    let refused = http.infer("identity_fp32", &rows(5)).await;
    assert_eq!(refused.status, 400);
    let message = refused.error();
    for part in ["model 'identity_fp32'", "5 rows", "at most 4", "max_batch_size"] {
        assert!(message.contains(part), "{message}");
    }
    // Without the setting, a request may have as many rows as its body holds.
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    assert_eq!(server.http().await.infer("identity_fp32", &rows(500)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_delay_joins_requests_that_come_one_after_the_other() {
    // The third row fills the batch; without it, the first two would wait half a minute.
    let settings = "max_batch_size: 3 dynamic_batching { max_queue_delay_microseconds: 30000000 }";
    let server = Server::start(&Models::of(&["identity_fp32"]).with_pbtxt("identity_fp32", settings)).await;
    let mut calls = JoinSet::new();
    for waiting in 1..=3 {
        let mut http = server.http().await;
        calls.spawn(async move { http.infer("identity_fp32", &json_body(&one_row())).await.status.as_u16() });
        if waiting < 3 {
            eventually("the request to wait", async || {
                (server.metrics().await.sum(names::QUEUE_DEPTH, &[]) == f64::from(waiting)).then_some(())
            })
            .await;
        }
    }
    assert_eq!(calls.join_all().await, [200; 3]);
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum(&format!("{}_count", names::BATCH_ROWS), &[]), 1.0);
    assert_eq!(metrics.sum(&format!("{}_sum", names::BATCH_ROWS), &[]), 3.0);
}

#[tokio::test]
async fn a_queue_delay_ends_where_no_company_comes() {
    let settings = "max_batch_size: 3 dynamic_batching { max_queue_delay_microseconds: 50000 }";
    let server = Server::start(&Models::of(&["identity_fp32"]).with_pbtxt("identity_fp32", settings)).await;
    let started = Instant::now();
    assert_eq!(at_once(&server, "identity_fp32", 1).await, [200]);
    assert!(started.elapsed().as_millis() >= 50, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once_and_says_when_to_come_again() {
    let server = Server::start(&Models::new().with_slow_identity("busy", 600, "queue_max = 2")).await;
    let mut calls = JoinSet::new();
    for waiting in 1..=2 {
        let mut http = server.http().await;
        calls.spawn(async move { http.infer("busy", &json_body(&one_row())).await.status.as_u16() });
        eventually("the request to be in the queue", async || {
            (server.metrics().await.sum(names::IN_FLIGHT, &[]) >= f64::from(waiting)).then_some(())
        })
        .await;
    }
    // One runs and one waits, or both wait; at most two more can be taken in.
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    let mut refusals = JoinSet::new();
    for _ in 0..2 {
        let mut http = server.http().await;
        refusals.spawn(async move { http.infer("busy", &json_body(&one_row())).await.status.as_u16() });
    }
    eventually("a refusal", async || {
        let seen = Metrics::of(&mut http).await.sum(names::REQUESTS, &[("kind", "overloaded")]) >= 1.0;
        seen.then_some(())
    })
    .await;
    let started = Instant::now();
    let refused = http.infer("busy", &json_body(&one_row())).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.error().contains("model 'busy'") && refused.error().contains("queue is full"), "{refused:?}");
    let status = grpc.model_infer(message("busy", &one_row())).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
    assert!(started.elapsed().as_millis() < 500, "{:?}", started.elapsed());
    assert_eq!(calls.join_all().await, [200; 2]);
    while let Some(status) = refusals.join_next().await {
        assert!([200, 429].contains(&status.unwrap()));
    }
    // With the queue empty again, requests are taken.
    assert_eq!(http.infer("busy", &json_body(&one_row())).await.status, 200);
}
