//! What encoders and heads are made of, as tensors on a device: made from the host's parts, whose memory goes on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Device, Result, Shape, Tensor};
use tensorgate_kernels::{Activation, Panels};

use super::super::encoder::{self, Rotation, Table};

/// Where tensors are, and what their elements are.
pub(super) struct Place {
    pub(super) device: Device,
    /// Of weights and of values; scores of attention are FP32.
    pub(super) precision: DType,
    /// Bytes of the weights that were brought there.
    pub(super) bytes: AtomicU64,
}

impl Place {
    /// Brings values there; rounded on this side, since the device's memory is scarcer.
    pub(super) fn bring(&self, values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
        self.bring_as(values, shape, self.precision)
    }

    /// The same in a precision of its own.
    pub(super) fn bring_as(&self, values: Vec<f32>, shape: impl Into<Shape>, precision: DType) -> Result<Tensor> {
        let tensor = Tensor::from_vec(values, shape.into(), &Device::Cpu)?;
        let tensor = tensor.to_dtype(precision)?.to_device(&self.device)?;
        let bytes = tensor.elem_count() * precision.size_in_bytes();
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(tensor)
    }

    /// A table, `[rows, width]`.
    pub(super) fn bring_table(&self, table: &mut Table) -> Result<Tensor> {
        let shape = (table.rows(), table.width);
        self.bring(std::mem::take(&mut table.values), shape)
    }
}

/// A linear layer, `weight [outer, inner]`.
pub(super) struct Dense {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Dense {
    pub(super) fn of(dense: &mut encoder::Dense, place: &Place) -> Result<Self> {
        let panels = std::mem::replace(&mut dense.weight, Panels::new(0, 0));
        let shape = (panels.outer(), panels.inner());
        let weight = place.bring(panels.columns(), shape)?;
        let bias = dense.bias.take().map(|bias| place.bring(bias, shape.0)).transpose()?;
        Ok(Self { weight, bias })
    }

    /// What becomes of rows, `[rows, inner]`.
    pub(super) fn apply(&self, rows: &Tensor) -> Result<Tensor> {
        let made = rows.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => made.broadcast_add(bias),
            None => Ok(made),
        }
    }
}

/// A layer norm.
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f32,
}

impl Norm {
    pub(super) fn of(norm: &mut encoder::Norm, place: &Place) -> Result<Self> {
        let weight = std::mem::take(&mut norm.weight);
        let width = weight.len();
        let bias = norm.bias.take().unwrap_or_else(|| vec![0.0; width]);
        Ok(Self { weight: place.bring(weight, width)?, bias: place.bring(bias, width)?, epsilon: norm.epsilon })
    }

    pub(super) fn maybe(norm: &mut Option<encoder::Norm>, place: &Place) -> Result<Option<Self>> {
        norm.as_mut().map(|norm| Self::of(norm, place)).transpose()
    }

    pub(super) fn apply(&self, rows: &Tensor) -> Result<Tensor> {
        candle_nn::ops::layer_norm(&rows.contiguous()?, &self.weight, &self.bias, self.epsilon)
    }
}

/// What an activation makes of values.
pub(super) fn activate(values: Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Identity => Ok(values),
        Activation::Gelu => values.gelu_erf(),
        Activation::GeluTanh => values.gelu(),
        Activation::Relu => values.relu(),
        Activation::Silu => values.silu(),
        Activation::Tanh => values.tanh(),
    }
}

/// Angles of rotary embeddings, `[positions, half a head]`.
pub(super) struct Turn {
    cosines: Tensor,
    sines: Tensor,
}

/// Those of several layers, each there once.
#[derive(Default)]
pub(super) struct Turns(Vec<(Arc<Rotation>, Arc<Turn>)>);

impl Turns {
    pub(super) fn of(&mut self, rotation: &Arc<Rotation>, place: &Place) -> Result<Arc<Turn>> {
        if let Some((_, turn)) = self.0.iter().find(|(known, _)| Arc::ptr_eq(known, rotation)) {
            return Ok(Arc::clone(turn));
        }
        let bring = |table: &Table| place.bring(table.values.clone(), (table.rows(), table.width));
        let turn = Arc::new(Turn { cosines: bring(&rotation.cosines)?, sines: bring(&rotation.sines)? });
        self.0.push((Arc::clone(rotation), Arc::clone(&turn)));
        Ok(turn)
    }
}

impl Turn {
    /// Turns `[rows, heads, length, width]`.
    pub(super) fn apply(&self, values: &Tensor) -> Result<Tensor> {
        candle_nn::rotary_emb::rope(&values.contiguous()?, &self.cosines, &self.sines)
    }
}
