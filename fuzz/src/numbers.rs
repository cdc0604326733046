//! Numbers of JSON lists.

use bytes::Bytes;
use serde_json::value::RawValue;
use tensorgate::protocol::json;
use tensorgate::tensor::Tensor;

use super::tensors::{blames_the_client, limits};

/// The bytes are what stands between the brackets of a list.
pub fn numbers(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let list = format!("[{text}]");
    let tokens: Option<Vec<&RawValue>> = serde_json::from_str(&list).ok();
    let count = tokens.as_ref().map_or(1, Vec::len);
    let read = |datatype: &str| read(datatype, count, text);
    let tensors = ["FP64", "FP32", "FP16", "BF16", "INT64", "UINT64", "INT8", "UINT16", "BOOL"].map(read);
    let Some(tokens) = tokens else {
        // Words and lists within lists are read too; a list of numbers that is none is not.
        let simple = !text.contains(['N', 'I', '[']);
        assert!(!simple || tensors.iter().all(Option::is_none), "we read it, serde_json does not");
        return;
    };
    let tokens: Vec<&str> = tokens.into_iter().map(RawValue::get).collect();
    if !tokens.iter().all(|token| token.starts_with(|c: char| c == '-' || c.is_ascii_digit())) {
        return;
    }
    let [fp64, fp32, _, _, int64, uint64, int8, uint16, _] = tensors;
    floats(fp64, tokens.iter().map(|token| token.parse().expect("a number")), f64::is_infinite, f64::to_le_bytes);
    floats(fp32, tokens.iter().map(|token| token.parse().expect("a number")), f32::is_infinite, f32::to_le_bytes);
    integers(int64, &tokens, i64::to_le_bytes);
    integers(uint64, &tokens, u64::to_le_bytes);
    integers(int8, &tokens, i8::to_le_bytes);
    integers(uint16, &tokens, u16::to_le_bytes);
}

fn read(datatype: &str, count: usize, text: &str) -> Option<Tensor> {
    let input = format!(r#"{{"name":"x","datatype":"{datatype}","shape":[{count}],"data":[{text}]}}"#);
    let body = Bytes::from(format!(r#"{{"inputs":[{input}]}}"#));
    match json::decode_request(body, None, &limits()) {
        // The bytes may close the list and go on with other inputs.
        Ok((request, _)) => (request.inputs.len() == 1).then(|| request.inputs[0].tensor.clone()),
        Err(error) => {
            blames_the_client(&error);
            None
        }
    }
}

/// Each is the float that is nearest to its text, as the standard library reads it; one beyond the range is refused.
fn floats<T: Copy, const N: usize>(
    ours: Option<Tensor>,
    theirs: impl Iterator<Item = T>,
    is_infinite: impl Fn(T) -> bool,
    bytes: impl Fn(T) -> [u8; N],
) {
    let theirs: Vec<T> = theirs.collect();
    let expected = (!theirs.iter().any(|&value| is_infinite(value)))
        .then(|| theirs.iter().flat_map(|&value| bytes(value)).collect::<Vec<u8>>());
    assert_eq!(ours.map(|tensor| tensor.data().to_vec()), expected);
}

/// Each is the whole number that its text is; any other is refused.
fn integers<T: TryFrom<i128>, const N: usize>(ours: Option<Tensor>, tokens: &[&str], bytes: impl Fn(T) -> [u8; N]) {
    let mut expected = Vec::new();
    for token in tokens {
        let Some(whole) = whole(token) else { return };
        let Some(value) = whole.and_then(|whole| T::try_from(whole).ok()) else {
            assert!(ours.is_none(), "{token} fits no integer");
            return;
        };
        expected.extend(bytes(value));
    }
    assert_eq!(ours.map(|tensor| tensor.data().to_vec()), Some(expected));
}

/// The whole number that a token is, if it is one; `None` where that is hard to tell by other means than ours.
fn whole(token: &str) -> Option<Option<i128>> {
    if !token.contains(['.', 'e', 'E']) {
        return token.len().le(&38).then(|| token.parse().ok());
    }
    let float: f64 = token.parse().ok()?;
    let digits = token.bytes().take_while(|byte| !matches!(byte, b'e' | b'E')).filter(u8::is_ascii_digit).count();
    let easy = digits <= 15
        && float.abs() < 1e15
        && (float == 0.0) != token.split(['e', 'E']).next()?.contains(|c| matches!(c, '1'..='9'));
    easy.then(|| (float.fract() == 0.0).then_some(float as i128))
}
