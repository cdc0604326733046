//! Heads, on a device: what is made of the values behind the last layer.

use candle_core::{DType, Result, Tensor};
use tensorgate_kernels::Activation;

use super::super::head::{self, Select};
use super::forward::Counts;
use super::parts::{Dense, Norm, Place, activate};

/// Below which length a vector is not made longer (torch.nn.functional.normalize).
const LENGTH_MIN: f64 = 1e-12;

/// A head.
pub(super) struct Head {
    select: Vec<Select>,
    steps: Vec<Step>,
}

enum Step {
    Dense(Dense, Activation),
    Norm(Norm),
    Unit,
}

impl Head {
    pub(super) fn of(head: &mut head::Head, place: &Place) -> Result<Self> {
        let step = |step: &mut head::Step| {
            Ok(match step {
                head::Step::Dense(dense, activation) => Step::Dense(Dense::of(dense, place)?, *activation),
                head::Step::Norm(norm) => Step::Norm(Norm::of(norm, place)?),
                head::Step::Unit => Step::Unit,
            })
        };
        Ok(Self { select: head.select.clone(), steps: head.steps.iter_mut().map(step).collect::<Result<_>>()? })
    }

    /// The answers for values `[rows, length, width]`, one behind the other.
    pub(super) fn apply(&self, values: &Tensor, counts: &Counts) -> Result<Tensor> {
        let (rows, length, width) = values.dims3()?;
        let mut made = if self.select.contains(&Select::Each) {
            values.reshape((rows * length, width))?
        } else {
            let parts = self.select.iter().map(|&select| pool(select, values, counts)).collect::<Result<Vec<_>>>()?;
            Tensor::cat(&parts, 1)?
        };
        for step in &self.steps {
            made = match step {
                Step::Dense(dense, activation) => activate(dense.apply(&made)?, *activation)?,
                Step::Norm(norm) => norm.apply(&made)?,
                Step::Unit => {
                    let exact = made.to_dtype(DType::F32)?;
                    let length = exact.sqr()?.sum_keepdim(1)?.sqrt()?.maximum(LENGTH_MIN)?;
                    exact.broadcast_div(&length)?.to_dtype(made.dtype())?
                }
            };
        }
        Ok(made)
    }
}

/// One row of values for each of a batch, `[rows, width]`; zeroes where none of its tokens counts.
fn pool(select: Select, values: &Tensor, counts: &Counts) -> Result<Tensor> {
    let (rows, length, width) = values.dims3()?;
    if select == Select::First {
        return values.narrow(1, 0, 1)?.contiguous()?.reshape((rows, width));
    }
    // Sums of many values are made in FP32.
    let exact = values.to_dtype(DType::F32)?;
    let kept = match &counts.kept {
        Some(kept) => kept.clone(),
        None => Tensor::ones((rows, length), DType::F32, values.device())?,
    };
    let count = kept.sum_keepdim(1)?;
    let cells = kept.reshape((rows, length, 1))?;
    let pooled = if select == Select::Largest {
        let largest = exact.broadcast_add(&cells.affine(1e30, -1e30)?)?.max(1)?;
        largest.broadcast_mul(&count.clamp(0.0, 1.0)?)?
    } else {
        let sum = exact.broadcast_mul(&cells)?.sum(1)?;
        let count = count.maximum(1.0)?;
        let by = if select == Select::MeanByRoot { count.sqrt()? } else { count };
        sum.broadcast_div(&by)?
    };
    pooled.to_dtype(values.dtype())
}
