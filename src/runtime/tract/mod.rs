//! The tract runtime: ONNX models in pure Rust, with no library to install.
//!
//! It stands in where ONNX Runtime is not there: slower, single-threaded ([`Artifact::threads`] is an upper bound) and with
//! fewer operators. `graph` reads the file and states the signature, `plan` compiles it once for any batch size (or, where
//! tract cannot, once per input shape), `value` carries tensors across. Every call into
//! tract goes through [`caught`], because it panics where other engines return errors.

mod graph;
mod panics;
mod plan;
#[cfg(test)]
mod tests;
mod value;

use std::path::Path;
use std::sync::Arc;

use tract_onnx::prelude::{TValue, TVec, TractResult, TypedSimpleState};
use tract_onnx::tract_hir::internal::{TractError, format_err};

use super::{Artifact, Instance, LoadedModel, Runtime, wanted};
use crate::error::{Error, Result};
use crate::model::Signature;
use crate::tensor::Tensor;

use graph::Graph;
use panics::caught;
use plan::{Plan, Plans};

/// The longest reason that goes into an error's message: tract's may hold a whole node.
const REASON_CHARS_MAX: usize = 400;

/// ONNX models on tract.
#[derive(Clone, Copy, Debug, Default)]
pub struct TractRuntime;

impl TractRuntime {
    /// The runtime; it needs nothing on the machine.
    pub fn new() -> Self {
        Self
    }
}

impl Runtime for TractRuntime {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn platform(&self) -> &'static str {
        "tract_onnx"
    }

    fn load(&self, artifact: &Artifact) -> Result<Arc<dyn LoadedModel>> {
        let model = caught(|| load(&artifact.path)).map_err(|reason| {
            let file = artifact.path.display();
            Error::unavailable(format!("{file}: tract cannot run this model: {}", one_line(&reason)))
        })?;
        Ok(Arc::new(TractModel(Arc::new(model))))
    }
}

fn load(path: &Path) -> TractResult<Model> {
    let mut graph = Graph::read(path)?;
    let plans = graph.compile()?;
    let Graph { signature, defaults, .. } = graph;
    Ok(Model { signature, defaults, plans })
}

/// tract's chain of reasons as one bounded line.
fn one_line(reason: &TractError) -> String {
    let chain = format!("{reason:#}");
    let mut line = chain.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(REASON_CHARS_MAX) {
        line.truncate(end);
        line.push_str("...");
    }
    line
}

/// What all instances share, weights included.
struct Model {
    signature: Signature,
    /// By input: what stands in for an optional one that is left out.
    defaults: Vec<Option<TValue>>,
    plans: Plans,
}

struct TractModel(Arc<Model>);

impl LoadedModel for TractModel {
    fn signature(&self) -> &Signature {
        &self.0.signature
    }

    fn instance(&self) -> Result<Box<dyn Instance>> {
        Ok(Box::new(TractInstance { model: self.0.clone(), ready: None }))
    }
}

struct TractInstance {
    model: Arc<Model>,
    /// Scratch state of the plan that ran last. A failed run leaves half-resolved symbols behind, so it is dropped then.
    ready: Option<(Arc<Plan>, TypedSimpleState)>,
}

impl TractInstance {
    fn values(&self, inputs: &[Option<Tensor>]) -> Result<TVec<TValue>> {
        let Model { signature, defaults, .. } = &*self.model;
        let entries = signature.inputs.iter().zip(defaults).enumerate();
        let value = |(position, (spec, default)): (usize, (_, &Option<TValue>))| match (
            inputs.get(position).and_then(Option::as_ref),
            default,
        ) {
            (Some(tensor), _) => value::to_tract(tensor, spec),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) => Err(format_err!("input '{}' has no default and was left out", spec.name)),
        };
        entries.map(value).collect::<TractResult<_>>().map_err(|reason| failed(&reason))
    }

    fn run(&mut self, values: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let plan = self.model.plans.plan_for(&values)?;
        let (plan, mut state) = match self.ready.take() {
            Some((last, state)) if Arc::ptr_eq(&last, &plan) => (last, state),
            _ => {
                let state = plan.spawn()?;
                (plan, state)
            }
        };
        let answers = state.run(values)?;
        self.ready = Some((plan, state));
        Ok(answers)
    }
}

impl Instance for TractInstance {
    fn execute(&mut self, inputs: &[Option<Tensor>], outputs: &[usize]) -> Result<Vec<Tensor>> {
        let values = self.values(inputs)?;
        let answers = caught(|| self.run(values)).map_err(|reason| failed(&reason))?;
        let specs = wanted(&self.model.signature, outputs);
        let answer = |(&position, spec): (&usize, _)| {
            let value = answers.get(position).ok_or_else(|| format_err!("tract gave no output {position}"))?;
            value::from_tract(value.clone(), spec)
        };
        caught(|| outputs.iter().zip(specs).map(answer).collect()).map_err(|reason| failed(&reason))
    }
}

fn failed(reason: &TractError) -> Error {
    Error::execution(format!("tract: {}", one_line(reason)))
}
