//! Which session an instance of a model on a GPU gets: made on the CPU, where sessions are the same.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::tensor::Tensor;

fn artifact() -> Artifact {
    Artifact::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/identity_fp32.onnx"))
}

fn runtime() -> OnnxRuntime {
    OnnxRuntime::open(&find_library().expect("libonnxruntime.so: make puts it into .onnxruntime/")).unwrap()
}

#[test]
fn each_instance_on_a_gpu_has_a_session_and_one_that_nobody_has_is_used_again() {
    let made = Arc::new(AtomicUsize::new(1));
    let session = || OnnxModel::new(runtime().session(&artifact()).unwrap(), Device::Cpu);
    let another = {
        let made = Arc::clone(&made);
        move || {
            made.fetch_add(1, Ordering::Relaxed);
            OnnxModel::new(runtime().session(&artifact()).unwrap(), Device::Cpu)
        }
    };
    let model = OnnxModels::new(session().unwrap(), Box::new(another));
    let count = || made.load(Ordering::Relaxed);
    let mut first = model.instance().unwrap();
    assert_eq!(count(), 1, "the session that the signature was read from");
    let second = model.instance().unwrap();
    assert_eq!(count(), 2);
    let row = Tensor::from_elements([1, 2].into(), &[1_f32, 2.]).unwrap();
    assert_eq!(first.execute(&[Some(row.clone())], &[0]).unwrap()[0].data(), row.data());
    drop(first);
    let third = model.instance().unwrap();
    assert_eq!(count(), 2, "the first's is free");
    drop((second, third));
    let _both = (model.instance().unwrap(), model.instance().unwrap());
    assert_eq!(count(), 2);
}

#[test]
fn a_session_on_a_gpu_without_one_says_what_is_missing() {
    let artifact = Artifact { device: Device::Cuda(0), device_bytes_max: Some(1 << 30), ..artifact() };
    let Err(error) = runtime().load(&artifact) else {
        // Somebody's machine has all of it.
        assert!(library_uses_gpus(&runtime().opened.library).is_ok());
        return;
    };
    let told = error.message();
    assert!(told.contains("identity_fp32.onnx: ") && told.to_lowercase().contains("cuda"), "{told}");
    assert!(!told.contains('\n'), "{told}");
    assert!(runtime().load(&Artifact { device: Device::Cpu, ..artifact }).is_ok());
}

#[test]
#[cfg(target_os = "linux")]
fn threads_of_a_session_have_the_usual_priority_though_a_thread_that_gives_way_makes_it() {
    let runtime = runtime();
    let load = || runtime.load(&Artifact { threads: 2, ..artifact() }).unwrap();
    let _model = crate::runtime::unhurried(load);
    let mut engines = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        // Others' threads come and go meanwhile.
        let Ok(name) = std::fs::read_to_string(task.path().join("comm")) else { continue };
        if name.trim() == "engine" {
            let thread = task.file_name().to_str().unwrap().parse().unwrap();
            // SAFETY: it only asks, about a thread that is there or is not.
            let policy = unsafe { libc::sched_getscheduler(thread) };
            assert_ne!(policy, libc::SCHED_IDLE);
            engines += 1;
        }
    }
    assert!(engines > 0);
}
