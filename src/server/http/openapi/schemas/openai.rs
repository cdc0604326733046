//! The schemas of OpenAI's embeddings and of reranking.

use serde_json::{Value, json};

use super::{Schemas, closed, count, list, named, reference, text};

pub(super) fn all() -> Schemas {
    [told(), embeddings(), rerank()].concat()
}

fn some_text() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

fn switch() -> Value {
    json!({ "type": ["boolean", "null"] })
}

fn usage() -> Value {
    closed(json!({ "prompt_tokens": count(), "total_tokens": count() }))
}

/// What may be nothing, or `1` or more.
fn some_number() -> Value {
    json!({ "type": ["integer", "null"], "minimum": 1 })
}

fn told() -> Schemas {
    named([
        (
            "OpenAiError",
            closed(json!({ "error": closed(json!({
                "message": text(), "type": text(), "param": { "type": ["string", "null"] },
                "code": { "type": ["string", "null"] },
            })) })),
        ),
        (
            "OpenAiModel",
            closed(json!({ "id": text(), "object": { "const": "model" }, "created": count(), "owned_by": text() })),
        ),
        ("OpenAiModels", closed(json!({ "object": { "const": "list" }, "data": list(reference("OpenAiModel")) }))),
    ])
}

fn embeddings() -> Schemas {
    let texts = json!({ "type": "array", "items": some_text(), "minItems": 1, "maxItems": 2048 });
    let tokens = json!({ "type": "array", "items": { "type": "integer", "minimum": 0 }, "minItems": 1 });
    let many = json!({ "type": "array", "items": tokens, "minItems": 1, "maxItems": 2048 });
    let vector = json!({ "type": ["array", "string"], "description": "numbers, or base64 of 32-bit floats" });
    named([
        (
            "EmbeddingsRequest",
            json!({
                "type": "object",
                "required": ["model", "input"],
                "properties": {
                    "model": text(),
                    "input": { "anyOf": [some_text(), texts, tokens, many] },
                    "encoding_format": { "enum": ["float", "base64", null] },
                    "dimensions": some_number(),
                    "truncate": switch(),
                },
            }),
        ),
        (
            "Embeddings",
            closed(json!({
                "object": { "const": "list" }, "model": text(), "usage": usage(),
                "data": list(closed(json!({
                    "object": { "const": "embedding" }, "index": count(), "embedding": vector,
                }))),
            })),
        ),
    ])
}

fn rerank() -> Schemas {
    let document = json!({ "type": "object", "required": ["text"], "properties": { "text": some_text() } });
    named([
        (
            "RerankRequest",
            json!({
                "type": "object",
                "required": ["model", "query", "documents"],
                "properties": {
                    "model": text(),
                    "query": some_text(),
                    "documents": {
                        "type": "array", "minItems": 1, "maxItems": 2048, "items": { "anyOf": [some_text(), document] },
                    },
                    "top_n": some_number(),
                    "return_documents": switch(),
                    "truncate": switch(),
                },
            }),
        ),
        (
            "Reranked",
            closed(json!({
                "id": text(), "model": text(), "usage": usage(),
                "results": list(closed(json!({
                    "index": count(), "relevance_score": { "type": ["number", "string"] },
                    "document?": closed(json!({ "text": text() })),
                }))),
            })),
        ),
    ])
}
