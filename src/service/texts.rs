//! A request of texts: tokenized, run as tensors, answered with what becomes of them.
//!
//! Texts of one length go to the scheduler together, each length as a request of its own: batches form of them, and of those of
//! other callers, as of any requests. What each gives is worked through as soon as it is there, so that the tensors of a large
//! request are never all in memory at once.

use std::sync::Arc;

use futures_util::future::try_join_all;
use smallvec::smallvec;

use crate::error::{Error, Result};
use crate::infer::texts::TOKENS;
use crate::infer::{
    InferRequest, InferResponse, ParameterValue, Parameters, Timing, TopClasses, ValidRequest, classes_wanted,
};
use crate::repository::Model;
use crate::text::{Asked, Group, Reduced, TextFace};

/// Values of an output that are worked through where the request runs: about 100 us. More is done on the pool.
const IN_PLACE_VALUES_MAX: usize = 256 << 10;

/// Runs `request`, whose texts `face` takes.
///
/// # Errors
/// Those of the face and of [`Model::submit`].
pub(super) async fn run(model: &Model, face: &TextFace, request: &mut InferRequest) -> Result<InferResponse> {
    let name = model.name().as_str();
    let of_model = |error: Error| error.within(format_args!("model '{name}'"));
    let form = face.form();
    let classes = classes_of(name, face, request)?;
    let asked = face.take(request)?;
    let tokens = face.tokens(&asked).await.map_err(of_model)?;
    let count: usize = tokens.iter().map(|tokens| tokens.ids.len()).sum();
    let groups = form.groups(tokens).map_err(of_model)?;
    let parameters = std::mem::take(&mut request.parameters);
    let runs = groups.into_iter().map(|group| run_group(model, face, &asked, group, &parameters, request));
    let runs = try_join_all(runs).await.map_err(of_model)?;
    let timing = runs.iter().map(|(_, timing)| *timing).reduce(longest).unwrap_or_default();
    let reduced = runs.into_iter().map(|(reduced, _)| reduced).collect();
    let mut outputs = form.assemble(asked.rows, reduced, &asked.outputs).map_err(of_model)?;
    for classes in &classes {
        let output = &mut outputs[classes.output];
        *output = classes.of(output, form.labels(asked.outputs[classes.output]))?;
    }
    let names = asked.outputs.iter().map(|&position| form.signature().outputs[position].name.clone());
    let mut parameters = Parameters::new();
    parameters.set(TOKENS, ParameterValue::Int64(i64::try_from(count).unwrap_or(i64::MAX)));
    Ok(InferResponse {
        model: model.name().clone(),
        version: model.version(),
        id: request.id.take(),
        parameters,
        outputs: names.zip(outputs).collect(),
        places: Vec::new(),
        timing,
    })
}

/// The classes asked for of the face's outputs.
fn classes_of(name: &str, face: &TextFace, request: &InferRequest) -> Result<Vec<TopClasses>> {
    classes_wanted(name, face.form().signature(), &request.outputs)
}

/// Runs the texts of one length.
async fn run_group(
    model: &Model,
    face: &TextFace,
    asked: &Asked,
    mut group: Group,
    parameters: &Parameters,
    request: &InferRequest,
) -> Result<(Reduced, Timing)> {
    let form = Arc::clone(face.form());
    let inputs = std::mem::take(&mut group.inputs);
    let valid = ValidRequest { inputs, outputs: smallvec![form.output()], rows: group.rows(), rows_agree: true };
    // The shortest are submitted first.
    let executed = model.submit_part(valid, parameters.clone(), request.deadline, asked.rows).await?;
    let (timing, dimensions) = (executed.timing, asked.dimensions);
    let output = executed.outputs.into_iter().next().ok_or_else(|| Error::internal("an output is missing"))?;
    let reduced = match output.elements() <= IN_PLACE_VALUES_MAX {
        true => form.reduce(group, &output, dimensions)?,
        false => face.pool().run(move || form.reduce(group, &output, dimensions)).await??,
    };
    Ok((reduced, timing))
}

/// What a request of several parts took: as long as the one that took longest.
fn longest(one: Timing, other: Timing) -> Timing {
    if one.queue + one.execute >= other.queue + other.execute { one } else { other }
}
