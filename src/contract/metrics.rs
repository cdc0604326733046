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
/// Batches that failed and were retried request by request, by model and version.
pub const BATCH_RETRIES: &str = "tensorgate_batch_retries_total";
/// Requests accepted and not yet answered, by model and version.
pub const IN_FLIGHT: &str = "tensorgate_in_flight";
/// Requests waiting for a batch, by model and version.
pub const QUEUE_DEPTH: &str = "tensorgate_queue_depth";
/// How long the last load took, warm-up included, by model and version.
pub const LOAD_SECONDS: &str = "tensorgate_load_seconds";
/// 1 for the state that a version is in, 0 for the others, by model, version and state.
pub const MODEL_STATE: &str = "tensorgate_model_state";
