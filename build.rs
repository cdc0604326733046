//! Compiles `proto/` with protox, a protoc written in Rust, so that a build needs no protoc on the machine.

use std::path::Path;

/// Messages that both doors send: over HTTP they are the JSON that protobuf's field names give.
const SPOKEN_IN_JSON: [&str; 11] = [
    "ModelStatistics",
    "LearnedStatistics",
    "LatencyPoint",
    "StatisticDuration",
    "InferStatistics",
    "InferResponseStatistics",
    "InferBatchStatistics",
    "MemoryUsage",
    "ModelParameter",
    "ModelTransactionPolicy",
    "ModelResponseCache",
];

/// The same, of the model's configuration, with what they hold.
const CONFIGURATION: [&str; 8] = [
    "ModelConfig",
    "ModelInput",
    "ModelOutput",
    "ModelInstanceGroup",
    "ModelVersionPolicy",
    "ModelOptimizationPolicy",
    "ModelQueuePolicy",
    "ModelDynamicBatching",
];

/// Fields that hold a number for an enum, which JSON says by name, and the function that writes it.
const ENUMS: [(&str, &str); 6] = [
    ("ModelInput.data_type", "data_type"),
    ("ModelInput.format", "format"),
    ("ModelOutput.data_type", "data_type"),
    ("ModelInstanceGroup.kind", "kind"),
    ("ModelOptimizationPolicy.priority", "priority"),
    ("ModelQueuePolicy.timeout_action", "timeout_action"),
];

/// A choice is said by the field that it is.
const CHOICE: &str = "#[serde(rename_all = \"snake_case\")]";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(["inference.proto", "health.proto"])?;
    // For server reflection.
    let descriptors = Path::new(&std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(descriptors, compiler.encode_file_descriptor_set())?;
    let mut messages = tonic_prost_build::configure()
        .build_client(true)
        .build_transport(false)
        // Payload fields become slices of the received message instead of copies.
        .bytes(".");
    for name in SPOKEN_IN_JSON.iter().chain(&CONFIGURATION) {
        messages = messages.type_attribute(format!(".inference.{name}"), "#[derive(serde::Serialize)]");
    }
    for (field, writer) in ENUMS {
        let writer = format!("#[serde(serialize_with = \"super::enums::{writer}\")]");
        messages = messages.field_attribute(format!(".inference.{field}"), writer);
    }
    for (field, choice) in [("ModelConfig", "scheduling_choice"), ("ModelVersionPolicy", "policy_choice")] {
        messages = messages
            .field_attribute(format!("inference.{field}.{choice}"), "#[serde(flatten)]")
            .type_attribute(format!(".inference.{field}.{choice}"), CHOICE);
    }
    messages.compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
