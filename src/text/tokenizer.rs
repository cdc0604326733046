//! Texts to tokens.

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokenizers::{
    Encoding, PostProcessor, TruncationDirection, TruncationParams, TruncationStrategy, truncate_encodings,
};

use super::folder::Folder;
use crate::error::{Error, Result};
use crate::infer::texts::TRUNCATE;

/// Bytes of a tokenizer's file. The largest vocabularies in use, of 256,000 tokens with their merges, take some 35 MB.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Tokens that a text may have where no file says so: what most encoders are trained with.
const TOKENS_MAX: usize = 512;

/// Bytes of a text that are looked at for each token that it may have. Words of any language take fewer than thirty, so that
/// what is not looked at would be cut off; and nobody can have the server keep a hundred bytes for each of a body's.
const BYTES_PER_TOKEN_MAX: usize = 256;

/// The tokens of one text, or of a pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Their ids, special ones included.
    pub ids: Vec<u32>,
    /// Which text of a pair each belongs to.
    pub types: Vec<u32>,
    /// Where those that are not special stand in the text; empty where nobody asked.
    pub(super) spans: Vec<Span>,
}

/// A token in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Which of the text's tokens it is.
    pub(super) index: usize,
    pub(super) token: String,
    /// In characters.
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The tokens of one text before special ones are added, no more than matter.
#[derive(Clone)]
pub(super) struct Alone {
    encoding: Encoding,
    /// How many there were.
    count: usize,
    /// Whether not all of the text was looked at.
    cut: bool,
}

/// A tokenizer, and how long its texts may be. Cloning shares the vocabulary.
#[derive(Clone)]
pub(super) struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    tokens_max: usize,
    direction: TruncationDirection,
    lowercase: bool,
    /// One more than the largest id.
    ids_end: u32,
}

impl Tokenizer {
    /// Reads the tokenizer of `folder`.
    ///
    /// # Errors
    /// `ModelUnavailable` that names the file: it is no tokenizer, or has tokens that the model has no embeddings for.
    pub(super) fn read(folder: &Folder) -> Result<Self> {
        let refused =
            |why: &dyn std::fmt::Display| Error::unavailable(format!("{}: {why}", folder.tokenizer.display()));
        let mut text = Vec::new();
        let read = File::open(&folder.tokenizer).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text));
        read.map_err(|cause| refused(&format_args!("cannot be read: {cause}")))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(refused(&format_args!("has more than {FILE_BYTES_MAX} bytes")));
        }
        // It has panicked on files that are none.
        let parsed = catch_unwind(|| tokenizers::Tokenizer::from_bytes(&text));
        let parsed = parsed.map_err(|_| refused(&"is no tokenizer of Hugging Face's: reading it panicked"))?;
        let mut inner = parsed.map_err(|cause| refused(&format_args!("is no tokenizer of Hugging Face's: {cause}")))?;
        let own = inner.get_truncation().cloned();
        // Both are done here, where a request can say otherwise.
        inner.with_truncation(None).map_err(|cause| refused(&cause))?.with_padding(None);
        let ids_end = inner.get_vocab(true).values().max().map_or(0, |id| id.saturating_add(1));
        if let Some(rows) = folder.vocabulary.filter(|&rows| (ids_end as usize) > rows) {
            let id = ids_end - 1;
            let message =
                format_args!("has a token of id {id}, but by config.json the model has a vocab_size of {rows}");
            return Err(refused(&message));
        }
        let stated = folder.tokens_max.or(own.as_ref().map(|own| own.max_length)).unwrap_or(TOKENS_MAX);
        let tokens_max = stated.min(folder.positions_max.unwrap_or(usize::MAX));
        let special = added(&inner, true);
        if tokens_max <= special {
            return Err(refused(&format_args!(
                "adds {special} special tokens, but a text may have {tokens_max} at most"
            )));
        }
        let left =
            folder.truncates_left.unwrap_or_else(|| own.is_some_and(|own| own.direction == TruncationDirection::Left));
        let direction = if left { TruncationDirection::Left } else { TruncationDirection::Right };
        Ok(Self { inner: Arc::new(inner), tokens_max, direction, lowercase: folder.lowercase, ids_end })
    }

    /// The same for texts of at most `length` tokens.
    #[must_use]
    pub(super) fn of_length(&self, length: Option<usize>) -> Self {
        Self { tokens_max: self.tokens_max.min(length.unwrap_or(usize::MAX)), ..self.clone() }
    }

    /// Special tokens that are added to a text, or to a pair.
    pub(super) fn added(&self, pair: bool) -> usize {
        added(&self.inner, pair)
    }

    /// The tokens that a text may have, special ones included.
    pub(super) fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    /// The id of the token that stands behind shorter texts, where the tokenizer knows one.
    pub(super) fn pad_id(&self) -> Option<u32> {
        ["[PAD]", "<pad>", "<|padding|>"].into_iter().find_map(|token| self.inner.token_to_id(token))
    }

    /// The tokens of `text` by itself, with their places where `spans` is: what [`Tokenizer::join`] makes a text or a pair of.
    ///
    /// # Errors
    /// `InvalidRequest` where the tokenizer does not take it.
    pub(super) fn alone(&self, text: &str, spans: bool) -> Result<Alone> {
        guarded(|| {
            let looked_at = self.part(text);
            let lower = self.lowercase.then(|| looked_at.to_lowercase());
            let given = lower.as_deref().unwrap_or(looked_at);
            let encoded = match spans {
                true => self.inner.encode_char_offsets(given, false),
                false => self.inner.encode_fast(given, false),
            };
            let mut encoding =
                encoded.map_err(|cause| Error::invalid(format!("the tokenizer does not take it: {cause}")))?;
            let count = encoding.len();
            // More of it is in no pair either.
            encoding.truncate(self.tokens_max, 0, self.direction);
            encoding.set_overflowing(Vec::new());
            Ok(Alone { encoding, count, cut: looked_at.len() < text.len() })
        })
    }

    /// The tokens of a text, or of the pair that it makes with another, special ones added.
    ///
    /// # Errors
    /// `InvalidRequest` for a text that is too long and may not be truncated, or has no tokens at all.
    pub(super) fn join(&self, first: Alone, second: Option<Alone>, truncate: bool, spans: bool) -> Result<Tokens> {
        let special = added(&self.inner, second.is_some());
        if special >= self.tokens_max {
            let most = self.tokens_max;
            return Err(Error::invalid(format!(
                "the model takes {most} tokens, too few for the {special} special ones"
            )));
        }
        let count = first.count + second.as_ref().map_or(0, |second| second.count) + special;
        let cut = first.cut || second.as_ref().is_some_and(|second| second.cut);
        if !truncate && (cut || count > self.tokens_max) {
            let more = if cut { "at least " } else { "" };
            return Err(self.too_long(&format!("{more}{count}")));
        }
        guarded(|| {
            let broken = |cause: tokenizers::Error| Error::internal(format!("the tokenizer failed on it: {cause}"));
            let truncation = TruncationParams {
                direction: self.direction,
                max_length: self.tokens_max - special,
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
            };
            let second = second.map(|second| second.encoding);
            let (mut first, mut second) = truncate_encodings(first.encoding, second, &truncation).map_err(broken)?;
            // What was cut off would be made into texts of its own.
            for left in [Some(&mut first), second.as_mut()].into_iter().flatten() {
                left.set_overflowing(Vec::new());
            }
            // Before special tokens are added, since places would be worked out twice.
            let mut places: Vec<Span> = if spans { spans_of(&first) } else { Vec::new() };
            let whole = self.inner.post_process(first, second, true).map_err(broken)?;
            if whole.is_empty() {
                return Err(Error::invalid("it has no tokens"));
            }
            let mut own = whole.get_special_tokens_mask().iter().enumerate().filter(|(_, special)| **special == 0);
            places.iter_mut().for_each(|span| span.index = own.next().map_or(usize::MAX, |(index, _)| index));
            Ok(Tokens { ids: whole.get_ids().to_vec(), types: whole.get_type_ids().to_vec(), spans: places })
        })
    }

    fn too_long(&self, count: &str) -> Error {
        let (most, truncate) = (self.tokens_max, TRUNCATE);
        Error::invalid(format!("it has {count} tokens, the model takes at most {most} ('{truncate}' is false)"))
    }

    /// As much of `text`, from the end that stays, as can matter; up to a space where there is one.
    fn part<'a>(&self, text: &'a str) -> &'a str {
        let bytes_max = self.tokens_max.saturating_mul(BYTES_PER_TOKEN_MAX);
        if text.len() <= bytes_max {
            return text;
        }
        match self.direction {
            TruncationDirection::Right => {
                let end = (0..=bytes_max).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
                let head = &text[..end];
                head.rfind(char::is_whitespace).map_or(head, |space| &head[..space])
            }
            TruncationDirection::Left => {
                let from = text.len() - bytes_max;
                let start = (from..=text.len()).find(|&start| text.is_char_boundary(start)).unwrap_or(text.len());
                let tail = &text[start..];
                tail.find(char::is_whitespace).map_or(tail, |space| &tail[space..])
            }
        }
    }

    /// Token ids that a caller gives, four bytes each, as they are: special ones are the caller's to add.
    ///
    /// # Errors
    /// `InvalidRequest` where there are none, where one is no token, or for more than the model takes, unless `truncate`.
    pub(super) fn given(&self, bytes: &[u8], truncate: bool) -> Result<Tokens> {
        let (ids, rest) = bytes.as_chunks::<4>();
        if ids.is_empty() || !rest.is_empty() {
            let count = bytes.len();
            return Err(Error::invalid(format!("it has {count} bytes, expected at least one token of four")));
        }
        if ids.len() > self.tokens_max && !truncate {
            return Err(self.too_long(&ids.len().to_string()));
        }
        let kept = match self.direction {
            TruncationDirection::Right => &ids[..ids.len().min(self.tokens_max)],
            TruncationDirection::Left => &ids[ids.len().saturating_sub(self.tokens_max)..],
        };
        let ids: Vec<u32> = kept.iter().map(|&id| u32::from_le_bytes(id)).collect();
        if let Some(unknown) = ids.iter().find(|&&id| id >= self.ids_end) {
            let last = self.ids_end.saturating_sub(1);
            return Err(Error::invalid(format!("{unknown} is no token of the model, expected 0 to {last}")));
        }
        Ok(Tokens { types: vec![0; ids.len()], ids, spans: Vec::new() })
    }
}

/// A text must not take the thread of others with it.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(Error::internal("the tokenizer panicked on it")))
}

/// Special tokens that a text, or a pair, gets.
fn added(tokenizer: &tokenizers::Tokenizer, pair: bool) -> usize {
    tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(pair))
}

fn spans_of(encoding: &Encoding) -> Vec<Span> {
    let tokens = encoding.get_tokens().iter().zip(encoding.get_offsets());
    let span = |(index, (token, &(start, end)))| Span { index, token: String::clone(token), start, end };
    tokens.enumerate().map(span).collect()
}
