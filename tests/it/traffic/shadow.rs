//! A shadow is asked too, compared, and never in the way.

use serde_json::{Value, json};
use tensorgate::contract::metrics as names;
use tensorgate::runtime::idle_time_is_free;

use super::{row, set, told, version, versions};
use crate::support::tensors::*;
use crate::support::{Http, Models, Server, eventually};

/// Waits until the shadow has `count` requests of one `outcome`.
async fn shadowed(http: &mut Http, outcome: &str, count: u64) -> Value {
    eventually(outcome, async || {
        let shadow = told(http).await["shadow"].clone();
        (shadow[outcome].as_u64().unwrap() >= count).then_some(shadow)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_a_shadow_are_compared_and_thrown_away() {
    let shadow = "[traffic.shadow]\nversion = 2\nshare = 1.0";
    let server = Server::start(&versions(&["identity_fp32", "inner_shape_note"], shadow)).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    for _ in 0..5 {
        // Though the shadow is the newest.
        assert_eq!(version(&mut http, &[]).await, "1");
        assert_eq!(grpc.model_infer(message("m", &row())).await.unwrap().into_inner().model_version, "1");
    }
    let shadow = shadowed(&mut http, "disagreed", 10).await;
    assert_eq!((&shadow["difference_max"], &shadow["argmax_agreement"]), (&json!(1.0), &json!(1.0)), "{shadow}");
    assert_eq!((&shadow["agreed"], &shadow["failed"], &shadow["dropped"]), (&json!(0), &json!(0), &json!(0)));
    assert!(shadow["mirrored_seconds"].as_f64().unwrap() > 0.0, "{shadow}");
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum(names::MIRRORED, &[("version", "2"), ("outcome", "disagreed")]), 10.0);
    assert_eq!(metrics.sum(names::MIRRORED_ARGMAX, &[("version", "2"), ("same", "true")]), 10.0);
    assert_eq!(metrics.sum(names::MIRRORED_DIFFERENCE, &[("version", "2")]), 1.0);
    // By the place of the largest element the two are the same.
    let by_argmax = json!({ "shadow": { "version": 2, "share": 1 }, "compare": { "by": "argmax" } });
    set(&mut http, by_argmax).await;
    version(&mut http, &[]).await;
    shadowed(&mut http, "agreed", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_fails_or_is_not_there_is_told_and_hurts_nobody() {
    let models = versions(&["identity_fp32", "loads_but_cannot_run", "garbage"], "warm_up = false");
    let server = Server::start(&models).await;
    let mut http = server.http().await;
    let body = json_body(&named([("x", tensor([1, 4], [1_f32; 4]))]));
    for (shadow, outcome) in [(2, "failed"), (3, "not_run")] {
        set(&mut http, json!({ "weights": { "1": 1 }, "shadow": { "version": shadow, "share": 1 } })).await;
        let answer = http.infer("m", &body).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["model_version"]), (200, &json!("1")));
        shadowed(&mut http, outcome, 1).await;
    }
}

/// The median and the 99th percentile of what `count` requests take, one after the other, in nanoseconds.
async fn latencies(http: &mut Http, body: &Value, count: usize) -> [u128; 2] {
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let started = tokio::time::Instant::now();
        assert_eq!(http.infer("m", body).await.status, 200);
        took.push(started.elapsed().as_nanos());
    }
    took.sort_unstable();
    [took[count / 2], took[count * 99 / 100]]
}

/// The latencies that the scheduler of version 2 has learned.
async fn learned(http: &mut Http) -> Value {
    http.get("/v2/models/m/versions/2/stats").await.json()["model_stats"][0]["learned"]["latency"].clone()
}

/// Asks a slow model beside a shadow that is as slow, on one core in all, which the live version needs for each request: it takes too long
/// to run in place. Both execute with so many threads. Gives the server.
async fn beside_a_slow_shadow(threads: usize) -> Server {
    let settings = format!(
        "versions = \"all\"\nweight = 1\nthreads = {threads}\ninstances = 1\nmax_batch_size = 1\nruntime = \"identity\"\n\
         execute_time = \"5ms\"\n[[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 4]\n"
    );
    let models = Models::new().with_toml("m", &settings);
    for version in 1..=2 {
        std::fs::create_dir_all(models.path().join(format!("m/{version}"))).unwrap();
    }
    let server = Server::with(&models, |config| config.repository.cores = 1).await;
    let mut http = server.http().await;
    let body = json_body(&named([("x", tensor([1, 4], [1_f32; 4]))]));
    set(&mut http, json!({ "weights": { "1": 1 } })).await;
    let before = learned(&mut http).await;
    let alone = latencies(&mut http, &body, 100).await;
    set(&mut http, json!({ "weights": { "1": 1 }, "shadow": { "version": 2, "share": 1 } })).await;
    let beside = latencies(&mut http, &body, 100).await;
    println!("median and 99th percentile in ns: {alone:?} alone, {beside:?} beside a shadow");
    // What is left over when the others are done is enough for it; such runs tell nothing of how long others would take.
    shadowed(&mut http, "agreed", 1).await;
    assert_eq!(learned(&mut http).await, before);
    // Each was answered, and nobody was refused for it.
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum(names::REQUESTS, &[("model", "m"), ("version", "1"), ("kind", "ok")]), 200.0);
    server
}

/// Looks that no copy was broken off, which they are where idle time is not free.
async fn none_was_broken_off(server: &Server) {
    if idle_time_is_free() {
        let shadow = told(&mut server.http().await).await["shadow"].clone();
        assert_eq!(shadow["not_run"], json!(0), "{shadow}");
    } else {
        shadowed(&mut server.http().await, "not_run", 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_shadow_leaves_its_core_to_requests_and_is_not_broken_off() {
    none_was_broken_off(&beside_a_slow_shadow(1).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_shadow_with_threads_of_its_own_is_loaded_once_more_on_one_and_not_broken_off() {
    none_was_broken_off(&beside_a_slow_shadow(2).await).await;
}
