//! The request.

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Parameters, Place, PlacedInput};
use crate::tensor::Tensor;

/// A request for inference, decoded and not yet checked against a model.
#[derive(Clone, Debug, Default)]
pub struct InferRequest {
    /// The model's name.
    pub model: String,
    /// The version, where the caller names one; else the router picks.
    pub version: Option<String>,
    /// The caller's id, echoed in the answer and written to logs.
    pub id: Option<String>,
    /// The id that a proxy gave the request. For logs, where the caller gave none.
    pub trace_id: Option<String>,
    /// Parameters of the request. Those that a door acts on itself (such as `binary_data_output`) are not among them.
    pub parameters: Parameters,
    /// The inputs, in the caller's order.
    pub inputs: SmallVec<[NamedTensor; 2]>,
    /// Inputs whose data lie in shared memory. They come behind `inputs` once they are read.
    pub placed: Vec<PlacedInput>,
    /// The outputs wanted, in this order; empty for all.
    pub outputs: Vec<RequestedOutput>,
    /// What keeps a caller at a version, where the model's traffic is sticky and the caller brought a key.
    pub sticky: Option<u64>,
    /// When the answer becomes useless.
    pub deadline: Option<Instant>,
}

/// A tensor with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// The input's or output's name.
    pub name: String,
    /// The values.
    pub tensor: Tensor,
    /// Parameters of this tensor.
    pub parameters: Parameters,
}

impl NamedTensor {
    /// A tensor without parameters.
    pub fn new(name: impl Into<String>, tensor: Tensor) -> Self {
        Self { name: name.into(), tensor, parameters: Parameters::new() }
    }
}

/// An output that the caller asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestedOutput {
    /// The output's name.
    pub name: String,
    /// Parameters of this output, those for the door's encoding excepted.
    pub parameters: Parameters,
    /// Where in shared memory to put it, if not into the answer.
    pub place: Option<Place>,
}
