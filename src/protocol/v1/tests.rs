use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::error::Kind;
use crate::infer::{InferResponse, Parameters, Timing};
use crate::model::{Dim, ModelName, Version};
use crate::tensor::{DataType, Tensor};

fn spec(name: &str, datatype: DataType, shape: &[i64]) -> TensorSpec {
    TensorSpec::new(name, datatype, shape.iter().map(|&dim| Dim::from_wire(dim)))
}

fn one() -> Signature {
    Signature { inputs: vec![spec("x", DataType::Fp32, &[-1, 2])], outputs: vec![] }
}

fn two() -> Signature {
    Signature {
        inputs: vec![spec("age", DataType::Int64, &[-1, 1]), spec("name", DataType::Bytes, &[-1])],
        outputs: vec![],
    }
}

fn decoded(body: Value, signature: &Signature) -> Result<(InferRequest, Form)> {
    decode_predict(body.to_string().as_bytes(), signature, &Limits::default())
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_elements(shape.into(), values).unwrap()
}

#[test]
fn rows_and_columns_of_one_input_need_no_name() {
    let expected = floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    for (body, form) in [
        (json!({ "instances": [[1, 2], [3, 4]] }), Form::Rows(2)),
        (json!({ "instances": [{ "x": [1, 2] }, { "x": [3, 4] }], "signature_name": "s" }), Form::Rows(2)),
        (json!({ "inputs": [[1, 2], [3, 4]] }), Form::Columns),
        (json!({ "inputs": { "x": [[1, 2], [3, 4]] } }), Form::Columns),
    ] {
        let (request, found) = decoded(body, &one()).unwrap();
        assert_eq!((&request.inputs[0].tensor, found), (&expected, form));
    }
}

#[test]
fn several_inputs_go_by_name_and_single_values_take_the_models_rank() {
    let rows = json!({ "instances": [{ "age": 3, "name": "a" }, { "name": ["b"], "age": [4] }] });
    assert_eq!(decoded(rows, &two()).unwrap_err().kind(), Kind::InvalidRequest, "one flat, one not");
    for body in [
        json!({ "instances": [{ "age": 3, "name": ["a"] }, { "name": ["b"], "age": 4 }] }),
        json!({ "inputs": { "name": ["a", "b"], "age": [[3], [4]] } }),
    ] {
        let (request, _) = decoded(body, &two()).unwrap();
        let [age, name] = &request.inputs[..] else { panic!("{request:?}") };
        assert_eq!(age.tensor, Tensor::from_elements([2, 1][..].into(), &[3_i64, 4]).unwrap());
        assert_eq!(name.tensor, Tensor::from_byte_strings([2][..].into(), &["a", "b"]).unwrap());
    }
}

#[test]
fn what_fits_no_input_is_told() {
    for (body, signature, said) in [
        (json!({}), one(), "neither 'instances' nor 'inputs'"),
        (json!({ "instances": [], "inputs": [] }), one(), "both"),
        (json!({ "instances": 5 }), one(), "no list"),
        (json!({ "instances": [[1, 2], [3]] }), one(), "different lengths"),
        (json!({ "instances": [[1], [2, 3], []] }), one(), "different lengths"),
        (json!({ "instances": [[1, 2], 3] }), one(), "different lengths"),
        (json!({ "instances": [["a", "b"]] }), one(), "input 'x'"),
        (json!({ "instances": [[{ "b64": "AA==" }, 1]] }), one(), "an object stands"),
        (json!({ "inputs": { "age": 1, "name": [{ "b64": "A" }] } }), two(), "no base64"),
        (json!({ "inputs": { "age": 1, "name": [{ "b64": 5 }] } }), two(), "is expected"),
        (json!({ "inputs": { "age": 1, "name": [{ "b64": "AA==", "x": 1 }] } }), two(), "is expected"),
        (json!({ "inputs": { "age": 1, "name": [{ "b64": "AA==" }, ["b"]] } }), two(), "different lengths"),
        (json!({ "instances": [{ "y": [1, 2] }] }), one(), "unknown input 'y', expected 'x'"),
        (json!({ "instances": [[1, 2]] }), two(), "'age', 'name'"),
        (json!({ "inputs": [1] }), two(), "'age', 'name'"),
        (json!({ "instances": [{ "age": 1 }, { "name": "a" }] }), two(), "only 1 of 2 instances"),
        (json!({ "instances": [{ "age": 1 }, 7] }), two(), "instance 1"),
    ] {
        let error = decoded(body.clone(), &signature).unwrap_err();
        assert!(error.kind() == Kind::InvalidRequest && error.message().contains(said), "{body}: {error}");
    }
    let deep = format!("{{\"instances\": {}{}}}", "[".repeat(5000), "]".repeat(5000));
    let error = decode_predict(deep.as_bytes(), &one(), &Limits::default()).unwrap_err();
    assert!(matches!(error.kind(), Kind::TooLarge | Kind::InvalidRequest), "{error}");
}

fn predicted(outputs: &[(&str, Tensor)], form: Form) -> Value {
    let response = InferResponse {
        model: ModelName::new("m"),
        version: Version::new(1).unwrap(),
        id: None,
        parameters: Parameters::new(),
        outputs: outputs.iter().map(|(name, tensor)| (Arc::from(*name), tensor.clone())).collect(),
        places: Vec::new(),
        timing: Timing::default(),
    };
    let body: Value = serde_json::from_slice(&encode_predictions(&response, form).unwrap()).unwrap();
    body["predictions"].clone()
}

#[test]
fn predictions_have_the_form_of_the_request() {
    let scores = floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let words = Tensor::from_byte_strings([2][..].into(), &["a", "b"]).unwrap();
    assert_eq!(predicted(&[("y", scores.clone())], Form::Rows(2)), json!([[1.0, 2.0], [3.0, 4.0]]));
    let both = [("y", scores), ("word", words)];
    let rows = json!([{ "y": [1.0, 2.0], "word": "a" }, { "y": [3.0, 4.0], "word": "b" }]);
    assert_eq!(predicted(&both, Form::Rows(2)), rows);
    let columns = json!({ "y": [[1.0, 2.0], [3.0, 4.0]], "word": ["a", "b"] });
    assert_eq!(predicted(&both, Form::Columns), columns);
    // Rows of another number are no rows.
    assert_eq!(predicted(&both, Form::Rows(3)), columns);
    assert_eq!(predicted(&[("y", floats(&[], &[5.0]))], Form::Columns), json!(5.0));
    assert_eq!(predicted(&[("y", floats(&[0, 2], &[]))], Form::Rows(0)), json!([]));
}

#[test]
fn bytes_are_base64_where_a_string_may_stand() {
    let image = || Signature { inputs: vec![spec("image", DataType::Bytes, &[-1])], outputs: vec![] };
    let expected = Tensor::from_byte_strings([3][..].into(), &[&b"\0\xff"[..], b"text", b"\xfe"]).unwrap();
    let values = json!([{ "b64": "AP8=" }, "text", { "b64": "/g" }]);
    let by_name: Vec<Value> = values.as_array().unwrap().iter().map(|value| json!({ "image": value })).collect();
    for body in [
        json!({ "instances": values }),
        json!({ "inputs": values }),
        json!({ "inputs": { "image": values } }),
        json!({ "instances": by_name }),
    ] {
        let (request, _) = decoded(body.clone(), &image()).unwrap_or_else(|error| panic!("{body}: {error}"));
        assert_eq!(request.inputs[0].tensor, expected, "{body}");
    }
    let (request, _) = decoded(json!({ "inputs": { "b64": "AP8=" } }), &image()).unwrap();
    assert_eq!(request.inputs[0].tensor, Tensor::from_byte_strings([1][..].into(), &[b"\0\xff"]).unwrap());
    // An input of that name is one.
    let named = Signature { inputs: vec![spec("b64", DataType::Bytes, &[-1])], outputs: vec![] };
    let (request, _) = decoded(json!({ "instances": [{ "b64": "AP8=" }] }), &named).unwrap();
    assert_eq!(request.inputs[0].tensor, Tensor::from_byte_strings([1][..].into(), &["AP8="]).unwrap());
    let deep = format!("{{\"instances\": {}{{\"b64\":\"\"}}{}}}", "[".repeat(100), "]".repeat(100));
    assert!(decode_predict(deep.as_bytes(), &image(), &Limits::default()).is_err());
    assert_eq!(predicted(&[("y", expected)], Form::Rows(3)), json!([{ "b64": "AP8=" }, "text", { "b64": "/g==" }]));
}
