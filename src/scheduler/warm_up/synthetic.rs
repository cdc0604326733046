//! Made-up inputs.

use super::{Dim, Shape, SmallVec, Tensor, TensorSpec, ValidRequest};
use crate::model::Signature;
use crate::scheduler::padding::{Lengths, Padding};
use crate::tensor::{AlignedBuffer, DataType, ElementBytes};

/// What values are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// Pseudo-random: floats in [0, 1), whole numbers 0 or 1 (small enough to index any table), short words.
    Varied,
    /// All ones.
    Ones,
    /// All zeros, empty strings.
    Zeros,
}

impl Fill {
    pub(super) const ALL: [Fill; 3] = [Fill::Varied, Fill::Ones, Fill::Zeros];
}

/// How inputs are made up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) fill: Fill,
    /// Size of every dynamic dimension but the first.
    pub(super) size: usize,
}

/// An input that is padded.
struct Padded<'a> {
    padding: &'a Padding,
    position: usize,
    element: &'a ElementBytes,
    lengths: &'a Lengths,
    unlike: bool,
}

impl Padded<'_> {
    fn length(&self, dim: usize) -> Option<usize> {
        self.padding.axis(self.position, dim).map(|axis| self.lengths[axis])
    }
}

/// A fixed sequence of numbers (splitmix64): the same model sees the same warm-up each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

impl Source {
    /// A request of `rows` rows for all outputs; other `seed`s give other values. Optional inputs are left out.
    pub(super) fn request(&self, signature: &Signature, rows: usize, seed: u64) -> ValidRequest {
        let mut numbers = Numbers(seed);
        let tensor = |spec: &TensorSpec| (!spec.optional).then(|| self.tensor(spec, rows, None, &mut numbers));
        request_of(signature, signature.inputs.iter().map(tensor).collect(), rows)
    }

    /// A request of one row that has `lengths` where `padding` pads it. Its whole numbers are never the padding itself where
    /// `unlike` says so, else only the first of each input is not: padding must not stand for all that there is, and a mask
    /// of nothing has no meaning. Inputs that are optional and not padded are left out.
    pub(super) fn of_lengths(
        &self,
        signature: &Signature,
        padding: &Padding,
        lengths: &Lengths,
        unlike: bool,
        seed: u64,
    ) -> ValidRequest {
        let mut numbers = Numbers(seed);
        let tensor = |(position, spec): (usize, &TensorSpec)| {
            let element = padding.element(position);
            let padded = element.map(|element| Padded { padding, position, element, lengths, unlike });
            (!spec.optional || padded.is_some()).then(|| self.tensor(spec, 1, padded.as_ref(), &mut numbers))
        };
        request_of(signature, signature.inputs.iter().enumerate().map(tensor).collect(), 1)
    }

    fn tensor(&self, spec: &TensorSpec, rows: usize, padded: Option<&Padded<'_>>, numbers: &mut Numbers) -> Tensor {
        let size = |(position, dim): (usize, &Dim)| match dim {
            Dim::Fixed(size) => *size,
            Dim::Dynamic(_) if position == 0 => rows,
            Dim::Dynamic(_) => padded.and_then(|padded| padded.length(position)).unwrap_or(self.size),
        };
        let shape: Shape =
            spec.shape.as_ref().map_or_else(|| [rows].into(), |dims| dims.iter().enumerate().map(size).collect());
        let count = shape.elements().unwrap_or(0);
        let made = match spec.datatype.size() {
            None => {
                let words: Vec<String> = (0..count).map(|_| self.word(numbers)).collect();
                Tensor::from_byte_strings(shape, &words)
            }
            Some(size) => {
                let mut data = AlignedBuffer::with_capacity(count * size);
                for place in 0..count {
                    let mut made = element(spec.datatype, self.number(spec.datatype, numbers));
                    let is_padding = |padded: &Padded<'_>| {
                        (padded.unlike || place == 0) && padded.element.as_slice() == &made[..size]
                    };
                    if padded.is_some_and(is_padding) && !is_float(spec.datatype) {
                        // Whole numbers here are 0 or 1: the other one.
                        made[0] ^= 1;
                    }
                    data.extend(&made[..size]);
                }
                Tensor::new(spec.datatype, shape, data.freeze())
            }
        };
        made.expect("as many elements as the shape asks for were made")
    }

    fn number(&self, datatype: DataType, numbers: &mut Numbers) -> f64 {
        match self.fill {
            Fill::Zeros => 0.0,
            Fill::Ones => 1.0,
            Fill::Varied => {
                let fraction = (numbers.next() >> 11) as f64 / (1_u64 << 53) as f64;
                if is_float(datatype) { fraction } else { fraction.round() }
            }
        }
    }

    fn word(&self, numbers: &mut Numbers) -> String {
        match self.fill {
            Fill::Zeros => String::new(),
            Fill::Ones => "1".into(),
            Fill::Varied => {
                let letter = |number: u64| char::from(b'a' + (number % 26) as u8);
                (0..3 + numbers.next() % 4).map(|_| letter(numbers.next())).collect()
            }
        }
    }
}

fn is_float(datatype: DataType) -> bool {
    matches!(datatype, DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64)
}

/// A request for all outputs.
fn request_of(signature: &Signature, inputs: SmallVec<[Option<Tensor>; 2]>, rows: usize) -> ValidRequest {
    let rows_agree = inputs.iter().flatten().all(|tensor| tensor.rows() == Some(rows));
    ValidRequest { inputs, outputs: (0..signature.outputs.len()).collect(), rows, rows_agree }
}

/// The little-endian bytes of `value` as one element, from the start of the array.
fn element(datatype: DataType, value: f64) -> [u8; 8] {
    let mut bytes = [0; 8];
    let mut put = |element: &[u8]| bytes[..element.len()].copy_from_slice(element);
    match datatype {
        DataType::Fp16 => put(&half::f16::from_f64(value).to_le_bytes()),
        DataType::Bf16 => put(&half::bf16::from_f64(value).to_le_bytes()),
        DataType::Fp32 => put(&(value as f32).to_le_bytes()),
        DataType::Fp64 => put(&value.to_le_bytes()),
        // Whole numbers here are 0 or 1, which little-endian writes alike at any width.
        _ => put(&(value as u64).to_le_bytes()),
    }
    bytes
}
