//! ONNX Runtime's CUDA execution provider.

use std::path::Path;

use ort::ep::cuda::{CUDA_DYLIBS, CUDNN_DYLIBS, ConvAlgorithmSearch};
use ort::ep::{ArenaExtendStrategy, CUDA, ExecutionProviderDispatch};
use ort::util::preload_dylib;

use super::one_line;
use crate::model::Device;

/// The provider's library, which ONNX Runtime loads from beside its own.
const PROVIDER: &str = "libonnxruntime_providers_cuda.so";

/// What ONNX Runtime and CUDA say where memory of a GPU is used up.
const USED_UP: [&str; 4] =
    ["Failed to allocate memory", "out of memory", "CUDA_ERROR_OUT_OF_MEMORY", "Available memory of"];

/// Whether ONNX Runtime at `library` has the CUDA provider, as far as its files tell. What the provider itself needs (CUDA's
/// libraries, a driver that is new enough) shows when a model is loaded.
///
/// # Errors
/// What is missing, and how to get it.
pub fn library_uses_gpus(library: &Path) -> Result<(), String> {
    if library.parent().is_some_and(|folder| folder.join(PROVIDER).exists()) {
        return Ok(());
    }
    let library = library.display();
    Err(format!(
        "ONNX Runtime at {library} is without CUDA, no {PROVIDER} is beside it: make run ORT=gpu (docs/gpu.md)"
    ))
}

/// Loads CUDA's libraries from beside `library` where they are there, so that the provider finds them: it looks where the loader
/// does, which is told of other folders only when a process starts. cuDNN finds its own parts. What cannot be loaded, or is not
/// there, the loader looks for elsewhere, and the provider tells.
pub(super) fn preload(library: &Path) {
    let Some(folder) = library.parent() else { return };
    let names = CUDA_DYLIBS.iter().chain(CUDNN_DYLIBS.first());
    for path in names.map(|name| folder.join(name)).filter(|path| path.exists()) {
        if let Err(cause) = preload_dylib(&path) {
            tracing::debug!("{}: {cause}", path.display());
        }
    }
}

/// The provider for the GPU with this number, whose arena takes at most `bytes_max`.
pub(super) fn provider(number: u32, bytes_max: Option<u64>) -> ExecutionProviderDispatch {
    let mut provider = CUDA::default()
        .with_device_id(i32::try_from(number).unwrap_or(i32::MAX))
        // The other strategy takes the next power of two, and half of a GPU for nothing.
        .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
        // The default one runs every algorithm for each new shape, which each new size of a batch is.
        .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic)
        // Rounds factors to ten bits: answers would be others than those on the CPU, and than those of other batches.
        .with_tf32(false);
    if let Some(bytes_max) = bytes_max.and_then(|bytes| usize::try_from(bytes).ok()) {
        provider = provider.with_memory_limit(bytes_max);
    }
    // Whether the CPU will do is not for the engine to decide.
    provider.build().error_on_failure()
}

/// An error message of ONNX Runtime in one line; one that tells of a GPU without memory says so first.
pub(super) fn told(device: Device, message: &str) -> String {
    let message = one_line(message);
    if !device.is_gpu() {
        return message;
    }
    // "/onnxruntime_src/...cc:63 type function() [ONNXRuntimeError] : 1 : FAIL : what happened".
    let what = message.rsplit_once("[ONNXRuntimeError] : ").and_then(|(_, code)| code.splitn(3, " : ").nth(2));
    let what = what.unwrap_or(&message);
    if USED_UP.iter().any(|known| what.contains(known)) {
        return format!("{device} has no memory left for it (--gpu-memory-max, max_batch_size): {what}");
    }
    what.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_without_the_provider_beside_it_is_told_to_be_without_cuda() {
        let folder = tempfile::TempDir::new().unwrap();
        let library = folder.path().join("libonnxruntime.so");
        let told = library_uses_gpus(&library).unwrap_err();
        assert!(told.contains(&library.display().to_string()) && told.contains("make run ORT=gpu"), "{told}");
        std::fs::write(folder.path().join(PROVIDER), "").unwrap();
        assert_eq!(library_uses_gpus(&library), Ok(()));
    }

    #[test]
    fn memory_that_is_used_up_is_told_of_gpus_alone() {
        // As ONNX Runtime 1.31 words it (bfc_arena.cc, cuda_call.cc).
        let arena = "Non-zero status code returned while running MatMul node. bfc_arena.cc:376 AllocateRawInternal \n\
            Available memory of 1024 is smaller than requested bytes of 4096";
        let cuda = "CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc(&p, size);";
        for message in [arena, cuda] {
            let told = told(Device::Cuda(1), message);
            assert!(told.starts_with("cuda:1 has no memory left for it (") && !told.contains('\n'), "{told}");
        }
        assert_eq!(told(Device::Cuda(1), "Invalid \n rank"), "Invalid rank");
        let placed = "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& \
            onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library a.so with error: b : c";
        assert_eq!(told(Device::Cuda(0), placed), "Failed to load library a.so with error: b : c");
        assert_eq!(told(Device::Cpu, cuda), cuda);
    }
}
