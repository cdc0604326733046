//! Checkpoints on a GPU: the same architectures, of the same parts, computed with candle's tensors instead of our kernels.
//!
//! A model is put together on the host, checked there, and its weights go to the device one by one. FP16 and BF16 are kept where
//! all weights are of one of them; scores of attention, sums over tokens and answers are FP32 all the same. Tests hold it against
//! our own kernels on candle's CPU device, on which nobody is served.

mod forward;
mod head;
mod input;
mod parts;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Tensor as Values};

use super::forward::Batch;
use super::model::{Interruption, Model, Output, check_size, tensor};
use crate::error::{Error, Result};
use crate::model::{Device, Pad, Signature};
use crate::runtime::{Instance, Interrupt, LoadedModel};
use crate::tensor::Tensor;

use forward::{Counts, Encoder};
use head::Head;
use parts::Place;

/// Cells that are run together, if more than one row: beyond some thousand a GPU is busy anyhow, and memory is all that grows.
const CELLS_MAX: usize = 1 << 15;

/// Scores that are there at once, if of more than one row: 1 GiB of them.
const SCORES_MAX: usize = 1 << 28;

/// A model on a device.
pub(super) struct DeviceModel {
    /// What it takes and gives; its weights are gone.
    host: Model,
    encoder: Encoder,
    /// By position of the outputs: heads, or none for the values behind the last layer.
    heads: Vec<Option<Head>>,
    heads_count: usize,
    device: Device,
}

/// Brings `model` to the GPU with this number; `datatype` is that of all its weights, as safetensors call it, where they have one.
///
/// # Errors
/// `ModelUnavailable`: CUDA cannot be had, or memory is used up.
pub(super) fn on_gpu(model: Model, number: u32, datatype: Option<&str>) -> Result<DeviceModel> {
    let precision = match datatype {
        Some("F16") => DType::F16,
        Some("BF16") => DType::BF16,
        _ => DType::F32,
    };
    let device = Device::Cuda(number);
    let opened = candle_core::Device::new_cuda(number as usize);
    let opened = opened.map_err(|cause| Error::unavailable(told(device, &cause)))?;
    on(model, &opened, precision, device)
}

fn on(mut model: Model, opened: &candle_core::Device, precision: DType, device: Device) -> Result<DeviceModel> {
    let place = Place { device: opened.clone(), precision, bytes: AtomicU64::new(0) };
    let heads_count = model.encoder.heads;
    let made: candle_core::Result<_> = (|| {
        let head = |output: &mut Output| match output {
            Output::Values => Ok(None),
            Output::Head(head) => Head::of(head, &place).map(Some),
        };
        let heads = model.outputs.iter_mut().map(head).collect::<candle_core::Result<_>>()?;
        Ok((heads, Encoder::of(&mut model.encoder, place)?))
    })();
    let (heads, encoder) = made.map_err(|cause| Error::unavailable(told(device, &cause)))?;
    Ok(DeviceModel { host: model, encoder, heads, heads_count, device })
}

/// An error of candle in one line; one that tells of a GPU without memory says so first.
fn told(device: Device, cause: &candle_core::Error) -> String {
    let message = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    if message.contains("OUT_OF_MEMORY") || message.contains("out of memory") {
        return format!("{device} has no memory left for it (--gpu-memory-max, max_batch_size): {message}");
    }
    format!("{device}: {message}")
}

/// A device's model as the server sees it.
pub(super) struct OnDevice(pub(super) Arc<DeviceModel>);

impl LoadedModel for OnDevice {
    fn signature(&self) -> &Signature {
        self.0.host.signature()
    }

    fn instance(&self) -> Result<Box<dyn Instance>> {
        Ok(Box::new(DeviceInstance { model: Arc::clone(&self.0), interruption: Arc::default() }))
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.0.encoder.bytes())
    }

    fn pads(&self) -> Vec<Option<Pad>> {
        self.0.host.pads()
    }

    fn labels(&self, output: usize) -> &[String] {
        self.0.host.labels(output)
    }
}

struct DeviceInstance {
    model: Arc<DeviceModel>,
    interruption: Arc<Interruption>,
}

impl Instance for DeviceInstance {
    fn execute(&mut self, inputs: &[Option<Tensor>], outputs: &[usize]) -> Result<Vec<Tensor>> {
        self.interruption.0.store(false, Ordering::Relaxed);
        let model = &*self.model;
        let (batch, rows) = model.host.batch(inputs)?;
        let length = model.host.encoder.length(&batch);
        let shapes =
            outputs.iter().map(|&output| model.host.shape(output, rows, length)).collect::<Result<Vec<_>>>()?;
        check_size(&shapes)?;
        let size = |shape: &crate::tensor::Shape| shape.elements().unwrap_or(0);
        let mut answers: Vec<Vec<f32>> = shapes.iter().map(|shape| Vec::with_capacity(size(shape))).collect();
        let scores = model.heads_count * length * length;
        let together = (CELLS_MAX / length.max(1)).min(SCORES_MAX / scores.max(1)).max(1);
        let stopped = || self.interruption.0.load(Ordering::Relaxed);
        for first in (0..rows).step_by(together) {
            let part = Rows { batch: &batch, first, count: together.min(rows - first), length };
            let finished = model.run(&part, outputs, &mut answers, &stopped);
            if !finished.map_err(|cause| Error::execution(told(model.device, &cause)))? {
                return Err(Error::execution("the execution was interrupted"));
            }
        }
        shapes.into_iter().zip(answers).map(|(shape, values)| tensor(shape, values)).collect()
    }

    fn interrupt(&self) -> Option<Arc<dyn Interrupt>> {
        Some(Arc::clone(&self.interruption) as Arc<dyn Interrupt>)
    }
}

/// Some rows of a batch.
struct Rows<'a> {
    batch: &'a Batch<'a>,
    first: usize,
    count: usize,
    length: usize,
}

impl DeviceModel {
    /// Puts the answers to some rows behind those that there are; false where it was stopped.
    fn run(
        &self,
        rows: &Rows<'_>,
        outputs: &[usize],
        answers: &mut [Vec<f32>],
        stopped: &dyn Fn() -> bool,
    ) -> candle_core::Result<bool> {
        let Rows { batch, first, count, length } = *rows;
        let place = &self.encoder.place;
        let (embedded, kept) = match (&self.encoder.input, batch) {
            (input::Input::Text(text), Batch::Texts(texts)) => {
                (text.embed(texts, first, count, place)?, input::kept(texts, first, count, place)?)
            }
            (input::Input::Image(image), Batch::Images(pixels)) => (image.embed(pixels, first, count, place)?, None),
            // The signature, which is made from the input, lets nothing else through.
            _ => return Ok(false),
        };
        let mut counts = Counts::new(kept, length, &place.device);
        let Some(values) = self.encoder.run(&embedded, &mut counts, stopped)? else { return Ok(false) };
        for (&output, answer) in outputs.iter().zip(answers) {
            let made = match &self.heads[output] {
                Some(head) => head.apply(&values, &counts)?,
                None => values.clone(),
            };
            answer.extend(floats(&made)?);
        }
        Ok(true)
    }
}

/// All values of a tensor, on the host.
fn floats(values: &Values) -> candle_core::Result<Vec<f32>> {
    values.flatten_all()?.to_dtype(DType::F32)?.to_vec1()
}
