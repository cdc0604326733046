//! How requests that differ in a dynamic dimension share a batch: padded behind their own elements to the longest of them.
//!
//! The model's owner states for an input which value may stand behind a request's own in every dynamic dimension but the
//! first, and leave its answers as they are: the padding token of token ids, 0 of their mask; or a runtime does that knows it. Dimensions of one name have one
//! length within a request; they are one *axis*. Which dimensions of the outputs are as long as an axis, and so have to be cut
//! back, is seen from the warm-up's runs, which also verify the owner's statement ([`super::warm_up`]).
//!
//! The work of a batch is counted in *cells*: rows times the elements that its largest padded input has in the padded
//! dimensions, padding included. Lengths are compared in steps, four to an octave, so that waiting requests of nearly the same
//! length share a lane; where there is one axis, lanes of other lengths may fill a batch up ([`super::policy`]).

use std::sync::Arc;

use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::infer::ValidRequest;
use crate::model::{Dim, Pad, Signature};
use crate::tensor::{ElementBytes, Shape, Tensor, leading_part};

/// The length of each axis.
pub(super) type Lengths = SmallVec<[usize; 2]>;

/// What of a model's inputs may be padded, and what of its outputs is then too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Padding {
    /// One entry for each input of the signature.
    inputs: Vec<Option<PaddedInput>>,
    axes: usize,
    /// For each output of the signature: its dimensions that are as long as an axis, with the axis.
    outputs: Vec<SmallVec<[(usize, usize); 1]>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PaddedInput {
    pad: Pad,
    /// Its dimensions that are padded, with the axis of each.
    dims: SmallVec<[(usize, usize); 2]>,
}

impl Padding {
    /// What `pads`, one entry for each input of `signature`, declare. `None` where nothing is padded. What the outputs have
    /// of it is not known yet.
    pub(super) fn declared(signature: &Signature, pads: &[Option<Pad>]) -> Option<Self> {
        let mut names = Vec::new();
        let mut axis_of = |dim: &Dim| match dim {
            Dim::Fixed(_) => None,
            Dim::Dynamic(name) => {
                let known = name.as_ref().and_then(|name| names.iter().position(|known| known == &Some(name.clone())));
                Some(known.unwrap_or_else(|| {
                    names.push(name.clone());
                    names.len() - 1
                }))
            }
        };
        let inputs: Vec<_> = signature
            .inputs
            .iter()
            .zip(pads)
            .map(|(spec, pad)| {
                let dims = spec.shape.as_deref().unwrap_or_default().iter().enumerate().skip(1);
                let pad = pad.clone()?;
                let dims: SmallVec<_> = dims.filter_map(|(position, dim)| Some((position, axis_of(dim)?))).collect();
                (!dims.is_empty()).then_some(PaddedInput { pad, dims })
            })
            .collect();
        let outputs = vec![SmallVec::new(); signature.outputs.len()];
        inputs.iter().any(Option::is_some).then_some(Self { inputs, axes: names.len(), outputs })
    }

    /// The same with one axis, for a model whose dimensions have to be equal whatever they are called: a request whose own
    /// are not is not padded.
    pub(super) fn tied(mut self) -> Self {
        self.axes = 1;
        self.inputs.iter_mut().flatten().flat_map(|input| &mut input.dims).for_each(|(_, axis)| *axis = 0);
        self
    }

    /// How many axes there are, at least one.
    pub(super) fn axes(&self) -> usize {
        self.axes
    }

    /// What the input at `position` is padded with, if it is.
    pub(super) fn element(&self, position: usize) -> Option<&ElementBytes> {
        self.inputs[position].as_ref().map(|input| &input.pad.element)
    }

    /// The axis of dimension `dim` of the input at `position`, if it is padded.
    pub(super) fn axis(&self, position: usize, dim: usize) -> Option<usize> {
        let input = self.inputs[position].as_ref()?;
        input.dims.iter().find(|(padded, _)| *padded == dim).map(|(_, axis)| *axis)
    }

    /// Notes that dimension `dim` of the output at `position` is as long as `axis`.
    pub(super) fn follows(&mut self, position: usize, dim: usize, axis: usize) {
        self.outputs[position].push((dim, axis));
    }

    /// Whether the output at `position` is padded.
    pub(super) fn reaches(&self, position: usize) -> bool {
        !self.outputs[position].is_empty()
    }

    /// The lengths of `request`; `None` where it lacks an input that is needed for padding, or its dimensions of one axis differ:
    /// such a request shares batches only with those of the same shapes.
    pub(super) fn lengths(&self, request: &ValidRequest) -> Option<Lengths> {
        let mut lengths: SmallVec<[Option<usize>; 2]> = SmallVec::from_elem(None, self.axes);
        for (input, tensor) in self.inputs.iter().zip(&request.inputs) {
            let Some(input) = input else { continue };
            let Some(tensor) = tensor else {
                if input.pad.is_needed {
                    return None;
                }
                continue;
            };
            for &(dim, axis) in &input.dims {
                let own = *tensor.shape().get(dim)?;
                if *lengths[axis].get_or_insert(own) != own {
                    return None;
                }
            }
        }
        lengths.into_iter().collect()
    }

    /// Cells of one row of `request`, as it is.
    pub(super) fn cells(&self, request: &ValidRequest) -> usize {
        self.largest(|position, dim, _| request.inputs[position].as_ref().map_or(0, |tensor| tensor.shape()[dim]))
    }

    /// Cells of one row that has these lengths.
    pub(super) fn cells_at(&self, lengths: &Lengths) -> usize {
        self.largest(|_, _, axis| lengths[axis])
    }

    /// The cells of the largest padded input, at least 1; `size` gives a dimension's by input, dimension and axis.
    fn largest(&self, size: impl Fn(usize, usize, usize) -> usize) -> usize {
        let inputs = self.inputs.iter().enumerate().filter_map(|(position, input)| Some((position, input.as_ref()?)));
        let cells = inputs.map(|(position, input)| {
            let sizes = input.dims.iter().map(|&(dim, axis)| size(position, dim, axis));
            sizes.fold(1_usize, usize::saturating_mul)
        });
        cells.max().unwrap_or(1).max(1)
    }

    /// Whether inputs at `position` of these shapes are alike but for what is padded.
    fn alike(&self, position: usize, ours: &Shape, theirs: &Shape) -> bool {
        let mut sizes = ours.iter().zip(theirs.iter()).enumerate().skip(1);
        ours.len() == theirs.len()
            && sizes.all(|(dim, (ours, theirs))| ours == theirs || self.axis(position, dim).is_some())
    }

    /// How `requests` fit together, where they differ in length.
    pub(super) fn together(&self, requests: &[&ValidRequest]) -> Option<Together<'_>> {
        let own: Vec<Lengths> = requests.iter().map(|request| self.lengths(request)).collect::<Option<_>>()?;
        let (first, others) = own.split_first()?;
        let mut longest = first.clone();
        for other in others {
            longest.iter_mut().zip(other).for_each(|(longest, &length)| *longest = length.max(*longest));
        }
        others.iter().any(|other| other != first).then_some(Together { padding: self, own, longest })
    }
}

/// Requests of different lengths in one batch.
pub(super) struct Together<'a> {
    padding: &'a Padding,
    /// The lengths of each request.
    own: Vec<Lengths>,
    /// The longest of them, on each axis.
    longest: Lengths,
}

impl Together<'_> {
    /// What the input at `position` is padded with, if it is.
    pub(super) fn element(&self, position: usize) -> Option<&ElementBytes> {
        self.padding.element(position)
    }

    /// The rows `part` of the output at `position` without padding; `request` is their owner's place in the batch.
    ///
    /// # Errors
    /// `Execution` where the output is not as long as its batch, as it was in the warm-up.
    pub(super) fn cut_back(&self, position: usize, request: usize, part: Tensor) -> Result<Tensor> {
        let mut shape = part.shape().to_vec();
        for &(dim, axis) in &self.padding.outputs[position] {
            let longest = self.longest[axis];
            match shape.get_mut(dim) {
                Some(size) if *size == longest => *size = self.own[request][axis],
                _ => {
                    let shape = part.shape();
                    return Err(Error::execution(format!(
                        "an output of shape {shape} is not as long as its batch: expected {longest} on dimension {dim}"
                    )));
                }
            }
        }
        leading_part(&part, Shape::new(shape)).map_err(|cause| Error::execution(cause.to_string()))
    }
}

/// The size of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Rows of all requests.
    pub(super) rows: usize,
    /// In the curve's units: rows, or cells where the model is padded.
    pub(super) work: usize,
    /// The part of the work that is no padding.
    pub(super) useful: usize,
}

impl Extent {
    /// That of `requests` together.
    pub(super) fn of(requests: &[&ValidRequest], padding: Option<&Padding>) -> Self {
        let rows = requests.iter().map(|request| request.rows).sum();
        let Some(padding) = padding else { return Self { rows, work: rows, useful: rows } };
        let useful = requests.iter().map(|request| request.rows * padding.cells(request)).sum();
        let together = padding.together(requests);
        let work = together.map_or(useful, |together| rows * padding.cells_at(&together.longest));
        Self { rows, work, useful }
    }

    /// The share of the work that is padding, from 0 to below 1.
    pub(super) fn padding(&self) -> f64 {
        if self.work == 0 { 0.0 } else { 1.0 - self.useful as f64 / self.work as f64 }
    }
}

/// What a waiting request of a padded model fits to.
#[derive(Clone)]
pub(super) struct Fit {
    padding: Arc<Padding>,
    /// The step of each length; `None` where the request is not padded.
    steps: Option<Lengths>,
    unit: usize,
}

impl Fit {
    pub(super) fn of(padding: &Arc<Padding>, request: &ValidRequest) -> Self {
        let steps = padding.lengths(request).map(|lengths| lengths.into_iter().map(step).collect());
        let unit = steps.as_ref().map_or_else(|| padding.cells(request), |steps| padding.cells_at(steps));
        Self { padding: Arc::clone(padding), steps, unit }
    }

    /// Cells of one row at most: those of the request's steps.
    pub(super) fn unit(&self) -> usize {
        self.unit
    }

    /// Whether inputs at `position` of these shapes may be joined, the first of this request's, the second of `other`'s.
    /// Where there are several axes the steps have to be the same on each: which batches would be full of padding does not
    /// follow from the number of cells there.
    pub(super) fn alike(&self, other: &Self, position: usize, ours: &Shape, theirs: &Shape) -> bool {
        match self.steps.as_ref().zip(other.steps.as_ref()) {
            Some((own, others)) if self.padding.axes == 1 || own == others => {
                self.padding.alike(position, ours, theirs)
            }
            _ => ours.get(1..) == theirs.get(1..),
        }
    }
}

/// The next of four steps to an octave (1 to 8, 10, 12, 14, 16, 20, ...) at or above `length`: at most a quarter above.
fn step(length: usize) -> usize {
    let fine = length.saturating_sub(1).checked_ilog2().unwrap_or(0).saturating_sub(2);
    length.div_ceil(1 << fine) << fine
}

#[cfg(test)]
mod tests;
