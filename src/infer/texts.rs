//! The words of a model's text face: names of its inputs, outputs and parameters.

/// The input that takes texts.
pub const TEXT: &str = "text";
/// The input that takes the second text of each pair.
pub const TEXT_PAIR: &str = "text_pair";
/// The input that takes tokens in place of texts: their ids one behind the other, each in four bytes, the lowest first.
pub const TOKEN_IDS: &str = "token_ids";

/// The output of encoders: a vector for each text.
pub const EMBEDDING: &str = "embedding";
/// The output of classifiers: the best label of each text.
pub const LABEL: &str = "label";
/// The output of classifiers: the score of that label.
pub const SCORE: &str = "score";
/// The output of classifiers: a number for each label.
pub const LOGITS: &str = "logits";
/// The output of token classifiers: for each text the tokens and their labels, as a list in JSON.
pub const TAGS: &str = "tags";

/// The parameter that says whether a text that is too long loses its end, or its start where the tokenizer has it so; true without
/// it.
pub const TRUNCATE: &str = "truncate";
/// The parameter that says how long vectors are to be.
pub const DIMENSIONS: &str = "dimensions";
/// The parameter of an answer that tells how many tokens its texts had.
pub const TOKENS: &str = "tokens";

/// Texts of one request. OpenAI's own bound, and above what fills any batch.
pub const TEXTS_MAX: usize = 2048;
