//! Tensors in shared memory: inputs are copied out of their regions before the request is checked, outputs into theirs
//! before it is answered.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::error::{Error, Result};
use crate::infer::{InferRequest, NamedTensor, Place, PlacedInput};
use crate::shared_memory::{Region, Regions};
use crate::tensor::Tensor;

/// Bytes that are copied where the request runs. 256 KiB are copied in some 50 us, which is what handing the copy to another
/// thread and back costs; a longer copy there would hold up every other request of this thread.
const IN_PLACE_BYTES_MAX: usize = 256 << 10;

/// The places of a request's outputs, one entry for each output asked for.
pub(super) struct Room(Vec<Option<Wanted>>);

struct Wanted {
    output: String,
    region: Arc<Region>,
    place: Place,
}

/// Reads the inputs of `request` that lie in `regions`, and finds the places of its outputs, so that a wrong one is told
/// before the model runs. From here on regions may be unregistered: what is used is held.
///
/// # Errors
/// `Unsupported` where there are no regions; else what the regions say, with the input or output.
pub(super) async fn take(regions: Option<&Regions>, request: &mut InferRequest) -> Result<Room> {
    let Some(regions) = regions else { return Err(off(request)) };
    let mut room = Vec::with_capacity(request.outputs.len());
    for output in &mut request.outputs {
        room.push(match output.place.take() {
            None => None,
            Some(place) => {
                let found = regions.place(&place.region, place.offset, place.byte_size);
                let region = found.map_err(|error| error.within(format_args!("output '{}'", output.name)))?;
                Some(Wanted { output: output.name.clone(), region, place })
            }
        });
    }
    for placed in std::mem::take(&mut request.placed) {
        let PlacedInput { name, datatype, shape, place, parameters } = placed;
        let tensor = match read(regions, &place).await {
            Ok(data) => Tensor::new(datatype, shape, data).map_err(|cause| Error::invalid(cause.to_string())),
            Err(error) => Err(error),
        };
        let tensor = tensor.map_err(|error| error.within(format_args!("input '{name}'")))?;
        request.inputs.push(NamedTensor { name, tensor, parameters });
    }
    Ok(Room(room))
}

/// Why tensors in shared memory are not served, with the first of them.
fn off(request: &InferRequest) -> Error {
    let placed = request.placed.first().map(|input| ("input", &input.name));
    let wanted = request.outputs.iter().find(|output| output.place.is_some()).map(|output| ("output", &output.name));
    let (what, name) = placed.or(wanted).unwrap_or(("tensors", &request.model));
    Error::unsupported(format!(
        "{what} '{name}': shared memory is off (--shared-memory-prefix), send it in the request"
    ))
}

async fn read(regions: &Regions, place: &Place) -> Result<bytes::Bytes> {
    let (offset, byte_size) = (place.offset, place.byte_size);
    let region = regions.place(&place.region, offset, byte_size)?;
    let held = regions.hold(byte_size)?;
    copied(byte_size, move || region.read(offset, byte_size, held)).await
}

/// Does a copy of `bytes` bytes where that is cheapest.
async fn copied<T: Send + 'static>(bytes: usize, copy: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    if bytes <= IN_PLACE_BYTES_MAX {
        return copy();
    }
    spawn_blocking(copy).await.unwrap_or_else(|_| Err(Error::internal("a copy of shared memory was broken off")))
}

impl Room {
    /// Writes `outputs` where they are wanted; gives the places, as large as what was written.
    ///
    /// # Errors
    /// `InvalidRequest` where an output is larger than its place.
    pub(super) async fn put(self, outputs: &[Tensor]) -> Result<Vec<Option<Place>>> {
        let mut places = Vec::with_capacity(outputs.len());
        for (room, tensor) in self.0.into_iter().zip(outputs) {
            let Some(Wanted { output, region, mut place }) = room else {
                places.push(None);
                continue;
            };
            let (data, room) = (tensor.data().clone(), place.byte_size);
            if data.len() > room {
                return Err(Error::invalid(format!(
                    "output '{output}' takes {} bytes, but its place in shared memory region '{}' has {room}",
                    data.len(),
                    region.name()
                )));
            }
            place.byte_size = data.len();
            let offset = place.offset;
            copied(place.byte_size, move || region.write(offset, &data)).await?;
            places.push(Some(place));
        }
        Ok(places)
    }
}
