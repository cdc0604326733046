//! RoBERTa (Liu et al., 2019), XLM-R and CamemBERT: BERT that counts tokens from behind the padding's number on.

use tensorgate_kernels::Activation;

use super::super::checkpoint::Weights;
use super::super::config::Config;
use super::super::encoder::{Input, Positions, Table, TextInput};
use super::super::head::{Head, Select};
use super::bert::{self, Sizes};
use super::{Built, Parts, Task, pad};
use crate::error::Result;

/// The padding's token where `config.json` does not say.
const PAD: usize = 1;

pub(super) fn build(config: &Config, weights: &Weights<'_>, task: Task) -> Result<Built> {
    let sizes = Sizes::read(config)?;
    let base = weights.below("roberta", "embeddings.word_embeddings.weight");
    let types = config.size_or("type_vocab_size", 1)?;
    let types = base.at("embeddings").table("token_type_embeddings", types, sizes.width)?;
    let input = input(config, &base, &sizes, Some(types))?;
    let parts = Parts { config, weights, width: sizes.width };
    let head = head(&parts, &sizes, &input.words, task, Activation::Gelu)?;
    let layers = bert::layers(&sizes, &base, &bert::NAMES)?;
    Ok(Built { encoder: sizes.encoder(Input::Text(input), layers), head })
}

/// Embeddings with positions that are counted so.
pub(super) fn input(config: &Config, base: &Weights<'_>, sizes: &Sizes, types: Option<Table>) -> Result<TextInput> {
    let embeddings = base.at("embeddings");
    let (words, positions) = (config.size("vocab_size")?, config.size("max_position_embeddings")?);
    let pad = pad(config, PAD, words)?;
    let Some(tokens_max) = positions.checked_sub(pad + 1).filter(|&tokens| tokens > 0) else {
        return Err(
            config.wrong(format!("'max_position_embeddings' is {positions}, which leaves none behind padding {pad}"))
        );
    };
    Ok(TextInput {
        words: embeddings.table("word_embeddings", words, sizes.width)?,
        positions: Positions::CountedUnpadded(embeddings.table("position_embeddings", positions, sizes.width)?),
        types,
        norm: embeddings.norm("LayerNorm", sizes.width, sizes.epsilon)?,
        pad,
        tokens_max,
    })
}

/// The heads of RoBERTa, which MPNet has too; that for words with `activation`.
pub(super) fn head(
    parts: &Parts<'_>,
    sizes: &Sizes,
    words: &Table,
    task: Task,
    activation: Activation,
) -> Result<Option<Head>> {
    Ok(match task {
        Task::Encode => None,
        Task::Classify => {
            let steps = vec![parts.dense("classifier.dense", Activation::Tanh)?, parts.classes("classifier.out_proj")?];
            parts.head(Select::First, steps)
        }
        Task::Tag => parts.head(Select::Each, vec![parts.classes("classifier")?]),
        Task::Fill => {
            let steps = vec![
                parts.dense("lm_head.dense", activation)?,
                parts.norm("lm_head.layer_norm", sizes.epsilon)?,
                parts.words("lm_head.decoder", words, &["lm_head.bias", "lm_head.decoder.bias"])?,
            ];
            parts.head(Select::Each, steps)
        }
    })
}
