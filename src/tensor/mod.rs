//! Tensors: a datatype, a shape and bytes, checked against each other once, in the constructor.
//!
//! The bytes are row-major and little-endian, exactly as the binary tensor extension sends them, so a tensor is most often
//! a slice of the request's body. BYTES elements are each a 32-bit little-endian length and that many bytes. This room
//! knows no wire format beyond that, no model and no runtime.

mod buffer;
mod bytes_codec;
mod datatype;
mod element;
mod rows;
mod shape;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;

pub use buffer::{AlignedBuffer, TENSOR_ALIGNMENT};
pub use bytes_codec::{BytesElements, BytesEncoder};
pub use datatype::{DataType, Element, UnknownDataType};
pub use element::{ElementBytes, Scalar};
pub use rows::{concat_rows, concat_rows_padded, leading_part, split_rows};
pub use shape::Shape;

/// Values of one datatype in a shape. Cloning shares the bytes.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    datatype: DataType,
    shape: Shape,
    data: Bytes,
}

/// Why bytes, a datatype and a shape make no tensor, or why tensors cannot be joined or viewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TensorError {
    /// The element or byte count of the shape does not fit the address space.
    ShapeOverflow(Shape),
    /// The bytes are not as many as shape and datatype ask for.
    ByteCount {
        /// What shape and datatype ask for.
        expected: usize,
        /// What was given.
        given: usize,
    },
    /// The number of elements is not the shape's.
    ElementCount {
        /// What the shape asks for.
        expected: usize,
        /// What was given.
        given: usize,
    },
    /// A BYTES element's length reaches beyond the data, or its length field is cut off.
    TruncatedElement {
        /// The element, counted from zero.
        index: usize,
    },
    /// A BOOL element is neither 0 nor 1.
    NotBool {
        /// The element, counted from zero.
        index: usize,
        /// Its value.
        value: u8,
    },
    /// A view or join was asked for with another datatype.
    DataTypeMismatch {
        /// The tensor's.
        tensor: DataType,
        /// What was asked for.
        asked: DataType,
    },
    /// The bytes do not start at a multiple of the element's size, so no typed slice can view them.
    Unaligned,
    /// Tensors to be joined differ behind dimension 0, or rows to be split off are not those that there are.
    RowMismatch,
}

impl fmt::Display for TensorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShapeOverflow(shape) => write!(f, "shape {shape} has more elements than can be addressed"),
            Self::ByteCount { expected, given } => write!(f, "expected {expected} bytes of data, got {given}"),
            Self::ElementCount { expected, given } => write!(f, "expected {expected} elements, got {given}"),
            Self::TruncatedElement { index } => write!(f, "BYTES element {index} is cut off before its stated length"),
            Self::NotBool { index, value } => write!(f, "BOOL element {index} is {value}, expected 0 or 1"),
            Self::DataTypeMismatch { tensor, asked } => write!(f, "a {tensor} tensor is no {asked}"),
            Self::Unaligned => f.write_str("the data is not aligned to its element size"),
            Self::RowMismatch => f.write_str("the tensors' rows do not fit together"),
        }
    }
}

impl std::error::Error for TensorError {}

/// The bytes that `shape` elements of `datatype` take; `None` for BYTES, which tells its own lengths.
///
/// # Errors
/// [`TensorError::ShapeOverflow`] where the count does not fit: decide by this before any allocation.
pub fn byte_count(datatype: DataType, shape: &Shape) -> Result<Option<usize>, TensorError> {
    let overflow = || TensorError::ShapeOverflow(shape.clone());
    let elements = shape.elements().ok_or_else(overflow)?;
    let Some(size) = datatype.size() else { return Ok(None) };
    let bytes = elements.checked_mul(size).filter(|&bytes| bytes <= isize::MAX as usize).ok_or_else(overflow)?;
    Ok(Some(bytes))
}

impl Tensor {
    /// A tensor over `data`, which is shared, not copied.
    ///
    /// # Errors
    /// [`TensorError`] where the data are not exactly what `datatype` and `shape` ask for.
    pub fn new(datatype: DataType, shape: Shape, data: Bytes) -> Result<Self, TensorError> {
        match byte_count(datatype, &shape)? {
            Some(expected) if expected != data.len() => {
                return Err(TensorError::ByteCount { expected, given: data.len() });
            }
            Some(_) if datatype == DataType::Bool => {
                if let Some(index) = data.iter().position(|&value| value > 1) {
                    return Err(TensorError::NotBool { index, value: data[index] });
                }
            }
            Some(_) => {}
            None => bytes_codec::check(&data, shape.elements().unwrap_or(0))?,
        }
        Ok(Self { datatype, shape, data })
    }

    /// A tensor that copies `values`; of the datatype that is `T`'s own (`u8` makes UINT8).
    ///
    /// # Errors
    /// [`TensorError`] where the count is not the shape's.
    pub fn from_elements<T: Element>(shape: Shape, values: &[T]) -> Result<Self, TensorError> {
        let data = AlignedBuffer::copy_of(buffer::bytes_of(values)).freeze();
        Self::new(T::DATATYPE, shape, data)
    }

    /// A BYTES tensor that copies `values`.
    ///
    /// # Errors
    /// [`TensorError::ElementCount`] where the count is not the shape's.
    pub fn from_byte_strings<V: AsRef<[u8]>>(shape: Shape, values: &[V]) -> Result<Self, TensorError> {
        let mut encoder = BytesEncoder::with_capacity(values.len(), values.iter().map(|v| v.as_ref().len()).sum());
        for value in values {
            encoder.push(value.as_ref());
        }
        Self::new(DataType::Bytes, shape, encoder.finish())
    }

    /// The elements' datatype.
    pub fn datatype(&self) -> DataType {
        self.datatype
    }

    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The bytes: row-major, little-endian, BYTES elements with their lengths.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.shape.elements().unwrap_or(0)
    }

    /// The size of dimension 0; `None` for a scalar.
    pub fn rows(&self) -> Option<usize> {
        self.shape.first().copied()
    }

    /// Gives up the parts.
    pub fn into_parts(self) -> (DataType, Shape, Bytes) {
        (self.datatype, self.shape, self.data)
    }

    /// The same data in another shape with as many elements.
    ///
    /// # Errors
    /// [`TensorError::ElementCount`] where the counts differ.
    pub fn reshaped(self, shape: Shape) -> Result<Self, TensorError> {
        match shape.elements() {
            Some(given) if given == self.elements() => Ok(Self { shape, ..self }),
            given => Err(TensorError::ElementCount { expected: self.elements(), given: given.unwrap_or(usize::MAX) }),
        }
    }

    /// The elements as a slice, without a copy.
    ///
    /// # Errors
    /// [`TensorError::DataTypeMismatch`] where `T` is not this datatype's type; [`TensorError::Unaligned`] where the bytes
    /// start at an odd place of a larger body: see [`Tensor::aligned`].
    pub fn view<T: Element>(&self) -> Result<&[T], TensorError> {
        if !T::views(self.datatype) {
            return Err(TensorError::DataTypeMismatch { tensor: self.datatype, asked: T::DATATYPE });
        }
        buffer::elements_of(&self.data).ok_or(TensorError::Unaligned)
    }

    /// The BYTES elements, each a slice of the data.
    ///
    /// # Errors
    /// [`TensorError::DataTypeMismatch`] for any other datatype.
    pub fn byte_strings(&self) -> Result<BytesElements<'_>, TensorError> {
        match self.datatype {
            DataType::Bytes => Ok(BytesElements::new(&self.data)),
            other => Err(TensorError::DataTypeMismatch { tensor: other, asked: DataType::Bytes }),
        }
    }

    /// Whether the bytes start at a multiple of the element's size, so that a view succeeds.
    pub fn is_aligned(&self) -> bool {
        let size = self.datatype.size().unwrap_or(1);
        self.data.is_empty() || self.data.as_ptr().addr().is_multiple_of(size)
    }

    /// This tensor with aligned bytes: itself where they are already, else a copy.
    #[must_use]
    pub fn aligned(self) -> Self {
        if self.is_aligned() { self } else { Self { data: AlignedBuffer::copy_of(&self.data).freeze(), ..self } }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}{}, {} bytes)", self.datatype, self.shape, self.data.len())
    }
}
