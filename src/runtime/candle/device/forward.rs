//! From inputs to the values behind the last layer: all cells of some rows at once, padding among them, since a device computes
//! what it need not sooner than it finds out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use candle_core::{DType, Device, Result, Tensor};
use tensorgate_kernels::Activation;

use super::super::encoder;
use super::input::Input;
use super::parts::{Dense, Norm, Place, Turn, Turns, activate};

/// Taken from scores that do not count: exp gives 0 for what is left, and twice as much is no infinity yet.
const NOT_COUNTED: f64 = 1e30;

/// A whole encoder.
pub(super) struct Encoder {
    pub(super) width: usize,
    heads: usize,
    pub(super) input: Input,
    layers: Vec<Layer>,
    norms_first: bool,
    last: Option<Norm>,
    /// Added to scores by distance.
    bias: Option<ByDistance>,
    pub(super) place: Place,
}

/// `[heads, 2 * reach - 1]`, the key's place less the query's, from `1 - reach` on.
struct ByDistance {
    values: Tensor,
    reach: usize,
}

struct Layer {
    projection: Dense,
    attended: Dense,
    attention_norm: Option<Norm>,
    window: Option<usize>,
    turn: Option<Arc<Turn>>,
    up: Dense,
    activation: Activation,
    gated: bool,
    down: Dense,
    feed_norm: Option<Norm>,
}

impl Layer {
    fn of(layer: &mut encoder::Layer, turns: &mut Turns, place: &Place) -> Result<Self> {
        Ok(Self {
            projection: Dense::of(&mut layer.projection, place)?,
            attended: Dense::of(&mut layer.attended, place)?,
            attention_norm: Norm::maybe(&mut layer.attention_norm, place)?,
            window: layer.window,
            turn: layer.rotation.as_ref().map(|rotation| turns.of(rotation, place)).transpose()?,
            up: Dense::of(&mut layer.up, place)?,
            activation: layer.activation,
            gated: layer.gated,
            down: Dense::of(&mut layer.down, place)?,
            feed_norm: Norm::maybe(&mut layer.feed_norm, place)?,
        })
    }
}

/// Which cells count, and to whom.
pub(super) struct Counts {
    /// 1 for cells that count, else 0, `[rows, length]` in FP32; none where all do.
    pub(super) kept: Option<Tensor>,
    length: usize,
    device: Device,
    /// By window.
    masks: Vec<(Option<usize>, Option<Mask>)>,
}

/// What scores `[rows, heads, length, length]` are masked with; both are broadcast to that.
#[derive(Clone)]
struct Mask {
    added: Tensor,
    /// 0 for the same cells, for tokens that no key is within reach of: what they find is nothing, not the mean of all.
    by: Tensor,
}

impl Counts {
    pub(super) fn new(kept: Option<Tensor>, length: usize, device: &Device) -> Self {
        Self { kept, length, device: device.clone(), masks: Vec::new() }
    }

    fn mask(&mut self, window: Option<usize>) -> Result<Option<Mask>> {
        let window = window.filter(|&window| window + 1 < self.length);
        if let Some((_, mask)) = self.masks.iter().find(|(known, _)| *known == window) {
            return Ok(mask.clone());
        }
        let (length, kept) = (self.length, self.kept.as_ref());
        let kept = kept.map(|kept| kept.reshape((kept.dim(0)?, 1, 1, length))).transpose()?;
        let near = window.map(|window| {
            let cells = (0..length * length).map(|cell| (cell / length).abs_diff(cell % length) <= window);
            let cells: Vec<f32> = cells.map(|near| if near { 1.0 } else { 0.0 }).collect();
            Tensor::from_vec(cells, (1, 1, length, length), &self.device)
        });
        let by = match (kept, near.transpose()?) {
            (Some(kept), Some(near)) => Some(kept.broadcast_mul(&near)?),
            (kept, near) => kept.or(near),
        };
        let mask = by.map(|by| Ok::<_, candle_core::Error>(Mask { added: by.affine(NOT_COUNTED, -NOT_COUNTED)?, by }));
        let mask = mask.transpose()?;
        self.masks.push((window, mask.clone()));
        Ok(mask)
    }
}

impl Encoder {
    /// Brings an encoder's weights to `place`; the host's go on the way.
    pub(super) fn of(host: &mut encoder::Encoder, place: Place) -> Result<Self> {
        let input = Input::of(&mut host.input, &place)?;
        let mut turns = Turns::default();
        let layers = host.layers.iter_mut().map(|layer| Layer::of(layer, &mut turns, &place)).collect::<Result<_>>()?;
        host.layers.clear();
        let heads = host.heads;
        let bias = host.bias.take().map(|bias| {
            let distances = bias.len() / heads;
            Ok::<_, candle_core::Error>(ByDistance {
                values: place.bring_as(bias, (heads, distances), DType::F32)?,
                reach: distances.div_ceil(2),
            })
        });
        Ok(Self {
            width: host.width,
            heads,
            input,
            layers,
            norms_first: host.norms_first,
            last: Norm::maybe(&mut host.last, &place)?,
            bias: bias.transpose()?,
            place,
        })
    }

    /// Bytes of the weights there.
    pub(super) fn bytes(&self) -> u64 {
        self.place.bytes.load(Ordering::Relaxed)
    }

    /// The values behind the last layer for embeddings `[rows, length, width]`, in that shape. Breaks off with `None` where
    /// `stopped` says so between two layers.
    pub(super) fn run(
        &self,
        embedded: &Tensor,
        counts: &mut Counts,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Option<Tensor>> {
        let (rows, length, width) = embedded.dims3()?;
        let bias = self.bias.as_ref().map(|bias| bias.of_length(length, &self.place.device)).transpose()?;
        let mut values = embedded.reshape((rows * length, width))?;
        for layer in &self.layers {
            if stopped() {
                return Ok(None);
            }
            let mask = counts.mask(layer.window)?;
            let found =
                self.attend(layer, &self.before(&layer.attention_norm, &values)?, (rows, length), mask, bias.as_ref())?;
            values = self.behind(&layer.attention_norm, (values + found)?)?;
            let made = feed(layer, &self.before(&layer.feed_norm, &values)?)?;
            values = self.behind(&layer.feed_norm, (values + made)?)?;
        }
        if let Some(last) = &self.last {
            values = last.apply(&values)?;
        }
        values.reshape((rows, length, width)).map(Some)
    }

    /// What a part of a layer starts from.
    fn before(&self, norm: &Option<Norm>, values: &Tensor) -> Result<Tensor> {
        match norm {
            Some(norm) if self.norms_first => norm.apply(values),
            _ => Ok(values.clone()),
        }
    }

    /// What becomes of values behind a part of a layer.
    fn behind(&self, norm: &Option<Norm>, values: Tensor) -> Result<Tensor> {
        match norm {
            Some(norm) if !self.norms_first => norm.apply(&values),
            _ => Ok(values),
        }
    }

    fn attend(
        &self,
        layer: &Layer,
        from: &Tensor,
        (rows, length): (usize, usize),
        mask: Option<Mask>,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let width = self.width / self.heads;
        let projected = layer.projection.apply(from)?.reshape((rows, length, 3, self.heads, width))?;
        // [3, rows, heads, length, width of a head]
        let projected = projected.permute((2, 0, 3, 1, 4))?.contiguous()?;
        let [queries, keys, found] = [projected.get(0)?, projected.get(1)?, projected.get(2)?];
        let (queries, keys) = match &layer.turn {
            Some(turn) => (turn.apply(&queries)?, turn.apply(&keys)?),
            None => (queries, keys),
        };
        let scores = queries.matmul(&keys.t()?)?.to_dtype(DType::F32)?;
        let mut scores = (scores * (1.0 / (width as f64).sqrt()))?;
        if let Some(bias) = bias {
            scores = scores.broadcast_add(bias)?;
        }
        let weights = match &mask {
            Some(mask) => {
                candle_nn::ops::softmax_last_dim(&scores.broadcast_add(&mask.added)?)?.broadcast_mul(&mask.by)?
            }
            None => candle_nn::ops::softmax_last_dim(&scores)?,
        };
        let found = weights.to_dtype(self.place.precision)?.matmul(&found)?;
        let found = found.transpose(1, 2)?.contiguous()?.reshape((rows * length, self.width))?;
        layer.attended.apply(&found)
    }
}

fn feed(layer: &Layer, from: &Tensor) -> Result<Tensor> {
    let made = layer.up.apply(from)?;
    let made = if layer.gated {
        let half = made.dim(1)? / 2;
        (activate(made.narrow(1, 0, half)?.contiguous()?, layer.activation)? * made.narrow(1, half, half)?)?
    } else {
        activate(made, layer.activation)?
    };
    layer.down.apply(&made)
}

impl ByDistance {
    /// What is added to scores of texts of `length` tokens, `[1, heads, length, length]`.
    fn of_length(&self, length: usize, device: &Device) -> Result<Tensor> {
        let distance = |cell: usize| (cell % length + self.reach - 1 - cell / length) as u32;
        let distances: Vec<u32> = (0..length * length).map(distance).collect();
        let chosen = self.values.index_select(&Tensor::from_vec(distances, length * length, device)?, 1)?;
        chosen.reshape((1, self.values.dim(0)?, length, length))
    }
}
