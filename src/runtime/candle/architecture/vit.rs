//! ViT (Dosovitskiy et al., 2020): patches of an image as tokens.

use serde_json::Value;
use tensorgate_kernels::Activation;

use super::super::checkpoint::Weights;
use super::super::config::Config;
use super::super::encoder::{Encoder, ImageInput, Input, Layer, Table};
use super::super::head::Select;
use super::{Built, Parts, Task, heads};
use crate::error::Result;

/// Values of an image: so that those of a batch can be counted.
const PIXELS_MAX: usize = 1 << 26;

pub(super) fn build(config: &Config, weights: &Weights<'_>, task: Task) -> Result<Built> {
    let width = config.size("hidden_size")?;
    let count = heads(config, "num_attention_heads", width)?;
    let epsilon = config.number_or("layer_norm_eps", 1e-12)?;
    let base = weights.below("vit", "embeddings.cls_token");
    let input = input(config, &base, width)?;
    let parts = Parts { config, weights, width };
    let head = match task {
        Task::Encode => None,
        Task::Classify => parts.head(Select::First, vec![parts.classes("classifier")?]),
        Task::Tag | Task::Fill => return Err(parts.not_served()),
    };
    let inner = config.size("intermediate_size")?;
    let activation = config.activation("hidden_act", Activation::Gelu)?;
    let layer = |number: usize| {
        let weights = base.at("encoder.layer").at(number);
        let projections = ["attention.attention.query", "attention.attention.key", "attention.attention.value"];
        Ok(Layer {
            projection: weights.joined(&projections, width, width)?,
            attended: weights.dense("attention.output.dense", width, width)?,
            attention_norm: Some(weights.norm("layernorm_before", width, epsilon)?),
            window: None,
            rotation: None,
            up: weights.dense("intermediate.dense", inner, width)?,
            activation,
            gated: false,
            down: weights.dense("output.dense", width, inner)?,
            feed_norm: Some(weights.norm("layernorm_after", width, epsilon)?),
        })
    };
    let layers = (0..config.size("num_hidden_layers")?).map(layer).collect::<Result<_>>()?;
    let last = Some(base.norm("layernorm", width, epsilon)?);
    let input = Input::Image(input);
    Ok(Built { encoder: Encoder { width, heads: count, input, layers, norms_first: true, last, bias: None }, head })
}

fn input(config: &Config, base: &Weights<'_>, width: usize) -> Result<ImageInput> {
    let (image, patch) = (sides(config, "image_size", 224)?, sides(config, "patch_size", 16)?);
    let channels = config.size_or("num_channels", 3)?;
    let divides = (0..2).all(|side| image[side].is_multiple_of(patch[side]));
    let pixels = channels.checked_mul(image[0]).and_then(|pixels| pixels.checked_mul(image[1]));
    if !divides || pixels.is_none_or(|pixels| pixels > PIXELS_MAX) {
        let why = format!("expected whole patches, and at most {PIXELS_MAX} values");
        return Err(config.wrong(format!("images are of {channels} x {image:?}, patches of {patch:?}: {why}")));
    }
    let embeddings = base.at("embeddings");
    let tokens = 1 + image[0] / patch[0] * (image[1] / patch[1]);
    Ok(ImageInput {
        channels,
        image,
        patch,
        projection: embeddings.patches("patch_embeddings.projection", width, [channels, patch[0], patch[1]])?,
        class: embeddings.floats("cls_token", &[1, 1, width])?,
        positions: Table::new(embeddings.floats("position_embeddings", &[1, tokens, width])?, width),
    })
}

/// Height and width: one number for both, or a list of the two.
fn sides(config: &Config, key: &str, default: usize) -> Result<[usize; 2]> {
    match config.get(key) {
        Some(Value::Array(sides)) => {
            let sides: Option<Vec<u64>> = sides.iter().map(Value::as_u64).collect();
            match sides.as_deref() {
                Some(&[height @ 1..=65_536, width @ 1..=65_536]) => Ok([height as usize, width as usize]),
                _ => Err(config.wrong(format!("'{key}' is a list, expected a height and a width"))),
            }
        }
        _ => config.size_or(key, default).map(|side| [side; 2]),
    }
}
