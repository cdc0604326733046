//! The router's binary with a shadow beside the revision that answers: what is compared, and that nobody waits for it.

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tensorgate_controller::rollout::Compared;
use tensorgate_controller::v2::{Call, json as v2_json};

use super::graph_grpc::{Does, Model, doubles, floats, infer, refuses, request, values};
use super::router::Router;

/// A third more than twice as much, but in the same order.
fn other(call: Call) -> Result<Call, (u8, &'static str)> {
    let bent = |own: &_| floats("x", &values(own).iter().map(|own| own * 2.0 + 0.5).collect::<Vec<_>>());
    Ok(Call { tensors: call.tensors.iter().map(bent).collect(), requested: Vec::new(), ..call })
}

async fn router(live: &Model, shadow: &str, compare: Value) -> Router {
    let table = json!({
        "backends": [{"revision": "old", "weight": 100, "http": live.address}],
        "shadow": {"revision": "new", "http": shadow, "share": 1.0, "compare": compare},
    });
    Router::with("--routes", &table).await
}

fn asked(numbers: &[f32]) -> Call {
    request("m", vec![floats("x", numbers)])
}

/// Asks over HTTP with a body of this form; gives the answer's body.
async fn ask(router: &Router, body: Bytes, length: Option<usize>) -> Bytes {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut request = Request::post(format!("{}/v2/models/m/infer", router.url));
    if let Some(length) = length {
        request = request.header("inference-header-content-length", length);
    }
    let answer = client.request(request.body(Full::new(body)).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-tensorgate-revision"], "old");
    answer.into_body().collect().await.unwrap().to_bytes()
}

/// What the router tells of the shadow, once that is so.
async fn told(router: &Router, so: impl Fn(&Compared) -> bool) -> Compared {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut seen = Compared::default();
    for _ in 0..5000 {
        let page = client.get(format!("{}/metrics", router.admin).parse().unwrap()).await.unwrap();
        let page = page.into_body().collect().await.unwrap().to_bytes();
        seen = Compared::parse(std::str::from_utf8(&page).unwrap(), "new").unwrap();
        if so(&seen) {
            return seen;
        }
        tokio::task::yield_now().await;
    }
    panic!("{seen:?}");
}

fn missed(told: &Compared, why: &str) -> u64 {
    told.missed.get(why).copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_in_json_binary_and_grpc_are_compared_and_only_the_live_ones_are_given() {
    let (live, shadow) = (Model::start(Some(doubles)).await, Model::start(Some(doubles)).await);
    let router = router(&live, &shadow.address, json!({})).await;
    let text = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,0.5]}]}"#;
    let answer: Value = serde_json::from_slice(&ask(&router, text.into(), None).await).unwrap();
    assert_eq!(answer["outputs"][0]["data"], json!([2.0, 1.0]));
    let (binary, length) = v2_json::write_request(&asked(&[1.0, 0.5]));
    ask(&router, binary, Some(length)).await;
    let answer = infer(&router, &[("grpc-timeout", "10S"), ("x-own", "1")], &asked(&[1.0, 0.5])).await.unwrap();
    assert_eq!(values(&answer.tensors[0]), [2.0, 1.0]);
    let found = told(&router, |own| own.agreed == 3).await;
    assert_eq!((found.disagreed, found.failed, found.rows), (0, 0, (3, 3)));
    assert!(found.seconds.0 > 0.0 && found.seconds.1 > 0.0);
    let calls = shadow.calls();
    assert_eq!(calls.len(), 3);
    let grpc = calls.iter().find(|(headers, _)| headers.contains_key("x-own")).expect("headers are mirrored");
    assert!(!grpc.0.contains_key("grpc-timeout"), "the caller's deadline is his");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_differ_are_told_with_how_far_and_may_agree_by_their_largest() {
    let (live, shadow) = (Model::start(Some(doubles)).await, Model::start(Some(other)).await);
    for (compare, agreed, disagreed) in [(json!({}), 0, 2), (json!({"by": "argmax"}), 2, 0)] {
        let router = router(&live, &shadow.address, compare).await;
        for _ in 0..2 {
            infer(&router, &[], &asked(&[1.0, 2.0])).await.unwrap();
        }
        let found = told(&router, |own| own.agreed + own.disagreed == 2).await;
        assert_eq!((found.agreed, found.disagreed, found.rows), (agreed, disagreed, (2, 2)));
        assert!((found.apart.0 - 0.5).abs() < 1e-6 && found.apart.1 > 0.0, "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_that_refuses_has_failed_and_one_that_is_not_there_was_not_asked() {
    let live = Model::start(Some(doubles)).await;
    let broken: Does = |_| Err((13, "out of luck"));
    let (broken, busy) = (Model::start(Some(broken)).await, Model::start(Some(refuses)).await);
    let asks = |address: String| {
        let live = &live;
        async move {
            let router = router(live, &address, json!({})).await;
            infer(&router, &[], &asked(&[1.0])).await.unwrap();
            let (body, length) = v2_json::write_request(&asked(&[1.0]));
            ask(&router, body, Some(length)).await;
            router
        }
    };
    let router = asks(broken.address.clone()).await;
    assert_eq!(told(&router, |own| own.failed == 2).await.agreed, 0);
    let router = asks(busy.address.clone()).await;
    told(&router, |own| missed(own, "not_run") == 2).await;
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let router = asks(gone.to_string()).await;
    told(&router, |own| missed(own, "not_run") == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_shadow_and_what_is_too_much_is_dropped() {
    let (live, mut never) = (Model::start(Some(doubles)).await, Model::start(None).await);
    let router = router(&live, &never.address, json!({})).await;
    for _ in 0..20 {
        infer(&router, &[], &asked(&[1.0])).await.unwrap();
    }
    // Eight at a time, which wait for ever.
    told(&router, |own| missed(own, "dropped") == 12).await;
    never.waiting.wait_for(|count| *count == 8).await.unwrap();
    // A body beyond the bound of a copy passes through, and is not compared.
    let shadow = Model::start(Some(doubles)).await;
    let router = self::router(&live, &shadow.address, json!({})).await;
    let large = vec![1.0; 2 << 20];
    let answer = infer(&router, &[], &asked(&large)).await.unwrap();
    assert_eq!(values(&answer.tensors[0]).len(), large.len());
    told(&router, |own| missed(own, "dropped") == 1).await;
    assert_eq!(shadow.calls().len(), 0);
    infer(&router, &[], &asked(&[1.0])).await.unwrap();
    told(&router, |own| own.agreed == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_live_revision_refuses_and_what_is_no_inference_is_not_mirrored() {
    let (live, shadow) = (Model::start(Some(refuses)).await, Model::start(Some(doubles)).await);
    let router = router(&live, &shadow.address, json!({})).await;
    assert_eq!(infer(&router, &[], &asked(&[1.0])).await.unwrap_err().0, 8);
    let found = told(&router, |_| true).await;
    assert_eq!((found, shadow.calls().len()), (Compared::default(), 0));
}
