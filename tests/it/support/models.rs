//! Model repositories that live as long as a test.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A repository in a directory of its own.
pub(crate) struct Models {
    directory: TempDir,
}

/// The file of a fixture.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).with_extension("onnx")
}

/// The file of a sample model.
pub(crate) fn sample(name: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name).join(file)
}

impl Models {
    /// An empty repository.
    pub(crate) fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    /// A repository of fixtures, each under its own name as version 1.
    pub(crate) fn of(fixtures: &[&str]) -> Self {
        fixtures.iter().fold(Self::new(), |models, name| models.with(name, name))
    }

    /// Adds `fixture` as version 1 of `model`.
    pub(crate) fn with(self, model: &str, fixture: &str) -> Self {
        self.put(model, 1, fixture);
        self
    }

    /// Adds a model with a tokenizer, out of tests/fixtures/text, as version 1 under its own name.
    pub(crate) fn with_texts(self, name: &str) -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text").join(name);
        copy_folder(&from, &self.path().join(name).join("1"));
        self
    }

    /// Adds `fixture` as `version` of `model`.
    pub(crate) fn with_version(self, model: &str, version: u64, fixture: &str) -> Self {
        self.put(model, version, fixture);
        self
    }

    /// Adds the checkpoint `fixture` of tests/fixtures/candle as `model`, without a version.
    pub(crate) fn with_checkpoint(self, model: &str, fixture: &str) -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/candle").join(fixture);
        let mut pending = vec![(from, self.path().join(model))];
        while let Some((from, to)) = pending.pop() {
            fs::create_dir_all(&to).unwrap();
            for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
                let to = to.join(entry.file_name().unwrap());
                if entry.is_dir() {
                    pending.push((entry, to));
                } else {
                    fs::copy(entry, to).unwrap();
                }
            }
        }
        self
    }

    /// Adds a `model.toml`.
    pub(crate) fn with_toml(self, model: &str, text: &str) -> Self {
        self.write(model, "model.toml", text);
        self
    }

    /// Adds a `config.pbtxt`.
    pub(crate) fn with_pbtxt(self, model: &str, text: &str) -> Self {
        self.write(model, "config.pbtxt", text);
        self
    }

    /// Adds an identity model over FP32 rows of four that takes `milliseconds` for each execution, on one instance, one
    /// request at a time. `more` settings come first.
    pub(crate) fn with_slow_identity(self, model: &str, milliseconds: u64, more: &str) -> Self {
        let text = format!(
            "{more}\nruntime = \"identity\"\nexecute_time = \"{milliseconds}ms\"\nthreads = 1\ninstances = 1\n\
             max_batch_size = 1\n[[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 4]\n"
        );
        self.with_toml(model, &text)
    }

    /// Puts `fixture` where `version` of `model` is, in one step.
    pub(crate) fn put(&self, model: &str, version: u64, fixture_name: &str) {
        let directory = self.path().join(model).join(version.to_string());
        fs::create_dir_all(&directory).unwrap();
        fs::copy(fixture(fixture_name), directory.join(".new")).unwrap();
        fs::rename(directory.join(".new"), directory.join("model.onnx")).unwrap();
    }

    /// Writes a file into the directory of `model`.
    pub(crate) fn write(&self, model: &str, file: &str, text: &str) {
        let directory = self.path().join(model);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(file), text).unwrap();
    }

    /// The repository's directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The repository's directory, for a command line.
    pub(crate) fn argument(&self) -> &str {
        self.path().to_str().unwrap()
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}
