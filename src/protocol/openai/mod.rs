//! OpenAI's embeddings and Cohere's reranking, as requests of texts and back.
//!
//! Bodies are read in one pass, each text from where it stands into the tensor that the tokenizer takes. Errors have the form that
//! OpenAI's clients read. What OpenAI's API has beyond this (`user`) is skipped, as is what it has not: clients of other servers
//! send more.

mod embeddings;
mod error;
mod read;
mod rerank;
#[cfg(test)]
mod tests;

pub use embeddings::{Embeddings, decode_embeddings, encode_embeddings};
pub use error::encode_error;
pub use rerank::{Rerank, decode_rerank, encode_rerank};

use super::json::writer;
use crate::infer::texts::TOKENS;
use crate::infer::{InferResponse, ParameterValue};

/// How many tokens the texts of an answer had.
fn tokens(response: &InferResponse) -> i64 {
    match response.parameters.get(TOKENS) {
        Some(ParameterValue::Int64(tokens)) => *tokens,
        _ => 0,
    }
}

/// Ends an answer's object with what it was about: how many tokens its texts had.
fn end_with_usage(out: &mut Vec<u8>, response: &InferResponse) {
    let tokens = tokens(response);
    out.extend_from_slice(b",\"usage\":{\"prompt_tokens\":");
    writer::integer(out, tokens);
    out.extend_from_slice(b",\"total_tokens\":");
    writer::integer(out, tokens);
    out.extend_from_slice(b"}}");
}
