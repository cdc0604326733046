//! Our own autoscaler at work: once a second the pods of every revision of the class `tensorgate` are asked for what they have
//! learned and what arrives, [`tensorgate_autoscale::decide`] decides, and a number that changes is written through the scale
//! subresource, with its reason beside it. Revisions at rest cost the API server nothing.

pub mod memory;
pub mod scrape;
pub mod series;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tensorgate_autoscale::{Bounds, Reasons, Settings, State, Target, decide};
use tokio::time::{Instant, MissedTickBehavior};

use self::scrape::Scraper;
use self::series::{Pod, Series};
use super::queue::Key;
use super::reconcile::{HANDED_OVER, Reconciler};
use crate::api::keys;
use crate::plan::events::Event;
use crate::plan::scale::{Metric, Orders};
use crate::tree;

/// Between two looks: what arrives is known to the second, and a start takes many.
const EVERY: Duration = Duration::from_secs(1);

/// One revision.
#[derive(Default)]
struct Scaled {
    series: Series,
    state: State,
}

/// A revision as it is found at a look.
struct Found {
    deployment: Arc<Value>,
    orders: Orders,
    pods: Vec<Pod>,
}

/// Scales until it is dropped; the highest need of `hold` counts before replicas go.
pub async fn run(reconciler: &Reconciler, hold: Duration) {
    let (scraper, begin) = (Scraper::default(), Instant::now());
    let mut revisions: BTreeMap<Key, Scaled> = BTreeMap::new();
    // Those of the first look were there before this controller led.
    let mut is_first = true;
    let mut ticks = tokio::time::interval(EVERY);
    // A look that took long is not made up for by two in a row.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let found = look(reconciler);
        revisions.retain(|key, _| {
            let stays = found.contains_key(key);
            if !stays {
                reconciler.metrics.scaling.forget(key);
            }
            stays
        });
        let ready = found.values().flat_map(|own| &own.pods).filter(|pod| pod.ready);
        let asked = ready.filter_map(|pod| Some((pod.uid.clone(), pod.address.clone()?))).collect();
        let told = scraper.read_all(asked).await;
        for (key, found) in found {
            let current = tree::number(&found.deployment, &["spec", "replicas"]).unwrap_or(1);
            let current = u32::try_from(current).unwrap_or(0);
            let own = revisions.entry(key.clone()).or_insert_with(|| match is_first {
                true => {
                    Scaled { state: memory::resumed(&found.deployment, current, begin.elapsed()), ..Scaled::default() }
                }
                false => Scaled::default(),
            });
            let sample = own.series.sample(current, &found.pods, &told);
            let (replicas, state, reasons) =
                decide(&settings(&found.orders, hold), &own.state, &sample, begin.elapsed());
            own.state = state;
            reconciler.metrics.scaling.show(&key, &reasons, sample.ready);
            if replicas != current {
                write(reconciler, &key, &found.deployment, current, &reasons, &own.state).await;
            }
        }
        is_first = false;
    }
}

/// The revisions that are ours to scale, with their pods.
fn look(reconciler: &Reconciler) -> BTreeMap<Key, Found> {
    let mut pods: BTreeMap<String, Vec<Arc<Value>>> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for deployment in reconciler.index.deployments() {
        let orders = tree::annotation(&deployment, keys::SCALE).and_then(|text| serde_json::from_str(text).ok());
        let leaving = deployment["metadata"].get("deletionTimestamp").is_some();
        let Some(orders) = orders.filter(|_| !leaving) else { continue };
        let namespace = tree::text(&deployment, &["metadata", "namespace"]).unwrap_or("").to_owned();
        let all = pods.entry(namespace.clone()).or_insert_with(|| reconciler.index.pods(&namespace));
        let name = tree::name(&deployment).to_owned();
        let pods = series::pods(all.iter().map(AsRef::as_ref), &name);
        found.insert((namespace, name), Found { deployment, orders, pods });
    }
    found
}

fn settings(orders: &Orders, hold: Duration) -> Settings {
    let target = orders.target.map(|(metric, target)| match metric {
        Metric::Concurrency => Target::Concurrency(target),
        Metric::Rps => Target::Rate(target),
    });
    Settings { bounds: Bounds { min: orders.min, max: orders.max }, target, hold, ..Settings::within(1, 1) }
}

/// Writes a number, why, and what outlasts this controller. What fails is tried at the next look, since the number is then still another.
async fn write(reconciler: &Reconciler, key: &Key, deployment: &Value, current: u32, reasons: &Reasons, state: &State) {
    let Some(kind) = reconciler.kinds.iter().find(|kind| kind.name == "Deployment") else { return };
    let api: Api<DynamicObject> = kind.in_namespace(&reconciler.client, &key.0);
    let parameters = PatchParams { field_manager: Some(HANDED_OVER.into()), ..PatchParams::default() };
    let scale = json!({"spec": {"replicas": reasons.replicas}});
    reconciler.metrics.writes.with_label_values(&["scale"]).inc();
    if let Err(error) = api.patch_scale(&key.1, &parameters, &Patch::Merge(&scale)).await {
        tracing::warn!(namespace = key.0, revision = key.1, %error, "the replicas could not be written; trying again");
        return;
    }
    let sentence = reasons.to_string();
    tracing::info!(namespace = key.0, revision = key.1, from = current, to = reasons.replicas, "{sentence}");
    reconciler.metrics.scaling.count(reasons.cause.name());
    let why =
        json!({"metadata": {"annotations": {keys::SCALED: sentence, keys::SCALE_MEMORY: memory::written(state)}}});
    reconciler.metrics.writes.with_label_values(&["scale"]).inc();
    if let Err(error) = api.patch(&key.1, &parameters, &Patch::Merge(&why)).await {
        tracing::warn!(namespace = key.0, revision = key.1, %error, "why could not be written");
    }
    let owner = tree::label(deployment, keys::SERVICE).unwrap_or("").to_owned();
    if let Some(service) = reconciler.index.around(&(key.0.clone(), owner)).service {
        let reason = format!("Scaled{}", if reasons.replicas > current { "Up" } else { "Down" });
        let note = format!("{}: from {current} to {sentence}", key.1);
        reconciler.publish(&service, &Event { warning: false, reason, note }).await;
    }
}
