//! The answer.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::{Parameters, Place};
use crate::model::{ModelName, Version};
use crate::tensor::Tensor;

/// What a model answered. Output names are shared with the model's signature: an answer allocates none.
#[derive(Clone, Debug)]
pub struct InferResponse {
    /// The model that answered.
    pub model: ModelName,
    /// The version that answered.
    pub version: Version,
    /// The request's id.
    pub id: Option<String>,
    /// Parameters of the answer.
    pub parameters: Parameters,
    /// The outputs, in the order asked for, else the model's.
    pub outputs: SmallVec<[(Arc<str>, Tensor); 2]>,
    /// Which outputs lie in shared memory, one entry each; empty where none does.
    pub places: Vec<Option<Place>>,
    /// Where the time went.
    pub timing: Timing,
}

impl InferResponse {
    /// Where in shared memory the output at `position` lies, if not in the answer.
    pub fn place(&self, position: usize) -> Option<&Place> {
        self.places.get(position)?.as_ref()
    }
}

/// Where the time of a request went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// From submission until its batch was dispatched.
    pub queue: Duration,
    /// Execution of the whole batch that it was part of.
    pub execute: Duration,
    /// Rows of that batch.
    pub batch_rows: usize,
    /// The share of its work that was padding, from 0 to below 1.
    pub padding: f64,
    /// Whether the answer was kept from an earlier request.
    pub cache: CacheNote,
}

/// What the response cache had to do with an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheNote {
    /// Nothing: the model keeps no answers.
    #[default]
    None,
    /// It was not there.
    Miss,
    /// It was there, or another request like this one was under way.
    Hit,
}
