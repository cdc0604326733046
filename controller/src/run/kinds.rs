//! The kinds that are watched, and how to reach them.

use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, runtime::watcher};

use super::demand::ROUTERS;
use crate::api::{GROUP, MANAGER, keys};
use crate::plan::children::{CHILDREN, ChildKind, ROUTE, SCALED_OBJECT};
use crate::plan::difference::MANAGED_BY;

/// What a change of an object of a kind touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Touches {
    /// It is an InferenceService itself, and of its namespace all graphs, which may call it.
    Itself,
    /// It is an InferenceGraph itself.
    Graph,
    /// The service or graph that its label names.
    Owner,
    /// Nobody's plan: it is asked itself.
    Nobody,
    /// All of its namespace.
    Namespace,
    /// All.
    Cluster,
}

/// A kind that is watched.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// How to reach it.
    pub resource: ApiResource,
    /// Whose plans look at it.
    pub touches: Touches,
    /// The labels of those that concern us: the controller must not hold a whole cluster in memory.
    selector: Option<String>,
}

impl Kind {
    fn new(
        group: &str,
        version: &str,
        name: &'static str,
        plural: &str,
        touches: Touches,
        selector: Option<String>,
    ) -> Self {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, name), plural);
        Self { name, resource, touches, selector }
    }

    /// The objects of one namespace; the kind's own scope where that is the cluster.
    pub fn in_namespace(&self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        match self.touches {
            Touches::Cluster => Api::all_with(client.clone(), &self.resource),
            _ => Api::namespaced_with(client.clone(), namespace, &self.resource),
        }
    }

    /// All objects that may be watched.
    pub fn everywhere(&self, client: &Client, only: Option<&str>) -> Api<DynamicObject> {
        match only {
            Some(namespace) => self.in_namespace(client, namespace),
            None => Api::all_with(client.clone(), &self.resource),
        }
    }

    /// What the API server is asked for.
    pub fn watched(&self) -> watcher::Config {
        let config = watcher::Config::default();
        match &self.selector {
            Some(selector) => config.labels(selector),
            None => config,
        }
    }
}

/// All kinds; routes only where there is a Gateway, and ScaledObjects where there is KEDA, since their definitions may be missing
/// elsewhere.
pub fn all(with_routes: bool, with_keda: bool) -> Vec<Kind> {
    let ours = || Some(format!("{MANAGED_BY}={MANAGER}"));
    let mut kinds = vec![
        Kind::new(GROUP, "v1beta1", "InferenceService", "inferenceservices", Touches::Itself, None),
        Kind::new(GROUP, "v1alpha1", "InferenceGraph", "inferencegraphs", Touches::Graph, None),
        Kind::new(GROUP, "v1alpha1", "ServingRuntime", "servingruntimes", Touches::Namespace, None),
        Kind::new(GROUP, "v1alpha1", "ClusterServingRuntime", "clusterservingruntimes", Touches::Cluster, None),
        Kind::new("", "v1", "Pod", "pods", Touches::Owner, Some(keys::REVISION.into())),
        Kind::new("", "v1", ROUTERS, "pods", Touches::Nobody, Some(keys::HOLDS.into())),
    ];
    let there = |own: &&ChildKind| (with_routes || **own != ROUTE) && (with_keda || **own != SCALED_OBJECT);
    let children = CHILDREN.iter().filter(there);
    kinds.extend(children.map(|own| Kind::new(own.group, own.version, own.name, own.plural, Touches::Owner, ours())));
    kinds
}
