//! README's commands, from nothing to a canary, by a real kubectl: its own lines, run one after the other against the API server in
//! memory, with real servers as pods. What is not there on a machine of tests (docker, kustomize) is said in two lines of shell.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tensorgate_controller::tree;
use tokio::process::Command;

use super::{Cluster, NAMESPACE, Site, revision_of};
use crate::readme;
use crate::store::{Key, Store};

/// What `docker` and `kustomize` do of what the commands ask them for.
const STAND_INS: &str = "set -euo pipefail\n\
    docker() { if [ \"$1\" = build ]; then test -f \"$3\"; fi; }\n\
    kustomize() { printf 'images:\\n- name: %s\\n  newName: %s\\n' \"${4%%=*}\" \"${4#*=}\" >>kustomization.yaml; }\n";

/// kubectl by `KUBECTL` or the path; none where there is none.
fn kubectl() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|folder| folder.join("kubectl")).find(|path| path.is_file());
    std::env::var_os("KUBECTL").map(PathBuf::from).or(found)
}

/// A folder with README's `deploy/`, and a shell in it that knows the cluster.
struct Shell {
    folder: tempfile::TempDir,
    kubectl: PathBuf,
}

impl Shell {
    fn new(cluster: &Cluster, kubectl: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        copy(&root.join("deploy"), &folder.path().join("deploy"));
        // Pods are processes here, at ports of their own.
        let runtime = folder.path().join("deploy/base/runtime.yaml");
        std::fs::write(&runtime, cluster.ports.placed(&std::fs::read_to_string(&runtime).unwrap())).unwrap();
        std::fs::write(folder.path().join("kubeconfig"), cluster.server.kubeconfig()).unwrap();
        Self { folder, kubectl }
    }

    /// What a command prints.
    async fn run(&self, command: &str) -> String {
        // The models of the samples, where the README has a store.
        let command = command.replace("s3://models/", "pvc://models/samples/");
        let mut shell = Command::new("bash");
        let path = std::env::var("PATH").unwrap_or_default();
        let ours = self.kubectl.parent().unwrap().display();
        shell.args(["-c", &format!("{STAND_INS}{command}")]).current_dir(self.folder.path());
        shell.env("PATH", format!("{ours}:{path}")).env("HOME", self.folder.path());
        shell.env("KUBECONFIG", self.folder.path().join("kubeconfig"));
        let done = shell.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
        let (out, error) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{command}\n{out}{error}");
        out.into_owned()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), &to).unwrap()),
        }
    }
}

fn deployed(store: &Store) {
    let key: Key = ("Deployment".into(), "tensorgate-system".into(), "tensorgate-controller".into());
    let controller = store.get(&key).expect("the controller's Deployment");
    let container = &controller["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "registry.example.com/tensorgate:latest");
    let env = tree::list(container, &["env"]).iter();
    let routers = env.clone().find(|own| own["name"] == "TENSORGATE_CONTROLLER_ROUTER_IMAGE").unwrap();
    assert_eq!(routers["value"], "registry.example.com/tensorgate:latest");
    let runtime: Key = ("ClusterServingRuntime".into(), String::new(), "tensorgate".into());
    let runtime = store.get(&runtime).expect("the runtime");
    assert_eq!(runtime["spec"]["containers"][0]["image"], "registry.example.com/tensorgate:latest");
    for (kind, wanted) in [("CustomResourceDefinition", 4), ("ClusterRole", 1), ("NetworkPolicy", 1)] {
        assert!(store.list(kind, None, "").len() >= wanted, "{kind}");
    }
}

/// The label that the model gives the second flower, through the Service.
async fn second_label(site: &Site) -> Value {
    let (address, question) = (site.address("iris", false).await, super::scenario::iris());
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let answer = super::storm::answered(&client, &address, &question).await.unwrap();
    let labels = tree::list(&answer, &["outputs"]).iter().find(|own| own["name"] == "label").unwrap();
    labels["data"][1].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_goes_from_nothing_to_a_canary_and_back_by_the_lines_of_the_readme() {
    let Some(kubectl) = kubectl() else {
        eprintln!("there is no kubectl here; what its commands lead to is seen by readme.rs alone");
        return;
    };
    let cluster = Cluster::start().await;
    let (_controller, site) = (cluster.controller().await, cluster.site().await);
    let shell = Shell::new(&cluster, kubectl);
    let commands = readme::commands();
    let [build, image, deploy, apply, wait, canary, get, back, on, guard] = &commands[..] else {
        panic!("{commands:#?}");
    };
    shell.run(build).await;
    shell.run(image).await;
    shell.run(deploy).await;
    cluster.server.look(deployed);

    shell.run(apply).await;
    shell.run(wait).await;
    assert_eq!(second_label(&site).await, 2, "the first version has it so");
    let (first, second) = (revision_of("iris", 1), revision_of("iris", 2));
    shell.run(canary).await;
    site.wait_for_shares("iris", &[(2, 10), (1, 90)]).await;
    let printed = shell.run(get).await;
    let (names, row) = printed.trim().split_once('\n').unwrap();
    assert_eq!(names.split_whitespace().take(5).collect::<Vec<_>>(), ["NAME", "URL", "READY", "PREV", "LATEST"]);
    let url = format!("http://iris-predictor.{NAMESPACE}.svc.cluster.local");
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row[..7], ["iris", &url, "True", "90", "10", &first, &second], "{printed}");
    shell.run(back).await;
    site.wait_for_shares("iris", &[(1, 100)]).await;
    shell.run(on).await;
    site.wait_for_shares("iris", &[(2, 100)]).await;
    shell.run(wait).await;
    assert_eq!(second_label(&site).await, 1, "the second version has it so");
    shell.run(guard).await;
    let own = site.get("iris").await;
    assert_eq!(own["metadata"]["annotations"]["tensorgate.dev/rollout"], json!("true"));
    others(&cluster, &shell).await;
}

/// The other two ways that the README has: a Gateway, and a cluster where KServe is.
async fn others(cluster: &Cluster, shell: &Shell) {
    shell.run("kubectl apply --server-side -k deploy/overlays/gateway").await;
    let key: Key = ("Deployment".into(), "tensorgate-system".into(), "tensorgate-controller".into());
    let controller = cluster.server.look(|store| store.get(&key).cloned()).unwrap();
    let arguments = tree::list(&controller["spec"]["template"]["spec"]["containers"][0], &["args"]).to_vec();
    assert!(arguments.contains(&json!("--gateway=kserve/kserve-ingress-gateway")), "{arguments:?}");
    shell.run("kubectl apply -f deploy/kserve-runtime.yaml").await;
    let named = |own: &Value| tree::name(own).to_owned();
    let runtimes = cluster.server.look(|store| store.list("ClusterServingRuntime", None, ""));
    let written = shell.run("kubectl get clusterservingruntimes -o name").await;
    let written: Vec<&str> = written.lines().filter_map(|own| own.split('/').nth(1)).collect();
    assert_eq!(written, runtimes.iter().map(named).collect::<Vec<_>>());
}
