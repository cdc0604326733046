//! A cluster of processes on this machine: the API server in memory, the controller's binary, and a kubelet that starts *real*
//! servers and routers for pods, each at an address of its own (127.x.y.z). What Services' names lead to is forwarded as kube-proxy
//! would.

mod chaos;
mod commands;
mod kubelet;
mod pod;
mod proxy;
mod scale;
mod scenario;
mod storm;

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use tensorgate_controller::tree;

use self::kubelet::Kubelet;
use self::proxy::Proxies;
use super::apiserver::ApiServer;
use super::binary::Controller;
use super::world::documents;

const NAMESPACE: &str = "models";
/// Far longer than anything takes; a test that waits in vain says for what.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// The ports of pods, which are those that nobody on this machine listens at for all addresses.
#[derive(Debug, Clone, Copy)]
struct Ports {
    http: u16,
    grpc: u16,
    router: u16,
    admin: u16,
}

impl Ports {
    fn free() -> Self {
        // Held together, so that they differ.
        let held: Vec<TcpListener> = (0..4).map(|_| TcpListener::bind("0.0.0.0:0").unwrap()).collect();
        let port = |index: usize| held[index].local_addr().unwrap().port();
        Self { http: port(0), grpc: port(1), router: port(2), admin: port(3) }
    }

    /// A runtime whose servers have these ports.
    fn placed(&self, runtime: &str) -> String {
        runtime.replace("8080", &self.http.to_string()).replace("9000", &self.grpc.to_string())
    }
}

/// The server's binary: `TENSORGATE_BIN`, or the one that is built with this test in the workspace.
fn server_binary() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_tensorgate-controller")).with_file_name("tensorgate");
    let path = std::env::var_os("TENSORGATE_BIN").map_or(beside, PathBuf::from);
    assert!(path.is_file(), "{} is not there: cargo build -p tensorgate --bin tensorgate", path.display());
    path
}

/// The cluster. It ends with the test.
struct Cluster {
    server: ApiServer,
    ports: Ports,
    proxies: Proxies,
    kubelet: tokio::task::JoinHandle<()>,
    models: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kubelet.abort();
    }
}

impl Cluster {
    async fn start() -> Self {
        let (server, ports) = (ApiServer::start().await, Ports::free());
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let runtime = std::fs::read_to_string(root.join("deploy/base/runtime.yaml")).unwrap();
        let runtime = ports.placed(&runtime);
        let key = ("ClusterServingRuntime".into(), String::new(), "tensorgate".into());
        server.with(|store| store.create(key, documents(&runtime).remove(0), "kubectl").unwrap());
        let models = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(root.join("models").canonicalize().unwrap(), models.path().join("samples")).unwrap();
        let proxies = Proxies::default();
        let kubelet = Kubelet::new(server.clone(), proxies.clone(), ports, models.path().to_owned());
        let kubelet = tokio::spawn(kubelet.run());
        Self { server, ports, proxies, kubelet, models }
    }

    async fn controller(&self) -> Controller {
        Controller::start(&self.server, "one", &["--router-image=tensorgate"]).await
    }

    /// Adds an identity model that takes `milliseconds` for each request.
    fn add_identity(&self, place: &str, milliseconds: u64) {
        self.add_model(place, &format!("execute_time = \"{milliseconds}ms\""));
    }

    /// Adds an identity model with settings of its own.
    fn add_model(&self, place: &str, settings: &str) {
        let folder = self.models.path().join(place);
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!(
            "runtime = \"identity\"\nmax_batch_size = 1\n{settings}\n[[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\n\
             shape = [-1, 4]\n"
        );
        std::fs::write(folder.join("model.toml"), text).unwrap();
    }

    async fn site(&self) -> Site {
        let config = kube::Config::new(format!("http://{}", self.server.address).parse().unwrap());
        Site {
            client: kube::Client::try_from(config).unwrap(),
            storage: "pvc://models".into(),
            proxies: Some(self.proxies.clone()),
        }
    }
}

/// A cluster as its users have it: an API server, and Services that answer.
struct Site {
    client: kube::Client,
    /// Where the models are.
    storage: String,
    /// What leads to Services; without it their names do.
    proxies: Option<Proxies>,
}

impl Site {
    fn services(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("serving.kserve.io", "v1beta1", "InferenceService");
        let resource = ApiResource::from_gvk_with_plural(&kind, "inferenceservices");
        Api::namespaced_with(self.client.clone(), NAMESPACE, &resource)
    }

    /// As `kubectl apply` would.
    async fn apply(&self, object: &Value) {
        let parameters = PatchParams::apply("kubectl").force();
        self.services().patch(tree::name(object), &parameters, &Patch::Apply(object)).await.unwrap();
    }

    async fn get(&self, name: &str) -> Value {
        serde_json::to_value(self.services().get(name).await.unwrap()).unwrap()
    }

    /// Waits until the service is so; gives it then.
    async fn wait(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let tree = |object: &DynamicObject| serde_json::to_value(object).unwrap();
        let condition = |object: Option<&DynamicObject>| object.is_some_and(|object| holds(&tree(object)));
        match tokio::time::timeout(PATIENCE, await_condition(self.services(), name, condition)).await {
            Ok(found) => tree(&found.unwrap().unwrap()),
            Err(_) => {
                let (status, events) = (self.get(name).await["status"].take(), self.events().await);
                panic!("waited in vain for {what}: {status:#}\n{events:#?}")
            }
        }
    }

    /// Waits until the traffic is shared out like that, by revisions' numbers.
    async fn wait_for_shares(&self, name: &str, shares: &[(u32, i64)]) -> Value {
        self.wait(name, &format!("{shares:?}"), |own| {
            let traffic = tree::list(own, &["status", "components", "predictor", "traffic"]);
            let traffic: Vec<&Value> = traffic.iter().filter(|target| target["percent"] != 0).collect();
            let has = |(revision, percent): &(u32, i64)| {
                traffic
                    .iter()
                    .any(|own| own["revisionName"] == revision_of(name, *revision) && own["percent"] == *percent)
            };
            traffic.len() == shares.len() && shares.iter().all(has)
        })
        .await
    }

    /// Reasons and notes of the Events so far.
    async fn events(&self) -> Vec<String> {
        let kind = GroupVersionKind::gvk("events.k8s.io", "v1", "Event");
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), NAMESPACE, &ApiResource::from_gvk_with_plural(&kind, "events"));
        let all = api.list(&Default::default()).await.unwrap();
        let shown = |own: &DynamicObject| {
            let text = |field: &str| own.data[field].as_str().unwrap_or("").to_owned();
            format!("{}: {}", text("reason"), text("note"))
        };
        all.iter().map(shown).collect()
    }

    /// Host and port of a component's Service: where HTTP is, or gRPC.
    async fn address(&self, name: &str, grpc: bool) -> String {
        let service = format!("{name}-predictor");
        let Some(proxies) = &self.proxies else {
            return format!("{service}.{NAMESPACE}.svc.cluster.local:{}", if grpc { 9000 } else { 80 });
        };
        proxies.wait(&service, grpc).await
    }
}

/// The name of a revision of a predictor.
fn revision_of(name: &str, number: u32) -> String {
    format!("{name}-predictor-{number:05}")
}

/// An InferenceService behind a router.
fn inference_service(name: &str, uri: &str, predictor: Value, annotations: Value) -> Value {
    let mut object = json!({
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": {"name": name, "namespace": NAMESPACE, "annotations": annotations},
        "spec": {"predictor": predictor},
    });
    object["metadata"]["annotations"]["tensorgate.dev/router"] = json!("true");
    object["spec"]["predictor"]["model"] = json!({"modelFormat": {"name": "onnx"}, "storageUri": uri});
    // What servers of a small machine need.
    object["spec"]["predictor"]["model"]["args"] = json!(["--cores=1"]);
    object
}
