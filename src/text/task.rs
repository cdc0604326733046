//! Which of a model's outputs is looked at, and what is made of it: as its architecture says, else as its name and rank do.

use super::classes::Classes;
use super::folder::{Folder, Shorter};
use super::pooling::{self, Pooling};
use crate::error::{Error, Result};
use crate::infer::Labels;
use crate::infer::texts::{EMBEDDING, LABEL, LOGITS, SCORE, TAGS, TEXT, TEXT_PAIR, TOKEN_IDS};
use crate::model::{Dim, Signature, TensorSpec};
use crate::tensor::DataType;

/// What texts can be asked for, for messages.
const TASKS: &str = "embeddings, classification or token classification";

/// What is made of the output.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Task {
    Embed(Embed),
    Classify(Classes),
    Tag(Classes),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Embed {
    /// What becomes of tokens' vectors; `None` where the model gives one vector itself.
    pub(super) pooling: Option<Vec<Pooling>>,
    normalize: bool,
    pub(super) shorter: Shorter,
    /// Values of a vector, where the signature tells.
    pub(super) width: Option<usize>,
}

impl Embed {
    /// Appends the vector of a text, out of `tokens`: those of its tokens, or its own.
    pub(super) fn vector(
        &self,
        tokens: &[f32],
        width: usize,
        dimensions: Option<usize>,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let start = out.len();
        match &self.pooling {
            None => out.extend_from_slice(tokens),
            Some(poolings) => poolings.iter().for_each(|pooling| pooling.pool(tokens, width, out)),
        }
        if let Some(dimensions) = dimensions {
            let own = out.len() - start;
            if dimensions > own {
                return Err(Error::invalid(format!("'dimensions' is {dimensions}, expected at most {own}")));
            }
            out.truncate(start + dimensions);
        }
        // What is left of a vector of length 1 is shorter.
        if self.normalize || dimensions.is_some() {
            pooling::normalize(&mut out[start..]);
        }
        Ok(())
    }
}

/// What the face takes. One of the inputs has to be there, so that none of them alone has to.
pub(super) fn questions() -> Vec<TensorSpec> {
    let spec = |name| TensorSpec { optional: true, ..TensorSpec::new(name, DataType::Bytes, [Dim::ANY]) };
    vec![spec(TEXT), spec(TEXT_PAIR), spec(TOKEN_IDS)]
}

/// What the face gives, and the labels of each.
pub(super) fn answers(task: &Task) -> (Vec<TensorSpec>, Vec<Labels>) {
    let size = |size: Option<usize>| size.map_or(Dim::ANY, Dim::Fixed);
    match task {
        Task::Embed(embed) => {
            let embedding = TensorSpec::new(EMBEDDING, DataType::Fp32, [Dim::ANY, size(embed.width)]);
            (vec![embedding], vec![Labels::default()])
        }
        Task::Tag(_) => (vec![TensorSpec::new(TAGS, DataType::Bytes, [Dim::ANY])], vec![Labels::default()]),
        Task::Classify(classes) => {
            let count = Some(classes.labels.len()).filter(|&count| count > 0);
            let specs = vec![
                TensorSpec::new(LABEL, DataType::Bytes, [Dim::ANY]),
                TensorSpec::new(SCORE, DataType::Fp32, [Dim::ANY]),
                TensorSpec::new(LOGITS, DataType::Fp32, [Dim::ANY, size(count)]),
            ];
            (specs, vec![Labels::default(), Labels::default(), Labels::from_text(&classes.labels.join("\n"))])
        }
    }
}

/// What is made of which output.
pub(super) fn task(signature: &Signature, folder: &Folder) -> Result<(Task, usize), String> {
    let rank = |rank: usize, spec: &TensorSpec| {
        let float = matches!(spec.datatype, DataType::Fp32 | DataType::Fp16 | DataType::Bf16 | DataType::Fp64);
        float && spec.shape.as_ref().is_none_or(|dims| dims.len() == rank)
    };
    let named = |names: &[&str], of: usize| {
        names.iter().find_map(|name| signature.output(name).filter(|(_, spec)| rank(of, spec)).map(|(at, _)| at))
    };
    let only = |of: usize| {
        let mut known = signature.outputs.iter().enumerate().filter(|(_, spec)| rank(of, spec) && spec.shape.is_some());
        known.next().filter(|_| known.next().is_none()).map(|(at, _)| at)
    };
    let width = |at: usize| match signature.outputs[at].shape.as_deref().and_then(<[Dim]>::last) {
        Some(Dim::Fixed(width)) => Some(*width),
        _ => None,
    };
    let classes = |at: usize| {
        let mut labels = folder.labels.clone();
        // As many as there are logits; what has no name is called by its number.
        if let Some(count) = width(at) {
            labels.truncate(count);
            labels.extend((labels.len()..count).map(|index| format!("LABEL_{index}")));
        }
        Classes { labels, activation: folder.activation }
    };
    let embed = |at: usize, pooling: Option<Vec<Pooling>>| {
        let parts = pooling.as_ref().map_or(1, Vec::len);
        let (normalize, shorter) = (folder.normalize, folder.shorter.clone());
        (Task::Embed(Embed { pooling, normalize, shorter, width: width(at).map(|width| width * parts) }), at)
    };
    let architecture = folder.architecture.as_deref().unwrap_or_default();
    if architecture.ends_with("ForTokenClassification") {
        let logits = named(&[LOGITS], 3).or_else(|| only(3)).ok_or("it has no output 'logits' of rank 3")?;
        return Ok((Task::Tag(classes(logits)), logits));
    }
    if architecture.ends_with("ForSequenceClassification") {
        let logits = named(&[LOGITS], 2).or_else(|| only(2)).ok_or("it has no output 'logits' of rank 2")?;
        return Ok((Task::Classify(classes(logits)), logits));
    }
    if let Some(module) = &folder.unserved {
        return Err(format!("modules.json has a module {module}, which is not served"));
    }
    if let Some(vector) = named(&[EMBEDDING, "sentence_embedding", "text_embeds"], 2) {
        return Ok(embed(vector, None));
    }
    // Without modules, sentence-transformers takes the mean.
    let pooling = || Some(folder.pooling.clone().unwrap_or_else(|| vec![Pooling::Mean]));
    if let Some(hidden) = named(&["last_hidden_state", "token_embeddings"], 3) {
        return Ok(embed(hidden, pooling()));
    }
    if let Some(logits) = named(&[LOGITS], 2) {
        return Ok((Task::Classify(classes(logits)), logits));
    }
    let hidden = || only(3).filter(|_| named(&[LOGITS], 3).is_none());
    match (hidden(), only(2)) {
        (Some(hidden), _) => Ok(embed(hidden, pooling())),
        (None, Some(vector)) => Ok(embed(vector, None)),
        (None, None) => Err(format!("none of its outputs is known to serve for {TASKS}")),
    }
}
