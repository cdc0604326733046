//! Nested lists into tensors, their shape found out from how they nest.

use bytes::Bytes;

use super::encoded;
use crate::error::{Error, Result};
use crate::infer::NamedTensor;
use crate::model::TensorSpec;
use crate::protocol::json::{Limits, Reader, read_data};
use crate::tensor::{DataType, Shape, Tensor};

/// The input of `spec` with the values that stand in `text`.
///
/// # Errors
/// `InvalidRequest` for lists of different lengths beside each other and for values that are none of the datatype.
pub(super) fn read(spec: &TensorSpec, text: &str, limits: &Limits) -> Result<NamedTensor> {
    let read = || {
        if spec.datatype == DataType::Bytes && encoded::possible(text) {
            let (sizes, elements) = encoded::read(text, limits)?;
            let tensor = Tensor::new(spec.datatype, fitted(sizes, spec), elements.finish());
            return tensor.map_err(|cause| Error::invalid(cause.to_string()));
        }
        let mut nesting = Nesting::default();
        nesting.measure(&mut Reader::new(text.as_bytes(), 0), 0, limits)?;
        let shape = fitted(nesting.sizes, spec);
        let data: Bytes = read_data(&mut Reader::new(text.as_bytes(), 0), spec.datatype, &shape, limits)?;
        Tensor::new(spec.datatype, shape, data).map_err(|cause| Error::invalid(cause.to_string()))
    };
    let tensor = read().map_err(|error| error.within(format_args!("input '{}'", spec.name)))?;
    Ok(NamedTensor::new(&*spec.name, tensor))
}

/// Clients write a column of single values flat, or each value in a list of its own, whichever the model has.
fn fitted(mut sizes: Vec<usize>, spec: &TensorSpec) -> Shape {
    if let Some(dims) = &spec.shape {
        if sizes.len() + 1 == dims.len() && dims.last().is_some_and(|last| last.accepts(1)) {
            sizes.push(1);
        } else if sizes.len() == dims.len() + 1 && sizes.last() == Some(&1) {
            sizes.pop();
        }
    }
    Shape::new(sizes)
}

/// How lists nest.
#[derive(Default)]
struct Nesting {
    /// The length of every list of each depth, once one has ended.
    sizes: Vec<usize>,
    /// How deep the values are.
    values: Option<usize>,
}

impl Nesting {
    fn measure(&mut self, reader: &mut Reader<'_>, depth: usize, limits: &Limits) -> Result<()> {
        if reader.peek() == Some(b'{') {
            return Err(Error::invalid("an object stands where a value or a list of values is expected"));
        }
        if !reader.take(b'[') {
            reader.skip_value(limits.depth_max)?;
            return if *self.values.get_or_insert(depth) == depth { Ok(()) } else { Err(ragged()) };
        }
        if depth >= limits.rank_max.min(limits.depth_max) {
            return Err(reader.too_deep(limits.rank_max.min(limits.depth_max)));
        }
        let (mut first, mut size) = (true, 0);
        while reader.next_item(b']', &mut first)? {
            self.measure(reader, depth + 1, limits)?;
            size += 1;
        }
        // Inner lists end first; what an outer one is will be known when it ends.
        if self.sizes.len() <= depth {
            self.sizes.resize(depth + 1, usize::MAX);
        }
        let known = &mut self.sizes[depth];
        if *known != usize::MAX && *known != size {
            return Err(ragged());
        }
        *known = size;
        Ok(())
    }
}

pub(super) fn ragged() -> Error {
    Error::invalid("lists of one depth have different lengths, which is no tensor")
}
