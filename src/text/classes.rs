//! From logits to labels and scores, as the pipelines of Hugging Face's transformers have them.

use super::folder::Activation;

/// The names of labels, and what becomes of their logits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Classes {
    pub(super) labels: Vec<String>,
    pub(super) activation: Option<Activation>,
}

impl Classes {
    /// The name of the label at `index`, as transformers calls those without one.
    pub(super) fn label(&self, index: usize) -> String {
        self.labels.get(index).cloned().unwrap_or_else(|| format!("LABEL_{index}"))
    }

    /// The best of `logits`, at least one, and its score.
    pub(super) fn best(&self, logits: &[f32]) -> (usize, f32) {
        let better = |best: usize, at: usize| if logits[at] > logits[best] { at } else { best };
        let best = (0..logits.len()).reduce(better).unwrap_or_default();
        let usual = if logits.len() == 1 { Activation::Sigmoid } else { Activation::Softmax };
        let logit = logits[best];
        let score = match self.activation.unwrap_or(usual) {
            Activation::None => logit,
            Activation::Sigmoid => 1.0 / (1.0 + (-logit).exp()),
            // Less the greatest, so that nothing overflows; the best's own is 1 then.
            Activation::Softmax => 1.0 / logits.iter().map(|other| (other - logit).exp()).sum::<f32>(),
        };
        (best, score)
    }
}
