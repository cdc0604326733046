//! JSON of a [1,3,224,224] FP32 tensor, in and out, beside serde_json on the same text; `benches/peers` has simd-json and
//! sonic-rs on it.
//!
//! The others read a typed request whose data are vectors of f32: no aligned memory, no check of names, counts and datatypes.

mod json_text;

use bytes::Bytes;
use divan::{Bencher, counter::BytesCount};
use json_text::{DIGITS, DIMS, Digits, Flat, Nested, Typed, decode, flat_body, nested_body, typed, values};
use tensorgate::infer::{InferResponse, Parameters, Timing};
use tensorgate::model::{ModelName, Version};
use tensorgate::protocol::json::{self, Limits, OutputEncoding};
use tensorgate::tensor::{Shape, Tensor};

fn main() {
    divan::main();
}

fn decode_ours(bencher: Bencher<'_, '_>, body: Bytes) {
    let limits = Limits::default();
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| json::decode_request(body.clone(), None, &limits).expect("a request").0.inputs.len());
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
        decode(bencher, &flat_body(digits), |text| {
            ::serde_json::from_slice::<Typed<Flat<f32>>>(text).expect("a request")
        });
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
        decode(bencher, &nested_body(digits), |text| {
            ::serde_json::from_slice::<Typed<Nested<f32>>>(text).expect("a request")
        });
    }
}

/// An answer with one output, written.
#[divan::bench_group]
mod encode {
    use super::*;

    #[divan::bench]
    fn ours(bencher: Bencher<'_, '_>) {
        let tensor = Tensor::from_elements(Shape::from(DIMS), &values()).expect("as many values as the shape has");
        let response = InferResponse {
            model: ModelName::new("model"),
            version: Version::ONE,
            id: None,
            parameters: Parameters::new(),
            outputs: [("y".into(), tensor)].into_iter().collect(),
            places: Vec::new(),
            timing: Timing::default(),
        };
        let encoding = OutputEncoding::default();
        bencher.bench(|| json::encode_response(&response, &encoding).expect("numbers are JSON").body_length());
    }

    #[divan::bench]
    fn serde_json(bencher: Bencher<'_, '_>) {
        let answer = typed();
        bencher.bench(|| ::serde_json::to_vec(&answer).expect("numbers are JSON").len());
    }
}
