//! The signature of every fixture that loads, as one line: `?` marks an input that may be left out, `_` a dynamic dimension
//! without a name, `[..]` an unknown rank.

use tensorgate::model::{Dim, Signature, TensorSpec};
use tensorgate::tensor::DataType;

use super::engine::Engine;
use super::gaps::{self, settle};

const SIGNATURES: &[(&str, &str)] = &[
    ("scalar", "x FP32 [] -> y FP32 []"),
    ("fixed_batch", "x FP32 [1,3] -> y FP32 [1,3]"),
    ("no_shape_input", "x FP32 [..] -> y FP32 [..]"),
    ("unknown_rank", "x FP32 [n], shape INT64 [rank] -> y FP32 [..]"),
    ("sum_sequence", "x FP32 [batch,sequence] -> sum FP32 [batch]"),
    ("sum_all", "x FP32 [batch,3] -> total FP32 []"),
    ("reshape_flat", "x FP32 [batch,3] -> y FP32 [elements]"),
    ("concat_sequences", "left INT32 [batch,l], right INT32 [batch,r] -> both INT32 [batch,l + r]"),
    ("odd_dimension_names", "x FP32 [batch-size,_,4] -> y FP32 [batch-size,_,4]"),
    ("inner_shape_note", "x FP32 [batch,2] -> y FP32 [batch,2]"),
    ("two_inputs", "a FP32 [batch,2], b INT64 [batch,2] -> y FP32 [batch,2]"),
    ("optional_input", "x FP32 [batch,3], bias? FP32 [3] -> y FP32 [batch,3]"),
    ("optional_target_shape", "x FP32 [batch,4], target? INT64 [3] -> y FP32 [batch,2,2]"),
    ("optional_tensor", "x FP32 [batch,2] -> y FP32 [batch,2]"),
    (
        "many_outputs",
        "x FP32 [batch,2] -> doubled FP32 [batch,2], total FP32 [batch], largest INT64 [batch], positive BOOL [batch,2], \
         wide FP64 [batch,2], shape INT64 [2]",
    ),
    ("batch_mean", "x FP32 [batch,2] -> y FP32 [batch,2]"),
    ("gather_rows", "index INT64 [batch] -> y FP32 [batch,2]"),
    ("gather_columns", "index INT64 [columns] -> y FP32 [2,columns]"),
    ("loads_but_cannot_run", "x FP32 [1,4] -> y FP32 [1,4]"),
    ("slow", "x FP32 [batch,1] -> y FP32 [batch,1]"),
    (
        "masked_encoder",
        "input_ids INT64 [batch,sequence], attention_mask INT64 [batch,sequence] -> tokens FP32 [batch,sequence,4], \
         pooled FP32 [batch,4]",
    ),
    ("unmasked_mean", "input_ids INT64 [batch,sequence] -> mean FP32 [batch,4]"),
    ("sequence_input", "x FP32 [..] -> y FP32 [n]"),
    ("sequence_output", "x FP32 [batch,n], z FP32 [batch,m] -> y FP32 [..]"),
    ("float8_input", "x UINT8 [batch,2] -> y FP32 [batch,2]"),
    (
        "bert",
        "input_ids INT64 [batch,sequence], attention_mask? INT64 [batch,sequence], token_type_ids? INT64 [batch,sequence] -> \
         last_hidden_state FP32 [batch,sequence,16]",
    ),
    (
        "xlm_roberta_classifier",
        "input_ids INT64 [batch,sequence], attention_mask? INT64 [batch,sequence] -> logits FP32 [batch,3]",
    ),
    (
        "distilbert_tagger",
        "input_ids INT64 [batch,sequence], attention_mask? INT64 [batch,sequence] -> logits FP32 [batch,sequence,3]",
    ),
    (
        "modernbert_masked",
        "input_ids INT64 [batch,sequence], attention_mask? INT64 [batch,sequence] -> logits FP32 [batch,sequence,32]",
    ),
    (
        "sentences_first",
        "input_ids INT64 [batch,sequence], attention_mask? INT64 [batch,sequence] -> last_hidden_state FP32 \
         [batch,sequence,16], embedding FP32 [batch,16]",
    ),
    ("vit", "pixel_values FP32 [batch,3,12,12] -> last_hidden_state FP32 [batch,10,16]"),
    ("vit_classifier", "pixel_values FP32 [batch,3,12,12] -> logits FP32 [batch,3]"),
    ("image_total", "image FP32 [batch,height,width] -> bright FP32 [batch,height,width], total FP32 [batch]"),
];

/// Names, datatypes, dimensions and their names, in order.
pub(crate) fn signatures_are_what_the_files_state(engine: &Engine) {
    let identities = DataType::ALL.map(|datatype| {
        let fixture = format!("identity_{}", datatype.name().to_lowercase());
        (fixture, format!("x {datatype} [batch,n] -> y {datatype} [batch,n]"))
    });
    let stated = SIGNATURES.iter().map(|&(fixture, line)| (fixture.to_owned(), line.to_owned()));
    let check = |(fixture, expected): (String, String)| {
        let outcome = match engine.load(&fixture)? {
            Err(error) => Err(format!("does not load: {error}")),
            Ok(model) => match line(model.signature()) {
                line if line == expected => Ok(()),
                line => Err(format!("{line}, expected {expected}")),
            },
        };
        Some((fixture, outcome))
    };
    settle(engine.name(), gaps::SIGNATURES, identities.into_iter().chain(stated).filter_map(check).collect());
}

fn line(signature: &Signature) -> String {
    let side = |specs: &[TensorSpec]| specs.iter().map(spec).collect::<Vec<_>>().join(", ");
    format!("{} -> {}", side(&signature.inputs), side(&signature.outputs))
}

fn spec(spec: &TensorSpec) -> String {
    let dim = |dim: &Dim| match dim {
        Dim::Fixed(size) => size.to_string(),
        Dim::Dynamic(Some(name)) => name.to_string(),
        Dim::Dynamic(None) => "_".into(),
    };
    let dims = match &spec.shape {
        Some(dims) => dims.iter().map(dim).collect::<Vec<_>>().join(","),
        None => "..".into(),
    };
    format!("{}{} {} [{dims}]", spec.name, if spec.optional { "?" } else { "" }, spec.datatype)
}
