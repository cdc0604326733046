//! Requests that wait for pods: the router's binary before servers that come and go, and both binaries together from none to one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tensorgate_controller::demand::Demand;
use tensorgate_controller::plan::Settings;
use tensorgate_controller::tree;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::apiserver::ApiServer;
use super::binary::{Controller, server};
use super::router::Router;
use super::store::{Key, Store};
use super::world::{Observation, World};

/// The place of a revision's Service: an address where a server may be or not.
struct Place {
    address: SocketAddr,
    /// Bound and not listening: refuses connections, and nobody else gets the port.
    _kept: TcpSocket,
}

impl Place {
    fn new() -> Self {
        let kept = TcpSocket::new_v4().unwrap();
        kept.set_reuseaddr(true).unwrap();
        kept.set_reuseport(true).unwrap();
        kept.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { address: kept.local_addr().unwrap(), _kept: kept }
    }

    fn routes(&self) -> Value {
        json!({
            "backends": [{"revision": "one", "weight": 100, "http": self.address.to_string()}],
            "hold": {"timeoutSeconds": 60},
        })
    }

    /// A pod: answers every request with its body, and gRPC with its trailers.
    fn serve(&self) -> Pod {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(1024).unwrap();
        let (stop, mut stopped) = oneshot::channel();
        let draining = Arc::new(AtomicBool::new(false));
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            loop {
                let socket = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    _ = &mut stopped => break,
                };
                let draining = draining.clone();
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let draining = draining.clone();
                    async move {
                        let grpc = request.version() == hyper::Version::HTTP_2;
                        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                        let mut answer = Response::new(Full::new(body));
                        if grpc {
                            answer.headers_mut().insert("grpc-status", "0".parse().unwrap());
                        }
                        if draining.load(Ordering::Relaxed) && !grpc {
                            answer.headers_mut().insert("connection", "close".parse().unwrap());
                        }
                        Ok::<_, Infallible>(answer)
                    }
                });
                let connection = server.serve_connection(TokioIo::new(socket), service).into_owned();
                // The router may go away as it likes.
                connections.spawn(async move { drop(connection.await) });
            }
            draining.store(true, Ordering::Relaxed);
            drop(listener);
            while connections.join_next().await.is_some() {}
        });
        Pod { stop, serving }
    }
}

struct Pod {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Pod {
    /// As SIGTERM would: takes nobody new, answers those it has and asks them to connect anew, and ends when they have.
    async fn end(self) {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap();
    }
}

fn client(http2: bool) -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).http2_only(http2).build_http()
}

async fn ask(
    client: &Client<HttpConnector, Full<Bytes>>,
    url: &str,
    headers: &[(&str, &str)],
) -> (u16, String, String) {
    let mut request = Request::post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = client.request(request.body(Full::from("a body")).unwrap()).await.unwrap();
    let grpc = answer.headers().get("grpc-status").map_or("", |own| own.to_str().unwrap()).to_owned();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, grpc, String::from_utf8(body.to_vec()).unwrap())
}

async fn get(url: &str) -> String {
    let answer = client(false).get(url.parse().unwrap()).await.unwrap();
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// The router's demand, once so many wait.
async fn until_waiting(router: &Router, wanted: usize) -> Demand {
    loop {
        let demand: Demand = serde_json::from_str(&get(&format!("{}/demand", router.admin)).await).unwrap();
        if demand.revisions.get("one").is_some_and(|own| own.waiting == wanted) {
            return demand;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_both_protocols_wait_for_the_first_pod_and_for_the_next_when_it_has_gone() {
    let place = Place::new();
    let router = Router::with("--routes", &place.routes()).await;
    let (http, grpc) = (client(false), client(true));
    for _ in 0..3 {
        let mut waiting = JoinSet::new();
        for _ in 0..20 {
            let (http, grpc, url) = (http.clone(), grpc.clone(), router.url.clone());
            waiting.spawn(async move { ask(&http, &url, &[]).await });
            let url = format!("{}/inference.GRPCInferenceService/ModelInfer", router.url);
            waiting.spawn(async move { ask(&grpc, &url, &[("content-type", "application/grpc")]).await });
        }
        until_waiting(&router, 40).await;
        let pod = place.serve();
        while let Some(answered) = waiting.join_next().await {
            let (status, _, body) = answered.unwrap();
            assert_eq!((status, body.as_str()), (200, "a body"));
        }
        // Nobody waits any more, and requests go straight on.
        assert_eq!(ask(&http, &router.url, &[]).await.0, 200);
        until_waiting(&router, 0).await;
        pod.end().await;
    }
    let metrics = get(&format!("{}/metrics", router.admin)).await;
    assert!(
        metrics.contains(r#"tensorgate_router_requests_total{outcome="answered",revision="one"} 123"#),
        "{metrics}"
    );
    assert!(!metrics.contains(r#"outcome="failed""#), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cannot_wait_so_long_is_told_in_his_own_words_when_his_time_is_over() {
    let place = Place::new();
    let router = Router::with("--routes", &place.routes()).await;
    let (status, _, body) = ask(&client(false), &router.url, &[("request-timeout", "60ms")]).await;
    assert_eq!(status, 504, "{body}");
    assert!(serde_json::from_str::<Value>(&body).unwrap()["error"].as_str().unwrap().contains("one"), "{body}");
    let url = format!("{}/inference.GRPCInferenceService/ModelInfer", router.url);
    let (status, code, _) =
        ask(&client(true), &url, &[("content-type", "application/grpc"), ("grpc-timeout", "60m")]).await;
    assert_eq!((status, code.as_str()), (200, "4"));
    let demand = until_waiting(&router, 0).await;
    assert_eq!(demand.revisions["one"].running, 0);
}

fn resident(router: &Router) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{}/status", router.process.id().unwrap())).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_wait_in_the_memory_of_a_routers_pod_and_the_next_is_told_to_come_again() {
    let place = Place::new();
    let router = Router::with("--routes", &place.routes()).await;
    let before = resident(&router);
    let mut waiting = JoinSet::new();
    // 200 streams of a connection are what the router takes.
    for _ in 0..50 {
        let client = client(true);
        for _ in 0..200 {
            let (client, url) = (client.clone(), router.url.clone());
            waiting.spawn(async move { ask(&client, &url, &[]).await });
        }
    }
    until_waiting(&router, 10_000).await;
    let taken = resident(&router) - before;
    // The pod's limit is 256 MiB.
    assert!(taken < 160 << 20, "{} MiB", taken >> 20);
    refuses_more(&router).await;

    let _pod = place.serve();
    while let Some(answered) = waiting.join_next().await {
        let (status, _, body) = answered.unwrap();
        assert_eq!((status, body.as_str()), (200, "a body"));
    }
    eprintln!("10,000 held requests took {} KiB each", taken / 10_000 / 1024);
}

/// Whoever comes now is told to come again, in the words of either protocol.
async fn refuses_more(router: &Router) {
    let answer = client(false).request(Request::post(&router.url).body(Full::from("a body")).unwrap()).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let error = serde_json::from_slice::<Value>(&body).unwrap()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("'one'") && error.contains("no more requests can wait"), "{error}");
    let call = Request::post(format!("{}/inference.GRPCInferenceService/ModelInfer", router.url));
    let call = call.header("content-type", "application/grpc").body(Full::from("a body")).unwrap();
    let answer = client(true).request(call).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &"14".parse().unwrap()));
    assert_eq!(answer.headers()["grpc-retry-pushback-ms"], "1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_wait_are_bounded_by_their_bytes_and_all_of_them_go_on_whole() {
    // What the router reckons for one: a connection's buffers, and what is read ahead of a body.
    const EACH: usize = (8 << 10) + (64 << 10);
    const ROOM: usize = (128 << 20) / EACH;
    let place = Place::new();
    let router = Router::with("--routes", &place.routes()).await;
    let before = resident(&router);
    let body = Bytes::from(vec![b'x'; 100 << 10]);
    let mut waiting = JoinSet::new();
    let clients: Vec<_> = (0..50).map(|_| client(true)).collect();
    for number in 0..ROOM {
        let (client, url, body) = (clients[number % clients.len()].clone(), router.url.clone(), body.clone());
        waiting.spawn(async move {
            let answer = client.request(Request::post(url).body(Full::from(body.clone())).unwrap()).await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.into_body().collect().await.unwrap().to_bytes() == body)
        });
    }
    until_waiting(&router, ROOM).await;
    let taken = resident(&router) - before;
    assert!(taken < 192 << 20, "{} MiB", taken >> 20);
    // A small one still finds room, since it is not yet full; one as large does not.
    let large = Request::post(&router.url).body(Full::from(body.clone())).unwrap();
    let refused = client(false).request(large).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    let _pod = place.serve();
    while let Some(answered) = waiting.join_next().await {
        assert_eq!(answered.unwrap(), (200, true));
    }
    eprintln!("{ROOM} held bodies took {} KiB each", taken / ROOM / 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_whose_time_is_over_are_told_and_leave_their_room_to_others() {
    let place = Place::new();
    let router = Router::with("--routes", &place.routes()).await;
    let mut waiting = JoinSet::new();
    for number in 0..1000 {
        let grpc = number % 2 == 0;
        let (client, url) = (client(true), router.url.clone());
        waiting.spawn(async move {
            let path = format!("{url}/inference.GRPCInferenceService/ModelInfer");
            match grpc {
                true => ask(&client, &path, &[("content-type", "application/grpc"), ("grpc-timeout", "500m")]).await,
                false => ask(&client, &url, &[("request-timeout", "500ms")]).await,
            }
        });
    }
    let patient = {
        let url = router.url.clone();
        tokio::spawn(async move { ask(&client(false), &url, &[]).await })
    };
    let mut told = BTreeMap::new();
    while let Some(answered) = waiting.join_next().await {
        let (status, code, _) = answered.unwrap();
        *told.entry((status, code)).or_insert(0) += 1;
    }
    assert_eq!(told, [((200, "4".to_owned()), 500), ((504, String::new()), 500)].into());
    until_waiting(&router, 1).await;
    let _pod = place.serve();
    assert_eq!(patient.await.unwrap().0, 200);
}

fn key(kind: &str, name: &str) -> Key {
    (kind.into(), "models".into(), name.into())
}

fn replicas(store: &Store, deployment: &str) -> Option<i64> {
    tree::number(store.get(&key("Deployment", deployment))?, &["spec", "replicas"])
}

fn set_ready(server: &ApiServer, deployment: &str, pods: i64) {
    let status = json!({"status": {
        "availableReplicas": pods, "conditions": [{"type": "Available", "status": if pods > 0 { "True" } else { "False" }}],
    }});
    server.with(|store| store.merge(&key("Deployment", deployment), &status, Some("status"), "kube").unwrap());
}

/// The pods of a revision: there as the Deployment says.
async fn keep_pods(server: ApiServer, name: String, place: Place) {
    let deployment = format!("{name}-predictor-00001");
    let mut pod: Option<Pod> = None;
    loop {
        let runs = pod.is_some();
        let wanted = server
            .wait(&format!("{deployment} to change"), |store| {
                replicas(store, &deployment).filter(|own| (*own > 0) != runs)
            })
            .await;
        pod = match pod.take() {
            Some(pod) => {
                pod.end().await;
                None
            }
            None => Some(place.serve()),
        };
        set_ready(&server, &deployment, wanted);
    }
}

/// The router of a service, with its revision at `place`, and its pod as the kubelet tells it.
async fn start_router(server: &ApiServer, name: &str, place: &Place) -> Router {
    let router_name = format!("{name}-predictor-router");
    let routes = server
        .wait("the router's routes", |store| {
            tree::text(store.get(&key("ConfigMap", &router_name))?, &["data", "routes.json"]).map(str::to_owned)
        })
        .await;
    let mut routes: Value = serde_json::from_str(&routes).unwrap();
    assert_eq!(routes["hold"], json!({"timeoutSeconds": 60}));
    routes["backends"][0]["http"] = json!(place.address.to_string());
    routes["backends"][0].as_object_mut().unwrap().remove("grpc");
    let router = Router::with("--routes", &routes).await;
    let admin: SocketAddr = router.admin.trim_start_matches("http://").parse().unwrap();
    let deployment = server.wait(&router_name, |store| store.get(&key("Deployment", &router_name)).cloned()).await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{router_name}-0"), "labels": deployment["spec"]["template"]["metadata"]["labels"]},
        "spec": {"containers": [{"name": "router", "ports": [{"name": "admin", "containerPort": admin.port()}]}]},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    });
    server.with(|store| store.create(key("Pod", &format!("{router_name}-0")), pod, "kubelet").unwrap());
    set_ready(server, &router_name, 2);
    router
}

/// A service goes to sleep when nobody asks, and is woken by who does, `cycles` times.
async fn sleep_and_wake(server: ApiServer, name: String, cycles: usize) {
    let place = Place::new();
    let service = json!({
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": {"name": name, "annotations": {"tensorgate.dev/idle-seconds": "0"}},
        "spec": {"predictor": {"minReplicas": 0, "model": {"modelFormat": {"name": "onnx"}, "storageUri": "s3://models/1"}}},
    });
    server.with(|store| store.apply(&key("InferenceService", &name), &service, None, "kubectl", true).unwrap());
    let router = start_router(&server, &name, &place).await;
    let deployment = format!("{name}-predictor-00001");
    let kubelet = tokio::spawn(keep_pods(server.clone(), name.clone(), place));
    let client = client(false);
    for cycle in 0..cycles {
        // A pod of a cluster serves on until nobody is led to it any more; this one is not asked while it ends.
        let asleep = |store: &Store| {
            let pods = tree::number(store.get(&key("Deployment", &deployment))?, &["status", "availableReplicas"]);
            (replicas(store, &deployment) == Some(0) && pods == Some(0)).then_some(())
        };
        server.wait(&format!("{name} to sleep"), asleep).await;
        let ready = server.with(|store| {
            let service = store.get(&key("InferenceService", &name)).unwrap();
            let conditions = tree::list(service, &["status", "conditions"]).to_vec();
            conditions.iter().find(|own| own["type"] == "Ready").map(|own| own["status"].clone())
        });
        assert_eq!(ready, Some(json!("True")), "a service that sleeps can be asked");
        let mut asked = JoinSet::new();
        for _ in 0..5 {
            let (client, url) = (client.clone(), router.url.clone());
            asked.spawn(async move { ask(&client, &url, &[]).await });
        }
        while let Some(answered) = asked.join_next().await {
            let (status, _, body) = answered.unwrap();
            assert_eq!((status, body.as_str()), (200, "a body"), "{name}, cycle {cycle}");
        }
    }
    kubelet.abort();
    for reason in ["Asleep", "Woken"] {
        let told = |store: &Store| {
            let all = store.list("Event", None, "");
            all.iter().any(|own| own["reason"] == reason && own["regarding"]["name"] == name.as_str()).then_some(())
        };
        server.wait(&format!("an event {reason} of {name}"), told).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_times_from_no_pods_to_one_and_no_request_fails() {
    let server = server().await;
    let _controller = Controller::start(&server, "one", &["--router-image=tensorgate:latest"]).await;
    let mut services = JoinSet::new();
    for number in 0..10 {
        services.spawn(sleep_and_wake(server.clone(), format!("iris-{number}"), 5));
    }
    let mut ended = BTreeMap::new();
    while let Some(outcome) = services.join_next().await {
        outcome.unwrap();
        *ended.entry("well").or_insert(0) += 1;
    }
    assert_eq!(ended["well"], 10);
}

#[test]
fn beside_an_autoscaler_as_many_are_woken_as_wait_for_and_the_number_is_then_the_autoscalers() {
    let settings = Settings { router_image: Some("tensorgate:latest".into()), ..Settings::default() };
    let mut world = World::new(settings);
    let model = json!({"modelFormat": {"name": "onnx"}, "storageUri": "s3://models/1"});
    world.write(json!({
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "iris"},
        "spec": {"predictor": {"minReplicas": 0, "maxReplicas": 4, "containerConcurrency": 10, "model": model}},
    }));
    let told = |calls: [usize; 3]| Some([("iris-predictor-00001".to_owned(), calls)].into());
    let count = |world: &World| {
        let all = world.all("Deployment");
        let own = all.iter().find(|own| tree::name(own) == "iris-predictor-00001").unwrap();
        tree::number(own, &["spec", "replicas"]).unwrap()
    };
    world.settle("iris");
    world.observe(&Observation { all_ready: true, ..Observation::default() });
    world.settle("iris");
    for _ in 0..2 {
        world.observe(&Observation { demand: told([0, 0, 600]), ..Observation::default() });
        world.settle("iris");
        assert_eq!(count(&world), 0);
        world.observe(&Observation { demand: told([25, 0, 0]), ..Observation::default() });
        world.settle("iris");
        assert_eq!(count(&world), 3);
        let scaled = [("iris-predictor-00001".to_owned(), 2)].into();
        world.observe(&Observation { demand: told([0, 9, 0]), scaled, all_ready: true, ..Observation::default() });
        world.settle("iris");
        assert_eq!(count(&world), 2, "what the autoscaler says stays");
    }
}

#[test]
fn who_comes_while_no_pod_is_ready_wakes_more_by_what_one_was_learned_to_serve() {
    let settings = Settings { router_image: Some("tensorgate:latest".into()), ..Settings::default() };
    let mut world = World::new(settings);
    let model = json!({"modelFormat": {"name": "onnx"}, "storageUri": "s3://models/1"});
    let annotations = json!({"serving.kserve.io/autoscalerClass": "tensorgate"});
    world.write(json!({
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": {"name": "iris", "annotations": annotations},
        "spec": {"predictor": {"minReplicas": 0, "maxReplicas": 8, "model": model}},
    }));
    let revision = "iris-predictor-00001";
    let look = |world: &mut World, calls: [usize; 3], pods: Option<i64>| {
        let demand = Some([(revision.to_owned(), calls)].into());
        let ready = pods.map(|pods| (revision.to_owned(), pods)).into_iter().collect();
        world.observe(&Observation { demand, ready, ..Observation::default() });
        world.settle("iris");
        let all = world.all("Deployment");
        tree::number(all.iter().find(|own| tree::name(own) == revision).unwrap(), &["spec", "replicas"]).unwrap()
    };
    world.settle("iris");
    assert_eq!(look(&mut world, [0, 0, 0], Some(1)), 1);
    // The router, which has to be there before anything may sleep.
    world.observe(&Observation { all_ready: true, ..Observation::default() });
    assert_eq!(look(&mut world, [0, 0, 600], None), 0);
    look(&mut world, [0, 0, 600], Some(0));
    // Nothing is known yet: a hundred for each.
    assert_eq!(look(&mut world, [150, 0, 0], None), 2);
    assert_eq!(look(&mut world, [0, 0, 600], Some(2)), 0);
    let capacity = [(revision.to_owned(), "2.5".to_owned())].into();
    world.observe(&Observation { capacity, ready: [(revision.to_owned(), 0)].into(), ..Observation::default() });
    assert_eq!(look(&mut world, [1, 0, 0], None), 1);
    assert_eq!(look(&mut world, [60, 0, 0], None), 3);
    assert_eq!(look(&mut world, [150, 0, 0], None), 6);
    // From the first pod on they are the autoscaler's.
    assert_eq!(look(&mut world, [200, 0, 0], Some(1)), 6);
}
