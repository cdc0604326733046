//! Repositories that are looked at again and again.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tensorgate::contract::metrics as names;

use super::{Load, row, states};
use crate::support::tensors::*;
use crate::support::{Http, Models, Server, eventually};

/// Waits until `count` more looks have ended as `outcome` says.
async fn looks(server: &Server, outcome: &str, count: usize) {
    let seen = async || server.metrics().await.sum(names::POLLS, &[("outcome", outcome)]) as usize;
    let before = seen().await;
    eventually("looks at the repository", async || (seen().await >= before + count).then_some(())).await;
}

async fn index(http: &mut Http) -> Value {
    http.post("/v2/repository/index", "").await.json()
}

/// Waits until the index has just these lines.
async fn shows(http: &mut Http, wanted: &[&str]) {
    eventually(&format!("{wanted:?}"), async || (states(&index(http).await) == wanted).then_some(())).await;
}

/// The first element of the answer to `[-1, 2]`: -1 from `identity_fp32`, 0 from `inner_shape_note`.
async fn first(http: &mut Http, model: &str) -> Value {
    http.infer(model, &json_body(&row())).await.json()["outputs"][0]["data"][0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_versions_files_and_settings_are_taken_up_as_they_come_and_go() {
    let models = Models::new().with("m", "identity_fp32");
    let server = Server::polling(&models).await;
    let mut http = server.http().await;
    shows(&mut http, &["m 1 READY"]).await;
    let load = Load::start(&server, &["m"; 3], |_| {}).await;
    // Another file in place of one that serves.
    models.put("m", 1, "inner_shape_note");
    eventually("the new file", async || (first(&mut http, "m").await == json!(0.0)).then_some(())).await;
    // A new version.
    models.put("m", 2, "identity_fp32");
    eventually("the new version", async || (first(&mut http, "m").await == json!(-1.0)).then_some(())).await;
    // Settings.
    models.write("m", "model.toml", "versions = \"all\"\nmax_batch_size = 3\n");
    shows(&mut http, &["m 1 READY", "m 2 READY"]).await;
    eventually("the new settings", async || {
        (http.get("/v2/models/m/config").await.json()["max_batch_size"] == 3).then_some(())
    })
    .await;
    // A new model, and one that goes with all that is told of it.
    models.put("n", 7, "identity_fp32");
    shows(&mut http, &["m 1 READY", "m 2 READY", "n 7 READY"]).await;
    fs::remove_dir_all(models.path().join("n")).unwrap();
    shows(&mut http, &["m 1 READY", "m 2 READY"]).await;
    assert_eq!(http.infer("n", &json_body(&row())).await.status, 404);
    assert!(!server.metrics().await.text().contains("model=\"n\""));
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_broken_is_told_and_leaves_what_serves() {
    let models = Models::new().with("m", "identity_fp32");
    let server = Server::polling(&models).await;
    let mut http = server.http().await;
    shows(&mut http, &["m 1 READY"]).await;
    let load = Load::start(&server, &["m"; 2], |_| {}).await;
    models.put("m", 2, "truncated");
    shows(&mut http, &["m 1 READY", "m 2 UNAVAILABLE"]).await;
    models.write("m", "model.toml", "max_bach_size = 3");
    let told = |index: &Value| index.to_string().contains("did you mean 'max_batch_size'?");
    eventually("the fault", async || told(&index(&mut http).await).then_some(())).await;
    looks(&server, "ok", 2).await;
    load.more(20).await;
    // Mended, it is taken up.
    models.write("m", "model.toml", "max_batch_size = 3");
    models.put("m", 2, "inner_shape_note");
    shows(&mut http, &["m 1 UNAVAILABLE", "m 2 READY"]).await;
    load.more(20).await;
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_finished_is_not_there() {
    let models = Models::new().with("m", "identity_fp32");
    let server = Server::polling(&models).await;
    let mut http = server.http().await;
    shows(&mut http, &["m 1 READY"]).await;
    // A model that is copied under another name, and a version that is.
    let copy = |from: &str, to: &str| {
        let directory = models.path().join(to);
        fs::create_dir_all(&directory).unwrap();
        fs::copy(crate::support::models::fixture(from), directory.join("model.onnx")).unwrap();
    };
    copy("inner_shape_note", "n.tmp/1");
    copy("inner_shape_note", "m/.2");
    copy("truncated", "m/3.part");
    looks(&server, "ok", 3).await;
    assert_eq!(states(&index(&mut http).await), ["m 1 READY"]);
    fs::rename(models.path().join("n.tmp"), models.path().join("n")).unwrap();
    fs::rename(models.path().join("m/.2"), models.path().join("m/2")).unwrap();
    // The version that was replaced is still on disk.
    shows(&mut http, &["m 1 UNAVAILABLE", "m 2 READY", "n 1 READY"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_that_cannot_be_read_loses_no_model() {
    let models = Models::of(&["identity_fp32"]);
    let (place, away) = (models.path().to_owned(), models.path().with_extension("away"));
    let server = Server::polling(&models).await;
    let mut http = server.http().await;
    shows(&mut http, &["identity_fp32 1 READY"]).await;
    let load = Load::start(&server, &["identity_fp32"], |_| {}).await;
    fs::rename(&place, &away).unwrap();
    looks(&server, "failed", 3).await;
    assert_eq!(states(&index(&mut http).await), ["identity_fp32 1 READY"]);
    load.more(20).await;
    fs::rename(&away, &place).unwrap();
    models.put("other", 1, "identity_fp32");
    shows(&mut http, &["identity_fp32 1 READY", "other 1 READY"]).await;
    load.stop().await;
}

/// Puts a link to `tree` where `link` is, in one step.
fn point(link: &Path, tree: &Path) {
    let new = link.with_extension("new");
    symlink(tree, &new).unwrap();
    fs::rename(&new, link).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_checkout_reloads_what_has_changed_and_nothing_else() {
    let place = TempDir::new().unwrap();
    let old = Models::of(&["scalar"]).with("m", "identity_fp32").with("n", "identity_fp32");
    let new = Models::of(&["scalar"]).with("m", "inner_shape_note").with("n", "identity_fp32");
    let current = place.path().join("current");
    point(&current, old.path());
    let server = Server::with(&Models::new(), |config| {
        config.repository.repositories = vec![current.clone()];
        config.repository.control = tensorgate::repository::Control::Poll;
        config.repository.poll_interval = std::time::Duration::from_millis(20);
        // Digests are known where learned latencies are kept.
        config.repository.state_directory = Some(place.path().join("state"));
    })
    .await;
    let mut http = server.http().await;
    shows(&mut http, &["m 1 READY", "n 1 READY", "scalar 1 READY"]).await;
    assert_eq!(first(&mut http, "n").await, json!(-1.0));
    point(&current, new.path());
    drop(old);
    eventually("the new file", async || (first(&mut http, "m").await == json!(0.0)).then_some(())).await;
    looks(&server, "ok", 3).await;
    // Counted since the load: it was not loaded anew.
    assert_eq!(first(&mut http, "n").await, json!(-1.0));
    let statistics = http.get("/v2/models/n/stats").await.json();
    assert_eq!(statistics["model_stats"][0]["inference_count"], 2);
}

#[tokio::test]
async fn callers_do_not_load_what_the_repositories_decide() {
    let models = Models::of(&["identity_fp32"]);
    let server = Server::polling(&models).await;
    let mut http = server.http().await;
    for call in ["load", "unload"] {
        let answer = http.post(&format!("/v2/repository/models/identity_fp32/{call}"), "").await;
        assert!(answer.status == 409 && answer.error().contains("--model-control poll"), "{answer:?}");
    }
}
