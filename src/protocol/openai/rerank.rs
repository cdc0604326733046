//! `/rerank`: documents by how well they answer a query, in the form of Cohere's API and of KServe.

use std::cmp::Ordering;

use bytes::Bytes;

use super::end_with_usage;
use super::read::{Body, Texts};
use crate::error::{Error, Result};
use crate::infer::texts::{SCORE, TEXT, TEXT_PAIR};
use crate::infer::{InferRequest, InferResponse};
use crate::protocol::json::{Limits, writer};
use crate::tensor::Tensor;

/// What is asked for.
#[derive(Debug)]
pub struct Rerank {
    /// The request, with its model: the query before each document.
    pub request: InferRequest,
    /// The documents, where they are to be told again.
    documents: Option<Tensor>,
    /// How many of the best are told.
    best: usize,
}

/// Decodes the body of a request for reranking. Documents are texts, or objects with a `text`.
///
/// # Errors
/// `InvalidRequest` for what is malformed, `TooLarge` beyond `limits`.
pub fn decode_rerank(body: &[u8], limits: &Limits) -> Result<Rerank> {
    let (mut best, mut told) = (usize::MAX, true);
    let known = ["query", "documents", "top_n", "return_documents"];
    let mut read = Body::read(body, limits, &known, |read, key| {
        match key {
            "query" => {
                let mut query = Texts::new(0);
                query.push(read.reader.string()?.as_bytes())?;
                read.give(TEXT, query)?;
            }
            "documents" => documents(read)?,
            "top_n" if read.null() => {}
            "top_n" => {
                let given = read.reader.whole()?;
                let count = usize::try_from(given).ok().filter(|&count| count > 0);
                best = count.ok_or_else(|| Error::invalid(format!("it is {given}, expected 1 or more")))?;
            }
            _ => told = read.null() || read.flag()?,
        }
        Ok(())
    })?;
    read.needs("query")?;
    read.needs("documents")?;
    read.ask(SCORE);
    let request = read.request;
    let documents = request.inputs.iter().find(|input| input.name == TEXT_PAIR).map(|input| input.tensor.clone());
    Ok(Rerank { request, documents: documents.filter(|_| told), best })
}

fn documents(read: &mut Body<'_>) -> Result<()> {
    let mut list = Texts::new(read.reader.text().len());
    read.reader.expect(b'[', "to start a list of documents")?;
    let mut first = true;
    while read.reader.next_item(b']', &mut first)? {
        let text = match read.reader.peek() {
            Some(b'{') => {
                read.reader.take(b'{');
                let (mut first, mut text) = (true, None);
                while let Some(key) = read.reader.key(&mut first)? {
                    match &*key {
                        "text" if text.is_none() => text = Some(read.reader.string()?),
                        "text" => return Err(read.reader.syntax("a document has 'text' twice, the second time")),
                        _ => read.reader.skip_value(read.limits.depth_max)?,
                    }
                }
                text.ok_or_else(|| Error::invalid(format!("document {} has no 'text'", list.count)))?
            }
            _ => read.reader.string()?,
        };
        list.push(text.as_bytes())?;
    }
    if list.count == 0 {
        return Err(Error::invalid("it is an empty list, expected at least one document"));
    }
    read.give(TEXT_PAIR, list)
}

/// The answer, under `id`: the best documents first, those of equal scores in the order they came.
///
/// # Errors
/// `Internal` where the response holds no scores.
pub fn encode_rerank(response: &InferResponse, asked: &Rerank, id: &str) -> Result<Bytes> {
    let broken = || Error::internal("the response has no scores");
    let (_, scores) = response.outputs.iter().find(|(name, _)| &**name == SCORE).ok_or_else(broken)?;
    let scores: Vec<f32> = scores.data().as_chunks::<4>().0.iter().map(|&score| f32::from_le_bytes(score)).collect();
    let documents: Vec<&[u8]> = match &asked.documents {
        Some(documents) => documents.byte_strings().map_err(|_| broken())?.collect(),
        None => Vec::new(),
    };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // What is no number comes last.
    let key = |score: f32| if score.is_nan() { f32::NEG_INFINITY } else { score };
    order.sort_by(|&a, &b| key(scores[b]).partial_cmp(&key(scores[a])).unwrap_or(Ordering::Equal));
    order.truncate(asked.best);
    let mut out = Vec::with_capacity(order.len() * 64 + documents.iter().map(|text| text.len()).sum::<usize>() + 256);
    out.extend_from_slice(b"{\"id\":");
    writer::string(&mut out, id);
    out.extend_from_slice(b",\"model\":");
    writer::string(&mut out, response.model.as_str());
    out.extend_from_slice(b",\"results\":");
    writer::list(&mut out, order, |out, index| {
        out.extend_from_slice(b"{\"index\":");
        writer::integer(out, index);
        out.extend_from_slice(b",\"relevance_score\":");
        writer::float(out, scores[index]);
        if let Some(Ok(text)) = documents.get(index).map(|text| std::str::from_utf8(text)) {
            out.extend_from_slice(b",\"document\":{\"text\":");
            writer::string(out, text);
            out.push(b'}');
        }
        out.push(b'}');
    });
    end_with_usage(&mut out, response);
    Ok(out.into())
}
