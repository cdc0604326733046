//! What every architecture here is made of: embeddings, and layers of attention and a feed-forward network. An architecture's
//! file says which of it a checkpoint has, and under which names.

use std::sync::Arc;

use tensorgate_kernels::{Activation, Finish, Heads, Panels, Rows, RowsMut, multiply, norm, norm_in_place, stride_for};

/// A linear layer.
pub(super) struct Dense {
    pub(super) weight: Panels,
    pub(super) bias: Option<Vec<f32>>,
}

impl Dense {
    pub(super) fn bytes(&self) -> usize {
        self.weight.bytes() + self.bias.as_deref().map_or(0, size_of_val)
    }

    /// What becomes of `rows`.
    pub(super) fn apply(&self, rows: Rows<'_>, out: &mut RowsMut<'_>, finish: Finish) {
        multiply(rows, &self.weight, self.bias.as_deref(), out, finish);
    }
}

/// A layer norm.
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) epsilon: f32,
}

impl Norm {
    pub(super) fn apply(&self, rows: Rows<'_>, out: &mut RowsMut<'_>) {
        norm(rows, &self.weight, self.bias.as_deref(), self.epsilon, out);
    }

    pub(super) fn apply_in_place(&self, rows: &mut RowsMut<'_>) {
        norm_in_place(rows, &self.weight, self.bias.as_deref(), self.epsilon);
    }
}

/// Rows of values by number.
pub(super) struct Table {
    /// Gone where they are on a device.
    pub(super) values: Vec<f32>,
    rows: usize,
    pub(super) width: usize,
}

impl Table {
    /// A table of these values, row by row.
    pub(super) fn new(values: Vec<f32>, width: usize) -> Self {
        let rows = values.len() / width;
        Self { values, rows, width }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.values)
    }

    pub(super) fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..][..self.width]
    }
}

/// What goes in.
pub(super) enum Input {
    /// Token ids.
    Text(TextInput),
    /// Pixels.
    Image(ImageInput),
}

pub(super) struct TextInput {
    pub(super) words: Table,
    pub(super) positions: Positions,
    /// Embeddings of token types, of which requests that tell none have the first.
    pub(super) types: Option<Table>,
    pub(super) norm: Norm,
    /// What stands behind shorter rows.
    pub(super) pad: usize,
    /// The longest row.
    pub(super) tokens_max: usize,
}

/// How a token's place in the text gets into its embedding.
pub(super) enum Positions {
    /// Not at all: the layers turn queries and keys by it.
    Rotated,
    /// Row i of the table for the token at i.
    Counted(Table),
    /// Tokens that are not padding are counted, from one behind the padding's number on; padding has its own number's row.
    CountedUnpadded(Table),
}

pub(super) struct ImageInput {
    pub(super) channels: usize,
    /// Height and width, in pixels.
    pub(super) image: [usize; 2],
    pub(super) patch: [usize; 2],
    /// From a patch, `[channels, height, width]`, to its embedding.
    pub(super) projection: Dense,
    /// The embedding of the token in front of the patches.
    pub(super) class: Vec<f32>,
    pub(super) positions: Table,
}

impl ImageInput {
    pub(super) fn tokens(&self) -> usize {
        1 + self.image[0] / self.patch[0] * (self.image[1] / self.patch[1])
    }
}

/// A whole encoder.
pub(super) struct Encoder {
    pub(super) width: usize,
    pub(super) heads: usize,
    pub(super) input: Input,
    pub(super) layers: Vec<Layer>,
    /// Whether a layer's norms are in front of its two parts, and not behind them.
    pub(super) norms_first: bool,
    /// Behind the last layer.
    pub(super) last: Option<Norm>,
    /// Added to scores by distance, `[heads][2 * tokens_max - 1]`.
    pub(super) bias: Option<Vec<f32>>,
}

pub(super) struct Layer {
    /// Queries, keys and values of all heads.
    pub(super) projection: Dense,
    pub(super) attended: Dense,
    pub(super) attention_norm: Option<Norm>,
    /// How far tokens see.
    pub(super) window: Option<usize>,
    pub(super) rotation: Option<Arc<Rotation>>,
    pub(super) up: Dense,
    pub(super) activation: Activation,
    /// Whether `up` has two halves, of which the first, activated, is multiplied with the second.
    pub(super) gated: bool,
    pub(super) down: Dense,
    pub(super) feed_norm: Option<Norm>,
}

impl Layer {
    fn bytes(&self) -> usize {
        [&self.projection, &self.attended, &self.up, &self.down].map(Dense::bytes).iter().sum()
    }
}

/// Cosines and sines of rotary embeddings by position (Su et al., 2021).
pub(super) struct Rotation {
    pub(super) cosines: Table,
    pub(super) sines: Table,
}

impl Rotation {
    /// Those of `positions` positions for heads of `width` values, with the base `theta`.
    pub(super) fn new(positions: usize, width: usize, theta: f32) -> Self {
        let half = width / 2;
        let angle = |position: usize, pair: usize| {
            // In FP32, as the transformers package has them.
            let frequency = 1.0 / theta.powf((2 * pair) as f32 / width as f32);
            position as f32 * frequency
        };
        let table = |of: fn(f32) -> f32| {
            let row = |position| (0..half).map(move |pair| of(angle(position, pair)));
            Table::new((0..positions).flat_map(row).collect(), half)
        };
        Self { cosines: table(f32::cos), sines: table(f32::sin) }
    }
}

impl Encoder {
    /// Bytes of its weights; norms are too few to count.
    pub(super) fn bytes(&self) -> usize {
        let input = match &self.input {
            Input::Text(text) => {
                let positions = match &text.positions {
                    Positions::Rotated => 0,
                    Positions::Counted(table) | Positions::CountedUnpadded(table) => table.bytes(),
                };
                text.words.bytes() + positions + text.types.as_ref().map_or(0, Table::bytes)
            }
            Input::Image(image) => image.projection.bytes() + image.positions.bytes(),
        };
        let layers = self.layers.iter().map(Layer::bytes).sum::<usize>();
        input + layers + self.bias.as_deref().map_or(0, size_of_val)
    }

    /// How the layer `layer` attends.
    pub(super) fn heads_of(&self, layer: &Layer) -> Heads<'_> {
        Heads { count: self.heads, width: self.width / self.heads, window: layer.window, bias: self.bias.as_deref() }
    }
}

/// A matrix whose memory is used again, and grows to what it was asked for.
#[derive(Default)]
pub(super) struct Matrix {
    values: Vec<f32>,
    count: usize,
    width: usize,
    stride: usize,
}

impl Matrix {
    /// Makes it one of `count` rows of `width`, whatever their values.
    pub(super) fn reset(&mut self, count: usize, width: usize) {
        (self.count, self.width, self.stride) = (count, width, stride_for(width));
        let length = count * self.stride;
        if self.values.len() < length {
            self.values.resize(length, 0.0);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn rows(&self) -> Rows<'_> {
        self.rows_of(0, self.count)
    }

    /// `count` rows from the one at `first` on.
    pub(super) fn rows_of(&self, first: usize, count: usize) -> Rows<'_> {
        Rows::new(&self.values[first * self.stride..], count, self.width, self.stride)
    }

    /// The first `width` values of each row.
    pub(super) fn leading(&self, width: usize) -> Rows<'_> {
        Rows::new(&self.values, self.count, width, self.stride)
    }

    pub(super) fn rows_mut(&mut self) -> RowsMut<'_> {
        self.rows_of_mut(0, self.count)
    }

    pub(super) fn rows_of_mut(&mut self, first: usize, count: usize) -> RowsMut<'_> {
        RowsMut::new(&mut self.values[first * self.stride..], count, self.width, self.stride)
    }

    pub(super) fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.stride..][..self.width]
    }

    pub(super) fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.stride..][..self.width]
    }
}
