//! A loaded checkpoint: its signature, and instances that share its weights.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::architecture::Task;
use super::encoder::{Encoder, Input};
use super::forward::{Batch, Scratch, Texts};
use super::head::Head;
use crate::error::{Error, Result};
use crate::model::{Dim, Pad, Signature, TensorSpec};
use crate::runtime::{Instance, Interrupt, LoadedModel};
use crate::tensor::{DataType, Scalar, Shape, Tensor};

/// Bytes that the outputs of one execution may take: those of a masked language model have a value for each token and each
/// word, 64 MB for 512 tokens, and memory that is not there ends the process.
const OUTPUT_BYTES_MAX: usize = 2 << 30;

/// Tokens from which on rows are shared out to threads: for less, starting one takes longer.
const TOKENS_SHARED_MIN: usize = 64;

const IDS: &str = "input_ids";
const MASK: &str = "attention_mask";
const TYPES: &str = "token_type_ids";
const PIXELS: &str = "pixel_values";

/// What an output is.
pub(super) enum Output {
    /// The values of each token behind the last layer.
    Values,
    Head(Head),
}

/// A model that runs.
pub(super) struct Model {
    pub(super) encoder: Encoder,
    signature: Signature,
    pub(super) outputs: Vec<Output>,
    /// Names of the classes of the logits.
    labels: Vec<String>,
    threads: usize,
}

impl Model {
    /// A model of these parts; `head` for its task, `pooled` for a row's vector.
    pub(super) fn new(
        encoder: Encoder,
        head: Option<Head>,
        pooled: Option<Head>,
        task: Task,
        labels: Vec<String>,
        threads: usize,
    ) -> Self {
        let name = |name: &str| Dim::Dynamic(Some(name.into()));
        let tokens = match &encoder.input {
            Input::Text(_) => name("sequence"),
            Input::Image(image) => Dim::Fixed(image.tokens()),
        };
        let mut signature = Signature { inputs: inputs(&encoder.input), outputs: Vec::new() };
        let mut outputs = Vec::new();
        let mut add = |called: &str, output: Output, width: usize| {
            let each =
                matches!(&output, Output::Values) || matches!(&output, Output::Head(head) if head.is_of_tokens());
            let inner = each.then(|| tokens.clone()).into_iter().chain([Dim::Fixed(width)]);
            let dims = [name("batch")].into_iter().chain(inner);
            signature.outputs.push(TensorSpec::new(called, DataType::Fp32, dims));
            outputs.push(output);
        };
        if task == Task::Encode {
            add("last_hidden_state", Output::Values, encoder.width);
        }
        for (called, head) in [("logits", head), ("embedding", pooled)] {
            if let Some(head) = head {
                let width = head.width;
                add(called, Output::Head(head), width);
            }
        }
        Self { encoder, signature, outputs, labels, threads }
    }
}

fn inputs(input: &Input) -> Vec<TensorSpec> {
    let name = |name: &str| Dim::Dynamic(Some(name.into()));
    match input {
        Input::Text(text) => {
            let spec = |called: &str| TensorSpec::new(called, DataType::Int64, [name("batch"), name("sequence")]);
            let optional = |called: &str| TensorSpec { optional: true, ..spec(called) };
            let types = text.types.as_ref().filter(|types| types.rows() > 1).map(|_| optional(TYPES));
            [spec(IDS), optional(MASK)].into_iter().chain(types).collect()
        }
        Input::Image(image) => {
            let inner = [image.channels, image.image[0], image.image[1]].map(Dim::Fixed);
            vec![TensorSpec::new(PIXELS, DataType::Fp32, [name("batch")].into_iter().chain(inner))]
        }
    }
}

/// A model as the server sees it.
pub(super) struct CandleModel(pub(super) Arc<Model>);

impl LoadedModel for CandleModel {
    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn instance(&self) -> Result<Box<dyn Instance>> {
        let (model, interruption) = (Arc::clone(&self.0), Arc::default());
        Ok(Box::new(CandleInstance { model, scratch: Vec::new(), interruption }))
    }

    fn bytes(&self) -> Option<u64> {
        let heads = self.0.outputs.iter().map(|output| if let Output::Head(head) = output { head.bytes() } else { 0 });
        Some((self.0.encoder.bytes() + heads.sum::<usize>()) as u64)
    }

    fn pads(&self) -> Vec<Option<Pad>> {
        self.0.pads()
    }

    fn labels(&self, output: usize) -> &[String] {
        self.0.labels(output)
    }
}

/// Ends an execution between two layers.
#[derive(Default)]
pub(super) struct Interruption(pub(super) AtomicBool);

impl Interrupt for Interruption {
    fn interrupt(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct CandleInstance {
    model: Arc<Model>,
    /// One for each thread.
    scratch: Vec<Scratch>,
    interruption: Arc<Interruption>,
}

impl Instance for CandleInstance {
    fn execute(&mut self, inputs: &[Option<Tensor>], outputs: &[usize]) -> Result<Vec<Tensor>> {
        self.interruption.0.store(false, Ordering::Relaxed);
        let model = &*self.model;
        let (batch, rows) = model.batch(inputs)?;
        let length = model.encoder.length(&batch);
        let shapes = outputs.iter().map(|&output| model.shape(output, rows, length)).collect::<Result<Vec<_>>>()?;
        check_size(&shapes)?;
        let whole = outputs.iter().any(|&output| model.is_of_tokens(output));
        let mut answers: Vec<Vec<f32>> = shapes.iter().map(|shape| vec![0.0; shape.elements().unwrap_or(0)]).collect();
        let threads = if rows * length < TOKENS_SHARED_MIN { 1 } else { model.threads.min(rows).max(1) };
        if self.scratch.len() < threads {
            self.scratch.resize_with(threads, Scratch::default);
        }
        let stopped = || self.interruption.0.load(Ordering::Relaxed);
        let run = Run { model, batch, length, outputs, whole, stopped: &stopped };
        let shares = shares(&mut answers, rows, threads);
        let scratch = &mut self.scratch[..threads];
        let finished = match (shares.len(), scratch) {
            (1, [scratch]) => shares.into_iter().all(|share| run.rows(share, scratch)),
            (_, scratch) => std::thread::scope(|scope| {
                let work =
                    shares.into_iter().zip(scratch).map(|(share, scratch)| scope.spawn(|| run.rows(share, scratch)));
                let threads: Vec<_> = work.collect();
                let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
                ended.into_iter().try_fold(true, |all, one| Ok(all & one?))
            })
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        };
        if !finished {
            return Err(Error::execution("the execution was interrupted"));
        }
        shapes.into_iter().zip(answers).map(|(shape, values)| tensor(shape, values)).collect()
    }

    fn interrupt(&self) -> Option<Arc<dyn Interrupt>> {
        Some(Arc::clone(&self.interruption) as Arc<dyn Interrupt>)
    }
}

/// Some rows of a batch, and where their answers belong.
struct Share<'a> {
    rows: Range<usize>,
    answers: Vec<&'a mut [f32]>,
}

/// `answers` of `rows` rows, shared out to `threads`.
fn shares(answers: &mut [Vec<f32>], rows: usize, threads: usize) -> Vec<Share<'_>> {
    let widths: Vec<usize> = answers.iter().map(|answer| answer.len() / rows.max(1)).collect();
    let mut left: Vec<&mut [f32]> = answers.iter_mut().map(Vec::as_mut_slice).collect();
    let share = |thread: usize| {
        let rows = rows * thread / threads..rows * (thread + 1) / threads;
        let parts = left.iter_mut().zip(&widths);
        let answers = parts.map(|(left, width)| left.split_off_mut(..rows.len() * width).unwrap_or_default()).collect();
        Share { rows, answers }
    };
    (0..threads).map(share).collect()
}

/// An execution.
struct Run<'a> {
    model: &'a Model,
    batch: Batch<'a>,
    length: usize,
    outputs: &'a [usize],
    /// Whether values of tokens that do not count are wanted too.
    whole: bool,
    stopped: &'a (dyn Fn() -> bool + Sync),
}

impl Run<'_> {
    /// Answers some rows; false where it was stopped.
    fn rows(&self, share: Share<'_>, scratch: &mut Scratch) -> bool {
        let Share { rows, mut answers } = share;
        let mut first = rows.start;
        while first < rows.end {
            let next = scratch.part.fill(&self.batch, first, rows.end, self.length, self.whole);
            if self.model.encoder.run(&self.batch, first, scratch, &self.stopped).is_none() {
                return false;
            }
            for (&output, left) in self.outputs.iter().zip(&mut answers) {
                let count = left.len() / (rows.end - first) * (next - first);
                let Some(out) = left.split_off_mut(..count) else { continue };
                match &self.model.outputs[output] {
                    Output::Head(head) => head.apply(scratch, out),
                    Output::Values => {
                        let tokens = out.chunks_exact_mut(self.model.encoder.width).enumerate();
                        tokens.for_each(|(token, to)| to.copy_from_slice(scratch.values.row(token)));
                    }
                }
            }
            first = next;
        }
        true
    }
}

impl Model {
    pub(super) fn signature(&self) -> &Signature {
        &self.signature
    }

    /// See [`LoadedModel::pads`].
    pub(super) fn pads(&self) -> Vec<Option<Pad>> {
        let pad = |spec: &TensorSpec| {
            let Input::Text(text) = &self.encoder.input else { return None };
            let value = if &*spec.name == IDS { text.pad } else { 0 };
            let element = Scalar::Whole(value as i64).element(DataType::Int64)?;
            // Only a mask tells padding from what was meant; types may be left out with or without it.
            Some(Pad { element, is_needed: &*spec.name != TYPES })
        };
        self.signature.inputs.iter().map(pad).collect()
    }

    /// See [`LoadedModel::labels`].
    pub(super) fn labels(&self, output: usize) -> &[String] {
        if &*self.signature.outputs[output].name == "logits" { &self.labels } else { &[] }
    }

    fn is_of_tokens(&self, output: usize) -> bool {
        match &self.outputs[output] {
            Output::Values => true,
            Output::Head(head) => head.is_of_tokens(),
        }
    }

    pub(super) fn shape(&self, output: usize, rows: usize, length: usize) -> Result<Shape> {
        let width = match &self.outputs[output] {
            Output::Values => self.encoder.width,
            Output::Head(head) => head.width,
        };
        let tokens = self.is_of_tokens(output).then_some(length);
        Ok([rows].into_iter().chain(tokens).chain([width]).collect())
    }

    /// The batch that `inputs` are, checked, and its rows.
    pub(super) fn batch<'a>(&self, inputs: &'a [Option<Tensor>]) -> Result<(Batch<'a>, usize)> {
        let missing = |name: &str| Error::execution(format!("input '{name}' was left out"));
        let given = |position: usize| inputs.get(position).and_then(Option::as_ref);
        let unfit = |cause: crate::tensor::TensorError| Error::internal(cause.to_string());
        let Input::Text(text) = &self.encoder.input else {
            let pixels = given(0).ok_or_else(|| missing(PIXELS))?;
            return Ok((Batch::Images(pixels.view().map_err(unfit)?), pixels.rows().unwrap_or(0)));
        };
        let ids = given(0).ok_or_else(|| missing(IDS))?;
        let &[rows, length] = &ids.shape()[..] else { return Err(missing(IDS)) };
        let beside = |position: usize, name: &str| match given(position) {
            Some(tensor) if tensor.shape() != ids.shape() => {
                let (shape, expected) = (tensor.shape(), ids.shape());
                Err(Error::invalid(format!("input '{name}' has shape {shape}, expected that of '{IDS}', {expected}")))
            }
            Some(tensor) => tensor.view::<i64>().map(Some).map_err(unfit),
            None => Ok(None),
        };
        let (mask, types) = (beside(1, MASK)?, beside(2, TYPES)?);
        let ids = ids.view::<i64>().map_err(unfit)?;
        if rows > 0 && !(1..=text.tokens_max).contains(&length) {
            let most = text.tokens_max;
            return Err(Error::invalid(format!("input '{IDS}' has rows of {length} tokens, expected 1 to {most}")));
        }
        check_numbers(IDS, ids, length, text.words.rows(), "the vocabulary's")?;
        if let Some((given, types)) = types.zip(text.types.as_ref()) {
            check_numbers(TYPES, given, length, types.rows(), "the types'")?;
        }
        Ok((Batch::Texts(Texts { length, ids, mask, types }), rows))
    }
}

/// Refuses numbers that no table has a row for.
fn check_numbers(name: &str, numbers: &[i64], length: usize, count: usize, whose: &str) -> Result<()> {
    match numbers.iter().position(|&number| !usize::try_from(number).is_ok_and(|number| number < count)) {
        None => Ok(()),
        Some(at) => Err(Error::invalid(format!(
            "input '{name}' has {} at place {} of row {}, expected {whose} 0 to {}",
            numbers[at],
            at % length.max(1),
            at / length.max(1),
            count - 1
        ))),
    }
}

/// Refuses more memory than outputs may take.
pub(super) fn check_size(shapes: &[Shape]) -> Result<()> {
    let bytes = shapes.iter().try_fold(0_usize, |sum, shape| shape.elements()?.checked_mul(4)?.checked_add(sum));
    match bytes {
        Some(bytes) if bytes <= OUTPUT_BYTES_MAX => Ok(()),
        _ => Err(Error::new(
            crate::error::Kind::TooLarge,
            format!("its outputs take more than {OUTPUT_BYTES_MAX} bytes: ask for fewer rows or shorter ones"),
        )),
    }
}

/// Keeps values alive for as long as an answer holds a slice of them.
struct Floats(Vec<f32>);

impl AsRef<[u8]> for Floats {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: floats have no padding, every byte of them is initialised, and the slice lives as long as the vector.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), size_of_val(&*self.0)) }
    }
}

pub(super) fn tensor(shape: Shape, values: Vec<f32>) -> Result<Tensor> {
    let data = if values.is_empty() { Bytes::new() } else { Bytes::from_owner(Floats(values)) };
    Tensor::new(DataType::Fp32, shape, data).map_err(|cause| Error::internal(cause.to_string()))
}
