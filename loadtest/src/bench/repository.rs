//! The folders that the measured servers serve: copies of sample models, the identity, models made here.

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

/// Sentences of all lengths in one batch; an objective that all those of the bench keep, so that none is refused.
const SENTENCES: &str = r#"slo = "10s"
[[inputs]]
name = "input_ids"
datatype = "INT64"
shape = [-1, -1]
pad = 0
[[inputs]]
name = "attention_mask"
datatype = "INT64"
shape = [-1, -1]
pad = 0
"#;

/// A folder under the system's temporary one, removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A fresh folder of this process for this purpose.
    pub(crate) fn new(purpose: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("tensorgate-{purpose}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A repository of its own with these models: the identity, those that are made here, and samples. Samples that are
    /// missing are left out.
    pub(crate) fn repository(&self, name: &str, models: &[&str], samples: &Path) -> Result<PathBuf, Box<dyn Error>> {
        let root = self.path(name);
        fs::create_dir_all(&root)?;
        for model in models {
            let folder = root.join(model);
            let made: fn() -> Vec<u8> = match *model {
                "identity" => {
                    fs::create_dir_all(&folder)?;
                    fs::write(folder.join("model.toml"), IDENTITY)?;
                    continue;
                }
                "compute" => onnx_file::compute_bound,
                "slow" => onnx_file::slow,
                "wide" => onnx_file::wide,
                "minilm" | "sentences" => onnx_file::transformer,
                sample => {
                    let from = samples.join(sample);
                    if from.exists() {
                        copy(&from, &folder)?;
                    }
                    continue;
                }
            };
            fs::create_dir_all(folder.join("1"))?;
            fs::write(folder.join("1/model.onnx"), made())?;
            if *model == "sentences" {
                fs::write(folder.join("model.toml"), SENTENCES)?;
            }
        }
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
