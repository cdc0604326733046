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

use crate::infer::texts::TOKENS;
use crate::infer::{InferResponse, ParameterValue};

/// How many tokens the texts of an answer had.
fn tokens(response: &InferResponse) -> i64 {
    match response.parameters.get(TOKENS) {
        Some(ParameterValue::Int64(tokens)) => *tokens,
        _ => 0,
    }
}
