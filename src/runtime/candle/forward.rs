//! From inputs to the values behind the last layer, some rows at a time.
//!
//! Rows of a batch do not meet before they are answered, so they are run in parts of at most [`TOKENS_MAX`] tokens, one behind
//! the other without padding wherever no output shows a padded token.

use std::ops::Range;

use tensorgate_kernels::{AttentionScratch, Finish, Keys, attend, gate, rotate};

use super::encoder::{Encoder, ImageInput, Input, Layer, Matrix, Positions, TextInput};

/// Tokens that are run together, if more than one row: what their values take stays in a core's share of the caches, and
/// weights are read once for all of them.
pub(super) const TOKENS_MAX: usize = 512;

/// Token ids of a batch, with what is told of each; all `[rows, length]`.
#[derive(Clone, Copy)]
pub(super) struct Texts<'a> {
    pub(super) length: usize,
    pub(super) ids: &'a [i64],
    /// Tokens with 0 here are attended to by none.
    pub(super) mask: Option<&'a [i64]>,
    pub(super) types: Option<&'a [i64]>,
}

/// What a batch holds.
#[derive(Clone, Copy)]
pub(super) enum Batch<'a> {
    Texts(Texts<'a>),
    /// `[rows, channels, height, width]`.
    Images(&'a [f32]),
}

impl Batch<'_> {
    fn is_kept(&self, row: usize, place: usize) -> bool {
        match self {
            Batch::Texts(Texts { mask: Some(mask), length, .. }) => mask[row * length + place] != 0,
            _ => true,
        }
    }
}

/// A row of a batch within a part.
pub(super) struct Sequence {
    /// Its tokens.
    pub(super) tokens: Range<usize>,
    /// Where those that count are listed, if not all do; by their distance from the first of `tokens`.
    kept: Option<Range<usize>>,
}

/// Some rows, token by token.
#[derive(Default)]
pub(super) struct Part {
    pub(super) sequences: Vec<Sequence>,
    /// The place of each token in its row.
    places: Vec<u32>,
    kept: Vec<u32>,
}

impl Part {
    /// Begins anew with the row at `first` of `batch`, and takes rows up to `end` while they fit. Each has `length` tokens; those
    /// that do not count are left out unless `whole` says otherwise, but the first of a row never is. Gives the row behind the
    /// last.
    pub(super) fn fill(&mut self, batch: &Batch<'_>, first: usize, end: usize, length: usize, whole: bool) -> usize {
        self.sequences.clear();
        self.places.clear();
        self.kept.clear();
        for row in first..end {
            if row > first && self.places.len() + length > TOKENS_MAX {
                return row;
            }
            let (start, list) = (self.places.len(), self.kept.len());
            for place in 0..length {
                let is_kept = batch.is_kept(row, place);
                if is_kept {
                    self.kept.push((self.places.len() - start) as u32);
                }
                if is_kept || whole || place == 0 {
                    self.places.push(place as u32);
                }
            }
            let tokens = start..self.places.len();
            let all = self.kept.len() - list == tokens.len();
            if all {
                self.kept.truncate(list);
            }
            self.sequences.push(Sequence { tokens, kept: (!all).then_some(list..self.kept.len()) });
        }
        end
    }

    pub(super) fn tokens(&self) -> usize {
        self.places.len()
    }

    fn keys(&self, sequence: &Sequence) -> Keys<'_> {
        Keys { places: &self.places[sequence.tokens.clone()], kept: sequence.kept.clone().map(|list| &self.kept[list]) }
    }

    /// The tokens of a sequence that count.
    pub(super) fn counted(&self, sequence: &Sequence) -> impl Iterator<Item = usize> {
        let first = sequence.tokens.start;
        let list = sequence.kept.clone().map(|list| &self.kept[list]);
        let count = list.map_or(sequence.tokens.len(), <[u32]>::len);
        (0..count).map(move |index| first + list.map_or(index, |list| list[index] as usize))
    }
}

/// Memory of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) part: Part,
    /// A row for each token.
    pub(super) values: Matrix,
    normed: Matrix,
    projected: Matrix,
    attended: Matrix,
    inner: Matrix,
    attention: AttentionScratch,
    /// What heads make of values.
    pub(super) head: [Matrix; 2],
}

impl Encoder {
    /// Tokens of each row of `batch`.
    pub(super) fn length(&self, batch: &Batch<'_>) -> usize {
        match (&self.input, batch) {
            (Input::Image(input), _) => input.tokens(),
            (_, Batch::Texts(texts)) => texts.length,
            (_, Batch::Images(_)) => 0,
        }
    }

    /// Runs the rows of `scratch.part`, the first of which is `first` in the batch; their values are in `scratch.values`
    /// afterwards. Breaks off with `None` where `stopped` says so between two layers.
    pub(super) fn run(
        &self,
        batch: &Batch<'_>,
        first: usize,
        scratch: &mut Scratch,
        stopped: &dyn Fn() -> bool,
    ) -> Option<()> {
        scratch.values.reset(scratch.part.tokens(), self.width);
        match (&self.input, batch) {
            (Input::Text(input), Batch::Texts(texts)) => embed_text(input, texts, first, scratch),
            (Input::Image(input), Batch::Images(pixels)) => embed_images(input, pixels, first, scratch),
            // The signature, which is made from the input, lets nothing else through.
            _ => return None,
        }
        for layer in &self.layers {
            if stopped() {
                return None;
            }
            self.attend(layer, scratch);
            self.feed(layer, scratch);
        }
        if let Some(last) = &self.last {
            last.apply_in_place(&mut scratch.values.rows_mut());
        }
        Some(())
    }

    fn attend(&self, layer: &Layer, scratch: &mut Scratch) {
        let Scratch { part, values, normed, projected, attended, attention, .. } = scratch;
        let tokens = part.tokens();
        let before = layer.attention_norm.as_ref().filter(|_| self.norms_first);
        if let Some(norm) = before {
            normed.reset(tokens, self.width);
            norm.apply(values.rows(), &mut normed.rows_mut());
        }
        let from = if before.is_some() { &*normed } else { &*values };
        projected.reset(tokens, 3 * self.width);
        layer.projection.apply(from.rows(), &mut projected.rows_mut(), Finish::Write);
        if let Some(rotation) = &layer.rotation {
            for (token, &place) in part.places.iter().enumerate() {
                let (cosines, sines) = (rotation.cosines.row(place as usize), rotation.sines.row(place as usize));
                rotate(&mut projected.row_mut(token)[..2 * self.width], cosines, sines);
            }
        }
        attended.reset(tokens, self.width);
        let heads = self.heads_of(layer);
        for sequence in &part.sequences {
            let (first, count) = (sequence.tokens.start, sequence.tokens.len());
            let from = projected.rows_of(first, count);
            attend(&heads, from, &part.keys(sequence), attention, &mut attended.rows_of_mut(first, count));
        }
        layer.attended.apply(attended.rows(), &mut values.rows_mut(), Finish::Add);
        if let Some(norm) = layer.attention_norm.as_ref().filter(|_| !self.norms_first) {
            norm.apply_in_place(&mut values.rows_mut());
        }
    }

    fn feed(&self, layer: &Layer, scratch: &mut Scratch) {
        let Scratch { part, values, normed, inner, .. } = scratch;
        let tokens = part.tokens();
        let before = layer.feed_norm.as_ref().filter(|_| self.norms_first);
        if let Some(norm) = before {
            normed.reset(tokens, self.width);
            norm.apply(values.rows(), &mut normed.rows_mut());
        }
        let from = if before.is_some() { &*normed } else { &*values };
        inner.reset(tokens, layer.up.weight.outer());
        if layer.gated {
            layer.up.apply(from.rows(), &mut inner.rows_mut(), Finish::Write);
            gate(&mut inner.rows_mut(), layer.activation);
        } else {
            layer.up.apply(from.rows(), &mut inner.rows_mut(), Finish::Activate(layer.activation));
        }
        layer.down.apply(inner.leading(layer.down.weight.inner()), &mut values.rows_mut(), Finish::Add);
        if let Some(norm) = layer.feed_norm.as_ref().filter(|_| !self.norms_first) {
            norm.apply_in_place(&mut values.rows_mut());
        }
    }
}

/// Embeddings of words, places and types. Ids and lengths have been checked.
fn embed_text(input: &TextInput, texts: &Texts<'_>, first: usize, scratch: &mut Scratch) {
    let Scratch { part, values, .. } = scratch;
    for (row, sequence) in part.sequences.iter().enumerate() {
        let start = (first + row) * texts.length;
        let ids = &texts.ids[start..start + texts.length];
        let mut tokens = sequence.tokens.clone().peekable();
        let mut unpadded = 0;
        for (place, &id) in ids.iter().enumerate() {
            let id = id as usize;
            unpadded += usize::from(id != input.pad);
            let Some(token) = tokens.next_if(|&token| part.places[token] as usize == place) else { continue };
            let value = values.row_mut(token);
            value.copy_from_slice(input.words.row(id));
            match &input.positions {
                Positions::Rotated => {}
                Positions::Counted(table) => add(value, table.row(place)),
                Positions::CountedUnpadded(table) => {
                    let counted = if id == input.pad { 0 } else { unpadded };
                    add(value, table.row(input.pad + counted));
                }
            }
            if let Some(types) = &input.types {
                add(value, types.row(texts.types.map_or(0, |types| types[start + place] as usize)));
            }
        }
    }
    input.norm.apply_in_place(&mut values.rows_mut());
}

/// Embeddings of patches, behind that of the class token.
fn embed_images(input: &ImageInput, pixels: &[f32], first: usize, scratch: &mut Scratch) {
    let Scratch { part, values, inner, .. } = scratch;
    let ([height, width], [patch_height, patch_width]) = (input.image, input.patch);
    let (down, across) = (height / patch_height, width / patch_width);
    for (row, sequence) in part.sequences.iter().enumerate() {
        let image = &pixels[(first + row) * input.channels * height * width..][..input.channels * height * width];
        inner.reset(down * across, input.projection.weight.inner());
        for patch in 0..down * across {
            let (top, left) = (patch / across * patch_height, patch % across * patch_width);
            let lines = (0..input.channels).flat_map(|channel| (0..patch_height).map(move |line| (channel, line)));
            for ((channel, line), to) in lines.zip(inner.row_mut(patch).chunks_exact_mut(patch_width)) {
                to.copy_from_slice(&image[(channel * height + top + line) * width + left..][..patch_width]);
            }
        }
        let start = sequence.tokens.start;
        values.row_mut(start).copy_from_slice(&input.class);
        input.projection.apply(inner.rows(), &mut values.rows_of_mut(start + 1, down * across), Finish::Write);
        for (place, token) in sequence.tokens.clone().enumerate() {
            add(values.row_mut(token), input.positions.row(place));
        }
    }
}

fn add(to: &mut [f32], values: &[f32]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
}
