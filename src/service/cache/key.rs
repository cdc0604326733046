//! Which requests are the same: the SHA-256 of everything that an answer depends on.
//!
//! Nobody can make two requests of one SHA-256 (FIPS 180-4), so that no caller gets an answer to another's inputs, whatever
//! callers send. Every part stands behind its length, so that no two requests are written alike.

use bytes::Bytes;
use ring::digest::{Context, SHA256};
use tokio::task::spawn_blocking;

use crate::infer::{InferRequest, ParameterValue, Parameters};

/// A request's name.
pub(super) type Key = [u8; 32];

/// Bytes that are hashed where the request runs: some 200 us; more would hold up other requests of this thread.
const IN_PLACE_BYTES_MAX: usize = 256 << 10;

/// Says when a request is answered, and not how. The time-out is taken out of parameters further up.
const PRIORITY: &str = "priority";

/// The key of `request` beside others for the same load of the same version. Parameters and inputs count in the order of
/// their names; outputs in the order asked for, which is that of the answer.
pub(super) async fn of(request: &InferRequest) -> Key {
    let mut head = Vec::with_capacity(256);
    parameters(&request.parameters, &mut head);
    let mut order: Vec<usize> = (0..request.inputs.len()).collect();
    order.sort_unstable_by(|a, b| request.inputs[*a].name.cmp(&request.inputs[*b].name));
    number(order.len(), &mut head);
    let mut data: Vec<Bytes> = Vec::with_capacity(order.len());
    for position in order {
        let input = &request.inputs[position];
        part(input.name.as_bytes(), &mut head);
        part(input.tensor.datatype().name().as_bytes(), &mut head);
        number(input.tensor.shape().len(), &mut head);
        input.tensor.shape().iter().for_each(|size| number(*size, &mut head));
        number(input.tensor.data().len(), &mut head);
        parameters(&input.parameters, &mut head);
        data.push(input.tensor.data().clone());
    }
    number(request.outputs.len(), &mut head);
    for output in &request.outputs {
        part(output.name.as_bytes(), &mut head);
        parameters(&output.parameters, &mut head);
    }
    let bytes: usize = data.iter().map(Bytes::len).sum();
    if bytes <= IN_PLACE_BYTES_MAX {
        return hash(&head, &data);
    }
    let (again, tensors) = (head.clone(), data.clone());
    // The pool is only gone with the process.
    spawn_blocking(move || hash(&again, &tensors)).await.unwrap_or_else(|_| hash(&head, &data))
}

fn hash(head: &[u8], data: &[Bytes]) -> Key {
    let mut context = Context::new(&SHA256);
    context.update(&(head.len() as u64).to_le_bytes());
    context.update(head);
    data.iter().for_each(|tensor| context.update(tensor));
    let mut key = Key::default();
    key.copy_from_slice(context.finish().as_ref());
    key
}

fn number(number: usize, to: &mut Vec<u8>) {
    to.extend((number as u64).to_le_bytes());
}

fn part(part: &[u8], to: &mut Vec<u8>) {
    number(part.len(), to);
    to.extend(part);
}

fn parameters(parameters: &Parameters, to: &mut Vec<u8>) {
    let mut sorted: Vec<_> = parameters.iter().filter(|(name, _)| *name != PRIORITY).collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    number(sorted.len(), to);
    for (name, value) in sorted {
        part(name.as_bytes(), to);
        let (kind, bytes) = match value {
            ParameterValue::Bool(value) => (0, vec![u8::from(*value)]),
            ParameterValue::Int64(value) => (1, value.to_le_bytes().to_vec()),
            ParameterValue::Uint64(value) => (2, value.to_le_bytes().to_vec()),
            ParameterValue::Double(value) => (3, value.to_bits().to_le_bytes().to_vec()),
            ParameterValue::String(value) => (4, value.as_bytes().to_vec()),
        };
        to.push(kind);
        part(&bytes, to);
    }
}
