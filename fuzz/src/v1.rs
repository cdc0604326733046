//! V1 bodies.

use tensorgate::infer::{InferRequest, NamedTensor, validate};
use tensorgate::model::{Dim, Signature, TensorSpec};
use tensorgate::protocol::v1::{self, Form};
use tensorgate::tensor::DataType;

use super::tensors::{are_equal, are_whole, blames_the_client, echo, limits};

/// One byte tells the model, the rest is the body.
pub fn v1(data: &[u8]) {
    let Some((model, body)) = data.split_first() else { return };
    let signature = signature(*model);
    let (mut request, form) = match v1::decode_predict(body, &signature, &limits()) {
        Ok(decoded) => decoded,
        Err(error) => return blames_the_client(&error),
    };
    are_whole(&request);
    there_and_back(&request, form, &signature);
    if let Err(error) = validate("m", &signature, &mut request) {
        blames_the_client(&error);
    }
}

/// What a model that echoes answers is what was asked.
fn there_and_back(request: &InferRequest, form: Form, signature: &Signature) {
    let fits = |NamedTensor { name, tensor, .. }: &NamedTensor| {
        // Lists do not say what comes behind an empty dimension.
        signature.input(name).is_some_and(|(_, spec)| spec.accepts(tensor.shape())) && tensor.elements() > 0
    };
    if request.inputs.len() != signature.inputs.len() || !request.inputs.iter().all(fits) {
        return;
    }
    let answer = v1::encode_predictions(&echo(request), form).expect("text came from text");
    let text = std::str::from_utf8(&answer).expect("JSON is text");
    let rows_agree =
        |rows| request.inputs.len() == 1 || request.inputs.iter().all(|input| input.tensor.rows() == Some(rows));
    let key = match form {
        Form::Rows(rows) if rows_agree(rows) => "instances",
        _ => "inputs",
    };
    let text = text.replacen("predictions", key, 1);
    let (again, _) = v1::decode_predict(text.as_bytes(), signature, &limits()).expect("what is written is read");
    are_equal(request, &again);
}

fn signature(model: u8) -> Signature {
    let spec = |name: &str, datatype, dims: &[i64]| {
        TensorSpec::new(name, datatype, dims.iter().map(|&dim| Dim::from_wire(dim)))
    };
    let inputs = match model % 4 {
        0 => vec![spec("x", DataType::Fp32, &[-1, 2])],
        1 => vec![spec("x", DataType::Bytes, &[-1])],
        2 => vec![TensorSpec { shape: None, ..spec("x", DataType::Int64, &[]) }],
        _ => vec![spec("age", DataType::Int64, &[-1, 1]), spec("name", DataType::Bytes, &[-1])],
    };
    Signature { inputs, outputs: vec![] }
}
