//! BERT (Devlin et al., 2018), and the layers that its descendants share.

use tensorgate_kernels::Activation;

use super::super::checkpoint::Weights;
use super::super::config::Config;
use super::super::encoder::{Encoder, Input, Layer, Positions, TextInput};
use super::super::head::{Select, Step};
use super::{Built, Parts, Task, heads, pad};
use crate::error::Result;

pub(super) fn build(config: &Config, weights: &Weights<'_>, task: Task) -> Result<Built> {
    let sizes = Sizes::read(config)?;
    let base = weights.below("bert", "embeddings.word_embeddings.weight");
    let embeddings = base.at("embeddings");
    let words = config.size("vocab_size")?;
    let tokens_max = config.size("max_position_embeddings")?;
    let positions = embeddings.table("position_embeddings", tokens_max, sizes.width)?;
    let types = embeddings.table("token_type_embeddings", config.size_or("type_vocab_size", 2)?, sizes.width)?;
    let input = TextInput {
        words: embeddings.table("word_embeddings", words, sizes.width)?,
        positions: Positions::Counted(positions),
        types: Some(types),
        norm: embeddings.norm("LayerNorm", sizes.width, sizes.epsilon)?,
        pad: pad(config, 0, words)?,
        tokens_max,
    };
    let parts = Parts { config, weights, width: sizes.width };
    let head = match task {
        Task::Encode => None,
        Task::Classify => {
            let pooler = base.dense("pooler.dense", sizes.width, sizes.width)?;
            let pooler = Step::Dense(pooler, Activation::Tanh);
            parts.head(Select::First, vec![pooler, parts.classes("classifier")?])
        }
        Task::Tag => parts.head(Select::Each, vec![parts.classes("classifier")?]),
        Task::Fill => {
            let steps = vec![
                parts.dense("cls.predictions.transform.dense", sizes.activation)?,
                parts.norm("cls.predictions.transform.LayerNorm", sizes.epsilon)?,
                parts.words(
                    "cls.predictions.decoder",
                    &input.words,
                    &["cls.predictions.bias", "cls.predictions.decoder.bias"],
                )?,
            ];
            parts.head(Select::Each, steps)
        }
    };
    let layers = layers(&sizes, &base, &NAMES)?;
    Ok(Built { encoder: sizes.encoder(Input::Text(input), layers), head })
}

/// Sizes that BERT and its descendants have under the same keys.
pub(super) struct Sizes {
    pub(super) width: usize,
    pub(super) heads: usize,
    inner: usize,
    layers: usize,
    pub(super) activation: Activation,
    pub(super) epsilon: f32,
}

impl Sizes {
    pub(super) fn read(config: &Config) -> Result<Self> {
        config.not("is_decoder")?;
        config.not("add_cross_attention")?;
        config.only("position_embedding_type", "absolute")?;
        let width = config.size("hidden_size")?;
        Ok(Self {
            width,
            heads: heads(config, "num_attention_heads", width)?,
            inner: config.size("intermediate_size")?,
            layers: config.size("num_hidden_layers")?,
            activation: config.activation("hidden_act", Activation::Gelu)?,
            epsilon: config.number_or("layer_norm_eps", 1e-12)?,
        })
    }

    /// An encoder with norms behind the parts of its layers.
    pub(super) fn encoder(&self, input: Input, layers: Vec<Layer>) -> Encoder {
        Encoder { width: self.width, heads: self.heads, input, layers, norms_first: false, last: None, bias: None }
    }
}

/// What the parts of a layer are called.
pub(super) struct Names {
    pub(super) projections: [&'static str; 3],
    pub(super) attended: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) feed_norm: &'static str,
}

pub(super) const NAMES: Names = Names {
    projections: ["attention.self.query", "attention.self.key", "attention.self.value"],
    attended: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    feed_norm: "output.LayerNorm",
};

/// The layers below `encoder.layer`.
pub(super) fn layers(sizes: &Sizes, base: &Weights<'_>, names: &Names) -> Result<Vec<Layer>> {
    let Sizes { width, inner, activation, epsilon, .. } = *sizes;
    let layer = |number: usize| {
        let weights = base.at("encoder.layer").at(number);
        Ok(Layer {
            projection: weights.joined(&names.projections, width, width)?,
            attended: weights.dense(names.attended, width, width)?,
            attention_norm: Some(weights.norm(names.attention_norm, width, epsilon)?),
            window: None,
            rotation: None,
            up: weights.dense(names.up, inner, width)?,
            activation,
            gated: false,
            down: weights.dense(names.down, width, inner)?,
            feed_norm: Some(weights.norm(names.feed_norm, width, epsilon)?),
        })
    };
    (0..sizes.layers).map(layer).collect()
}
