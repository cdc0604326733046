//! What makes Deployments run: pods for their replicas, a process for each pod, their statuses, the endpoints of Services, and the
//! volumes of ConfigMaps. All of it follows the store, look by look.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tensorgate_controller::tree;
use tokio::sync::mpsc;

use super::pod::{self, Event, Process, Running};
use super::proxy::{Port, Proxies};
use super::{NAMESPACE, Ports};
use crate::apiserver::ApiServer;
use crate::store::{Key, Store};

/// Clusters of this process: each has addresses of its own.
static CLUSTERS: AtomicU8 = AtomicU8::new(0);

/// The kubelet, with what controllers of Kubernetes' own do around it.
pub(super) struct Kubelet {
    server: ApiServer,
    proxies: Proxies,
    ports: Ports,
    /// Stands for every claim.
    models: PathBuf,
    volumes: tempfile::TempDir,
    /// By uid.
    pods: BTreeMap<String, Running>,
    events: mpsc::UnboundedSender<(String, Event)>,
    happened: mpsc::UnboundedReceiver<(String, Event)>,
    network: [u8; 2],
    addresses: u8,
}

fn key(kind: &str, name: &str) -> Key {
    (kind.into(), NAMESPACE.into(), name.into())
}

fn uid(object: &Value) -> String {
    tree::text(object, &["metadata", "uid"]).unwrap().to_owned()
}

impl Kubelet {
    pub(super) fn new(server: ApiServer, proxies: Proxies, ports: Ports, models: PathBuf) -> Self {
        let (events, happened) = mpsc::unbounded_channel();
        // Other processes of these tests run at the same time.
        let process = std::process::id();
        let network = [u8::try_from(1 + process % 250).unwrap(), CLUSTERS.fetch_add(1, Ordering::Relaxed)];
        let volumes = tempfile::tempdir().unwrap();
        Self { server, proxies, ports, models, volumes, pods: BTreeMap::new(), events, happened, network, addresses: 0 }
    }

    /// Until the test ends.
    pub(super) async fn run(mut self) {
        let mut changes = self.server.changes();
        loop {
            changes.mark_unchanged();
            self.look();
            tokio::select! {
                changed = changes.changed() => changed.unwrap(),
                Some((uid, event)) = self.happened.recv() => self.take(&uid, event),
            }
        }
    }

    fn look(&mut self) {
        let (deployments, pods, services, maps) = self.server.look(|store| {
            let all = |kind: &str| store.list(kind, Some(NAMESPACE), "");
            (all("Deployment"), all("Pod"), all("Service"), all("ConfigMap"))
        });
        for deployment in &deployments {
            self.scale(deployment, &pods);
        }
        self.serve(&services, &pods);
        for map in &maps {
            self.write_volume(map);
        }
        for own in &pods {
            if !self.pods.contains_key(&uid(own)) {
                self.start(own);
            }
        }
        let wanted: BTreeSet<String> = pods.iter().map(uid).collect();
        self.pods.retain(|uid, _| wanted.contains(uid));
        for deployment in &deployments {
            self.tell(deployment, &pods);
        }
    }

    /// Makes and deletes pods, so that a Deployment has its replicas.
    fn scale(&self, deployment: &Value, pods: &[Value]) {
        let wanted = usize::try_from(tree::number(deployment, &["spec", "replicas"]).unwrap_or(1)).unwrap();
        let own = owned(deployment, pods);
        for surplus in own.iter().skip(wanted) {
            self.server.with(|store| store.delete(&key("Pod", tree::name(surplus)), None).unwrap());
        }
        let names: BTreeSet<&str> = own.iter().map(|pod| tree::name(pod)).collect();
        let free = (0..).map(|number| format!("{}-{number}", tree::name(deployment)));
        let free = free.filter(|name| !names.contains(name.as_str()));
        for name in free.take(wanted.saturating_sub(own.len())) {
            let template = &deployment["spec"]["template"];
            let mut spec = template["spec"].clone();
            let containers = tree::list_mut(&mut spec, "containers").iter_mut();
            for port in containers.flat_map(|own| tree::list_mut(own, "ports")) {
                // Who asks a pod goes by what it says.
                port["containerPort"] = json!(self.port(template, tree::number(port, &["containerPort"]).unwrap()));
            }
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": name, "labels": template["metadata"]["labels"],
                    "annotations": template["metadata"]["annotations"],
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": "Deployment", "name": tree::name(deployment),
                        "uid": uid(deployment), "controller": true,
                    }],
                },
                "spec": spec, "status": {"phase": "Pending"},
            });
            // Who deleted the Deployment meanwhile has deleted this too.
            let _made = self.server.with(|store| store.create(key("Pod", &name), pod, "kubelet"));
        }
    }

    fn start(&mut self, pod: &Value) {
        let container = &tree::list(pod, &["spec", "containers"])[0];
        let folders = self.folders(pod, container);
        let is_router = tree::list(container, &["command"]).iter().any(|word| word == "router");
        if is_router && !folders.values().all(|folder| folder.join("routes.json").exists()) {
            return;
        }
        self.addresses = self.addresses.checked_add(1).unwrap();
        let ip = Ipv4Addr::new(127, self.network[0], self.network[1], self.addresses);
        let mut environment = pod::environment(container);
        environment.insert("TENSORGATE_STATE_DIR".into(), String::new());
        for (name, port) in [("LISTEN", self.ports.router), ("ADMIN", self.ports.admin)] {
            environment.insert(format!("TENSORGATE_ROUTER_{name}"), format!("{ip}:{port}"));
        }
        let stated = tree::list(container, &["args"]).iter().filter_map(Value::as_str);
        let mut arguments: Vec<String> = stated.map(|argument| pod::placed(argument, ip, &folders)).collect();
        let program = match is_router {
            true => PathBuf::from(env!("CARGO_BIN_EXE_tensorgate-controller")),
            false => super::server_binary(),
        };
        if is_router {
            arguments.insert(0, "router".into());
        }
        let probe = &container["readinessProbe"];
        let port = self.port(pod, tree::number(probe, &["httpGet", "port"]).unwrap());
        let path = tree::text(probe, &["httpGet", "path"]).unwrap().to_owned();
        let seconds = |tree: &Value, path: &[&str], default: i64| {
            Duration::from_secs(u64::try_from(tree::number(tree, path).unwrap_or(default)).unwrap())
        };
        let process = Process {
            program,
            arguments,
            environment,
            probe: (SocketAddr::from((ip, port)), path),
            period: seconds(probe, &["periodSeconds"], 10),
            grace: seconds(pod, &["spec", "terminationGracePeriodSeconds"], 30),
        };
        self.pods.insert(uid(pod), Running::start(&uid(pod), ip, process, self.events.clone()));
        let status = json!({"status": {"phase": "Running", "podIP": ip.to_string()}});
        self.server
            .with(|store| store.merge(&key("Pod", tree::name(pod)), &status, Some("status"), "kubelet").unwrap());
    }

    /// Where the volumes of a container are on this machine, by the path at which it has them.
    fn folders(&self, pod: &Value, container: &Value) -> BTreeMap<String, PathBuf> {
        let volumes = tree::list(pod, &["spec", "volumes"]);
        let place = |mount: &Value| {
            let volume = volumes.iter().find(|own| own["name"] == mount["name"]).unwrap();
            let folder = match tree::text(volume, &["configMap", "name"]) {
                Some(map) => self.volumes.path().join(map),
                None if volume.get("persistentVolumeClaim").is_some() => {
                    self.models.join(tree::text(mount, &["subPath"]).unwrap_or(""))
                }
                None => self.volumes.path().join(uid(pod)),
            };
            (tree::text(mount, &["mountPath"]).unwrap().to_owned(), folder)
        };
        tree::list(container, &["volumeMounts"]).iter().map(place).collect()
    }

    /// The port at which a pod has what its spec calls so: a router's own are taken by others here.
    fn port(&self, pod: &Value, stated: i64) -> u16 {
        match stated {
            8080 if is_router(pod) => self.ports.router,
            8081 if is_router(pod) => self.ports.admin,
            stated => u16::try_from(stated).unwrap(),
        }
    }

    /// Leads Services to their ready pods.
    fn serve(&self, services: &[Value], pods: &[Value]) {
        let mut all: BTreeMap<Port, Vec<SocketAddr>> = BTreeMap::new();
        for service in services {
            let selector = service["spec"]["selector"].as_object().unwrap();
            let chosen =
                |pod: &&Value| selector.iter().all(|(label, value)| pod["metadata"]["labels"][label] == *value);
            for port in tree::list(service, &["spec", "ports"]) {
                let number = u16::try_from(tree::number(port, &["port"]).unwrap()).unwrap();
                let target = tree::number(port, &["targetPort"]).unwrap();
                let ready = pods.iter().filter(chosen).filter_map(|pod| {
                    let own = self.pods.get(&uid(pod)).filter(|own| own.ready)?;
                    Some(SocketAddr::from((own.ip, self.port(pod, target))))
                });
                let grpc = tree::text(port, &["name"]).is_some_and(|name| name.contains("h2c"));
                all.insert((tree::name(service).to_owned(), number, grpc), ready.collect());
            }
        }
        self.proxies.set(&all);
    }

    /// Writes a ConfigMap's volume, all at once, with addresses in place of Services' names; not before all of these are there.
    fn write_volume(&self, map: &Value) {
        let folder = self.volumes.path().join(tree::name(map));
        for (file, text) in map["data"].as_object().into_iter().flatten() {
            let mut parsed: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
            if !self.resolve(&mut parsed) {
                return;
            }
            let text = parsed.to_string();
            let path = folder.join(file);
            if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
                write(&path, &text);
            }
        }
    }

    fn resolve(&self, tree: &mut Value) -> bool {
        match tree {
            Value::String(text) => {
                let Some((host, port)) = text.split_once(':') else { return true };
                let Some((service, _)) = host.split_once(&format!(".{NAMESPACE}.svc.")) else { return true };
                let Some(address) = self.proxies.find(service, port.parse().unwrap()) else { return false };
                *text = address.to_string();
                true
            }
            Value::Array(all) => all.iter_mut().all(|own| self.resolve(own)),
            Value::Object(all) => all.values_mut().all(|own| self.resolve(own)),
            _ => true,
        }
    }

    /// Says how many pods of a Deployment are ready.
    fn tell(&self, deployment: &Value, pods: &[Value]) {
        let wanted = tree::number(deployment, &["spec", "replicas"]).unwrap_or(1);
        let own = owned(deployment, pods);
        let ready = own.iter().filter(|pod| self.pods.get(&uid(pod)).is_some_and(|own| own.ready)).count();
        let enough = i64::try_from(ready).unwrap() * 4 >= wanted * 3 && ready > 0;
        let status = json!({
            "replicas": own.len(), "availableReplicas": ready, "readyReplicas": ready,
            "conditions": [{"type": "Available", "status": if enough { "True" } else { "False" }}],
        });
        if deployment["status"] != status {
            let patch = json!({"status": status});
            let key = key("Deployment", tree::name(deployment));
            let _gone = self.server.with(|store| store.merge(&key, &patch, Some("status"), "kubelet"));
        }
    }

    fn take(&mut self, uid: &str, event: Event) {
        // A pod that has gone says nothing any more.
        let Some(own) = self.pods.get_mut(uid) else { return };
        own.ready = matches!(event, Event::Ready(true));
        let condition = json!([{"type": "Ready", "status": if own.ready { "True" } else { "False" }}]);
        let mut status = json!({"conditions": condition});
        if let Event::Ended { code, message } = event {
            let ended =
                json!({"terminated": {"exitCode": code, "message": message, "finishedAt": "2026-01-01T00:00:00Z"}});
            let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
            status["containerStatuses"] = json!([{"name": "kserve-container", "state": waiting, "lastState": ended}]);
        }
        let find = |store: &Store| store.list("Pod", Some(NAMESPACE), "").into_iter().find(|pod| self::uid(pod) == uid);
        if let Some(pod) = self.server.look(find) {
            let key = key("Pod", tree::name(&pod));
            let patch = json!({"status": status});
            self.server.with(|store| store.merge(&key, &patch, Some("status"), "kubelet").unwrap());
        }
    }
}

fn is_router(pod: &Value) -> bool {
    tree::label(pod, "component").is_some_and(|own| own.ends_with("-router"))
}

fn owned<'a>(deployment: &Value, pods: &'a [Value]) -> Vec<&'a Value> {
    let uid = uid(deployment);
    pods.iter().filter(|pod| pod["metadata"]["ownerReferences"][0]["uid"] == uid.as_str()).collect()
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}
