//! What a Hugging Face folder says of itself.

use tensorgate::error::Kind;
use tensorgate::runtime::candle::decoders;

/// The bytes are a `config.json`; and the header of a file of weights that is as long as it asks for, and of one that is not.
pub fn checkpoint(data: &[u8]) {
    let error = decoders::config(data).expect_err("there is no tensor");
    assert_eq!(error.kind(), Kind::ModelUnavailable, "{error}");
    assert!(error.message().starts_with("model/"), "a refusal names the file: {error}");
    // Any length but the right one is refused, so the right one is looked for in what is told.
    let Err(why) = decoders::safetensors_header(data, u64::MAX) else { return };
    let asked = why.rsplit_once("asks for ").and_then(|(_, rest)| rest.split(':').next()?.parse::<u64>().ok());
    if let Some(length) = asked.filter(|length| *length < u64::MAX) {
        let (tensors, bytes) = decoders::safetensors_header(data, length).expect("as long as it asks for");
        assert_eq!(bytes, length);
        assert!(tensors <= data.len(), "a tensor takes more than a byte of the header");
        assert!(decoders::safetensors_header(data, length + 1).is_err());
    }
}
