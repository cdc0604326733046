//! What the controller tells of itself.

use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use tensorgate_autoscale::Reasons;
use tensorgate_contract::metrics::controller as names;

use super::queue::Key;

/// Handles of the controller's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Looks at services, by `result`: ok or error.
    pub reconciles: IntCounterVec,
    /// Seconds of a look.
    pub seconds: Histogram,
    /// What our own autoscaler sees and decides.
    pub scaling: ScalingMetrics,
    /// Writing requests, by `kind`: apply, delete, status, event, scale.
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
            scaling: ScalingMetrics::new(&registry)?,
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

/// What our own autoscaler sees and decides, by namespace and revision.
#[derive(Debug)]
pub struct ScalingMetrics {
    gauges: Vec<GaugeVec>,
    scalings: IntCounterVec,
}

/// Names and meanings of the gauges, in the order in which [`ScalingMetrics::show`] has their values.
const GAUGES: [(&str, &str); 5] = [
    (names::REPLICAS_DESIRED, "Replicas that there are to be."),
    (names::REPLICAS_READY, "Replicas that are ready."),
    (names::DEMAND, "What arrives: rows per second, or requests in flight where a target says so."),
    (names::FORECAST, "What is expected when a replica that is ordered now is ready."),
    (names::CAPACITY, "What one replica is counted on for."),
];

impl ScalingMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let mut gauges = Vec::new();
        for (name, help) in GAUGES {
            let gauge = GaugeVec::new(Opts::new(name, help), &["namespace", "revision"])?;
            registry.register(Box::new(gauge.clone()))?;
            gauges.push(gauge);
        }
        let scalings = IntCounterVec::new(Opts::new(names::SCALINGS, "Changes of replicas, by cause."), &["cause"])?;
        registry.register(Box::new(scalings.clone()))?;
        Ok(Self { gauges, scalings })
    }

    /// Shows a decision.
    pub fn show(&self, (namespace, revision): &Key, reasons: &Reasons, ready: u32) {
        let values =
            [f64::from(reasons.replicas), f64::from(ready), reasons.demand, reasons.forecast, reasons.capacity];
        for (gauge, value) in self.gauges.iter().zip(values) {
            gauge.with_label_values(&[namespace, revision]).set(value);
        }
    }

    /// Counts a change.
    pub fn count(&self, cause: &str) {
        self.scalings.with_label_values(&[cause]).inc();
    }

    /// Leaves out a revision that has gone.
    pub fn forget(&self, (namespace, revision): &Key) {
        // An error says that nothing was shown of it.
        self.gauges.iter().for_each(|gauge| drop(gauge.remove_label_values(&[namespace, revision])));
    }
}
