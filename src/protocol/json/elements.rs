//! The elements of one `data`: JSON values straight into a tensor's memory, without a value or a list in between.

use std::marker::PhantomData;

use bytes::Bytes;
use half::{bf16, f16};

use super::Limits;
use super::numbers::scan;
use super::reader::Reader;
use super::values::{Flag, Place, Value};
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
pub(in crate::protocol) fn read_data(
    reader: &mut Reader<'_>,
    datatype: DataType,
    shape: &Shape,
    limits: &Limits,
) -> Result<Bytes> {
    let expected = checked_count(datatype, shape, limits)?;
    let task = Task { datatype, shape, expected, limits };
    match datatype {
        DataType::Bool => task.read::<Flag, 1>(reader),
        DataType::Uint8 => task.read::<u8, 1>(reader),
        DataType::Uint16 => task.read::<u16, 2>(reader),
        DataType::Uint32 => task.read::<u32, 4>(reader),
        DataType::Uint64 => task.read::<u64, 8>(reader),
        DataType::Int8 => task.read::<i8, 1>(reader),
        DataType::Int16 => task.read::<i16, 2>(reader),
        DataType::Int32 => task.read::<i32, 4>(reader),
        DataType::Int64 => task.read::<i64, 8>(reader),
        DataType::Fp16 => task.read::<f16, 2>(reader),
        DataType::Bf16 => task.read::<bf16, 2>(reader),
        DataType::Fp32 => task.read::<f32, 4>(reader),
        DataType::Fp64 => task.read::<f64, 8>(reader),
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
    fn read<T: Value<N>, const N: usize>(&self, reader: &mut Reader<'_>) -> Result<Bytes> {
        // Each element takes a byte of text and all but the last a comma, so no shape reserves more than the text fills.
        let room = self.expected.min((reader.text().len() - reader.at()).div_ceil(2));
        let mut sink = NumberSink::<T, N> {
            buffer: AlignedBuffer::with_capacity(room * N),
            count: 0,
            expected: self.expected,
            datatype: self.datatype,
            value: PhantomData,
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
                // A value without a list around it has no comma of its own.
                if depth > 0 {
                    sink.run(reader);
                }
                if reader.peek() == Some(b'[') {
                    continue;
                }
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
                    return Err(reader.unexpected(&format!("',' or ']' behind {} elements", sink.count())));
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

    /// Reads elements, each with the comma behind it, for as long as that is easy.
    fn run(&mut self, _: &mut Reader<'_>) {}

    /// How many came.
    fn count(&self) -> usize;
}

/// How many elements are gathered before they are appended to the buffer.
const BLOCK: usize = 32;

struct NumberSink<T, const N: usize> {
    buffer: AlignedBuffer,
    count: usize,
    expected: usize,
    datatype: DataType,
    value: PhantomData<T>,
}

impl<T: Value<N>, const N: usize> Sink for NumberSink<T, N> {
    fn element(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        let bytes = T::read(reader, Place { datatype: self.datatype, index: self.count })?;
        if self.count < self.expected {
            self.buffer.extend(&bytes);
        }
        self.count += 1;
        Ok(())
    }

    /// The hot loop: everything is in registers but the text, the block and the powers of ten. Whatever is not simple is
    /// left to `element`, errors above all.
    fn run(&mut self, reader: &mut Reader<'_>) {
        let text = reader.text();
        let mut at = reader.at();
        let mut block = [[0; N]; BLOCK];
        loop {
            let room = BLOCK.min(self.expected.saturating_sub(self.count));
            let mut filled = 0;
            for slot in &mut block[..room] {
                let Some(number) = scan(text, at) else { break };
                let behind = at + number.token.len();
                if text.get(behind) != Some(&b',') {
                    break;
                }
                let Some(bytes) = T::from_decimal(number) else { break };
                *slot = bytes;
                filled += 1;
                at = behind + 1;
                while matches!(text.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
                    at += 1;
                }
            }
            self.buffer.extend(block[..filled].as_flattened());
            self.count += filled;
            if filled < BLOCK {
                break;
            }
        }
        reader.set_at(at);
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
            return Err(Error::too_large(format!(
                "its strings take more than {} bytes, the limit for one tensor",
                self.bytes_max
            )));
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
