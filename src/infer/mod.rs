//! A request for inference and its answer, as every floor above speaks of them, and the check of a request against a
//! model's signature: the only place that says "bad input". No wire format reaches this room.

mod classification;
mod parameters;
mod place;
mod request;
mod response;
pub mod texts;
mod trail;
mod validate;

pub use classification::{Labels, TopClasses, classes_wanted};
pub use parameters::{ParameterValue, Parameters};
pub use place::{Place, PlacedInput};
pub use request::{InferRequest, NamedTensor, RequestedOutput};
pub use response::{CacheNote, InferResponse, Timing};
pub use trail::{Notes, Trail};
pub use validate::{ValidRequest, validate};
