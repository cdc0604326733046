//! From the logits of a text's tokens to the tokens with their labels.

use serde::Serialize;

use super::classes::Classes;
use super::tokenizer::Span;

/// A token with its label, as transformers' pipeline for token classification tells them.
#[derive(Serialize)]
struct Tag<'a> {
    /// Which of the text's tokens it is, special ones counted.
    index: usize,
    token: &'a str,
    label: String,
    score: f32,
    /// Where in the text it stands, in characters.
    start: usize,
    end: usize,
}

/// The tokens that `spans` tell of, with their labels, as a list in JSON. `logits` are those of all tokens, `width` each.
pub(super) fn tags(classes: &Classes, spans: &[Span], logits: &[f32], width: usize) -> serde_json::Result<String> {
    let tags: Vec<Tag<'_>> = spans.iter().filter_map(|span| tag(classes, span, logits, width)).collect();
    serde_json::to_string(&tags)
}

fn tag<'a>(classes: &Classes, span: &'a Span, logits: &[f32], width: usize) -> Option<Tag<'a>> {
    let Span { index, start, end, ref token } = *span;
    let (best, score) = classes.best(logits.chunks_exact(width).nth(index)?);
    Some(Tag { index, token, label: classes.label(best), score, start, end })
}
