//! What holds of every decoded request.

use bytes::Bytes;
use tensorgate::error::{Error, Kind};
use tensorgate::infer::{InferRequest, InferResponse, NamedTensor, Parameters, Timing};
use tensorgate::model::{ModelName, Version};
use tensorgate::protocol::json::{self, Limits, OutputEncoding};
use tensorgate::tensor::{DataType, Tensor, byte_count};

/// Bounds that a search reaches: no tensor above 16 MiB.
pub(crate) fn limits() -> Limits {
    Limits { tensor_bytes_max: 16 << 20, ..Limits::default() }
}

/// Whatever is wrong with a body, the client is told so.
pub(crate) fn blames_the_client(error: &Error) {
    let kind = error.kind();
    assert!(matches!(kind, Kind::InvalidRequest | Kind::TooLarge | Kind::Unsupported), "{kind:?}: {error}");
    assert!(!error.message().is_empty());
}

/// A tensor has exactly the bytes that its datatype and shape ask for, and its elements can be walked.
pub(crate) fn are_whole(request: &InferRequest) {
    for NamedTensor { tensor, .. } in &request.inputs {
        match byte_count(tensor.datatype(), tensor.shape()).expect("a count that fits") {
            Some(bytes) => assert_eq!(tensor.data().len(), bytes),
            None => assert_eq!(tensor.byte_strings().expect("strings").count(), tensor.elements()),
        }
    }
}

/// The inputs of a request as outputs of an answer.
pub(crate) fn echo(request: &InferRequest) -> InferResponse {
    let output = |input: &NamedTensor| (input.name.as_str().into(), input.tensor.clone());
    InferResponse {
        model: ModelName::new("m"),
        version: Version::ONE,
        id: None,
        parameters: Parameters::new(),
        outputs: request.inputs.iter().map(output).collect(),
        places: Vec::new(),
        timing: Timing::default(),
    }
}

/// The answer's outputs as a client sends them back: as JSON, or as binary tensors behind it. `None` where JSON cannot hold
/// them.
pub(crate) fn through_json(response: &InferResponse, binary: bool) -> Option<InferRequest> {
    let encoding = OutputEncoding { binary_default: binary, ..OutputEncoding::default() };
    let encoded = match json::encode_response(response, &encoding) {
        Ok(encoded) => encoded,
        // BYTES that are no text.
        Err(error) => {
            assert_eq!(error.kind(), Kind::Unsupported, "{error}");
            return None;
        }
    };
    let whole = encoded.segments.concat();
    let (text, tail) = whole.split_at(encoded.json_length.unwrap_or(whole.len()));
    assert!(serde_json::from_slice::<serde_json::Value>(text).is_ok(), "strict parsers read what is written");
    let text = std::str::from_utf8(text).expect("JSON is text").replacen("\"outputs\"", "\"inputs\"", 1);
    let length = encoded.json_length.map(|_| text.len());
    let body = Bytes::from([text.as_bytes(), tail].concat());
    Some(json::decode_request(body, length, &Limits::default()).expect("what is written is read").0)
}

/// The same names and tensors, bit for bit; in JSON all NaNs are one.
pub(crate) fn are_equal(these: &InferRequest, those: &InferRequest) {
    assert_eq!(these.inputs.len(), those.inputs.len());
    for (this, that) in these.inputs.iter().zip(&those.inputs) {
        assert_eq!(this.name, that.name);
        assert!(equal_but_for_nans(&this.tensor, &that.tensor), "{:?} {:?}", this.tensor, that.tensor);
    }
}

pub(crate) fn equal_but_for_nans(this: &Tensor, that: &Tensor) -> bool {
    let alike = this.datatype() == that.datatype() && this.shape() == that.shape();
    let Some(size) = this.datatype().size() else { return alike && this.data() == that.data() };
    let nan = |bytes: &[u8]| match (this.datatype(), bytes) {
        // The exponent's bits are all set, and some below them.
        (DataType::Fp16, &[low, high]) => u16::from_le_bytes([low, high]) & 0x7fff > 0x7c00,
        (DataType::Bf16, &[low, high]) => u16::from_le_bytes([low, high]) & 0x7fff > 0x7f80,
        (DataType::Fp32, bytes) => f32::from_le_bytes(bytes.try_into().expect("four")).is_nan(),
        (DataType::Fp64, bytes) => f64::from_le_bytes(bytes.try_into().expect("eight")).is_nan(),
        _ => false,
    };
    let mut pairs = this.data().chunks(size).zip(that.data().chunks(size));
    alike && this.data().len() == that.data().len() && pairs.all(|(a, b)| a == b || (nan(a) && nan(b)))
}
