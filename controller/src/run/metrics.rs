//! What the controller tells of itself.

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Handles of the controller's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Looks at services, by `result`: ok or error.
    pub reconciles: IntCounterVec,
    /// Seconds of a look.
    pub seconds: Histogram,
    /// Writing requests, by `kind`: apply, delete, status, event.
    pub writes: IntCounterVec,
    /// Failures of watches, which are then taken up again.
    pub watch_errors: IntCounterVec,
    /// Services that wait for a look.
    pub waiting: IntGauge,
    /// 1 while this controller leads.
    pub leading: IntGauge,
    /// Services by `ready`: True, False or Unknown.
    pub services: IntGaugeVec,
}

impl Metrics {
    /// A registry with all of them.
    ///
    /// # Errors
    /// If two have one name, which would be a bug.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, label: &str| -> Result<IntCounterVec, prometheus::Error> {
            let counter = IntCounterVec::new(Opts::new(format!("tensorgate_controller_{name}"), help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(format!("tensorgate_controller_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let seconds = Histogram::with_opts(HistogramOpts::new(
            "tensorgate_controller_reconcile_seconds",
            "Seconds that a look at a service took.",
        ))?;
        registry.register(Box::new(seconds.clone()))?;
        let services = IntGaugeVec::new(
            Opts::new("tensorgate_controller_services", "Services by their Ready condition."),
            &["ready"],
        )?;
        registry.register(Box::new(services.clone()))?;
        Ok(Self {
            reconciles: counter("reconciles_total", "Looks at services.", "result")?,
            seconds,
            writes: counter("writes_total", "Writing requests to the API server.", "kind")?,
            watch_errors: counter("watch_errors_total", "Failures of watches, each taken up again.", "kind")?,
            waiting: gauge("waiting", "Services that wait for a look.")?,
            leading: gauge("leading", "1 while this controller leads.")?,
            services,
            registry,
        })
    }

    /// All of them as Prometheus text.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }
}
