//! The classification extension of V2: an output as its best classes, named, in place of its numbers.
//!
//! Asked for by the parameter `classification` of a requested output. The format is Triton's, `value:index[:label]`, the value
//! as C's `%f` writes it.

use std::cmp::Ordering;
use std::fmt::Write;
use std::sync::Arc;

use half::{bf16, f16};

use super::{ParameterValue, RequestedOutput};
use crate::error::{Error, Result};
use crate::model::Signature;
use crate::tensor::{DataType, Element, Shape, Tensor};

/// The parameter of a requested output that says how many classes.
const CLASSIFICATION: &str = "classification";

/// The names of an output's classes, by index; there may be fewer names than classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Arc<[Box<str>]>);

impl Labels {
    /// One label a line. The last line may end or not.
    pub fn from_text(text: &str) -> Self {
        Self(text.lines().map(|line| line.trim_end().into()).collect())
    }

    /// These labels.
    pub fn from_names(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.as_str().into()).collect())
    }

    fn get(&self, index: usize) -> Option<&str> {
        self.0.get(index).map(AsRef::as_ref).filter(|label| !label.is_empty())
    }
}

/// The best classes of one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopClasses {
    /// The output's position among those that the answer has.
    pub output: usize,
    /// How many at most, at least 1.
    pub count: usize,
    /// Whether dimension 0 is rows, each of which has classes of its own: where the model says that it is dynamic, and
    /// where another dimension follows.
    pub rows: bool,
}

/// Which of the `requested` outputs are wanted as classes; allocates nothing where none is. Zero classes are no wish.
///
/// # Errors
/// `InvalidRequest` for a number of classes that is none, and for outputs that are no numbers.
pub fn classes_wanted(model: &str, signature: &Signature, requested: &[RequestedOutput]) -> Result<Vec<TopClasses>> {
    let mut wanted = Vec::new();
    for (output, request) in requested.iter().enumerate() {
        let Some(value) = request.parameters.get(CLASSIFICATION) else { continue };
        let name = &request.name;
        let count = match value {
            ParameterValue::Int64(count) => usize::try_from(*count).ok(),
            ParameterValue::Uint64(count) => usize::try_from(*count).ok(),
            _ => None,
        };
        let count = count.ok_or_else(|| {
            Error::invalid(format!(
                "model '{model}': output '{name}': parameter '{CLASSIFICATION}' is {value:?}, expected a number of classes"
            ))
        })?;
        // Names were checked before.
        let Some((_, spec)) = signature.output(name).filter(|_| count > 0) else { continue };
        if matches!(spec.datatype, DataType::Bool | DataType::Bytes) {
            return Err(Error::invalid(format!(
                "model '{model}': output '{name}' has datatype {}, only numbers have classes",
                spec.datatype
            )));
        }
        let rows = spec.has_dynamic_rows() || spec.shape.as_ref().is_none_or(|dims| dims.len() > 1);
        wanted.push(TopClasses { output, count, rows });
    }
    Ok(wanted)
}

impl TopClasses {
    /// `tensor` as a BYTES tensor of its best classes, the best first: `[rows, count]`, or `[count]` without rows. A row
    /// with fewer classes has all of them.
    ///
    /// # Errors
    /// `Internal` for a tensor that is no numbers, which the signature excludes.
    pub fn of(&self, tensor: &Tensor, labels: &Labels) -> Result<Tensor> {
        let tensor = tensor.clone().aligned();
        match tensor.datatype() {
            DataType::Uint8 => self.ranked::<u8>(&tensor, labels),
            DataType::Uint16 => self.ranked::<u16>(&tensor, labels),
            DataType::Uint32 => self.ranked::<u32>(&tensor, labels),
            DataType::Uint64 => self.ranked::<u64>(&tensor, labels),
            DataType::Int8 => self.ranked::<i8>(&tensor, labels),
            DataType::Int16 => self.ranked::<i16>(&tensor, labels),
            DataType::Int32 => self.ranked::<i32>(&tensor, labels),
            DataType::Int64 => self.ranked::<i64>(&tensor, labels),
            DataType::Fp16 => self.ranked::<f16>(&tensor, labels),
            DataType::Bf16 => self.ranked::<bf16>(&tensor, labels),
            DataType::Fp32 => self.ranked::<f32>(&tensor, labels),
            DataType::Fp64 => self.ranked::<f64>(&tensor, labels),
            other @ (DataType::Bool | DataType::Bytes) => Err(Error::internal(format!("{other} has no classes"))),
        }
    }

    fn ranked<T: Score>(&self, tensor: &Tensor, labels: &Labels) -> Result<Tensor> {
        let broken = |cause: crate::tensor::TensorError| Error::internal(cause.to_string());
        let values = tensor.view::<T>().map_err(broken)?;
        let rows = if self.rows { tensor.rows().unwrap_or(1) } else { 1 };
        let classes = values.len().checked_div(rows).unwrap_or(0);
        let count = self.count.min(classes);
        let mut best = Vec::with_capacity(rows * count);
        let mut order: Vec<usize> = Vec::with_capacity(classes);
        // A row of no classes has none to rank, and chunks of nothing are not allowed.
        for row in values.chunks_exact(classes.max(1)) {
            order.clear();
            order.extend(0..classes);
            // The first of equals comes first; what is no number comes last.
            let better = |a: &usize, b: &usize| row[*b].rank(row[*a]).then(a.cmp(b));
            if count < classes {
                order.select_nth_unstable_by(count, better);
                order.truncate(count);
            }
            order.sort_unstable_by(better);
            best.extend(order.iter().map(|&index| written(row[index], index, labels.get(index))));
        }
        let shape: Shape = if self.rows { [rows, count].into_iter().collect() } else { [count].into_iter().collect() };
        Tensor::from_byte_strings(shape, &best).map_err(broken)
    }
}

fn written<T: Score>(value: T, index: usize, label: Option<&str>) -> String {
    let mut text = String::with_capacity(16 + label.map_or(0, str::len));
    value.write(&mut text);
    // Writing to a string cannot fail.
    let _ = write!(text, ":{index}");
    if let Some(label) = label {
        text.push(':');
        text.push_str(label);
    }
    text
}

/// An element that classes are ranked by.
trait Score: Element {
    /// The order by value, NaN below everything.
    fn rank(self, other: Self) -> Ordering;
    fn write(self, text: &mut String);
}

macro_rules! whole_scores {
    ($($rust:ty),*) => {$(
        impl Score for $rust {
            fn rank(self, other: Self) -> Ordering {
                self.cmp(&other)
            }

            fn write(self, text: &mut String) {
                let _ = write!(text, "{self}");
            }
        }
    )*};
}

whole_scores!(u8, u16, u32, u64, i8, i16, i32, i64);

macro_rules! float_scores {
    ($($rust:ty),*) => {$(
        impl Score for $rust {
            fn rank(self, other: Self) -> Ordering {
                let (this, other) = (f64::from(self), f64::from(other));
                this.partial_cmp(&other).unwrap_or_else(|| other.is_nan().cmp(&this.is_nan()))
            }

            fn write(self, text: &mut String) {
                let value = f64::from(self);
                // C's word is in lower case, and its sign means nothing.
                let _ = if value.is_nan() { write!(text, "nan") } else { write!(text, "{value:.6}") };
            }
        }
    )*};
}

float_scores!(f16, bf16, f32, f64);

#[cfg(test)]
mod tests;
