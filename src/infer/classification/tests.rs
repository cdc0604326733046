use super::*;
use crate::error::Kind;
use crate::infer::Parameters;
use crate::model::{Dim, TensorSpec};

fn top(count: usize, rows: bool, tensor: &Tensor, labels: &str) -> (Vec<usize>, Vec<String>) {
    let classes = TopClasses { output: 0, count, rows }.of(tensor, &Labels::from_text(labels)).unwrap();
    let words = classes.byte_strings().unwrap().map(|word| String::from_utf8(word.to_vec()).unwrap());
    (classes.shape().to_vec(), words.collect())
}

fn tensor<T: Element, const N: usize>(shape: &[usize], values: [T; N]) -> Tensor {
    Tensor::from_elements(shape.into(), &values).unwrap()
}

#[test]
fn each_row_has_its_best_classes_with_value_index_and_label() {
    let scores = tensor(&[2, 3], [0.1_f32, 0.971_221, 0.2, 7.0, -1.0, 0.5]);
    let (shape, words) = top(2, true, &scores, "zero\none\r\ntwo\n");
    assert_eq!(shape, [2, 2]);
    assert_eq!(words, ["0.971221:1:one", "0.200000:2:two", "7.000000:0:zero", "0.500000:2:two"]);
}

#[test]
fn more_classes_than_there_are_gives_all_and_missing_labels_are_left_out() {
    let (shape, words) = top(10, false, &tensor(&[3], [5_i64, i64::MAX, -2]), "zero\n\n");
    assert_eq!(shape, [3]);
    assert_eq!(words, [format!("{}:1", i64::MAX), "5:0:zero".into(), "-2:2".into()]);
}

#[test]
fn equals_keep_their_order_and_what_is_no_number_comes_last() {
    let scores = tensor(&[1, 5], [f64::NAN, 1.0, f64::NEG_INFINITY, 1.0, f64::INFINITY]);
    let (_, words) = top(5, true, &scores, "");
    assert_eq!(words, ["inf:4", "1.000000:1", "1.000000:3", "-inf:2", "nan:0"]);
    assert_eq!(top(1, true, &tensor(&[1, 2], [f16::ONE, f16::from_f32(2.5)]), "").1, ["2.500000:1"]);
}

#[test]
fn no_rows_no_classes_and_scalars_have_shapes_too() {
    assert_eq!(top(3, true, &tensor::<f32, 0>(&[0, 4], []), ""), (vec![0, 0], vec![]));
    assert_eq!(top(3, true, &tensor::<f32, 0>(&[2, 0], []), ""), (vec![2, 0], vec![]));
    assert_eq!(top(3, true, &tensor(&[2], [1_u8, 2]), ""), (vec![2, 1], vec!["1:0".into(), "2:0".into()]));
    assert_eq!(top(3, false, &tensor(&[], [4_u8]), ""), (vec![1], vec!["4:0".into()]));
}

#[test]
fn a_wish_that_makes_no_sense_is_refused() {
    let shape = [Dim::ANY, Dim::Fixed(3)];
    let specs =
        vec![TensorSpec::new("y", DataType::Fp32, shape.clone()), TensorSpec::new("word", DataType::Bytes, shape)];
    let signature = Signature { inputs: vec![], outputs: specs };
    let wanted = |name: &str, value| {
        let mut parameters = Parameters::new();
        parameters.set(CLASSIFICATION, value);
        classes_wanted("m", &signature, &[RequestedOutput { name: name.into(), parameters, place: None }])
    };
    let two = [TopClasses { output: 0, count: 2, rows: true }];
    assert_eq!(wanted("y", ParameterValue::Int64(2)).unwrap(), two);
    assert_eq!(wanted("y", ParameterValue::Int64(0)).unwrap(), []);
    for (name, value) in [
        ("y", ParameterValue::Int64(-1)),
        ("y", ParameterValue::String("2".into())),
        ("word", ParameterValue::Uint64(1)),
    ] {
        assert_eq!(wanted(name, value).unwrap_err().kind(), Kind::InvalidRequest);
    }
}
