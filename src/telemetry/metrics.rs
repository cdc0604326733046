//! The registry and the handles.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::doors::DoorMetrics;
use super::storage::StorageMetrics;
use super::text::Text;
use super::{
    GpuTold, Known, ModelMetrics, Spent, Statistics, TraceSettings, TrafficTold, gpus, known, process, triton,
};
use crate::contract::metrics as names;
use crate::devices::Devices;
use crate::error::Kind;

/// Bucket bounds for times, in seconds: 25 us to 10 s, about three a decade, since answers take from tens of microseconds
/// (a linear model) to seconds (a large one).
const SECONDS: [f64; 17] =
    [25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Bucket bounds for the time of a request: five a decade (Renard's R5), so that what takes half as long again as before is told
/// apart, which is what the controller's guarded rollouts judge a revision by.
const REQUEST_SECONDS: [f64; 29] = [
    25e-6, 40e-6, 63e-6, 100e-6, 160e-6, 250e-6, 400e-6, 630e-6, 1e-3, 1.6e-3, 2.5e-3, 4e-3, 6.3e-3, 10e-3, 16e-3,
    25e-3, 40e-3, 63e-3, 0.1, 0.16, 0.25, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0, 6.3, 10.0,
];

/// Bucket bounds for rows of a batch.
const ROWS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

const BY_VERSION: [&str; 2] = ["model", "version"];

/// What the cells of a batch are, as [`names::CELLS`] tells it.
const CELL_USES: [&str; 2] = ["useful", "padding"];

/// The states that [`names::MODEL_STATE`] tells apart.
const STATES: [&str; 4] = ["LOADING", "READY", "UNLOADING", "UNAVAILABLE"];

/// Where [`names::BATCHES`] says that a batch ran.
const PLACES: [&str; 2] = ["in_place", "thread"];

/// All metrics of one server.
pub struct Telemetry {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    queue_seconds: HistogramVec,
    execute_seconds: HistogramVec,
    batch_rows: HistogramVec,
    cells: IntCounterVec,
    wasted_seconds: CounterVec,
    batches: IntCounterVec,
    batch_retries: IntCounterVec,
    in_flight: IntGaugeVec,
    queue_depth: IntGaugeVec,
    load_seconds: GaugeVec,
    state: IntGaugeVec,
    polls: IntCounterVec,
    pages: IntCounterVec,
    memory: GaugeVec,
    gpu_memory: GaugeVec,
    in_memory: IntGauge,
    cache_bytes: IntGauge,
    dropped: IntCounterVec,
    /// What goes through the doors.
    pub doors: DoorMetrics,
    /// What is fetched from storage.
    pub storage: Arc<StorageMetrics>,
    /// What rows take beside their executions.
    pub spent: Arc<Spent>,
    /// Of every version, by model and version, those of its last load.
    statistics: Mutex<BTreeMap<(String, String), Arc<Statistics>>>,
    trace_settings: TraceSettings,
    cpu: process::CpuTimes,
    devices: Arc<Devices>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl Telemetry {
    /// A fresh registry.
    ///
    /// # Panics
    /// Never: names are constants, each registered once.
    pub fn new() -> Self {
        let registry = Registry::new();
        Self {
            requests: keep(
                &registry,
                IntCounterVec::new(opts(names::REQUESTS, "Requests answered"), &["model", "version", "kind"]),
            ),
            request_seconds: histogram(&registry, names::REQUEST_SECONDS, "From arrival to answer", &REQUEST_SECONDS),
            queue_seconds: histogram(&registry, names::QUEUE_SECONDS, "Wait for a batch", &SECONDS),
            execute_seconds: histogram(&registry, names::EXECUTE_SECONDS, "One execution of a batch", &SECONDS),
            batch_rows: histogram(&registry, names::BATCH_ROWS, "Rows of an executed batch", &ROWS),
            cells: keep(
                &registry,
                IntCounterVec::new(opts(names::CELLS, "Cells of padded batches"), &["model", "version", "use"]),
            ),
            wasted_seconds: keep(
                &registry,
                CounterVec::new(
                    opts(names::WASTED_SECONDS, "Execution for answers that nobody could use"),
                    &BY_VERSION,
                ),
            ),
            batches: keep(
                &registry,
                IntCounterVec::new(opts(names::BATCHES, "Batches executed"), &["model", "version", "place"]),
            ),
            batch_retries: keep(
                &registry,
                IntCounterVec::new(opts(names::BATCH_RETRIES, "Failed batches retried singly"), &BY_VERSION),
            ),
            in_flight: keep(
                &registry,
                IntGaugeVec::new(opts(names::IN_FLIGHT, "Requests not yet answered"), &BY_VERSION),
            ),
            queue_depth: keep(
                &registry,
                IntGaugeVec::new(opts(names::QUEUE_DEPTH, "Requests waiting for a batch"), &BY_VERSION),
            ),
            load_seconds: gauges(&registry, names::LOAD_SECONDS, "Duration of the last load", &BY_VERSION),
            state: keep(
                &registry,
                IntGaugeVec::new(opts(names::MODEL_STATE, "1 for the current state"), &["model", "version", "state"]),
            ),
            polls: keep(
                &registry,
                IntCounterVec::new(opts(names::POLLS, "Looks at the model repositories"), &["outcome"]),
            ),
            pages: keep(
                &registry,
                IntCounterVec::new(opts(names::PAGES, "Versions brought back into memory, or taken out"), &["way"]),
            ),
            memory: gauges(&registry, names::MEMORY, "Memory of the versions in it, and what they may take", &["what"]),
            gpu_memory: gauges(&registry, names::GPU_MODELS_MEMORY, "The same of each GPU", &["device", "what"]),
            cache_bytes: keep(&registry, IntGauge::new(names::CACHE_BYTES, "Bytes of kept answers")),
            in_memory: keep(&registry, IntGauge::new(names::IN_MEMORY, "Versions in memory")),
            dropped: keep(&registry, IntCounterVec::new(opts(names::DROPPED, "Telemetry that was dropped"), &["sink"])),
            doors: DoorMetrics::default(),
            storage: Arc::default(),
            spent: Arc::default(),
            statistics: Mutex::default(),
            registry,
            trace_settings: TraceSettings::default(),
            cpu: process::CpuTimes::default(),
            devices: Arc::default(),
        }
    }

    /// The same, telling of these GPUs.
    #[must_use]
    pub fn with_devices(self, devices: Arc<Devices>) -> Self {
        Self { devices, ..self }
    }

    /// How the machine's GPUs are doing. Asks their driver, on a thread that may wait.
    pub async fn gpus(&self) -> Vec<GpuTold> {
        let devices = Arc::clone(&self.devices);
        // A panic in there is in the log.
        tokio::task::spawn_blocking(move || gpus::read(&devices)).await.unwrap_or_default()
    }

    /// What is to be traced.
    pub fn trace_settings(&self) -> &TraceSettings {
        &self.trace_settings
    }

    /// The handles for one version of a model.
    pub fn model(&self, model: &str, version: &str) -> ModelMetrics {
        let labels = [model, version];
        let statistics = Arc::<Statistics>::default();
        self.statistics().insert((model.into(), version.into()), Arc::clone(&statistics));
        ModelMetrics {
            ok: self.requests.with_label_values(&[model, version, "ok"]),
            errors: Kind::ALL
                .map(|kind| (kind, self.requests.with_label_values(&[model, version, kind.name()])))
                .to_vec(),
            request_seconds: self.request_seconds.with_label_values(&labels),
            queue_seconds: self.queue_seconds.with_label_values(&labels),
            execute_seconds: self.execute_seconds.with_label_values(&labels),
            batch_rows: self.batch_rows.with_label_values(&labels),
            cells: CELL_USES.map(|cells| self.cells.with_label_values(&[model, version, cells])),
            wasted_seconds: self.wasted_seconds.with_label_values(&labels),
            batches_in_place: self.batches.with_label_values(&[model, version, PLACES[0]]),
            batches_on_thread: self.batches.with_label_values(&[model, version, PLACES[1]]),
            batch_retries: self.batch_retries.with_label_values(&labels),
            in_flight: self.in_flight.with_label_values(&labels),
            queue_depth: self.queue_depth.with_label_values(&labels),
            load_seconds: self.load_seconds.with_label_values(&labels),
            statistics,
            spent: Arc::clone(&self.spent),
            threads: Arc::new(AtomicUsize::new(1)),
        }
    }

    /// Counts a request that was refused before a version was found. `model` is not a label value here: names that no
    /// repository holds would let a client grow the registry without bound.
    pub fn count_unrouted(&self, kind: Kind) {
        self.requests.with_label_values(&["", "", kind.name()]).inc();
    }

    /// Shows `state` as the one that a version is in.
    pub fn set_state(&self, model: &str, version: &str, state: &str) {
        for known in STATES {
            self.state.with_label_values(&[model, version, known]).set(i64::from(known == state));
        }
    }

    /// Counts a look at the model repositories.
    pub fn count_poll(&self, succeeded: bool) {
        self.polls.with_label_values(&[if succeeded { "ok" } else { "failed" }]).inc();
    }

    /// Counts a version that was brought back into memory, or taken out.
    pub fn count_page(&self, into_memory: bool) {
        self.pages.with_label_values(&[if into_memory { "in" } else { "out" }]).inc();
    }

    /// Shows what kept answers take.
    pub fn set_cache_bytes(&self, bytes: usize) {
        self.cache_bytes.set(bytes as i64);
    }

    /// Shows how many versions are in memory, and what they take of what they may.
    pub fn set_memory(&self, versions: usize, bytes: u64, bytes_max: u64) {
        self.in_memory.set(versions as i64);
        self.memory.with_label_values(&["used"]).set(bytes as f64);
        self.memory.with_label_values(&["max"]).set(bytes_max as f64);
    }

    /// Shows what the versions on a GPU take of what they may.
    pub fn set_gpu_memory(&self, device: &str, bytes: u64, bytes_max: u64) {
        self.gpu_memory.with_label_values(&[device, "used"]).set(bytes as f64);
        self.gpu_memory.with_label_values(&[device, "max"]).set(bytes_max as f64);
    }

    /// Drops what is told of a version that no repository holds and that was unloaded: callers make such names up, and the
    /// registry would grow by every one.
    pub fn forget(&self, model: &str, version: &str) {
        let labels = [model, version];
        // An error says that there is no such series, which is what is wanted.
        let histograms = [&self.request_seconds, &self.queue_seconds, &self.execute_seconds, &self.batch_rows];
        histograms.iter().for_each(|family| drop(family.remove_label_values(&labels)));
        [&self.in_flight, &self.queue_depth].iter().for_each(|family| drop(family.remove_label_values(&labels)));
        drop(self.batch_retries.remove_label_values(&labels));
        drop(self.wasted_seconds.remove_label_values(&labels));
        drop(self.load_seconds.remove_label_values(&labels));
        for kind in Kind::ALL.iter().map(|kind| kind.name()).chain(["ok"]) {
            drop(self.requests.remove_label_values(&[model, version, kind]));
        }
        for cells in CELL_USES {
            drop(self.cells.remove_label_values(&[model, version, cells]));
        }
        for place in PLACES {
            drop(self.batches.remove_label_values(&[model, version, place]));
        }
        for state in STATES {
            drop(self.state.remove_label_values(&[model, version, state]));
        }
        self.statistics().remove(&(model.to_owned(), version.to_owned()));
    }

    /// All metrics in Prometheus' text format 0.0.4, with what is `known` of the versions that serve, the `traffic` of models
    /// whose requests are shared out, and how the `gpus` are doing.
    pub fn render(&self, known: &[Known], traffic: &[TrafficTold], gpus: &[GpuTold]) -> String {
        let families = self.registry.gather();
        let mut text = Text::default();
        self.doors.write(&mut text);
        self.storage.write(&mut text);
        process::write(&mut text, &self.cpu);
        gpus::write(gpus, &mut text);
        known::write(known, &mut text);
        if let Some(each) = self.spent.row_overhead() {
            let help = "Processor time that a row takes beside its execution, whichever model's";
            text.single(names::ROW_OVERHEAD, "gauge", help, each.as_secs_f64());
        }
        super::traffic::write(traffic, &mut text);
        triton::write(&families, &mut text);
        triton::write_computing(&self.statistics(), &mut text);
        triton::write_cache(&self.statistics(), &mut text);
        TextEncoder::new().encode_to_string(&families).unwrap_or_default() + &text.finish()
    }

    fn statistics(&self) -> MutexGuard<'_, BTreeMap<(String, String), Arc<Statistics>>> {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what `sink` drops.
    pub fn dropped(&self, sink: &str) -> DropCounter {
        DropCounter(self.dropped.with_label_values(&[sink]))
    }
}

/// See [`names::DROPPED`].
#[derive(Clone, Debug)]
pub struct DropCounter(IntCounter);

impl DropCounter {
    /// Counts `count` more.
    pub fn add(&self, count: u64) {
        self.0.inc_by(count);
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help)
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    keep(registry, HistogramVec::new(options, &BY_VERSION))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    keep(registry, GaugeVec::new(opts(name, help), labels))
}

fn keep<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("metric names and labels are constants");
    registry.register(Box::new(collector.clone())).expect("each metric is registered once");
    collector
}
