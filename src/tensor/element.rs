//! One element: as a person writes it, and as its bytes.

use half::{bf16, f16};

use super::DataType;

/// A number or a truth value, of no datatype yet.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Scalar {
    Bool(bool),
    Whole(i64),
    Real(f64),
}

/// The same value, told by its bits: what is no number equals itself.
impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Scalar::Bool(one), Scalar::Bool(other)) => one == other,
            (Scalar::Whole(one), Scalar::Whole(other)) => one == other,
            (Scalar::Real(one), Scalar::Real(other)) => one.to_bits() == other.to_bits(),
            _ => false,
        }
    }
}

impl Eq for Scalar {}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Scalar::Bool(value) => value.fmt(f),
            Scalar::Whole(value) => value.fmt(f),
            Scalar::Real(value) => value.fmt(f),
        }
    }
}

impl Scalar {
    /// The element of `datatype` that has this value, of floating-point numbers the nearest one; `None` where there is none:
    /// a fraction is no whole number, 300 no UINT8, a number no BYTES, and 0 and 1 are the only numbers that are BOOL.
    pub fn element(self, datatype: DataType) -> Option<ElementBytes> {
        match self {
            Scalar::Bool(value) => (datatype == DataType::Bool).then(|| ElementBytes::new(&[u8::from(value)])),
            Scalar::Whole(value) => whole(value, datatype),
            Scalar::Real(value) => real(value, datatype),
        }
    }
}

fn whole(value: i64, datatype: DataType) -> Option<ElementBytes> {
    fn fitting<T: TryFrom<i64>, const N: usize>(value: i64, bytes: fn(T) -> [u8; N]) -> Option<ElementBytes> {
        T::try_from(value).ok().map(|value| ElementBytes::new(&bytes(value)))
    }
    match datatype {
        DataType::Bool => fitting(value, u8::to_le_bytes).filter(|_| (0..=1).contains(&value)),
        DataType::Uint8 => fitting(value, u8::to_le_bytes),
        DataType::Uint16 => fitting(value, u16::to_le_bytes),
        DataType::Uint32 => fitting(value, u32::to_le_bytes),
        DataType::Uint64 => fitting(value, u64::to_le_bytes),
        DataType::Int8 => fitting(value, i8::to_le_bytes),
        DataType::Int16 => fitting(value, i16::to_le_bytes),
        DataType::Int32 => fitting(value, i32::to_le_bytes),
        DataType::Int64 => fitting(value, i64::to_le_bytes),
        DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64 => real(value as f64, datatype),
        DataType::Bytes => None,
    }
}

fn real(value: f64, datatype: DataType) -> Option<ElementBytes> {
    // A finite number must not become an infinite one.
    let (kept, element) = match datatype {
        DataType::Fp16 => (f16::from_f64(value).is_finite(), ElementBytes::new(&f16::from_f64(value).to_le_bytes())),
        DataType::Bf16 => (bf16::from_f64(value).is_finite(), ElementBytes::new(&bf16::from_f64(value).to_le_bytes())),
        DataType::Fp32 => ((value as f32).is_finite(), ElementBytes::new(&(value as f32).to_le_bytes())),
        DataType::Fp64 => (true, ElementBytes::new(&value.to_le_bytes())),
        _ => return None,
    };
    (kept || !value.is_finite()).then_some(element)
}

/// The little-endian bytes of one element of fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementBytes {
    /// The element from the start, zeros behind it.
    bytes: [u8; 8],
    size: usize,
}

impl ElementBytes {
    /// `bytes` are at most eight.
    fn new(bytes: &[u8]) -> Self {
        let mut all = [0; 8];
        all[..bytes.len()].copy_from_slice(bytes);
        Self { bytes: all, size: bytes.len() }
    }

    /// The bytes: 1, 2, 4 or 8.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_an_element_of_the_datatypes_that_have_it() {
        let bytes = |value: Scalar, datatype| value.element(datatype).map(|element| element.as_slice().to_vec());
        assert_eq!(bytes(Scalar::Whole(-1), DataType::Int16), Some(vec![255, 255]));
        assert_eq!(bytes(Scalar::Whole(7), DataType::Uint64), Some(vec![7, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(bytes(Scalar::Whole(1), DataType::Fp32), Some(1_f32.to_le_bytes().to_vec()));
        assert_eq!(bytes(Scalar::Real(0.5), DataType::Fp16), Some(f16::from_f32(0.5).to_le_bytes().to_vec()));
        assert_eq!(
            bytes(Scalar::Real(f64::NEG_INFINITY), DataType::Bf16),
            Some(bf16::NEG_INFINITY.to_le_bytes().to_vec())
        );
        assert_eq!(bytes(Scalar::Bool(true), DataType::Bool), Some(vec![1]));
        assert_eq!(bytes(Scalar::Whole(1), DataType::Bool), Some(vec![1]));
    }

    #[test]
    fn a_value_that_a_datatype_lacks_is_no_element_of_it() {
        for (value, datatype) in [
            (Scalar::Whole(300), DataType::Uint8),
            (Scalar::Whole(-1), DataType::Uint64),
            (Scalar::Whole(2), DataType::Bool),
            (Scalar::Whole(0), DataType::Bytes),
            (Scalar::Real(0.5), DataType::Int64),
            (Scalar::Real(1e6), DataType::Fp16),
            (Scalar::Real(1e300), DataType::Fp32),
            (Scalar::Bool(true), DataType::Uint8),
            (Scalar::Bool(false), DataType::Fp32),
        ] {
            assert_eq!(value.element(datatype), None, "{value} as {datatype}");
        }
    }
}
