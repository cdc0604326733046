//! An ONNX file: what it declares, and whether tract has what it needs.
//!
//! The signature comes from the file, not from tract's analysis, so that names, order and dimension names are those that
//! any other ONNX engine reports.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use tract_onnx::Onnx;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::{Framework, IntoTValue, TValue, TractResult};
use tract_onnx::tensor::load_tensor;
use tract_onnx::tract_hir::internal::{TractErrorContext as _, bail, ensure, format_err};

use super::value::datum_type;
use crate::model::{Dim, Signature, TensorSpec};
use crate::tensor::DataType;

/// The first IR version in which an initializer may exist without being an input, and so the first in which one that is an
/// input means a default that callers may override (ONNX IR.md, "Graphs"). Before, every weight was listed as an input.
const IR_VERSION_WITH_DEFAULTS: i64 = 4;

/// How many missing operators an error names.
const OPERATORS_NAMED_MAX: usize = 5;

/// A decoded model with its signature.
pub(super) struct Graph {
    pub(super) proto: ModelProto,
    /// Where external weights lie.
    pub(super) directory: Option<String>,
    pub(super) signature: Signature,
    /// By input of the signature: the value of an optional one that is left out.
    pub(super) defaults: Vec<Option<TValue>>,
    /// The initializers behind `defaults`, taken out of the graph so that tract sees inputs in their place.
    taken: Vec<TensorProto>,
}

impl Graph {
    /// Reads `path` and checks that it is a model of tensors with operators that tract has.
    ///
    /// The file is read, not mapped: a model that is overwritten while it loads must not kill the process.
    pub(super) fn read(path: &Path) -> TractResult<Self> {
        let onnx = tract_onnx::onnx();
        let mut file = File::open(path).context("the file cannot be read")?;
        let mut proto = onnx.proto_model_for_read(&mut file).context("the file is no ONNX model")?;
        let directory = path.parent().and_then(Path::to_str).map(str::to_owned);
        let overridable = proto.ir_version >= IR_VERSION_WITH_DEFAULTS;
        let graph = proto.graph.as_mut().context("the file is no ONNX model: it holds no graph")?;
        let mut inputs = required_inputs(graph)?;
        let outputs = specs(&graph.output, "output")?;
        ensure!(!outputs.is_empty(), "the graph has no outputs");
        check_operators(graph, &onnx)?;
        let mut defaults: Vec<Option<TValue>> = inputs.iter().map(|_| None).collect();
        let mut taken = Vec::new();
        if overridable {
            let optional = |name: &str| graph.initializer.iter().any(|initializer| initializer.name == name);
            for info in graph.input.iter().filter(|input| optional(&input.name)) {
                inputs.push(TensorSpec { optional: true, ..spec(info, "input")? });
            }
            let mut values = Vec::with_capacity(inputs.len() - defaults.len());
            for input in &inputs[defaults.len()..] {
                let at = graph.initializer.iter().position(|initializer| *initializer.name == *input.name);
                taken.push(graph.initializer.remove(at.context("an initializer is listed as an input twice")?));
                let value = load_tensor(&*onnx.provider, &taken[taken.len() - 1], directory.as_deref())?;
                values.push(Some(value.into_tvalue()));
            }
            defaults.extend(values);
            required_first(graph, &inputs);
        }
        Ok(Self { directory, signature: Signature { inputs, outputs }, defaults, taken, proto })
    }

    /// Makes constants of the optional inputs again; false where there is none.
    pub(super) fn fix_defaults(&mut self) -> bool {
        let Some(graph) = self.proto.graph.as_mut() else {
            return false;
        };
        if self.taken.is_empty() {
            return false;
        }
        graph.initializer.append(&mut self.taken);
        self.signature.inputs.retain(|input| !input.optional);
        self.defaults.truncate(self.signature.inputs.len());
        true
    }
}

/// Sorts the graph's inputs as the signature has them: required first, then optional ones, as ONNX Runtime does.
fn required_first(graph: &mut GraphProto, inputs: &[TensorSpec]) {
    let position = |info: &ValueInfoProto| inputs.iter().position(|input| *input.name == *info.name);
    graph.input.sort_by_key(position);
}

fn required_inputs(graph: &GraphProto) -> TractResult<Vec<TensorSpec>> {
    let has_default = |name: &str| graph.initializer.iter().any(|initializer| initializer.name == name);
    graph.input.iter().filter(|input| !has_default(&input.name)).map(|input| spec(input, "input")).collect()
}

fn specs(infos: &[ValueInfoProto], role: &str) -> TractResult<Vec<TensorSpec>> {
    infos.iter().map(|info| spec(info, role)).collect()
}

fn spec(info: &ValueInfoProto, role: &str) -> TractResult<TensorSpec> {
    let name = &info.name;
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|info| info.value.as_ref()) else {
        bail!(
            "{role} '{name}' is no tensor (a sequence, map, optional or sparse tensor), and only tensors can be served"
        )
    };
    let datatype = datatype(tensor.elem_type).with_context(|| {
        let onnx = OnnxType::try_from(tensor.elem_type).map_or("unknown".into(), |onnx| format!("{onnx:?}"));
        format!("{role} '{name}' has the datatype {onnx}, which is no V2 datatype")
    })?;
    ensure!(datum_type(datatype).is_some(), "{role} '{name}' is {datatype}, a datatype that tract lacks");
    let dims = tensor.shape.as_ref().map(|shape| {
        let dim = |value: Option<&DimValue>| match value {
            Some(DimValue::DimValue(size)) => Dim::from_wire(*size),
            // Exporters write "?" for unknown: it is no name that would make two dimensions equal.
            Some(DimValue::DimParam(name)) if !name.is_empty() && name != "?" => {
                Dim::Dynamic(Some(name.as_str().into()))
            }
            _ => Dim::ANY,
        };
        shape.dim.iter().map(|d| dim(d.value.as_ref())).collect()
    });
    Ok(TensorSpec { name: name.as_str().into(), datatype, shape: dims, optional: false })
}

/// The V2 datatype of ONNX's `TensorProto.DataType` number.
fn datatype(number: i32) -> Option<DataType> {
    Some(match OnnxType::try_from(number).ok()? {
        OnnxType::Bool => DataType::Bool,
        OnnxType::Uint8 => DataType::Uint8,
        OnnxType::Uint16 => DataType::Uint16,
        OnnxType::Uint32 => DataType::Uint32,
        OnnxType::Uint64 => DataType::Uint64,
        OnnxType::Int8 => DataType::Int8,
        OnnxType::Int16 => DataType::Int16,
        OnnxType::Int32 => DataType::Int32,
        OnnxType::Int64 => DataType::Int64,
        OnnxType::Float16 => DataType::Fp16,
        OnnxType::Bfloat16 => DataType::Bf16,
        OnnxType::Float => DataType::Fp32,
        OnnxType::Double => DataType::Fp64,
        OnnxType::String => DataType::Bytes,
        _ => return None,
    })
}

/// Names operators that tract lacks before it would fail on the first of them with half a page.
fn check_operators(graph: &GraphProto, onnx: &Onnx) -> TractResult<()> {
    let mut missing = BTreeSet::new();
    collect_missing(graph, onnx, &mut missing);
    if missing.is_empty() {
        return Ok(());
    }
    let (count, named) = (missing.len(), missing.into_iter().take(OPERATORS_NAMED_MAX).collect::<Vec<_>>().join(", "));
    let rest = if count > OPERATORS_NAMED_MAX { ", ..." } else { "" };
    Err(format_err!("it lacks the operator{} {named}{rest}", if count == 1 { "" } else { "s" }))
}

fn collect_missing(graph: &GraphProto, onnx: &Onnx, missing: &mut BTreeSet<String>) {
    for node in &graph.node {
        if !onnx.op_register.0.contains_key(&node.op_type) {
            let domain = if node.domain.is_empty() { String::new() } else { format!("{}.", node.domain) };
            missing.insert(format!("{domain}{}", node.op_type));
        }
        for attribute in &node.attribute {
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                collect_missing(inner, onnx, missing);
            }
        }
    }
}
