//! Every architecture and task against what the transformers package answers (tests/fixtures/candle), and what is refused.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::error::Kind;
use crate::model::TensorSpec;
use crate::tensor::{Shape, Tensor};

pub(super) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/candle")
}

pub(super) fn names() -> Vec<String> {
    let entries = fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> =
        entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 24);
    names
}

fn load(folder: &Path, threads: usize) -> Result<Arc<dyn LoadedModel>> {
    CandleRuntime::new().load(&Artifact { threads, ..Artifact::new(folder.join("config.json")) })
}

pub(super) fn loaded(name: &str) -> Arc<dyn LoadedModel> {
    load(&fixtures().join(name), 1).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub(super) fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub(super) fn tensor(listed: &Value) -> Tensor {
    let shape: Shape = listed["shape"].as_array().unwrap().iter().map(|dim| dim.as_u64().unwrap() as usize).collect();
    let data = listed["data"].as_array().unwrap();
    if data.iter().all(Value::is_i64) {
        let values: Vec<i64> = data.iter().map(|value| value.as_i64().unwrap()).collect();
        return Tensor::from_elements(shape, &values).unwrap();
    }
    let values: Vec<f32> = data.iter().map(|value| value.as_f64().unwrap() as f32).collect();
    Tensor::from_elements(shape, &values).unwrap()
}

/// The inputs of a fixture's expected answer, in the model's order.
pub(super) fn inputs(model: &dyn LoadedModel, expected: &Value) -> Vec<Option<Tensor>> {
    let given = expected["inputs"].as_object().unwrap();
    assert!(given.keys().all(|name| model.signature().input(name).is_some()), "{given:?}");
    model.signature().inputs.iter().map(|spec| given.get(&*spec.name).map(tensor)).collect()
}

pub(super) fn all(model: &dyn LoadedModel) -> Vec<usize> {
    (0..model.signature().outputs.len()).collect()
}

/// A row of a batch of tensors.
pub(super) fn row(inputs: &[Option<Tensor>], row: usize) -> Vec<Option<Tensor>> {
    let cut = |tensor: &Tensor| {
        let rows = tensor.rows().unwrap();
        crate::tensor::split_rows(tensor, vec![1; rows]).unwrap()[row].clone().aligned()
    };
    inputs.iter().map(|input| input.as_ref().map(cut)).collect()
}

#[track_caller]
fn assert_near(got: &Tensor, expected: &Tensor, what: &str) {
    assert_near_where(got, expected, what, &|_| true);
}

/// Compares the values at the places for which `counts` holds.
#[track_caller]
pub(super) fn assert_near_where(got: &Tensor, expected: &Tensor, what: &str, counts: &dyn Fn(usize) -> bool) {
    assert_eq!(got.shape(), expected.shape(), "{what}");
    let pairs = got.view::<f32>().unwrap().iter().zip(expected.view::<f32>().unwrap());
    for (place, (got, expected)) in pairs.enumerate().filter(|(place, _)| counts(*place)) {
        let near = (got - expected).abs() <= 2e-5 + 1e-4 * expected.abs();
        assert!(near, "{what} at {place}: {got} instead of {expected}");
    }
}

/// The places of a fixture's output that are to be as expected. Padding that sees no token within its window is nobody's: there
/// transformers has the mean of all, padding too.
pub(super) fn counted(name: &str, spec: &TensorSpec, expected: &Value) -> Box<dyn Fn(usize) -> bool> {
    if !name.starts_with("modernbert") || spec.shape.as_ref().unwrap().len() != 3 {
        return Box::new(|_| true);
    }
    let mask = tensor(&expected["inputs"]["attention_mask"]);
    let each = tensor(&expected["outputs"][&*spec.name]).elements() / mask.elements();
    Box::new(move |place| mask.view::<i64>().unwrap()[place / each] != 0)
}

#[test]
fn every_architecture_answers_what_transformers_does() {
    for name in names() {
        let expected = json(&fixtures().join(&name).join("expected.json"));
        let model = loaded(&name);
        let outputs = expected["outputs"].as_object().unwrap();
        let specs = &model.signature().outputs;
        assert_eq!(specs.len(), outputs.len(), "{name}: {specs:?}");
        let answers = model.instance().unwrap().execute(&inputs(&*model, &expected), &all(&*model)).unwrap();
        for (spec, answer) in specs.iter().zip(&answers) {
            assert!(spec.accepts(answer.shape()), "{name}: {spec} {}", answer.shape());
            let what = format!("{name} {}", spec.name);
            let counts = counted(&name, spec, &expected);
            assert_near_where(answer, &tensor(&outputs[&*spec.name]), &what, &*counts);
        }
    }
}

#[test]
fn rows_of_a_batch_are_answered_as_alone_whether_tokens_are_wanted_or_not() {
    for name in names() {
        let expected = json(&fixtures().join(&name).join("expected.json"));
        let model = loaded(&name);
        let (inputs, outputs) = (inputs(&*model, &expected), all(&*model));
        let mut instance = model.instance().unwrap();
        let whole = instance.execute(&inputs, &outputs).unwrap();
        for at in 0..inputs[0].as_ref().unwrap().rows().unwrap() {
            let alone = instance.execute(&row(&inputs, at), &outputs).unwrap();
            for (alone, whole) in alone.iter().zip(&whole) {
                assert_eq!(*alone, row(&[Some(whole.clone())], at)[0].clone().unwrap(), "{name} row {at}: bit for bit");
            }
        }
        // Where no token's own values are wanted, padding is not computed at all.
        for (position, spec) in model.signature().outputs.iter().enumerate() {
            let answer = instance.execute(&inputs, &[position]).unwrap();
            assert_near(&answer[0], &whole[position], &format!("{name} {} alone", spec.name));
        }
    }
}

#[test]
fn many_rows_are_shared_out_to_threads_and_run_in_parts() {
    for name in ["bert_classifier", "modernbert", "sentences_mean"] {
        let expected = json(&fixtures().join(name).join("expected.json"));
        let [one, two] = [1, 2].map(|threads| load(&fixtures().join(name), threads).unwrap());
        let three = inputs(&*one, &expected);
        let many: Vec<_> = three
            .iter()
            .map(|input| input.as_ref().map(|input| crate::tensor::concat_rows(&vec![input; 67]).unwrap()))
            .collect();
        let outputs = all(&*one);
        let few = one.instance().unwrap().execute(&three, &outputs).unwrap();
        for model in [one, two] {
            let answers = model.instance().unwrap().execute(&many, &outputs).unwrap();
            for (answer, few) in answers.iter().zip(&few) {
                for part in crate::tensor::split_rows(answer, vec![3; 67]).unwrap() {
                    assert_eq!(&part, few, "{name}");
                }
            }
        }
    }
}

#[test]
fn inputs_that_are_left_out_are_what_transformers_takes_for_them() {
    let model = loaded("bert");
    let ids = Tensor::from_elements([1, 4].into(), &[5_i64, 6, 7, 8]).unwrap();
    let same = |value: i64| Some(Tensor::from_elements([1, 4].into(), &[value; 4]).unwrap());
    let mut instance = model.instance().unwrap();
    let bare = instance.execute(&[Some(ids.clone()), None, None], &[0]).unwrap();
    assert_eq!(instance.execute(&[Some(ids.clone()), same(1), same(0)], &[0]).unwrap(), bare);
    assert_ne!(instance.execute(&[Some(ids), same(1), same(1)], &[0]).unwrap(), bare);
}

#[test]
fn a_request_that_does_not_fit_is_told_so_and_the_instance_stays_usable() {
    let model = loaded("bert");
    let mut instance = model.instance().unwrap();
    let ids = |shape: [usize; 2], value: i64| {
        Some(Tensor::from_elements(shape.into(), &vec![value; shape[0] * shape[1]]).unwrap())
    };
    for (given, hint) in [
        (
            [ids([1, 3], 32), None, None],
            "input 'input_ids' has 32 at place 0 of row 0, expected the vocabulary's 0 to 31",
        ),
        ([ids([1, 3], -1), None, None], "input 'input_ids' has -1"),
        (
            [ids([1, 3], 4), None, ids([1, 3], 2)],
            "input 'token_type_ids' has 2 at place 0 of row 0, expected the types' 0 to 1",
        ),
        ([ids([1, 25], 4), None, None], "input 'input_ids' has rows of 25 tokens, expected 1 to 24"),
        ([ids([1, 0], 4), None, None], "input 'input_ids' has rows of 0 tokens"),
        (
            [ids([2, 3], 4), ids([1, 3], 1), None],
            "input 'attention_mask' has shape [1,3], expected that of 'input_ids', [2,3]",
        ),
    ] {
        let error = instance.execute(&given, &[0]).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidRequest, "{error}");
        assert!(error.message().contains(hint), "{error}");
        let answer = instance.execute(&[ids([1, 24], 4), None, None], &[0]).unwrap();
        assert_eq!(answer[0].shape(), &Shape::from([1, 24, 16]));
    }
    // A row that attends to nothing has an answer too, and none that spoils the others.
    let answer = instance.execute(&[ids([1, 3], 4), ids([1, 3], 0), None], &[0]).unwrap();
    assert!(answer[0].view::<f32>().unwrap().iter().all(|value| value.is_finite()));
    assert_eq!(instance.execute(&[ids([0, 3], 4), None, None], &[0]).unwrap()[0].shape(), &Shape::from([0, 3, 16]));
}

#[test]
fn an_interruption_ends_an_execution_and_not_the_next() {
    let model = loaded("bert");
    let mut instance = model.instance().unwrap();
    let interrupt = instance.interrupt().unwrap();
    let ids = Some(Tensor::from_elements([1, 3].into(), &[4_i64; 3]).unwrap());
    interrupt.interrupt();
    assert!(instance.execute(&[ids, None, None], &[0]).is_ok(), "an interruption between two executions means none");
}

/// A copy of a fixture that may be changed.
fn copy(name: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut pending = vec![(fixtures().join(name), folder.path().to_owned())];
    while let Some((from, to)) = pending.pop() {
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                pending.push((entry.path(), to));
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    folder
}

fn refusal(folder: &Path) -> String {
    let error = load(folder, 1).err().unwrap_or_else(|| panic!("{} loads", folder.display()));
    assert_eq!(error.kind(), Kind::ModelUnavailable);
    assert!(!error.message().contains('\n'), "{error}");
    error.message().to_owned()
}

#[test]
fn a_configuration_that_is_not_that_of_the_weights_is_refused_with_the_file_and_the_tensor() {
    for (key, value, hint) in [
        (
            "model_type",
            "gpt2".into(),
            "config.json: 'model_type' is 'gpt2', and the architectures served are bert, camembert",
        ),
        ("model_type", Value::Null, "config.json: has no 'model_type', expected one of bert"),
        (
            "architectures",
            vec!["BertLMHeadModel"].into(),
            "config.json: 'architectures' names \"BertLMHeadModel\", expected one of",
        ),
        (
            "hidden_size",
            32.into(),
            "model.safetensors: tensor 'embeddings.position_embeddings.weight' has shape [24, 16], and config.json asks for [24, 32]",
        ),
        ("hidden_size", "wide".into(), "config.json: 'hidden_size' is \"wide\", expected a whole number from 1"),
        ("hidden_size", 0.into(), "config.json: 'hidden_size' is 0, expected"),
        ("hidden_size", Value::Null, "config.json: has no 'hidden_size', which this architecture needs"),
        (
            "vocab_size",
            1_000_000.into(),
            "tensor 'embeddings.word_embeddings.weight' has shape [32, 16], and config.json asks for [1000000, 16]",
        ),
        (
            "num_hidden_layers",
            3.into(),
            "has no tensor 'encoder.layer.2.attention.self.query.weight', and config.json asks for one of shape [16, 16]",
        ),
        (
            "num_attention_heads",
            3.into(),
            "config.json: 'num_attention_heads' is 3, which does not divide the width of 16",
        ),
        ("hidden_act", "mish".into(), "config.json: 'hidden_act' is 'mish', one of gelu"),
        ("position_embedding_type", "relative_key".into(), "only 'absolute' is served"),
        ("is_decoder", true.into(), "config.json: 'is_decoder' is true"),
        ("pad_token_id", 32.into(), "config.json: 'pad_token_id' is 32, and 'vocab_size' 32"),
        ("architectures", vec!["BertForSequenceClassification"].into(), "has no tensor 'classifier.weight'"),
    ] {
        let folder = copy("bert");
        let path = folder.path().join("config.json");
        let mut config = json(&path);
        config[key] = value;
        fs::write(&path, config.to_string()).unwrap();
        let told = refusal(folder.path());
        assert!(told.contains(hint), "{key}: {told}");
    }
    let folder = copy("bert");
    fs::write(folder.path().join("config.json"), "[]").unwrap();
    assert!(refusal(folder.path()).contains("config.json: is a list, expected an object"));
    fs::write(folder.path().join("config.json"), "{").unwrap();
    assert!(refusal(folder.path()).contains("config.json: is not JSON"));
}

#[test]
fn files_that_are_cut_off_or_missing_are_refused_by_name() {
    let folder = copy("sentences_mean");
    let shard = folder.path().join("model-00002-of-00002.safetensors");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() - 1]).unwrap();
    assert!(refusal(folder.path()).contains("model-00002-of-00002.safetensors: has"));
    fs::remove_file(&shard).unwrap();
    assert!(refusal(folder.path()).contains("model-00002-of-00002.safetensors: cannot be read"));
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(&index, r#"{"weight_map": {"x": "../other/model.safetensors"}}"#).unwrap();
    assert!(
        refusal(folder.path())
            .contains("names the file '../other/model.safetensors', expected *.safetensors beside it")
    );
    fs::write(&index, "{}").unwrap();
    assert!(refusal(folder.path()).contains("model.safetensors.index.json: has no 'weight_map'"));
    fs::remove_file(&index).unwrap();
    assert!(load(folder.path(), 1).is_err(), "the one shard that is left is not all");
}

#[test]
fn modules_that_are_not_served_are_refused_by_name() {
    let pooling = |mode: &str| format!(r#"{{"embedding_dimension": 16, "pooling_mode": "{mode}"}}"#);
    let module =
        |kind: &str, path: &str| format!(r#"{{"type": "sentence_transformers.models.{kind}", "path": "{path}"}}"#);
    let base = module("Transformer", "");
    for (modules, mode, hint) in [
        (
            format!("[{base}, {}]", module("Pooling", "1_Pooling")),
            "lasttoken",
            "pooling 'lasttoken' is not served, cls, max, mean",
        ),
        (format!("[{base}, {}]", module("Pooling", "../p")), "mean", "the path '../p' leads out of the model's folder"),
        (
            format!("[{base}, {}]", module("WordWeights", "1_Pooling")),
            "mean",
            "'WordWeights' is not served at its place",
        ),
        (format!("[{}]", module("Pooling", "1_Pooling")), "mean", "its first module has to be a Transformer"),
        ("{}".into(), "mean", "is no list of modules"),
        ("[]".into(), "mean", "lists no modules"),
    ] {
        let folder = copy("sentences_mean");
        fs::write(folder.path().join("modules.json"), modules).unwrap();
        fs::write(folder.path().join("1_Pooling/config.json"), pooling(mode)).unwrap();
        let told = refusal(folder.path());
        assert!(told.contains(hint), "{told}");
    }
    // As newer versions write it, with two of them: one behind the other.
    let folder = copy("sentences_mean");
    let both = r#"{"embedding_dimension": 16, "pooling_mode": ["cls", "mean"]}"#;
    fs::write(folder.path().join("1_Pooling/config.json"), both).unwrap();
    let model = load(folder.path(), 1).unwrap();
    assert_eq!(model.signature().output("embedding").unwrap().1.to_string(), "embedding FP32[-1,32]");
    fs::remove_file(folder.path().join("modules.json")).unwrap();
    assert!(load(folder.path(), 1).unwrap().signature().output("embedding").is_none(), "nothing is guessed");
}

#[test]
fn the_memory_of_a_model_is_at_least_that_of_its_weights_in_fp32() {
    for name in ["bert", "bert_masked", "modernbert", "vit"] {
        let model = loaded(name);
        let parameters: usize = checkpoint::Checkpoint::open(&fixtures().join(name)).unwrap().parameters();
        // Panels are of 32 columns, of which these have half as many or fewer; norms are not counted.
        let bytes = model.bytes().unwrap() as usize;
        assert!((parameters * 3..parameters * 10).contains(&bytes), "{name}: {bytes} for {parameters} parameters");
    }
}

#[test]
fn labels_and_padding_come_from_the_configuration() {
    let model = loaded("xlm_roberta_classifier");
    assert_eq!(model.labels(0), ["sad", "so so", "glad"]);
    let pads = model.pads();
    assert_eq!(pads[0].as_ref().unwrap().element.as_slice(), 1_i64.to_le_bytes(), "RoBERTa's padding is 1");
    assert!(pads.iter().flatten().all(|pad| pad.is_needed), "without a mask nothing is padded");
    assert!(!loaded("bert").pads()[2].as_ref().unwrap().is_needed, "types are left out by most");
    assert!(loaded("vit").pads().iter().all(Option::is_none));
}
