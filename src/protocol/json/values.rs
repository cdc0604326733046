//! What one element of each datatype looks like in JSON, and its little-endian bytes.

use half::{bf16, f16};

use super::numbers::{Decimal, Refusal};
use super::reader::{NON_FINITE, Reader, shown};
use crate::error::{Error, Result};
use crate::tensor::DataType;

/// Which element is being read, for messages.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) datatype: DataType,
    pub(super) index: usize,
}

impl Place {
    #[cold]
    pub(super) fn mismatch(self, reader: &mut Reader<'_>, expected: &str) -> Error {
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

/// A datatype's element of `N` bytes as JSON holds it.
pub(super) trait Value<const N: usize> {
    /// Reads one, as little-endian bytes.
    fn read(reader: &mut Reader<'_>, place: Place) -> Result<[u8; N]>;

    /// The bytes of the value that `number` is; `None` where it is none.
    fn from_decimal(number: Decimal<'_>) -> Option<[u8; N]>;
}

/// A BOOL element.
pub(super) struct Flag;

impl Value<1> for Flag {
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
        Self::from_decimal(number).ok_or_else(|| {
            let (index, number) = (place.index, number.shown());
            Error::invalid(format!("element {index} is {number}, expected true, false, 0 or 1 for BOOL"))
        })
    }

    #[inline(always)]
    fn from_decimal(number: Decimal<'_>) -> Option<[u8; 1]> {
        let flag = number.to_whole().ok().filter(|flag| (0..=1).contains(flag))?;
        Some([flag as u8])
    }
}

macro_rules! integers {
    ($($rust:ty),*) => {$(
        impl Value<{ size_of::<$rust>() }> for $rust {
            fn read(reader: &mut Reader<'_>, place: Place) -> Result<[u8; size_of::<$rust>()]> {
                if !starts_number(reader) {
                    return Err(place.mismatch(reader, "a whole number"));
                }
                let number = reader.number()?;
                Self::from_decimal(number)
                    .ok_or_else(|| not_an_integer(&number, place, (<$rust>::MIN.into(), <$rust>::MAX.into())))
            }

            #[inline(always)]
            fn from_decimal(number: Decimal<'_>) -> Option<[u8; size_of::<$rust>()]> {
                let value = <$rust>::try_from(number.to_whole().ok()?).ok()?;
                Some(value.to_le_bytes())
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, i8, i16, i32, i64);

#[cold]
fn not_an_integer(number: &Decimal<'_>, place: Place, (min, max): (i128, i128)) -> Error {
    let whole = number.to_whole();
    let (Place { datatype, index }, number) = (place, number.shown());
    Error::invalid(if whole == Err(Refusal::Fraction) {
        format!("element {index} is {number}, expected a whole number for {datatype}")
    } else {
        format!("element {index} is {number}, which is beyond the range of {datatype}, {min} to {max}")
    })
}

macro_rules! floats {
    ($($rust:ty, $convert:ident, $from:expr);* $(;)?) => {$(
        impl Value<{ size_of::<$rust>() }> for $rust {
            fn read(reader: &mut Reader<'_>, place: Place) -> Result<[u8; size_of::<$rust>()]> {
                // "-Infinity" starts as a number does.
                if !starts_number(reader) || reader.text().get(reader.at() + 1) == Some(&b'I') {
                    return non_finite(reader, place).map(|value| $from(value).to_le_bytes());
                }
                let number = reader.number()?;
                Self::from_decimal(number).ok_or_else(|| place.beyond(&number))
            }

            #[inline(always)]
            fn from_decimal(number: Decimal<'_>) -> Option<[u8; size_of::<$rust>()]> {
                let value = number.$convert();
                (!value.is_infinite()).then_some(value.to_le_bytes())
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
