//! How far apart two answers to one request are.

use std::sync::Arc;

use half::{bf16, f16};

use crate::model::traffic::{CompareBy, CompareSettings};
use crate::tensor::{DataType, Tensor};

/// What a comparison came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Difference {
    /// An output that only one answer has.
    pub(super) names: bool,
    /// An output of two datatypes.
    pub(super) datatypes: bool,
    /// An output of two shapes.
    pub(super) shapes: bool,
    /// Outputs that cannot be subtracted, and are not the same: strings.
    pub(super) contents: bool,
    /// Elements of which at most one is a finite number, and which are not the same.
    pub(super) not_finite: u64,
    /// The largest difference of two elements that are finite numbers.
    pub(super) absolute: f64,
    /// The same, divided by the larger of the two.
    pub(super) relative: f64,
    /// Elements that are further apart than is allowed.
    pub(super) apart: u64,
    /// Rows whose largest elements were looked for.
    pub(super) rows: u64,
    /// Rows whose largest elements are at the same place.
    pub(super) same_argmax: u64,
    /// Elements further apart than is allowed, of outputs whose rows have no largest element to go by.
    apart_without_rows: u64,
}

impl Difference {
    /// Whether the two are the same answer, as `settings` have it.
    pub(super) fn agrees(&self, settings: &CompareSettings) -> bool {
        let alike = !(self.names || self.datatypes || self.shapes || self.contents);
        let values = match settings.by {
            CompareBy::Values => self.apart == 0,
            CompareBy::Argmax => self.same_argmax == self.rows && self.apart_without_rows == 0,
        };
        alike && values
    }
}

/// Reads an element from its bytes.
type Read = fn(&[u8]) -> f64;

/// An answer's outputs.
pub(super) type Outputs = [(Arc<str>, Tensor)];

/// Compares the outputs of two answers by their names.
pub(super) fn compare(one: &Outputs, other: &Outputs, settings: &CompareSettings) -> Difference {
    let mut found = Difference { names: one.len() != other.len(), ..Difference::default() };
    for (name, tensor) in one {
        match other.iter().find(|(known, _)| known == name) {
            Some((_, second)) => found.add(tensor, second, settings),
            None => found.names = true,
        }
    }
    found
}

impl Difference {
    fn add(&mut self, one: &Tensor, other: &Tensor, settings: &CompareSettings) {
        if one.datatype() != other.datatype() {
            self.datatypes = true;
            return;
        }
        if one.shape() != other.shape() {
            self.shapes = true;
            return;
        }
        let Some((size, read)) = reader(one.datatype()) else {
            self.contents |= one.data() != other.data();
            return;
        };
        // Rows of scores; a vector may be one label for each row of a batch.
        let width = one.shape().last().copied().filter(|&width| width > 1 && one.shape().len() > 1 && is_real(one));
        let before = self.apart;
        if one.data() != other.data() {
            let pairs = one.data().chunks_exact(size).zip(other.data().chunks_exact(size));
            pairs.filter(|(a, b)| a != b).for_each(|(a, b)| self.element(read(a), read(b), is_real(one), settings));
        }
        match width {
            None => self.apart_without_rows += self.apart - before,
            Some(width) => {
                let rows = |tensor: &Tensor| -> Vec<usize> {
                    tensor.data().chunks_exact(size * width).map(|row| largest(row, size, read)).collect()
                };
                let (ones, others) = (rows(one), rows(other));
                self.rows += ones.len() as u64;
                self.same_argmax += ones.iter().zip(&others).filter(|(a, b)| a == b).count() as u64;
            }
        }
    }

    /// Takes in two elements whose bytes differ.
    fn element(&mut self, a: f64, b: f64, is_real: bool, settings: &CompareSettings) {
        if a == b && is_real || a.is_nan() && b.is_nan() {
            return;
        }
        if !a.is_finite() || !b.is_finite() {
            self.not_finite += 1;
            self.apart += 1;
            return;
        }
        let (absolute, larger) = ((a - b).abs().min(f64::MAX), a.abs().max(b.abs()));
        let relative = if larger > 0.0 { absolute / larger } else { 0.0 };
        self.absolute = self.absolute.max(absolute);
        self.relative = self.relative.max(relative);
        // Whole numbers and truth values are the same, or they are not.
        let close = is_real && absolute <= settings.absolute + settings.relative * larger;
        self.apart += u64::from(!close);
    }
}

fn is_real(tensor: &Tensor) -> bool {
    matches!(tensor.datatype(), DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64)
}

/// The place of the largest element of a row; the first of equals, and what is no number is below all.
fn largest(row: &[u8], size: usize, read: Read) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (at, element) in row.chunks_exact(size).map(read).enumerate() {
        if element > best.1 {
            best = (at, element);
        }
    }
    best.0
}

/// The bytes of an element, and what reads it; whole numbers beyond 2^53 lose digits. `None` for strings.
fn reader(datatype: DataType) -> Option<(usize, Read)> {
    /// `bytes` are as many as the element has.
    fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().unwrap_or([0; N])
    }
    Some(match datatype {
        DataType::Bool | DataType::Uint8 => (1, |bytes| f64::from(u8::from_le_bytes(fixed(bytes)))),
        DataType::Int8 => (1, |bytes| f64::from(i8::from_le_bytes(fixed(bytes)))),
        DataType::Uint16 => (2, |bytes| f64::from(u16::from_le_bytes(fixed(bytes)))),
        DataType::Int16 => (2, |bytes| f64::from(i16::from_le_bytes(fixed(bytes)))),
        DataType::Uint32 => (4, |bytes| f64::from(u32::from_le_bytes(fixed(bytes)))),
        DataType::Int32 => (4, |bytes| f64::from(i32::from_le_bytes(fixed(bytes)))),
        DataType::Uint64 => (8, |bytes| u64::from_le_bytes(fixed(bytes)) as f64),
        DataType::Int64 => (8, |bytes| i64::from_le_bytes(fixed(bytes)) as f64),
        DataType::Fp16 => (2, |bytes| f16::from_le_bytes(fixed(bytes)).to_f64()),
        DataType::Bf16 => (2, |bytes| bf16::from_le_bytes(fixed(bytes)).to_f64()),
        DataType::Fp32 => (4, |bytes| f64::from(f32::from_le_bytes(fixed(bytes)))),
        DataType::Fp64 => (8, |bytes| f64::from_le_bytes(fixed(bytes))),
        DataType::Bytes => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::Element;

    fn outputs<T: Element>(shape: &[usize], values: &[T]) -> Vec<(Arc<str>, Tensor)> {
        vec![("y".into(), Tensor::from_elements(shape.iter().copied().collect(), values).unwrap())]
    }

    fn by(by: CompareBy) -> CompareSettings {
        CompareSettings { by, ..CompareSettings::default() }
    }

    const VALUES: CompareBy = CompareBy::Values;

    #[test]
    fn rounding_agrees_and_a_difference_does_not() {
        let one = outputs(&[1, 3], &[0.1_f32, 0.7, 0.2]);
        let near = compare(&one, &outputs(&[1, 3], &[0.100_01_f32, 0.7, 0.2]), &by(VALUES));
        assert!(near.agrees(&by(VALUES)) && near.absolute > 0.0 && near.relative < 1e-3, "{near:?}");
        let other = compare(&one, &outputs(&[1, 3], &[0.2_f32, 0.6, 0.2]), &by(VALUES));
        assert!(!other.agrees(&by(VALUES)) && other.agrees(&by(CompareBy::Argmax)), "{other:?}");
        assert!((other.absolute - 0.1).abs() < 1e-6 && (other.relative - 0.5).abs() < 1e-6, "{other:?}");
        let swapped = compare(&one, &outputs(&[1, 3], &[0.7_f32, 0.1, 0.2]), &by(VALUES));
        assert_eq!((swapped.rows, swapped.same_argmax), (1, 0));
        assert!(!swapped.agrees(&by(CompareBy::Argmax)));
    }

    #[test]
    fn what_is_no_number_agrees_with_itself_alone() {
        let odd = [f32::NAN, f32::INFINITY, -0.0];
        let one = outputs(&[3], &odd);
        assert!(compare(&one, &outputs(&[3], &[-f32::NAN, f32::INFINITY, 0.0]), &by(VALUES)).agrees(&by(VALUES)));
        let other = compare(&one, &outputs(&[3], &[1.0_f32, f32::INFINITY, 0.0]), &by(VALUES));
        assert!(!other.agrees(&by(VALUES)) && other.not_finite == 1);
    }

    #[test]
    fn whole_numbers_and_strings_are_the_same_or_not() {
        let one = outputs(&[2], &[1_000_000_i64, i64::MAX]);
        assert!(!compare(&one, &outputs(&[2], &[1_000_001_i64, i64::MAX]), &by(VALUES)).agrees(&by(VALUES)));
        // Beyond the digits of an f64.
        assert!(!compare(&one, &outputs(&[2], &[1_000_000_i64, i64::MAX - 1]), &by(VALUES)).agrees(&by(VALUES)));
        let text = |text: &str| vec![("y".into(), Tensor::from_byte_strings([1].into(), &[text]).unwrap())];
        assert!(compare(&text("a"), &text("a"), &by(VALUES)).agrees(&by(VALUES)));
        assert!(compare(&text("a"), &text("b"), &by(VALUES)).contents);
        // A label is nothing to take the largest of.
        let labels = compare(&outputs(&[2], &[1_i64, 2]), &outputs(&[2], &[1_i64, 3]), &by(CompareBy::Argmax));
        assert!(!labels.agrees(&by(CompareBy::Argmax)));
    }

    #[test]
    fn other_names_datatypes_and_shapes_are_told_apart() {
        let one = outputs(&[1, 2], &[1_f32, 2.0]);
        assert!(compare(&one, &outputs(&[2, 1], &[1_f32, 2.0]), &by(VALUES)).shapes);
        assert!(compare(&one, &outputs(&[1, 2], &[1_f64, 2.0]), &by(VALUES)).datatypes);
        assert!(compare(&one, &[], &by(VALUES)).names);
        let renamed: Vec<_> = one.iter().map(|(_, tensor)| (Arc::from("z"), tensor.clone())).collect();
        assert!(!compare(&one, &renamed, &by(VALUES)).agrees(&by(VALUES)));
    }

    proptest! {
        #[test]
        fn the_order_of_the_two_does_not_matter_and_anything_agrees_with_itself(
            ones in prop::collection::vec(any::<f32>(), 6),
            others in prop::collection::vec(any::<f32>(), 6),
        ) {
            let (one, other) = (outputs(&[2, 3], &ones), outputs(&[2, 3], &others));
            let [there, back] = [compare(&one, &other, &by(VALUES)), compare(&other, &one, &by(VALUES))];
            prop_assert_eq!(there, back);
            let own = compare(&one, &one, &by(VALUES));
            prop_assert!(own.agrees(&by(VALUES)) && own.agrees(&by(CompareBy::Argmax)) && own.absolute == 0.0);
        }
    }
}
