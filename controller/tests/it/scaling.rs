//! Our own autoscaler in the binary: pods that tell metrics, an API server in memory, and somebody who starts the pods.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tensorgate_contract::metrics as names;
use tensorgate_controller::tree;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::apiserver::ApiServer;
use super::binary::{Controller, key, server, service, write};
use super::store::Store;

/// Servers on all addresses of the loopback: a pod is one address. Each has its part of the load.
struct Servers {
    address: SocketAddr,
    state: Arc<Mutex<Load>>,
}

#[derive(Default)]
struct Load {
    /// Rows per second over all pods.
    rate: f64,
    pods: f64,
    silent: bool,
    /// By host: rows so far, and until when.
    counted: BTreeMap<String, (f64, Option<Instant>)>,
}

impl Servers {
    async fn start() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<Load>>::default();
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let state = shared.clone();
                tokio::spawn(async move {
                    let mut head = vec![0; 4096];
                    while let Ok(length @ 1..) = socket.read(&mut head).await {
                        let text = String::from_utf8_lossy(&head[..length]).to_ascii_lowercase();
                        let host = text.split("host: ").nth(1).and_then(|rest| rest.split(':').next()).unwrap_or("");
                        let Some(body) = metrics(&mut state.lock().unwrap(), host) else { return };
                        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                        if socket.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, state }
    }

    fn load(&self, change: impl FnOnce(&mut Load)) {
        change(&mut self.state.lock().unwrap());
    }
}

/// What a server with 100 rows per second within 100 ms tells; none where it is to be silent.
fn metrics(load: &mut Load, host: &str) -> Option<String> {
    if load.silent {
        return None;
    }
    let (rate, now) = (load.rate / load.pods.max(1.0), Instant::now());
    let (rows, until) = load.counted.entry(host.to_owned()).or_default();
    *rows += until.map_or(0.0, |until| rate * now.duration_since(until).as_secs_f64());
    *until = Some(now);
    let of = "model=\"iris\",version=\"1\"";
    let mut text = format!(
        "{}{{{of}}} {rows}\n{}{{{of}}} 0.1\n{}{{{of}}} 1\n{}{{{of}}} 8\n{}{{{of}}} 1\n{}{{{of}}} 5000\n",
        names::ARRIVED_ROWS,
        names::MODEL_OBJECTIVE,
        names::MODEL_INSTANCES,
        names::MODEL_ROWS_MAX,
        names::MODEL_ROW_WORK,
        names::MODEL_EXECUTIONS
    );
    for (work, millis) in [(1, 10), (2, 12), (4, 16), (8, 24)] {
        for (quantile, factor) in [("0.5", 1.0), ("0.95", 1.1)] {
            let seconds = f64::from(millis) / 1e3 * factor;
            text += &format!("{}{{{of},work=\"{work}\",quantile=\"{quantile}\"}} {seconds}\n", names::MODEL_LATENCY);
        }
    }
    Some(text)
}

/// Has there be as many ready pods as a Deployment asks for, each at an address of its own; gives how many.
fn follow(server: &ApiServer, servers: &Servers, deployment: &str) -> Option<i64> {
    server.with(|store| {
        let own = store.get(&key("Deployment", deployment))?.clone();
        let replicas = tree::number(&own, &["spec", "replicas"])?;
        let pods = store.list("Pod", None, "");
        for number in pods.len() as i64..replicas {
            let name = format!("{deployment}-{number}");
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "labels": own["spec"]["template"]["metadata"]["labels"]},
                "spec": {"containers": [{"name": "kserve-container", "ports": [{"containerPort": servers.address.port()}]}]},
                "status": {
                    "podIP": format!("127.0.0.{}", number + 2),
                    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                },
            });
            store.create(key("Pod", &name), pod, "kubelet").unwrap();
        }
        for pod in pods.iter().skip(replicas as usize) {
            store.delete(&key("Pod", tree::name(pod)), None).unwrap();
        }
        let status = json!({"status": {
            "availableReplicas": replicas, "conditions": [{"type": "Available", "status": "True"}],
        }});
        if tree::number(&own, &["status", "availableReplicas"]) != Some(replicas) {
            store.merge(&key("Deployment", deployment), &status, Some("status"), "kube").unwrap();
        }
        servers.load(|load| load.pods = replicas as f64);
        Some(replicas)
    })
}

const REVISION: &str = "iris-predictor-00001";

fn scaled(name: &str) -> Value {
    let mut object = service(name, "s3://models/1");
    object["metadata"]["annotations"] = json!({"serving.kserve.io/autoscalerClass": "tensorgate"});
    object["spec"]["predictor"]["minReplicas"] = json!(1);
    object["spec"]["predictor"]["maxReplicas"] = json!(4);
    object
}

/// Follows the Deployment until it asks for `wanted` replicas.
async fn until(server: &ApiServer, servers: &Servers, wanted: i64) {
    let asked = |store: &Store| tree::number(store.get(&key("Deployment", REVISION))?, &["spec", "replicas"]);
    loop {
        let now = follow(server, servers, REVISION);
        if now == Some(wanted) {
            return;
        }
        server.wait(&format!("{wanted} replicas"), |store| asked(store).filter(|asked| Some(*asked) != now)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_follow_the_load_up_and_down_and_stay_where_the_metrics_are_silent() {
    let (server, servers) = (server().await, Servers::start().await);
    servers.load(|load| load.rate = 20.0);
    let controller = Controller::start(&server, "one", &["--scale-down-after=2"]).await;
    write(&server, &scaled("iris"));
    until(&server, &servers, 1).await;
    servers.load(|load| load.rate = 1500.0);
    until(&server, &servers, 4).await;
    let why = |store: &Store| {
        let own = store.get(&key("Deployment", REVISION))?;
        tree::annotation(own, "tensorgate.dev/scaled")
            .filter(|told| told.starts_with("4 replicas: "))
            .map(str::to_owned)
    };
    let why = server.wait("the reason", why).await;
    assert!(why.contains("one serves"), "{why}");
    let told = |store: &Store| {
        let own = store.get(&key("InferenceService", "iris"))?;
        let conditions = tree::list(own, &["status", "conditions"]);
        let scaled = conditions.iter().find(|own| own["type"] == "Scaled")?;
        tree::text(scaled, &["message"]).filter(|told| told.contains(&why)).map(drop)
    };
    server.wait("the condition", told).await;
    let event =
        |store: &Store| store.list("Event", None, "").iter().any(|own| own["reason"] == "ScaledUp").then_some(());
    server.wait("an event", event).await;
    let hpas = server.with(|store| store.list("HorizontalPodAutoscaler", None, "").len());
    assert_eq!(hpas, 0);

    // Silent servers keep what there is, however long: as long as it takes for the controller to have seen it thrice.
    servers.load(|load| (load.silent, load.rate) = (true, 0.0));
    let metric = format!("{}{{namespace=\"models\",revision=\"{REVISION}\"}}", names::controller::REPLICAS_DESIRED);
    for _ in 0..50 {
        let text = controller.get("/metrics").await.1;
        assert!(text.contains(&format!("{metric} 4")), "{text}");
    }
    assert_eq!(follow(&server, &servers, REVISION), Some(4));

    servers.load(|load| load.silent = false);
    until(&server, &servers, 1).await;
    controller.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_from_another_autoscaler_to_ours_keeps_the_replicas_there_are() {
    let (server, servers) = (server().await, Servers::start().await);
    servers.load(|load| load.silent = true);
    let _controller = Controller::start(&server, "one", &[]).await;
    let mut fixed = scaled("iris");
    fixed["metadata"]["annotations"] = json!({"serving.kserve.io/autoscalerClass": "none"});
    fixed["spec"]["predictor"]["minReplicas"] = json!(3);
    write(&server, &fixed);
    until(&server, &servers, 3).await;
    let mut ours = scaled("iris");
    ours["spec"]["predictor"]["minReplicas"] = json!(2);
    write(&server, &ours);
    let orders = |store: &Store| {
        let own = store.get(&key("Deployment", REVISION))?;
        tree::annotation(own, "tensorgate.dev/scale").map(str::to_owned)
    };
    assert_eq!(server.wait("the orders", orders).await, "{\"min\":2,\"max\":4}");
    assert_eq!(follow(&server, &servers, REVISION), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_controller_goes_on_with_what_was_learned_and_lets_nothing_go_at_once() {
    let (server, servers) = (server().await, Servers::start().await);
    servers.load(|load| load.rate = 20.0);
    let first = Controller::start(&server, "one", &["--scale-down-after=2"]).await;
    write(&server, &scaled("iris"));
    until(&server, &servers, 1).await;
    servers.load(|load| load.rate = 1500.0);
    until(&server, &servers, 4).await;
    let memory = |store: &Store| {
        let own = store.get(&key("Deployment", REVISION))?;
        let text = tree::annotation(own, "tensorgate.dev/scale-memory")?;
        serde_json::from_str::<Value>(text).ok().filter(|kept| kept["trim"].is_f64() && kept["start"].is_f64())
    };
    server.wait("what outlasts the controller", memory).await;
    first.terminate().await;

    servers.load(|load| load.rate = 20.0);
    let second = Controller::start(&server, "two", &["--scale-down-after=2"]).await;
    let of = format!("{{namespace=\"models\",revision=\"{REVISION}\"}}");
    let value = |text: &str, name: &str| -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(&format!("{name}{of} "))?.parse().ok())
    };
    // Until it has seen that little arrives, and decided.
    loop {
        let text = second.get("/metrics").await.1;
        assert!(value(&text, names::controller::REPLICAS_DESIRED).is_none_or(|desired| desired == 4.0), "{text}");
        if value(&text, names::controller::DEMAND).is_some_and(|demand| (1.0..100.0).contains(&demand)) {
            break;
        }
    }
    assert_eq!(follow(&server, &servers, REVISION), Some(4));
    second.terminate().await;
}
