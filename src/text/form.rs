//! What a model's tensors mean for texts: which inputs take what of their tokens, which output is looked at, and what is made of
//! it.

use std::borrow::Cow;

use half::{bf16, f16};
use smallvec::SmallVec;

use super::classes::Classes;
use super::folder::{Folder, Shorter};
use super::tags;
use super::task::{Embed, Task, answers, questions, task};
use super::tokenizer::{Span, Tokens};
use crate::error::{Error, Result};
use crate::infer::Labels;
use crate::infer::texts::{LABEL, LOGITS, SCORE, TOKEN_IDS};
use crate::model::{Dim, Signature, TensorSpec};
use crate::tensor::{DataType, ElementBytes, Scalar, Shape, Tensor};

/// Tokens of one group: some 25 MB of vectors of an encoder like MiniLM, which are pooled as soon as they are there. Groups of more
/// rows than the scheduler joins would gain nothing.
const GROUP_TOKENS_MAX: usize = 16 << 10;

/// What an input takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Ids,
    /// 1 for each token.
    Mask,
    /// Which text of a pair.
    Types,
}

const PARTS: [(&str, Part); 3] =
    [("input_ids", Part::Ids), ("attention_mask", Part::Mask), ("token_type_ids", Part::Types)];

#[derive(Clone, Copy, Debug)]
struct Column {
    part: Part,
    datatype: DataType,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Form {
    /// For each input of the model.
    columns: Vec<Option<Column>>,
    /// Tokens that each row has to have, where the model says so.
    length: Option<usize>,
    /// Whether rows may be as many as one likes.
    joins: bool,
    output: usize,
    output_name: String,
    task: Task,
    signature: Signature,
    /// By position of the face's outputs.
    labels: Vec<Labels>,
    pad_id: u32,
}

/// Texts of one length, as the model takes them.
#[derive(Debug)]
pub struct Group {
    /// Which texts of the request they are.
    rows: Vec<usize>,
    /// One entry for each input of the model.
    pub inputs: SmallVec<[Option<Tensor>; 2]>,
    /// Tokens of each.
    tokens: usize,
    spans: Vec<Vec<Span>>,
}

impl Group {
    /// How many texts it has.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }
}

/// What a group's output became.
#[derive(Debug)]
pub struct Reduced {
    rows: Vec<usize>,
    width: usize,
    values: Vec<f32>,
    tags: Vec<String>,
}

impl Form {
    /// The form of a model with `signature` beside the tokenizer of `folder`.
    ///
    /// # Errors
    /// Why the model takes no texts.
    pub fn of(signature: &Signature, folder: &Folder) -> Result<Self, String> {
        let mut columns = Vec::with_capacity(signature.inputs.len());
        let (mut length, mut joins) = (None, true);
        for spec in &signature.inputs {
            let part = PARTS.iter().find(|(name, _)| *name == &*spec.name).map(|(_, part)| *part);
            let Some(part) = part else {
                if spec.optional {
                    columns.push(None);
                    continue;
                }
                return Err(format!("its input {spec} is none of {}", PARTS.map(|(name, _)| name).join(", ")));
            };
            if !matches!(spec.datatype, DataType::Int64 | DataType::Int32) {
                return Err(format!("its input {spec} is no INT64 or INT32"));
            }
            match spec.shape.as_deref() {
                None | Some([Dim::Dynamic(_), Dim::Dynamic(_)]) => {}
                Some([rows, tokens]) if rows.accepts(1) => {
                    joins &= matches!(rows, Dim::Dynamic(_));
                    if let Dim::Fixed(tokens) = tokens {
                        length = Some(length.map_or(*tokens, |known: usize| known.min(*tokens)));
                    }
                }
                Some(_) => return Err(format!("its input {spec} has no rows of tokens")),
            }
            columns.push(Some(Column { part, datatype: spec.datatype }));
        }
        if !columns.iter().flatten().any(|column| column.part == Part::Ids) {
            return Err("it has no input 'input_ids'".into());
        }
        let (task, output) = task(signature, folder)?;
        let (outputs, labels) = answers(&task);
        let pad_id = folder.pad_id.unwrap_or(0);
        let output_name = signature.outputs[output].name.to_string();
        let signature = Signature { inputs: questions(), outputs };
        Ok(Self { columns, length, joins, output, output_name, task, signature, labels, pad_id })
    }

    /// The tokens that a text may have, by the shape of the model's inputs.
    pub fn length(&self) -> Option<usize> {
        self.length
    }

    /// The same with `pad_id` behind texts that are shorter than others.
    pub(super) fn padded_with(self, pad_id: u32) -> Self {
        Self { pad_id, ..self }
    }

    /// Inputs and outputs of the text face.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The inputs that metadata tell of: texts. Token ids are for those who know of them.
    pub fn inputs_told(&self) -> impl Iterator<Item = &TensorSpec> {
        self.signature.inputs.iter().filter(|spec| &*spec.name != TOKEN_IDS)
    }

    /// The names of the classes of the face's output at `position`.
    pub fn labels(&self, position: usize) -> &Labels {
        &self.labels[position]
    }

    /// The position of the model's output that is looked at.
    pub fn output(&self) -> usize {
        self.output
    }

    /// Whether its answer is the tokens of a text.
    pub fn tags(&self) -> bool {
        matches!(self.task, Task::Tag(_))
    }

    /// Whether its answer is a vector for a text.
    pub fn embeds(&self) -> bool {
        matches!(self.task, Task::Embed(_))
    }

    /// Whether its answer is one score for a pair of texts.
    pub fn ranks(&self) -> bool {
        let one = |spec: &TensorSpec| matches!(spec.shape.as_deref(), Some([_, Dim::Fixed(1)]));
        matches!(self.task, Task::Classify(_)) && self.signature.output(LOGITS).is_some_and(|(_, spec)| one(spec))
    }

    /// For each input of the model, what may stand behind its tokens: padding that the mask hides.
    pub fn pads(&self) -> Vec<Option<ElementBytes>> {
        let masked = self.columns.iter().flatten().any(|column| column.part == Part::Mask);
        let pad = |column: &Option<Column>| {
            let Column { part, datatype } = column.filter(|_| masked)?;
            let value = if part == Part::Ids { self.pad_id.into() } else { 0 };
            Scalar::Whole(value).element(datatype)
        };
        self.columns.iter().map(pad).collect()
    }

    /// The length that vectors are cut to, where a request asks for `dimensions`.
    ///
    /// # Errors
    /// `InvalidRequest` for a length that the model's vectors do not have.
    pub fn dimensions(&self, dimensions: i64) -> Result<Option<usize>> {
        let Task::Embed(Embed { shorter, width, .. }) = &self.task else {
            return Err(Error::invalid("it has the parameter 'dimensions', but the model gives no embeddings"));
        };
        let asked = usize::try_from(dimensions).ok().filter(|&asked| asked > 0);
        let own = |asked: usize| Some(asked) == *width;
        let is_of_use = |asked: &usize| match shorter {
            Shorter::No => false,
            Shorter::Any => width.is_none_or(|width| *asked < width),
            Shorter::Of(lengths) => lengths.contains(asked) && width.is_none_or(|width| *asked < width),
        };
        match asked {
            Some(asked) if own(asked) => Ok(None),
            Some(asked) if is_of_use(&asked) => Ok(Some(asked)),
            _ => {
                let own = width.map_or_else(|| "the model's own".into(), |width| width.to_string());
                let expected = match shorter {
                    Shorter::No => format!("{own}: config.json states no shorter ones (matryoshka_dimensions)"),
                    Shorter::Any => format!("at most {own}"),
                    Shorter::Of(lengths) => {
                        let lengths: Vec<String> = lengths.iter().map(usize::to_string).collect();
                        format!("{own}, or one of {}", lengths.join(", "))
                    }
                };
                Err(Error::invalid(format!("'dimensions' is {dimensions}, expected {expected}")))
            }
        }
    }

    /// `texts` in groups of one length each, the shortest first.
    ///
    /// # Errors
    /// `Internal` where tensors cannot be made, which their sizes exclude.
    pub fn groups(&self, mut texts: Vec<Tokens>) -> Result<Vec<Group>> {
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&text| texts[text].ids.len());
        let mut groups = Vec::new();
        let mut rest = &order[..];
        while let Some(first) = rest.first() {
            let tokens = texts[*first].ids.len();
            let most = if self.joins { (GROUP_TOKENS_MAX / tokens.max(1)).max(1) } else { 1 };
            let alike = rest.iter().take(most).take_while(|&&text| texts[text].ids.len() == tokens).count();
            let (rows, others) = rest.split_at(alike);
            rest = others;
            let inputs =
                self.columns.iter().map(|column| column.map(|column| self.filled(column, rows, &texts)).transpose());
            let inputs = inputs.collect::<Result<_>>()?;
            let spans = rows.iter().map(|&row| std::mem::take(&mut texts[row].spans)).collect();
            groups.push(Group { rows: rows.to_vec(), inputs, tokens, spans });
        }
        Ok(groups)
    }

    /// One input for the texts of `rows`.
    fn filled(&self, column: Column, rows: &[usize], texts: &[Tokens]) -> Result<Tensor> {
        let tokens = rows.first().map_or(0, |&row| texts[row].ids.len());
        let length = self.length.unwrap_or(tokens);
        let shape: Shape = [rows.len(), length].into();
        let pad = if column.part == Part::Ids { i64::from(self.pad_id) } else { 0 };
        let mut values: Vec<i64> = Vec::with_capacity(rows.len() * length);
        for &row in rows {
            match column.part {
                Part::Ids => values.extend(texts[row].ids.iter().map(|&id| i64::from(id))),
                Part::Mask => values.extend(std::iter::repeat_n(1, tokens)),
                Part::Types => values.extend(texts[row].types.iter().map(|&kind| i64::from(kind))),
            }
            values.extend(std::iter::repeat_n(pad, length.saturating_sub(tokens)));
        }
        let made = match column.datatype {
            DataType::Int32 => {
                // Ids are below the size of a vocabulary.
                let values: Vec<i32> = values.iter().map(|&value| i32::try_from(value).unwrap_or(i32::MAX)).collect();
                Tensor::from_elements(shape, &values)
            }
            _ => Tensor::from_elements(shape, &values),
        };
        made.map_err(|cause| Error::internal(cause.to_string()))
    }

    /// What `output`, the model's for `group`, becomes; vectors cut to `dimensions`.
    ///
    /// # Errors
    /// `Execution` where the output is not as the signature promises.
    pub fn reduce(&self, group: Group, output: &Tensor, dimensions: Option<usize>) -> Result<Reduced> {
        let Group { rows, tokens, spans, .. } = group;
        let length = self.length.unwrap_or(tokens);
        let unlike = |expected: &str| {
            let (name, shape) = (&self.output_name, output.shape());
            Error::execution(format!("output '{name}' has shape {shape} for {} texts, expected {expected}", rows.len()))
        };
        let by_token = matches!(&self.task, Task::Tag(_) | Task::Embed(Embed { pooling: Some(_), .. }));
        let width = match (&output.shape()[..], by_token) {
            (&[texts, places, width], true) if (texts, places) == (rows.len(), length) && width > 0 => width,
            (&[texts, width], false) if texts == rows.len() && width > 0 => width,
            (_, true) => return Err(unlike(&format!("[{},{length},any]", rows.len()))),
            (_, false) => return Err(unlike(&format!("[{},any]", rows.len()))),
        };
        let values = floats(output)?;
        let each = if by_token { length * width } else { width };
        let mut reduced = Reduced { rows, width, values: Vec::new(), tags: Vec::new() };
        match &self.task {
            Task::Embed(embed) => {
                for row in values.chunks_exact(each) {
                    embed.vector(
                        &row[..if by_token { tokens * width } else { width }],
                        width,
                        dimensions,
                        &mut reduced.values,
                    )?;
                }
                reduced.width = reduced.values.len() / reduced.rows.len().max(1);
            }
            Task::Classify(_) => reduced.values = values.into_owned(),
            Task::Tag(classes) => {
                for (row, spans) in values.chunks_exact(each).zip(&spans) {
                    let written = tags::tags(classes, spans, row, width);
                    reduced.tags.push(written.map_err(|cause| Error::internal(format!("cannot write tags: {cause}")))?);
                }
            }
        }
        Ok(reduced)
    }

    /// The outputs of the face at the positions `wanted`, of `texts` texts in the order of the request.
    ///
    /// # Errors
    /// `Internal` where groups do not make up the request; `Execution` where their outputs are not alike.
    pub fn assemble(&self, texts: usize, groups: Vec<Reduced>, wanted: &[usize]) -> Result<Vec<Tensor>> {
        let width = groups.first().map_or(0, |group| group.width);
        if groups.iter().any(|group| group.width != width) && !self.tags() {
            return Err(Error::execution(format!("output '{}' is not of one width", self.output_name)));
        }
        let mut values = vec![0.0; if self.tags() { 0 } else { texts * width }];
        let mut tags = vec![String::new(); if self.tags() { texts } else { 0 }];
        for Reduced { rows, values: own, tags: own_tags, .. } in groups {
            for (row, vector) in rows.iter().zip(own.chunks_exact(width.max(1))) {
                values[row * width..(row + 1) * width].copy_from_slice(vector);
            }
            rows.into_iter().zip(own_tags).for_each(|(row, own)| tags[row] = own);
        }
        let all = |values: &[f32]| Tensor::from_elements([texts, width].into(), values);
        let best = |classes: &Classes| -> Vec<(usize, f32)> {
            values.chunks_exact(width.max(1)).map(|logits| classes.best(logits)).collect()
        };
        let made = wanted.iter().map(|&position| match (&self.task, &*self.signature.outputs[position].name) {
            (Task::Tag(_), _) => Tensor::from_byte_strings([texts].into(), &tags),
            (Task::Classify(classes), LABEL) => {
                let labels: Vec<String> = best(classes).into_iter().map(|(label, _)| classes.label(label)).collect();
                Tensor::from_byte_strings([texts].into(), &labels)
            }
            (Task::Classify(classes), SCORE) => {
                let scores: Vec<f32> = best(classes).into_iter().map(|(_, score)| score).collect();
                Tensor::from_elements([texts].into(), &scores)
            }
            _ => all(&values),
        });
        made.map(|tensor| tensor.map_err(|cause| Error::internal(cause.to_string()))).collect()
    }
}

/// The values of an output.
fn floats(output: &Tensor) -> Result<Cow<'_, [f32]>> {
    let broken = |cause: crate::tensor::TensorError| Error::internal(cause.to_string());
    Ok(match output.datatype() {
        DataType::Fp32 if output.is_aligned() => output.view::<f32>().map_err(broken)?.into(),
        DataType::Fp32 => output.clone().aligned().view::<f32>().map_err(broken)?.to_vec().into(),
        DataType::Fp16 => output.clone().aligned().view::<f16>().map_err(broken)?.iter().map(|v| v.to_f32()).collect(),
        DataType::Bf16 => output.clone().aligned().view::<bf16>().map_err(broken)?.iter().map(|v| v.to_f32()).collect(),
        DataType::Fp64 => output.clone().aligned().view::<f64>().map_err(broken)?.iter().map(|&v| v as f32).collect(),
        other => return Err(Error::execution(format!("the output is {other}, expected floating-point numbers"))),
    })
}
