//! Embeddings, on a device: of words, places and types, or of an image's patches.

use candle_core::{DType, Result, Tensor};

use super::super::encoder::{self, Positions};
use super::super::forward::Texts;
use super::parts::{Dense, Norm, Place};

/// What goes in.
pub(super) enum Input {
    Text(TextInput),
    Image(ImageInput),
}

pub(super) struct TextInput {
    words: Tensor,
    /// None where the layers turn queries and keys by places.
    positions: Option<Tensor>,
    /// The padding's number, where tokens that are none are counted from one behind it on (see [`Positions`]).
    counted_behind: Option<usize>,
    types: Option<Tensor>,
    norm: Norm,
}

pub(super) struct ImageInput {
    channels: usize,
    image: [usize; 2],
    patch: [usize; 2],
    projection: Dense,
    /// `[1, 1, width]`.
    class: Tensor,
    /// `[1, tokens, width]`.
    positions: Tensor,
}

impl Input {
    pub(super) fn of(input: &mut encoder::Input, place: &Place) -> Result<Self> {
        Ok(match input {
            encoder::Input::Text(text) => Input::Text(TextInput::of(text, place)?),
            encoder::Input::Image(image) => Input::Image(ImageInput::of(image, place)?),
        })
    }
}

impl TextInput {
    fn of(text: &mut encoder::TextInput, place: &Place) -> Result<Self> {
        let counted_behind = matches!(text.positions, Positions::CountedUnpadded(_)).then_some(text.pad);
        let positions = match &mut text.positions {
            Positions::Rotated => None,
            Positions::Counted(table) | Positions::CountedUnpadded(table) => Some(place.bring_table(table)?),
        };
        Ok(Self {
            words: place.bring_table(&mut text.words)?,
            positions,
            counted_behind,
            types: text.types.as_mut().map(|types| place.bring_table(types)).transpose()?,
            norm: Norm::of(&mut text.norm, place)?,
        })
    }

    /// Embeddings of `rows` rows from the one at `first` on, `[rows, length, width]`. Ids and lengths have been checked.
    pub(super) fn embed(&self, texts: &Texts<'_>, first: usize, rows: usize, place: &Place) -> Result<Tensor> {
        let length = texts.length;
        let cells = first * length..(first + rows) * length;
        let chosen = |table: &Tensor, numbers: Vec<u32>| {
            let count = numbers.len();
            table.index_select(&Tensor::from_vec(numbers, count, &place.device)?, 0)
        };
        let ids = &texts.ids[cells.clone()];
        let mut values = chosen(&self.words, ids.iter().map(|&id| id as u32).collect())?;
        if let Some(positions) = &self.positions {
            let places = match self.counted_behind {
                None => (0..rows * length).map(|cell| (cell % length) as u32).collect(),
                Some(pad) => ids.chunks_exact(length).flat_map(|row| counted(row, pad)).collect(),
            };
            values = (values + chosen(positions, places)?)?;
        }
        if let Some(types) = &self.types {
            let numbers = match texts.types {
                Some(given) => given[cells].iter().map(|&number| number as u32).collect(),
                None => vec![0; rows * length],
            };
            values = (values + chosen(types, numbers)?)?;
        }
        let values = self.norm.apply(&values)?;
        let width = values.dim(1)?;
        values.reshape((rows, length, width))
    }
}

/// The positions of a row's tokens, where those that are padding have their own number's.
fn counted(row: &[i64], pad: usize) -> impl Iterator<Item = u32> {
    row.iter().scan(0, move |unpadded, &id| {
        let is_pad = id == pad as i64;
        *unpadded += usize::from(!is_pad);
        Some((pad + if is_pad { 0 } else { *unpadded }) as u32)
    })
}

impl ImageInput {
    fn of(image: &mut encoder::ImageInput, place: &Place) -> Result<Self> {
        let class = std::mem::take(&mut image.class);
        let (tokens, width) = (image.tokens(), class.len());
        Ok(Self {
            channels: image.channels,
            image: image.image,
            patch: image.patch,
            projection: Dense::of(&mut image.projection, place)?,
            class: place.bring(class, (1, 1, width))?,
            positions: place.bring_table(&mut image.positions)?.reshape((1, tokens, width))?,
        })
    }

    /// Embeddings of `rows` images from the one at `first` on, `[rows, tokens, width]`.
    pub(super) fn embed(&self, pixels: &[f32], first: usize, rows: usize, place: &Place) -> Result<Tensor> {
        let ([height, width], [patch_height, patch_width]) = (self.image, self.patch);
        let size = self.channels * height * width;
        let (down, across) = (height / patch_height, width / patch_width);
        let pixels = Tensor::from_slice(
            &pixels[first * size..(first + rows) * size],
            (rows, self.channels, down, patch_height, across, patch_width),
            &place.device,
        )?;
        let patches = pixels.permute((0, 2, 4, 1, 3, 5))?.contiguous()?.to_dtype(place.precision)?;
        let patches = patches.reshape((rows * down * across, self.channels * patch_height * patch_width))?;
        let embedded = self.projection.apply(&patches)?;
        let embedded = embedded.reshape((rows, down * across, self.class.dim(2)?))?;
        let class = self.class.broadcast_as((rows, 1, self.class.dim(2)?))?.contiguous()?;
        Tensor::cat(&[&class, &embedded], 1)?.broadcast_add(&self.positions)
    }
}

/// 1 for the cells of some rows that count, else 0, `[rows, length]` in FP32; none where all do.
pub(super) fn kept(texts: &Texts<'_>, first: usize, rows: usize, place: &Place) -> Result<Option<Tensor>> {
    let Some(mask) = texts.mask else { return Ok(None) };
    let mask = &mask[first * texts.length..(first + rows) * texts.length];
    if mask.iter().all(|&cell| cell != 0) {
        return Ok(None);
    }
    let cells: Vec<f32> = mask.iter().map(|&cell| if cell == 0 { 0.0 } else { 1.0 }).collect();
    let kept = Tensor::from_vec(cells, (rows, texts.length), &place.device)?;
    debug_assert_eq!(kept.dtype(), DType::F32);
    Ok(Some(kept))
}
