use super::*;
use crate::error::Kind;

fn message(datatype: &str, shape: &[i64], contents: InferTensorContents) -> ModelInferRequest {
    let input = InferInputTensor {
        name: "x".into(),
        datatype: datatype.into(),
        shape: shape.into(),
        contents: Some(contents),
        ..InferInputTensor::default()
    };
    ModelInferRequest { model_name: "m".into(), inputs: vec![input], ..ModelInferRequest::default() }
}

fn refusal(message: ModelInferRequest) -> String {
    let error = decode_request(message, &Limits::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidRequest);
    error.message().into()
}

#[test]
fn typed_contents_become_the_same_bytes_as_raw_ones() {
    let contents = InferTensorContents { int_contents: vec![-1, 127], ..Default::default() };
    let request = decode_request(message("INT8", &[2], contents), &Limits::default()).unwrap();
    assert_eq!(request.inputs[0].tensor.view::<i8>().unwrap(), [-1, 127]);
    let contents = InferTensorContents { bytes_contents: vec![Bytes::from_static(b"a\0b")], ..Default::default() };
    let request = decode_request(message("BYTES", &[1], contents), &Limits::default()).unwrap();
    assert_eq!(request.inputs[0].tensor.byte_strings().unwrap().next(), Some(&b"a\0b"[..]));
}

#[test]
fn a_number_that_does_not_fit_is_refused_not_wrapped() {
    let contents = InferTensorContents { int_contents: vec![1, 300], ..Default::default() };
    let message = refusal(message("INT8", &[2], contents));
    assert_eq!(message, "model 'm': input 'x': element 1 of int_contents: value 300 does not fit i8");
}

#[test]
fn counts_datatypes_and_shapes_that_do_not_fit_are_refused() {
    let contents = || InferTensorContents { fp32_contents: vec![1.0], ..Default::default() };
    assert!(refusal(message("FP32", &[2], contents())).contains("fp32_contents has 1 elements, expected 2"));
    assert!(refusal(message("FLOAT", &[1], contents())).contains("unknown datatype 'FLOAT'"));
    assert!(refusal(message("FP32", &[-1], contents())).contains("dimension -1 is negative"));
    assert!(refusal(message("FP32", &[4_000_000_000, 4_000_000_000], contents())).contains("[4000000000,4000000000]"));
    assert!(refusal(message("FP16", &[1], contents())).contains("raw_input_contents"));
}

#[test]
fn raw_contents_are_shared_and_must_be_one_each() {
    let mut request = message("FP32", &[1], InferTensorContents::default());
    let raw = Bytes::copy_from_slice(&1.5_f32.to_le_bytes());
    request.raw_input_contents = vec![raw.clone()];
    let decoded = decode_request(request.clone(), &Limits::default()).unwrap();
    assert_eq!(decoded.inputs[0].tensor.data().as_ptr(), raw.as_ptr());
    request.raw_input_contents.push(raw);
    assert!(refusal(request.clone()).contains("2 entries, expected one for each of the 1 inputs"));
    request.raw_input_contents.pop();
    request.inputs[0].contents = Some(InferTensorContents { fp32_contents: vec![1.5], ..Default::default() });
    assert!(refusal(request).contains("typed contents"));
}

#[test]
fn an_answer_has_raw_outputs_in_order() {
    let tensor = Tensor::from_elements([1].into(), &[7_i64]).unwrap();
    let response = InferResponse {
        model: crate::model::ModelName::new("m"),
        version: crate::model::Version::ONE,
        id: Some("9".into()),
        parameters: Parameters::new(),
        outputs: [("y".into(), tensor.clone())].into_iter().collect(),
        places: Vec::new(),
        timing: Default::default(),
    };
    let message = encode_response(response);
    assert_eq!((message.model_version.as_str(), message.id.as_str()), ("1", "9"));
    assert_eq!(message.raw_output_contents[0].as_ptr(), tensor.data().as_ptr());
}
