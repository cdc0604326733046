//! Memory of models that are gone is free again.

use crate::support::{Http, Models, Process, models};

/// KiB that a thread of tokio's blocking pool keeps in its allocators for its next work: 2300 as measured. How many threads
/// there are depends on how busy the machine is.
const THREAD_KIB: usize = 3 << 10;

/// Loads and unloads the model; gives the KiB that are resident and the threads that there are after each time.
async fn load_and_unload(process: &Process, http: &mut Http, times: usize) -> Vec<(usize, usize)> {
    let mut resident = Vec::with_capacity(times);
    for _ in 0..times {
        for call in ["load", "unload"] {
            let answer = http.post(&format!("/v2/repository/models/digits/{call}"), "").await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        resident.push((process.status("VmRSS"), process.status("Threads")));
    }
    resident
}

#[tokio::test]
async fn two_hundred_loads_and_unloads_leave_no_memory_behind() {
    let repository = Models::new();
    std::fs::create_dir_all(repository.path().join("digits/1")).unwrap();
    let file = models::sample("digits", "1/model.onnx");
    std::fs::copy(file, repository.path().join("digits/1/model.onnx")).unwrap();
    let process = Process::start(&["--model-control", "explicit", repository.argument()]).await;
    let mut http = process.http().await;
    // Memory goes up and down by some MB from one moment to the next; a leak only ever adds. So the most of the first loads
    // is the measure for the least of the last.
    let (early, early_threads) = load_and_unload(&process, &mut http, 20).await.into_iter().max().unwrap();
    load_and_unload(&process, &mut http, 160).await;
    let (late, late_threads) = load_and_unload(&process, &mut http, 20).await.into_iter().min().unwrap();
    let allowed = early * 11 / 10 + late_threads.saturating_sub(early_threads) * THREAD_KIB;
    assert!(late <= allowed, "{early} KiB with {early_threads} threads, then {late} with {late_threads}");
}
