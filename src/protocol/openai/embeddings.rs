//! `/v1/embeddings` (OpenAI's API reference, "Create embeddings").

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::end_with_usage;
use super::read::{Body, Texts};
use crate::error::{Error, Result};
use crate::infer::texts::{DIMENSIONS, EMBEDDING, TEXT, TOKEN_IDS};
use crate::infer::{InferRequest, InferResponse, ParameterValue};
use crate::protocol::json::{Limits, Reader, writer};

/// What is asked for.
#[derive(Debug)]
pub struct Embeddings {
    /// The request, with its model.
    pub request: InferRequest,
    /// Whether vectors are to come as base64 of their 32-bit floats, the lowest byte first, instead of as numbers.
    pub base64: bool,
}

/// Decodes the body of a request for embeddings. `input` is a text, a list of texts, a list of tokens, or a list of such lists.
///
/// # Errors
/// `InvalidRequest` for what is malformed, `TooLarge` beyond `limits`.
pub fn decode_embeddings(body: &[u8], limits: &Limits) -> Result<Embeddings> {
    let mut base64 = false;
    let mut read = Body::read(body, limits, &["input", "encoding_format", DIMENSIONS], |read, key| match key {
        "input" => input(read),
        DIMENSIONS if read.null() => Ok(()),
        DIMENSIONS => {
            let dimensions = read.reader.whole()?;
            read.request.parameters.set(DIMENSIONS, ParameterValue::Int64(dimensions));
            Ok(())
        }
        _ => {
            base64 = !read.null() && format(&mut read.reader)?;
            Ok(())
        }
    })?;
    read.needs("input")?;
    read.ask(EMBEDDING);
    Ok(Embeddings { request: read.request, base64 })
}

fn format(reader: &mut Reader<'_>) -> Result<bool> {
    match &*reader.string()? {
        "float" => Ok(false),
        "base64" => Ok(true),
        other => {
            let shown: String = other.chars().take(40).collect();
            Err(Error::invalid(format!("it is '{shown}', expected \"float\" or \"base64\"")))
        }
    }
}

fn input(read: &mut Body<'_>) -> Result<()> {
    let mut list = Texts::new(read.reader.text().len());
    if read.reader.peek() == Some(b'"') {
        list.push(read.reader.string()?.as_bytes())?;
        return read.give(TEXT, list);
    }
    read.reader.expect(b'[', "to start a list of texts or tokens, or a text")?;
    let mut first = true;
    match read.reader.peek() {
        Some(b']') => Err(Error::invalid("it is an empty list, expected at least one text")),
        Some(b'"') => {
            while read.reader.next_item(b']', &mut first)? {
                list.push(read.reader.string()?.as_bytes())?;
            }
            read.give(TEXT, list)
        }
        Some(b'[') => {
            while read.reader.next_item(b']', &mut first)? {
                read.reader.expect(b'[', "to start a list of tokens")?;
                list.push(&ids(&mut read.reader)?)?;
            }
            read.give(TOKEN_IDS, list)
        }
        _ => {
            list.push(&ids(&mut read.reader)?)?;
            read.give(TOKEN_IDS, list)
        }
    }
}

/// The tokens of a list whose bracket has been read, four bytes each.
fn ids(reader: &mut Reader<'_>) -> Result<Vec<u8>> {
    let (mut ids, mut first) = (Vec::new(), true);
    while reader.next_item(b']', &mut first)? {
        let id = reader.whole()?;
        let id = u32::try_from(id).map_err(|_| Error::invalid(format!("{id} is no token")))?;
        ids.extend_from_slice(&id.to_le_bytes());
    }
    Ok(ids)
}

/// The answer: a vector for each text, in order.
///
/// # Errors
/// `Internal` where the response holds no vectors.
pub fn encode_embeddings(response: &InferResponse, base64: bool) -> Result<Bytes> {
    let broken = || Error::internal("the response has no vectors");
    let (_, vectors) = response.outputs.iter().find(|(name, _)| &**name == EMBEDDING).ok_or_else(broken)?;
    let &[rows, width] = &vectors.shape()[..] else { return Err(broken()) };
    let mut out = Vec::with_capacity(vectors.data().len() * 3 + rows * 64 + 128);
    out.push(b'{');
    writer::key(&mut out, "object");
    out.extend_from_slice(b"\"list\",");
    writer::key(&mut out, "data");
    // A vector of nothing has no bytes, and chunks of nothing are not allowed.
    let bytes = vectors.data().chunks_exact((width * size_of::<f32>()).max(1));
    writer::list(&mut out, bytes.enumerate(), |out, (index, vector)| {
        out.extend_from_slice(b"{\"object\":\"embedding\",\"index\":");
        writer::integer(out, index);
        out.extend_from_slice(b",\"embedding\":");
        if base64 {
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(vector).as_bytes());
            out.push(b'"');
        } else {
            let (values, _) = vector.as_chunks::<4>();
            writer::list(out, values, |out, &value| writer::float(out, f32::from_le_bytes(value)));
        }
        out.push(b'}');
    });
    out.push(b',');
    writer::key(&mut out, "model");
    writer::string(&mut out, response.model.as_str());
    end_with_usage(&mut out, response);
    Ok(out.into())
}
