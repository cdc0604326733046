//! Every architecture and task on candle's tensors against what the transformers package answers, and against our kernels.

use std::path::Path;

use super::super::tests::{
    all, assert_near_where, counted, fixtures, inputs, json, loaded, names, row, tensor as listed,
};
use super::super::{Checkpoint, Config, assemble};
use super::*;
use crate::tensor::Shape;

/// A fixture on candle's CPU device.
fn on_tensors(folder: &Path, precision: DType) -> OnDevice {
    let config = Config::read(&folder.join("config.json")).unwrap();
    let model = assemble(&config, &Checkpoint::open(folder).unwrap(), folder, 1).unwrap();
    OnDevice(Arc::new(on(model, &candle_core::Device::Cpu, precision, Device::Cpu).unwrap()))
}

#[test]
fn every_architecture_answers_on_tensors_what_transformers_does() {
    for name in names() {
        let expected = json(&fixtures().join(&name).join("expected.json"));
        let model = on_tensors(&fixtures().join(&name), DType::F32);
        let outputs = expected["outputs"].as_object().unwrap();
        let answers = model.instance().unwrap().execute(&inputs(&model, &expected), &all(&model)).unwrap();
        for (spec, answer) in model.signature().outputs.iter().zip(&answers) {
            let counts = counted(&name, spec, &expected);
            assert_near_where(answer, &listed(&outputs[&*spec.name]), &format!("{name} {}", spec.name), &*counts);
        }
    }
}

#[test]
fn tensors_answer_what_kernels_do_with_rows_that_are_padded_alone_and_together() {
    for name in names() {
        let expected = json(&fixtures().join(&name).join("expected.json"));
        let (model, kernels) = (on_tensors(&fixtures().join(&name), DType::F32), loaded(&name));
        let given = inputs(&model, &expected);
        let rows = given[0].as_ref().unwrap().rows().unwrap();
        assert_eq!((model.signature(), model.pads()), (kernels.signature(), kernels.pads()), "{name}");
        assert_eq!(model.labels(0), kernels.labels(0), "{name}");
        let (mut instance, mut other) = (model.instance().unwrap(), kernels.instance().unwrap());
        for given in (0..rows).map(|number| row(&given, number)).chain([given.clone()]) {
            let (ours, theirs) = (instance.execute(&given, &all(&model)), other.execute(&given, &all(&model)));
            for (ours, theirs) in ours.unwrap().iter().zip(&theirs.unwrap()) {
                assert_near_where(ours, theirs, &name, &|_| true);
            }
        }
    }
}

#[test]
fn weights_move_to_the_device_and_the_host_keeps_none() {
    for name in ["bert_masked", "modernbert", "vit", "mpnet"] {
        let model = on_tensors(&fixtures().join(name), DType::F32);
        let parameters = Checkpoint::open(&fixtures().join(name)).unwrap().parameters() as u64;
        let bytes = model.bytes().unwrap();
        // What a head does not need is not brought; angles, distances and words for the second time are.
        assert!((parameters * 3..parameters * 10).contains(&bytes), "{name}: {bytes} for {parameters} parameters");
        assert!(model.0.host.encoder.layers.is_empty() && model.0.host.encoder.bytes() < 1024, "{name}");
    }
}

#[test]
fn halves_of_floats_answer_nearly_the_same() {
    for (precision, within) in [(DType::F16, 0.02), (DType::BF16, 0.15)] {
        for name in ["bert", "modernbert", "mpnet", "sentences_mean", "vit"] {
            let expected = json(&fixtures().join(name).join("expected.json"));
            let (model, kernels) = (on_tensors(&fixtures().join(name), precision), loaded(name));
            let given = row(&inputs(&model, &expected), 0);
            let answers =
                [model.instance(), kernels.instance()].map(|instance| instance.unwrap().execute(&given, &[0]).unwrap());
            let [ours, theirs] = answers.each_ref().map(|answer| answer[0].view::<f32>().unwrap());
            let far = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let size = theirs.iter().map(|value| value.abs()).fold(0.0, f32::max);
            assert!(far <= within * size, "{name} {precision:?}: {far} of {size}");
        }
    }
}

#[test]
fn what_does_not_fit_is_told_as_the_kernels_tell_it_and_a_row_that_attends_to_nothing_is_answered() {
    let (model, kernels) = (on_tensors(&fixtures().join("bert"), DType::F32), loaded("bert"));
    let ids = |shape: [usize; 2], value: i64| {
        Some(Tensor::from_elements(shape.into(), &vec![value; shape[0] * shape[1]]).unwrap())
    };
    let (mut instance, mut other) = (model.instance().unwrap(), kernels.instance().unwrap());
    for given in [[ids([1, 3], 32), None, None], [ids([1, 25], 4), None, None], [ids([2, 3], 4), ids([1, 3], 1), None]]
    {
        let [ours, theirs] = [&mut instance, &mut other].map(|instance| instance.execute(&given, &[0]).unwrap_err());
        assert_eq!((ours.kind(), ours.message()), (theirs.kind(), theirs.message()));
    }
    let nothing = [ids([1, 3], 4), ids([1, 3], 0), None];
    let [ours, theirs] = [&mut instance, &mut other].map(|instance| instance.execute(&nothing, &[0]).unwrap());
    assert_near_where(&ours[0], &theirs[0], "nothing", &|_| true);
    let none = instance.execute(&[ids([0, 3], 4), None, None], &[0]).unwrap();
    assert_eq!(none[0].shape(), &Shape::from([0, 3, 16]));
}
