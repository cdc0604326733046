//! The elements of one `data`: JSON values straight into a tensor's memory, without a value or a list in between.

use bytes::Bytes;
use half::{bf16, f16};

use super::Limits;
use super::numbers::{Decimal, Refusal};
use super::reader::{NON_FINITE, Reader, shown};
use crate::error::{Error, Result};
use crate::tensor::{AlignedBuffer, BytesEncoder, DataType, Shape, byte_count};

/// How many elements `shape` has, and that they are within `limits`; nothing is allocated.
///
/// # Errors
/// [`crate::error::Kind::InvalidRequest`] where the count fits no address space, [`crate::error::Kind::TooLarge`] where
/// the tensor exceeds [`Limits::tensor_bytes_max`].
pub(super) fn checked_count(datatype: DataType, shape: &Shape, limits: &Limits) -> Result<usize> {
    let bytes = byte_count(datatype, shape).map_err(|cause| Error::invalid(cause.to_string()))?;
    // byte_count has checked that the count fits.
    let elements = shape.elements().unwrap_or(usize::MAX);
    // A BYTES element takes at least its length.
    let bytes = bytes.unwrap_or(elements.saturating_mul(size_of::<u32>()));
    if bytes > limits.tensor_bytes_max {
        return Err(Error::too_large(format!(
            "{datatype}{shape} takes {bytes} bytes, the limit for one tensor is {}",
            limits.tensor_bytes_max
        )));
    }
    Ok(elements)
}

/// Reads the `data` of a tensor, nested or flat, into its bytes.
///
/// Lists may nest in any way that gives `shape`'s count in row-major order: clients send flat lists, lists nested as the
/// shape is, and lists nested without the batch dimension.
///
/// # Errors
/// Those of [`checked_count`]; [`crate::error::Kind::InvalidRequest`] where the elements are more or fewer than the shape's
/// or one of them is no value of the datatype.
pub(super) fn read_data(reader: &mut Reader<'_>, datatype: DataType, shape: &Shape, limits: &Limits) -> Result<Bytes> {
    let expected = checked_count(datatype, shape, limits)?;
    let task = Task { datatype, shape, expected, limits };
    match datatype {
        DataType::Bool => task.read::<Flag>(reader),
        DataType::Uint8 => task.read::<u8>(reader),
        DataType::Uint16 => task.read::<u16>(reader),
        DataType::Uint32 => task.read::<u32>(reader),
        DataType::Uint64 => task.read::<u64>(reader),
        DataType::Int8 => task.read::<i8>(reader),
        DataType::Int16 => task.read::<i16>(reader),
        DataType::Int32 => task.read::<i32>(reader),
        DataType::Int64 => task.read::<i64>(reader),
        DataType::Fp16 => task.read::<f16>(reader),
        DataType::Bf16 => task.read::<bf16>(reader),
        DataType::Fp32 => task.read::<f32>(reader),
        DataType::Fp64 => task.read::<f64>(reader),
        DataType::Bytes => task.read_strings(reader),
    }
}

/// What is to be read.
struct Task<'a> {
    datatype: DataType,
    shape: &'a Shape,
    expected: usize,
    limits: &'a Limits,
}

impl Task<'_> {
    fn read<T: Value>(&self, reader: &mut Reader<'_>) -> Result<Bytes> {
        // Each element takes a byte of text and all but the last a comma, so no shape reserves more than the text fills.
        let room = self.expected.min((reader.text().len() - reader.at()).div_ceil(2));
        let mut sink = NumberSink::<T> {
            buffer: AlignedBuffer::with_capacity(room * size_of::<T>()),
            count: 0,
            expected: self.expected,
            datatype: self.datatype,
            value: std::marker::PhantomData,
        };
        self.walk(reader, &mut sink)?;
        self.check_count(sink.count)?;
        Ok(sink.buffer.freeze())
    }

    fn read_strings(&self, reader: &mut Reader<'_>) -> Result<Bytes> {
        // An element takes at least two quotes and a comma. Longer ones make the encoder grow.
        let rest = reader.text().len() - reader.at();
        let room = self.expected.min(rest.div_ceil(3));
        let mut sink = StringSink {
            encoder: BytesEncoder::with_capacity(room, rest.min(room.saturating_mul(16))),
            bytes: 0,
            bytes_max: self.limits.tensor_bytes_max,
            count: 0,
            expected: self.expected,
        };
        self.walk(reader, &mut sink)?;
        self.check_count(sink.count)?;
        Ok(sink.encoder.finish())
    }

    fn check_count(&self, given: usize) -> Result<()> {
        if given == self.expected {
            return Ok(());
        }
        let (expected, shape) = (self.expected, self.shape);
        Err(Error::invalid(format!("expected {expected} elements for shape {shape}, got {given}")))
    }

    /// Hands each element to `sink`, whatever the nesting.
    fn walk<S: Sink>(&self, reader: &mut Reader<'_>, sink: &mut S) -> Result<()> {
        let mut depth = 0_usize;
        loop {
            // Before a value or an opening bracket.
            if reader.take(b'[') {
                if depth >= self.limits.depth_max {
                    return Err(reader.too_deep(self.limits.depth_max));
                }
                depth += 1;
                if !reader.take(b']') {
                    continue;
                }
                depth -= 1;
            } else {
                sink.element(reader)?;
            }
            // Behind a value or a closing bracket.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                if reader.take(b',') {
                    break;
                }
                if !reader.take(b']') {
                    return Err(reader.unexpected(&format!("',' or ']' behind element {}", sink.count() - 1)));
                }
                depth -= 1;
            }
        }
    }
}

/// Where elements go.
trait Sink {
    /// Reads one element. Those beyond the expected count are checked and counted, not kept.
    fn element(&mut self, reader: &mut Reader<'_>) -> Result<()>;

    /// How many came.
    fn count(&self) -> usize;
}

struct NumberSink<T> {
    buffer: AlignedBuffer,
    count: usize,
    expected: usize,
    datatype: DataType,
    value: std::marker::PhantomData<T>,
}

impl<T: Value> Sink for NumberSink<T> {
    #[inline(always)]
    fn element(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        let bytes = T::read(reader, Place { datatype: self.datatype, index: self.count })?;
        if self.count < self.expected {
            self.buffer.extend(bytes.as_ref());
        }
        self.count += 1;
        Ok(())
    }

    fn count(&self) -> usize {
        self.count
    }
}

struct StringSink {
    encoder: BytesEncoder,
    bytes: usize,
    bytes_max: usize,
    count: usize,
    expected: usize,
}

impl Sink for StringSink {
    fn element(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        if reader.peek() != Some(b'"') {
            let place = Place { datatype: DataType::Bytes, index: self.count };
            return Err(place.mismatch(reader, "a string"));
        }
        let element = reader.string()?;
        self.bytes += size_of::<u32>() + element.len();
        if self.bytes > self.bytes_max || u32::try_from(element.len()).is_err() {
            return Err(Error::too_large(format!("its strings take more than {} bytes, the limit for one tensor", self.bytes_max)));
        }
        if self.count < self.expected {
            self.encoder.push(element.as_bytes());
        }
        self.count += 1;
        Ok(())
    }

    fn count(&self) -> usize {
        self.count
    }
}

/// Which element is being read, for messages.
#[derive(Clone, Copy)]
struct Place {
    datatype: DataType,
    index: usize,
}

impl Place {
    #[cold]
    fn mismatch(self, reader: &mut Reader<'_>, expected: &str) -> Error {
        let given = reader.describe();
        let Place { datatype, index } = self;
        reader.syntax(format_args!("element {index} is {given}, expected {expected} for {datatype},"))
    }

    #[cold]
    fn beyond(self, number: &Decimal<'_>) -> Error {
        let Place { datatype, index } = self;
        Error::invalid(format!("element {index} is {}, which is beyond the range of {datatype}", number.shown()))
    }
}

/// A datatype's element as JSON holds it.
trait Value {
    type Le: AsRef<[u8]>;

    /// Reads one, as little-endian bytes.
    fn read(reader: &mut Reader<'_>, place: Place) -> Result<Self::Le>;
}

/// A BOOL element.
#[repr(transparent)]
struct Flag(#[allow(dead_code)] u8);

impl Value for Flag {
    type Le = [u8; 1];

    fn read(reader: &mut Reader<'_>, place: Place) -> Result<[u8; 1]> {
        if reader.take_word(b"true") {
            return Ok([1]);
        }
        if reader.take_word(b"false") {
            return Ok([0]);
        }
        if !starts_number(reader) {
            return Err(place.mismatch(reader, "true or false"));
        }
        let number = reader.number()?;
        match number.to_whole() {
            Ok(flag @ 0..=1) => Ok([flag as u8]),
            _ => Err(Error::invalid(format!(
                "element {} is {}, expected true, false, 0 or 1 for BOOL",
                place.index,
                number.shown()
            ))),
        }
    }
}

macro_rules! integers {
    ($($rust:ty),*) => {$(
        impl Value for $rust {
            type Le = [u8; size_of::<$rust>()];

            #[inline(always)]
            fn read(reader: &mut Reader<'_>, place: Place) -> Result<Self::Le> {
                if !starts_number(reader) {
                    return Err(place.mismatch(reader, "a whole number"));
                }
                let number = reader.number()?;
                match number.to_whole().map(<$rust>::try_from) {
                    Ok(Ok(value)) => Ok(value.to_le_bytes()),
                    refused => Err(not_an_integer(refused == Err(Refusal::Fraction), &number, place,
                        (<$rust>::MIN.into(), <$rust>::MAX.into()))),
                }
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, i8, i16, i32, i64);

#[cold]
fn not_an_integer(fraction: bool, number: &Decimal<'_>, place: Place, (min, max): (i128, i128)) -> Error {
    let (Place { datatype, index }, number) = (place, number.shown());
    Error::invalid(if fraction {
        format!("element {index} is {number}, expected a whole number for {datatype}")
    } else {
        format!("element {index} is {number}, which is beyond the range of {datatype}, {min} to {max}")
    })
}

macro_rules! floats {
    ($($rust:ty, $convert:ident, $from:expr);* $(;)?) => {$(
        impl Value for $rust {
            type Le = [u8; size_of::<$rust>()];

            #[inline(always)]
            fn read(reader: &mut Reader<'_>, place: Place) -> Result<Self::Le> {
                // "-Infinity" starts as a number does.
                if !starts_number(reader) || reader.text().get(reader.at() + 1) == Some(&b'I') {
                    return non_finite(reader, place).map(|value| $from(value).to_le_bytes());
                }
                let number = reader.number()?;
                let value = number.$convert();
                if value.is_infinite() {
                    return Err(place.beyond(&number));
                }
                Ok(value.to_le_bytes())
            }
        }
    )*};
}

floats! {
    f16, to_f16, f16::from_f64;
    bf16, to_bf16, bf16::from_f64;
    f32, to_f32, |value: f64| value as f32;
    f64, to_f64, |value: f64| value;
}

/// Reads NaN or an infinity, bare or as a string.
#[cold]
fn non_finite(reader: &mut Reader<'_>, place: Place) -> Result<f64> {
    const EXPECTED: &str = "a number, NaN, Infinity or -Infinity";
    if let Some(value) = reader.take_non_finite() {
        return Ok(value);
    }
    if reader.peek() != Some(b'"') {
        return Err(place.mismatch(reader, EXPECTED));
    }
    let word = reader.string()?;
    let known = NON_FINITE.into_iter().find(|(known, _)| *known == word.as_bytes());
    known.map(|(_, value)| value).ok_or_else(|| {
        let Place { datatype, index } = place;
        Error::invalid(format!("element {index} is the string '{}', expected {EXPECTED} for {datatype}", shown(&word)))
    })
}

#[inline(always)]
fn starts_number(reader: &mut Reader<'_>) -> bool {
    matches!(reader.peek(), Some(b'0'..=b'9' | b'-'))
}
