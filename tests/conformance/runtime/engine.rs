//! The runtimes under test, and what each loads for a fixture.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tensorgate::error::Result;
use tensorgate::model::{Dim, Signature, TensorSpec};
use tensorgate::runtime::{
    Artifact, CandleRuntime, IdentityRuntime, Instance, LoadedModel, OnnxRuntime, Runtime, TractRuntime, find_library,
};
use tensorgate::tensor::Tensor;

/// A runtime under test.
pub(crate) struct Engine {
    pub(crate) runtime: Box<dyn Runtime>,
}

impl Engine {
    /// `None` where this machine has no ONNX Runtime: the suite says so and passes, as the server does.
    pub(crate) fn onnx() -> Option<Self> {
        let Some(library) = find_library() else {
            eprintln!("skipped: no libonnxruntime on this machine (ORT_DYLIB_PATH, .onnxruntime/)");
            return None;
        };
        let runtime = OnnxRuntime::open(&library).unwrap_or_else(|error| panic!("{}: {error}", library.display()));
        Some(Self { runtime: Box::new(runtime) })
    }

    pub(crate) fn tract() -> Option<Self> {
        Some(Self { runtime: Box::new(TractRuntime::new()) })
    }

    pub(crate) fn candle() -> Option<Self> {
        Some(Self { runtime: Box::new(CandleRuntime::new()) })
    }

    pub(crate) fn identity() -> Option<Self> {
        Some(Self { runtime: Box::new(IdentityRuntime::new()) })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.runtime.name()
    }

    /// What this engine loads for `fixture`; `None` where the fixture is not for it. The identity runtime reads no files:
    /// it stands for the identity fixtures, with the signature that those have.
    pub(crate) fn artifact(&self, fixture: &str) -> Option<Artifact> {
        let folder = folder_path(fixture);
        match (self.name() == "candle", folder.is_dir()) {
            (true, true) => return Some(Artifact::new(folder.join("config.json"))),
            (true, false) | (false, true) => return None,
            (false, false) => {}
        }
        let artifact = Artifact::new(fixture_path(fixture));
        if self.name() != "identity" {
            return Some(artifact);
        }
        let datatype = fixture.strip_prefix("identity_")?.to_uppercase().parse().ok()?;
        let dims = || ["batch", "n"].map(|name| Dim::Dynamic(Some(name.into())));
        let declared = Signature {
            inputs: vec![TensorSpec::new("x", datatype, dims())],
            outputs: vec![TensorSpec::new("y", datatype, dims())],
        };
        Some(Artifact { declared, ..artifact })
    }

    /// The loaded fixture; `None` where it is not for this engine.
    pub(crate) fn load(&self, fixture: &str) -> Option<Result<Arc<dyn LoadedModel>>> {
        Some(self.runtime.load(&self.artifact(fixture)?))
    }

    /// The loaded fixture, which has to load; `None` where it is not for this engine.
    pub(crate) fn loaded(&self, fixture: &str) -> Option<Arc<dyn LoadedModel>> {
        Some(self.load(fixture)?.unwrap_or_else(|error| panic!("{} does not load {fixture}: {error}", self.name())))
    }
}

pub(crate) fn fixture_path(fixture: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture).with_extension("onnx")
}

/// Where a fixture is that is a Hugging Face folder.
pub(crate) fn folder_path(fixture: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/candle").join(fixture)
}

/// `inputs`, given by name, in the places where the model takes them; every other input is left out.
pub(crate) fn placed(signature: &Signature, inputs: &[(&str, Tensor)]) -> Vec<Option<Tensor>> {
    let given =
        |spec: &TensorSpec| inputs.iter().find(|(name, _)| *name == &*spec.name).map(|(_, tensor)| tensor.clone());
    signature.inputs.iter().map(given).collect()
}

/// One execution that answers all outputs.
pub(crate) fn run(
    model: &dyn LoadedModel,
    instance: &mut dyn Instance,
    inputs: &[(&str, Tensor)],
) -> Result<Vec<Tensor>> {
    let signature = model.signature();
    let all: Vec<usize> = (0..signature.outputs.len()).collect();
    instance.execute(&placed(signature, inputs), &all)
}

/// Says where `got` is not `expected`. FP32 may be off by rounding, and a NaN is as good as any other NaN.
pub(crate) fn difference(got: &Tensor, expected: &Tensor) -> Option<String> {
    if (got.datatype(), got.shape()) != (expected.datatype(), expected.shape()) {
        return Some(format!("{got:?} instead of {expected:?}"));
    }
    if got.data() == expected.data() {
        return None;
    }
    let (Ok(a), Ok(b)) = (got.view::<f32>(), expected.view::<f32>()) else {
        return Some(format!("{got:?} has other bytes than expected: {:?}, not {:?}", got.data(), expected.data()));
    };
    let near = |(a, b): (&f32, &f32)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-5 * b.abs().max(1.0);
    if a.iter().zip(b).all(near) { None } else { Some(format!("{a:?} instead of {b:?}")) }
}
