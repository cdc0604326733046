use super::*;
use crate::error::Kind;
use crate::model::Dim;
use crate::tensor::DataType;

fn artifact(inputs: &[(&str, DataType)], outputs: &[(&str, DataType)]) -> Artifact {
    let specs = |named: &[(&str, DataType)]| {
        named.iter().map(|&(name, datatype)| TensorSpec::new(name, datatype, [Dim::ANY, Dim::Fixed(2)])).collect()
    };
    Artifact {
        declared: Signature { inputs: specs(inputs), outputs: specs(outputs) },
        ..Artifact::new("models/identity")
    }
}

fn row(values: [f32; 2]) -> Tensor {
    Tensor::from_elements([1, 2].into(), &values).unwrap()
}

fn load_error(artifact: &Artifact) -> Error {
    IdentityRuntime::new().load(artifact).err().unwrap()
}

#[test]
fn outputs_mirror_inputs_and_share_their_bytes() {
    let model = IdentityRuntime::new().load(&artifact(&[("a", DataType::Fp32), ("b", DataType::Fp32)], &[])).unwrap();
    assert_eq!(model.signature().outputs, model.signature().inputs);
    let (a, b) = (row([1.0, 2.0]), row([3.0, 4.0]));
    let answer = model.instance().unwrap().execute(&[Some(a.clone()), Some(b.clone())], &[1, 0, 1]).unwrap();
    assert_eq!(answer, [b.clone(), a, b.clone()]);
    assert_eq!(answer[0].data().as_ptr(), b.data().as_ptr(), "nothing is copied");
}

#[test]
fn declared_outputs_keep_their_names() {
    let model = IdentityRuntime::new().load(&artifact(&[("a", DataType::Int8)], &[("y", DataType::Int8)])).unwrap();
    assert_eq!(&*model.signature().outputs[0].name, "y");
}

#[test]
fn a_model_without_declared_inputs_is_told_what_to_write() {
    let error = load_error(&artifact(&[], &[("y", DataType::Fp32)]));
    assert_eq!(error.kind(), Kind::ModelUnavailable);
    assert!(error.message().contains("model.toml"), "{error}");
    assert!(error.message().contains("models/identity"), "{error}");
}

#[test]
fn declared_outputs_have_to_fit_the_inputs() {
    let inputs = [("a", DataType::Fp32)];
    let count = load_error(&artifact(&inputs, &[("y", DataType::Fp32), ("z", DataType::Fp32)]));
    assert_eq!(count.kind(), Kind::ModelUnavailable);
    assert!(count.message().contains("1 inputs and 2 outputs"), "{count}");
    let datatype = load_error(&artifact(&inputs, &[("y", DataType::Int64)]));
    assert!(datatype.message().contains("'y' has to be FP32"), "{datatype}");
}

#[test]
fn an_output_whose_input_was_left_out_is_an_execution_error_that_names_it() {
    let model = IdentityRuntime::new().load(&artifact(&[("a", DataType::Fp32), ("b", DataType::Fp32)], &[])).unwrap();
    let mut instance = model.instance().unwrap();
    let inputs = [Some(row([1.0, 2.0])), None];
    let error = instance.execute(&inputs, &[0, 1]).unwrap_err();
    assert_eq!(error.kind(), Kind::Execution);
    assert!(error.message().contains("'b'"), "{error}");
    assert_eq!(instance.execute(&inputs, &[0]).unwrap(), [row([1.0, 2.0])], "an output that has its input is answered");
}

#[test]
fn an_execution_takes_its_time_and_little_more() {
    let time = Duration::from_millis(5);
    let artifact = Artifact { execute_time: time, ..artifact(&[("a", DataType::Fp32)], &[]) };
    let model = IdentityRuntime::new().load(&artifact).unwrap();
    let mut instance = model.instance().unwrap();
    let shortest = (0..20).map(|_| {
        let start = Instant::now();
        instance.execute(&[Some(row([1.0, 2.0]))], &[0]).unwrap();
        start.elapsed()
    });
    // The shortest of several: a loaded machine may preempt any single one.
    let shortest = shortest.min().unwrap();
    assert!(shortest >= time && shortest < time + Duration::from_millis(2), "{shortest:?}");
}
