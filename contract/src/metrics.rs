//! Names of the metrics that the server exports at `/metrics`. Times are in seconds.

/// Requests answered, by model, version and kind: "ok" or the name of an error kind.
pub const REQUESTS: &str = "tensorgate_requests_total";
/// From the request's arrival at the service until its answer, by model and version.
pub const REQUEST_SECONDS: &str = "tensorgate_request_seconds";
/// From submission to the scheduler until the batch was dispatched, by model and version.
pub const QUEUE_SECONDS: &str = "tensorgate_queue_seconds";
/// One execution of a batch, by model and version.
pub const EXECUTE_SECONDS: &str = "tensorgate_execute_seconds";
/// Rows of each executed batch, by model and version.
pub const BATCH_ROWS: &str = "tensorgate_batch_rows";
/// Cells of executed batches of models whose inputs are padded, by model, version and use: "useful" or "padding".
pub const CELLS: &str = "tensorgate_cells_total";
/// Batches that failed and were retried request by request, by model and version.
pub const BATCH_RETRIES: &str = "tensorgate_batch_retries_total";
/// Batches executed, by model, version and place: "in_place", on the thread of the connections, or "thread", handed to one of
/// its own.
pub const BATCHES: &str = "tensorgate_batches_total";
/// Requests that the controller's router has asked a revision without a share too, by revision and outcome: "agreed", "disagreed",
/// "failed" where only it did; "not_run", "dropped" and "unreadable" where nothing was compared.
pub const SHADOW_REQUESTS: &str = "tensorgate_router_shadow_requests_total";
/// Disagreements of such a revision, by revision and kind: "names", "datatypes", "shapes", "contents", "not_finite".
pub const SHADOW_DIFFERENCES: &str = "tensorgate_router_shadow_differences_total";
/// Rows whose largest elements were looked for, by revision and whether their place is the same: "yes" or "no".
pub const SHADOW_ROWS: &str = "tensorgate_router_shadow_rows_total";
/// The largest difference of two elements, by revision.
pub const SHADOW_ABSOLUTE: &str = "tensorgate_router_shadow_absolute_max";
/// The largest difference divided by the larger of the two, by revision.
pub const SHADOW_RELATIVE: &str = "tensorgate_router_shadow_relative_max";
/// What compared answers took, by revision and side: "live" or "shadow".
pub const SHADOW_SECONDS: &str = "tensorgate_router_shadow_seconds_total";
/// The learned latency of a batch, by model, version, work (rows; padded cells where models are padded) and quantile ("0.5",
/// "0.95").
pub const MODEL_LATENCY: &str = "tensorgate_model_latency_seconds";
/// Rows per second that a version can serve within its objective, by model and version: what the learned latency, its
/// instances and independent callers come to.
pub const MODEL_CAPACITY: &str = "tensorgate_model_capacity_rows_per_second";
/// Rows per second that arrive, refused ones included, by model and version.
pub const MODEL_ARRIVALS: &str = "tensorgate_model_arrivals_rows_per_second";
/// Rows that arrived since the version was loaded, refused ones included, by model and version.
pub const ARRIVED_ROWS: &str = "tensorgate_arrived_rows_total";
/// Requests answered after the objective since the version was loaded, by model and version.
pub const LATE: &str = "tensorgate_late_total";
/// Batches of a version that may run at once, by model and version.
pub const MODEL_INSTANCES: &str = "tensorgate_model_instances";
/// Threads of one execution, by model and version.
pub const MODEL_THREADS: &str = "tensorgate_model_threads";
/// Rows that a batch may have, as they are set or found, by model and version.
pub const MODEL_ROWS_MAX: &str = "tensorgate_model_rows_max";
/// Work of a typical row in the units of the learned latency, by model and version: 1 where rows are alike.
pub const MODEL_ROW_WORK: &str = "tensorgate_model_row_work";
/// Executions that the learned latency comes from, by model and version.
pub const MODEL_EXECUTIONS: &str = "tensorgate_model_executions";
/// The latency objective, by model and version.
pub const MODEL_OBJECTIVE: &str = "tensorgate_model_objective_seconds";
/// Execution time spent on answers that nobody could use any more, by model and version.
pub const WASTED_SECONDS: &str = "tensorgate_wasted_seconds_total";
/// Requests accepted and not yet answered, by model and version.
pub const IN_FLIGHT: &str = "tensorgate_in_flight";
/// Requests waiting for a batch, by model and version.
pub const QUEUE_DEPTH: &str = "tensorgate_queue_depth";
/// How long the last load took, warm-up included, by model and version.
pub const LOAD_SECONDS: &str = "tensorgate_load_seconds";
/// 1 for the state that a version is in, 0 for the others, by model, version and state.
pub const MODEL_STATE: &str = "tensorgate_model_state";
/// The share of a model's requests that name no version which a version gets, by model and version; of models whose traffic is
/// shared out.
pub const TRAFFIC_SHARE: &str = "tensorgate_traffic_share";
/// Requests that a shadow or canary was asked too, by model, version and outcome: "agreed", "disagreed", "not_run" (it was not
/// ready, had too much to do, or others needed the cores), "dropped" (the queue was full).
pub const MIRRORED: &str = "tensorgate_mirrored_total";
/// The largest difference of two elements of compared answers, by model and version.
pub const MIRRORED_DIFFERENCE: &str = "tensorgate_mirrored_difference_max";
/// Rows of compared answers, by model, version and whether their largest elements are at the same place: same ("true", "false").
pub const MIRRORED_ARGMAX: &str = "tensorgate_mirrored_argmax_total";
/// 1 for the state that a guarded canary is in, 0 for the others, by model, version and state: "running", "promoted",
/// "rolled_back".
pub const CANARY_STATE: &str = "tensorgate_canary_state";
/// The step that a guarded canary is at, from 1; one more than there are when it was promoted, 0 when it was rolled back.
pub const CANARY_STEP: &str = "tensorgate_canary_step";
/// Looks at the model repositories (`--model-control poll`), by outcome: "ok", or "failed" where one could not be read.
pub const POLLS: &str = "tensorgate_repository_polls_total";
/// Versions that came back into memory or left it, by way: "in", "out". The first load of a version is none.
pub const PAGES: &str = "tensorgate_pages_total";
/// Versions in memory.
pub const IN_MEMORY: &str = "tensorgate_models_in_memory";
/// Bytes, by what: those that the versions in memory take, as measured when they were loaded ("used"), and those that they
/// may take (`--memory-max`, "max").
pub const MEMORY: &str = "tensorgate_models_memory_bytes";
/// The same of each GPU (`--gpu-memory-max`), by device and what. There once a model was on one, or was to be.
pub const GPU_MODELS_MEMORY: &str = "tensorgate_models_gpu_memory_bytes";
/// Processor time that a row takes the server beside its execution, whichever model's: a mean of the last ones. There once enough
/// have come.
pub const ROW_OVERHEAD: &str = "tensorgate_row_overhead_seconds";
/// Requests answered with an answer that was kept, by model and version, of models that keep them.
pub const CACHE_HITS: &str = "tensorgate_response_cache_hits_total";
/// Requests whose answer was not kept yet, likewise.
pub const CACHE_MISSES: &str = "tensorgate_response_cache_misses_total";
/// Bytes of kept answers, of all models.
pub const CACHE_BYTES: &str = "tensorgate_response_cache_bytes";
/// Requests answered at the doors, health and refusals among them, by protocol ("http", "grpc") and status.
pub const DOOR_REQUESTS: &str = "tensorgate_door_requests_total";
/// Connections open, at both ports.
pub const CONNECTIONS: &str = "tensorgate_connections";
/// Connections that were ended early, by reason: "idle", "head_timeout", "answer_timeout", "room" (others came and the bound
/// was met), "protocol" (an HTTP/2 client that floods or breaks the protocol).
pub const CONNECTIONS_ENDED: &str = "tensorgate_connections_ended_total";
/// Connections that could not be accepted for want of descriptors or memory.
pub const ACCEPT_FAILURES: &str = "tensorgate_accept_failures_total";
/// What was not written or sent because its queue was full or its receiver failed, by sink: "access_log", "otlp",
/// "payload", "trace".
pub const DROPPED: &str = "tensorgate_telemetry_dropped_total";
/// Requests to stores that models are fetched from. This family and those below are there where a store is used.
pub const STORAGE_REQUESTS: &str = "tensorgate_storage_requests_total";
/// Requests to stores that were made again.
pub const STORAGE_RETRIES: &str = "tensorgate_storage_retries_total";
/// Bytes of files that came from stores.
pub const STORAGE_FETCHED: &str = "tensorgate_storage_fetched_bytes_total";
/// Bytes that were not fetched again, because a download that was broken off had left them.
pub const STORAGE_RESUMED: &str = "tensorgate_storage_resumed_bytes_total";
/// Bytes to be fetched yet for the versions that are being loaded.
pub const STORAGE_REMAINING: &str = "tensorgate_storage_remaining_bytes";
/// Files that were in the cache when a version was loaded.
pub const STORAGE_CACHE_HITS: &str = "tensorgate_storage_cache_hits_total";
/// Files that were not.
pub const STORAGE_CACHE_MISSES: &str = "tensorgate_storage_cache_misses_total";
/// Versions that the cache let go to make room.
pub const STORAGE_CACHE_EVICTIONS: &str = "tensorgate_storage_cache_evictions_total";
/// What the cache takes on disk.
pub const STORAGE_CACHE_BYTES: &str = "tensorgate_storage_cache_bytes";

/// What the controller exports of its autoscaler, by namespace and revision.
pub mod controller {
    /// Replicas that there are to be.
    pub const REPLICAS_DESIRED: &str = "tensorgate_controller_replicas_desired";
    /// Replicas that are ready.
    pub const REPLICAS_READY: &str = "tensorgate_controller_replicas_ready";
    /// Rows per second that arrive, or requests in flight where a target says so.
    pub const DEMAND: &str = "tensorgate_controller_demand";
    /// The same as it is expected when a replica that is ordered now is ready.
    pub const FORECAST: &str = "tensorgate_controller_demand_forecast";
    /// What one replica is counted on for, in the same unit.
    pub const CAPACITY: &str = "tensorgate_controller_replica_capacity";
    /// Changes of replicas, by cause.
    pub const SCALINGS: &str = "tensorgate_controller_scalings_total";
}

/// How GPUs are doing, as their driver (NVML) tells, by device and UUID; there where a driver is.
pub mod gpu {
    /// Memory of a GPU.
    pub const MEMORY_TOTAL: &str = "tensorgate_gpu_memory_total_bytes";
    /// Memory of a GPU in use, by whomever.
    pub const MEMORY_USED: &str = "tensorgate_gpu_memory_used_bytes";
    /// The share of the time in which a GPU computes, 0 to 1, over the driver's last sample.
    pub const UTILIZATION: &str = "tensorgate_gpu_utilization_ratio";
    /// Watts that a GPU takes.
    pub const POWER: &str = "tensorgate_gpu_power_watts";
    /// Watts that a GPU may take.
    pub const POWER_LIMIT: &str = "tensorgate_gpu_power_limit_watts";
    /// Joules that a GPU has taken since its driver was loaded.
    pub const ENERGY: &str = "tensorgate_gpu_energy_joules_total";
}

/// What the process is, by the names that Prometheus' own clients use.
pub mod process {
    /// 1, by version.
    pub const BUILD: &str = "tensorgate_build_info";
    /// Processor time, user and system.
    pub const CPU_SECONDS: &str = "process_cpu_seconds_total";
    /// Start of the process, in seconds since 1970.
    pub const START: &str = "process_start_time_seconds";
    /// Resident memory in bytes.
    pub const RESIDENT: &str = "process_resident_memory_bytes";
    /// Virtual memory in bytes.
    pub const VIRTUAL: &str = "process_virtual_memory_bytes";
    /// Open file descriptors.
    pub const OPEN_FDS: &str = "process_open_fds";
}

/// Triton's names for the same, by model and version. Its times are in microseconds.
pub mod triton {
    /// Requests answered.
    pub const SUCCESS: &str = "nv_inference_request_success";
    /// Requests failed, also by reason: REJECTED, CANCELED, BACKEND, OTHER.
    pub const FAILURE: &str = "nv_inference_request_failure";
    /// Rows executed.
    pub const COUNT: &str = "nv_inference_count";
    /// Batches executed.
    pub const EXEC_COUNT: &str = "nv_inference_exec_count";
    /// Cumulative time from arrival to answer.
    pub const REQUEST_US: &str = "nv_inference_request_duration_us";
    /// Cumulative wait for a batch.
    pub const QUEUE_US: &str = "nv_inference_queue_duration_us";
    /// Cumulative time of joining inputs, of every request its batch's.
    pub const COMPUTE_INPUT_US: &str = "nv_inference_compute_input_duration_us";
    /// Cumulative time of splitting outputs, likewise.
    pub const COMPUTE_OUTPUT_US: &str = "nv_inference_compute_output_duration_us";
    /// Cumulative time of executions, likewise.
    pub const COMPUTE_INFER_US: &str = "nv_inference_compute_infer_duration_us";
    /// Requests waiting for a batch.
    pub const PENDING: &str = "nv_inference_pending_request_count";
    /// Duration of the last load, in seconds.
    pub const LOAD_SECONDS: &str = "nv_model_load_duration_secs";
    /// Requests answered with a kept answer.
    pub const CACHE_HITS: &str = "nv_cache_num_hits_per_model";
    /// Requests whose answer was not kept yet.
    pub const CACHE_MISSES: &str = "nv_cache_num_misses_per_model";
    /// Cumulative time of the former.
    pub const CACHE_HIT_US: &str = "nv_cache_hit_duration_per_model";
    /// Cumulative time of the latter.
    pub const CACHE_MISS_US: &str = "nv_cache_miss_duration_per_model";
    /// The share of the machine's processor time that was used since it was last asked for, 0 to 1.
    pub const CPU_UTILIZATION: &str = "nv_cpu_utilization";
    /// Memory of the machine.
    pub const CPU_MEMORY_TOTAL: &str = "nv_cpu_memory_total_bytes";
    /// Memory of the machine in use.
    pub const CPU_MEMORY_USED: &str = "nv_cpu_memory_used_bytes";
    /// Memory of a GPU, by its UUID; likewise those below.
    pub const GPU_MEMORY_TOTAL: &str = "nv_gpu_memory_total_bytes";
    /// Memory of a GPU in use.
    pub const GPU_MEMORY_USED: &str = "nv_gpu_memory_used_bytes";
    /// The share of the time in which a GPU computes, 0 to 1.
    pub const GPU_UTILIZATION: &str = "nv_gpu_utilization";
    /// Watts that a GPU takes.
    pub const GPU_POWER_USAGE: &str = "nv_gpu_power_usage";
    /// Watts that a GPU may take.
    pub const GPU_POWER_LIMIT: &str = "nv_gpu_power_limit";
    /// Joules that a GPU has taken since its driver was loaded.
    pub const GPU_ENERGY: &str = "nv_energy_consumption";
}
