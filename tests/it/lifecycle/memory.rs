//! Memory of models that are gone is free again.

use crate::support::{Http, Models, Process, models};

/// Loads and unloads the model; gives what is resident after each time, in KiB.
async fn load_and_unload(process: &Process, http: &mut Http, times: usize) -> Vec<usize> {
    let mut resident = Vec::with_capacity(times);
    for _ in 0..times {
        for call in ["load", "unload"] {
            let answer = http.post(&format!("/v2/repository/models/digits/{call}"), "").await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        resident.push(process.resident());
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
    // How many threads and arenas are about differs from one moment to the next, by some MB; a leak only ever adds. So the
    // most of the first loads is the measure for the least of the last.
    let early = load_and_unload(&process, &mut http, 20).await.into_iter().max().unwrap();
    load_and_unload(&process, &mut http, 160).await;
    let late = load_and_unload(&process, &mut http, 20).await.into_iter().min().unwrap();
    assert!(late * 10 <= early * 11, "{early} KiB in the first 20 loads, {late} KiB after 180");
}
