//! The V2 protocol's requests and answers as tensors, out of both of its forms and into either: what a graph hands from a step of one
//! kind to one of the other, looks into for a condition, and what a router compares.
//!
//! Knows no signature: which tensors a model wants is its server's to say. Contents that come as bytes are slices of the message.

pub mod agreement;
pub mod elements;
pub mod frame;
pub mod json;
pub mod proto;
pub mod wire;

use std::collections::BTreeMap;

use bytes::Bytes;
pub use tensorgate_contract::datatype::DataType;

/// Tensors of one message: the server's own bound.
pub const TENSORS_MAX: usize = 1024;
/// Parameters of one message or tensor: the server's own bound.
pub const PARAMETERS_MAX: usize = 256;
/// Bytes of elements that come as numbers of a varying length, which are shorter than the elements: as large as a body.
pub const BYTES_MAX: usize = 64 << 20;
/// Dimensions: as many as NumPy has.
pub const DIMENSIONS_MAX: usize = 64;

/// What stands beside a tensor or a message.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "they are the protocol's kinds")]
pub enum Parameter {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
}

/// Parameters by name.
pub type Parameters = BTreeMap<String, Parameter>;

/// A tensor whose bytes are exactly what datatype and shape ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The model's name for it.
    pub name: String,
    /// Of its elements.
    pub datatype: DataType,
    /// Rows first.
    pub shape: Vec<usize>,
    /// Beside it.
    pub parameters: Parameters,
    /// Row-major and little-endian; byte strings each with their length before them, as 4 bytes.
    pub data: Bytes,
}

/// An output that a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Requested {
    /// The model's name for it.
    pub name: String,
    /// Beside it.
    pub parameters: Parameters,
}

/// Which of the two a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Of inputs.
    Request,
    /// Of outputs.
    Answer,
}

/// A request or an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Call {
    /// The model's name.
    pub model: String,
    /// Its version; empty where none is named.
    pub version: String,
    /// What ties an answer to its request; empty where there is none.
    pub id: String,
    /// Beside the tensors.
    pub parameters: Parameters,
    /// Inputs, or outputs.
    pub tensors: Vec<Tensor>,
    /// The outputs that a request asks for; none for all.
    pub requested: Vec<Requested>,
}

impl Call {
    /// An answer as the request of whoever comes next: what was put out is put in.
    pub fn into_request(self) -> Self {
        Self { parameters: Parameters::new(), requested: Vec::new(), ..self }
    }
}

impl Tensor {
    /// Checks that there are as many bytes as there should be.
    ///
    /// # Errors
    /// Naming the tensor, what it has and what it should.
    pub fn checked(self) -> Result<Self, String> {
        let wrong = |why: String| Err(format!("tensor '{}': {why}", self.name));
        if self.shape.len() > DIMENSIONS_MAX {
            return wrong(format!("{} dimensions; at most {DIMENSIONS_MAX} are possible", self.shape.len()));
        }
        let Some(count) = self.shape.iter().try_fold(1_usize, |count, own| count.checked_mul(*own)) else {
            return wrong("its shape has more elements than there can be".into());
        };
        match self.datatype.size() {
            Some(size) if count.checked_mul(size) != Some(self.data.len()) => wrong(format!(
                "{} of shape {:?} takes {} bytes, and there are {}",
                self.datatype.name(),
                self.shape,
                count.saturating_mul(size),
                self.data.len()
            )),
            None => match elements::strings(&self.data) {
                Some(found) if found == count => Ok(self),
                Some(found) => wrong(format!("shape {:?} has {count} strings, and there are {found}", self.shape)),
                None => wrong("its strings do not end where their lengths say".into()),
            },
            Some(_) => Ok(self),
        }
    }
}

/// That elements stay within their bound.
fn bounded(bytes: usize) -> Result<(), String> {
    if bytes <= BYTES_MAX {
        Ok(())
    } else {
        Err(format!("its elements take more than {BYTES_MAX} bytes, the most that is possible"))
    }
}

/// The datatype that a message names for a tensor.
fn datatype(tensor: &str, name: &str) -> Result<DataType, String> {
    name.parse().map_err(|unknown| format!("tensor '{tensor}': {unknown}"))
}

#[cfg(test)]
mod tests;
