//! Protobuf requests.

use bytes::Bytes;
use prost::Message;
use tensorgate::infer::validate;
use tensorgate::model::{Dim, Signature, TensorSpec};
use tensorgate::protocol::proto::{self, ModelInferRequest, ModelInferResponse};
use tensorgate::tensor::DataType;

use super::tensors::{are_equal, are_whole, blames_the_client, echo, limits, through_json};

/// The bytes are a message, which goes on to a model of three inputs.
pub fn proto(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    let Ok(message) = ModelInferRequest::decode(data.clone()) else { return };
    let raw: usize = message.raw_input_contents.iter().map(Bytes::len).sum();
    let mut request = match proto::decode_request(message, &limits()) {
        Ok(request) => request,
        Err(error) => return blames_the_client(&error),
    };
    are_whole(&request);
    let within = data.as_ptr().addr()..data.as_ptr().addr() + data.len();
    let shared = request.inputs.iter().map(|input| input.tensor.data());
    let shared = shared.filter(|data| within.contains(&data.as_ptr().addr())).map(Bytes::len).sum::<usize>();
    assert!(shared == raw, "raw contents are slices of the message");
    let response = echo(&request);
    are_equal(&request, &through_json(&response, true).expect("binary tensors hold anything"));
    if let Some(again) = through_json(&response, false) {
        are_equal(&request, &again);
    }
    let answer = proto::encode_response(response);
    let read = ModelInferResponse::decode(Bytes::from(answer.encode_to_vec())).expect("what is written is read");
    assert_eq!(read, answer);
    let signature = signature();
    match validate("m", &signature, &mut request) {
        Ok(valid) => {
            assert_eq!(valid.inputs.len(), signature.inputs.len());
            for (spec, tensor) in signature.inputs.iter().zip(&valid.inputs) {
                let fits =
                    tensor.as_ref().map(|tensor| tensor.datatype() == spec.datatype && spec.accepts(tensor.shape()));
                assert!(fits.unwrap_or(spec.optional));
            }
        }
        Err(error) => blames_the_client(&error),
    }
}

fn signature() -> Signature {
    let dynamic = |name: &str| Dim::Dynamic(Some(name.into()));
    Signature {
        inputs: vec![
            TensorSpec::new("x", DataType::Fp32, [dynamic("n"), Dim::Fixed(4)]),
            TensorSpec { optional: true, ..TensorSpec::new("y", DataType::Bytes, [dynamic("n")]) },
            TensorSpec { shape: None, optional: true, ..TensorSpec::new("z", DataType::Int64, []) },
        ],
        outputs: vec![TensorSpec::new("x", DataType::Fp32, [dynamic("n"), Dim::Fixed(4)])],
    }
}
