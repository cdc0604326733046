//! Triton's `config.pbtxt` in our words, so that its model repositories can be served as they are.
//!
//! Field names and meanings are those of Triton's `model_config.proto` and its model configuration guide. What tunes
//! speed but is learned here (preferred batch sizes, graph optimisation, warm-up requests) is not needed: it is
//! dropped, with a warning where a person may miss it. What would change answers (another engine, sequences, ensembles,
//! batch inputs, decoupled responses) is a fault.

mod fields;
mod instances;
mod json;
mod tensors;
#[cfg(test)]
mod tests;

use std::num::{NonZeroU16, NonZeroUsize};
use std::time::Duration;

use super::{Fault, ModelSettings, Parsed, RuntimeChoice, VersionPolicy, check_priorities, check_tensors, inner_file};
use crate::model::{Version, pbtxt};
use fields::{Fields, Notes, boolean, choice, natural, positive, text};

/// Fields that we do without, and what a person who set them should know.
const UNUSED: [(&str, &str); 8] = [
    ("optimization", "not used: the runtime's own defaults apply"),
    ("model_warmup", "not used: every version is warmed up by a run of its own before it is ready"),
    ("model_repository_agents", "not run"),
    ("cc_model_filenames", "not used: the same file is loaded on every machine"),
    ("metric_tags", "not put on metrics"),
    ("model_metrics", "not used: metrics keep their own buckets"),
    ("model_operations", "not loaded: libraries of custom operators are not supported"),
    ("runtime", "not used: 'backend' alone chooses the engine"),
];

/// Fields without which the model would give other answers.
const REFUSED: [(&str, &str); 4] = [
    (
        "sequence_batching",
        "not served: requests are independent here, a model that keeps state between them is not supported",
    ),
    ("ensemble_scheduling", "not served: ensembles are not supported, serve each of their models by itself"),
    ("batch_input", "not served: inputs that the server computes from a batch are not supported"),
    ("batch_output", "not served: outputs that the server splits by a batch's inputs are not supported"),
];

/// Reads the text of a `config.pbtxt` of the model called `model_name`.
pub(super) fn read(text: &str, model_name: &str) -> Result<Parsed, Vec<Fault>> {
    let message =
        pbtxt::parse(text).map_err(|error| vec![Fault::new(format!("line {}", error.line), error.message)])?;
    read_message(&message, 1, model_name)
}

/// Reads the same message in protobuf's JSON form.
pub(super) fn read_json(text: &str, model_name: &str) -> Result<Parsed, Vec<Fault>> {
    let message = json::parse(text).map_err(|message| vec![Fault::new("config", message)])?;
    read_message(&message, 0, model_name)
}

/// Reads a message that begins in `line`; 0 where it has no lines.
fn read_message(message: &pbtxt::Message, line: usize, model_name: &str) -> Result<Parsed, Vec<Fault>> {
    let mut notes = Notes::default();
    let mut root = Fields::root(message, line);
    let settings = settings(&mut root, model_name, &mut notes);
    root.finish(&mut notes);
    let (mut faults, warnings) = notes.finish();
    faults.extend(check_priorities(&settings));
    check_tensors("input", &settings, &settings.inputs, &mut faults);
    check_tensors("output", &settings, &settings.outputs, &mut faults);
    if faults.is_empty() { Ok(Parsed { settings, warnings }) } else { Err(faults) }
}

fn settings(root: &mut Fields<'_>, model_name: &str, notes: &mut Notes) -> ModelSettings {
    // Triton's own rule. A copied directory with the old name inside is a mistake to see now, not in a client's error.
    let name = root.read("name", notes, text).filter(|name| !name.is_empty() && *name != model_name);
    if let Some(name) = name {
        root.fault("name", notes, format!("'{name}' must equal the name of the model's directory, '{model_name}'"));
    }
    let mut settings = ModelSettings {
        runtime: runtime(root, notes),
        max_batch_rows: root.read("max_batch_size", notes, natural),
        version_policy: version_policy(root, notes),
        model_file: root
            .read("default_model_filename", notes, |value| match text(value)? {
                "" => Ok(None),
                file => inner_file(file).map(Some),
            })
            .flatten(),
        ..ModelSettings::default()
    };
    instances::read(root, &mut settings, notes);
    settings.inputs = tensors::inputs(root, settings.max_batch_rows, notes);
    settings.outputs = tensors::outputs(root, settings.max_batch_rows, notes);
    dynamic_batching(root, &mut settings, notes);
    parameters(root, &mut settings, notes);
    if let Some(mut cache) = root.nested("response_cache", notes) {
        // Triton's caches have one bound for all models, as ours have too.
        let enabled = cache.read("enable", notes, boolean) == Some(true);
        settings.response_cache = enabled.then_some(NonZeroUsize::MAX);
        cache.finish(notes);
    }
    if let Some(mut policy) = root.nested("model_transaction_policy", notes) {
        if policy.read("decoupled", notes, boolean) == Some(true) {
            policy.fault("decoupled", notes, "not served: every request has exactly one response here");
        }
        policy.finish(notes);
    }
    for (name, why) in UNUSED {
        root.ignore(name, notes, why);
    }
    for (name, why) in REFUSED {
        if root.each(name).next().is_some() {
            root.fault(name, notes, why);
        }
    }
    settings
}

/// The engine. Triton wants `platform` (its old word) or `backend`, or derives one from the file's name; where both are
/// given, both must be one that we serve.
fn runtime(root: &mut Fields<'_>, notes: &mut Notes) -> RuntimeChoice {
    let mut chosen = RuntimeChoice::Auto;
    for name in ["platform", "backend"] {
        match root.read(name, notes, text) {
            None | Some("" | "onnxruntime" | "onnxruntime_onnx") => {}
            Some("identity") => chosen = RuntimeChoice::Identity,
            // Not Triton's: what this server tells of a model that runs on it.
            Some("tract" | "tract_onnx") => chosen = RuntimeChoice::Tract,
            Some("candle" | "candle_safetensors") => chosen = RuntimeChoice::Candle,
            // `ensemble_scheduling` says it, unless it is missing.
            Some("ensemble") if root.has("ensemble_scheduling") => {}
            Some(other) => {
                let message = "is not served here: export the model to ONNX (platform \"onnxruntime_onnx\", \
                               backend \"onnxruntime\")";
                root.fault(name, notes, format!("'{other}' {message}"));
            }
        }
    }
    chosen
}

/// `latest { num_versions: 2 }`, `all { }` or `specific { versions: [1, 3] }`.
fn version_policy(root: &mut Fields<'_>, notes: &mut Notes) -> VersionPolicy {
    let Some(mut policy) = root.nested("version_policy", notes) else {
        return VersionPolicy::default();
    };
    let mut choices = Vec::new();
    if let Some(mut latest) = policy.nested("latest", notes) {
        let count = latest.read("num_versions", notes, positive).unwrap_or(NonZeroUsize::MIN);
        latest.finish(notes);
        choices.push(VersionPolicy::Latest(count));
    }
    if let Some(all) = policy.nested("all", notes) {
        all.finish(notes);
        choices.push(VersionPolicy::All);
    }
    if let Some(mut specific) = policy.nested("specific", notes) {
        let mut versions = specific.read_each("versions", notes, |value| {
            let number = u64::try_from(positive(value)?.get()).map_err(|error| error.to_string())?;
            Version::new(number).ok_or_else(|| "expected a version of at least 1".to_owned())
        });
        versions.sort_unstable();
        versions.dedup();
        if !specific.has("versions") {
            specific.fault("versions", notes, "names no version");
        }
        specific.finish(notes);
        choices.push(VersionPolicy::Specific(versions));
    }
    if choices.len() > 1 {
        root.fault("version_policy", notes, "give only one of latest, all and specific");
    }
    policy.finish(notes);
    choices.pop().unwrap_or_default()
}

fn dynamic_batching(root: &mut Fields<'_>, settings: &mut ModelSettings, notes: &mut Notes) {
    let Some(mut batching) = root.nested("dynamic_batching", notes) else {
        return;
    };
    settings.max_queue_delay = batching.read("max_queue_delay_microseconds", notes, natural).map(micros);
    // Not needed: batch sizes follow from the latency curve that is learned while serving. Responses of one connection
    // keep their order anyhow.
    for name in ["preferred_batch_size", "preserve_ordering"] {
        batching.skip(name);
    }
    // Zero means none, here and below.
    let mut level = |name| batching.read(name, notes, level).flatten();
    settings.priority_levels = level("priority_levels");
    settings.default_priority_level = level("default_priority_level").filter(|_| settings.priority_levels.is_some());
    for mut entry in batching.nested_each("priority_queue_policy", notes) {
        priority_policy(&mut entry, settings, notes);
        entry.finish(notes);
    }
    if let Some(mut policy) = batching.nested("default_queue_policy", notes) {
        settings.queue_max = policy.read("max_queue_size", notes, natural).filter(|&most| most > 0);
        let timeout = policy.read("default_timeout_microseconds", notes, natural).filter(|&timeout| timeout > 0);
        settings.queue_timeout = timeout.map(micros);
        settings.late_is_delayed =
            policy.read("timeout_action", notes, |value| choice(value, &ACTIONS)).unwrap_or_default();
        // A request may always bring a deadline of its own.
        policy.skip("allow_timeout_override");
        policy.finish(notes);
    }
    batching.finish(notes);
}

/// Whether what waited too long is delayed.
const ACTIONS: [(&str, i128, bool); 2] = [("REJECT", 0, false), ("DELAY", 1, true)];

/// A level of priorities; zero is none.
fn level(value: &pbtxt::Value) -> Result<Option<NonZeroU16>, String> {
    let number = natural(value)?;
    let level = u16::try_from(number).map_err(|_| format!("{number} is too many, at most {} are served", u16::MAX))?;
    Ok(NonZeroU16::new(level))
}

/// The queue policy of one priority: its time-out is honoured, bounds of single levels are not kept.
fn priority_policy(entry: &mut Fields<'_>, settings: &mut ModelSettings, notes: &mut Notes) {
    let level = entry.read("key", notes, level).flatten();
    let Some(mut policy) = entry.nested("value", notes) else { return };
    let timeout = policy.read("default_timeout_microseconds", notes, natural).filter(|&timeout| timeout > 0);
    settings.priority_timeouts.extend(level.zip(timeout.map(micros)));
    policy.ignore("max_queue_size", notes, "not used: default_queue_policy bounds the requests of all levels together");
    policy.ignore("timeout_action", notes, "not used: that of default_queue_policy holds for all levels");
    policy.skip("allow_timeout_override");
    policy.finish(notes);
}

fn micros(count: usize) -> Duration {
    Duration::from_micros(count.try_into().unwrap_or(u64::MAX))
}

/// The map `parameters { key: "..." value { string_value: "..." } }`, whose keys belong to the backend.
fn parameters(root: &mut Fields<'_>, settings: &mut ModelSettings, notes: &mut Notes) {
    for mut entry in root.nested_each("parameters", notes) {
        let key = entry.read("key", notes, text).unwrap_or_default();
        let mut nested = entry.nested("value", notes);
        let value = nested.as_mut().and_then(|value| value.read("string_value", notes, text)).unwrap_or_default();
        let number =
            || value.trim().parse::<u32>().map_err(|_| format!("{key}: expected a whole number, got '{value}'"));
        let result = match (key, settings.runtime) {
            // ONNX Runtime's default, spelled out.
            ("intra_op_thread_count", _) => number().map(|count| settings.threads = NonZeroUsize::new(count as usize)),
            ("execute_delay_ms", RuntimeChoice::Identity) => {
                number().map(|delay| settings.execute_time = Duration::from_millis(delay.into()))
            }
            _ => {
                entry.warn("key", notes, format!("the parameter '{key}' is not used"));
                Ok(())
            }
        };
        if let Err(message) = result {
            entry.fault("value", notes, message);
        }
        if let Some(value) = nested {
            value.finish(notes);
        }
        entry.finish(notes);
    }
}
