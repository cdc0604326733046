//! The text that JSON readers are compared on: a request with a [1,3,224,224] FP32 tensor, and how serde sees it.
//!
//! Flat or nested, as clients send both, with digits as f32 needs them or as Python's `json.dumps` writes them, who makes
//! doubles of them first.

use std::fmt;

use bytes::Bytes;
use divan::{Bencher, counter::BytesCount};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(crate) const DIMS: [usize; 4] = [1, 3, 224, 224];
pub(crate) const COUNT: usize = DIMS[0] * DIMS[1] * DIMS[2] * DIMS[3];

#[derive(Deserialize, Serialize)]
pub(crate) struct Typed<D> {
    pub(crate) inputs: Vec<TypedInput<D>>,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct TypedInput<D> {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) datatype: String,
    pub(crate) data: D,
}

pub(crate) type Flat<T> = Vec<T>;
pub(crate) type Nested<T> = Vec<Vec<Vec<Vec<T>>>>;

/// How many digits the numbers have.
#[derive(Clone, Copy)]
pub(crate) enum Digits {
    /// Up to 9.
    Single,
    /// Up to 17.
    Double,
}

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if let Self::Single = self { "f32 digits" } else { "f64 digits" })
    }
}

pub(crate) const DIGITS: [Digits; 2] = [Digits::Single, Digits::Double];

/// Pixels as a network wants them, all 24 bits of their mantissas in use: numbers of fewer bits are short as text.
pub(crate) fn values() -> Vec<f32> {
    let scattered = |i: usize| (i as u32).wrapping_mul(2_654_435_769) >> 8;
    (0..COUNT).map(|i| scattered(i) as f32 / (1 << 23) as f32 - 1.0).map(|x| x * 2.1).collect()
}

fn text<D: Serialize>(data: D) -> Bytes {
    let input = TypedInput { name: "x".into(), shape: DIMS.into(), datatype: "FP32".into(), data };
    serde_json::to_vec(&Typed { inputs: vec![input] }).expect("numbers are JSON").into()
}

fn nested<T: Clone>(values: &[T]) -> Nested<T> {
    let rows = |plane: &[T]| plane.chunks(DIMS[3]).map(<[T]>::to_vec).collect();
    vec![values.chunks(DIMS[2] * DIMS[3]).map(rows).collect()]
}

pub(crate) fn flat_body(digits: Digits) -> Bytes {
    match digits {
        Digits::Single => text(values()),
        Digits::Double => text(values().into_iter().map(f64::from).collect::<Vec<_>>()),
    }
}

pub(crate) fn nested_body(digits: Digits) -> Bytes {
    match digits {
        Digits::Single => text(nested(&values())),
        Digits::Double => text(nested(&values().into_iter().map(f64::from).collect::<Vec<_>>())),
    }
}

/// An answer as serde sees it.
pub(crate) fn typed() -> Typed<Flat<f32>> {
    let input = TypedInput { name: "x".into(), shape: DIMS.into(), datatype: "FP32".into(), data: values() };
    Typed { inputs: vec![input] }
}

/// Measures a reader of typed requests. simd-json writes into its text, so each run has a fresh one, which is not counted.
pub(crate) fn decode<D: DeserializeOwned>(
    bencher: Bencher<'_, '_>,
    body: &Bytes,
    read: impl Fn(&mut [u8]) -> Typed<D> + Sync,
) {
    bencher
        .counter(BytesCount::new(body.len()))
        .with_inputs(|| body.to_vec())
        .bench_local_refs(|text| read(text).inputs.len());
}
