use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::folder::{Activation, Folder, Shorter};
use super::form::Form;
use super::pooling::{Pooling, normalize};
use super::tokenizer::{Tokenizer, Tokens};
use super::*;
use crate::error::{Kind, Result};
use crate::infer::texts::{EMBEDDING, LABEL, TAGS, TEXT};
use crate::infer::{InferRequest, NamedTensor, ParameterValue};
use crate::model::{Dim, Signature, TensorSpec};
use crate::tensor::{DataType, Tensor};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text").join(name)
}

fn folder_of(name: &str) -> Folder {
    Folder::find([fixture(name).as_path()]).unwrap().unwrap()
}

fn spec(name: &str, datatype: DataType, shape: &[i64]) -> TensorSpec {
    TensorSpec::new(name, datatype, shape.iter().map(|&dim| Dim::from_wire(dim)))
}

/// A model of tokens, rows of `length` each, with these outputs.
fn signature(length: i64, outputs: &[(&str, &[i64])]) -> Signature {
    let inputs = ["input_ids", "attention_mask"].map(|name| spec(name, DataType::Int64, &[-1, length]));
    let outputs = outputs.iter().map(|(name, shape)| spec(name, DataType::Fp32, shape)).collect();
    Signature { inputs: inputs.into(), outputs }
}

const HIDDEN: &[(&str, &[i64])] = &[("last_hidden_state", &[-1, -1, 2])];

/// A folder with the tokenizer of the fixtures and these files.
fn written(files: &[(&str, Value)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture("encoder/tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content.to_string()).unwrap();
    }
    folder
}

fn read(files: &[(&str, Value)]) -> Result<Folder> {
    let read = Folder::find([written(files).path()]).map(Option::unwrap)?;
    // The folder goes now.
    Ok(Folder { tokenizer: fixture("encoder/tokenizer.json"), ..read })
}

fn encode(tokenizer: &Tokenizer, text: &str, pair: Option<&str>, truncate: bool) -> Result<Tokens> {
    let pair = pair.map(|pair| tokenizer.alone(pair, false)).transpose()?;
    tokenizer.join(tokenizer.alone(text, false)?, pair, truncate, false)
}

#[test]
fn how_long_a_text_may_be_is_what_sentence_transformers_goes_by() {
    let tokenizer = |length: Value| ("tokenizer_config.json", json!({ "model_max_length": length }));
    let sentence = ("sentence_bert_config.json", json!({ "max_seq_length": 20 }));
    let config = |more: Value| ("config.json", more);
    for (files, expected) in [
        // The tokenizer's own, where nothing else says so.
        (vec![], 4),
        (vec![tokenizer(json!(30))], 30),
        (vec![tokenizer(json!(1e30))], 4),
        (vec![tokenizer(json!(30)), sentence.clone()], 20),
        (vec![sentence, config(json!({ "max_position_embeddings": 10 }))], 10),
        (
            vec![
                tokenizer(json!(30)),
                config(json!({ "max_position_embeddings": 14, "model_type": "roberta", "pad_token_id": 1 })),
            ],
            12,
        ),
    ] {
        let tokenizer = Tokenizer::read(&read(&files).unwrap()).unwrap();
        assert_eq!(tokenizer.tokens_max(), expected, "{files:?}");
    }
}

#[test]
fn files_say_what_outputs_mean() {
    let config = |more: Value| read(&[("config.json", more)]).unwrap();
    assert_eq!(config(json!({ "id2label": { "1": "b", "0": "a", "3": "d" } })).labels, ["a", "b"]);
    let activation = |more: Value| config(more).activation;
    assert_eq!(activation(json!({ "problem_type": "multi_label_classification" })), Some(Activation::Sigmoid));
    let identity = "torch.nn.modules.linear.Identity";
    assert_eq!(activation(json!({ "sbert_ce_default_activation_function": identity })), Some(Activation::None));
    assert_eq!(activation(json!({ "sentence_transformers": { "activation_fn": identity } })), Some(Activation::None));
    assert_eq!(config(json!({ "is_matryoshka": true })).shorter, Shorter::Any);
    assert_eq!(config(json!({ "matryoshka_dimensions": [64, 128] })).shorter, Shorter::Of(vec![64, 128]));
    let modules = json!([{ "path": "p", "type": "sentence_transformers.models.Pooling" }, { "type": "x.Dense" }]);
    let read =
        read(&[("modules.json", modules), ("p/config.json", json!({ "pooling_mode": ["cls", "mean"] }))]).unwrap();
    assert_eq!(read.pooling, Some(vec![Pooling::First, Pooling::Mean]));
    assert!(!read.normalize && read.unserved.as_deref() == Some("Dense"));
    let outside = json!([{ "path": "../p", "type": "sentence_transformers.models.Pooling" }]);
    assert!(Folder::find([written(&[("modules.json", outside)]).path()]).unwrap_err().message().contains("outside"));
    assert!(Folder::find([Path::new("/nowhere")]).unwrap().is_none());
    // Members of other types than usual are as if they were not there.
    let odd =
        config(json!({ "pad_token_id": [1, 2], "id2label": ["a"], "vocab_size": "many", "architectures": "Bert" }));
    assert_eq!((odd.pad_id, odd.labels.len(), odd.vocabulary, odd.architecture), (None, 0, None, None));
}

#[test]
fn the_task_follows_from_the_outputs_and_the_architecture() {
    let of = |outputs: &[(&str, &[i64])], config: Value| {
        let folder = read(&[("config.json", config)]).unwrap();
        let form = Form::of(&signature(-1, outputs), &folder)?;
        Ok::<_, String>(form.signature().outputs[0].name.to_string())
    };
    let named = |architecture: &str| json!({ "architectures": [architecture] });
    let none = || json!({});
    let pooled: &[i64] = &[-1, 2];
    let tokens: &[i64] = &[-1, -1, 2];
    for (outputs, config, expected) in [
        (&[("last_hidden_state", tokens), ("pooler_output", pooled)][..], none(), EMBEDDING),
        (&[("sentence_embedding", pooled)], none(), EMBEDDING),
        (&[("token_embeddings", tokens), ("sentence_embedding", pooled)], none(), EMBEDDING),
        (&[("logits", pooled)], none(), LABEL),
        (&[("output_0", pooled)], named("BertForSequenceClassification"), LABEL),
        (&[("logits", tokens)], named("BertForTokenClassification"), TAGS),
        (&[("1234", tokens)], named("BertModel"), EMBEDDING),
    ] {
        assert_eq!(of(outputs, config.clone()).as_deref(), Ok(expected), "{outputs:?} {config}");
    }
    for (outputs, config, said) in [
        (&[("logits", tokens)][..], none(), "none of its outputs"),
        (&[("logits", tokens)], named("BertForMaskedLM"), "none of its outputs"),
        (&[("logits", pooled)], named("BertForTokenClassification"), "no output 'logits' of rank 3"),
    ] {
        assert!(of(outputs, config).unwrap_err().contains(said));
    }
    let image = Signature { inputs: vec![spec("pixels", DataType::Fp32, &[-1, 3])], outputs: vec![] };
    assert!(Form::of(&image, &folder_of("encoder")).unwrap_err().contains("its input pixels FP32[-1,3] is none of"));
}

#[test]
fn vectors_are_pooled_in_every_way() {
    let tokens = [1.0, -1.0, 2.0, 5.0, 6.0, 2.0];
    for (pooling, expected) in [
        (Pooling::First, [1.0, -1.0]),
        (Pooling::Last, [6.0, 2.0]),
        (Pooling::Max, [6.0, 5.0]),
        (Pooling::Mean, [3.0, 2.0]),
        (Pooling::MeanSqrt, [9.0 / 3_f32.sqrt(), 6.0 / 3_f32.sqrt()]),
        (Pooling::WeightedMean, [23.0 / 6.0, 15.0 / 6.0]),
    ] {
        let mut out = vec![7.0];
        pooling.pool(&tokens, 2, &mut out);
        assert!(
            out.len() == 3 && (out[1] - expected[0]).abs() < 1e-6 && (out[2] - expected[1]).abs() < 1e-6,
            "{pooling:?}: {out:?}"
        );
    }
    let mut vector = [3.0, 4.0];
    normalize(&mut vector);
    assert_eq!(vector, [0.6, 0.8]);
    let mut nothing = [0.0, 0.0];
    normalize(&mut nothing);
    assert_eq!(nothing, [0.0, 0.0]);
}

#[test]
fn what_is_too_long_loses_its_end_or_start_or_is_refused_with_its_count() {
    let tokenizer = Tokenizer::read(&folder_of("encoder")).unwrap();
    let whole = encode(&tokenizer, "hello world paris", None, false).unwrap();
    assert_eq!((whole.ids, whole.types), (vec![2, 87, 88, 91, 3], vec![0; 5]));
    let pair = encode(&tokenizer, "hello", Some("world paris"), false).unwrap();
    assert_eq!((pair.ids, pair.types), (vec![2, 87, 3, 88, 91, 3], vec![0, 0, 0, 1, 1, 1]));
    let short = tokenizer.of_length(Some(4));
    assert_eq!(encode(&short, "hello world paris", None, true).unwrap().ids, [2, 87, 88, 3]);
    let error = encode(&short, "hello world paris", None, false).err().unwrap();
    assert_eq!(
        (error.kind(), error.message()),
        (Kind::InvalidRequest, "it has 5 tokens, the model takes at most 4 ('truncate' is false)")
    );
    // The longer of a pair loses first.
    let pair = encode(&tokenizer.of_length(Some(6)), "hello", Some("world paris anna"), true).unwrap();
    assert_eq!(pair.ids, [2, 87, 3, 88, 91, 3]);
    assert!(encode(&tokenizer.of_length(Some(3)), "a", Some("b"), true).err().unwrap().message().contains("too few"));
    let left = read(&[("tokenizer_config.json", json!({ "model_max_length": 4, "truncation_side": "left" }))]).unwrap();
    let left = Tokenizer::read(&left).unwrap();
    assert_eq!(encode(&left, "hello world paris", None, true).unwrap().ids, [2, 88, 91, 3]);
    // Of a text that is far too long only that end is looked at which stays.
    let endless = format!("paris {} anna", "hello ".repeat(100_000));
    assert_eq!(encode(&short, &endless, None, true).unwrap().ids, [2, 91, 87, 3]);
    assert_eq!(encode(&left, &endless, None, true).unwrap().ids, [2, 87, 92, 3]);
    let error = encode(&short, &endless, None, false).err().unwrap();
    assert!(error.message().starts_with("it has at least "), "{error}");
    assert_eq!(encode(&short, &"é".repeat(5_000), None, true).unwrap().ids.len(), 3);
}

#[test]
fn token_ids_are_taken_as_they_are() {
    let tokenizer = Tokenizer::read(&folder_of("encoder")).unwrap().of_length(Some(4));
    let given = |ids: &[u32], truncate: bool| {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        tokenizer.given(&bytes, truncate).map(|tokens| tokens.ids)
    };
    assert_eq!(given(&[5, 95, 0], false).unwrap(), [5, 95, 0]);
    assert_eq!(given(&[1, 2, 3, 4, 5], true).unwrap(), [1, 2, 3, 4]);
    for (ids, said) in [
        (&[1, 2, 3, 4, 5][..], "has 5 tokens"),
        (&[96], "96 is no token of the model, expected 0 to 95"),
        (&[], "0 bytes"),
    ] {
        assert!(given(ids, false).unwrap_err().message().contains(said));
    }
    assert!(tokenizer.given(&[1, 2, 3], true).is_err());
}

#[test]
fn inputs_of_one_length_are_filled_up_behind_a_mask() {
    let folder = folder_of("encoder");
    let form = Form::of(&signature(5, HIDDEN), &folder).unwrap();
    let tokens = |ids: &[u32]| Tokens { ids: ids.to_vec(), types: vec![0; ids.len()], ..Tokens::default() };
    let groups = form.groups(vec![tokens(&[7, 8, 9]), tokens(&[7]), tokens(&[4, 5, 6])]).unwrap();
    assert_eq!(
        groups.iter().map(Group::rows).collect::<Vec<_>>(),
        [1, 2],
        "the shortest first, those of one length together"
    );
    let values = |at: usize, input: usize| groups[at].inputs[input].as_ref().unwrap().view::<i64>().unwrap().to_vec();
    assert_eq!((values(1, 0), values(1, 1)), (vec![7, 8, 9, 0, 0, 4, 5, 6, 0, 0], vec![1, 1, 1, 0, 0, 1, 1, 1, 0, 0]));
    // What stands behind a text's tokens is left out of its vector.
    let hidden: Vec<f32> = (0..10).map(|at| if at < 2 { 3.0 } else { 100.0 }).collect();
    let output = Tensor::from_elements([1, 5, 2].into(), &hidden).unwrap();
    let [first, second] = <[Group; 2]>::try_from(groups).unwrap();
    let first = form.reduce(first, &output, None).unwrap();
    let second =
        form.reduce(second, &Tensor::from_elements([2, 5, 2].into(), &[1_f32, 0.0].repeat(10)).unwrap(), None).unwrap();
    let vectors = form.assemble(3, vec![first, second], &[0]).unwrap().remove(0);
    let half = 0.5_f32.sqrt();
    let near = |(given, expected): (&f32, f32)| (given - expected).abs() < 1e-6;
    let vectors = vectors.view::<f32>().unwrap();
    assert!(vectors.iter().zip([1.0, 0.0, half, half, 1.0, 0.0]).all(near), "{vectors:?}");
}

#[test]
fn an_output_that_is_not_as_promised_is_the_runtimes_fault() {
    let form = Form::of(&signature(-1, HIDDEN), &folder_of("encoder")).unwrap();
    for shape in [vec![1, 2, 2], vec![2, 1, 2], vec![1, 2], vec![1, 1, 0]] {
        let group = form.groups(vec![Tokens { ids: vec![1], types: vec![0], ..Tokens::default() }]).unwrap().remove(0);
        let count = shape.iter().product();
        let output = Tensor::from_elements(shape.as_slice().into(), &vec![1_f32; count]).unwrap();
        assert_eq!(form.reduce(group, &output, None).err().unwrap().kind(), Kind::Execution, "{shape:?}");
    }
}

fn request(text: &str) -> InferRequest {
    let text = Tensor::from_byte_strings([1].into(), &[text]).unwrap();
    InferRequest { inputs: [NamedTensor::new(TEXT, text)].into_iter().collect(), ..InferRequest::default() }
}

#[tokio::test]
async fn a_face_without_its_tokenizer_says_that_it_is_not_in_memory() {
    let beside = Beside::find([fixture("encoder").as_path()]).unwrap().unwrap();
    let face = TextFace::of(&beside, &signature(-1, HIDDEN), &Arc::new(Pool::new(1))).unwrap();
    let asked = face.take(&mut request("hello")).unwrap();
    assert_eq!(face.tokens(&asked).await.unwrap()[0].ids, [2, 87, 3]);
    // Long enough for the pool.
    let asked = face.take(&mut request(&"hello ".repeat(500))).unwrap();
    assert_eq!(face.tokens(&asked).await.unwrap()[0].ids.len(), 32);
    let error = face.paged_out().tokens(&asked).await.unwrap_err();
    assert_eq!(error.kind(), Kind::ModelUnavailable);
}

#[tokio::test]
async fn texts_of_more_tokens_than_may_be_held_are_refused() {
    let beside = Beside::find([fixture("encoder").as_path()]).unwrap().unwrap();
    let face = TextFace::of(&beside, &signature(-1, HIDDEN), &Arc::new(Pool::new(1))).unwrap();
    let mut many = request("a");
    many.inputs[0].tensor = Tensor::from_byte_strings([2049].into(), &vec!["a"; 2049]).unwrap();
    assert_eq!(face.take(&mut many).err().unwrap().kind(), Kind::TooLarge);
    let mut odd = request("a");
    odd.parameters.set("dimensions", ParameterValue::String("8".into()));
    assert!(face.take(&mut odd).err().unwrap().message().contains("expected a whole number"));
}

proptest! {
    #[test]
    fn any_text_becomes_as_many_tokens_as_the_model_takes(text in "\\PC{0,200}", pair in proptest::option::of("\\PC{1,60}"), most in 5_usize..40) {
        let tokenizer = Tokenizer::read(&folder_of("encoder")).unwrap().of_length(Some(most));
        let whole = encode(&tokenizer, &text, pair.as_deref(), true).unwrap();
        prop_assert!(whole.ids.len() <= tokenizer.tokens_max() && whole.types.len() == whole.ids.len());
        prop_assert!(whole.ids.iter().all(|&id| id < 96));
        prop_assert_eq!((whole.ids[0], whole.ids[whole.ids.len() - 1]), (2, 3));
        // Without truncation it is the same, or refused.
        if let Ok(same) = encode(&tokenizer, &text, pair.as_deref(), false) {
            prop_assert_eq!(same, whole);
        }
    }
}
