//! What the router tells of itself.

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use super::shadow::told::Told;

/// Counts of the router.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Requests by `revision` and `outcome`: answered, failed; late and full where they were held.
    pub requests: IntCounterVec,
    /// Connections that went to another revision than the one chosen, which did not take any.
    pub diverted: IntCounter,
    /// Requests that wait for a revision's pods.
    pub held: IntGauge,
    /// Bytes that they keep, by our reckoning.
    pub held_bytes: IntGauge,
    /// Requests to a graph by the `status` of its answer.
    pub graph_requests: IntCounterVec,
    /// Calls of a graph's services by `step`, `node/name`, and `outcome`: answered, refused, unfit, unreachable, late.
    pub graph_steps: IntCounterVec,
    /// Seconds of such a call.
    pub graph_seconds: HistogramVec,
    /// Bytes of bodies that a graph holds.
    pub graph_held: IntGauge,
    /// What shadows have shown.
    pub shadow: Told,
}

impl Metrics {
    /// A registry with all of them.
    ///
    /// # Errors
    /// If two have one name, which would be a bug.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let counters = IntCounterVec::new(Opts::new(format!("tensorgate_router_{name}"), help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let requests =
            counters("requests_total", "Requests by the revision that was chosen.", &["revision", "outcome"])?;
        let graph_requests =
            counters("graph_requests_total", "Requests to the graph by the status of its answer.", &["status"])?;
        let graph_steps = counters("graph_steps_total", "Calls of the graph's services.", &["step", "outcome"])?;
        let diverted = IntCounter::new(
            "tensorgate_router_diverted_total",
            "Connections made to another revision, since the chosen one took none.",
        )?;
        let seconds =
            HistogramOpts::new("tensorgate_router_graph_step_seconds", "Seconds of calls of the graph's services.");
        let graph_seconds = HistogramVec::new(seconds, &["step"])?;
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(format!("tensorgate_router_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let held = gauge("held", "Requests that wait for a revision's pods.")?;
        let held_bytes = gauge("held_bytes", "Bytes that they keep, by the router's reckoning.")?;
        let graph_held = gauge("graph_held_bytes", "Bytes of bodies that the graph holds.")?;
        registry.register(Box::new(diverted.clone()))?;
        registry.register(Box::new(graph_seconds.clone()))?;
        let shadow = Told::new(&registry)?;
        Ok(Self {
            registry,
            requests,
            diverted,
            held,
            held_bytes,
            graph_requests,
            graph_steps,
            graph_seconds,
            graph_held,
            shadow,
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
