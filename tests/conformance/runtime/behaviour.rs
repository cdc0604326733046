//! What every instance owes its caller beyond right answers.

use std::process::Command;

use tensorgate::error::Kind;
use tensorgate::runtime::{LoadedModel, release_free_memory, resident_bytes};
use tensorgate::tensor::{Tensor, concat_rows, split_rows};

use super::cases::{extremes, tensor};
use super::engine::{Engine, difference, placed, run};

/// Loads and unloads that must leave no trace.
const LOADS: usize = 50;
/// Set in the process that measures them.
const MEASURING: &str = "TENSORGATE_CONFORMANCE_MEASURES_MEMORY";

/// Rows to join and the fixture that takes them: every input of the fixtures has a dynamic dimension 0.
fn batches() -> Vec<(String, Vec<(&'static str, Tensor)>)> {
    let x = |rows: usize, width: usize| {
        let values: Vec<f32> = (0..rows * width).map(|i| i as f32 * 0.25 - 3.0).collect();
        ("x", tensor([rows, width], values))
    };
    let mut batches = vec![
        ("sum_sequence".into(), vec![x(5, 7)]),
        ("odd_dimension_names".into(), vec![("x", tensor([2, 1, 2], [-1_f32, 2., 3., -4.]))]),
        ("two_inputs".into(), vec![x(4, 2), ("b", tensor([4, 2], [1_i64, 2, 3, 4, 5, 6, 7, 8]))]),
        ("gather_rows".into(), vec![("index", tensor([6], [0_i64, 9, 4, 4, -1, 1]))]),
        ("slow".into(), vec![x(3, 1)]),
    ];
    batches[2].1[0].0 = "a";
    let mask = tensor([3, 4], [1_i64, 1, 1, 1, 1, 1, 0, 0, 1, 0, 1, 0]);
    for fixture in ["bert", "sentences_first", "modernbert_classifier"] {
        batches.push((fixture.into(), vec![tokens(3, 4), ("attention_mask", mask.clone())]));
    }
    for rows in extremes() {
        batches.push((format!("identity_{}", rows.datatype().name().to_lowercase()), vec![("x", rows)]));
    }
    batches
}

/// Rows of token ids that every one of the small checkpoints has words for.
fn tokens(rows: usize, length: usize) -> (&'static str, Tensor) {
    let ids: Vec<i64> = (0..rows * length).map(|at| 3 + (at * at % 29) as i64).collect();
    ("input_ids", tensor([rows, length], ids))
}

/// Loads `fixture` where it is for this engine and can be loaded: whether it must load is the cases' business.
fn loadable(engine: &Engine, fixture: &str) -> Option<std::sync::Arc<dyn LoadedModel>> {
    engine.load(fixture)?.ok()
}

/// The answer to a batch, cut into rows, equals the answers to its rows.
pub(crate) fn rows_of_a_batch_are_answered_as_if_alone(engine: &Engine) {
    for (fixture, inputs) in batches() {
        let Some(model) = loadable(engine, &fixture) else {
            continue;
        };
        let mut instance = model.instance().unwrap();
        let whole = run(&*model, &mut *instance, &inputs).unwrap();
        let rows = inputs[0].1.rows().unwrap();
        let cut = |tensor: &Tensor| split_rows(tensor, vec![1; rows]).unwrap();
        let parts: Vec<Vec<Tensor>> = inputs.iter().map(|(_, tensor)| cut(tensor)).collect();
        for row in 0..rows {
            // Cut rows start at odd places; an instance is promised aligned tensors.
            let alone: Vec<_> =
                inputs.iter().zip(&parts).map(|(&(name, _), parts)| (name, parts[row].clone().aligned())).collect();
            let answers = run(&*model, &mut *instance, &alone).unwrap();
            for (whole, answer) in whole.iter().zip(&answers) {
                let differs = difference(&cut(whole)[row], answer);
                assert_eq!(differs, None, "{} {fixture}, row {row}", engine.name());
            }
        }
    }
}

/// The fixture that the scheduler has to recognise is really what it says.
pub(crate) fn rows_that_influence_each_other_show_it(engine: &Engine) {
    let Some(model) = engine.loaded("batch_mean") else {
        return;
    };
    assert!(model.signature().may_batch(), "the signature alone does not tell");
    let mut instance = model.instance().unwrap();
    let (one, other) = (tensor([1, 2], [1_f32, 2.]), tensor([1, 2], [3_f32, 8.]));
    let alone = run(&*model, &mut *instance, &[("x", one.clone())]).unwrap();
    let joined = run(&*model, &mut *instance, &[("x", concat_rows(&[&one, &other]).unwrap())]).unwrap();
    assert!(difference(&split_rows(&joined[0], [1, 1]).unwrap()[0], &alone[0]).is_some());
}

/// `outputs` of `execute` are positions: any subset, in any order, also repeated.
pub(crate) fn outputs_come_as_asked_for_in_subset_and_order(engine: &Engine) {
    let Some(model) = engine.loaded("many_outputs") else {
        return two_outputs_come_as_asked_for(engine);
    };
    let mut instance = model.instance().unwrap();
    let inputs = placed(model.signature(), &[("x", tensor([2, 2], [1_f32, -2., 3., 4.]))]);
    let all = instance.execute(&inputs, &[0, 1, 2, 3, 4, 5]).unwrap();
    for asked in [vec![5, 0], vec![3], vec![4, 2, 1], vec![1, 1]] {
        let answer = instance.execute(&inputs, &asked).unwrap();
        let expected: Vec<Tensor> = asked.iter().map(|&position| all[position].clone()).collect();
        assert_eq!(answer, expected, "{} asked for {asked:?}", engine.name());
    }
}

fn two_outputs_come_as_asked_for(engine: &Engine) {
    let Some(model) = engine.loaded("sentences_mean") else {
        return;
    };
    let mut instance = model.instance().unwrap();
    let inputs = placed(model.signature(), &[tokens(2, 6)]);
    let all = instance.execute(&inputs, &[0, 1]).unwrap();
    for asked in [vec![1, 0], vec![1], vec![0], vec![1, 1]] {
        let answer = instance.execute(&inputs, &asked).unwrap();
        let expected: Vec<Tensor> = asked.iter().map(|&position| all[position].clone()).collect();
        assert_eq!(answer, expected, "{} asked for {asked:?}", engine.name());
    }
}

/// Tensors share the request's bytes with logs, shadows and retries: no engine may compute in place.
pub(crate) fn inputs_are_left_as_they_were(engine: &Engine) {
    for (fixture, inputs) in batches() {
        let Some(model) = loadable(engine, &fixture) else {
            continue;
        };
        let copies: Vec<Vec<u8>> = inputs.iter().map(|(_, tensor)| tensor.data().to_vec()).collect();
        run(&*model, &mut *model.instance().unwrap(), &inputs).unwrap();
        for ((name, tensor), copy) in inputs.iter().zip(copies) {
            assert_eq!(tensor.data(), &copy, "{} changed {name} of {fixture}", engine.name());
        }
    }
}

/// Up, down and to zero rows.
pub(crate) fn an_instance_takes_batches_of_changing_size(engine: &Engine) {
    let Some(model) = engine.loaded("identity_fp32") else {
        return;
    };
    let mut instance = model.instance().unwrap();
    for (rows, width) in [(1, 4), (7, 4), (64, 1), (0, 4), (3, 9), (1, 4), (1000, 33)] {
        let values: Vec<f32> = (0..rows * width).map(|i| i as f32).collect();
        let x = tensor([rows, width], values);
        assert_eq!(run(&*model, &mut *instance, &[("x", x.clone())]).unwrap(), [x]);
    }
}

/// The same of a model of tokens, whose rows may change in length too.
pub(crate) fn an_instance_takes_rows_of_changing_length(engine: &Engine) {
    let Some(model) = engine.loaded("bert") else {
        return;
    };
    let mut instance = model.instance().unwrap();
    for (rows, length) in [(1, 4), (7, 24), (200, 3), (0, 4), (3, 9), (1, 4)] {
        let inputs = [tokens(rows, length)];
        let answer = run(&*model, &mut *instance, &inputs).unwrap();
        assert_eq!(answer[0].shape().to_vec(), [rows, length, 16]);
        assert_eq!(answer, run(&*model, &mut *model.instance().unwrap(), &inputs).unwrap(), "as a new instance does");
    }
}

/// A poisoned request costs its own answer only.
pub(crate) fn an_instance_stays_usable_after_an_error(engine: &Engine) {
    let Some(model) = engine.loaded("gather_rows") else {
        return;
    };
    let mut instance = model.instance().unwrap();
    for _ in 0..3 {
        let error = run(&*model, &mut *instance, &[("index", tensor([2], [1_i64, 10]))]).unwrap_err();
        assert_eq!(error.kind(), Kind::Execution);
        assert!(!error.message().contains('\n'), "one line: {error}");
        let answer = run(&*model, &mut *instance, &[("index", tensor([1], [2_i64]))]).unwrap();
        assert_eq!(answer, [tensor([1, 2], [2_f32, 4.])]);
    }
}

/// The same of a model that refuses what no run would take.
pub(crate) fn an_instance_stays_usable_after_a_refusal(engine: &Engine) {
    let Some(model) = engine.loaded("bert") else {
        return;
    };
    let mut instance = model.instance().unwrap();
    let sound = [tokens(2, 5)];
    let expected = run(&*model, &mut *instance, &sound).unwrap();
    for odd in [tensor([1, 2], [4_i64, 99]), tensor([1, 30], [4_i64; 30])] {
        let error = run(&*model, &mut *instance, &[("input_ids", odd)]).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidRequest);
        assert!(error.message().contains("input_ids") && !error.message().contains('\n'), "one line: {error}");
        assert_eq!(run(&*model, &mut *instance, &sound).unwrap(), expected);
    }
}

/// Instances share a model, not their scratch memory.
pub(crate) fn instances_answer_rightly_on_several_threads_at_once(engine: &Engine) {
    for fixture in ["sum_sequence", "identity_fp32", "gather_rows"] {
        let Some(model) = loadable(engine, fixture) else {
            continue;
        };
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let model = &model;
                let mut instance = model.instance().unwrap();
                scope.spawn(move || {
                    for round in 0..50_usize {
                        let rows = 1 + (thread + round) % 5;
                        let (input, expected) = known_answer(fixture, rows, thread);
                        let answer = run(&**model, &mut *instance, &[input]).unwrap();
                        assert_eq!(difference(&answer[0], &expected), None, "{fixture} on thread {thread}");
                    }
                });
            }
        });
    }
}

/// Instances share weights: whatever they do at once, each answers what one alone does.
pub(crate) fn instances_of_shared_weights_do_not_disturb_each_other(engine: &Engine) {
    let Some(model) = engine.loaded("bert") else {
        return;
    };
    std::thread::scope(|scope| {
        for thread in 1..5_usize {
            let (model, inputs) = (&model, [tokens(thread, 3 + thread)]);
            let expected = run(&**model, &mut *model.instance().unwrap(), &inputs).unwrap();
            let mut instance = model.instance().unwrap();
            scope.spawn(move || {
                (0..30).for_each(|_| assert_eq!(run(&**model, &mut *instance, &inputs).unwrap(), expected));
            });
        }
    });
}

fn known_answer(fixture: &str, rows: usize, thread: usize) -> ((&'static str, Tensor), Tensor) {
    let value = thread as f32;
    match fixture {
        "sum_sequence" => (("x", tensor([rows, 3], vec![value; rows * 3])), tensor([rows], vec![3.0 * value; rows])),
        "gather_rows" => {
            let row = [value, value * value];
            (("index", tensor([rows], vec![thread as i64; rows])), tensor([rows, 2], row.repeat(rows)))
        }
        _ => (("x", tensor([rows, 3], vec![value; rows * 3])), tensor([rows, 3], vec![value; rows * 3])),
    }
}

/// Responses are written long after the batch, and the model may be gone by then.
pub(crate) fn outputs_outlive_their_instance_and_model(engine: &Engine) {
    for (fixture, input) in [("sum_sequence", ("x", tensor([2, 2], [1_f32, 2., 3., 4.]))), ("identity_bytes", bytes())]
    {
        let Some(model) = loadable(engine, fixture) else {
            continue;
        };
        let mut instance = model.instance().unwrap();
        let first = run(&*model, &mut *instance, std::slice::from_ref(&input)).unwrap();
        let copy = first[0].data().to_vec();
        let other = Tensor::new(input.1.datatype(), input.1.shape().clone(), input.1.data().clone()).unwrap();
        run(&*model, &mut *instance, &[(input.0, other)]).unwrap();
        drop(instance);
        drop(model);
        release_free_memory();
        assert_eq!(first[0].data(), &copy, "{fixture}");
    }
}

fn bytes() -> (&'static str, Tensor) {
    ("x", Tensor::from_byte_strings([2, 1].into(), &["one", "two"]).unwrap())
}

/// The path stands in the message, so that the person who reads it knows where to look.
pub(crate) fn a_missing_file_is_an_error_that_names_it(engine: &Engine) {
    if engine.artifact("scalar").is_none() {
        return;
    }
    let error = engine.load("no_such_fixture").unwrap().err().unwrap();
    assert_eq!(error.kind(), Kind::ModelUnavailable);
    assert!(error.message().contains("no_such_fixture.onnx"), "{error}");
    assert!(!error.message().contains('\n'), "one line: {error}");
}

/// Measured in a process of its own: the other tests of this one allocate at the same time.
pub(crate) fn loading_and_unloading_does_not_grow_the_process(engine: &Engine) {
    if std::env::var_os(MEASURING).is_some() {
        return measure(engine);
    }
    let test = format!("runtime::{}::loading_and_unloading_does_not_grow_the_process", engine.name());
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", &test, "--nocapture"]).env(MEASURING, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn measure(engine: &Engine) {
    // `slow` has the most weights: an engine that packs them holds megabytes per load.
    let known = ["slow", "identity_fp32", "bert"].into_iter().find(|fixture| engine.artifact(fixture).is_some());
    let fixture = known.unwrap();
    let input = if fixture == "bert" { tokens(1, 4) } else { ("x", tensor([1, 1], [1_f32])) };
    let cycle = || {
        let model = engine.loaded(fixture).unwrap();
        let mut instance = model.instance().unwrap();
        run(&*model, &mut *instance, std::slice::from_ref(&input)).unwrap();
    };
    // The first loads fill caches that stay: the engine's own, the allocator's, the operator tables.
    (0..LOADS / 5).for_each(|_| cycle());
    let resident = || {
        release_free_memory();
        resident_bytes().unwrap()
    };
    let before = resident();
    (0..LOADS).for_each(|_| cycle());
    let after = resident();
    assert!(after * 5 <= before * 6, "{LOADS} loads of {fixture} grew the process from {before} to {after} bytes");
}
