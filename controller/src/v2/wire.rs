//! Protobuf's wire format, as much of it as V2's messages need: fields read one by one out of shared bytes, and written.
//! Source: protobuf.dev/programming-guides/encoding.

use bytes::{BufMut, Bytes, BytesMut};

/// A field's value; groups are not read, since no message of the protocol has any.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Integers, truth values.
    Varint(u64),
    /// Doubles.
    Fixed64(u64),
    /// Floats.
    Fixed32(u32),
    /// Strings, bytes, messages and packed fields: a slice of what is read.
    Bytes(Bytes),
}

/// What is no message.
pub const BROKEN: &str = "it is no message of the protocol: it ends within a field, or a field has no known form";

/// Reads fields off the front.
#[derive(Debug)]
pub struct Reader(Bytes);

impl Reader {
    /// Of a message.
    pub fn new(message: Bytes) -> Self {
        Self(message)
    }

    /// The next field's number and value; none at the end.
    ///
    /// # Errors
    /// If the bytes are no field.
    pub fn field(&mut self) -> Result<Option<(u32, Value)>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0).ok_or(BROKEN)?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| BROKEN)?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.fixed()?)),
            _ => return Err(BROKEN.into()),
        };
        Ok(Some((number, value)))
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A number of up to ten bytes of seven bits each.
    ///
    /// # Errors
    /// If it does not end, or is larger than 64 bits.
    pub fn varint(&mut self) -> Result<u64, String> {
        let mut number = 0_u64;
        for index in 0..self.0.len().min(10) {
            let byte = self.0[index];
            if index == 9 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                let _read = self.0.split_to(index + 1);
                return Ok(number);
            }
        }
        Err(BROKEN.into())
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.as_ref().try_into().map_err(|_| BROKEN.into())
    }

    fn take(&mut self, length: usize) -> Result<Bytes, String> {
        if length > self.0.len() {
            return Err(BROKEN.into());
        }
        Ok(self.0.split_to(length))
    }
}

/// A value that is text.
///
/// # Errors
/// If it is none.
pub fn text(value: Value) -> Result<String, String> {
    String::from_utf8(bytes(value)?.into()).map_err(|_| "a string in it is not UTF-8".into())
}

/// A value that is bytes, or a message.
///
/// # Errors
/// If it is none.
pub fn bytes(value: Value) -> Result<Bytes, String> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err(BROKEN.into()),
    }
}

/// Writes fields. What has the default value of its field is left out, as proto3 has it.
#[derive(Debug, Default)]
pub struct Writer(BytesMut);

impl Writer {
    /// With room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(BytesMut::with_capacity(bytes))
    }

    /// An integer or a truth value, also where it is the default: what is repeated, or one of several.
    pub fn varint(&mut self, field: u32, value: u64) {
        self.number(u64::from(field) << 3);
        self.number(value);
    }

    /// A double, always.
    pub fn double(&mut self, field: u32, value: f64) {
        self.number(u64::from(field) << 3 | 1);
        self.0.put_f64_le(value);
    }

    /// Bytes, always.
    pub fn bytes(&mut self, field: u32, value: &[u8]) {
        self.number(u64::from(field) << 3 | 2);
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// Text, unless it is empty.
    pub fn text(&mut self, field: u32, value: &str) {
        if !value.is_empty() {
            self.bytes(field, value.as_bytes());
        }
    }

    /// A message.
    pub fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// Numbers without keys of their own.
    pub fn packed(&mut self, field: u32, numbers: impl Iterator<Item = u64>) {
        let mut inner = Self::default();
        numbers.for_each(|number| inner.number(number));
        if !inner.0.is_empty() {
            self.bytes(field, &inner.0);
        }
    }

    /// What was written.
    pub fn finish(self) -> Bytes {
        self.0.freeze()
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.put_u8((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.put_u8(number as u8);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_encoding_are_read_and_written() {
        // `a: 150` and `b: "testing"` of protobuf's own description.
        let bytes = Bytes::from_static(b"\x08\x96\x01\x12\x07testing");
        let mut reader = Reader::new(bytes.clone());
        assert_eq!(reader.field(), Ok(Some((1, Value::Varint(150)))));
        assert_eq!(reader.field().map(|own| own.map(|(_, value)| text(value))), Ok(Some(Ok("testing".into()))));
        assert_eq!(reader.field(), Ok(None));
        let mut writer = Writer::default();
        writer.varint(1, 150);
        writer.text(2, "testing");
        writer.text(3, "");
        assert_eq!(writer.finish(), bytes);
        for broken in [
            &b"\x08"[..],
            b"\x00\x01",
            b"\x0b",
            b"\x12\x05ab",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x0d\x01",
        ] {
            assert_eq!(Reader::new(Bytes::copy_from_slice(broken)).field(), Err(BROKEN.into()), "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn numbers_come_back_and_no_bytes_make_reading_panic(number in any::<u64>(), noise in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut writer = Writer::default();
            writer.varint(7, number);
            prop_assert_eq!(Reader::new(writer.finish()).field(), Ok(Some((7, Value::Varint(number)))));
            let mut reader = Reader::new(noise.into());
            while let Ok(Some(_)) = reader.field() {}
        }
    }
}
