//! One service or graph: snapshot, plan, and the requests that make the cluster follow.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Client, Resource};
use serde_json::{Value, json};

use super::demand::Demands;
use super::index::Index;
use super::judge::Judge;
use super::kinds::Kind;
use super::metrics::Metrics;
use super::queue::Key;
use super::scaling::learnings::Learnings;
use crate::api::MANAGER;
use crate::api::status::Condition;
use crate::plan::children::ROUTE;
use crate::plan::conditions;
use crate::plan::graph::{self, GraphSnapshot};
use crate::plan::storage::{self, Vault};
use crate::plan::{self, Settings, Snapshot, difference};
use crate::scrape::Scraper;
use crate::tree;

/// The manager under which a Deployment's replicas stay when an autoscaler takes them over.
pub(super) const HANDED_OVER: &str = "tensorgate-controller-scale";

/// A request that the API server did not do.
#[derive(Debug)]
pub struct ApplyError {
    /// What was to be done to which object.
    pub what: String,
    /// What the API server or the way to it said; none where it was not asked, since what there is belongs to somebody else.
    pub source: Option<kube::Error>,
}

impl ApplyError {
    fn of(what: String, source: kube::Error) -> Self {
        Self { what, source: Some(source) }
    }

    /// What the API server will go on refusing until somebody changes the spec, or what the cluster allows: a field that no PodSpec
    /// has, a quota. Conflicts and outages are ours to get over.
    pub fn refusal(&self) -> Option<String> {
        let status = match &self.source {
            Some(kube::Error::Api(status)) => status,
            Some(_) => return None,
            None => return Some(self.what.clone()),
        };
        let is_refusal = matches!(status.code, 400 | 403 | 422) || status.message.contains("typed");
        is_refusal.then(|| format!("{}: {}", self.what, status.message))
    }
}

impl std::fmt::Display for ApplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{}: {source}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for ApplyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref()?)
    }
}

/// What reconciling needs.
pub struct Reconciler {
    /// To the API server.
    pub client: Client,
    /// Of the cluster.
    pub settings: Settings,
    /// What the watches have shown.
    pub index: Arc<Index>,
    /// The kinds of children.
    pub kinds: Vec<Kind>,
    /// Who waits at routers.
    pub demands: Arc<Demands>,
    /// What the servers of scaled revisions have learned.
    pub learnings: Learnings,
    /// Reads the metrics of pods.
    pub scraper: Scraper,
    /// Writes Events.
    pub recorder: Recorder,
    /// What is found of guarded rollouts.
    pub judge: Arc<Judge>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Reconciler {
    /// Looks at one service. Gives the time after which to look again without any event.
    ///
    /// # Errors
    /// The first request that failed; what was written before it stays, and is found at the next look.
    pub async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, ApplyError> {
        let around = self.index.around(key);
        // What has gone takes its children along by itself: they name it as their owner.
        let Some(service) = around.service.as_deref().filter(|own| own["metadata"].get("deletionTimestamp").is_none())
        else {
            return Ok(None);
        };
        let (account, secrets) = self.vault(&key.0, service).await?;
        let finding = self.judge.finding(key);
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let (demand, learned) = (self.demands.of(key), self.learnings.of(key));
        let snapshot = Snapshot {
            runtimes: seen(&around.runtimes),
            cluster_runtimes: seen(&around.cluster_runtimes),
            vault: Vault { account: account.as_ref(), secrets: &secrets },
            children: seen(&around.children),
            pods: seen(&around.pods),
            demand: demand.as_ref(),
            learned: learned.as_ref(),
            finding: finding.as_ref(),
            now: &now,
        };
        let plan = plan::plan(&self.settings(), service, &snapshot);
        if let Some(decided) = &plan.decided {
            self.decide(key, service, decided).await?;
        }
        let status = plan::render_status(&plan.status);
        let applied =
            self.apply(key, service, plan.children.as_deref(), &snapshot.children, &status, &plan.events).await;
        self.told(key, service, "PredictorReady", &now, applied).await?;
        Ok(plan.again_after.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs))
    }

    /// Looks at one graph.
    ///
    /// # Errors
    /// As [`Reconciler::reconcile`].
    pub async fn reconcile_graph(&self, key: &Key) -> Result<Option<Duration>, ApplyError> {
        let around = self.index.around_graph(key);
        let Some(graph) = around.graph.as_deref().filter(|own| own["metadata"].get("deletionTimestamp").is_none())
        else {
            return Ok(None);
        };
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let snapshot = GraphSnapshot {
            services: seen(&around.services),
            runtimes: seen(&around.runtimes),
            cluster_runtimes: seen(&around.cluster_runtimes),
            children: seen(&around.children),
            now: &now,
        };
        let plan = graph::plan(&self.settings(), graph, &snapshot);
        let status = graph::render_status(&plan.status);
        let applied = self.apply(key, graph, plan.children.as_deref(), &snapshot.children, &status, &plan.events).await;
        self.told(key, graph, "RouterReady", &now, applied).await?;
        Ok(None)
    }

    /// Says in the owner's status what the API server has refused of its children: whoever wrote the spec can mend it.
    async fn told(
        &self,
        key: &Key,
        owner: &Value,
        kind: &str,
        now: &str,
        applied: Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        if let Err(error) = &applied
            && let Some(message) = error.refusal()
        {
            let mut status = owner.get("status").cloned().unwrap_or_else(|| json!({}));
            let old: Vec<Condition> = serde_json::from_value(status["conditions"].clone()).unwrap_or_default();
            let conditions = conditions::refused(&old, kind, &message, now);
            status["conditions"] = serde_json::to_value(conditions).unwrap_or_default();
            status["observedGeneration"] = tree::at(owner, &["metadata", "generation"]).clone();
            if status != owner["status"] {
                self.write_status(key, owner, &status).await?;
            }
        }
        applied
    }

    /// The settings, with what the cluster lacks.
    fn settings(&self) -> Cow<'_, Settings> {
        match self.index.knows(ROUTE.name) {
            true => Cow::Borrowed(&self.settings),
            false => Cow::Owned(Settings { without_routes: true, ..self.settings.clone() }),
        }
    }

    /// Tells and writes what was decided before anything is done about it.
    async fn decide(&self, key: &Key, owner: &Value, decided: &plan::Decided) -> Result<(), ApplyError> {
        if let Some(event) = &decided.event {
            self.publish(owner, event).await;
        }
        self.write_status(key, owner, &plan::render_status(&decided.status)).await
    }

    async fn apply(
        &self,
        key: &Key,
        owner: &Value,
        children: Option<&[Value]>,
        observed: &[&Value],
        status: &Value,
        events: &[plan::events::Event],
    ) -> Result<(), ApplyError> {
        if let Some(children) = children {
            let changes = difference::changes(owner, children, observed);
            for child in &changes.hand_over {
                self.patch(child, HANDED_OVER).await?;
            }
            for child in &changes.apply {
                if !observed.iter().any(|own| difference::is_same(own, child)) {
                    self.check_free(owner, child).await?;
                }
                self.patch(child, MANAGER).await?;
            }
            for child in &changes.delete {
                self.delete(child).await?;
            }
        }
        if *status != owner["status"] {
            self.write_status(key, owner, status).await?;
        }
        for event in events {
            self.publish(owner, event).await;
        }
        Ok(())
    }

    fn api(&self, object: &Value) -> Option<Api<DynamicObject>> {
        let kind = self.kinds.iter().find(|kind| object["kind"] == kind.name)?;
        let namespace = tree::text(object, &["metadata", "namespace"]).unwrap_or("");
        Some(kind.in_namespace(&self.client, namespace))
    }

    async fn patch(&self, object: &Value, manager: &str) -> Result<(), ApplyError> {
        let Some(api) = self.api(object) else { return Ok(()) };
        let parameters = PatchParams::apply(manager).force();
        self.metrics.writes.with_label_values(&["apply"]).inc();
        let done = api.patch(tree::name(object), &parameters, &Patch::Apply(object)).await;
        done.map(drop).map_err(|source| ApplyError::of(format!("apply {}", difference::shown(object)), source))
    }

    /// That nothing has the name of a child but what is this owner's: its own of before, or what another controller of the same resources
    /// has left. An apply would take over whatever it is.
    async fn check_free(&self, owner: &Value, child: &Value) -> Result<(), ApplyError> {
        let Some(api) = self.api(child) else { return Ok(()) };
        let found = api.get_opt(tree::name(child)).await;
        let found = found.map_err(|source| ApplyError::of(format!("read {}", difference::shown(child)), source))?;
        let there = found.and_then(|found| serde_json::to_value(found).ok()).unwrap_or_default();
        if there.is_null() || difference::is_owned(&there, owner) || difference::is_managed_alike(&there, child) {
            return Ok(());
        }
        let what = format!(
            "{} is there already and belongs to somebody else; it stays as it is, and one of the two needs another name",
            difference::shown(child)
        );
        Err(ApplyError { what, source: None })
    }

    async fn delete(&self, object: &Value) -> Result<(), ApplyError> {
        let Some(api) = self.api(object) else { return Ok(()) };
        let uid = tree::text(object, &["metadata", "uid"]).map(str::to_owned);
        // Only the very object that was seen, and its pods with it.
        let parameters = DeleteParams::background().preconditions(Preconditions { uid, resource_version: None });
        self.metrics.writes.with_label_values(&["delete"]).inc();
        match api.delete(tree::name(object), &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(source) => Err(ApplyError::of(format!("delete {}", difference::shown(object)), source)),
        }
    }

    async fn write_status(&self, key: &Key, owner: &Value, status: &Value) -> Result<(), ApplyError> {
        let Some(kind) = self.kinds.iter().find(|kind| owner["kind"] == kind.name) else { return Ok(()) };
        let body = json!({
            "apiVersion": kind.resource.api_version, "kind": kind.name,
            "metadata": {"name": key.1, "namespace": key.0}, "status": status,
        });
        let api = kind.in_namespace(&self.client, &key.0);
        self.metrics.writes.with_label_values(&["status"]).inc();
        let done = api.patch_status(&key.1, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&body)).await;
        match done {
            // It went away while we looked.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            done => done.map(drop).map_err(|source| ApplyError::of(format!("status of {}/{}", key.0, key.1), source)),
        }
    }

    /// An Event that cannot be written is not worth a retry of the whole.
    pub async fn publish(&self, owner: &Value, event: &plan::events::Event) {
        let Ok(object) = serde_json::from_value::<DynamicObject>(owner.clone()) else { return };
        let Some(kind) = self.kinds.iter().find(|kind| owner["kind"] == kind.name) else { return };
        let event = Event {
            type_: if event.warning { EventType::Warning } else { EventType::Normal },
            reason: event.reason.clone(),
            note: Some(cut(&event.note).to_owned()),
            action: "Reconcile".into(),
            secondary: None,
        };
        self.metrics.writes.with_label_values(&["event"]).inc();
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&kind.resource)).await {
            tracing::warn!(%error, "an event could not be written");
        }
    }

    /// The service account and the Secrets that the service's storage may need. Only what is named is read, one by one.
    async fn vault(&self, namespace: &str, service: &Value) -> Result<(Option<Value>, Vec<Value>), ApplyError> {
        let fetches = plan::COMPONENTS.iter().any(|kind| service["spec"][kind].is_object());
        if !fetches {
            return Ok((None, Vec::new()));
        }
        let account = tree::text(service, &["spec", "predictor", "serviceAccountName"]).unwrap_or("default");
        let account = self.read(namespace, "ServiceAccount", "serviceaccounts", account).await?;
        let mut secrets = Vec::new();
        for name in storage::secrets_wanted(service, account.as_ref()) {
            secrets.extend(self.read(namespace, "Secret", "secrets", &name).await?);
        }
        Ok((account, secrets))
    }

    async fn read(&self, namespace: &str, kind: &str, plural: &str, name: &str) -> Result<Option<Value>, ApplyError> {
        let resource =
            kube::core::ApiResource::from_gvk_with_plural(&kube::core::GroupVersionKind::gvk("", "v1", kind), plural);
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let found = api.get_opt(name).await;
        let found = found.map_err(|source| ApplyError::of(format!("read {kind} {namespace}/{name}"), source))?;
        Ok(found.and_then(|object| serde_json::to_value(object).ok()))
    }
}

/// The longest note of an Event, in bytes (`NoteLengthLimit` of the API server's validation).
const NOTE_MAX: usize = 1024;

/// As much of a note as an Event holds, in whole letters.
fn cut(note: &str) -> &str {
    &note[..note.floor_char_boundary(NOTE_MAX)]
}

fn seen(all: &[Arc<Value>]) -> Vec<&Value> {
    all.iter().map(AsRef::as_ref).collect()
}
