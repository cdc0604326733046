//! What the watches have shown so far: a plain table, fed by their events, from which snapshots are taken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::demand::ROUTERS;
use super::kinds::{Kind, Touches};
use super::queue::{Key, Queues};
use crate::api::keys;
use crate::tree;

/// Objects by kind, then by namespace and name.
#[derive(Debug, Default)]
pub struct Index {
    kinds: Mutex<BTreeMap<&'static str, Table>>,
}

#[derive(Debug, Default)]
struct Table {
    objects: BTreeMap<Key, Arc<Value>>,
    /// While a list is read: what it has shown. The old objects stay until it is complete.
    arriving: Option<BTreeMap<Key, Arc<Value>>>,
    complete: bool,
    /// The API server does not know the kind.
    unknown: bool,
}

/// What there is around a service.
#[derive(Debug, Default)]
pub struct Around {
    /// The service.
    pub service: Option<Arc<Value>>,
    /// The runtimes of its namespace.
    pub runtimes: Vec<Arc<Value>>,
    /// The runtimes of the cluster.
    pub cluster_runtimes: Vec<Arc<Value>>,
    /// What carries its label, but pods.
    pub children: Vec<Arc<Value>>,
    /// Its pods.
    pub pods: Vec<Arc<Value>>,
}

/// What there is around a graph.
#[derive(Debug, Default)]
pub struct AroundGraph {
    /// The graph.
    pub graph: Option<Arc<Value>>,
    /// The services of its namespace.
    pub services: Vec<Arc<Value>>,
    /// The runtimes of its namespace.
    pub runtimes: Vec<Arc<Value>>,
    /// The runtimes of the cluster.
    pub cluster_runtimes: Vec<Arc<Value>>,
    /// What carries its label.
    pub children: Vec<Arc<Value>>,
}

impl Index {
    /// Takes in an event of a kind's watch, and has those looked at whom it concerns.
    pub fn take(&self, kind: &Kind, event: Event<DynamicObject>, queues: &Queues) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut touched, mut returned) = (Vec::new(), false);
        {
            let table = kinds.entry(kind.name).or_default();
            match event {
                Event::Init => table.arriving = Some(BTreeMap::new()),
                Event::InitApply(object) => {
                    let object = Arc::new(tree_of(kind, &object));
                    table.arriving.get_or_insert_default().insert(key(&object), object);
                }
                Event::InitDone => {
                    touched = table.complete();
                    returned = std::mem::take(&mut table.unknown);
                }
                Event::Apply(object) => {
                    let object = Arc::new(tree_of(kind, &object));
                    table.objects.insert(key(&object), object.clone());
                    touched.push(object);
                }
                Event::Delete(object) => {
                    let object = Arc::new(tree_of(kind, &object));
                    table.objects.remove(&key(&object));
                    touched.push(object);
                }
            }
        }
        if returned {
            // What could not be made before can be now.
            let all = |kind| kinds.get(kind).into_iter().flat_map(|table| table.objects.keys());
            all("InferenceService").for_each(|own| queues.services.touch(own.clone()));
            all("InferenceGraph").for_each(|own| queues.graphs.touch(own.clone()));
        }
        let all = |kind| kinds.get(kind).into_iter().flat_map(|table| table.objects.keys());
        for object in touched {
            let (namespace, name) = key(&object);
            let graphs_around = || all("InferenceGraph").filter(|own| own.0 == namespace).cloned();
            match kind.touches {
                Touches::Itself => {
                    graphs_around().for_each(|own| queues.graphs.touch(own));
                    queues.services.touch((namespace, name));
                }
                Touches::Nobody => {}
                Touches::Graph => queues.graphs.touch((namespace, name)),
                Touches::Owner => {
                    for (label, queue) in [(keys::SERVICE, &queues.services), (keys::GRAPH, &queues.graphs)] {
                        if let Some(owner) = tree::label(&object, label) {
                            queue.touch((namespace.clone(), owner.to_owned()));
                        }
                    }
                }
                Touches::Namespace | Touches::Cluster => {
                    all("InferenceService")
                        .filter(|own| kind.touches == Touches::Cluster || own.0 == namespace)
                        .for_each(|own| queues.services.touch(own.clone()));
                }
            }
        }
    }

    /// Takes note that the API server does not know a kind: then there are none of it, until it does.
    pub fn miss(&self, kind: &Kind) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let table = kinds.entry(kind.name).or_default();
        table.arriving = None;
        (table.complete, table.unknown) = (true, true);
        table.objects.clear();
    }

    /// Whether the API server knows a kind that is watched.
    pub fn knows(&self, kind: &str) -> bool {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.get(kind).is_none_or(|table| !table.unknown)
    }

    /// Whether the first list of each of these kinds is complete.
    pub fn is_complete(&self, wanted: &[Kind]) -> bool {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.iter().all(|kind| kinds.get(kind.name).is_some_and(|table| table.complete))
    }

    /// All services.
    pub fn services(&self) -> Vec<Arc<Value>> {
        self.all("InferenceService")
    }

    /// All objects of a kind.
    pub fn all(&self, kind: &str) -> Vec<Arc<Value>> {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.get(kind).map(|table| table.objects.values().cloned().collect()).unwrap_or_default()
    }

    /// A graph, and what there is around it.
    pub fn around_graph(&self, graph: &Key) -> AroundGraph {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut around = AroundGraph::default();
        for (kind, table) in kinds.iter() {
            let from = (graph.0.clone(), String::new());
            let of_namespace =
                table.objects.range(from..).take_while(|(own, _)| own.0 == graph.0).map(|(_, object)| object);
            match *kind {
                "InferenceGraph" => around.graph = table.objects.get(graph).cloned(),
                "InferenceService" => around.services = of_namespace.cloned().collect(),
                "ServingRuntime" => around.runtimes = of_namespace.cloned().collect(),
                "ClusterServingRuntime" => around.cluster_runtimes = table.objects.values().cloned().collect(),
                _ => {
                    let owned = of_namespace.filter(|own| tree::label(own, keys::GRAPH) == Some(&graph.1));
                    around.children.extend(owned.cloned());
                }
            }
        }
        around
    }

    /// All Deployments.
    pub fn deployments(&self) -> Vec<Arc<Value>> {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.get("Deployment").map(|table| table.objects.values().cloned().collect()).unwrap_or_default()
    }

    /// The pods of a namespace.
    pub fn pods(&self, namespace: &str) -> Vec<Arc<Value>> {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let from = (namespace.to_owned(), String::new());
        let of_namespace = |table: &Table| {
            let all = table.objects.range(from..).take_while(|(own, _)| own.0 == namespace);
            all.map(|(_, object)| object.clone()).collect()
        };
        kinds.get("Pod").map(of_namespace).unwrap_or_default()
    }

    /// What there is around a service.
    pub fn around(&self, service: &Key) -> Around {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut around = Around::default();
        for (kind, table) in kinds.iter() {
            let of_namespace = || {
                let from = (service.0.clone(), String::new());
                table.objects.range(from..).take_while(|(own, _)| own.0 == service.0).map(|(_, object)| object)
            };
            let owned = || of_namespace().filter(|own| tree::label(own, keys::SERVICE) == Some(&service.1)).cloned();
            match *kind {
                "InferenceService" => around.service = table.objects.get(service).cloned(),
                "ServingRuntime" => around.runtimes = of_namespace().cloned().collect(),
                "ClusterServingRuntime" => around.cluster_runtimes = table.objects.values().cloned().collect(),
                "Pod" => around.pods = owned().collect(),
                ROUTERS => {}
                _ => around.children.extend(owned()),
            }
        }
        around
    }
}

impl Table {
    /// Takes over a list that was read to its end; gives what was added, changed or has gone.
    fn complete(&mut self) -> Vec<Arc<Value>> {
        let arrived = self.arriving.take().unwrap_or_default();
        let gone = self.objects.iter().filter(|(key, _)| !arrived.contains_key(*key)).map(|(_, object)| object.clone());
        let changed = arrived.iter().filter(|(key, object)| self.objects.get(*key) != Some(*object));
        let touched = gone.chain(changed.map(|(_, object)| object.clone())).collect();
        self.objects = arrived;
        self.complete = true;
        touched
    }
}

fn key(object: &Value) -> Key {
    (tree::text(object, &["metadata", "namespace"]).unwrap_or("").to_owned(), tree::name(object).to_owned())
}

/// The object as a tree. Lists leave out kind and version; who manages a field matters for replicas alone.
fn tree_of(kind: &Kind, object: &DynamicObject) -> Value {
    let mut tree = serde_json::to_value(object).unwrap_or_default();
    tree["apiVersion"] = json!(kind.resource.api_version);
    tree["kind"] = json!(kind.name);
    if kind.name != "Deployment"
        && let Some(metadata) = tree["metadata"].as_object_mut()
    {
        metadata.remove("managedFields");
    }
    tree
}
