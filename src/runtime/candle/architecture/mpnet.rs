//! MPNet (Song et al., 2020): RoBERTa's embeddings and heads, and scores that know how far tokens are apart.

use tensorgate_kernels::Activation;

use super::super::checkpoint::Weights;
use super::super::config::Config;
use super::super::encoder::Input;
use super::bert::{self, Names, Sizes};
use super::{Built, Parts, Task, roberta};
use crate::error::Result;

const NAMES: Names = Names {
    projections: ["attention.attn.q", "attention.attn.k", "attention.attn.v"],
    attended: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    ..bert::NAMES
};

/// Distances from which on all are one (transformers' modeling_mpnet.py; T5's buckets, Raffel et al., 2019).
const DISTANCE_MAX: f32 = 128.0;

pub(super) fn build(config: &Config, weights: &Weights<'_>, task: Task) -> Result<Built> {
    let sizes = Sizes::read(config)?;
    let base = weights.below("mpnet", "embeddings.word_embeddings.weight");
    let input = roberta::input(config, &base, &sizes, None)?;
    let parts = Parts { config, weights, width: sizes.width };
    let head = roberta::head(&parts, &sizes, &input.words, task, Activation::Gelu)?;
    let layers = bert::layers(&sizes, &base, &NAMES)?;
    let buckets = config.size_or("relative_attention_num_buckets", 32)?;
    let table = base.table("encoder.relative_attention_bias", buckets, sizes.heads)?;
    let reach = input.tokens_max;
    let distances = || (0..2 * reach - 1).map(|distance| distance as i64 - (reach as i64 - 1));
    let of_head = |head: usize| {
        let table = &table;
        distances().map(move |distance| table.row(bucket(distance, buckets))[head])
    };
    let bias = (0..sizes.heads).flat_map(of_head).collect();
    let mut encoder = sizes.encoder(Input::Text(input), layers);
    encoder.bias = Some(bias);
    Ok(Built { encoder, head })
}

/// The bucket of a key that is `distance` behind its query: half of `buckets` for either direction, of each the first half for
/// one distance each, the rest for distances on a scale of logarithms.
fn bucket(distance: i64, buckets: usize) -> usize {
    let half = buckets / 2;
    let exact = (half / 2).max(1);
    let direction = if distance > 0 { half } else { 0 };
    let distance = distance.unsigned_abs() as usize;
    if distance < exact {
        return direction + distance;
    }
    let scale = (distance as f32 / exact as f32).ln() / (DISTANCE_MAX / exact as f32).ln();
    let large = exact + (scale * half.saturating_sub(exact) as f32) as usize;
    (direction + large.min(half.saturating_sub(1))).min(buckets - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_distances_have_buckets_of_their_own_and_far_ones_share() {
        let buckets = [0, -1, -7, -8, -20, -128, -500, 1, 7, 20, 500].map(|distance| bucket(distance, 32));
        assert_eq!(buckets, [0, 1, 7, 8, 10, 15, 15, 17, 23, 26, 31]);
        for buckets in 1..5 {
            assert!((-200..200).all(|distance| bucket(distance, buckets) < buckets), "{buckets}");
        }
    }
}
