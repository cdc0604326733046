//! The router's binary with a graph that is asked over gRPC, before services that speak V2, over HTTP and over gRPC.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tensorgate_controller::router::grpc::{self, MODEL_INFER};
use tensorgate_controller::v2::{Call, DataType, Parameter, Side, Tensor, frame, proto, wire};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::router::Router;

/// What a model does with the tensors that it is sent.
pub(super) type Does = fn(Call) -> Result<Call, (u8, &'static str)>;

/// A V2 server: HTTP and gRPC at one port, and what it was sent, as headers and tensors.
pub(super) struct Model {
    pub(super) address: String,
    calls: Arc<Mutex<Vec<(HeaderMap, Call)>>>,
    /// Requests under way that wait for ever.
    pub(super) waiting: watch::Receiver<usize>,
}

struct Waiting(watch::Sender<usize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Model {
    pub(super) async fn start(does: Option<Does>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let calls: Arc<Mutex<Vec<_>>> = Arc::default();
        let (sender, waiting) = watch::channel(0);
        let seen = calls.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (seen, sender) = (seen.clone(), sender.clone());
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let (seen, sender) = (seen.clone(), sender.clone());
                    async move {
                        let Some(does) = does else {
                            sender.send_modify(|count| *count += 1);
                            let _waiting = Waiting(sender);
                            return std::future::pending().await;
                        };
                        Ok::<_, Infallible>(answer(request, does, &seen).await)
                    }
                });
                tokio::spawn(async move {
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // The router may go away as it likes.
                    let _ended = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { address, calls, waiting }
    }

    fn http(&self, model: &str) -> String {
        format!("http://{}/v2/models/{model}/infer", self.address)
    }

    fn grpc(&self, model: &str) -> String {
        format!("grpc://{}/{model}", self.address)
    }

    pub(super) fn calls(&self) -> Vec<(HeaderMap, Call)> {
        self.calls.lock().unwrap().clone()
    }
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, hyper::Error>;

async fn answer(request: Request<Incoming>, does: Does, seen: &Mutex<Vec<(HeaderMap, Call)>>) -> Response<Body> {
    use tensorgate_controller::router::answer::status_of_code;
    use tensorgate_controller::v2::json;
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let is_grpc = head.uri.path() == MODEL_INFER;
    let call = if is_grpc {
        proto::read(&frame::message(&body).unwrap(), Side::Request).unwrap()
    } else {
        let length =
            head.headers.get("inference-header-content-length").map(|own| own.to_str().unwrap().parse().unwrap());
        json::read(&body, length, Side::Request).unwrap()
    };
    seen.lock().unwrap().push((head.headers.clone(), call.clone()));
    match does(call) {
        Ok(call) if is_grpc => grpc::answered(&proto::write(&call, Side::Answer)),
        Err((code, told)) if is_grpc => grpc::refused(code, told),
        Ok(call) => {
            let (body, length) = json::write_answer(&call);
            let mut answer = Response::builder().header("content-type", "application/json");
            if let Some(length) = length {
                answer = answer.header("inference-header-content-length", length);
            }
            answer.body(Full::new(body).map_err(|never| match never {}).boxed_unsync()).unwrap()
        }
        Err((code, told)) => {
            let body = Full::from(json!({"error": told}).to_string()).map_err(|never| match never {}).boxed_unsync();
            Response::builder().status(status_of_code(code)).body(body).unwrap()
        }
    }
}

pub(super) fn floats(name: &str, values: &[f32]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|own| own.to_le_bytes()).collect();
    Tensor {
        name: name.into(),
        datatype: DataType::Fp32,
        shape: vec![1, values.len()],
        parameters: Default::default(),
        data: data.into(),
    }
}

pub(super) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.data.as_chunks::<4>().0.iter().map(|own| f32::from_le_bytes(*own)).collect()
}

/// Its inputs are its outputs, doubled.
pub(super) fn doubles(call: Call) -> Result<Call, (u8, &'static str)> {
    let double = |own: &Tensor| floats(&own.name, &values(own).iter().map(|own| own * 2.0).collect::<Vec<_>>());
    Ok(Call { tensors: call.tensors.iter().map(double).collect(), requested: Vec::new(), ..call })
}

pub(super) fn refuses(_: Call) -> Result<Call, (u8, &'static str)> {
    Err((8, "queue full: déjà 4096 wait"))
}

pub(super) fn request(model: &str, inputs: Vec<Tensor>) -> Call {
    Call { model: model.into(), id: "7".into(), tensors: inputs, ..Call::default() }
}

fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

/// The code, the message or what is told.
async fn call(url: &str, method: &str, headers: &[(&str, &str)], message: &[u8]) -> (u8, String, Bytes) {
    send(url, method, headers, frame::framed(message)).await
}

async fn send(url: &str, method: &str, headers: &[(&str, &str)], body: Bytes) -> (u8, String, Bytes) {
    let mut request = Request::post(format!("{url}{method}")).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = client().request(request.body(Full::new(body)).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let (code, told) = grpc::outcome(&head.headers, &trailers).expect("a status");
    let body = collected.to_bytes();
    (code, told, if code == 0 { frame::message(&body).unwrap() } else { Bytes::new() })
}

pub(super) async fn infer(router: &Router, headers: &[(&str, &str)], own: &Call) -> Result<Call, (u8, String)> {
    match call(&router.url, MODEL_INFER, headers, &proto::write(own, Side::Request)).await {
        (0, _, message) => Ok(proto::read(&message, Side::Answer).unwrap()),
        (code, told, _) => Err((code, told)),
    }
}

async fn router(nodes: Value) -> Router {
    Router::with("--graph", &json!({"name": "chain", "nodes": nodes, "propagate": ["x-own"]})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_of_grpc_and_http_steps_hands_tensors_on_and_answers_by_its_own_name() {
    let (one, two, three) =
        (Model::start(Some(doubles)).await, Model::start(Some(doubles)).await, Model::start(Some(doubles)).await);
    let router = router(json!({"root": {"routerType": "Sequence", "steps": [
        {"url": one.grpc("first")},
        {"url": "http://nobody/v1/models/second:predict", "grpc": two.grpc("second"), "data": "$response"},
        {"url": three.http("third"), "data": "$response"},
    ]}}))
    .await;
    let given = [("x-own", "1"), ("x-other", "2"), ("traceparent", "00-1-2-01"), ("grpc-timeout", "20S")];
    let mut asked = request("chain", vec![floats("x", &[1.0, -0.5])]);
    asked.parameters.insert("priority".into(), Parameter::Int(2));
    let answer = infer(&router, &given, &asked).await.unwrap();
    assert_eq!((answer.model.as_str(), answer.id.as_str(), answer.version.as_str()), ("chain", "7", ""));
    assert_eq!(values(&answer.tensors[0]), [8.0, -4.0]);
    for (model, name) in [(&one, "first"), (&two, "second"), (&three, "")] {
        let (headers, seen) = &model.calls()[0];
        assert_eq!((seen.model.as_str(), seen.id.as_str()), (name, "7"));
        assert!(headers["x-own"] == "1" && headers["traceparent"] == "00-1-2-01" && !headers.contains_key("x-other"));
        let left = headers.get("grpc-timeout").or(headers.get("request-timeout")).unwrap().to_str().unwrap().to_owned();
        let left: u64 = left.trim_end_matches('s').trim_end_matches('m').parse().unwrap();
        assert!(left <= 20_000, "{left}");
    }
    assert_eq!(one.calls()[0].1.parameters["priority"], Parameter::Int(2));
    assert!(two.calls()[0].1.parameters.is_empty(), "parameters of an answer are none of a request");
    assert_eq!(three.calls()[0].1.parameters["binary_data_output"], Parameter::Bool(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_look_into_raw_and_typed_contents_and_strings() {
    let (low, high, word) =
        (Model::start(Some(doubles)).await, Model::start(Some(doubles)).await, Model::start(Some(Ok)).await);
    let router = router(json!({"root": {"routerType": "Switch", "steps": [
        {"url": word.grpc("word"), "condition": "inputs.#(name==text).data.#(==yes)"},
        {"url": high.grpc("high"), "condition": "inputs.#(name==x).data.#(>10)"},
        {"url": low.http("low"), "condition": "inputs.#(name==x)"},
    ]}}))
    .await;
    infer(&router, &[], &request("chain", vec![floats("x", &[1.0, 11.0])])).await.unwrap();
    infer(&router, &[], &request("chain", vec![floats("x", &[1.0, 2.0])])).await.unwrap();
    let text = Tensor {
        name: "text".into(),
        datatype: DataType::Bytes,
        shape: vec![1],
        parameters: Default::default(),
        data: Bytes::from_static(b"\x03\0\0\0yes"),
    };
    infer(&router, &[], &request("chain", vec![text])).await.unwrap();
    assert_eq!((high.calls().len(), low.calls().len(), word.calls().len()), (1, 1, 1));
    // The same in typed contents.
    let mut out = wire::Writer::default();
    out.text(1, "chain");
    out.message(5, |own| {
        own.text(1, "x");
        own.text(2, "FP32");
        own.packed(3, [1, 1].into_iter());
        own.message(5, |contents| contents.bytes(6, &12.5_f32.to_le_bytes()));
    });
    let (code, told, message) = call(&router.url, MODEL_INFER, &[], &out.finish()).await;
    assert_eq!((code, told.as_str()), (0, ""));
    assert_eq!(values(&proto::read(&message, Side::Answer).unwrap().tensors[0]), [25.0]);
    assert_eq!(values(&high.calls()[1].1.tensors[0]), [12.5]);
    let none = infer(&router, &[], &request("chain", vec![floats("y", &[1.0])])).await.unwrap_err();
    assert_eq!(none, (5, "None of the routes matched with the switch condition".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_answers_with_its_steps_outputs_by_key_and_tells_what_failed() {
    let (one, two, no) =
        (Model::start(Some(doubles)).await, Model::start(Some(doubles)).await, Model::start(Some(refuses)).await);
    let router = router(json!({"root": {"routerType": "Ensemble", "steps": [
        {"name": "grpc", "url": one.grpc("m")}, {"name": "http", "url": two.http("m")}, {"name": "soft", "url": no.grpc("m")},
    ]}}))
    .await;
    let answer = infer(&router, &[], &request("chain", vec![floats("x", &[3.0])])).await.unwrap();
    let names: Vec<_> = answer.tensors.iter().map(|own| (own.name.as_str(), values(own))).collect();
    assert_eq!(names, [("grpc/x", vec![6.0]), ("http/x", vec![6.0])]);
    assert_eq!(answer.parameters["soft/error"], Parameter::Text("queue full: déjà 4096 wait".into()));
    // The same graph over HTTP, whose steps are asked over what they have.
    let plain: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let body = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[3]}]}"#;
    let answer = plain.request(Request::post(&router.url).body(Full::from(body)).unwrap()).await.unwrap();
    let whole: Value = serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(whole["grpc"]["outputs"][0]["data"], json!([6.0]), "{whole}");
    assert_eq!(whole["http"]["outputs"][0]["data"], json!([6.0]), "{whole}");
    assert_eq!(whole["soft"]["error"], "queue full: déjà 4096 wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_step_answers_a_graph_that_is_asked_over_http_and_one_v2_step_follows_another() {
    let (one, two) = (Model::start(Some(doubles)).await, Model::start(Some(doubles)).await);
    let router = router(json!({"root": {"routerType": "Sequence", "steps": [
        {"url": one.http("m")}, {"url": two.grpc("m"), "data": "$response"}, {"url": one.http("m"), "data": "$response"},
        {"url": one.http("m"), "data": "$response"},
    ]}}))
    .await;
    let plain: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let body = r#"{"id":"9","inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[[3,0.5]]}]}"#;
    let answer = plain.request(Request::post(&router.url).body(Full::from(body)).unwrap()).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    let whole: Value = serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!((&whole["id"], &whole["outputs"][0]["data"]), (&json!("9"), &json!([48.0, 8.0])), "{whole}");
    let calls = one.calls();
    let binary = calls.iter().any(|(headers, _)| headers.contains_key("inference-header-content-length"));
    assert!(!binary && calls.iter().all(|(_, own)| own.parameters.is_empty()), "who asks in JSON is answered in JSON");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_refuses_comes_back_as_its_code_and_what_cannot_be_asked_says_why() {
    let no = Model::start(Some(refuses)).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let hard = |url: String| json!({"root": {"routerType": "Sequence", "steps": [{"name": "only", "url": url, "dependency": "Hard"}]}});
    let asked = request("chain", vec![floats("x", &[1.0])]);
    for url in [no.grpc("m"), no.http("m")] {
        let refused = infer(&router(hard(url)).await, &[], &asked).await.unwrap_err();
        assert_eq!(refused, (8, "queue full: déjà 4096 wait".into()));
    }
    let (code, told) = infer(&router(hard(format!("grpc://{gone}/m"))).await, &[], &asked).await.unwrap_err();
    assert!(code == 14 && told.contains("step root/only") && told.contains(&gone.to_string()), "{code} {told}");
    let v1 = router(hard(format!("http://{gone}/v1/models/m:predict"))).await;
    let (code, told) = infer(&v1, &[], &asked).await.unwrap_err();
    assert!(code == 12 && told.contains("it speaks V1"), "{code} {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_of_grpc_ends_the_whole_graph_and_the_calls_under_way() {
    let mut never = Model::start(None).await;
    let steps = json!([{"url": never.grpc("m")}, {"url": never.http("m")}]);
    let router = router(json!({"root": {"routerType": "Ensemble", "steps": steps}})).await;
    let asked = request("chain", vec![floats("x", &[1.0])]);
    let (code, told) = infer(&router, &[("grpc-timeout", "200m")], &asked).await.unwrap_err();
    assert!(code == 4 && told.contains("no answer within"), "{code} {told}");
    never.waiting.wait_for(|count| *count == 0).await.unwrap();
    // A caller who goes away ends them too.
    let (url, message) = (router.url.clone(), proto::write(&asked, Side::Request));
    let caller = tokio::spawn(async move { call(&url, MODEL_INFER, &[], &message).await });
    never.waiting.wait_for(|count| *count == 2).await.unwrap();
    caller.abort();
    never.waiting.wait_for(|count| *count == 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_tells_of_the_graph_and_refuses_what_is_none_of_it_while_the_connection_goes_on() {
    let echo = Model::start(Some(doubles)).await;
    let router = router(json!({"root": {"routerType": "Sequence", "steps": [{"url": echo.grpc("m")}]}})).await;
    let service = |method: &str| format!("/inference.GRPCInferenceService/{method}");
    let named = |name: &str, version: &str| {
        let mut out = wire::Writer::default();
        out.text(1, name);
        out.text(2, version);
        out.finish()
    };
    for method in ["ServerLive", "ServerReady"] {
        assert_eq!(
            call(&router.url, &service(method), &[], b"").await,
            (0, String::new(), Bytes::from_static(b"\x08\x01"))
        );
    }
    assert_eq!(
        call(&router.url, &service("ModelReady"), &[], &named("chain", "")).await.2,
        Bytes::from_static(b"\x08\x01")
    );
    assert_eq!(call(&router.url, "/grpc.health.v1.Health/Check", &[], b"").await.2, Bytes::from_static(b"\x08\x01"));
    let metadata = call(&router.url, &service("ModelMetadata"), &[], &named("chain", "")).await;
    assert_eq!(proto::string(metadata.2, 1), Ok("chain".into()));
    assert_eq!(
        proto::string(call(&router.url, &service("ServerMetadata"), &[], b"").await.2, 1),
        Ok("tensorgate".into())
    );

    let asked = request("chain", vec![floats("x", &[1.0])]);
    let good = proto::write(&asked, Side::Request);
    let other = proto::write(&request("other", Vec::new()), Side::Request);
    let versioned = proto::write(&Call { version: "3".into(), ..asked.clone() }, Side::Request);
    let infer_path = service("ModelInfer");
    for (method, body, code, told) in [
        (&infer_path, frame::framed(&other), 5, "there is no model 'other' here; there is the graph 'chain'"),
        (&infer_path, frame::framed(&versioned), 5, "the graph 'chain' has no versions"),
        (&service("ModelReady"), frame::framed(&named("other", "")), 5, "there is no model 'other'"),
        (&infer_path, frame::framed(b"\x2a\x05ab"), 3, "no message of the protocol"),
        (&infer_path, Bytes::from_static(b"\x00\x00"), 3, "not exactly one message"),
        (&infer_path, [&b"\x01"[..], &frame::framed(&good)[1..]].concat().into(), 12, "compressed"),
        (&service("ModelStreamInfer"), frame::framed(&good), 12, "is not served by a graph"),
        (&infer_path, vec![0; (64 << 20) + 1].into(), 8, "67108864"),
    ] {
        let (found, message, _) = send(&router.url, method, &[], body).await;
        assert!(found == code && message.contains(told), "{method}: {found} {message}");
    }
    let short = Tensor { shape: vec![1, 2], ..floats("x", &[1.0]) };
    let (code, told) = infer(&router, &[], &request("chain", vec![short])).await.unwrap_err();
    assert!(code == 3 && told.contains("tensor 'x': FP32 of shape [1, 2] takes 8 bytes, and there are 4"), "{told}");
    assert_eq!(values(&infer(&router, &[], &asked).await.unwrap().tensors[0]), [2.0]);
}
