//! Inputs and outputs of a model.

use std::fmt;
use std::sync::Arc;

use crate::tensor::{DataType, ElementBytes, Shape};

/// One dimension of a [`TensorSpec`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Always this size.
    Fixed(usize),
    /// Any size; dimensions of one name are equal within a request ("batch", "sequence").
    Dynamic(Option<Arc<str>>),
}

impl Dim {
    /// A dynamic dimension without a name.
    pub const ANY: Dim = Dim::Dynamic(None);

    /// As the wire says it: -1 for a dynamic dimension.
    pub fn to_wire(&self) -> i64 {
        match self {
            Dim::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
            Dim::Dynamic(_) => -1,
        }
    }

    /// From the wire or a settings file: anything below zero is dynamic.
    pub fn from_wire(dim: i64) -> Self {
        usize::try_from(dim).map_or(Dim::ANY, Dim::Fixed)
    }

    /// Whether a tensor's dimension of `size` fits.
    pub fn accepts(&self, size: usize) -> bool {
        match self {
            Dim::Fixed(fixed) => *fixed == size,
            Dim::Dynamic(_) => true,
        }
    }
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name; unique among a model's inputs, and among its outputs.
    pub name: Arc<str>,
    /// Its datatype.
    pub datatype: DataType,
    /// Its dimensions, batch dimension included. `None` where the artifact states no rank: any shape fits.
    pub shape: Option<Vec<Dim>>,
    /// An input that a request may leave out, because the model has a default for it.
    pub optional: bool,
}

impl TensorSpec {
    /// A required tensor.
    pub fn new(name: impl AsRef<str>, datatype: DataType, shape: impl IntoIterator<Item = Dim>) -> Self {
        let shape = Some(shape.into_iter().collect());
        Self { name: name.as_ref().into(), datatype, shape, optional: false }
    }

    /// Whether a tensor of `shape` fits: rank and every fixed dimension.
    pub fn accepts(&self, shape: &Shape) -> bool {
        let Some(dims) = &self.shape else { return true };
        dims.len() == shape.len() && dims.iter().zip(shape.iter()).all(|(dim, &size)| dim.accepts(size))
    }

    /// Whether dimension 0 is there and dynamic: the mark of a tensor that may be batched.
    pub fn has_dynamic_rows(&self) -> bool {
        matches!(self.shape.as_deref(), Some([Dim::Dynamic(_), ..]))
    }

    /// The shape as the wire says it: -1 for dynamic dimensions, `[-1]` for an unknown rank.
    pub fn wire_shape(&self) -> Vec<i64> {
        self.shape.as_ref().map_or_else(|| vec![-1], |dims| dims.iter().map(Dim::to_wire).collect())
    }
}

/// The shape for people: `[-1,4]`.
impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.datatype)?;
        let Some(dims) = &self.shape else { return f.write_str("[any shape]") };
        f.write_str("[")?;
        for (i, dim) in dims.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { "," }, dim.to_wire())?;
        }
        f.write_str("]")
    }
}

/// What may stand behind a request's own values in the dynamic dimensions of an input but the first, and leaves the answers as
/// they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pad {
    /// The value.
    pub element: ElementBytes,
    /// Whether only requests that bring this input can be padded. So it is with a mask, which tells padding from the rest.
    pub is_needed: bool,
}

/// All inputs and outputs, in the artifact's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// What a request gives.
    pub inputs: Vec<TensorSpec>,
    /// What a response holds.
    pub outputs: Vec<TensorSpec>,
}

impl Signature {
    /// Whether every input and output has a dynamic dimension 0, so that rows of several requests could be run together.
    /// Necessary, not sufficient: `scheduler` verifies it by running.
    pub fn may_batch(&self) -> bool {
        let all = |specs: &[TensorSpec]| !specs.is_empty() && specs.iter().all(TensorSpec::has_dynamic_rows);
        all(&self.inputs) && all(&self.outputs)
    }

    /// The position and spec of the input called `name`.
    pub fn input(&self, name: &str) -> Option<(usize, &TensorSpec)> {
        self.inputs.iter().enumerate().find(|(_, spec)| &*spec.name == name)
    }

    /// The position and spec of the output called `name`.
    pub fn output(&self, name: &str) -> Option<(usize, &TensorSpec)> {
        self.outputs.iter().enumerate().find(|(_, spec)| &*spec.name == name)
    }
}
