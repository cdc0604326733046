//! Triton's shared memory extensions: `/v2/systemsharedmemory` and, always refused, `/v2/cudasharedmemory`.

use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::answers::read_json;
use super::as_json;
use super::routes::{Memory, RegionCall};
use crate::error::{Error, Result};
use crate::server::body::ResponseBody;
use crate::server::{Doors, regions};
use crate::shared_memory::Region;

#[derive(Deserialize)]
struct Register {
    key: String,
    #[serde(default)]
    offset: u64,
    byte_size: u64,
}

#[derive(Serialize)]
struct Status<'a> {
    name: &'a str,
    key: &'a str,
    offset: u64,
    byte_size: u64,
}

/// An object without members, which is what calls answer that have nothing to tell.
#[derive(Clone, Copy, Serialize)]
struct Done {}

pub(super) fn answer(
    memory: Memory,
    call: RegionCall,
    region: Option<&str>,
    body: &[u8],
    doors: &Doors,
) -> Result<Response<ResponseBody>> {
    let regions = match memory {
        Memory::System => regions::system(doors)?,
        Memory::Cuda => return cuda(call, doors),
    };
    match (call, region) {
        (RegionCall::Status, region) => {
            let found = regions.status(region)?;
            let told: Vec<Status<'_>> = found.iter().map(|region| status(region)).collect();
            return Ok(as_json(StatusCode::OK, &told));
        }
        (RegionCall::Register, Some(name)) => {
            let Register { key, offset, byte_size } = read_json(body)?;
            regions.register(name, &key, offset, byte_size)?;
        }
        (RegionCall::Register, None) => return Err(Error::internal("a region without a name")),
        (RegionCall::Unregister, region) => regions.unregister(region),
    }
    Ok(as_json(StatusCode::OK, &Done {}))
}

fn cuda(call: RegionCall, doors: &Doors) -> Result<Response<ResponseBody>> {
    match call {
        RegionCall::Register => Err(regions::no_cuda()),
        RegionCall::Status => regions::none_of_cuda(doors).map(|()| as_json(StatusCode::OK, &[Done {}; 0])),
        RegionCall::Unregister => regions::none_of_cuda(doors).map(|()| as_json(StatusCode::OK, &Done {})),
    }
}

fn status(region: &Region) -> Status<'_> {
    Status { name: region.name(), key: region.key(), offset: region.offset(), byte_size: region.byte_size() }
}
