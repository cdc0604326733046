//! `tensorgate check`: everything that is wrong, at once.

use super::run;
use crate::support::Models;

#[tokio::test]
async fn a_sound_repository_has_no_faults() {
    let models = Models::of(&["identity_fp32", "scalar"]).with_toml("scalar", "slo = \"50ms\"");
    let ended = run(&["check", models.argument()]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.output.ends_with("2 models, 0 faults, 0 warnings\n"), "{ended:?}");
}

#[tokio::test]
async fn every_fault_of_a_repository_is_listed_at_once() {
    let models = Models::of(&["identity_fp32", "garbage", "unknown_op", "loads_but_cannot_run"])
        .with_toml("typo", "max_bach_size = 4\nslo = 50\n")
        .with_pbtxt("lapse", "name: \"other\"\nmax_batch_size: -1\nplatform: \"tensorflow_savedmodel\"\n")
        .with_toml("dreamer", "versions = [9]")
        .with("dreamer", "identity_fp32");
    std::fs::create_dir_all(models.path().join("hollow/1")).unwrap();
    let ended = run(&["check", models.argument()]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for fault in [
        "garbage/1/model.onnx",
        "NoSuchOperator",
        "loads_but_cannot_run",
        "did you mean 'max_batch_size'?",
        "slo",
        "'other' must equal",
        "max_batch_size: expected a whole number",
        "tensorflow_savedmodel",
        "version 9",
        "hollow/1",
    ] {
        let listed = ended.output.lines().any(|line| line.starts_with("fault: ") && line.contains(fault));
        assert!(listed, "no fault names {fault}: {}", ended.output);
    }
    assert!(!ended.output.contains("fault: identity_fp32"), "{}", ended.output);
    assert!(ended.output.lines().all(|line| !line.is_empty()), "{}", ended.output);
}

#[tokio::test]
async fn what_is_served_all_the_same_is_a_warning() {
    let models = Models::of(&["identity_fp32"]).with_pbtxt("identity_fp32", "response_cache { enable: true }");
    let ended = run(&["check", models.argument()]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let warned =
        ended.output.lines().any(|line| line.starts_with("warning: identity_fp32: ") && line.contains("cache"));
    assert!(warned && ended.output.ends_with("1 models, 0 faults, 1 warnings\n"), "{ended:?}");
}

#[tokio::test]
async fn a_repository_that_is_not_there_and_nothing_at_all_are_faults() {
    let models = Models::of(&["garbage"]);
    let ended = run(&["check", "/no/such/repository", models.argument()]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.output.contains("fault: ") && ended.output.contains("/no/such/repository"), "{ended:?}");
    // One fault does not hide the next.
    assert!(ended.output.contains("fault: garbage version 1: "), "{ended:?}");
    let ended = run(&["check"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.output.contains("nothing to check"), "{ended:?}");
}

#[tokio::test]
async fn a_model_given_in_place_of_its_repository_is_noticed() {
    let models = Models::of(&["scalar"]).with_toml("scalar", "slo = \"50ms\"");
    let ended = run(&["check", models.path().join("scalar").to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.output.contains("looks like one model") && ended.output.contains("--model-dir"), "{ended:?}");
}

#[tokio::test]
async fn every_fault_of_the_configuration_is_listed_at_once() {
    let ended =
        run(&["check", "--body-max", "much", "--head-timeout", "soon", "--log-format", "xml", "ftp://b/m"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for key in ["REPOSITORY", "--body-max", "--head-timeout", "--log-format"] {
        assert!(ended.output.contains(&format!("fault: {key}: ")), "{key}: {ended:?}");
    }
    assert!(ended.output.contains("4 faults"), "{ended:?}");
}

#[tokio::test]
async fn a_single_model_is_checked_as_it_would_be_served() {
    let models = Models::of(&["garbage", "scalar"]);
    let directory = |model: &str| models.path().join(model).to_str().unwrap().to_owned();
    let sound = run(&["check", "--model-name", "m", "--model-dir", &directory("scalar")]).await;
    assert_eq!(sound.code, Some(0), "{sound:?}");
    let broken = run(&["check", "--model-name", "m", "--model-dir", &directory("garbage")]).await;
    assert_eq!(broken.code, Some(1), "{broken:?}");
    assert!(broken.output.contains("fault: m version 1: "), "{broken:?}");
    let missing = run(&["check", "--model-name", "m", "--model-dir", "/no/such/directory"]).await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.output.contains("/no/such/directory"), "{missing:?}");
}

#[tokio::test]
async fn padding_of_what_cannot_be_padded_is_a_fault_that_says_why() {
    let pad = |name: &str, value: &str| format!("[[inputs]]\nname = \"{name}\"\npad = {value}\n");
    let models = Models::of(&["masked_encoder", "identity_bytes", "many_outputs", "identity_uint8", "unmasked_mean"])
        .with_toml("masked_encoder", &pad("ids", "0"))
        .with_toml("identity_bytes", &pad("x", "0"))
        .with_toml("many_outputs", &pad("x", "0"))
        .with_toml("identity_uint8", &pad("x", "256"))
        .with_toml("unmasked_mean", &pad("input_ids", "\"zero\""));
    let ended = run(&["check", models.argument()]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for (model, why) in [
        ("masked_encoder", "the settings declare input 'ids', but the model has input_ids, attention_mask"),
        ("identity_bytes", "strings cannot be padded"),
        ("many_outputs", "no dimension behind the first is dynamic"),
        ("identity_uint8", "pad input 'x' with 256, but it is x UINT8[-1,-1]: UINT8 has no such value"),
        ("unmasked_mean", "inputs[0].pad: expected a number"),
    ] {
        let fault = format!("fault: {model}");
        let listed = ended.output.lines().any(|line| line.starts_with(&fault) && line.contains(why));
        assert!(listed, "{model}: {}", ended.output);
    }
}
