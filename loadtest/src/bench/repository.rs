//! The folders that the measured servers serve: copies of sample models, the identity, the compute-bound model.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::onnx_file;

/// The runtime without a model: outputs mirror inputs.
const IDENTITY: &str = r#"runtime = "identity"
[[inputs]]
name = "x"
datatype = "FP32"
shape = [-1, 4]
"#;

/// A folder under the system's temporary one, removed when dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// A fresh folder for this process.
    pub(super) fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("tensorgate-bench-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// A path in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A repository with the models of the throughput cases. Sample models that are missing are left out.
    pub(super) fn repository(&self, samples: &Path) -> Result<PathBuf, Box<dyn Error>> {
        let root = self.path("repository");
        let identity = root.join("identity");
        fs::create_dir_all(&identity)?;
        fs::write(identity.join("model.toml"), IDENTITY)?;
        let compute = root.join("compute/1");
        fs::create_dir_all(&compute)?;
        fs::write(compute.join("model.onnx"), onnx_file::compute_bound())?;
        for model in ["iris", "mlp"] {
            if samples.join(model).exists() {
                copy(&samples.join(model), &root.join(model))?;
            }
        }
        Ok(root)
    }

    /// A repository with one sample model.
    pub(super) fn only(&self, samples: &Path, model: &str) -> Result<PathBuf, Box<dyn Error>> {
        let root = self.path(&format!("only-{model}"));
        let from = samples.join(model);
        copy(&from, &root.join(model)).map_err(|error| format!("{}: {error}", from.display()))?;
        Ok(root)
    }

    /// A repository without models.
    pub(super) fn empty(&self) -> io::Result<PathBuf> {
        let root = self.path("empty");
        fs::create_dir_all(&root)?;
        Ok(root)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover in the temporary folder does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The ONNX file of a model's newest version: the highest number among the folders.
pub(super) fn newest(model: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let mut versions = Vec::new();
    for entry in fs::read_dir(model).map_err(|error| format!("{}: {error}", model.display()))? {
        let entry = entry?;
        versions.extend(entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    let newest = versions.into_iter().max().ok_or_else(|| format!("{} has no version", model.display()))?;
    Ok(model.join(newest.to_string()).join("model.onnx"))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
