//! Memory of models that are gone is free again.

use crate::support::{Http, Models, Process, models};

async fn load_and_unload(http: &mut Http, times: usize) {
    for _ in 0..times {
        for call in ["load", "unload"] {
            let answer = http.post(&format!("/v2/repository/models/digits/{call}"), "").await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn two_hundred_loads_and_unloads_leave_no_memory_behind() {
    let repository = Models::new();
    std::fs::create_dir_all(repository.path().join("digits/1")).unwrap();
    let file = models::sample("digits", "1/model.onnx");
    std::fs::copy(file, repository.path().join("digits/1/model.onnx")).unwrap();
    let process = Process::start(&["--model-control", "explicit", repository.argument()]).await;
    let mut http = process.http().await;
    load_and_unload(&mut http, 20).await;
    let early = process.resident();
    load_and_unload(&mut http, 180).await;
    let late = process.resident();
    eprintln!("RSS {early} {late}");
    assert!(late * 10 <= early * 11, "{early} KiB after 20 loads, {late} KiB after 200");
}
