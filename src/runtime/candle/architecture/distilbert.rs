//! DistilBERT (Sanh et al., 2019).

use tensorgate_kernels::Activation;

use super::super::checkpoint::Weights;
use super::super::config::Config;
use super::super::encoder::{Encoder, Input, Layer, Positions, TextInput};
use super::super::head::Select;
use super::{Built, Parts, Task, heads, pad};
use crate::error::Result;

/// The norms', which `config.json` does not state.
const EPSILON: f32 = 1e-12;

pub(super) fn build(config: &Config, weights: &Weights<'_>, task: Task) -> Result<Built> {
    let width = config.size("dim")?;
    let base = weights.below("distilbert", "embeddings.word_embeddings.weight");
    let embeddings = base.at("embeddings");
    let (words, tokens_max) = (config.size("vocab_size")?, config.size("max_position_embeddings")?);
    let activation = config.activation("activation", Activation::Gelu)?;
    let input = TextInput {
        words: embeddings.table("word_embeddings", words, width)?,
        positions: Positions::Counted(embeddings.table("position_embeddings", tokens_max, width)?),
        types: None,
        norm: embeddings.norm("LayerNorm", width, EPSILON)?,
        pad: pad(config, 0, words)?,
        tokens_max,
    };
    let parts = Parts { config, weights, width };
    let head = match task {
        Task::Encode => None,
        Task::Classify => {
            let steps = vec![parts.dense("pre_classifier", Activation::Relu)?, parts.classes("classifier")?];
            parts.head(Select::First, steps)
        }
        Task::Tag => parts.head(Select::Each, vec![parts.classes("classifier")?]),
        Task::Fill => {
            let steps = vec![
                parts.dense("vocab_transform", activation)?,
                parts.norm("vocab_layer_norm", EPSILON)?,
                parts.words("vocab_projector", &input.words, &["vocab_projector.bias"])?,
            ];
            parts.head(Select::Each, steps)
        }
    };
    let inner = config.size("hidden_dim")?;
    let layer = |number: usize| {
        let weights = base.at("transformer.layer").at(number);
        let projections = ["attention.q_lin", "attention.k_lin", "attention.v_lin"];
        Ok(Layer {
            projection: weights.joined(&projections, width, width)?,
            attended: weights.dense("attention.out_lin", width, width)?,
            attention_norm: Some(weights.norm("sa_layer_norm", width, EPSILON)?),
            window: None,
            rotation: None,
            up: weights.dense("ffn.lin1", inner, width)?,
            activation,
            gated: false,
            down: weights.dense("ffn.lin2", width, inner)?,
            feed_norm: Some(weights.norm("output_layer_norm", width, EPSILON)?),
        })
    };
    let layers = (0..config.size("n_layers")?).map(layer).collect::<Result<_>>()?;
    let heads = heads(config, "n_heads", width)?;
    let input = Input::Text(input);
    Ok(Built { encoder: Encoder { width, heads, input, layers, norms_first: false, last: None, bias: None }, head })
}
