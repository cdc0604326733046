use std::panic::catch_unwind;
use std::path::PathBuf;

use tract_onnx::tract_hir::internal::{TractErrorContext as _, bail};

use super::*;
use crate::error::Kind;
use crate::tensor::Shape;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).with_extension("onnx")
}

fn ones(shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    let values = vec![1_f32; shape.elements().unwrap()];
    Tensor::from_elements(shape, &values).unwrap()
}

#[test]
fn a_panic_becomes_an_error_with_its_place_and_text() {
    let index = std::hint::black_box(3);
    let error = caught(|| Ok([1, 2][index])).unwrap_err().to_string();
    assert!(error.contains("tests.rs:") && error.contains("the index is 3"), "{error}");
    let nested = caught(|| {
        let _ = caught::<()>(|| panic!("inner"));
        panic!("outer {}", 1)
    });
    assert!(nested.map(|()| "").unwrap_err().to_string().contains("outer 1"));
    assert!(catch_unwind(|| panic!("not ours")).is_err(), "panics elsewhere stay panics");
}

#[test]
fn a_reason_is_one_bounded_line_from_the_outermost_cause_on() {
    let fail = || -> TractResult<()> { bail!("inner\n   line {}", "x".repeat(1000)) };
    let line = one_line(&fail().context("outer").unwrap_err());
    assert!(line.starts_with("outer: inner line xxx") && line.ends_with("x..."), "{line}");
    assert_eq!(line.chars().count(), REASON_CHARS_MAX + 3);
}

#[test]
fn one_plan_serves_every_batch_size() {
    for name in ["sum_sequence", "odd_dimension_names", "inner_shape_note", "many_outputs", "slow"] {
        let model = load(&fixture(name)).unwrap();
        assert!(matches!(model.plans, Plans::Symbolic(_)), "{name}");
    }
}

#[test]
fn a_model_without_ranks_keeps_a_bounded_number_of_plans() {
    let model = Arc::new(load(&fixture("no_shape_input")).unwrap());
    let mut instance = TractInstance { model: model.clone(), ready: None };
    for round in 0..2 {
        for rows in 1..=plan::PLANS_MAX + 3 {
            let answer = instance.execute(&[Some(ones([rows, 2]))], &[0]).unwrap();
            assert_eq!(answer[0].shape(), &Shape::from([rows, 2]), "round {round}");
        }
    }
    let Plans::PerShape(plans) = &model.plans else { panic!("no rank, no symbols") };
    assert_eq!(plans.kept(), plan::PLANS_MAX);
}

#[test]
fn a_required_input_that_is_left_out_is_an_error_that_names_it() {
    let model = TractRuntime::new().load(&Artifact::new(fixture("optional_input"))).unwrap();
    let error = model.instance().unwrap().execute(&[None, None], &[0]).unwrap_err();
    assert_eq!(error.kind(), Kind::Execution);
    assert!(error.message().contains("'x'"), "{error}");
}

#[test]
fn an_output_is_tracts_own_memory() {
    let model = TractRuntime::new().load(&Artifact::new(fixture("identity_fp32"))).unwrap();
    let mut instance = model.instance().unwrap();
    let answer = instance.execute(&[Some(ones([4, 4]))], &[0, 0]).unwrap();
    assert_eq!(answer[0].data().as_ptr(), answer[1].data().as_ptr(), "nothing is copied out");
    assert!(answer[0].is_aligned());
}
