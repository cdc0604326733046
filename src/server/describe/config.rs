//! The model configuration extension: what is served, in the words of Triton's `config.pbtxt`.
//!
//! Everything in it holds: what was found out at load and what was pinned alike. Fields for what there is none of have the
//! values that Triton gives them then.

use std::num::NonZeroU16;
use std::time::Duration;

use crate::model::{Device, Dim, RuntimeChoice, TensorSpec, VersionPolicy};
use crate::protocol::proto::model_config::SchedulingChoice;
use crate::protocol::proto::model_instance_group::Kind;
use crate::protocol::proto::model_optimization_policy::PinnedMemoryBuffer;
use crate::protocol::proto::model_queue_policy::TimeoutAction;
use crate::protocol::proto::model_version_policy::{All, Latest, PolicyChoice, Specific};
use crate::protocol::proto::{
    ModelConfig, ModelDynamicBatching, ModelInput, ModelInstanceGroup, ModelOptimizationPolicy, ModelOutput,
    ModelQueuePolicy, ModelResponseCache, ModelTransactionPolicy, ModelVersionPolicy, data_type_of,
};
use crate::repository::Model;

/// The configuration of `model`.
pub(in super::super) fn config(model: &Model) -> ModelConfig {
    let (settings, batches) = (model.settings(), model.rows_max() > 1);
    let labels = |output: &TensorSpec| {
        let declared = settings.outputs.iter().find(|declared| declared.name == *output.name);
        declared.and_then(|declared| declared.labels.clone()).unwrap_or_default()
    };
    ModelConfig {
        name: model.name().to_string(),
        platform: model.platform().into(),
        backend: backend(model.runtime()).into(),
        version_policy: Some(ModelVersionPolicy { policy_choice: Some(version_policy(&settings.version_policy)) }),
        max_batch_size: if batches { number(model.rows_max()) } else { 0 },
        input: model.inputs_told().map(|input| described_input(input, batches)).collect(),
        output: model.outputs_told().map(|output| described_output(output, batches, labels(output))).collect(),
        instance_group: vec![ModelInstanceGroup {
            name: model.name().to_string(),
            count: number(model.instances()),
            kind: if model.device().is_gpu() { Kind::Gpu } else { Kind::Cpu }.into(),
            gpus: gpu(model.device()).into_iter().collect(),
            ..ModelInstanceGroup::default()
        }],
        default_model_filename: match (&settings.model_file, settings.runtime) {
            (Some(file), _) => file.clone(),
            (None, RuntimeChoice::Identity) => String::new(),
            (None, _) if model.runtime() == "candle" => "model.safetensors".into(),
            (None, _) => "model.onnx".into(),
        },
        scheduling_choice: batches.then(|| SchedulingChoice::DynamicBatching(dynamic_batching(model))),
        optimization: Some(ModelOptimizationPolicy {
            input_pinned_memory: Some(PinnedMemoryBuffer::default()),
            output_pinned_memory: Some(PinnedMemoryBuffer::default()),
            ..ModelOptimizationPolicy::default()
        }),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
        response_cache: Some(ModelResponseCache { enable: settings.response_cache.is_some() }),
        ..ModelConfig::default()
    }
}

/// Triton's name of the backend that does what `runtime` does.
fn backend(runtime: &str) -> &str {
    if runtime == "onnx" { "onnxruntime" } else { runtime }
}

/// The number of a GPU.
fn gpu(device: Device) -> Option<i32> {
    match device {
        Device::Cpu => None,
        Device::Cuda(number) => i32::try_from(number).ok(),
    }
}

fn version_policy(policy: &VersionPolicy) -> PolicyChoice {
    match policy {
        VersionPolicy::Latest(count) => {
            PolicyChoice::Latest(Latest { num_versions: u32::try_from(count.get()).unwrap_or(u32::MAX) })
        }
        VersionPolicy::All => PolicyChoice::All(All {}),
        VersionPolicy::Specific(versions) => {
            let versions = versions.iter().map(|version| i64::try_from(version.number()).unwrap_or(i64::MAX));
            PolicyChoice::Specific(Specific { versions: versions.collect() })
        }
    }
}

/// What joins requests here: as many rows as there are, at most after the delay. The queue's bound and time-out are its
/// policy; a request's own `timeout` is honoured.
fn dynamic_batching(model: &Model) -> ModelDynamicBatching {
    let microseconds = |duration: Duration| duration.as_micros() as u64;
    let settings = model.settings();
    let action = if settings.late_is_delayed { TimeoutAction::Delay } else { TimeoutAction::Reject };
    let of_level = |(level, timeout): &(NonZeroU16, Duration)| {
        let policy = ModelQueuePolicy {
            timeout_action: action.into(),
            default_timeout_microseconds: microseconds(*timeout),
            allow_timeout_override: true,
            ..ModelQueuePolicy::default()
        };
        (level.get().into(), policy)
    };
    ModelDynamicBatching {
        max_queue_delay_microseconds: microseconds(model.max_queue_delay()),
        priority_levels: settings.priority_levels.map_or(0, |levels| levels.get().into()),
        default_priority_level: settings.priority_default().map_or(0, Into::into),
        priority_queue_policy: settings.priority_timeouts.iter().map(of_level).collect(),
        default_queue_policy: Some(ModelQueuePolicy {
            timeout_action: action.into(),
            default_timeout_microseconds: model.queue_timeout().map_or(0, microseconds),
            allow_timeout_override: true,
            max_queue_size: u32::try_from(model.queue_max()).unwrap_or(u32::MAX),
        }),
        ..ModelDynamicBatching::default()
    }
}

fn described_input(spec: &TensorSpec, batches: bool) -> ModelInput {
    ModelInput {
        name: spec.name.as_ref().into(),
        data_type: data_type_of(spec.datatype).into(),
        dims: dims(spec, batches),
        optional: spec.optional,
        ..ModelInput::default()
    }
}

fn described_output(spec: &TensorSpec, batches: bool, label_filename: String) -> ModelOutput {
    ModelOutput {
        name: spec.name.as_ref().into(),
        data_type: data_type_of(spec.datatype).into(),
        dims: dims(spec, batches),
        label_filename,
        ..ModelOutput::default()
    }
}

/// The dimensions, without that of the batch where requests are joined: so a configuration counts them.
fn dims(spec: &TensorSpec, batches: bool) -> Vec<i64> {
    match &spec.shape {
        Some(dims) => dims.iter().skip(usize::from(batches)).map(Dim::to_wire).collect(),
        None => spec.wire_shape(),
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
