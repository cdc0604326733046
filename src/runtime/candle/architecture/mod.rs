//! The architectures that are served: how each is built from its configuration and its weights. One file for each family, and
//! one line for each `model_type` in [`ARCHITECTURES`].

mod bert;
mod distilbert;
mod modernbert;
mod mpnet;
mod roberta;
mod vit;

use serde_json::Value;
use tensorgate_kernels::Activation;

use super::checkpoint::Weights;
use super::config::Config;
use super::encoder::{Encoder, Table};
use super::head::{Head, Select, Step};
use crate::error::Result;

/// A kind of model.
struct Architecture {
    /// What `config.json` calls it.
    model_type: &'static str,
    build: fn(&Config, &Weights<'_>, Task) -> Result<Built>,
}

/// All that are served.
const ARCHITECTURES: [Architecture; 8] = [
    Architecture { model_type: "bert", build: bert::build },
    Architecture { model_type: "camembert", build: roberta::build },
    Architecture { model_type: "distilbert", build: distilbert::build },
    Architecture { model_type: "modernbert", build: modernbert::build },
    Architecture { model_type: "mpnet", build: mpnet::build },
    Architecture { model_type: "roberta", build: roberta::build },
    Architecture { model_type: "vit", build: vit::build },
    Architecture { model_type: "xlm-roberta", build: roberta::build },
];

/// What a model was trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Nothing: the values behind its last layer.
    Encode,
    /// The class of a row.
    Classify,
    /// The class of each token.
    Tag,
    /// The word at each token.
    Fill,
}

/// What the name of a model's class in the transformers package ends in.
const TASKS: [(&str, Task); 6] = [
    ("Model", Task::Encode),
    ("ForSequenceClassification", Task::Classify),
    ("ForImageClassification", Task::Classify),
    ("ForTokenClassification", Task::Tag),
    ("ForMaskedLM", Task::Fill),
    // A masked language model beside what is not served, the order of sentences.
    ("ForPreTraining", Task::Fill),
];

/// A model out of its parts.
pub(super) struct Built {
    pub(super) encoder: Encoder,
    /// For a task beyond the encoder's own values.
    pub(super) head: Option<Head>,
}

/// Builds what `config` describes from `weights`; only the encoder where `bare` says so.
///
/// # Errors
/// `ModelUnavailable` that names the file and what in it is not served, or not there.
pub(super) fn build(config: &Config, weights: &Weights<'_>, bare: bool) -> Result<(Built, Task)> {
    let known = || ARCHITECTURES.iter().map(|known| known.model_type).collect::<Vec<_>>().join(", ");
    let Some(model_type) = config.text("model_type")? else {
        return Err(config.wrong(format!("has no 'model_type', expected one of {}", known())));
    };
    let Some(architecture) = ARCHITECTURES.iter().find(|known| known.model_type == model_type) else {
        return Err(
            config.wrong(format!("'model_type' is '{model_type}', and the architectures served are {}", known()))
        );
    };
    let task = if bare { Task::Encode } else { task(config)? };
    Ok(((architecture.build)(config, weights, task)?, task))
}

fn task(config: &Config) -> Result<Task> {
    let Some(first) = config.list("architectures")?.first() else { return Ok(Task::Encode) };
    let name = first.as_str().unwrap_or_default();
    let task = TASKS.iter().find(|(end, _)| name.ends_with(end) && !name.ends_with("LMHeadModel"));
    task.map(|(_, task)| *task).ok_or_else(|| {
        let known = TASKS.iter().map(|(end, _)| format!("*{end}")).collect::<Vec<_>>().join(", ");
        config.wrong(format!("'architectures' names {}, expected one of {known}", Value::from(name)))
    })
}

/// What heads are made of, from the tensors and classes of one model.
struct Parts<'a> {
    config: &'a Config,
    weights: &'a Weights<'a>,
    width: usize,
}

impl Parts<'_> {
    /// A dense layer of `width`, activated.
    fn dense(&self, name: &str, activation: Activation) -> Result<Step> {
        Ok(Step::Dense(self.weights.dense(name, self.width, self.width)?, activation))
    }

    /// The layer called `name` to as many values as there are classes.
    fn classes(&self, name: &str) -> Result<Step> {
        let count = self.config.labels()?.len();
        Ok(Step::Dense(self.weights.dense(name, count, self.width)?, Activation::Identity))
    }

    /// The layer to as many values as there are words, with the embeddings of `words` unless it has weights of its own.
    fn words(&self, name: &str, words: &Table, biases: &[&str]) -> Result<Step> {
        Ok(Step::Dense(self.weights.tied(name, words, biases)?, Activation::Identity))
    }

    fn norm(&self, name: &str, epsilon: f32) -> Result<Step> {
        Ok(Step::Norm(self.weights.norm(name, self.width, epsilon)?))
    }

    fn head(&self, select: Select, steps: Vec<Step>) -> Option<Head> {
        Some(Head::new(vec![select], steps, self.width))
    }

    /// What a family does not have.
    fn not_served(&self) -> crate::error::Error {
        self.config.wrong("'architectures' names a task that this 'model_type' is not served for")
    }
}

/// Heads of `config`, which have to divide its width.
fn heads(config: &Config, key: &str, width: usize) -> Result<usize> {
    let heads = config.size(key)?;
    if width.is_multiple_of(heads) {
        return Ok(heads);
    }
    Err(config.wrong(format!("'{key}' is {heads}, which does not divide the width of {width}")))
}

/// The padding's token, which has to be one of the vocabulary's.
fn pad(config: &Config, default: usize, words: usize) -> Result<usize> {
    let pad = config.token("pad_token_id")?.unwrap_or(default);
    if pad < words {
        return Ok(pad);
    }
    Err(config.wrong(format!("'pad_token_id' is {pad}, and 'vocab_size' {words}")))
}
