//! What lies beside a tokenizer: the files of a Hugging Face folder that say what a model's tensors mean.
//!
//! What decides how long a text may be is what sentence-transformers goes by: `sentence_bert_config.json`, else
//! `tokenizer_config.json`; only where neither says so, the truncation in `tokenizer.json`. Never more than the model has
//! positions for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::pooling::Pooling;
use crate::error::{Error, Result};

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CONFIG: &str = "config.json";
const SENTENCE_CONFIG: &str = "sentence_bert_config.json";
const MODULES: &str = "modules.json";

/// Bytes of a file of settings. Configurations with thousands of labels have some 100 KiB.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Lengths above this are how "no bound" is written (1e30).
const LENGTH_MAX: f64 = 1e7;

/// Families whose positions are counted from behind the padding token's id.
const OFFSET_POSITIONS: [&str; 6] = ["roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer"];

/// Whether the file called `name`, relative to the folder of a tokenizer, may be read for a model's text face.
pub fn is_read(name: &str) -> bool {
    let of_a_module = || name.split_once('/').is_some_and(|(_, file)| file == CONFIG);
    [TOKENIZER, TOKENIZER_CONFIG, CONFIG, SENTENCE_CONFIG, MODULES].contains(&name) || of_a_module()
}

/// What a folder with a `tokenizer.json` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Folder {
    /// The tokenizer's file.
    pub tokenizer: PathBuf,
    /// Tokens that a text may have, special ones included, where a file says so.
    pub tokens_max: Option<usize>,
    /// Tokens that the model has positions for.
    pub positions_max: Option<usize>,
    /// Whether a text that is too long loses its start, where a file says so.
    pub truncates_left: Option<bool>,
    /// Whether texts are read in lower case.
    pub lowercase: bool,
    /// Rows of the model's table of embeddings.
    pub vocabulary: Option<usize>,
    /// The id of the padding token.
    pub pad_id: Option<u32>,
    /// The class that the model is: "BertForSequenceClassification".
    pub architecture: Option<String>,
    /// The labels, by index; empty where none are named.
    pub labels: Vec<String>,
    /// What becomes of logits, where a file says so.
    pub activation: Option<Activation>,
    /// What becomes of the vectors of a text's tokens, in the order of the parts; `None` without a `modules.json`.
    pub pooling: Option<Vec<Pooling>>,
    /// Whether vectors are made to have the length 1.
    pub normalize: bool,
    /// Which shorter vectors are of use too.
    pub shorter: Shorter,
    /// A module that is not served.
    pub unserved: Option<String>,
}

/// What becomes of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Shares of one.
    Softmax,
    /// Each by itself.
    Sigmoid,
    /// They stay as they are.
    None,
}

/// The first parts of vectors that are of use without the rest (Matryoshka representation learning).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Shorter {
    /// None.
    #[default]
    No,
    /// Any.
    Any,
    /// Those of these lengths.
    Of(Vec<usize>),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    #[serde(deserialize_with = "loosely")]
    model_max_length: Option<f64>,
    #[serde(deserialize_with = "loosely")]
    truncation_side: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SentenceConfig {
    #[serde(deserialize_with = "loosely")]
    max_seq_length: Option<f64>,
    #[serde(deserialize_with = "loosely")]
    do_lower_case: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ModelConfig {
    #[serde(deserialize_with = "loosely")]
    architectures: Option<Vec<String>>,
    #[serde(deserialize_with = "loosely")]
    model_type: Option<String>,
    #[serde(deserialize_with = "loosely")]
    id2label: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "loosely")]
    problem_type: Option<String>,
    #[serde(deserialize_with = "loosely")]
    max_position_embeddings: Option<f64>,
    #[serde(deserialize_with = "loosely")]
    vocab_size: Option<usize>,
    #[serde(deserialize_with = "loosely")]
    pad_token_id: Option<i64>,
    #[serde(deserialize_with = "loosely")]
    is_matryoshka: Option<bool>,
    #[serde(deserialize_with = "loosely")]
    matryoshka_dimensions: Option<Vec<usize>>,
    #[serde(deserialize_with = "loosely")]
    sbert_ce_default_activation_function: Option<String>,
    #[serde(deserialize_with = "loosely")]
    sentence_transformers: Option<CrossEncoder>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CrossEncoder {
    #[serde(deserialize_with = "loosely")]
    activation_fn: Option<String>,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Folder {
    /// Reads the first of `folders` that has a tokenizer; `None` where none has.
    ///
    /// # Errors
    /// `ModelUnavailable` that names the file which is not what it should be.
    pub fn find<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Result<Option<Self>> {
        let mut folders = folders.into_iter();
        folders.find(|folder| folder.join(TOKENIZER).is_file()).map(Self::read).transpose()
    }

    fn read(folder: &Path) -> Result<Self> {
        let of_tokenizer: TokenizerConfig = read(&folder.join(TOKENIZER_CONFIG), b'{')?.unwrap_or_default();
        let of_sentences: SentenceConfig = read(&folder.join(SENTENCE_CONFIG), b'{')?.unwrap_or_default();
        let config: ModelConfig = read(&folder.join(CONFIG), b'{')?.unwrap_or_default();
        let length = |length: f64| (1.0..LENGTH_MAX).contains(&length).then_some(length as usize);
        let mut read = Self {
            tokenizer: folder.join(TOKENIZER),
            tokens_max: of_sentences.max_seq_length.or(of_tokenizer.model_max_length).and_then(length),
            truncates_left: of_tokenizer.truncation_side.map(|side| side == "left"),
            lowercase: of_sentences.do_lower_case.unwrap_or(false),
            vocabulary: config.vocab_size,
            pad_id: config.pad_token_id.and_then(|id| u32::try_from(id).ok()),
            ..Self::default()
        };
        let offset = match (&config.model_type, read.pad_id) {
            (Some(family), Some(pad)) if OFFSET_POSITIONS.contains(&family.as_str()) => pad as usize + 1,
            _ => 0,
        };
        let positions = config.max_position_embeddings.and_then(length);
        read.positions_max = positions.map(|positions| positions.saturating_sub(offset).max(1));
        read.take_config(config);
        read.take_modules(folder)?;
        Ok(read)
    }

    fn take_config(&mut self, config: ModelConfig) {
        let by_index = |(index, label): (String, String)| Some((index.parse::<usize>().ok()?, label));
        let named: BTreeMap<usize, String> =
            config.id2label.unwrap_or_default().into_iter().filter_map(by_index).collect();
        // Labels without a gap; what is behind one has no name.
        self.labels =
            named.into_iter().enumerate().map_while(|(at, (id, label))| (at == id).then_some(label)).collect();
        self.architecture = config.architectures.and_then(|names| names.into_iter().next());
        let of_pairs = config.sentence_transformers.and_then(|own| own.activation_fn);
        let stated = of_pairs.or(config.sbert_ce_default_activation_function).and_then(|name| named_activation(&name));
        self.activation = stated.or(match config.problem_type.as_deref() {
            Some("multi_label_classification") => Some(Activation::Sigmoid),
            Some("single_label_classification") => Some(Activation::Softmax),
            Some("regression") => Some(Activation::None),
            _ => None,
        });
        self.shorter = match (config.matryoshka_dimensions, config.is_matryoshka) {
            (Some(lengths), _) if !lengths.is_empty() => Shorter::Of(lengths),
            (_, Some(true)) => Shorter::Any,
            _ => Shorter::No,
        };
    }

    /// The steps of sentence-transformers, but for the first, which is the model.
    fn take_modules(&mut self, folder: &Path) -> Result<()> {
        let Some(modules): Option<Vec<Module>> = read(&folder.join(MODULES), b'[')? else { return Ok(()) };
        for Module { path, kind } in modules {
            match kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" => {}
                "Pooling" => {
                    if !Path::new(&path).components().all(|part| matches!(part, Component::Normal(_))) {
                        let file = folder.join(MODULES);
                        let message = format!("{}: the module in '{path}' is outside of its folder", file.display());
                        return Err(Error::unavailable(message));
                    }
                    let file = folder.join(path).join(CONFIG);
                    let settings: Map<String, Value> = read(&file, b'{')?.unwrap_or_default();
                    let pooling = Pooling::of_settings(&settings);
                    self.pooling =
                        Some(pooling.map_err(|why| Error::unavailable(format!("{}: {why}", file.display())))?);
                }
                "Normalize" => self.normalize = true,
                other => self.unserved = Some(other.to_owned()),
            }
        }
        Ok(())
    }
}

/// The name of one of torch's modules, as sentence-transformers keeps it.
fn named_activation(name: &str) -> Option<Activation> {
    match name.rsplit('.').next()? {
        "Identity" => Some(Activation::None),
        "Sigmoid" => Some(Activation::Sigmoid),
        "Softmax" => Some(Activation::Softmax),
        _ => None,
    }
}

/// A value where it is of the type that it usually is; as if absent where not, since every architecture has members of its own.
fn loosely<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

/// The content of a file in JSON that starts with `opening`; `None` where there is no such file.
fn read<T: DeserializeOwned>(path: &Path, opening: u8) -> Result<Option<T>> {
    let refused = |cause: &dyn std::fmt::Display| Error::unavailable(format!("{}: {cause}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(refused(&format_args!("cannot be read: {cause}"))),
    };
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(|cause| refused(&format_args!("cannot be read: {cause}")))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(refused(&format_args!("has more than {FILE_BYTES_MAX} bytes")));
    }
    // Derived readers of objects take lists of their values too.
    if text.trim_ascii_start().first() != Some(&opening) {
        return Err(refused(&format_args!(
            "is not the JSON that Hugging Face writes: no '{}' to start it",
            opening as char
        )));
    }
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|cause| refused(&format_args!("is not the JSON that Hugging Face writes: {cause}")))
}
