//! Which shared memory the doors serve, and what they say where it is not.

use super::Doors;
use crate::error::{Error, Result};
use crate::shared_memory::{EXTENSION, Regions};

/// The regions of system shared memory.
///
/// # Errors
/// `Unsupported`, naming the flag, where they are off.
pub(super) fn system(doors: &Doors) -> Result<&Regions> {
    let off = || Error::unsupported(format!("extension '{EXTENSION}' is off (--shared-memory-prefix)"));
    doors.regions.as_deref().ok_or_else(off)
}

/// Lets calls through that ask for regions of GPUs' memory, or to forget them: where sharing is on, there are none. Clients
/// that share memory unregister both kinds to begin with and in the end.
///
/// # Errors
/// `Unsupported` where sharing is off.
pub(super) fn none_of_cuda(doors: &Doors) -> Result<()> {
    if doors.regions.is_some() { Ok(()) } else { Err(no_cuda()) }
}

/// Why calls about memory of GPUs are refused.
pub(super) fn no_cuda() -> Error {
    Error::unsupported(
        "extension 'cuda_shared_memory' is off: this server opens no memory of GPUs, send tensors in the request or in \
         system shared memory",
    )
}
