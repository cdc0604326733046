//! The TOML file. Its keys are the flags' names with underscores.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::flags::WatchFlags;
use super::{Fault, Flags, StorageFlags};

/// The file's content; every key is optional, an unknown one is a fault.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct File {
    pub repositories: Vec<PathBuf>,
    pub model_name: Option<String>,
    pub model_dir: Option<PathBuf>,
    pub model_control: Option<String>,
    pub poll_interval: Option<String>,
    pub memory_max: Option<String>,
    pub gpu_memory_max: Option<String>,
    pub response_cache_bytes_max: Option<String>,
    pub load_model: Vec<String>,
    pub storage_uri: Option<String>,
    pub cache_dir: Option<PathBuf>,
    pub cache_bytes_max: Option<String>,
    pub fetch_parallel: Option<usize>,
    pub fetch_bytes_per_second: Option<String>,
    pub host: Option<std::net::IpAddr>,
    pub uploads_max: Option<String>,
    pub http_port: Option<u16>,
    pub grpc_port: Option<u16>,
    pub body_max: Option<String>,
    pub connections_max: Option<usize>,
    pub head_timeout: Option<String>,
    pub decompression_ratio_max: Option<usize>,
    pub buffered_max: Option<String>,
    pub header_bytes_max: Option<String>,
    pub headers_max: Option<usize>,
    pub uri_max: Option<String>,
    pub body_timeout: Option<String>,
    pub answer_timeout: Option<String>,
    pub idle_timeout: Option<String>,
    pub streams_max: Option<u32>,
    pub resets_max: Option<usize>,
    pub json_depth_max: Option<usize>,
    pub tensors_max: Option<usize>,
    pub outputs_max: Option<usize>,
    pub parameters_max: Option<usize>,
    pub string_max: Option<String>,
    pub cors_origin: Vec<String>,
    pub path_prefix: Option<String>,
    pub shared_memory_prefix: Option<PathBuf>,
    pub shared_memory_regions_max: Option<usize>,
    pub drain_delay: Option<String>,
    pub drain_timeout: Option<String>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub tls_client_ca: Option<PathBuf>,
    pub tls_min_version: Option<String>,
    pub tls_handshake_timeout: Option<String>,
    pub auth_file: Option<PathBuf>,
    pub rate_limit: Option<String>,
    pub refuse: Vec<String>,
    pub reload_interval: Option<String>,
    pub access_log: Option<PathBuf>,
    pub otlp_endpoint: Option<String>,
    pub trace_ratio: Option<f64>,
    pub payload_log: Option<String>,
    pub payload_log_mode: Option<String>,
    pub payload_log_ratio: Option<f64>,
    pub slo: Option<String>,
    pub trace_dir: Option<PathBuf>,
    pub payload_log_source: Option<String>,
    pub payload_log_service: Option<String>,
    pub payload_log_namespace: Option<String>,
    pub payload_log_component: Option<String>,
    pub payload_log_endpoint: Option<String>,
    pub payload_log_header: Vec<String>,
    pub payload_log_annotation: Vec<String>,
    pub cores: Option<usize>,
    pub state_dir: Option<String>,
    pub log_format: Option<String>,
    pub log_level: Option<String>,
}

impl File {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// The reason, with its line.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let fault = |message: String| Fault::new(format!("--config {}", path.display()), message);
        let text = std::fs::read_to_string(path).map_err(|cause| fault(cause.to_string()))?;
        toml::from_str(&text).map_err(|cause| fault(cause.to_string().trim_end().to_owned()))
    }

    /// The flags, with this file's value for each that was not given.
    pub(super) fn under(self, flags: &Flags) -> Flags {
        let mut merged = flags.clone();
        self.watch_under(&mut merged.watch);
        let one_model = merged.model_dir.is_some() || merged.storage.storage_uri.is_some();
        self.storage_under(&mut merged.storage);
        if merged.repositories.is_empty() && merged.model_repository.is_empty() && !one_model {
            merged.repositories = self.repositories;
        }
        if merged.load_model.is_empty() {
            merged.load_model = self.load_model;
        }
        if merged.cors_origin.is_empty() {
            merged.cors_origin = self.cors_origin;
        }
        macro_rules! fill {
            ($($key:ident),* $(,)?) => { $(merged.$key = merged.$key.or(self.$key);)* };
        }
        fill!(
            model_name,
            model_dir,
            model_control,
            host,
            http_port,
            grpc_port,
            body_max,
            connections_max,
            head_timeout
        );
        if merged.guard.refuse.is_empty() {
            merged.guard.refuse = self.refuse;
        }
        macro_rules! fill_guard {
            ($($key:ident),* $(,)?) => { $(merged.guard.$key = merged.guard.$key.or(self.$key);)* };
        }
        fill_guard!(
            tls_cert,
            tls_key,
            tls_client_ca,
            tls_min_version,
            tls_handshake_timeout,
            auth_file,
            rate_limit,
            reload_interval
        );
        macro_rules! fill_bounds {
            ($($key:ident),* $(,)?) => { $(merged.bounds.$key = merged.bounds.$key.or(self.$key);)* };
        }
        fill_bounds!(
            decompression_ratio_max,
            buffered_max,
            header_bytes_max,
            headers_max,
            uri_max,
            body_timeout,
            answer_timeout,
            idle_timeout,
            streams_max,
            resets_max,
            json_depth_max,
            tensors_max,
            outputs_max,
            parameters_max,
            string_max
        );
        fill!(uploads_max, path_prefix, drain_delay, drain_timeout, slo, cores, state_dir, log_format, log_level);
        fill!(shared_memory_prefix, shared_memory_regions_max, poll_interval, memory_max, response_cache_bytes_max);
        fill!(gpu_memory_max);
        merged
    }

    fn storage_under(&self, storage: &mut StorageFlags) {
        macro_rules! fill_storage {
            ($($key:ident),* $(,)?) => { $(storage.$key = storage.$key.take().or(self.$key.clone());)* };
        }
        fill_storage!(storage_uri, cache_dir, cache_bytes_max, fetch_parallel, fetch_bytes_per_second);
    }

    fn watch_under(&self, watch: &mut WatchFlags) {
        macro_rules! fill_watch {
            ($($key:ident),* $(,)?) => { $(watch.$key = watch.$key.take().or(self.$key.clone());)* };
        }
        fill_watch!(
            access_log,
            otlp_endpoint,
            trace_ratio,
            trace_dir,
            payload_log,
            payload_log_mode,
            payload_log_ratio
        );
        fill_watch!(payload_log_source, payload_log_service, payload_log_namespace);
        fill_watch!(payload_log_component, payload_log_endpoint);
        if watch.payload_log_header.is_empty() {
            watch.payload_log_header = self.payload_log_header.clone();
        }
        if watch.payload_log_annotation.is_empty() {
            watch.payload_log_annotation = self.payload_log_annotation.clone();
        }
    }
}
