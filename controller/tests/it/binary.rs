//! The controller's binary against an API server over a socket.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tensorgate_controller::tree;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::apiserver::{ApiServer, Trouble};
use super::store::{Key, Store};
use super::world::documents;

/// A controller; it ends with the test.
pub(crate) struct Controller {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Controller {
    pub(crate) async fn start(server: &ApiServer, identity: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config: PathBuf = folder.path().join("kubeconfig");
        std::fs::write(&config, server.controllers_kubeconfig()).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_tensorgate-controller"))
            .args(["run", "--listen=127.0.0.1:0", "--retire-after=0", "--log-format=json", "--identity", identity])
            .args(flags)
            .env("KUBECONFIG", &config)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next_line().await.unwrap().expect("the controller ended at once");
            let log: Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(address) = tree::text(&log, &["fields", "address"]) {
                break address.to_owned();
            }
        };
        // Read on, or the pipe would fill up.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("{line}")
            }
        });
        Self { process, address, _folder: folder }
    }

    pub(super) async fn get(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = tokio::net::TcpStream::connect(&self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (code, answer)
    }

    pub(crate) async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    pub(crate) async fn terminate(mut self) {
        let pid = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        assert!(self.process.wait().await.unwrap().success());
    }
}

pub(super) fn key(kind: &str, name: &str) -> Key {
    (kind.into(), "models".into(), name.into())
}

pub(super) fn service(name: &str, uri: &str) -> Value {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": name},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "onnx"}, "storageUri": uri}}},
    })
}

pub(super) fn write(server: &ApiServer, object: &Value) {
    let key = key("InferenceService", tree::name(object));
    server.with(|store| store.apply(&key, object, None, "kubectl", true).unwrap());
}

pub(crate) async fn server() -> ApiServer {
    let server = ApiServer::start().await;
    let runtime = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/base/runtime.yaml")).unwrap();
    let key = ("ClusterServingRuntime".into(), String::new(), "tensorgate".into());
    server.with(|store| store.create(key, documents(&runtime).remove(0), "kubectl").unwrap());
    server
}

/// All pods of a Deployment become ready, as soon as there is one.
pub(crate) async fn make_ready(server: &ApiServer, deployment: &str) {
    let key = key("Deployment", deployment);
    let replicas = server.wait(deployment, |store| store.get(&key).map(|own| own["spec"]["replicas"].clone())).await;
    let status = json!({"status": {
        "availableReplicas": replicas, "conditions": [{"type": "Available", "status": "True"}],
    }});
    server.with(|store| store.merge(&key, &status, Some("status"), "kube").unwrap());
}

fn condition(store: &Store, name: &str, kind: &str) -> Option<String> {
    let service = store.get(&key("InferenceService", name))?;
    let conditions = tree::list(service, &["status", "conditions"]);
    let found = conditions.iter().find(|own| own["type"] == kind)?;
    tree::text(found, &["status"]).map(str::to_owned)
}

async fn until_ready(server: &ApiServer, name: &str, generation: i64) {
    let ready = |store: &Store| {
        let own = store.get(&key("InferenceService", name))?;
        let seen = tree::number(own, &["status", "observedGeneration"])? >= generation;
        (seen && condition(store, name, "Ready")? == "True").then_some(())
    };
    server.wait(&format!("{name} to be ready"), ready).await;
}

fn selected(store: &Store, service: &str) -> Option<String> {
    tree::text(store.get(&key("Service", service))?, &["spec", "selector", "app"]).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_goes_from_its_manifest_through_an_update_to_its_deletion() {
    let server = server().await;
    let controller = Controller::start(&server, "one", &[]).await;
    write(&server, &service("iris", "s3://models/1"));
    make_ready(&server, "iris-predictor-00001").await;
    until_ready(&server, "iris", 1).await;
    let url = server.with(|store| store.get(&key("InferenceService", "iris")).unwrap()["status"]["url"].clone());
    assert_eq!(url, "http://iris-predictor.models.svc.cluster.local");

    write(&server, &service("iris", "s3://models/2"));
    make_ready(&server, "iris-predictor-00002").await;
    until_ready(&server, "iris", 2).await;
    server
        .wait("the old pods to go", |store| {
            store.get(&key("Deployment", "iris-predictor-00001")).is_none().then_some(())
        })
        .await;
    assert_eq!(server.with(|store| selected(store, "iris-predictor")).as_deref(), Some("isvc.iris-predictor-00002"));
    let told =
        |store: &Store| store.list("Event", None, "").iter().any(|own| own["reason"] == "RolledOut").then_some(());
    server.wait("an event", told).await;

    let (code, metrics) = controller.get("/metrics").await;
    assert_eq!(code, 200);
    assert!(metrics.contains("tensorgate_controller_leading 1"), "{metrics}");
    assert_eq!(controller.get("/readyz").await.0, 200);
    assert_eq!(controller.get("/nowhere").await.0, 404);

    server.with(|store| store.delete(&key("InferenceService", "iris"), None).unwrap());
    server.wait("its children to go", |store| store.list("Service", None, "").is_empty().then_some(())).await;
    controller.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_end_and_history_that_is_forgotten_lose_no_change() {
    let server = server().await;
    let _controller = Controller::start(&server, "one", &[]).await;
    for round in 1..=5 {
        let name = format!("iris-{round}");
        server.drop_watches();
        write(&server, &service(&name, "s3://models/1"));
        server.drop_watches();
        make_ready(&server, &format!("{name}-predictor-00001")).await;
        until_ready(&server, &name, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_failures_and_lost_answers_ends_in_the_same_state() {
    let server = server().await;
    let refused = AtomicUsize::new(0);
    server.break_calls(move |call| {
        if call.method == "GET" || call.path.contains("/leases") {
            return None;
        }
        // Every second, so that each look brings something about and is followed by the next at once.
        let number = refused.fetch_add(1, Ordering::Relaxed);
        let troubles = [Trouble::Refused(409), Trouble::AnswerLost, Trouble::Refused(500), Trouble::Refused(422)];
        (number % 2 == 1 && number < 24).then(|| troubles[number / 2 % 4])
    });
    let _controller = Controller::start(&server, "one", &[]).await;
    write(&server, &service("iris", "s3://models/1"));
    make_ready(&server, "iris-predictor-00001").await;
    until_ready(&server, "iris", 1).await;
    server.mend();
    let revisions = server.with(|store| store.list("ControllerRevision", None, "").len());
    assert_eq!(revisions, 1, "a lost answer must not make a second revision");
}

/// Runs an update with the controller killed at its `at`-th writing call, then started again; gives the number of such calls.
async fn killed_at(at: usize) -> usize {
    let server = server().await;
    write(&server, &service("iris", "s3://models/1"));
    let first = Controller::start(&server, "one", &[]).await;
    make_ready(&server, "iris-predictor-00001").await;
    until_ready(&server, "iris", 1).await;
    let before = server.writes();
    let writes = AtomicUsize::new(0);
    let (died, mut dead) = tokio::sync::mpsc::unbounded_channel();
    server.break_calls(move |call| {
        if call.method == "GET" || call.path.contains("/leases") {
            return None;
        }
        let number = writes.fetch_add(1, Ordering::Relaxed);
        if number >= at {
            // Nothing more of this controller arrives: it is as good as dead from here on.
            let _told_before = died.send(());
            return Some(Trouble::Refused(503));
        }
        None
    });
    write(&server, &service("iris", "s3://models/2"));
    let rollout = async {
        make_ready(&server, "iris-predictor-00002").await;
        until_ready(&server, "iris", 2).await;
    };
    tokio::select! {
        () = rollout => {}
        _ = dead.recv() => {}
    }
    drop(first);
    server.mend();
    let _second = Controller::start(&server, "one", &[]).await;
    make_ready(&server, "iris-predictor-00002").await;
    until_ready(&server, "iris", 2).await;
    server
        .wait("the old pods to go", |store| {
            store.get(&key("Deployment", "iris-predictor-00001")).is_none().then_some(())
        })
        .await;
    let app = server.with(|store| selected(store, "iris-predictor"));
    assert_eq!(app.as_deref(), Some("isvc.iris-predictor-00002"), "killed at call {at}");
    assert_eq!(server.with(|store| store.list("ControllerRevision", None, "").len()), 2, "killed at call {at}");
    server.writes() - before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_dies_at_any_call_of_a_rollout_is_followed_by_one_that_ends_it_alike() {
    // The first run is not killed, and tells how many calls there are.
    let calls = killed_at(usize::MAX).await;
    assert!((5..40).contains(&calls), "{calls} calls");
    for at in 0..calls {
        killed_at(at).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_controllers_one_writes_and_the_other_takes_over_when_it_ends() {
    let server = server().await;
    let first = Controller::start(&server, "one", &[]).await;
    let holder = |store: &Store| {
        let lease = store.get(&("Lease".into(), "tensorgate-system".into(), "tensorgate-controller".into()))?;
        tree::text(lease, &["spec", "holderIdentity"]).map(str::to_owned)
    };
    server.wait("the first to lead", |store| holder(store).filter(|own| own == "one")).await;
    let second = Controller::start(&server, "two", &[]).await;
    write(&server, &service("iris", "s3://models/1"));
    make_ready(&server, "iris-predictor-00001").await;
    until_ready(&server, "iris", 1).await;
    assert!(second.get("/metrics").await.1.contains("tensorgate_controller_leading 0"));
    first.terminate().await;
    server.wait("the second to lead", |store| holder(store).filter(|own| own == "two")).await;
    write(&server, &service("iris", "s3://models/2"));
    make_ready(&server, "iris-predictor-00002").await;
    until_ready(&server, "iris", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_services_at_rest_cost_two_reads_each_when_they_are_looked_at_and_a_restart_writes_nothing() {
    const SERVICES: usize = 200;
    let server = server().await;
    let first = Controller::start(&server, "one", &[]).await;
    for number in 0..SERVICES {
        write(&server, &service(&format!("s{number}"), "s3://models/1"));
    }
    for number in 0..SERVICES {
        make_ready(&server, &format!("s{number}-predictor-00001")).await;
    }
    for number in 0..SERVICES {
        until_ready(&server, &format!("s{number}"), 1).await;
    }
    drop(first);
    // Each has been looked at once a new one is through, since they are looked at in the order in which they came.
    let looked_at = |text: &str| {
        let line =
            text.lines().find(|line| line.starts_with("tensorgate_controller_reconciles_total{result=\"ok\"}"))?;
        line.rsplit(' ').next()?.parse::<u64>().ok()
    };
    // The first may have been killed with a last event of its own to tell, which the second then does.
    let (mut written, mut read) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (before, calls) = (server.writes(), server.calls().len());
        let next = Controller::start(&server, "one", &[]).await;
        while looked_at(&next.get("/metrics").await.1).unwrap_or(0) < SERVICES as u64 {
            tokio::task::yield_now().await;
        }
        written.push(server.writes() - before);
        read.push(server.calls()[calls..].iter().filter(|call| !call.contains("/leases")).count());
    }
    // Each is looked at once, as it is once an hour: its service account is read, and `storage-config`. The rest are a list of each
    // kind, which a watch follows.
    assert!(read[1] <= 2 * SERVICES + 20, "{} requests", read[1]);
    assert_eq!(written[1], 0, "{written:?}: {:#?}", &server.calls()[server.calls().len() - 40..]);
}
