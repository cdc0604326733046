//! Compiling a graph: once with symbols for its dynamic dimensions, so that one plan serves every batch size. Where tract
//! cannot reason about the symbols, once per combination of input shapes, the latest of which are kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::dim_expr::parse_onnx_dim;
use tract_onnx::prelude::{
    DatumType, InferenceModel, InferenceModelExt, IntoRunnable, TValue, TractResult, TypedModel, TypedSimplePlan,
};
use tract_onnx::tract_core::ops::cast::wire_cast;
use tract_onnx::tract_hir::internal::{
    InferenceFact, Symbol, SymbolScope, TDim, ToDim, TractErrorContext as _, ensure,
};

use super::graph::Graph;
use super::panics::caught;
use super::value::datum_type;
use crate::model::{Dim, TensorSpec};
use crate::tensor::Shape;

/// A compiled graph.
pub(super) type Plan = TypedSimplePlan;

/// Plans kept per model where each input shape needs its own. The scheduler forms few different batch sizes, and a plan
/// shares its unpacked weights with the others; more would only keep memory.
pub(super) const PLANS_MAX: usize = 8;

/// Sizes tried for the dynamic dimensions at load, to tell a model that runs for some shapes from one that never does.
const PROBES: [usize; 4] = [1, 2, 16, 224];

/// The plans of one model.
pub(super) enum Plans {
    /// One for all shapes.
    Symbolic(Arc<Plan>),
    /// One per combination of input shapes.
    PerShape(Box<PerShape>),
}

impl Plans {
    /// The plan that takes `values`.
    pub(super) fn plan_for(&self, values: &[TValue]) -> TractResult<Arc<Plan>> {
        match self {
            Self::Symbolic(plan) => Ok(plan.clone()),
            Self::PerShape(plans) => plans.plan_for(values.iter().map(|value| Shape::from(value.shape())).collect()),
        }
    }
}

impl Graph {
    /// Compiles the graph, trying the most capable way first. The error is that of the first way: the later ones fail for
    /// what is missing in them.
    pub(super) fn compile(&mut self) -> TractResult<Plans> {
        let first = match self.compile_with_inputs() {
            Ok(plans) => return Ok(plans),
            Err(reason) => reason,
        };
        // A default that tract needs to know to compile (a target shape, say) cannot be an input as well.
        if self.fix_defaults()
            && let Ok(plans) = self.compile_with_inputs()
        {
            return Ok(plans);
        }
        Err(first)
    }

    fn compile_with_inputs(&self) -> TractResult<Plans> {
        let inputs = &self.signature.inputs;
        let promised = promised(&self.signature.outputs)?;
        let compile = |ignore_value_info| caught(|| compile(self.parse(ignore_value_info)?, &promised));
        // Exporters' notes on inner shapes help tract now and then, but where they contradict it, it gives up.
        let first = match compile(false).or_else(|reason| compile(true).map_err(|_| reason)) {
            Ok(plan) => return Ok(Plans::Symbolic(plan)),
            Err(reason) => reason,
        };
        if inputs.iter().all(is_fixed) {
            return Err(first);
        }
        let plans = PerShape { model: self.parse(true)?, promised, recent: Mutex::default() };
        let known_rank = inputs.iter().all(|input| input.shape.is_some());
        let runs =
            |size: &usize| plans.plan_for(inputs.iter().map(|input| probe_shape(input, *size)).collect()).is_ok();
        if known_rank && !PROBES.iter().any(runs) {
            return Err(first);
        }
        // Probes are no shapes that requests will have.
        plans.recent.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(Plans::PerShape(Box::new(plans)))
    }

    /// tract's graph, with a symbol for every dynamic dimension of an input.
    fn parse(&self, ignore_value_info: bool) -> TractResult<InferenceModel> {
        let onnx = tract_onnx::onnx().with_ignore_value_info(ignore_value_info);
        let parsed = onnx.parse(&self.proto, self.directory.as_deref())?;
        let unresolved = parsed.unresolved_inputs;
        ensure!(unresolved.is_empty(), "its nodes use values that nothing makes: {}", unresolved.join(", "));
        let mut model = parsed.model;
        ensure!(model.inputs.len() == self.signature.inputs.len(), "it names an input twice");
        let facts = input_facts(&model.symbols, &self.signature.inputs)?;
        for (position, fact) in facts.into_iter().enumerate() {
            model.set_input_fact(position, fact)?;
        }
        Ok(model)
    }
}

fn is_fixed(input: &TensorSpec) -> bool {
    input.shape.as_ref().is_some_and(|dims| dims.iter().all(|dim| matches!(dim, Dim::Fixed(_))))
}

fn probe_shape(input: &TensorSpec, size: usize) -> Shape {
    let dims = input.shape.iter().flatten();
    dims.map(|dim| if let Dim::Fixed(fixed) = dim { *fixed } else { size }).collect()
}

/// What tract is told of each input.
///
/// A dimension's name may be an expression ("past + 1"), which relates it to others: it is kept where the inputs determine
/// its symbols. Any other name ("batch-size", "4") stands for itself, as does a dimension without one.
fn input_facts(symbols: &SymbolScope, inputs: &[TensorSpec]) -> TractResult<Vec<InferenceFact>> {
    let names = inputs.iter().filter_map(|input| input.shape.as_ref()).flatten().filter_map(|dim| match dim {
        Dim::Dynamic(Some(name)) => Some(name.clone()),
        _ => None,
    });
    let expressions: HashMap<_, _> =
        names.filter_map(|name| parse_onnx_dim(symbols, &name).ok().map(|expression| (name, expression))).collect();
    let plain: Vec<&Symbol> =
        expressions.values().filter_map(|dim| if let TDim::Sym(symbol) = dim { Some(symbol) } else { None }).collect();
    let determined =
        |dim: &TDim| !dim.symbols().is_empty() && dim.symbols().iter().all(|symbol| plain.contains(&symbol));
    let mut own = HashMap::new();
    let mut fresh = || TDim::from(symbols.new_with_prefix("tensorgate_dim_"));
    let mut dimension = |dim: &Dim| match dim {
        Dim::Fixed(size) => size.to_dim(),
        Dim::Dynamic(None) => fresh(),
        Dim::Dynamic(Some(name)) => match expressions.get(name).filter(|expression| determined(expression)) {
            Some(expression) => expression.clone(),
            None => own.entry(name.clone()).or_insert_with(&mut fresh).clone(),
        },
    };
    let fact = |input: &TensorSpec| {
        let fact = InferenceFact::dt(datum_type(input.datatype).context("a datatype that tract lacks")?);
        let Some(dims) = &input.shape else { return Ok(fact) };
        Ok(fact.with_shape(dims.iter().map(&mut dimension).collect::<Vec<TDim>>()))
    };
    inputs.iter().map(fact).collect()
}

/// The datum type of every output.
fn promised(outputs: &[TensorSpec]) -> TractResult<Vec<DatumType>> {
    outputs.iter().map(|output| datum_type(output.datatype).context("a datatype that tract lacks")).collect()
}

/// Compiles `model`, as optimised as tract manages, with outputs of the `promised` types.
fn compile(model: InferenceModel, promised: &[DatumType]) -> TractResult<Arc<Plan>> {
    let inputs = model.inputs.len();
    let mut typed = model.into_typed()?;
    // tract computes with shapes in a type of its own, whose values may hold symbols: only a cast within the plan, where
    // the symbols are known, makes the INT64 of them that the graph promises.
    let outlets = typed.outputs.iter().zip(promised).map(|(&outlet, &promised)| (outlet, promised)).collect::<Vec<_>>();
    for (position, (outlet, promised)) in outlets.into_iter().enumerate() {
        let name = format!("tensorgate_output_{position}");
        typed.outputs[position] = wire_cast(name, &mut typed, &[outlet], promised)?[0];
    }
    let optimised = caught(|| typed.clone().into_optimized()?.into_runnable());
    let plan = optimised
        .or_else(|_| caught(|| typed.clone().into_decluttered()?.into_runnable()))
        .or_else(|_| caught(|| TypedModel::into_runnable(typed)))?;
    ensure!(plan.model().inputs.len() == inputs, "tract dropped an input");
    Ok(plan)
}

/// Plans for one combination of input shapes each.
pub(super) struct PerShape {
    model: InferenceModel,
    promised: Vec<DatumType>,
    /// Latest first, at most [`PLANS_MAX`].
    recent: Mutex<Vec<(Vec<Shape>, Arc<Plan>)>>,
}

impl PerShape {
    /// How many plans are kept now.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn plan_for(&self, shapes: Vec<Shape>) -> TractResult<Arc<Plan>> {
        let recent = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut recent = recent();
            if let Some(found) = recent.iter().position(|(known, _)| *known == shapes) {
                recent[..=found].rotate_right(1);
                return Ok(recent[0].1.clone());
            }
        }
        // Outside the lock: two instances may compile the same shapes at once, but none waits for another's.
        let mut model = self.model.clone();
        for (position, shape) in shapes.iter().enumerate() {
            let known = model.input_fact(position)?.datum_type;
            let fact = InferenceFact { datum_type: known, ..InferenceFact::shape(shape.to_vec()) };
            model.set_input_fact(position, fact)?;
        }
        let plan = caught(|| compile(model, &self.promised))?;
        let mut recent = recent();
        recent.insert(0, (shapes, plan.clone()));
        recent.truncate(PLANS_MAX);
        Ok(plan)
    }
}
