//! Settings files of models.

use tensorgate::model::ModelSettings;
use tensorgate::model::settings::{Fault, Parsed};

/// The bytes are a `config.pbtxt`.
pub fn config_pbtxt(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        makes_sense(ModelSettings::from_pbtxt(text, "model"));
    }
}

/// The bytes are a `model.toml`.
pub fn model_toml(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        makes_sense(ModelSettings::from_toml(text));
    }
}

fn makes_sense(read: Result<Parsed, Vec<Fault>>) {
    let settings = match read {
        Ok(Parsed { settings, .. }) => settings,
        Err(faults) => {
            assert!(!faults.is_empty(), "a refusal has a reason");
            return assert!(faults.iter().all(|fault| !fault.key.is_empty() && !fault.message.is_empty()));
        }
    };
    assert!(settings.queue_max != Some(0), "a queue has room");
    assert!(settings.slo.is_none_or(|slo| !slo.is_zero()), "an objective is above zero");
    assert!(settings.queue_timeout.is_none_or(|timeout| !timeout.is_zero()), "a time-out is above zero");
    for tensors in [&settings.inputs, &settings.outputs] {
        let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "names differ");
    }
    let stays_inside = |path: &str| !path.starts_with('/') && path.split('/').all(|part| part != "..");
    assert!(settings.model_file.as_deref().is_none_or(stays_inside), "{:?}", settings.model_file);
    assert!(settings.outputs.iter().filter_map(|output| output.labels.as_deref()).all(stays_inside));
    // Whatever can be said is said without failing.
    let _ = settings.declared();
}
