//! `tensorgate profile`: what a model takes by batch size.

use serde_json::Value;
use tempfile::TempDir;

use super::run;
use crate::support::Models;
use crate::support::process::{command, run_to_end};

#[tokio::test]
async fn a_profile_is_a_table_and_a_chart_in_plain_signs_with_the_capacity() {
    let models = Models::of(&["identity_fp32"]);
    let ended = run(&["profile", "identity_fp32", models.argument(), "--rows-max", "2", "--slo", "80ms"]).await;
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""), "{ended:?}");
    for told in ["identity_fp32 version 1 on ", "objective 80ms", "ROWS/S", "#", "Capacity within 80ms: "] {
        assert!(ended.output.contains(told), "no '{told}' in {}", ended.output);
    }
    assert!(ended.output.is_ascii(), "{}", ended.output);
}

#[tokio::test]
async fn a_profile_in_json_has_every_size_and_is_kept_for_serving() {
    let (models, state) = (Models::of(&["identity_fp32"]), TempDir::new().unwrap());
    let arguments = ["profile", "identity_fp32", models.argument(), "--rows-max", "3", "--json"];
    let ended = run_to_end(command(&arguments).env("TENSORGATE_STATE_DIR", state.path())).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let found: Value = serde_json::from_str(&ended.output).unwrap();
    let sizes = found["sizes"].as_array().unwrap();
    assert_eq!(sizes.iter().map(|size| size["rows"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    for size in sizes {
        assert!(size["p50_seconds"].as_f64().unwrap() <= size["p95_seconds"].as_f64().unwrap(), "{size}");
        assert!(size["runs"].as_u64().unwrap() >= 3 && size["rows_per_second"].as_f64().unwrap() > 0.0, "{size}");
    }
    assert!(found["capacity"]["rows_per_second"].as_f64().unwrap() > 0.0, "{found}");
    let kept = std::fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    assert!(kept.len() == 1 && std::fs::read_to_string(&kept[0]).unwrap().contains("work 3 "), "{kept:?}");
}

#[tokio::test]
async fn a_model_that_is_not_joined_is_measured_with_one_row_and_says_why() {
    let models = Models::of(&["batch_mean"]);
    let ended = run(&["profile", "batch_mean", models.argument()]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.output.contains("Requests are not joined: "), "{}", ended.output);
    // A single model, as serving takes it.
    let directory = models.path().join("batch_mean/1");
    let ended = run(&["profile", "mine", "--model-dir", directory.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.output.starts_with("mine version 1 "), "{}", ended.output);
}

#[tokio::test]
async fn what_cannot_be_measured_says_why() {
    let models = Models::of(&["identity_fp32", "garbage"]);
    for (arguments, code, told) in [
        (&["profile", "identity_fp", models.argument()][..], 1, "did you mean 'identity_fp32'?"),
        (&["profile", "garbage", models.argument()], 1, "garbage/1/model.onnx"),
        (&["profile", "m", "/no/such/repository"], 1, "/no/such/repository"),
        (&["profile", "m"], 2, "nothing to measure"),
        (&["profile"], 2, "<MODEL>"),
        (&["profile", "m", models.argument(), "--rows-max", "0"], 2, "--rows-max"),
        (&["profile", "m", models.argument(), "--slo", "0s"], 2, "--slo"),
    ] {
        let ended = run(arguments).await;
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        assert!(ended.errors.contains(told), "{arguments:?}: no '{told}' in {}", ended.errors);
        assert_eq!(ended.output, "", "{arguments:?}");
    }
}
