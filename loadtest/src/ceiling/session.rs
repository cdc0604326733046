//! ONNX Runtime driven in-process on one thread: the most that one core can do with a model.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{TensorRef, ValueType};

use crate::payload::ModelSpec;

/// Distinct rows that batches are taken from in the bench.
pub(crate) const ROWS: usize = 2048;
/// Batch sizes of a sweep.
pub(crate) const BATCHES: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// A loaded model with rows to feed it.
pub(crate) struct Driver {
    session: Session,
    shape: Vec<i64>,
    row_len: usize,
    rows: Vec<f32>,
    next: usize,
}

impl Driver {
    /// Loads the model with one thread and everything optimised, as a server would on one core.
    pub(crate) fn load(
        environment: &Environment,
        model: &Path,
        rows: usize,
        spec: Option<&ModelSpec>,
    ) -> Result<Self, Box<dyn Error>> {
        let session = Session::builder(environment)?
            .with_intra_threads(1)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .commit_from_file(model)?;
        let spec = spec.cloned().map_or_else(|| describe(&session), Ok)?;
        let rows = spec.rows(rows.max(BATCHES[BATCHES.len() - 1]));
        Ok(Self { session, row_len: spec.row_len(), shape: spec.shape, rows, next: 0 })
    }

    /// Runs the next `batch` rows.
    fn step(&mut self, batch: usize) -> Result<(), ort::Error> {
        let length = batch * self.row_len;
        if self.next + length > self.rows.len() {
            self.next = 0;
        }
        let data = &self.rows[self.next..self.next + length];
        self.next += length;
        self.shape[0] = batch as i64;
        let input = TensorRef::from_array_view((&self.shape[..], data))?;
        let outputs = self.session.run(ort::inputs![input])?;
        std::hint::black_box(outputs.len());
        Ok(())
    }

    /// Rows per second at a batch size over a window.
    pub(crate) fn measure(&mut self, batch: usize, window: Duration) -> Result<f64, ort::Error> {
        for _ in 0..3 {
            self.step(batch)?;
        }
        let start = Instant::now();
        let mut count = 0;
        while start.elapsed() < window {
            self.step(batch)?;
            count += batch;
        }
        Ok(count as f64 / start.elapsed().as_secs_f64())
    }

    /// Name and values of the first FP32 output for the first row.
    pub(crate) fn first_answer(&mut self) -> Result<(String, Vec<f32>), Box<dyn Error>> {
        self.shape[0] = 1;
        let input = TensorRef::from_array_view((&self.shape[..], &self.rows[..self.row_len]))?;
        let outputs = self.session.run(ort::inputs![input])?;
        let floats = |(name, value): (&str, ort::value::ValueRef<'_>)| {
            let values = value.try_extract_tensor::<f32>().ok()?.1.to_vec();
            Some((name.to_owned(), values))
        };
        outputs.iter().find_map(floats).ok_or_else(|| "the model has no FP32 output".into())
    }
}

/// Loads the library. ONNX Runtime allows this once in a process.
pub(crate) fn environment() -> Result<Environment, Box<dyn Error>> {
    Ok(ort::init_from(library()?)?.with_telemetry(false).build()?)
}

/// The model's first input as a spec, for models that we have no preset for.
fn describe(session: &Session) -> Result<ModelSpec, Box<dyn Error>> {
    let input = session.inputs().first().ok_or("the model has no input")?;
    let ValueType::Tensor { shape, .. } = input.dtype() else {
        return Err("the first input is no tensor".into());
    };
    let dims: Vec<String> = shape.iter().map(|dim| (*dim).max(1).to_string()).collect();
    // A preset knows what values suit its input; any other gets values from -1 to 1.
    Ok(ModelSpec::parse(&format!("model:{}:{}", input.name(), dims.join("x")))?)
}

/// `libonnxruntime.so` by `ORT_DYLIB_PATH`, else in `.onnxruntime/` up from the working directory.
fn library() -> Result<PathBuf, Box<dyn Error>> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return Ok(PathBuf::from(path));
    }
    let here = std::env::current_dir()?;
    let found = here.ancestors().map(|folder| folder.join(".onnxruntime/libonnxruntime.so")).find(|path| path.exists());
    found.ok_or_else(|| "no libonnxruntime.so: set ORT_DYLIB_PATH, or put it into .onnxruntime/".into())
}

/// Prints rows per second for each batch size, and the best.
pub(crate) fn sweep(model: &Path, rows: usize, window: Duration) -> Result<(), Box<dyn Error>> {
    let mut driver = Driver::load(&environment()?, model, rows, None)?;
    let mut best = (0, 0.0);
    for batch in BATCHES {
        let rate = match driver.measure(batch, window) {
            Ok(rate) => rate,
            // A model may be exported for one row only.
            Err(error) if batch > 1 => {
                println!("batch {batch:>4}  refused: {error}");
                break;
            }
            Err(error) => return Err(error.into()),
        };
        println!("batch {batch:>4}  {rate:>12.0} rows/s  {:>10.1} us a batch", batch as f64 * 1e6 / rate);
        if rate > best.1 {
            best = (batch, rate);
        }
    }
    println!("best  {:>4}  {:>12.0} rows/s", best.0, best.1);
    Ok(())
}
