//! V2 requests and responses as JSON with binary tensors behind it: bytes to [`InferRequest`], [`InferResponse`] to bytes.
//!
//! The request is read in one pass by hand: numbers go from their digits straight into the tensor's little-endian memory,
//! binary inputs become slices of the body, and no tree of values is built. Nothing is allocated that the text cannot fill,
//! whatever a shape claims. The rules are those of the Open Inference Protocol's REST API and of the binary tensor data
//! extension .
//!
//! This room knows neither HTTP nor models: the door reads and writes `Inference-Header-Content-Length`, fills in the model
//! and version from the path, and turns the parameters that it acts on into deadlines. Other JSON answers (metadata,
//! statistics) are not written here.
//!
//! # What is accepted beyond the letter of the protocol
//! - `NaN`, `Infinity` and `-Infinity` for float datatypes, bare (as Python's `json.dumps` writes them) and as strings.
//!   They are written as strings: a strict JSON parser reads those, and `numpy.array(["NaN", 1.0], dtype="float32")` too.
//! - FP16 and BF16 as JSON numbers, both ways.
//! - `1.0` and `1e2` for integer datatypes, 0 and 1 for BOOL, a bare value in place of a list of one.
//! - `null` for `id`, `parameters` and `outputs`, as if absent; unknown keys, such as KServe's `model_name`, are skipped.
//!
//! A key that matters and is given twice is refused, because readers differ in which one they take.
//!
//! [`InferRequest`]: crate::infer::InferRequest
//! [`InferResponse`]: crate::infer::InferResponse

mod elements;
mod load;
mod numbers;
mod parameters;
mod reader;
mod request;
mod response;
#[cfg(test)]
mod tests;
pub mod traffic;
mod values;
pub mod writer;

pub(super) use elements::read_data;
pub use load::decode_load;
pub(super) use reader::Reader;
pub use request::decode_request;
pub(super) use response::elements as write_elements;
pub use response::{EncodedResponse, encode_error, encode_response};

use crate::error::{Error, Result};

/// How the caller wants outputs encoded: the parameters of the binary tensor data extension, which are not passed inward.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputEncoding {
    /// The request's `binary_data_output`: what holds for outputs that say nothing themselves.
    pub binary_default: bool,
    /// The outputs that carry a `binary_data` of their own, which overrides the default.
    pub per_output: Vec<(String, bool)>,
}

impl OutputEncoding {
    /// Whether the output called `name` goes behind the JSON as raw bytes.
    pub fn is_binary(&self, name: &str) -> bool {
        let own = self.per_output.iter().find(|(output, _)| output == name);
        own.map_or(self.binary_default, |&(_, binary)| binary)
    }
}

/// Bounds on what one request may hold. What exceeds one is [`crate::error::Kind::TooLarge`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How deep the lists of one `data`, or the lists and objects of one skipped value, may nest.
    pub depth_max: usize,
    /// Dimensions of one tensor.
    pub rank_max: usize,
    /// Bytes of one decoded tensor; checked from shape and datatype before anything is allocated.
    pub tensor_bytes_max: usize,
    /// Inputs of one request.
    pub tensors_max: usize,
    /// Outputs that one request asks for.
    pub outputs_max: usize,
    /// Parameters of one request, input or output.
    pub parameters_max: usize,
    /// Bytes of one name, id, datatype or parameter value.
    pub string_bytes_max: usize,
}

/// The checks name the flags that set these bounds.
impl Limits {
    pub(super) fn check_inputs(&self, count: usize) -> Result<()> {
        check_count("inputs", count, self.tensors_max, "--tensors-max")
    }

    pub(super) fn check_outputs(&self, count: usize) -> Result<()> {
        check_count("outputs", count, self.outputs_max, "--outputs-max")
    }

    pub(in crate::protocol) fn check_parameters(&self, count: usize) -> Result<()> {
        check_count("parameters", count, self.parameters_max, "--parameters-max")
    }

    /// Refuses text beyond [`Limits::string_bytes_max`]; `what` it is.
    pub(in crate::protocol) fn check_string(&self, what: &str, text: &str) -> Result<()> {
        if text.len() <= self.string_bytes_max {
            return Ok(());
        }
        let (bytes, bytes_max) = (text.len(), self.string_bytes_max);
        Err(Error::too_large(format!("{what} is {bytes} bytes long, the limit is {bytes_max} (--string-max)")))
    }
}

fn check_count(what: &str, count: usize, count_max: usize, flag: &str) -> Result<()> {
    if count <= count_max { Ok(()) } else { Err(Error::too_large(format!("more than {count_max} {what} ({flag})"))) }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Twice the rank that is allowed: clients nest data as deep as its shape is long, and some wrap it once more.
            depth_max: 64,
            // numpy's own bound for most of its life; no ONNX operator comes near.
            rank_max: 32,
            // JSON grows at most fourfold when decoded ("0," is an FP64), so this lets any body of 256 MiB through, yet
            // stops a shape that no replica could hold.
            tensor_bytes_max: 1 << 30,
            // Models exported from tables have one input per column; hundreds happen.
            tensors_max: 1024,
            outputs_max: 1024,
            // The protocols know about ten; the rest are the caller's own.
            parameters_max: 256,
            // Room for a serialised document in a custom parameter; names are far shorter.
            string_bytes_max: 16 << 10,
        }
    }
}
