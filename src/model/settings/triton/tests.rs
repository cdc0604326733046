//! Files as Triton's users write them, in the styles of its guides and of exported configurations.

use std::num::NonZeroUsize;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::settings::TensorDeclaration;
use crate::model::{DeviceChoice, Dim};
use crate::tensor::DataType;

fn parsed(text: &str, name: &str) -> Parsed {
    ModelSettings::from_pbtxt(text, name).unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
}

fn settings(text: &str) -> ModelSettings {
    let parsed = parsed(text, "m");
    assert_eq!(parsed.warnings, Vec::<String>::new(), "{text}");
    parsed.settings
}

fn faults(text: &str) -> Vec<String> {
    ModelSettings::from_pbtxt(text, "m").expect_err(text).iter().map(Fault::to_string).collect()
}

fn warnings(text: &str) -> Vec<String> {
    parsed(text, "m").warnings
}

fn dims(tensor: &TensorDeclaration) -> Option<Vec<i64>> {
    tensor.shape.as_ref().map(|dims| dims.iter().map(Dim::to_wire).collect())
}

#[test]
fn an_image_classifier_tuned_for_a_gpu_is_taken_over() {
    let text = r#"
name: "resnet50"
platform: "onnxruntime_onnx"
max_batch_size: 64
input [
  {
    name: "data"
    data_type: TYPE_FP32
    format: FORMAT_NCHW
    dims: [ 3, 224, 224 ]
  }
]
output [
  {
    name: "resnetv24_dense0_fwd"
    data_type: TYPE_FP32
    dims: [ 1000 ]
    label_filename: "labels.txt"
  }
]
instance_group [ { count: 2 kind: KIND_GPU gpus: [ 0, 1 ] } ]
dynamic_batching {
  preferred_batch_size: [ 8, 16, 32 ]
  max_queue_delay_microseconds: 100
}
optimization { execution_accelerators {
  gpu_execution_accelerator : [ { name : "tensorrt"
    parameters { key: "precision_mode" value: "FP16" } } ]
}}
"#;
    let Parsed { settings, warnings } = parsed(text, "resnet50");
    assert_eq!(settings.runtime, RuntimeChoice::Auto);
    assert_eq!(settings.max_batch_rows, Some(64));
    assert_eq!(settings.max_queue_delay, Some(Duration::from_micros(100)));
    assert_eq!((settings.instances, settings.device), (NonZeroUsize::new(2), DeviceChoice::Cuda(Some(0))));
    assert_eq!(settings.inputs[0].datatype, Some(DataType::Fp32));
    assert_eq!(dims(&settings.inputs[0]), Some(vec![-1, 3, 224, 224]));
    assert_eq!(dims(&settings.outputs[0]), Some(vec![-1, 1000]));
    assert_eq!(settings.outputs[0].labels.as_deref(), Some("labels.txt"));
    let expected = [
        "line 9: input[0].format: not used: the order of dimensions is as 'dims' has it",
        "line 21: instance_group[0].gpus: instances are made on GPU 0 alone: serve the model under another name for the others",
        "line 26: optimization: not used: the runtime's own defaults apply",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn a_text_encoder_with_threads_queue_bounds_and_old_versions_is_taken_over() {
    let text = r#"
    backend: "onnxruntime" # no name: Triton takes the directory's
    max_batch_size : 32
    input: [{ name: "input_ids", data_type: TYPE_INT64, dims: [ -1 ] },
            { name: "attention_mask", data_type: TYPE_INT64, dims: [ -1 ], optional: true }]
    output: { name: "embedding", data_type: TYPE_FP16, dims: [ 384 ] }
    version_policy: { latest { num_versions: 2 } }
    instance_group { count: 2, kind: KIND_CPU } instance_group { kind: KIND_AUTO }
    dynamic_batching {
        max_queue_delay_microseconds: 0
        default_queue_policy {
            timeout_action: REJECT; default_timeout_microseconds: 250000;
            allow_timeout_override: true; max_queue_size: 128
        }
    }
    default_model_filename: "encoder.onnx"
    parameters { key: "intra_op_thread_count" value: { string_value: "4" } }
    "#;
    let settings = settings(text);
    assert_eq!(settings.max_batch_rows, Some(32));
    assert_eq!(settings.version_policy, VersionPolicy::Latest(NonZeroUsize::new(2).unwrap()));
    assert_eq!(settings.instances, NonZeroUsize::new(3));
    assert_eq!(settings.max_queue_delay, Some(Duration::ZERO));
    assert_eq!(settings.queue_max, Some(128));
    assert_eq!(settings.queue_timeout, Some(Duration::from_millis(250)));
    assert_eq!(settings.model_file.as_deref(), Some("encoder.onnx"));
    assert_eq!(settings.threads, NonZeroUsize::new(4));
    assert_eq!(dims(&settings.inputs[1]), Some(vec![-1, -1]));
    assert!(settings.inputs[1].optional && !settings.inputs[0].optional);
    assert!(!settings.inputs[0].rows_open);
}

#[test]
fn a_detector_with_a_fixed_batch_is_not_batched() {
    let text = r#"name: "m"
platform: "onnxruntime_onnx"
max_batch_size: 0
input [ { name: "images" data_type: TYPE_FP32 dims: [ 1, 3, 640, 640 ] } ]
output [ { name: "output0" data_type: TYPE_FP32 dims: [ 1, 84, 8400 ] } ]
version_policy { specific { versions: [ 3, 1 ] } }
instance_group [ { kind: KIND_CPU } ]"#;
    let settings = settings(text);
    assert_eq!(settings.max_batch_rows, Some(0));
    assert_eq!(dims(&settings.inputs[0]), Some(vec![1, 3, 640, 640]));
    assert!(settings.inputs[0].rows_open);
    let versions = [1, 3].map(|number| Version::new(number).unwrap());
    assert_eq!(settings.version_policy, VersionPolicy::Specific(versions.into()));
    assert_eq!(settings.instances, NonZeroUsize::new(1));
}

#[test]
fn a_scikit_model_with_strings_and_no_batch_size_leaves_batching_to_be_found_out() {
    let text = r#"
      platform: "onnxruntime_onnx"
      input [ { name: "text" data_type: TYPE_STRING dims: [ 1 ] } ]
      output [ { name: "label" data_type: TYPE_INT64 dims: [ 1 ] reshape { shape: [ ] } } ]
      version_policy { all { } }
      parameters [
        { key: "execution_mode" value { string_value: "1" } },
        { key: 'intra_op_thread_count', value: { string_value: '0' } }
      ]
      model_warmup [ { name: "w" batch_size: 1 inputs { key: "text" value: {
        data_type: TYPE_STRING dims: [ 1 ] zero_data: true } } } ]"#;
    let Parsed { settings, warnings } = parsed(text, "tfidf");
    assert_eq!(settings.max_batch_rows, None);
    assert_eq!(settings.version_policy, VersionPolicy::All);
    assert_eq!(settings.threads, None);
    assert_eq!(settings.inputs[0].datatype, Some(DataType::Bytes));
    assert_eq!(dims(&settings.inputs[0]), Some(vec![1]));
    assert_eq!(dims(&settings.outputs[0]), Some(vec![]));
    assert!(settings.inputs[0].rows_open);
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
    assert!(warnings[0].starts_with("line 4: output[0].reshape: not applied"), "{warnings:#?}");
    assert_eq!(warnings[1], "line 7: parameters[0].key: the parameter 'execution_mode' is not used");
    assert!(warnings[2].starts_with("line 10: model_warmup: not used"), "{warnings:#?}");
}

#[test]
fn an_identity_model_of_the_benchmarks_is_taken_over() {
    let text = r#"
    name: "m" backend: "identity" max_batch_size: 64
    input { name: "INPUT0" data_type: TYPE_FP32 dims: 16 }
    output { name: "OUTPUT0" data_type: TYPE_FP32 dims: 16 }
    dynamic_batching { }
    parameters { key: "execute_delay_ms" value { string_value: "3" } }"#;
    let settings = settings(text);
    assert_eq!(settings.runtime, RuntimeChoice::Identity);
    assert_eq!(settings.execute_time, Duration::from_millis(3));
    assert_eq!(settings.max_queue_delay, None);
    assert_eq!(settings.declared().inputs[0].to_string(), "INPUT0 FP32[-1,16]");
}

#[test]
fn an_exported_configuration_full_of_defaults_gives_no_warning() {
    let text = r#"
    name: "m" platform: "" backend: "onnxruntime" runtime: ""
    version_policy { latest { num_versions: 1 } }
    max_batch_size: 8
    input { name: "x" data_type: TYPE_FP32 format: FORMAT_NONE dims: 16 is_shape_tensor: false
            allow_ragged_batch: false optional: false is_non_linear_format_io: false }
    output { name: "y" data_type: TYPE_FP32 dims: 16 label_filename: "" is_shape_tensor: false }
    optimization { priority: PRIORITY_DEFAULT gather_kernel_buffer_threshold: 0 eager_batching: false }
    dynamic_batching { preferred_batch_size: 8 preserve_ordering: false priority_levels: 0 }
    instance_group { name: "m_0" kind: KIND_CPU count: 1 passive: false host_policy: "" }
    default_model_filename: "model.onnx"
    response_cache { enable: false }
    model_transaction_policy { decoupled: false }"#;
    assert_eq!(settings(text).model_file.as_deref(), Some("model.onnx"));
}

#[test]
fn engines_that_we_do_not_have_are_faults_that_name_them() {
    for (text, name) in [
        ("platform: \"tensorrt_plan\"", "tensorrt_plan"),
        ("platform: \"pytorch_libtorch\"", "pytorch_libtorch"),
        ("backend: \"python\"", "python"),
        ("platform: \"onnxruntime_onnx\" backend: \"vllm\"", "vllm"),
        ("platform: \"ensemble\"", "ensemble"),
    ] {
        let faults = faults(text);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains(&format!("'{name}' is not served here: export the model to ONNX")), "{faults:?}");
    }
}

#[test]
fn what_would_change_answers_is_a_fault() {
    for (text, key) in [
        (
            "platform: \"ensemble\" ensemble_scheduling { step [ { model_name: \"a\" model_version: -1 } ] }",
            "ensemble_scheduling",
        ),
        ("sequence_batching { max_sequence_idle_microseconds: 5000000 }", "sequence_batching"),
        ("batch_input { kind: BATCH_ELEMENT_COUNT target_name: \"n\" }", "batch_input"),
        ("model_transaction_policy { decoupled: True }", "model_transaction_policy.decoupled"),
    ] {
        let faults = faults(text);
        assert!(faults.len() == 1 && faults[0].starts_with(&format!("line 1: {key}: not served")), "{faults:?}");
    }
}

#[test]
fn every_wrong_value_is_a_fault_with_its_line() {
    let text = r#"name: "other"
max_batch_size: -1
max_batch_size: 2
input { data_type: TYPE_FLOAT dims: [ 3, 0 ] }
input { name: 'x' dims: 1 }
input { name: 'x' dims: 1 }
instance_group [ { count: "2" }, 3 ]
version_policy { all { } specific { } }
default_model_filename: "/etc/passwd"
dynamic_batching { max_queue_delay_microseconds: 1.5 }
parameters { key: "intra_op_thread_count" value { string_value: "many" } }"#;
    let expected = [
        "line 1: name: 'other' must equal the name of the model's directory, 'm'",
        "line 2: max_batch_size: expected a whole number of at least zero, got the number -1",
        "line 3: max_batch_size: given twice, first in line 2",
        "line 4: input[0].name: missing",
        "line 4: input[0].data_type: expected one of TYPE_BOOL, TYPE_UINT8",
        "line 4: input[0].dims: expected a size of at least 1, or -1 for any",
        "line 7: instance_group[0].count: expected a whole number of at least zero, got a string",
        "line 7: instance_group[1]: expected a message in braces, got the number 3",
        "line 8: version_policy.specific.versions: names no version",
        "line 8: version_policy: give only one of",
        "line 9: default_model_filename: '/etc/passwd' must be a relative path",
        "line 10: dynamic_batching.max_queue_delay_microseconds: expected a whole number",
        "line 11: parameters[0].value: intra_op_thread_count: expected a whole number, got 'many'",
        "input[1].name: 'x' is declared twice",
    ];
    let faults = faults(text);
    for expected in expected {
        assert!(faults.iter().any(|fault| fault.starts_with(expected)), "{expected} in {faults:#?}");
    }
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    assert_eq!(self::faults("name: \"m\"\ninput [\n"), ["line 3: expected a value, got the end"]);
}

#[test]
fn unknown_and_unused_fields_are_warnings_with_their_line() {
    let text = "max_batch_size: 4\nmax_batch: 4\ninput {\n name: 'x' dim: 3\n allow_ragged_batch: true }\n\
        dynamic_batching { priority_levels: 2 default_queue_policy { timeout_action: DELAY } }\n\
        response_cache { enable: true }\n[a.b] { c: 1 }\ninstance_group { count: 2 kind: KIND_CPU passive: true }";
    let warnings = warnings(text);
    let expected = [
        "line 2: max_batch: unknown field, not used",
        "line 4: input[0].dim: unknown field, not used",
        "line 5: input[0].allow_ragged_batch: not supported",
        "line 8: [a.b]: unknown field, not used",
        "line 9: instance_group[0].passive: passive instances are not made",
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
    for (warning, expected) in warnings.iter().zip(expected) {
        assert!(warning.starts_with(expected), "{expected} in {warnings:#?}");
    }
}

#[test]
fn enums_may_be_numbers_and_dims_may_be_repeated() {
    let settings = settings("max_batch_size: 0x2 input { name: 'x' data_type: 11 dims: 3 dims: 4 }");
    assert_eq!(settings.inputs[0].datatype, Some(DataType::Fp32));
    assert_eq!(dims(&settings.inputs[0]), Some(vec![-1, 3, 4]));
    assert_eq!(parsed("input { name: 'x' }", "m").settings.inputs[0].shape, None);
}

proptest! {
    #[test]
    fn no_soup_of_known_fields_makes_the_mapping_panic(words in prop::collection::vec(
        prop::sample::select(vec![
            "name:", "platform:", "max_batch_size:", "input", "output", "dims:", "data_type:", "reshape", "shape:",
            "instance_group", "count:", "kind:", "KIND_GPU", "gpus:", "version_policy", "specific", "versions:", "latest", "dynamic_batching",
            "default_queue_policy", "max_queue_size:", "default_timeout_microseconds:", "parameters", "key:", "value",
            "string_value:", "{", "}", "[", "]", ",", "1", "-1", "0", "18446744073709551615", "1e300", "'identity'",
            "'intra_op_thread_count'", "'4294967296'", "TYPE_FP32", "true",
        ]),
        0..40,
    )) {
        let _ = ModelSettings::from_pbtxt(&words.join(" "), "m");
    }

    #[test]
    fn no_object_of_known_fields_makes_the_mapping_panic(text in any_object(4)) {
        let _ = ModelSettings::from_config_json(&text, "m");
    }
}

/// A JSON object of fields that mean something somewhere, with values of all kinds.
fn any_object(depth: u32) -> impl Strategy<Value = String> {
    const NAMES: [&str; 16] = [
        "name",
        "max_batch_size",
        "maxBatchSize",
        "input",
        "output",
        "dims",
        "data_type",
        "reshape",
        "shape",
        "parameters",
        "instance_group",
        "version_policy",
        "specific",
        "versions",
        "dynamic_batching",
        "default_queue_policy",
    ];
    const VALUES: [&str; 10] =
        ["null", "true", "-1", "0", "1.5", "1e300", "18446744073709551615", "\"TYPE_FP32\"", "\"7\"", "\"m\""];
    let value = prop::sample::select(VALUES.to_vec()).prop_map(String::from);
    let object = |value: BoxedStrategy<String>| {
        let field =
            (prop::sample::select(NAMES.to_vec()), value).prop_map(|(name, value)| format!("\"{name}\":{value}"));
        prop::collection::vec(field, 0..6).prop_map(|fields| format!("{{{}}}", fields.join(",")))
    };
    let nested = value.prop_recursive(depth, 64, 6, move |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(",")));
        prop_oneof![object(inner.boxed()), list]
    });
    object(nested.boxed())
}

fn from_json(text: &str) -> Result<Parsed, Vec<String>> {
    ModelSettings::from_config_json(text, "m").map_err(|faults| faults.iter().map(Fault::to_string).collect())
}

#[test]
fn a_configuration_in_json_means_what_it_means_as_text() {
    let text = r#"
        name: "m" backend: "onnxruntime" max_batch_size: 8 version_policy { specific { versions: [1, 3] } }
        input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] optional: true } ]
        output [ { name: "y" data_type: TYPE_STRING dims: [ 1 ] label_filename: "labels.txt" } ]
        instance_group [ { count: 2 kind: KIND_CPU } ]
        dynamic_batching { max_queue_delay_microseconds: 250 default_queue_policy { max_queue_size: 7 } }
        parameters { key: "intra_op_thread_count" value { string_value: "3" } }
    "#;
    let json = r#"{
        "name": "m", "backend": "onnxruntime", "max_batch_size": 8.0, "versionPolicy": { "specific": { "versions": ["1", 3] } },
        "input": [ { "name": "x", "data_type": "TYPE_FP32", "dims": ["3", "-1"], "optional": true, "reshape": null } ],
        "output": [ { "name": "y", "dataType": 13, "dims": [1], "label_filename": "labels.txt" } ],
        "instance_group": [ { "count": 2, "kind": "KIND_CPU" } ],
        "dynamic_batching": {
            "max_queue_delay_microseconds": "250", "default_queue_policy": { "max_queue_size": 7 }
        },
        "parameters": { "intra_op_thread_count": { "string_value": "3" } }
    }"#;
    assert_eq!(from_json(json).unwrap(), parsed(text, "m"));
    assert_eq!(from_json("{}").unwrap(), parsed("", "m"));
}

#[test]
fn faults_and_warnings_of_json_name_the_field() {
    let warnings = from_json(r#"{ "max_batch_sise": 8, "model_warmup": [], "optimization": { "priority": 1 } }"#);
    let warnings = warnings.unwrap().warnings;
    assert!(warnings.contains(&"config: max_batch_sise: unknown field, not used".into()), "{warnings:?}");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for (text, fault) in [
        ("[]", "config: not a JSON object"),
        ("{", "config: not a JSON object"),
        (r#"{ "name": "other" }"#, "config: name: 'other' must equal"),
        (r#"{ "max_batch_size": "many" }"#, "config: max_batch_size: expected a whole number"),
        (r#"{ "max_batch_size": [1, 2] }"#, "config: max_batch_size: given twice"),
        (r#"{ "input": [ { "name": "x", "dims": [[1]] } ] }"#, "dims: expected a size of at least 1"),
        (r#"{ "input": [ { "name": "x", "data_type": "FP32" } ] }"#, "data_type: expected one of TYPE_BOOL"),
        (r#"{ "backend": "python" }"#, "config: backend: 'python' is not served here"),
        (r#"{ "sequence_batching": {} }"#, "config: sequence_batching: not served"),
        (r#"{ "default_model_filename": "../model.onnx" }"#, "must be a relative path"),
    ] {
        let faults = from_json(text).expect_err(text);
        assert!(faults.iter().any(|found| found.contains(fault)), "{text}: {faults:?}");
    }
}

#[test]
fn the_engines_that_a_configuration_told_names_are_known() {
    for (platform, backend, choice) in [
        ("onnxruntime_onnx", "onnxruntime", RuntimeChoice::Auto),
        ("tract_onnx", "tract", RuntimeChoice::Tract),
        ("identity", "identity", RuntimeChoice::Identity),
    ] {
        let text = format!(r#"{{ "platform": "{platform}", "backend": "{backend}" }}"#);
        assert_eq!(from_json(&text).unwrap().settings.runtime, choice, "{text}");
    }
}

#[test]
fn priorities_and_what_happens_after_a_wait_are_tritons() {
    let text = "dynamic_batching {\n priority_levels: 3 default_priority_level: 2\n\
        default_queue_policy { timeout_action: DELAY max_queue_size: 9 }\n\
        priority_queue_policy { key: 1 value { default_timeout_microseconds: 500 allow_timeout_override: true } }\n\
        priority_queue_policy { key: 3 value { max_queue_size: 4 timeout_action: DELAY } } }\n\
        instance_group { count: 1 rate_limiter { priority: 4 resources { name: 'r' count: 1 } } }";
    let Parsed { settings, warnings } = ModelSettings::from_pbtxt(text, "m").unwrap();
    assert_eq!(settings.priority_levels.map(|levels| levels.get()), Some(3));
    assert_eq!(settings.priority_default(), Some(2));
    assert!(settings.late_is_delayed);
    let timeouts = settings.priority_timeouts.iter().map(|(level, timeout)| (level.get(), *timeout));
    assert_eq!(timeouts.collect::<Vec<_>>(), [(1, Duration::from_micros(500))]);
    assert_eq!(settings.weight.map(|weight| weight.get()), Some(250));
    let expected = ["priority_queue_policy[1].value.max_queue_size", "value.timeout_action", "rate_limiter.resources"];
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
    for (warning, expected) in warnings.iter().zip(expected) {
        assert!(warning.contains(expected), "{expected} in {warnings:#?}");
    }
    let json = r#"{ "dynamic_batching": { "priority_levels": "3", "priorityQueuePolicy": { "2": {
        "default_timeout_microseconds": "70" } } } }"#;
    let settings = ModelSettings::from_config_json(json, "m").unwrap().settings;
    assert_eq!(settings.priority_timeouts[0].1, Duration::from_micros(70));
    for wrong in ["priority_levels: 2 default_priority_level: 3", "priority_levels: 99999"] {
        let faults = ModelSettings::from_pbtxt(&format!("dynamic_batching {{ {wrong} }}"), "m").unwrap_err();
        assert!(faults.len() == 1 && faults[0].to_string().contains("level"), "{faults:?}");
    }
}

#[test]
fn the_kind_of_instances_says_where_they_run() {
    let group = |text: &str| {
        let Parsed { settings, warnings } = parsed(text, "m");
        (settings.device, settings.instances.map(NonZeroUsize::get), warnings)
    };
    for (text, device, instances) in [
        ("", DeviceChoice::Auto, None),
        ("instance_group { count: 3 }", DeviceChoice::Auto, Some(3)),
        ("instance_group { kind: KIND_AUTO gpus: 1 }", DeviceChoice::Auto, Some(1)),
        ("instance_group { kind: KIND_MODEL }", DeviceChoice::Auto, Some(1)),
        ("instance_group { kind: KIND_CPU count: 2 } instance_group { count: 1 }", DeviceChoice::Cpu, Some(3)),
        ("instance_group { kind: KIND_GPU }", DeviceChoice::Cuda(None), Some(1)),
        ("instance_group { kind: KIND_GPU gpus: [ 2 ] count: 2 }", DeviceChoice::Cuda(Some(2)), Some(2)),
        ("instance_group { kind: 1 gpus: 3 }", DeviceChoice::Cuda(Some(3)), Some(1)),
    ] {
        assert_eq!(group(text), (device, instances, Vec::new()), "{text}");
    }
    let both = "instance_group { kind: KIND_CPU count: 4 }\ninstance_group { kind: KIND_GPU gpus: [ 1 ] count: 2 }";
    let (device, instances, warnings) = group(both);
    assert_eq!((device, instances), (DeviceChoice::Cuda(Some(1)), Some(2)));
    assert!(warnings.len() == 1 && warnings[0].starts_with("line 1: instance_group[0].kind: not made"), "{warnings:?}");
    let json = r#"{ "instance_group": [ { "kind": "KIND_GPU", "gpus": ["1"], "count": 2 } ] }"#;
    assert_eq!(from_json(json).unwrap().settings.device, DeviceChoice::Cuda(Some(1)));
    for (wrong, hint) in [
        ("kind: KIND_CPU gpus: 0", "names GPUs, and the kind is KIND_CPU"),
        ("kind: KIND_GPU gpus: -1", "gpus: expected a whole number of at least zero"),
        ("kind: KIND_GPU gpus: 99999999999", "gpus: expected the number of a GPU"),
    ] {
        let faults = faults(&format!("instance_group {{ {wrong} }}"));
        assert!(faults.len() == 1 && faults[0].contains(hint), "{faults:?}");
    }
}
