//! ModernBERT (Warner et al., 2024): rotary positions, gated layers, and a window for two layers of three.

use std::sync::Arc;

use serde_json::Value;
use tensorgate_kernels::Activation;

use super::super::checkpoint::Weights;
use super::super::config::Config;
use super::super::encoder::{Encoder, Input, Layer, Positions, Rotation, TextInput};
use super::super::head::{Head, Select};
use super::{Built, Parts, Task, heads, pad};
use crate::error::Result;

/// Positions that angles are made for: sixteen times what there are models for.
const TOKENS_MAX: usize = 1 << 17;

pub(super) fn build(config: &Config, weights: &Weights<'_>, task: Task) -> Result<Built> {
    let width = config.size("hidden_size")?;
    let count = heads(config, "num_attention_heads", width)?;
    let epsilon = config.number_or("norm_eps", 1e-5)?;
    let base = weights.below("model", "embeddings.tok_embeddings.weight");
    let (words, tokens_max) = (config.size("vocab_size")?, config.size_or("max_position_embeddings", 8192)?);
    if tokens_max > TOKENS_MAX || !(width / count).is_multiple_of(2) {
        let why = "needs heads of an even width, and at most 131072 positions";
        return Err(
            config.wrong(format!("'max_position_embeddings' is {tokens_max}, a head's width {}: {why}", width / count))
        );
    }
    let input = TextInput {
        words: base.table("embeddings.tok_embeddings", words, width)?,
        positions: Positions::Rotated,
        types: None,
        norm: base.norm("embeddings.norm", width, epsilon)?,
        pad: pad(config, 0, words)?,
        tokens_max,
    };
    let parts = Parts { config, weights, width };
    let head = head(&parts, &input, task, epsilon)?;
    let inner = config.size("intermediate_size")?;
    let activation = config.activation("hidden_activation", Activation::Gelu)?;
    let [global, local] = rotations(config, tokens_max, width / count)?;
    let layer = |number: usize| {
        let weights = base.at("layers").at(number);
        let is_global = is_global(config, number)?;
        // The first layer's is the embeddings' own.
        let first = (number > 0).then(|| weights.norm("attn_norm", width, epsilon)).transpose()?;
        Ok(Layer {
            projection: weights.dense("attn.Wqkv", 3 * width, width)?,
            attended: weights.dense("attn.Wo", width, width)?,
            attention_norm: first,
            window: if is_global { None } else { Some(config.size_or("local_attention", 128)? / 2) },
            rotation: Some(Arc::clone(if is_global { &global } else { &local })),
            up: weights.dense("mlp.Wi", 2 * inner, width)?,
            activation,
            gated: true,
            down: weights.dense("mlp.Wo", width, inner)?,
            feed_norm: Some(weights.norm("mlp_norm", width, epsilon)?),
        })
    };
    let layers = (0..config.size("num_hidden_layers")?).map(layer).collect::<Result<_>>()?;
    let last = Some(base.norm("final_norm", width, epsilon)?);
    let input = Input::Text(input);
    Ok(Built { encoder: Encoder { width, heads: count, input, layers, norms_first: true, last, bias: None }, head })
}

fn head(parts: &Parts<'_>, input: &TextInput, task: Task, epsilon: f32) -> Result<Option<Head>> {
    if task == Task::Encode {
        return Ok(None);
    }
    let activation = parts.config.activation("classifier_activation", Activation::Gelu)?;
    let mut steps = vec![parts.dense("head.dense", activation)?, parts.norm("head.norm", epsilon)?];
    steps.push(match task {
        Task::Fill => parts.words("decoder", &input.words, &["decoder.bias"])?,
        _ => parts.classes("classifier")?,
    });
    let select = match (task, parts.config.text("classifier_pooling")?) {
        (Task::Classify, None | Some("cls")) => Select::First,
        (Task::Classify, Some("mean")) => Select::Mean,
        (Task::Classify, Some(other)) => {
            return Err(parts.config.wrong(format!("'classifier_pooling' is '{other}', expected 'cls' or 'mean'")));
        }
        _ => Select::Each,
    };
    Ok(parts.head(select, steps))
}

/// Angles of the layers without a window, and of those with one. transformers 5 writes them in `rope_parameters`.
fn rotations(config: &Config, positions: usize, width: usize) -> Result<[Arc<Rotation>; 2]> {
    let theta = |kind: &str, old: &str, default: f32| match config.object("rope_parameters")? {
        None => config.number_or(old, default),
        Some(parameters) => match parameters.object(kind)? {
            None => Ok(default),
            Some(own) => {
                own.only("rope_type", "default")?;
                own.number_or("rope_theta", default)
            }
        },
    };
    let global = theta("full_attention", "global_rope_theta", 160_000.0)?;
    let local = theta("sliding_attention", "local_rope_theta", 10_000.0)?;
    Ok([global, local].map(|theta| Arc::new(Rotation::new(positions, width, theta))))
}

/// Whether the tokens of a layer see all others.
fn is_global(config: &Config, number: usize) -> Result<bool> {
    let listed = config.list("layer_types")?;
    if listed.is_empty() {
        return Ok(number.is_multiple_of(config.size_or("global_attn_every_n_layers", 3)?));
    }
    match listed.get(number).and_then(Value::as_str) {
        Some("full_attention") => Ok(true),
        Some("sliding_attention") => Ok(false),
        _ => Err(config.wrong(format!("'layer_types' says nothing known of layer {number}"))),
    }
}
