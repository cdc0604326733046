//! The check of a request against a signature.

use smallvec::{SmallVec, smallvec};

use super::{InferRequest, NamedTensor};
use crate::error::{Error, Result};
use crate::model::{Dim, Signature, TensorSpec};
use crate::tensor::{Shape, Tensor};

/// A request whose inputs fit the signature, ordered as the signature orders them.
#[derive(Clone, Debug)]
pub struct ValidRequest {
    /// One entry per input of the signature; `None` for an optional input that was left out.
    pub inputs: SmallVec<[Option<Tensor>; 2]>,
    /// Positions of the outputs wanted, in the order wanted.
    pub outputs: SmallVec<[usize; 4]>,
    /// The size of dimension 0, where every input given has the same; 1 where there is no such thing.
    pub rows: usize,
    /// Whether every input given has a dimension 0 of `rows`.
    pub rows_agree: bool,
}

/// Checks `inputs` and `outputs` of a request for the model called `model` against `signature`.
///
/// # Errors
/// [`crate::error::Kind::InvalidRequest`] that names the model, the input or output, what was given and what would be right.
pub fn validate(model: &str, signature: &Signature, request: &mut InferRequest) -> Result<ValidRequest> {
    let mut inputs: SmallVec<[Option<Tensor>; 2]> = smallvec![None; signature.inputs.len()];
    for input in request.inputs.drain(..) {
        let (position, spec) =
            signature.input(&input.name).ok_or_else(|| unknown_name(model, "input", &input.name, &signature.inputs))?;
        if inputs[position].is_some() {
            return Err(Error::invalid(format!("model '{model}': input '{}' is given twice", input.name)));
        }
        inputs[position] = Some(fit(model, spec, input)?);
    }
    for (spec, input) in signature.inputs.iter().zip(&inputs) {
        if input.is_none() && !spec.optional {
            return Err(missing_input(model, spec, signature));
        }
    }
    check_shared_dims(model, signature, &inputs)?;
    let (rows, rows_agree) = agreed_rows(&inputs);
    let outputs = wanted_outputs(model, signature, request)?;
    Ok(ValidRequest { inputs, outputs, rows, rows_agree })
}

/// The tensor of `input`, with the shape that `spec` accepts.
fn fit(model: &str, spec: &TensorSpec, input: NamedTensor) -> Result<Tensor> {
    let NamedTensor { name, tensor, .. } = input;
    if tensor.datatype() != spec.datatype {
        return Err(Error::invalid(format!(
            "model '{model}': input '{name}' has datatype {}, expected {}",
            tensor.datatype(),
            spec.datatype
        )));
    }
    if spec.accepts(tensor.shape()) {
        return Ok(tensor);
    }
    if let Some(shape) = scalar_as_rows(spec, &tensor) {
        return tensor
            .reshaped(shape)
            .map_err(|cause| Error::invalid(format!("model '{model}': input '{name}': {cause}")));
    }
    Err(Error::invalid(format!(
        "model '{model}': input '{name}' has shape {}, expected {}",
        tensor.shape(),
        Expected(spec)
    )))
}

/// KServe's own clients send one string with the shape `[]` to models that take `[-1]` or `[-1,1]`; one element is one row
/// there, whatever its rank.
fn scalar_as_rows(spec: &TensorSpec, tensor: &Tensor) -> Option<Shape> {
    let dims = spec.shape.as_ref()?;
    let one_each = tensor.shape().is_empty() && dims.iter().all(|dim| dim.accepts(1));
    one_each.then(|| dims.iter().map(|_| 1).collect())
}

/// Dimensions of one name have one size across all inputs.
fn check_shared_dims(model: &str, signature: &Signature, inputs: &[Option<Tensor>]) -> Result<()> {
    if inputs.len() < 2 {
        return Ok(());
    }
    let mut seen: SmallVec<[(&str, usize, &str); 4]> = SmallVec::new();
    for (spec, tensor) in signature.inputs.iter().zip(inputs) {
        let (Some(dims), Some(tensor)) = (&spec.shape, tensor) else { continue };
        for (dim, &size) in dims.iter().zip(tensor.shape().iter()) {
            let Dim::Dynamic(Some(name)) = dim else { continue };
            match seen.iter().find(|(known, ..)| *known == &**name) {
                Some(&(_, first, owner)) if first != size => {
                    return Err(Error::invalid(format!(
                        "model '{model}': dimension '{name}' is {first} in input '{owner}' but {size} in input '{}'",
                        spec.name
                    )));
                }
                Some(_) => {}
                None => seen.push((name, size, &spec.name)),
            }
        }
    }
    Ok(())
}

/// The size of dimension 0 that all inputs given have, and whether they do.
fn agreed_rows(inputs: &[Option<Tensor>]) -> (usize, bool) {
    let mut sizes = inputs.iter().flatten().map(Tensor::rows);
    match sizes.next() {
        Some(Some(first)) if sizes.all(|rows| rows == Some(first)) => (first, true),
        _ => (1, false),
    }
}

fn wanted_outputs(model: &str, signature: &Signature, request: &InferRequest) -> Result<SmallVec<[usize; 4]>> {
    if request.outputs.is_empty() {
        return Ok((0..signature.outputs.len()).collect());
    }
    let mut wanted = SmallVec::with_capacity(request.outputs.len());
    for output in &request.outputs {
        let (position, _) = signature
            .output(&output.name)
            .ok_or_else(|| unknown_name(model, "output", &output.name, &signature.outputs))?;
        if wanted.contains(&position) {
            return Err(Error::invalid(format!("model '{model}': output '{}' is asked for twice", output.name)));
        }
        wanted.push(position);
    }
    Ok(wanted)
}

fn missing_input(model: &str, spec: &TensorSpec, signature: &Signature) -> Error {
    let required: Vec<String> = signature.inputs.iter().filter(|s| !s.optional).map(ToString::to_string).collect();
    Error::invalid(format!("model '{model}': input '{}' is missing, expected {}", spec.name, required.join(", ")))
}

fn unknown_name(model: &str, what: &str, given: &str, specs: &[TensorSpec]) -> Error {
    let given: String = given.chars().take(100).collect();
    let names: Vec<String> = specs.iter().map(|spec| format!("'{}'", spec.name)).collect();
    Error::invalid(format!("model '{model}': unknown {what} '{given}', expected {}", names.join(", ")))
}

/// The shape of a spec alone, for messages.
struct Expected<'a>(&'a TensorSpec);

impl std::fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dims: Vec<String> = self.0.wire_shape().iter().map(ToString::to_string).collect();
        write!(f, "[{}]", dims.join(","))?;
        if self.0.wire_shape().contains(&-1) { f.write_str(" (-1: any size)") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
