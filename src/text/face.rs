//! The text face of one loaded version: its form, and its tokenizer where it is in memory.

use std::path::Path;
use std::sync::{Arc, Weak};

use smallvec::SmallVec;

use super::folder::Folder;
use super::form::Form;
use super::pool::Pool;
use super::tokenizer::{Alone, Tokenizer, Tokens};
use crate::error::{Error, Result};
use crate::infer::texts::{DIMENSIONS, TEXT, TEXT_PAIR, TEXTS_MAX, TOKEN_IDS, TRUNCATE};
use crate::infer::{InferRequest, ParameterValue, validate};
use crate::model::Signature;
use crate::tensor::{DataType, Tensor};

/// Tokens of one request: as many texts of the usual greatest length. Twenty-four bytes each as tensors.
const TOKENS_MAX: usize = 1 << 20;

/// Bytes of text that are tokenized where the request runs: a question, most sentences. They take some 100 us (1.0 to 1.8 MB/s by
/// WordPiece), little more than a hand-off and back; more would hold up the other requests of this thread.
const IN_PLACE_BYTES_MAX: usize = 128;

/// See the module.
pub struct TextFace {
    form: Arc<Form>,
    tokenizer: Option<Arc<Tokenizer>>,
    pool: Arc<Pool>,
}

/// What lies beside a model for texts.
pub struct Beside {
    folder: Folder,
    tokenizer: Tokenizer,
}

/// What a request asks of texts, checked.
pub struct Asked {
    texts: Arc<Texts>,
    /// How many there are.
    pub rows: usize,
    /// How long vectors are to be, if shorter than they are.
    pub dimensions: Option<usize>,
    /// Positions of the face's outputs, in the order wanted.
    pub outputs: SmallVec<[usize; 4]>,
}

struct Texts {
    source: Source,
    truncate: bool,
    spans: bool,
}

enum Source {
    /// Texts, or pairs; one text may stand before many.
    Texts(Tensor, Option<Tensor>),
    Ids(Tensor),
}

impl Beside {
    /// Reads the first of `folders` that has a tokenizer; `None` where none has.
    ///
    /// # Errors
    /// `ModelUnavailable` that names the file which is not what it should be.
    pub fn find<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Result<Option<Self>> {
        let Some(folder) = Folder::find(folders)? else { return Ok(None) };
        let tokenizer = Tokenizer::read(&folder)?;
        Ok(Some(Self { folder, tokenizer }))
    }
}

impl TextFace {
    /// The face of a model with `signature`.
    ///
    /// # Errors
    /// Why the model takes no texts.
    pub fn of(beside: &Beside, signature: &Signature, pool: &Arc<Pool>) -> Result<Self, String> {
        let Beside { folder, tokenizer } = beside;
        let own = [TEXT, TEXT_PAIR, TOKEN_IDS].into_iter().find(|name| signature.input(name).is_some());
        if let Some(own) = own {
            return Err(format!("it has an input '{own}' of its own"));
        }
        let form = Form::of(signature, folder)?;
        let tokenizer = tokenizer.of_length(form.length());
        let (special, most) = (tokenizer.added(false), tokenizer.tokens_max());
        if special >= most {
            return Err(format!("its inputs have room for {most} tokens, and {special} are special ones"));
        }
        let form = match folder.pad_id.or(tokenizer.pad_id()) {
            Some(pad) => form.padded_with(pad),
            None => form,
        };
        Ok(Self { form: Arc::new(form), tokenizer: Some(Arc::new(tokenizer)), pool: Arc::clone(pool) })
    }

    /// What is known of it while the model is not in memory.
    #[must_use]
    pub fn paged_out(&self) -> Self {
        Self { form: Arc::clone(&self.form), tokenizer: None, pool: Arc::clone(&self.pool) }
    }

    /// What texts become.
    pub fn form(&self) -> &Arc<Form> {
        &self.form
    }

    /// The threads for what takes long.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Whether `request` is for this face and not for the model's tensors. KServe's own server takes texts under any name, so
    /// that a single input of BYTES is one too: no input of the model can be of that datatype.
    pub fn is_for(&self, request: &InferRequest) -> bool {
        let named = |name: &str| [TEXT, TEXT_PAIR, TOKEN_IDS].contains(&name);
        match &request.inputs[..] {
            [only] => only.tensor.datatype() == DataType::Bytes || named(&only.name),
            inputs => inputs.iter().any(|input| named(&input.name)),
        }
    }

    /// Takes inputs and parameters of this face out of `request`, checked.
    ///
    /// # Errors
    /// `InvalidRequest` and `TooLarge`, with what would be right.
    pub fn take(&self, request: &mut InferRequest) -> Result<Asked> {
        let name = std::mem::take(&mut request.model);
        let taken = self.take_named(&name, request);
        request.model = name;
        taken
    }

    fn take_named(&self, name: &str, request: &mut InferRequest) -> Result<Asked> {
        let of_model = |error: Error| error.within(format_args!("model '{name}'"));
        if let [only] = &mut request.inputs[..]
            && only.tensor.datatype() == DataType::Bytes
            && ![TEXT_PAIR, TOKEN_IDS].contains(&only.name.as_str())
        {
            TEXT.clone_into(&mut only.name);
        }
        for input in &mut request.inputs {
            // One column is what clients make of rows that are batched.
            if input.tensor.datatype() == DataType::Bytes
                && let [rows, 1] = input.tensor.shape()[..]
                && let Ok(flat) = input.tensor.clone().reshaped([rows].into())
            {
                input.tensor = flat;
            }
        }
        let truncate = match request.parameters.remove(TRUNCATE) {
            None => true,
            Some(ParameterValue::Bool(truncate)) => truncate,
            Some(other) => {
                let message = format!("parameter '{TRUNCATE}' is {other:?}, expected true or false");
                return Err(of_model(Error::invalid(message)));
            }
        };
        let dimensions = request.parameters.remove(DIMENSIONS).map(|value| self.dimensions(&value));
        let dimensions = dimensions.transpose().map_err(of_model)?.flatten();
        let valid = validate(name, self.form.signature(), request)?;
        // In the order of the form's signature.
        let mut inputs = valid.inputs.into_iter();
        let [text, pair, ids] = std::array::from_fn(|_| inputs.next().flatten());
        let (source, rows) = source(text, pair, ids).map_err(of_model)?;
        let texts = Arc::new(Texts { source, truncate, spans: self.form.tags() });
        Ok(Asked { texts, rows, dimensions, outputs: valid.outputs })
    }

    fn dimensions(&self, value: &ParameterValue) -> Result<Option<usize>> {
        let asked = match value {
            ParameterValue::Int64(asked) => Some(*asked),
            ParameterValue::Uint64(asked) => i64::try_from(*asked).ok(),
            _ => None,
        };
        let whole = || Error::invalid(format!("parameter '{DIMENSIONS}' is {value:?}, expected a whole number"));
        self.form.dimensions(asked.ok_or_else(whole)?)
    }

    /// The tokens of every text. Short ones are tokenized at once, others on the pool; dropping the future stops that.
    ///
    /// # Errors
    /// `InvalidRequest` for a text that is empty, no UTF-8 or too long, with its number; `TooLarge` for too many tokens in all.
    pub async fn tokens(&self, asked: &Asked) -> Result<Vec<Tokens>> {
        let tokenizer = self.tokenizer.clone().ok_or_else(|| Error::unavailable("it is not in memory"))?;
        if asked.texts.bytes() <= IN_PLACE_BYTES_MAX {
            return tokenize(&tokenizer, &asked.texts, || true);
        }
        let wanted = Arc::downgrade(&asked.texts);
        self.pool.run(move || tokenize_while_wanted(&tokenizer, &wanted)).await?
    }
}

/// The texts, and how many there are.
fn source(text: Option<Tensor>, pair: Option<Tensor>, ids: Option<Tensor>) -> Result<(Source, usize)> {
    let rows = |tensor: &Tensor| tensor.rows().unwrap_or(0);
    let (source, count) = match (text, pair, ids) {
        (Some(text), None, None) => {
            let count = rows(&text);
            (Source::Texts(text, None), count)
        }
        (Some(text), Some(pair), None) => {
            let (texts, count) = (rows(&text), rows(&pair));
            if texts != count && texts != 1 {
                let message =
                    format!("input '{TEXT}' has {texts} rows, '{TEXT_PAIR}' {count}: expected as many, or one text");
                return Err(Error::invalid(message));
            }
            (Source::Texts(text, Some(pair)), count)
        }
        (None, None, Some(ids)) => {
            let count = rows(&ids);
            (Source::Ids(ids), count)
        }
        (None, Some(_), None) => return Err(Error::invalid(format!("it has '{TEXT_PAIR}', but no '{TEXT}'"))),
        (None, None, None) => {
            return Err(Error::invalid(format!("input '{TEXT}' is missing, expected {TEXT} BYTES[-1]")));
        }
        (_, _, Some(_)) => return Err(Error::invalid(format!("it has '{TOKEN_IDS}' and texts, expected one of them"))),
    };
    if count == 0 {
        return Err(Error::invalid("it has no texts, expected at least one"));
    }
    if count > TEXTS_MAX {
        return Err(Error::too_large(format!("it has {count} texts, expected at most {TEXTS_MAX}")));
    }
    Ok((source, count))
}

impl Texts {
    fn bytes(&self) -> usize {
        match &self.source {
            Source::Texts(texts, pairs) => texts.data().len() + pairs.as_ref().map_or(0, |pairs| pairs.data().len()),
            // They only have to be looked at.
            Source::Ids(ids) => ids.data().len() / 1024,
        }
    }
}

/// Stops between two texts where nobody wants them any more.
fn tokenize_while_wanted(tokenizer: &Tokenizer, wanted: &Weak<Texts>) -> Result<Vec<Tokens>> {
    let gone = || Error::cancelled("the client went away");
    let texts = wanted.upgrade().ok_or_else(gone)?;
    tokenize(tokenizer, &texts, || Arc::strong_count(&texts) > 1)
}

fn tokenize(tokenizer: &Tokenizer, texts: &Texts, wanted: impl Fn() -> bool) -> Result<Vec<Tokens>> {
    let mut all = Vec::new();
    let mut total = 0;
    let mut note = |tokens: Tokens| {
        total += tokens.ids.len();
        all.push(tokens);
        if total > TOKENS_MAX {
            return Err(Error::too_large(format!("its texts have more than {TOKENS_MAX} tokens together")));
        }
        if wanted() { Ok(()) } else { Err(Error::cancelled("the client went away")) }
    };
    let broken = |cause: crate::tensor::TensorError| Error::internal(cause.to_string());
    let alone = |input: &str, row: usize, bytes: Option<&[u8]>| {
        let encoded = read(bytes).and_then(|text| tokenizer.alone(text, texts.spans));
        encoded.map_err(|error| error.within(format_args!("{input} {row}")))
    };
    match &texts.source {
        Source::Texts(first, second) => {
            let count = second.as_ref().unwrap_or(first).rows().unwrap_or(0);
            let mut firsts = first.byte_strings().map_err(broken)?;
            let mut seconds = second.as_ref().map(|second| second.byte_strings().map_err(broken)).transpose()?;
            let mut one: Option<Alone> = None;
            for row in 0..count {
                // One text before many is tokenized once.
                let text = match &one {
                    Some(one) => one.clone(),
                    None => alone(TEXT, row, firsts.next())?,
                };
                let pair = seconds.as_mut().map(|seconds| alone(TEXT_PAIR, row, seconds.next())).transpose()?;
                if first.rows() == Some(1) && count > 1 {
                    one.get_or_insert_with(|| text.clone());
                }
                let what = if pair.is_some() { "pair" } else { TEXT };
                let joined = tokenizer.join(text, pair, texts.truncate, texts.spans);
                note(joined.map_err(|error| error.within(format_args!("{what} {row}")))?)?;
            }
        }
        Source::Ids(ids) => {
            for (row, bytes) in ids.byte_strings().map_err(broken)?.enumerate() {
                let given = tokenizer.given(bytes, texts.truncate);
                note(given.map_err(|error| error.within(format_args!("{TOKEN_IDS} {row}")))?)?;
            }
        }
    }
    Ok(all)
}

/// One text. Empty ones are refused, as by OpenAI and text-embeddings-inference: what comes of them is the same for any model and
/// any use, and nobody means it.
fn read(bytes: Option<&[u8]>) -> Result<&str> {
    let text = std::str::from_utf8(bytes.unwrap_or_default())
        .map_err(|cause| Error::invalid(format!("it is no UTF-8 from its byte {} on", cause.valid_up_to())))?;
    if text.is_empty() { Err(Error::invalid("it is empty, expected a text")) } else { Ok(text) }
}
