//! The first runs of a model, before it is ready: they prove that it runs at all, find out whether rows may be joined, and
//! seed the curve. Inputs are made up from the signature.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::batch::execute;
use super::curve::Curve;
use super::padding::Padding;
use crate::error::{Error, Result};
use crate::infer::ValidRequest;
use crate::model::{Dim, Pad, Signature, TensorSpec};
use crate::runtime::{Instance, waited_for_a_core};
use crate::tensor::{DataType, Shape, Tensor};

mod lengths;
mod profile;
mod synthetic;
mod tolerance;

pub use profile::profile;
use synthetic::{Fill, Source};

/// Runs of sizes beyond the first rows are made only while they are predicted to stay below this: a slow model is not kept
/// from serving by measurements that serving makes anyway.
const MEASURED_MAX: Duration = Duration::from_millis(20);

/// Sizes tried for dynamic dimensions other than rows, in this order.
const DYNAMIC_SIZES: [usize; 3] = [4, 1, 16];

/// Whether requests may be joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batching {
    /// Rows alone and rows together gave the same answers.
    Verified,
    /// Not, and why; `suspicious` where the signature promised otherwise, so that the log should say it.
    Off {
        /// Why.
        reason: String,
        /// Whether the signature promised otherwise.
        suspicious: bool,
    },
}

/// Whether requests of different lengths may be joined by padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Padded {
    /// The settings pad no input.
    Undeclared,
    /// Rows alone and padded gave the same answers.
    Verified(Arc<Padding>),
    /// The settings pad an input, and this is why nothing is padded.
    Off {
        /// Why.
        reason: String,
    },
}

/// What the first runs showed.
#[derive(Clone, Debug)]
pub struct WarmUp {
    /// Whether requests may be joined.
    pub batching: Batching,
    /// Whether those of different lengths may be.
    pub padded: Padded,
    /// Execution times measured.
    pub curve: Curve,
    /// Why no made-up input could be run, where none could and the model may still be right: the first request is its
    /// first run.
    pub not_run: Option<String>,
}

impl WarmUp {
    /// What is known of a model of `signature` that was not run: requests are not joined, since that was not verified.
    pub fn skipped(signature: &Signature) -> Self {
        let reason = "the settings switch the warm-up off, so that joining rows was not verified".into();
        let batching = Batching::Off { reason, suspicious: signature.may_batch() };
        Self { batching, padded: Padded::Undeclared, curve: Curve::default(), not_run: None }
    }
}

/// Runs `instance`, whose model has `signature`; `pads` has one entry for each input, what it may be padded with if it may;
/// `rows_max` is the most rows that a batch may be asked to have.
///
/// # Errors
/// [`crate::error::Kind::ModelUnavailable`] where the model fails on inputs that no model of this signature may refuse:
/// numbers of fixed shape.
pub fn warm_up(
    instance: &mut dyn Instance,
    signature: &Signature,
    pads: &[Option<Pad>],
    rows_max: usize,
) -> Result<WarmUp> {
    let mut curve = Curve::default();
    let source = match first_run(instance, signature)? {
        Ok(source) => source,
        Err(error) => {
            let off = Batching::Off { reason: "no made-up input could be run".into(), suspicious: false };
            let padded = lengths::verify(instance, signature, None, pads);
            return Ok(WarmUp { batching: off, padded, curve, not_run: Some(error.to_string()) });
        }
    };
    let batching = if rows_max > 1 { verify(instance, signature, &source) } else { pinned() };
    let joined = (batching == Batching::Verified).then_some(&source);
    let padded = lengths::verify(instance, signature, joined, pads);
    let unit = match &padded {
        Padded::Verified(padding) => padding.cells(&source.request(signature, 1, 0)),
        Padded::Undeclared | Padded::Off { .. } => 1,
    };
    // The first run allocated; only now does a run take what runs take.
    for rows in [1, 2, 8, rows_max].into_iter().filter(|&rows| rows == 1 || joined.is_some() && rows <= rows_max) {
        if curve.centre(rows * unit) <= MEASURED_MAX {
            measure(instance, signature, &source, rows, unit, &mut curve)?;
        }
    }
    Ok(WarmUp { batching, padded, curve, not_run: None })
}

/// Runs `instance` once, whose model has `signature` and was warmed up before.
///
/// # Errors
/// Those of [`warm_up`].
pub fn prove(instance: &mut dyn Instance, signature: &Signature) -> Result<()> {
    first_run(instance, signature).map(drop)
}

/// What the model accepts, or why no made-up input could be run where the model may still be right.
fn first_run(instance: &mut dyn Instance, signature: &Signature) -> Result<Result<Source>> {
    match find_runnable(instance, signature) {
        Err(error) if any_input_will_do(signature) => {
            Err(Error::unavailable(format!("the warm-up run failed: {error}")))
        }
        found => Ok(found),
    }
}

fn pinned() -> Batching {
    Batching::Off { reason: "the settings say so".into(), suspicious: false }
}

/// Finds sizes and values that the model accepts, by running one row.
fn find_runnable(instance: &mut dyn Instance, signature: &Signature) -> Result<Source> {
    let mut first_error = None;
    for size in DYNAMIC_SIZES {
        for fill in Fill::ALL {
            let source = Source { fill, size };
            match execute(instance, &[&source.request(signature, 1, 0)], None) {
                Ok(_) => return Ok(source),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
    }
    Err(first_error.unwrap_or_else(|| Error::internal("no run was tried")))
}

/// Whether a model of this signature has no excuse to refuse made-up values: floating-point numbers of known shape, but
/// for the number of rows. Whole numbers may be indices, text may be parsed, and sizes may have to divide one another.
fn any_input_will_do(signature: &Signature) -> bool {
    let fixed = |dims: &[Dim]| dims.iter().skip(1).all(|dim| matches!(dim, Dim::Fixed(_)));
    signature.inputs.iter().all(|spec| {
        let float = matches!(spec.datatype, DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64);
        float && spec.shape.as_deref().is_some_and(fixed)
    })
}

/// Runs `rows` rows, each of `unit` work, twice and notes the quicker time.
fn measure(
    instance: &mut dyn Instance,
    signature: &Signature,
    source: &Source,
    rows: usize,
    unit: usize,
    curve: &mut Curve,
) -> Result<()> {
    let request = source.request(signature, rows, 0);
    let mut best = Duration::MAX;
    for _ in 0..2 {
        let (started, waited) = (Instant::now(), waited_for_a_core());
        // A size that fails is one that the scheduler will retry singly; it is not measured.
        if execute(instance, &[&request], None).is_err() {
            return Ok(());
        }
        // Without what models that serve took from it meanwhile.
        let elapsed = started.elapsed();
        best = best.min(elapsed.saturating_sub(waited_for_a_core().saturating_sub(waited)));
    }
    curve.note(rows * unit, best);
    Ok(())
}

/// Runs two different rows alone and together, and compares.
fn verify(instance: &mut dyn Instance, signature: &Signature, source: &Source) -> Batching {
    if !signature.may_batch() {
        let reason = "not every input and output has a variable first dimension".into();
        return Batching::Off { reason, suspicious: false };
    }
    if source.fill != Fill::Varied {
        let reason = "the model accepts no varied made-up rows, so that joining them cannot be verified".into();
        return Batching::Off { reason, suspicious: true };
    }
    let rows = [source.request(signature, 1, 1), source.request(signature, 1, 2)];
    match compare(instance, signature, &rows, None) {
        Ok(()) => Batching::Verified,
        Err(reason) => Batching::Off { reason, suspicious: true },
    }
}

/// Runs two requests alone and together, padded as `padding` says, and compares; gives what went wrong or is different.
fn compare(
    instance: &mut dyn Instance,
    signature: &Signature,
    requests: &[ValidRequest; 2],
    padding: Option<&Padding>,
) -> Result<(), String> {
    let mut alone = Vec::with_capacity(requests.len());
    for request in requests {
        match execute(instance, &[request], None) {
            Ok(mut outputs) => alone.push(outputs.pop().unwrap_or_default()),
            Err(error) => return Err(format!("a made-up row failed: {error}")),
        }
    }
    let [one, other] = requests;
    let together =
        execute(instance, &[one, other], padding).map_err(|error| format!("two rows together failed: {error}"))?;
    for (alone, together) in alone.iter().zip(&together) {
        for (position, (one, both)) in alone.iter().zip(together).enumerate() {
            if !tolerance::same(one, both) {
                let name = &signature.outputs[position].name;
                let how = if padding.is_some() { "is padded to the length of" } else { "runs with" };
                return Err(format!("output '{name}' of a row differs when the row {how} another"));
            }
        }
    }
    Ok(())
}
