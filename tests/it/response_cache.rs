//! Answers that are kept and given again.

use serde_json::{Value, json};
use tensorgate::contract::metrics::{self as names, triton};

use crate::support::tensors::*;
use crate::support::{Http, Models, Server};

const KEPT: &str = "response_cache = { bytes_max = \"1MiB\" }";

fn row(first: f32) -> Named {
    named([("x", tensor([1, 4], [first, 2., 3., 4.]))])
}

/// What `Server-Timing` says of the cache.
async fn asked(http: &mut Http, model: &str, first: f32) -> &'static str {
    let answer = http.infer(model, &json_body(&row(first))).await;
    assert_eq!(outputs_of(&answer), row(first));
    let timing = answer.header("server-timing").unwrap();
    let said = |note: &str| timing.contains(&format!("cache;desc=\"{note}\""));
    ["hit", "miss"].into_iter().find(|note| said(note)).unwrap_or("nothing")
}

async fn statistics(http: &mut Http, model: &str) -> Value {
    let all = http.get(&format!("/v2/models/{model}/stats")).await.json();
    all["model_stats"][0].clone()
}

#[tokio::test]
async fn the_same_inputs_are_answered_without_an_execution_over_both_doors() {
    let models = Models::new().with_slow_identity("kept", 1, KEPT).with_slow_identity("plain", 1, "");
    let server = Server::start(&models).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    assert_eq!(asked(&mut http, "kept", 1.0).await, "miss");
    assert_eq!(asked(&mut http, "kept", 1.0).await, "hit");
    assert_eq!(asked(&mut http, "kept", 5.0).await, "miss");
    let answer = grpc.model_infer(message("kept", &row(1.0))).await.unwrap();
    assert_eq!(outputs_of_message(answer.get_ref())[0].1, row(1.0)[0].1);
    let of = statistics(&mut http, "kept").await;
    assert_eq!((&of["execution_count"], &of["inference_stats"]["success"]["count"]), (&json!(2), &json!(4)));
    assert_eq!(of["inference_stats"]["cache_hit"]["count"], 2);
    assert_eq!(of["inference_stats"]["cache_miss"]["count"], 2);
    assert_eq!(http.get("/v2/models/kept/config").await.json()["response_cache"]["enable"], true);
    let metrics = server.metrics().await;
    for (hits, misses) in [(names::CACHE_HITS, names::CACHE_MISSES), (triton::CACHE_HITS, triton::CACHE_MISSES)] {
        let of = [("model", "kept"), ("version", "1")];
        assert_eq!((metrics.sum(hits, &of), metrics.sum(misses, &of)), (2.0, 2.0));
    }
    assert!(metrics.sum(names::CACHE_BYTES, &[]) > 0.0);
    // What is off says nothing.
    for _ in 0..2 {
        assert_eq!(asked(&mut http, "plain", 1.0).await, "nothing");
    }
    assert!(!server.metrics().await.has(names::CACHE_HITS, &[("model", "plain")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_same_requests_at_one_time_one_runs() {
    let models = Models::new().with_slow_identity("kept", 300, KEPT);
    let server = Server::start(&models).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let mut http = server.http().await;
        callers.spawn(async move { asked(&mut http, "kept", 1.0).await });
    }
    let said = callers.join_all().await;
    assert_eq!(said.iter().filter(|said| **said == "miss").count(), 1, "{said:?}");
    let of = statistics(&mut server.http().await, "kept").await;
    assert_eq!(of["execution_count"], 1, "{of}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_one_that_is_given_up_runs_for_itself() {
    let models = Models::new().with_slow_identity("kept", 300, KEPT);
    let server = Server::start(&models).await;
    let (mut http, mut other) = (server.http().await, server.http().await);
    let leader = tokio::spawn(async move { http.infer("kept", &json_body(&row(1.0))).await });
    crate::support::eventually("the first to be under way", async || {
        (server.metrics().await.sum(names::IN_FLIGHT, &[]) == 1.0).then_some(())
    })
    .await;
    // Its connection goes with it.
    leader.abort();
    asked(&mut other, "kept", 1.0).await;
}

#[tokio::test]
async fn a_reload_forgets_what_was_kept_and_what_is_wrong_is_not_kept() {
    let models = Models::new().with_slow_identity("kept", 1, KEPT);
    let server = Server::explicit(&models).await;
    let mut http = server.http().await;
    let call = async |http: &mut Http, call: &str| {
        assert_eq!(http.post(&format!("/v2/repository/models/kept/{call}"), "").await.status, 200);
    };
    call(&mut http, "load").await;
    assert_eq!(asked(&mut http, "kept", 1.0).await, "miss");
    assert_eq!(asked(&mut http, "kept", 1.0).await, "hit");
    call(&mut http, "unload").await;
    crate::support::eventually("the answers to be forgotten", async || {
        (server.metrics().await.sum(names::CACHE_BYTES, &[]) == 0.0).then_some(())
    })
    .await;
    call(&mut http, "load").await;
    assert_eq!(asked(&mut http, "kept", 1.0).await, "miss");
    let wrong = json_body(&named([("z", tensor([1, 4], [1_f32; 4]))]));
    for _ in 0..2 {
        assert_eq!(http.infer("kept", &wrong).await.status, 400);
    }
    assert_eq!(asked(&mut http, "kept", 1.0).await, "hit");
}
