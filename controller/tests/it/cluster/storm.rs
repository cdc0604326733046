//! Callers that never stop, over HTTP and gRPC, and count what they get.

use std::collections::BTreeMap;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Failures that are kept to be shown.
const SHOWN_MAX: usize = 10;

/// What callers ask.
#[derive(Clone)]
pub(super) struct Question {
    pub(super) model: &'static str,
    /// In JSON, over HTTP.
    pub(super) body: Value,
    /// DataType, shape and little-endian bytes of its only input, over gRPC.
    pub(super) name: &'static str,
    pub(super) shape: Vec<u8>,
    pub(super) values: Vec<f32>,
    /// Whether an answer over HTTP is right, by the revision that gave it.
    pub(super) is_right: fn(&str, &Value) -> bool,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counted {
    /// By protocol and revision.
    pub(super) answered: BTreeMap<(&'static str, String), u64>,
    pub(super) failed: u64,
    pub(super) failures: Vec<String>,
}

impl Counted {
    /// Answers by revision.
    pub(super) fn by_revision(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for ((_, revision), count) in &self.answered {
            *all.entry(revision.clone()).or_insert(0) += count;
        }
        all
    }

    pub(super) fn all(&self) -> u64 {
        self.answered.values().sum()
    }
}

/// Callers; they end when it is dropped.
pub(super) struct Storm {
    counted: watch::Sender<Counted>,
    callers: JoinSet<()>,
}

impl Storm {
    /// `callers` over HTTP and one over gRPC, each with a connection of its own.
    pub(super) fn start(question: &Question, http: &str, grpc: &str, callers: usize) -> Self {
        let counted = watch::Sender::new(Counted::default());
        let mut tasks = JoinSet::new();
        let question = Arc::new(question.clone());
        for _ in 0..callers {
            let (question, counted, address) = (question.clone(), counted.clone(), http.to_owned());
            tasks.spawn(async move {
                let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
                loop {
                    note(&counted, "http", ask_http(&client, &address, &question).await);
                }
            });
        }
        let (sent, address) = (counted.clone(), grpc.to_owned());
        tasks.spawn(async move {
            let mut builder = Client::builder(TokioExecutor::new());
            let client: Client<HttpConnector, Full<Bytes>> = builder.http2_only(true).build_http();
            loop {
                note(&sent, "grpc", ask_grpc(&client, &address, &question).await);
            }
        });
        Self { counted, callers: tasks }
    }

    pub(super) fn counted(&self) -> Counted {
        self.counted.borrow().clone()
    }

    /// Counts of the next `answers`, by revision.
    pub(super) async fn next(&self, answers: u64) -> BTreeMap<String, u64> {
        let before = self.counted();
        let mut changes = self.counted.subscribe();
        let enough = changes.wait_for(|now| now.all() + now.failed >= before.all() + before.failed + answers);
        let now = tokio::time::timeout(super::PATIENCE, enough).await.expect("answers").unwrap().clone();
        let (before, mut now) = (before.by_revision(), now.by_revision());
        now.iter_mut().for_each(|(revision, count)| *count -= before.get(revision).copied().unwrap_or(0));
        now.retain(|_, count| *count > 0);
        now
    }

    /// Ends the callers, each after its answer.
    pub(super) async fn stop(mut self) -> Counted {
        self.callers.shutdown().await;
        self.counted()
    }
}

pub(super) fn note(counted: &watch::Sender<Counted>, protocol: &'static str, outcome: Result<String, String>) {
    counted.send_modify(|counted| match outcome {
        Ok(revision) => *counted.answered.entry((protocol, revision)).or_insert(0) += 1,
        Err(failure) => {
            counted.failed += 1;
            if counted.failures.len() < SHOWN_MAX {
                counted.failures.push(format!("{protocol}: {failure}"));
            }
        }
    });
}

fn revision<T>(answer: &Response<T>) -> String {
    answer.headers().get("x-tensorgate-revision").and_then(|own| own.to_str().ok()).unwrap_or("").to_owned()
}

/// The answer to a question over HTTP, and the revision that gave it.
///
/// # Errors
/// What went wrong, or came in place of an answer.
async fn answer(
    client: &Client<HttpConnector, Full<Bytes>>,
    address: &str,
    own: &Question,
) -> Result<(String, Value), String> {
    let request = Request::post(format!("http://{address}/v2/models/{}/infer", own.model));
    let request = request.body(Full::from(own.body.to_string())).unwrap();
    let answer = client.request(request).await.map_err(|error| format!("{error:?}"))?;
    let (revision, status) = (revision(&answer), answer.status());
    let body = answer.into_body().collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
    let parsed: Value = serde_json::from_slice(&body).unwrap_or_default();
    match status.as_u16() {
        200 => Ok((revision, parsed)),
        _ => Err(format!("{revision} answered {status}: {parsed}")),
    }
}

/// The answer alone.
pub(super) async fn answered(
    client: &Client<HttpConnector, Full<Bytes>>,
    address: &str,
    own: &Question,
) -> Result<Value, String> {
    answer(client, address, own).await.map(|(_, body)| body)
}

pub(super) async fn ask_http(
    client: &Client<HttpConnector, Full<Bytes>>,
    address: &str,
    own: &Question,
) -> Result<String, String> {
    let (revision, body) = answer(client, address, own).await?;
    match (own.is_right)(&revision, &body) {
        true => Ok(revision),
        false => Err(format!("{revision} answered {body}")),
    }
}

pub(super) async fn ask_grpc(
    client: &Client<HttpConnector, Full<Bytes>>,
    address: &str,
    own: &Question,
) -> Result<String, String> {
    let message = model_infer(own);
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    let request = Request::post(format!("http://{address}/inference.GRPCInferenceService/ModelInfer"));
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    let answer =
        client.request(request.body(Full::from(framed)).unwrap()).await.map_err(|error| format!("{error:?}"))?;
    let revision = revision(&answer);
    let refused = answer.headers().get("grpc-status").is_some_and(|status| status != "0");
    let headers = format!("{:?}", answer.headers());
    let collected = answer.into_body().collect().await.map_err(|error| format!("{error:?}"))?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let answered = trailers.get("grpc-status").is_some_and(|status| status == "0") && !refused;
    match answered && !collected.to_bytes().is_empty() {
        true => Ok(revision),
        false => Err(format!("{revision} answered {headers} {trailers:?}")),
    }
}

/// A `ModelInferRequest` of one FP32 input with raw contents.
fn model_infer(own: &Question) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        // Neither a name nor a tensor of these questions is longer than one byte tells.
        let length = u8::try_from(bytes.len()).ok().filter(|length| *length < 128).expect("a short field");
        [&[number << 3 | 2, length][..], bytes].concat()
    };
    let input = [field(1, own.name.as_bytes()), field(2, b"FP32"), field(3, &own.shape)].concat();
    let raw: Vec<u8> = own.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [field(1, own.model.as_bytes()), field(5, &input), field(7, &raw)].concat()
}
