//! Checks a request against the signature of its version and runs it; one of texts by its text face ([`texts`]).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

use super::route::Routed;
use super::{placed, texts};
use crate::error::{Error, Kind, Result};
use crate::infer::{InferRequest, InferResponse, Parameters, classes_wanted, validate};
use crate::repository::Model;
use crate::shared_memory::Regions;
use crate::tensor::Tensor;

/// The innermost service.
#[derive(Clone, Default)]
pub struct Dispatch {
    regions: Option<Arc<Regions>>,
}

impl Dispatch {
    /// A dispatch service; tensors may lie in `regions` where there are such.
    pub fn new(regions: Option<Arc<Regions>>) -> Self {
        Self { regions }
    }
}

impl Service<Routed> for Dispatch {
    type Response = InferResponse;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<InferResponse>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, routed: Routed) -> Self::Future {
        let regions = self.regions.clone();
        Box::pin(async move {
            let Routed { model, mut request, note: _ } = routed;
            let timer = model.metrics().start_request();
            let outcome = run(&model, &mut request, regions.as_deref()).await;
            timer.finish(outcome.as_ref().err().map(Error::kind));
            outcome
        })
    }
}

async fn run(model: &Model, request: &mut InferRequest, regions: Option<&Regions>) -> Result<InferResponse> {
    let name = model.name().as_str();
    let of_model = |error: Error| error.within(format_args!("model '{name}'"));
    let in_regions = !request.placed.is_empty() || request.outputs.iter().any(|output| output.place.is_some());
    // On the heap, here and below: the future of every other request stays as small as it was.
    let room = match in_regions {
        true => Some(Box::pin(placed::take(regions, request)).await.map_err(of_model)?),
        false => None,
    };
    if let Some(face) = model.text().filter(|face| face.is_for(request)) {
        let mut answered = Box::pin(texts::run(model, face, request)).await?;
        if let Some(room) = room {
            let outputs: Vec<Tensor> = answered.outputs.iter().map(|(_, tensor)| tensor.clone()).collect();
            answered.places = Box::pin(room.put(&outputs)).await.map_err(of_model)?;
        }
        return Ok(answered);
    }
    let valid = validate(name, model.signature(), request)?;
    if let Some(rows_max) = model.request_rows_max().filter(|&rows_max| valid.rows > rows_max) {
        return Err(Error::invalid(format!(
            "model '{name}': the request has {} rows, expected at most {rows_max} (its max_batch_size)",
            valid.rows
        )));
    }
    let classes = classes_wanted(name, model.signature(), &request.outputs)?;
    let wanted = valid.outputs.clone();
    let empty = valid.rows_agree && valid.rows == 0;
    let parameters = std::mem::take(&mut request.parameters);
    let executed = model.submit(valid, parameters, request.deadline).await;
    let executed = executed.map_err(|error| if empty { no_rows(error) } else { error });
    let executed = executed.map_err(of_model)?;
    let mut outputs = executed.outputs;
    for classes in &classes {
        let output = &mut outputs[classes.output];
        *output = classes.of(output, model.labels(wanted[classes.output]))?;
    }
    let places = match room {
        None => Vec::new(),
        Some(room) => Box::pin(room.put(&outputs)).await.map_err(of_model)?,
    };
    let names = wanted.iter().map(|&position| model.signature().outputs[position].name.clone());
    Ok(InferResponse {
        model: model.name().clone(),
        version: model.version(),
        id: request.id.take(),
        parameters: Parameters::new(),
        outputs: names.zip(outputs).collect(),
        places,
        timing: executed.timing,
    })
}

/// Many operators take no rows at all. A model that fails on none of them, and on nothing else that was checked, was asked
/// wrongly: that is the caller's to change.
fn no_rows(error: Error) -> Error {
    match error.kind() {
        Kind::Execution => Error::invalid(format!("it fails on 0 rows, expected at least 1: {error}")),
        _ => error,
    }
}
