use half::{bf16, f16};
use proptest::prelude::*;

use super::*;
use crate::tensor::Element;

fn values<T: Element>(datatype: &str, items: &[impl AsRef<str>]) -> Vec<T> {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    let tensor = tensor(datatype, &format!("[{}]", items.len()), &format!("[{}]", items.join(", ")));
    tensor.unwrap().view::<T>().unwrap().to_vec()
}

#[test]
fn integers_reach_their_limits_and_no_further() {
    macro_rules! limits {
        ($($rust:ty, $datatype:literal);*) => {$(
            let (min, max) = (i128::from(<$rust>::MIN), i128::from(<$rust>::MAX));
            assert_eq!(values::<$rust>($datatype, &[min.to_string(), max.to_string()]), [<$rust>::MIN, <$rust>::MAX]);
            for beyond in [min - 1, max + 1] {
                let result = tensor($datatype, "[2]", &format!("[1,{beyond}]"));
                let expected = format!("{min} to {max}");
                refused(result, Kind::InvalidRequest, &["input 'x'", "element 1", &beyond.to_string(), $datatype, &expected]);
            }
        )*};
    }
    limits!(u8, "UINT8"; u16, "UINT16"; u32, "UINT32"; u64, "UINT64"; i8, "INT8"; i16, "INT16"; i32, "INT32"; i64, "INT64");
}

#[test]
fn whole_numbers_may_be_spelled_as_floats() {
    let spelled =
        ["1.0", "1e2", "1.2E+1", "120e-1", "-0", "-0.0", "0e999999999999", "3.00000000000000000000000000", "-5.0e0"];
    assert_eq!(values::<i32>("INT32", &spelled), [1, 100, 12, 12, 0, 0, 0, 3, -5]);
    assert_eq!(values::<u64>("UINT64", &["18446744073709551615.0", "1844674407370955161.5e1"]), [u64::MAX; 2]);
    for fraction in ["1.5", "1e-1", "0.1e0", "1e-999999999999"] {
        refused(
            tensor("INT32", "[1]", &format!("[{fraction}]")),
            Kind::InvalidRequest,
            &["element 0", fraction, "whole number"],
        );
    }
    for beyond in ["1e999999999999", "1e20", "18446744073709551616", "100000000000000000000000000"] {
        refused(tensor("UINT64", "[1]", &format!("[{beyond}]")), Kind::InvalidRequest, &["element 0", beyond, "range"]);
    }
}

#[test]
fn elements_of_the_wrong_kind_are_named() {
    for (datatype, data, part) in [
        ("INT8", "[1,true]", "element 1 is true, expected a whole number for INT8"),
        ("INT8", "[1,\"2\"]", "element 1 is a string"),
        ("FP32", "[1,null]", "element 1 is null, expected a number"),
        ("FP32", "[1,\"2\"]", "element 1 is the string '2'"),
        ("FP32", "[1,{}]", "element 1 is an object"),
        ("BOOL", "[true,2]", "element 1 is 2, expected true, false, 0 or 1"),
        ("BOOL", "[true,\"true\"]", "element 1 is a string"),
        ("FP32", "[1,-Inf]", "expected a number"),
        ("FP32", "[1,]", "element 1 is ']'"),
        ("FP32", "[1,2", "expected ',' or ']' behind 2 elements"),
        ("FP32", "[1,2x]", "'x'"),
    ] {
        refused(tensor(datatype, "[2]", data), Kind::InvalidRequest, &["input 'x'", part]);
    }
}

#[test]
fn flags_are_words_or_bits() {
    assert_eq!(values::<u8>("BOOL", &["true", "false", "1", "0", "true"]), [1, 0, 1, 0, 1]);
}

#[test]
fn floats_beyond_their_range_are_refused_and_tiny_ones_become_zero() {
    for (datatype, beyond, within) in [
        ("FP16", "65520", "65519"),
        ("BF16", "3.4e38", "3.38e38"),
        ("FP32", "3.5e38", "3.4e38"),
        ("FP64", "1.8e308", "1.7e308"),
    ] {
        refused(
            tensor(datatype, "[1]", &format!("[-{beyond}]")),
            Kind::InvalidRequest,
            &["element 0", beyond, datatype],
        );
        assert!(tensor(datatype, "[1]", &format!("[{within}]")).is_ok());
        assert!(tensor(datatype, "[2]", "[1e-9999, -1e-9999]").is_ok());
    }
    assert_eq!(values::<f32>("FP32", &["1e-46", "-1e-46"]).map_bits(), [0, 1 << 31]);
}

trait Bits {
    fn map_bits(&self) -> Vec<u32>;
}

impl Bits for Vec<f32> {
    fn map_bits(&self) -> Vec<u32> {
        self.iter().map(|value| value.to_bits()).collect()
    }
}

#[test]
fn non_finite_floats_are_words_bare_or_quoted() {
    let words = ["NaN", "Infinity", "-Infinity", "\"NaN\"", "\"Infinity\"", "\"-Infinity\"", "-1"];
    let read = values::<f32>("FP32", &words);
    assert!(read[0].is_nan() && read[3].is_nan());
    assert_eq!(
        [read[1], read[2], read[4], read[5], read[6]],
        [f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY, f32::NEG_INFINITY, -1.0]
    );
    assert!(values::<f16>("FP16", &words)[0].is_nan());
    assert!(values::<bf16>("BF16", &words)[1].is_infinite());
    refused(tensor("INT32", "[1]", "[NaN]"), Kind::InvalidRequest, &["expected a whole number"]);
}

#[test]
fn halves_round_once() {
    // Just above the middle between 2048 and 2050: by way of f32 this would be the middle, and round down.
    assert_eq!(values::<f16>("FP16", &["2049.0000000001"]), [f16::from_f32(2050.0)]);
    assert_eq!(values::<f16>("FP16", &["2049", "-2050.9999999999"]), [f16::from_f32(2048.0), f16::from_f32(-2050.0)]);
    assert_eq!(values::<bf16>("BF16", &["257.0000000001", "257"]), [bf16::from_f32(258.0), bf16::from_f32(256.0)]);
}

#[test]
fn floats_beside_the_middle_of_two_are_rounded_exactly() {
    // 2^24 + 1 lies in the middle of two f32s; ties go to the even one, anything more goes up.
    let items = [
        "16777217",
        "16777217.00000000000000000001",
        "16777216.9999999999999999999",
        "16777217.0000001",
        "16777218.9999999",
    ];
    assert_eq!(values::<f32>("FP32", &items), [16777216.0, 16777218.0, 16777216.0, 16777218.0, 16777218.0]);
    for text in
        ["1.17549435e-38", "1.1754943e-38", "1e-40", "0.000000000000000000000000000000000000001", "3.4028235e38"]
    {
        assert_eq!(values::<f32>("FP32", &[text]), [text.parse::<f32>().unwrap()], "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn decimals_of_any_length_are_read_as_the_standard_library_reads_them(
        sign in prop::bool::ANY, whole in "0|[1-9][0-9]{0,22}", fraction in "(\\.[0-9]{1,25})?", exponent in "([eE][+-]?[0-9]{1,2})?",
    ) {
        let text = format!("{}{whole}{fraction}{exponent}", if sign { "-" } else { "" });
        // Two, so that the first goes by the fast way and the last by the other.
        let wide = values::<f64>("FP64", &[&text, &text]);
        let expected = text.parse::<f64>().unwrap();
        prop_assert_eq!(wide.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), vec![expected.to_bits(); 2]);
        let expected = text.parse::<f32>().unwrap();
        let narrow = tensor("FP32", "[2]", &format!("[{text},{text}]"));
        if expected.is_infinite() {
            refused(narrow, Kind::InvalidRequest, &["beyond the range of FP32"]);
        } else {
            prop_assert_eq!(narrow.unwrap().view::<f32>().unwrap().to_vec().map_bits(), vec![expected.to_bits(); 2]);
        }
    }

    #[test]
    fn decimals_near_an_f32_and_near_the_middle_of_two_are_read_exactly(bits in 0_u32..0x7f7f_ffff, nudge in -3_i64..4, digits in 1_usize..20) {
        let (low, high) = (f32::from_bits(bits), f32::from_bits(bits + 1));
        let middle = (f64::from(low) + f64::from(high)) / 2.0;
        let near = f64::from_bits((middle.to_bits() as i64 + nudge) as u64);
        for text in [format!("{low}"), format!("{near}"), format!("{near:.digits$}"), format!("{near:.digits$e}"), format!("{}", f64::from(low))] {
            prop_assert_eq!(values::<f32>("FP32", &[&text, &text]).map_bits(), vec![text.parse::<f32>().unwrap().to_bits(); 2], "{}", text);
        }
    }

    #[test]
    fn whole_numbers_of_any_size_are_exact(value in any::<i64>(), shift in 0_u32..64, big in any::<u64>()) {
        let value = value >> shift;
        prop_assert_eq!(values::<i64>("INT64", &[value.to_string(), value.to_string()]), [value; 2]);
        prop_assert_eq!(values::<u64>("UINT64", &[big.to_string(), big.to_string()]), [big; 2]);
    }
}
