//! A storm of clients over both doors while versions are swapped two hundred times and another model comes and goes.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::tensors::*;
use crate::support::{Grpc, Http, Models, Process};

const SWAPS: u64 = 200;

/// Swaps between two loads and unloads of the other model.
const SIDE_EVERY: u64 = 5;

/// KiB that a thread of tokio's blocking pool keeps in its allocators for its next work: 2300 as measured.
const THREAD_KIB: usize = 3 << 10;

fn row() -> Named {
    named([("x", tensor([1, 2], [-1_f32, 2.]))])
}

/// Which versions could have answered, and how the other model is.
#[derive(Default)]
struct World {
    /// The oldest version that a request which is sent now may be answered by.
    oldest: AtomicU64,
    /// The newest that there is on disk.
    newest: AtomicU64,
    /// Odd while the other model serves and nobody has asked to unload it; grows with each change.
    side: AtomicU64,
    answered: AtomicU64,
    stop: AtomicBool,
}

/// What version `version` makes of -1: odd ones are `identity_fp32`, even ones `inner_shape_note`.
fn first_of(version: u64) -> f32 {
    if version % 2 == 1 { -1.0 } else { 0.0 }
}

/// Checks that the version that answered was live between `oldest`, noted when the request was sent, and now, and that the
/// answer is its own.
fn check(world: &World, oldest: u64, version: &str, first: f32) {
    let version: u64 = version.parse().unwrap();
    let newest = world.newest.load(Ordering::SeqCst);
    assert!((oldest..=newest).contains(&version), "version {version} answered, live were {oldest} to {newest}");
    assert_eq!(first, first_of(version), "version {version}");
    world.answered.fetch_add(1, Ordering::Relaxed);
}

async fn over_http(mut http: Http, world: Arc<World>) {
    let body = json_body(&row());
    while !world.stop.load(Ordering::Relaxed) {
        let oldest = world.oldest.load(Ordering::SeqCst);
        let answer = http.infer("m", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        let first = answer["outputs"][0]["data"][0].as_f64().unwrap() as f32;
        check(&world, oldest, answer["model_version"].as_str().unwrap(), first);
    }
}

async fn over_grpc(mut grpc: Grpc, world: Arc<World>) {
    while !world.stop.load(Ordering::Relaxed) {
        let oldest = world.oldest.load(Ordering::SeqCst);
        let answer = grpc.model_infer(message("m", &row())).await.unwrap();
        let outputs = outputs_of_message(answer.get_ref());
        let first = outputs[0].1.clone().aligned().view::<f32>().unwrap()[0];
        check(&world, oldest, &answer.get_ref().model_version, first);
    }
}

/// Asks the model that comes and goes. Whoever is answered before anybody asks to unload it has an answer; the others have
/// one, or are told that it is gone.
async fn of_the_side(mut http: Http, world: Arc<World>) {
    let body = json_body(&row());
    while !world.stop.load(Ordering::Relaxed) {
        let before = world.side.load(Ordering::SeqCst);
        let answer = http.infer("side", &body).await;
        let served = before % 2 == 1 && world.side.load(Ordering::SeqCst) == before;
        let gone = answer.status == 503 && !served;
        assert!(answer.status == 200 || gone, "{answer:?}");
    }
}

async fn call(http: &mut Http, model: &str, call: &str) {
    let answer = http.post(&format!("/v2/repository/models/{model}/{call}"), "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Puts `version` in the place of the one before; gives the KiB that are resident then, and the threads.
async fn swap(models: &Models, process: &Process, http: &mut Http, world: &World, version: u64) -> (usize, usize) {
    models.put("m", version, if version % 2 == 1 { "identity_fp32" } else { "inner_shape_note" });
    world.newest.store(version, Ordering::SeqCst);
    call(http, "m", "load").await;
    // From here on nobody who asks anew is answered by an older one.
    world.oldest.store(version, Ordering::SeqCst);
    fs::remove_dir_all(models.path().join(format!("m/{}", version - 1))).unwrap();
    if version.is_multiple_of(SIDE_EVERY) {
        call(http, "side", "load").await;
        world.side.fetch_add(1, Ordering::SeqCst);
        let answer = http.infer("side", &json_body(&row())).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        world.side.fetch_add(1, Ordering::SeqCst);
        call(http, "side", "unload").await;
    }
    (process.status("VmRSS"), process.status("Threads"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_swaps_under_a_storm_fail_no_request_and_leave_no_memory_behind() {
    let models = Models::new().with("m", "identity_fp32").with("side", "identity_fp32");
    let process = Process::start(&["--model-control", "explicit", models.argument()]).await;
    let mut http = process.http().await;
    call(&mut http, "m", "load").await;
    let world = Arc::new(World { oldest: 1.into(), newest: 1.into(), ..World::default() });
    let mut storm = JoinSet::new();
    for _ in 0..4 {
        storm.spawn(over_http(process.http().await, Arc::clone(&world)));
        storm.spawn(over_grpc(process.grpc().await, Arc::clone(&world)));
    }
    storm.spawn(of_the_side(process.http().await, Arc::clone(&world)));
    let mut resident = Vec::new();
    for version in 2..=SWAPS + 1 {
        let before = world.answered.load(Ordering::Relaxed);
        resident.push(swap(&models, &process, &mut http, &world, version).await);
        crate::support::eventually("the storm to go on", async || {
            (world.answered.load(Ordering::Relaxed) > before).then_some(())
        })
        .await;
    }
    world.stop.store(true, Ordering::Relaxed);
    while let Some(client) = storm.join_next().await {
        client.unwrap();
    }
    let index = http.post("/v2/repository/index", json!({ "ready": true }).to_string()).await.json();
    assert_eq!(index, json!([{ "name": "m", "version": (SWAPS + 1).to_string(), "state": "READY" }]));
    // Memory goes up and down by some MB from one moment to the next; a leak only ever adds. So the most of the first swaps
    // is the measure for the least of the last.
    let (early, early_threads) = resident[..20].iter().copied().max().unwrap();
    let (late, late_threads) = resident[resident.len() - 20..].iter().copied().min().unwrap();
    let allowed = early * 11 / 10 + late_threads.saturating_sub(early_threads) * THREAD_KIB;
    assert!(late <= allowed, "{early} KiB with {early_threads} threads, then {late} with {late_threads}");
}
