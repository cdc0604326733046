//! How far apart two answers to one request are: of versions within a server, and of revisions across pods.
//!
//! Tensors are what the V2 protocol has on the wire: a datatype's name, a shape, and row-major, little-endian elements. Knows no
//! requests and no formats.

use crate::datatype::DataType;

/// What makes two answers the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Every element, as far as the tolerances allow.
    #[default]
    Values,
    /// The place of the largest element of each row.
    Argmax,
}

/// When two answers are the same. Datatypes and shapes always have to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// What has to agree.
    pub by: By,
    /// How far apart elements may be. Default 1e-5: some hundred units in the last place of an FP32 of 1.
    pub absolute: f64,
    /// And how far for each unit of the larger. Default 1e-3: another engine, or another order of sums, differs by less; a
    /// model that was trained again differs by more.
    pub relative: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { by: By::Values, absolute: 1e-5, relative: 1e-3 }
    }
}

/// An output of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// Its name, by which it is looked for in the other answer.
    pub name: &'a str,
    /// Of its elements.
    pub datatype: DataType,
    /// Rows first.
    pub shape: &'a [usize],
    /// As many bytes as datatype and shape ask for.
    pub data: &'a [u8],
}

/// What a comparison came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Difference {
    /// An output that only one answer has.
    pub names: bool,
    /// An output of two datatypes.
    pub datatypes: bool,
    /// An output of two shapes.
    pub shapes: bool,
    /// Outputs that cannot be subtracted, and are not the same: strings.
    pub contents: bool,
    /// Elements of which at most one is a finite number, and which are not the same.
    pub not_finite: u64,
    /// The largest difference of two elements that are finite numbers.
    pub absolute: f64,
    /// The same, divided by the larger of the two.
    pub relative: f64,
    /// Elements that are further apart than is allowed.
    pub apart: u64,
    /// Rows whose largest elements were looked for.
    pub rows: u64,
    /// Rows whose largest elements are at the same place.
    pub same_argmax: u64,
    /// Elements further apart than is allowed, of outputs whose rows have no largest element to go by.
    apart_without_rows: u64,
}

impl Difference {
    /// Whether the two are the same answer, as `tolerance` has it.
    pub fn agrees(&self, tolerance: &Tolerance) -> bool {
        let alike = !(self.names || self.datatypes || self.shapes || self.contents);
        let values = match tolerance.by {
            By::Values => self.apart == 0,
            By::Argmax => self.same_argmax == self.rows && self.apart_without_rows == 0,
        };
        alike && values
    }
}

/// Reads an element from its bytes.
type Read = fn(&[u8]) -> f64;

/// Compares the outputs of two answers by their names.
pub fn compare(one: &[Output<'_>], other: &[Output<'_>], tolerance: &Tolerance) -> Difference {
    let mut found = Difference { names: one.len() != other.len(), ..Difference::default() };
    for output in one {
        match other.iter().find(|known| known.name == output.name) {
            Some(second) => found.add(output, second, tolerance),
            None => found.names = true,
        }
    }
    found
}

impl Difference {
    fn add(&mut self, one: &Output<'_>, other: &Output<'_>, tolerance: &Tolerance) {
        if one.datatype != other.datatype {
            self.datatypes = true;
            return;
        }
        if one.shape != other.shape {
            self.shapes = true;
            return;
        }
        let Some((size, read)) = reader(one.datatype) else {
            self.contents |= one.data != other.data;
            return;
        };
        // Rows of scores; a vector may be one label for each row of a batch.
        let width = one.shape.last().copied().filter(|&width| width > 1 && one.shape.len() > 1 && is_real(one));
        let before = self.apart;
        if one.data != other.data {
            let pairs = one.data.chunks_exact(size).zip(other.data.chunks_exact(size));
            pairs.filter(|(a, b)| a != b).for_each(|(a, b)| self.element(read(a), read(b), is_real(one), tolerance));
        }
        match width {
            None => self.apart_without_rows += self.apart - before,
            Some(width) => {
                let rows = |output: &Output<'_>| -> Vec<usize> {
                    output.data.chunks_exact(size.saturating_mul(width)).map(|row| largest(row, size, read)).collect()
                };
                let (ones, others) = (rows(one), rows(other));
                self.rows += ones.len() as u64;
                self.same_argmax += ones.iter().zip(&others).filter(|(a, b)| a == b).count() as u64;
            }
        }
    }

    /// Takes in two elements whose bytes differ.
    fn element(&mut self, a: f64, b: f64, is_real: bool, tolerance: &Tolerance) {
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
        let close = is_real && absolute <= tolerance.absolute + tolerance.relative * larger;
        self.apart += u64::from(!close);
    }
}

fn is_real(output: &Output<'_>) -> bool {
    matches!(output.datatype, DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64)
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
    let read: Read = match datatype {
        DataType::Bool | DataType::Uint8 => |bytes| f64::from(u8::from_le_bytes(fixed(bytes))),
        DataType::Int8 => |bytes| f64::from(i8::from_le_bytes(fixed(bytes))),
        DataType::Uint16 => |bytes| f64::from(u16::from_le_bytes(fixed(bytes))),
        DataType::Int16 => |bytes| f64::from(i16::from_le_bytes(fixed(bytes))),
        DataType::Uint32 => |bytes| f64::from(u32::from_le_bytes(fixed(bytes))),
        DataType::Int32 => |bytes| f64::from(i32::from_le_bytes(fixed(bytes))),
        DataType::Uint64 => |bytes| u64::from_le_bytes(fixed(bytes)) as f64,
        DataType::Int64 => |bytes| i64::from_le_bytes(fixed(bytes)) as f64,
        DataType::Fp16 => |bytes| half(u16::from_le_bytes(fixed(bytes))),
        DataType::Bf16 => |bytes| brain(u16::from_le_bytes(fixed(bytes))),
        DataType::Fp32 => |bytes| f64::from(f32::from_le_bytes(fixed(bytes))),
        DataType::Fp64 => |bytes| f64::from_le_bytes(fixed(bytes)),
        DataType::Bytes => return None,
    };
    Some((datatype.size()?, read))
}

/// A number of half precision (IEEE 754, binary16).
pub fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * 2_f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2_f64.powi(exponent - 15),
    };
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}

/// A bfloat16: the upper half of an FP32.
pub fn brain(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALUES: Tolerance = Tolerance { by: By::Values, absolute: 1e-5, relative: 1e-3 };
    const ARGMAX: Tolerance = Tolerance { by: By::Argmax, ..VALUES };

    struct Own {
        datatype: DataType,
        shape: Vec<usize>,
        data: Vec<u8>,
    }

    impl Own {
        fn named<'a>(&'a self, name: &'a str) -> [Output<'a>; 1] {
            [Output { name, datatype: self.datatype, shape: &self.shape, data: &self.data }]
        }
    }

    fn of<const N: usize>(datatype: DataType, shape: &[usize], values: impl IntoIterator<Item = [u8; N]>) -> Own {
        Own { datatype, shape: shape.to_vec(), data: values.into_iter().flatten().collect() }
    }

    fn reals(shape: &[usize], values: &[f32]) -> Own {
        of(DataType::Fp32, shape, values.iter().map(|own| own.to_le_bytes()))
    }

    fn wholes(values: &[i64]) -> Own {
        of(DataType::Int64, &[values.len()], values.iter().map(|own| own.to_le_bytes()))
    }

    fn held(one: &Own, other: &Own, tolerance: &Tolerance) -> Difference {
        compare(&one.named("y"), &other.named("y"), tolerance)
    }

    #[test]
    fn rounding_agrees_and_a_difference_does_not() {
        let one = reals(&[1, 3], &[0.1, 0.7, 0.2]);
        let near = held(&one, &reals(&[1, 3], &[0.100_01, 0.7, 0.2]), &VALUES);
        assert!(near.agrees(&VALUES) && near.absolute > 0.0 && near.relative < 1e-3, "{near:?}");
        let other = held(&one, &reals(&[1, 3], &[0.2, 0.6, 0.2]), &VALUES);
        assert!(!other.agrees(&VALUES) && other.agrees(&ARGMAX), "{other:?}");
        assert!((other.absolute - 0.1).abs() < 1e-6 && (other.relative - 0.5).abs() < 1e-6, "{other:?}");
        let swapped = held(&one, &reals(&[1, 3], &[0.7, 0.1, 0.2]), &VALUES);
        assert_eq!((swapped.rows, swapped.same_argmax), (1, 0));
        assert!(!swapped.agrees(&ARGMAX));
    }

    #[test]
    fn what_is_no_number_agrees_with_itself_alone() {
        let one = reals(&[3], &[f32::NAN, f32::INFINITY, -0.0]);
        assert!(held(&one, &reals(&[3], &[-f32::NAN, f32::INFINITY, 0.0]), &VALUES).agrees(&VALUES));
        let other = held(&one, &reals(&[3], &[1.0, f32::INFINITY, 0.0]), &VALUES);
        assert!(!other.agrees(&VALUES) && other.not_finite == 1);
    }

    #[test]
    fn whole_numbers_and_strings_are_the_same_or_not() {
        let one = wholes(&[1_000_000, i64::MAX]);
        assert!(!held(&one, &wholes(&[1_000_001, i64::MAX]), &VALUES).agrees(&VALUES));
        // Beyond the digits of an f64.
        assert!(!held(&one, &wholes(&[1_000_000, i64::MAX - 1]), &VALUES).agrees(&VALUES));
        let text = |text: [u8; 1]| of(DataType::Bytes, &[1], [[1, 0, 0, 0, text[0]]]);
        assert!(held(&text(*b"a"), &text(*b"a"), &VALUES).agrees(&VALUES));
        assert!(held(&text(*b"a"), &text(*b"b"), &VALUES).contents);
        // A label is nothing to take the largest of.
        assert!(!held(&wholes(&[1, 2]), &wholes(&[1, 3]), &ARGMAX).agrees(&ARGMAX));
    }

    #[test]
    fn other_names_datatypes_and_shapes_are_told_apart() {
        let one = reals(&[1, 2], &[1.0, 2.0]);
        assert!(held(&one, &reals(&[2, 1], &[1.0, 2.0]), &VALUES).shapes);
        assert!(held(&one, &of(DataType::Fp64, &[1, 2], [1_f64, 2.0].map(f64::to_le_bytes)), &VALUES).datatypes);
        assert!(compare(&one.named("y"), &[], &VALUES).names);
        assert!(!compare(&one.named("y"), &one.named("z"), &VALUES).agrees(&VALUES));
    }

    #[test]
    fn half_and_brain_floats_are_read_as_they_are_defined() {
        let halves =
            [(0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65504.0), (0x0001, 2_f64.powi(-24)), (0x3555, 0.333_251_953_125)];
        assert!(halves.iter().all(|(bits, value)| half(*bits) == *value));
        assert!(half(0x7c00) == f64::INFINITY && half(0xfc00) == f64::NEG_INFINITY && half(0x7e00).is_nan());
        assert!(brain(0x3f80) == 1.0 && brain(0xc049) == -3.140_625 && brain(0x7fc0).is_nan());
        let one = of(DataType::Fp16, &[2], [0x3c00_u16, 0x3555].map(u16::to_le_bytes));
        let other = of(DataType::Fp16, &[2], [0x3c00_u16, 0x3556].map(u16::to_le_bytes));
        assert!(held(&one, &other, &VALUES).agrees(&VALUES));
    }

    proptest! {
        #[test]
        fn the_order_of_the_two_does_not_matter_and_anything_agrees_with_itself(
            ones in prop::collection::vec(any::<f32>(), 6),
            others in prop::collection::vec(any::<f32>(), 6),
        ) {
            let (one, other) = (reals(&[2, 3], &ones), reals(&[2, 3], &others));
            prop_assert_eq!(held(&one, &other, &VALUES), held(&other, &one, &VALUES));
            let own = held(&one, &one, &VALUES);
            prop_assert!(own.agrees(&VALUES) && own.agrees(&ARGMAX) && own.absolute == 0.0);
        }

        #[test]
        fn bytes_that_do_not_fit_their_shape_make_nothing_panic(
            datatype in prop::sample::select(DataType::ALL.to_vec()),
            shape in prop::collection::vec(0..4_usize, 0..4),
            ones in prop::collection::vec(any::<u8>(), 0..40),
            others in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let one = Own { datatype, shape: shape.clone(), data: ones };
            let other = Own { datatype, shape, data: others };
            let _any_outcome_will_do = held(&one, &other, &VALUES).agrees(&ARGMAX);
        }
    }
}
