//! ONNX Runtime driven in-process on one thread: the most that one core can do with a model.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};

use crate::payload::{Column, Field, ModelSpec};
use crate::report::latencies::Latencies;

/// Distinct rows that batches are taken from in the bench.
pub(crate) const ROWS: usize = 2048;
/// Batch sizes of a sweep.
pub(crate) const BATCHES: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// A loaded model with rows to feed it.
pub(crate) struct Driver {
    session: Session,
    inputs: Vec<Input>,
    rows: usize,
    next: usize,
}

/// An input of it: its rows, one behind the other.
struct Input {
    field: Field,
    shape: Vec<i64>,
    column: Column,
    /// Rows that differ, with zeros up to the longest of them.
    padded: Vec<i64>,
}

impl Input {
    /// A view of `count` rows from `first` on, padded where they differ.
    fn rows(&mut self, first: usize, count: usize) -> Result<SessionInputValue<'_>, ort::Error> {
        let (row_len, rows) = (self.field.row_len(), first..first + count);
        self.shape[0] = count as i64;
        let longest = rows.clone().map(|row| self.field.elements(row)).max().unwrap_or(row_len);
        let range = first * row_len..(first + count) * row_len;
        Ok(match &self.column {
            Column::Integers(values) if longest < row_len => {
                self.shape[1] = longest as i64;
                self.padded.clear();
                for row in rows {
                    let own = &values[row * row_len..][..self.field.elements(row)];
                    self.padded.extend_from_slice(own);
                    self.padded.resize(self.padded.len() + longest - own.len(), 0);
                }
                TensorRef::from_array_view((&self.shape[..], &self.padded[..]))?.into()
            }
            Column::Floats(values) => TensorRef::from_array_view((&self.shape[..], &values[range]))?.into(),
            Column::Integers(values) => TensorRef::from_array_view((&self.shape[..], &values[range]))?.into(),
        })
    }
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
        let rows = rows.max(BATCHES[BATCHES.len() - 1]);
        let columns = spec.columns(rows);
        let inputs = spec.inputs.into_iter().zip(columns);
        let inputs =
            inputs.map(|(field, column)| Input { shape: field.shape.clone(), field, column, padded: Vec::new() });
        Ok(Self { session, inputs: inputs.collect(), rows, next: 0 })
    }

    /// Runs the next `batch` rows.
    fn step(&mut self, batch: usize) -> Result<(), ort::Error> {
        if self.next + batch > self.rows {
            self.next = 0;
        }
        let outputs = run(&mut self.session, &mut self.inputs, self.next, batch)?;
        std::hint::black_box(outputs.len());
        drop(outputs);
        self.next += batch;
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

    /// The two batch sizes with the most rows per second, after `each` at every size that ends within it.
    pub(crate) fn best(&mut self, each: Duration) -> Result<Vec<usize>, ort::Error> {
        let mut rates: Vec<(f64, usize)> = Vec::new();
        for batch in BATCHES {
            // A slow model gains nothing from batches that take longer than they are measured.
            let longest = rates.last().map_or(0.0, |(rate, _)| batch as f64 / rate);
            if longest > each.as_secs_f64() {
                break;
            }
            match self.measure(batch, each) {
                Ok(rate) => rates.push((rate, batch)),
                // A model may be exported for one row only.
                Err(_) if batch > 1 => break,
                Err(error) => return Err(error),
            }
        }
        rates.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(rates.iter().take(2).map(|(_, batch)| *batch).collect())
    }

    /// The median time of a single row over a window, in microseconds.
    pub(crate) fn alone(&mut self, window: Duration) -> Result<f64, ort::Error> {
        let mut latencies = Latencies::new();
        let start = Instant::now();
        while start.elapsed() < window {
            let begin = Instant::now();
            self.step(1)?;
            latencies.record(begin.elapsed().as_nanos() as u64);
        }
        Ok(latencies.quantile_us(0.5))
    }

    /// Name and values of the first FP32 output for the first row.
    pub(crate) fn first_answer(&mut self) -> Result<(String, Vec<f32>), Box<dyn Error>> {
        let outputs = run(&mut self.session, &mut self.inputs, 0, 1)?;
        let floats = |(name, value): (&str, ort::value::ValueRef<'_>)| {
            let values = value.try_extract_tensor::<f32>().ok()?.1.to_vec();
            Some((name.to_owned(), values))
        };
        outputs.iter().find_map(floats).ok_or_else(|| "the model has no FP32 output".into())
    }
}

/// Runs `count` rows from `first` on.
fn run<'s>(
    session: &'s mut Session,
    inputs: &mut [Input],
    first: usize,
    count: usize,
) -> Result<SessionOutputs<'s>, ort::Error> {
    let mut values = Vec::with_capacity(inputs.len());
    for input in inputs {
        let name = input.field.name.clone();
        values.push((name, input.rows(first, count)?));
    }
    session.run(values)
}

/// Loads the library. ONNX Runtime allows this once in a process.
pub(crate) fn environment() -> Result<Environment, Box<dyn Error>> {
    Ok(ort::init_from(library()?)?.with_telemetry(false).build()?)
}

/// The model's inputs as a spec, for models that we have no preset for.
fn describe(session: &Session) -> Result<ModelSpec, Box<dyn Error>> {
    let field = |input: &Outlet| {
        let name = input.name();
        let ValueType::Tensor { ty, shape, .. } = input.dtype() else {
            return Err(format!("input '{name}' is no tensor"));
        };
        let shape: Vec<i64> = shape.iter().map(|dim| (*dim).max(1)).collect();
        match ty {
            TensorElementType::Float32 => Ok(Field::numbers(name, &shape)),
            TensorElementType::Int64 => Ok(Field::ones(name, &shape)),
            other => Err(format!("input '{name}' is {other}; only FP32 and INT64 are made up")),
        }
    };
    let inputs = session.inputs().iter().map(field).collect::<Result<_, _>>()?;
    Ok(ModelSpec { name: "model".to_owned(), inputs })
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
