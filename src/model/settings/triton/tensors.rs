//! `input` and `output` of a `config.pbtxt`.

use super::fields::{Fields, Notes, boolean, choice, integer, text};
use crate::model::Dim;
use crate::model::pbtxt::Value;
use crate::model::settings::{TensorDeclaration, inner_file};
use crate::tensor::DataType;

/// Triton's names and numbers of datatypes.
const DATATYPES: [(&str, i128, DataType); 14] = [
    ("TYPE_BOOL", 1, DataType::Bool),
    ("TYPE_UINT8", 2, DataType::Uint8),
    ("TYPE_UINT16", 3, DataType::Uint16),
    ("TYPE_UINT32", 4, DataType::Uint32),
    ("TYPE_UINT64", 5, DataType::Uint64),
    ("TYPE_INT8", 6, DataType::Int8),
    ("TYPE_INT16", 7, DataType::Int16),
    ("TYPE_INT32", 8, DataType::Int32),
    ("TYPE_INT64", 9, DataType::Int64),
    ("TYPE_FP16", 10, DataType::Fp16),
    ("TYPE_FP32", 11, DataType::Fp32),
    ("TYPE_FP64", 12, DataType::Fp64),
    ("TYPE_STRING", 13, DataType::Bytes),
    ("TYPE_BF16", 14, DataType::Bf16),
];

/// The declared inputs, for the model's `max_batch_size`.
pub(super) fn inputs(root: &mut Fields<'_>, max_batch: Option<usize>, notes: &mut Notes) -> Vec<TensorDeclaration> {
    let mut inputs = Vec::new();
    for mut fields in root.nested_each("input", notes) {
        let optional = fields.read("optional", notes, boolean).unwrap_or(false);
        fields.ignore("format", notes, "not used: the order of dimensions is as 'dims' has it");
        if fields.read("allow_ragged_batch", notes, boolean) == Some(true) {
            let message = "not supported: only requests with equal shapes are joined in a batch";
            fields.warn("allow_ragged_batch", notes, message);
        }
        if let Some(tensor) = tensor(fields, max_batch, notes) {
            inputs.push(TensorDeclaration { optional, ..tensor });
        }
    }
    inputs
}

/// The declared outputs, for the model's `max_batch_size`.
pub(super) fn outputs(root: &mut Fields<'_>, max_batch: Option<usize>, notes: &mut Notes) -> Vec<TensorDeclaration> {
    let mut outputs = Vec::new();
    for mut fields in root.nested_each("output", notes) {
        let labels = fields.read("label_filename", notes, |value| match text(value)? {
            "" => Ok(None),
            file => inner_file(file).map(Some),
        });
        if let Some(tensor) = tensor(fields, max_batch, notes) {
            outputs.push(TensorDeclaration { labels: labels.flatten(), ..tensor });
        }
    }
    outputs
}

/// The fields that inputs and outputs share.
fn tensor(mut fields: Fields<'_>, max_batch: Option<usize>, notes: &mut Notes) -> Option<TensorDeclaration> {
    let name = fields.read("name", notes, text).filter(|name| !name.is_empty());
    if name.is_none() {
        fields.fault("name", notes, "missing: the name that the model file has for it");
    }
    let datatype = fields.read("data_type", notes, |value| choice(value, &DATATYPES));
    let mut dims = fields.read_each("dims", notes, dim);
    let mut declared = fields.has("dims");
    for name in ["is_shape_tensor", "is_non_linear_format_io"] {
        fields.ignore(name, notes, "not used: it is TensorRT's");
    }
    if let Some(mut reshape) = fields.nested("reshape", notes) {
        let shape = reshape.read_each("shape", notes, dim);
        reshape.finish(notes);
        if shape != dims {
            // What the model takes is what requests must bring, since nothing reshapes in between.
            fields.warn(
                "reshape",
                notes,
                "not applied: requests and responses have the model's own shape, without the reshape",
            );
            (dims, declared) = (shape, true);
        }
    }
    fields.finish(notes);
    let batched = max_batch.is_some_and(|most| most > 0);
    // With a batch size, Triton counts rows in front of `dims`.
    let shape = declared.then(|| batched.then_some(Dim::ANY).into_iter().chain(dims).collect());
    let name = name?.to_owned();
    Some(TensorDeclaration { name, datatype, shape, rows_open: !batched, optional: false, pad: None, labels: None })
}

fn dim(value: &Value) -> Result<Dim, String> {
    match integer(value) {
        Some(-1) => Ok(Dim::ANY),
        Some(size @ 1..) => i64::try_from(size).map(Dim::from_wire).map_err(|_| format!("{size} is too large")),
        _ => Err("expected a size of at least 1, or -1 for any".to_owned()),
    }
}
