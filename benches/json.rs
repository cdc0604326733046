//! JSON of a [1,3,224,224] FP32 tensor, in and out, beside serde_json, simd-json and sonic-rs on the same text.
//!
//! The others read a typed request whose data are vectors of f32: no aligned memory, no check of names, counts and datatypes.
//! Texts are flat or nested, as clients send both, with digits as f32 needs them or as Python's `json.dumps` writes
//! them, who makes doubles of them first.

use std::fmt;

use bytes::Bytes;
use divan::{Bencher, counter::BytesCount};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tensorgate::infer::{InferResponse, Parameters, Timing};
use tensorgate::model::{ModelName, Version};
use tensorgate::protocol::json::{self, Limits, OutputEncoding};
use tensorgate::tensor::{Shape, Tensor};

fn main() {
    divan::main();
}

const DIMS: [usize; 4] = [1, 3, 224, 224];
const COUNT: usize = DIMS[0] * DIMS[1] * DIMS[2] * DIMS[3];

#[derive(Deserialize, Serialize)]
struct Typed<D> {
    inputs: Vec<TypedInput<D>>,
}

#[derive(Deserialize, Serialize)]
struct TypedInput<D> {
    name: String,
    shape: Vec<usize>,
    datatype: String,
    data: D,
}

type Flat<T> = Vec<T>;
type Nested<T> = Vec<Vec<Vec<Vec<T>>>>;

/// How many digits the numbers have.
#[derive(Clone, Copy)]
enum Digits {
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

const DIGITS: [Digits; 2] = [Digits::Single, Digits::Double];

/// Pixels as a network wants them, all 24 bits of their mantissas in use: numbers of fewer bits are short as text.
fn values() -> Vec<f32> {
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

fn flat_body(digits: Digits) -> Bytes {
    match digits {
        Digits::Single => text(values()),
        Digits::Double => text(values().into_iter().map(f64::from).collect::<Vec<_>>()),
    }
}

fn nested_body(digits: Digits) -> Bytes {
    match digits {
        Digits::Single => text(nested(&values())),
        Digits::Double => text(nested(&values().into_iter().map(f64::from).collect::<Vec<_>>())),
    }
}

fn decode_ours(bencher: Bencher<'_, '_>, body: Bytes) {
    let limits = Limits::default();
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| json::decode_request(body.clone(), None, &limits).expect("a request").0.inputs.len());
}

fn decode_theirs<D: DeserializeOwned>(
    bencher: Bencher<'_, '_>,
    body: &Bytes,
    read: impl Fn(&mut [u8]) -> Typed<D> + Sync,
) {
    // simd-json writes into its text, so each gets a fresh one, which is not counted.
    bencher
        .counter(BytesCount::new(body.len()))
        .with_inputs(|| body.to_vec())
        .bench_local_refs(|text| read(text).inputs.len());
}

fn with_serde_json<D: DeserializeOwned>(text: &mut [u8]) -> Typed<D> {
    serde_json::from_slice(text).expect("a request")
}

fn with_simd_json<D: DeserializeOwned>(text: &mut [u8]) -> Typed<D> {
    simd_json::serde::from_slice(text).expect("a request")
}

fn with_sonic_rs<D: DeserializeOwned>(text: &mut [u8]) -> Typed<D> {
    sonic_rs::from_slice(text).expect("a request")
}

#[divan::bench_group]
mod decode_flat {
    use super::*;

    #[divan::bench(args = DIGITS)]
    fn ours(bencher: Bencher<'_, '_>, digits: Digits) {
        decode_ours(bencher, flat_body(digits));
    }

    #[divan::bench(args = DIGITS)]
    fn serde_json(bencher: Bencher<'_, '_>, digits: Digits) {
        decode_theirs(bencher, &flat_body(digits), with_serde_json::<Flat<f32>>);
    }

    #[divan::bench(args = DIGITS)]
    fn simd_json(bencher: Bencher<'_, '_>, digits: Digits) {
        decode_theirs(bencher, &flat_body(digits), with_simd_json::<Flat<f32>>);
    }

    #[divan::bench(args = DIGITS)]
    fn sonic_rs(bencher: Bencher<'_, '_>, digits: Digits) {
        decode_theirs(bencher, &flat_body(digits), with_sonic_rs::<Flat<f32>>);
    }
}

#[divan::bench_group]
mod decode_nested {
    use super::*;

    #[divan::bench(args = DIGITS)]
    fn ours(bencher: Bencher<'_, '_>, digits: Digits) {
        decode_ours(bencher, nested_body(digits));
    }

    #[divan::bench(args = DIGITS)]
    fn serde_json(bencher: Bencher<'_, '_>, digits: Digits) {
        decode_theirs(bencher, &nested_body(digits), with_serde_json::<Nested<f32>>);
    }

    #[divan::bench(args = DIGITS)]
    fn simd_json(bencher: Bencher<'_, '_>, digits: Digits) {
        decode_theirs(bencher, &nested_body(digits), with_simd_json::<Nested<f32>>);
    }

    #[divan::bench(args = DIGITS)]
    fn sonic_rs(bencher: Bencher<'_, '_>, digits: Digits) {
        decode_theirs(bencher, &nested_body(digits), with_sonic_rs::<Nested<f32>>);
    }
}

/// An answer with one output, written.
#[divan::bench_group]
mod encode {
    use super::*;

    fn typed() -> Typed<Flat<f32>> {
        let input = TypedInput { name: "x".into(), shape: DIMS.into(), datatype: "FP32".into(), data: values() };
        Typed { inputs: vec![input] }
    }

    #[divan::bench]
    fn ours(bencher: Bencher<'_, '_>) {
        let tensor = Tensor::from_elements(Shape::from(DIMS), &values()).expect("as many values as the shape has");
        let response = InferResponse {
            model: ModelName::new("model"),
            version: Version::ONE,
            id: None,
            parameters: Parameters::new(),
            outputs: [("y".into(), tensor)].into_iter().collect(),
            timing: Timing::default(),
        };
        let encoding = OutputEncoding::default();
        bencher.bench(|| json::encode_response(&response, &encoding).expect("numbers are JSON").body_length());
    }

    #[divan::bench]
    fn serde_json(bencher: Bencher<'_, '_>) {
        let answer = typed();
        bencher.bench(|| serde_json::to_vec(&answer).expect("numbers are JSON").len());
    }

    #[divan::bench]
    fn simd_json(bencher: Bencher<'_, '_>) {
        let answer = typed();
        bencher.bench(|| simd_json::serde::to_vec(&answer).expect("numbers are JSON").len());
    }

    #[divan::bench]
    fn sonic_rs(bencher: Bencher<'_, '_>) {
        let answer = typed();
        bencher.bench(|| sonic_rs::to_vec(&answer).expect("numbers are JSON").len());
    }
}
