//! simd-json and sonic-rs on the text of `benches/json.rs`, in and out: the yardsticks of our own reader and writer.

#[path = "../json_text/mod.rs"]
mod json_text;

use divan::Bencher;
use json_text::{DIGITS, Digits, Flat, Nested, Typed, decode, flat_body, nested_body, typed};

fn main() {
    divan::main();
}

#[divan::bench_group]
mod decode_flat {
    use super::*;

    #[divan::bench(args = DIGITS)]
    fn serde_json(bencher: Bencher<'_, '_>, digits: Digits) {
        decode(bencher, &flat_body(digits), |text| {
            ::serde_json::from_slice::<Typed<Flat<f32>>>(text).expect("a request")
        });
    }

    #[divan::bench(args = DIGITS)]
    fn simd_json(bencher: Bencher<'_, '_>, digits: Digits) {
        decode(bencher, &flat_body(digits), |text| {
            ::simd_json::serde::from_slice::<Typed<Flat<f32>>>(text).expect("a request")
        });
    }

    #[divan::bench(args = DIGITS)]
    fn sonic_rs(bencher: Bencher<'_, '_>, digits: Digits) {
        decode(bencher, &flat_body(digits), |text| {
            ::sonic_rs::from_slice::<Typed<Flat<f32>>>(text).expect("a request")
        });
    }
}

#[divan::bench_group]
mod decode_nested {
    use super::*;

    #[divan::bench(args = DIGITS)]
    fn serde_json(bencher: Bencher<'_, '_>, digits: Digits) {
        decode(bencher, &nested_body(digits), |text| {
            ::serde_json::from_slice::<Typed<Nested<f32>>>(text).expect("a request")
        });
    }

    #[divan::bench(args = DIGITS)]
    fn simd_json(bencher: Bencher<'_, '_>, digits: Digits) {
        decode(bencher, &nested_body(digits), |text| {
            ::simd_json::serde::from_slice::<Typed<Nested<f32>>>(text).expect("a request")
        });
    }

    #[divan::bench(args = DIGITS)]
    fn sonic_rs(bencher: Bencher<'_, '_>, digits: Digits) {
        decode(bencher, &nested_body(digits), |text| {
            ::sonic_rs::from_slice::<Typed<Nested<f32>>>(text).expect("a request")
        });
    }
}

#[divan::bench_group]
mod encode {
    use super::*;

    #[divan::bench]
    fn serde_json(bencher: Bencher<'_, '_>) {
        let answer = typed();
        bencher.bench(|| ::serde_json::to_vec(&answer).expect("numbers are JSON").len());
    }

    #[divan::bench]
    fn simd_json(bencher: Bencher<'_, '_>) {
        let answer = typed();
        bencher.bench(|| ::simd_json::serde::to_vec(&answer).expect("numbers are JSON").len());
    }

    #[divan::bench]
    fn sonic_rs(bencher: Bencher<'_, '_>) {
        let answer = typed();
        bencher.bench(|| ::sonic_rs::to_vec(&answer).expect("numbers are JSON").len());
    }
}
