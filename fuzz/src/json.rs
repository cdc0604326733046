//! JSON requests.

use bytes::Bytes;
use tensorgate::error::{Kind, Result};
use tensorgate::infer::InferRequest;
use tensorgate::protocol::json::{self, OutputEncoding};

use super::tensors::{are_equal, are_whole, blames_the_client, echo, limits, through_json};

type Decoded = Result<(InferRequest, OutputEncoding)>;

/// The bytes are a body; and a member's value in a body that is right otherwise, to be skipped.
pub fn json(data: &[u8]) {
    let decoded = json::decode_request(Bytes::copy_from_slice(data), None, &limits());
    match &decoded {
        Ok((request, _)) => {
            are_whole(request);
            are_equal(request, &through_json(&echo(request), false).expect("text came from text"));
            are_equal(request, &through_json(&echo(request), true).expect("binary tensors hold anything"));
            is_json(data);
        }
        Err(error) => blames_the_client(error),
    }
    let body = [br#"{"inputs":[],"extra":"#, data, b"}"].concat();
    let decoded = json::decode_request(Bytes::copy_from_slice(&body), None, &limits());
    as_serde_json_reads_it(&body, &decoded);
}

/// Python's words for floats that JSON has no numbers for.
fn has_pythons_words(text: &[u8]) -> bool {
    [&b"NaN"[..], b"Infinity"].iter().any(|word| text.windows(word.len()).any(|window| window == *word))
}

/// serde_json keeps numbers as f64, and nests to a depth of its own.
fn is_beyond_serde_json(error: &serde_json::Error) -> bool {
    let message = error.to_string();
    message.contains("number out of range") || message.contains("recursion limit")
}

/// What we take is JSON.
pub(crate) fn is_json(text: &[u8]) {
    if let Err(error) = serde_json::from_slice::<serde_json::Value>(text) {
        assert!(is_beyond_serde_json(&error) || has_pythons_words(text), "we read it, serde_json does not: {error}");
    }
}

/// We take what serde_json takes, and nothing else.
fn as_serde_json_reads_it(body: &[u8], ours: &Decoded) {
    match (ours, serde_json::from_slice::<serde_json::Value>(body)) {
        (Ok(_), Ok(_)) => {}
        (Ok(_), Err(_)) => is_json(body),
        (Err(error), Err(_)) => blames_the_client(error),
        (Err(error), Ok(value)) => {
            blames_the_client(error);
            // The bytes may close the value and go on with members that mean something.
            let other_members =
                value.as_object().is_none_or(|members| members.keys().any(|key| key != "inputs" && key != "extra"));
            let inputs = value["inputs"] != serde_json::json!([]);
            let twice = error.message().contains("given twice");
            assert!(other_members || inputs || twice || error.kind() == Kind::TooLarge, "serde_json reads it: {error}");
        }
    }
}
