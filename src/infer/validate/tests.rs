use super::*;
use crate::error::Kind;
use crate::infer::RequestedOutput;
use crate::tensor::DataType;

fn batch() -> Dim {
    Dim::Dynamic(Some("batch".into()))
}

fn two_towers() -> Signature {
    Signature {
        inputs: vec![
            TensorSpec::new("user", DataType::Fp32, [batch(), Dim::Fixed(2)]),
            TensorSpec { optional: true, ..TensorSpec::new("boost", DataType::Fp32, [batch()]) },
        ],
        outputs: vec![
            TensorSpec::new("score", DataType::Fp32, [batch()]),
            TensorSpec::new("rank", DataType::Int64, [batch()]),
        ],
    }
}

fn fp32(name: &str, shape: &[usize]) -> NamedTensor {
    let values = vec![0.0_f32; shape.iter().product()];
    NamedTensor::new(name, Tensor::from_elements(shape.into(), &values).unwrap())
}

fn check(inputs: Vec<NamedTensor>, outputs: &[&str]) -> Result<ValidRequest> {
    let outputs = outputs.iter().map(|name| RequestedOutput { name: (*name).into(), ..Default::default() }).collect();
    let mut request = InferRequest { inputs: inputs.into(), outputs, ..InferRequest::default() };
    validate("towers", &two_towers(), &mut request)
}

fn refusal(inputs: Vec<NamedTensor>, outputs: &[&str]) -> String {
    let error = check(inputs, outputs).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidRequest);
    assert!(error.message().starts_with("model 'towers': "), "{error}");
    error.message().into()
}

#[test]
fn inputs_are_put_into_the_signatures_order() {
    let valid = check(vec![fp32("boost", &[3]), fp32("user", &[3, 2])], &[]).unwrap();
    assert_eq!(valid.inputs[0].as_ref().unwrap().shape(), &Shape::from([3, 2]));
    assert_eq!((valid.rows, valid.rows_agree), (3, true));
    assert_eq!(valid.outputs.as_slice(), [0, 1]);
}

#[test]
fn an_optional_input_may_be_left_out() {
    let valid = check(vec![fp32("user", &[1, 2])], &[]).unwrap();
    assert!(valid.inputs[1].is_none());
}

#[test]
fn outputs_come_in_the_order_asked_for() {
    assert_eq!(check(vec![fp32("user", &[1, 2])], &["rank", "score"]).unwrap().outputs.as_slice(), [1, 0]);
}

#[test]
fn refusals_name_what_was_given_and_what_would_be_right() {
    assert!(refusal(vec![], &[]).contains("input 'user' is missing, expected user FP32[-1,2]"));
    assert!(refusal(vec![fp32("usr", &[1, 2])], &[]).contains("unknown input 'usr', expected 'user', 'boost'"));
    assert!(refusal(vec![fp32("user", &[1, 3])], &[]).contains("has shape [1,3], expected [-1,2]"));
    assert!(refusal(vec![fp32("user", &[2])], &[]).contains("has shape [2], expected [-1,2]"));
    assert!(refusal(vec![fp32("user", &[1, 2]), fp32("user", &[1, 2])], &[]).contains("given twice"));
    assert!(
        refusal(vec![fp32("user", &[1, 2])], &["best"]).contains("unknown output 'best', expected 'score', 'rank'")
    );
    assert!(refusal(vec![fp32("user", &[1, 2])], &["rank", "rank"]).contains("asked for twice"));
    let dims = refusal(vec![fp32("user", &[2, 2]), fp32("boost", &[3])], &[]);
    assert!(dims.contains("dimension 'batch' is 2 in input 'user' but 3 in input 'boost'"), "{dims}");
    let other = NamedTensor::new("user", Tensor::from_elements([1, 2].into(), &[1_i64, 2]).unwrap());
    assert!(refusal(vec![other], &[]).contains("has datatype INT64, expected FP32"));
}

#[test]
fn one_element_without_a_shape_is_one_row() {
    let signature = Signature {
        inputs: vec![TensorSpec::new("text", DataType::Bytes, [Dim::ANY, Dim::Fixed(1)])],
        outputs: vec![],
    };
    let text = Tensor::from_byte_strings(Shape::default(), &["hello"]).unwrap();
    let mut request =
        InferRequest { inputs: [NamedTensor::new("text", text)].into_iter().collect(), ..Default::default() };
    let valid = validate("text", &signature, &mut request).unwrap();
    assert_eq!(valid.inputs[0].as_ref().unwrap().shape(), &Shape::from([1, 1]));
}
