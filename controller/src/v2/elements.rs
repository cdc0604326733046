//! Elements of tensors between their bytes and JSON.

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tensorgate_contract::compare;

use super::{DataType, Tensor, bounded};

/// How many byte strings these are, each with its length before it; none where they do not end as they say.
pub fn strings(data: &[u8]) -> Option<usize> {
    let (mut rest, mut count) = (data, 0);
    while !rest.is_empty() {
        let (_, behind) = next_string(rest)?;
        rest = behind;
        count += 1;
    }
    Some(count)
}

/// The first byte string, and what is behind it.
fn next_string(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// Adds a byte string with its length before it.
pub fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    // Bodies are bounded far below 4 GiB.
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(text);
}

/// The bytes of elements that are written as JSON, flat or in lists within lists.
///
/// # Errors
/// With the element that the datatype cannot have.
pub fn read(datatype: DataType, text: &RawValue) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let seed = Elements { datatype, out: &mut out };
    seed.deserialize(&mut serde_json::Deserializer::from_str(text.get())).map_err(|error| error.to_string())?;
    Ok(out)
}

/// One element, or a list of such; each goes to the end of `out`.
struct Elements<'a> {
    datatype: DataType,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Elements<'_> {
    fn push(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// A whole number; those of JSON are within these.
    fn whole<E: Error>(&mut self, number: i128) -> Result<(), E> {
        let name = self.datatype.name();
        let beyond = |_| E::custom(format!("{number} is beyond what {name} holds"));
        match self.datatype {
            DataType::Bool if number == 0 || number == 1 => self.push(&[u8::from(number == 1)]),
            DataType::Uint8 => self.push(&u8::try_from(number).map_err(beyond)?.to_le_bytes()),
            DataType::Uint16 => self.push(&u16::try_from(number).map_err(beyond)?.to_le_bytes()),
            DataType::Uint32 => self.push(&u32::try_from(number).map_err(beyond)?.to_le_bytes()),
            DataType::Uint64 => self.push(&u64::try_from(number).map_err(beyond)?.to_le_bytes()),
            DataType::Int8 => self.push(&i8::try_from(number).map_err(beyond)?.to_le_bytes()),
            DataType::Int16 => self.push(&i16::try_from(number).map_err(beyond)?.to_le_bytes()),
            DataType::Int32 => self.push(&i32::try_from(number).map_err(beyond)?.to_le_bytes()),
            DataType::Int64 => self.push(&i64::try_from(number).map_err(beyond)?.to_le_bytes()),
            DataType::Fp32 => self.push(&(number as f32).to_le_bytes()),
            DataType::Fp64 => self.push(&(number as f64).to_le_bytes()),
            _ => return Err(self.unfit(&number.to_string())),
        }
        Ok(())
    }

    fn unfit<E: Error>(&self, shown: &str) -> E {
        let why = match self.datatype {
            DataType::Fp16 | DataType::Bf16 => "has no form in JSON; send it as binary data",
            _ => "cannot have such an element",
        };
        E::custom(format!("{shown}: {} {why}", self.datatype.name()))
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "elements of {}, or lists of such", self.datatype.name())
    }

    fn visit_bool<E: Error>(mut self, truth: bool) -> Result<(), E> {
        if self.datatype != DataType::Bool {
            return Err(self.unfit(&truth.to_string()));
        }
        self.push(&[u8::from(truth)]);
        Ok(())
    }

    fn visit_i64<E: Error>(mut self, number: i64) -> Result<(), E> {
        self.whole(number.into())
    }

    fn visit_u64<E: Error>(mut self, number: u64) -> Result<(), E> {
        self.whole(number.into())
    }

    fn visit_f64<E: Error>(mut self, number: f64) -> Result<(), E> {
        match self.datatype {
            DataType::Fp32 => self.push(&(number as f32).to_le_bytes()),
            DataType::Fp64 => self.push(&number.to_le_bytes()),
            // Some writers give whole numbers a point.
            _ if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 => return self.whole(number as i128),
            _ => return Err(self.unfit(&number.to_string())),
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if self.datatype != DataType::Bytes {
            return Err(self.unfit("a string"));
        }
        push_string(self.out, text.as_bytes());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Elements { datatype: self.datatype, out: &mut *self.out })?.is_some() {
            bounded(self.out.len()).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// Whether JSON has a form for a tensor's datatype and every element of it: not for half floats, infinities and bytes that are no text.
pub fn has_text(tensor: &Tensor) -> bool {
    match tensor.datatype {
        DataType::Fp16 | DataType::Bf16 => false,
        DataType::Fp32 => each::<4>(&tensor.data).all(|own| f32::from_le_bytes(own).is_finite()),
        DataType::Fp64 => each::<8>(&tensor.data).all(|own| f64::from_le_bytes(own).is_finite()),
        DataType::Bytes => texts(&tensor.data).all(|own| std::str::from_utf8(own).is_ok()),
        _ => true,
    }
}

/// Writes a tensor's elements as a flat list in JSON. What has no form there becomes the nearest that has one: half floats their
/// numbers, infinities null, bytes the text that they are for the most part.
pub fn write(tensor: &Tensor, out: &mut Vec<u8>) {
    let data = &tensor.data;
    match tensor.datatype {
        DataType::Bool => list(out, data.iter().map(|own| Some(*own != 0))),
        DataType::Uint8 => list(out, data.iter().map(|own| Some(*own))),
        DataType::Int8 => list(out, each(data).map(|own| Some(i8::from_le_bytes(own)))),
        DataType::Uint16 => list(out, each(data).map(|own| Some(u16::from_le_bytes(own)))),
        DataType::Int16 => list(out, each(data).map(|own| Some(i16::from_le_bytes(own)))),
        DataType::Uint32 => list(out, each(data).map(|own| Some(u32::from_le_bytes(own)))),
        DataType::Int32 => list(out, each(data).map(|own| Some(i32::from_le_bytes(own)))),
        DataType::Uint64 => list(out, each(data).map(|own| Some(u64::from_le_bytes(own)))),
        DataType::Int64 => list(out, each(data).map(|own| Some(i64::from_le_bytes(own)))),
        DataType::Fp16 => list(out, each(data).map(|own| finite(compare::half(u16::from_le_bytes(own))))),
        DataType::Bf16 => list(out, each(data).map(|own| finite(compare::brain(u16::from_le_bytes(own))))),
        DataType::Fp32 => list(out, each(data).map(f32::from_le_bytes).map(|own| own.is_finite().then_some(own))),
        DataType::Fp64 => list(out, each(data).map(|own| finite(f64::from_le_bytes(own)))),
        DataType::Bytes => list(out, texts(data).map(|own| Some(String::from_utf8_lossy(own)))),
    }
}

fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

fn each<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.as_chunks::<N>().0.iter().copied()
}

/// The byte strings of data that was checked.
pub fn texts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (text, behind) = next_string(rest)?;
        rest = behind;
        Some(text)
    })
}

fn list<T: serde::Serialize>(out: &mut Vec<u8>, elements: impl Iterator<Item = T>) {
    out.push(b'[');
    for (index, element) in elements.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        // Numbers and strings can always be written to memory.
        let _written = serde_json::to_writer(&mut *out, &element);
    }
    out.push(b']');
}
