//! Tensors in shared memory, over both doors: Triton's system shared memory extension.

use std::fs;
use std::os::unix::fs::FileExt;

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tensorgate::protocol::proto::infer_parameter::ParameterChoice;
use tensorgate::protocol::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use tensorgate::protocol::proto::{
    CudaSharedMemoryRegisterRequest, CudaSharedMemoryStatusRequest, CudaSharedMemoryUnregisterRequest, InferParameter,
    ModelInferRequest, SystemSharedMemoryRegisterRequest, SystemSharedMemoryStatusRequest,
    SystemSharedMemoryUnregisterRequest,
};
use tensorgate::shared_memory::RegionsConfig;
use tonic::Code;

use crate::support::http::request;
use crate::support::tensors::*;
use crate::support::{Http, Models, Server};

/// A server that takes regions of a folder of its own.
struct Shared {
    folder: TempDir,
    _models: Models,
    server: Server,
}

impl Shared {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let models = Models::of(&["identity_fp32", "identity_bytes", "two_inputs"]);
        let regions = RegionsConfig::new(folder.path(), 4, 64 << 20).unwrap();
        let server = Server::with(&models, |config| config.shared_memory = Some(regions)).await;
        Self { folder, _models: models, server }
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.folder.path().join(name), bytes).unwrap();
    }

    fn bytes(&self, name: &str, offset: u64, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        fs::File::open(self.folder.path().join(name)).unwrap().read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

async fn register(http: &mut Http, name: &str, key: &str, offset: u64, byte_size: u64) {
    let body = json!({ "key": key, "offset": offset, "byte_size": byte_size }).to_string();
    let answer = http.post(&format!("/v2/systemsharedmemory/region/{name}/register"), body).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({})), "{name}");
}

/// What an answer tells of an output in a region.
fn told_of(region: &str, offset: u64, byte_size: usize) -> Value {
    let mut told = place(region, offset, byte_size);
    told["binary_data_size"] = 0.into();
    told
}

fn place(region: &str, offset: u64, byte_size: usize) -> Value {
    json!({ "shared_memory_region": region, "shared_memory_offset": offset, "shared_memory_byte_size": byte_size })
}

/// A request for a model with the input x of FP32[1,4] and the output y.
fn body(input: Value, output: Option<Value>) -> Value {
    let mut body = json!({
        "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": input }],
    });
    if let Some(place) = output {
        body["outputs"] = json!([{ "name": "y", "parameters": place }]);
    }
    body
}

#[tokio::test]
async fn regions_are_registered_told_and_forgotten_over_both_doors() {
    let shared = Shared::start().await;
    let (mut http, mut grpc) = (shared.server.http().await, shared.server.grpc().await);
    let extensions = http.get("/v2").await.json()["extensions"].clone();
    assert!(extensions.as_array().unwrap().contains(&json!("system_shared_memory")));
    shared.put("a", &[0; 64]);
    register(&mut http, "one", "/a", 8, 56).await;
    let message = |name: &str| SystemSharedMemoryRegisterRequest {
        name: name.into(),
        key: "/a".into(),
        offset: 0,
        byte_size: 64,
    };
    grpc.system_shared_memory_register(message("two")).await.unwrap();
    let taken = grpc.system_shared_memory_register(message("one")).await.unwrap_err();
    assert_eq!(taken.code(), Code::FailedPrecondition);
    assert!(taken.message().contains("'one': is registered already"), "{taken}");
    let one = json!({ "name": "one", "key": "/a", "offset": 8, "byte_size": 56 });
    let two = json!({ "name": "two", "key": "/a", "offset": 0, "byte_size": 64 });
    assert_eq!(http.get("/v2/systemsharedmemory/status").await.json(), json!([one, two]));
    assert_eq!(http.get("/v2/systemsharedmemory/region/one/status").await.json(), json!([one]));
    assert_eq!(http.get("/v2/systemsharedmemory/region/three/status").await.status, 404);
    let told = grpc.system_shared_memory_status(SystemSharedMemoryStatusRequest { name: "two".into() }).await;
    let told = told.unwrap().into_inner().regions;
    assert_eq!((told.len(), told["two"].byte_size, told["two"].key.as_str()), (1, 64, "/a"));
    let unregister = SystemSharedMemoryUnregisterRequest { name: "one".into() };
    grpc.system_shared_memory_unregister(unregister).await.unwrap();
    assert_eq!(http.get("/v2/systemsharedmemory/status").await.json(), json!([two]));
    assert_eq!(http.post("/v2/systemsharedmemory/region/nope/unregister", "").await.status, 200);
    assert_eq!(http.post("/v2/systemsharedmemory/unregister", "").await.status, 200);
    assert_eq!(http.get("/v2/systemsharedmemory/status").await.json(), json!([]));
}

#[tokio::test]
async fn tensors_go_in_and_out_through_regions_over_http() {
    let shared = Shared::start().await;
    let mut http = shared.server.http().await;
    let mut content = vec![0; 8];
    content.extend(floats(&[1.0, 2.5, -3.0, 4.0]));
    content.resize(64, 0);
    shared.put("io", &content);
    register(&mut http, "io", "/io", 4, 60).await;
    // The region starts at byte 4 of the file, the input at byte 4 of the region, the output at byte 28.
    let answer = http.infer("identity_fp32", &body(place("io", 4, 16), Some(place("io", 28, 32)))).await.json();
    let expected = json!([{
        "name": "y", "datatype": "FP32", "shape": [1, 4], "parameters": told_of("io", 28, 16),
    }]);
    assert_eq!(answer["outputs"], expected);
    assert_eq!(shared.bytes("io", 32, 16), floats(&[1.0, 2.5, -3.0, 4.0]));
    // One way alone works as well.
    let answer = http.infer("identity_fp32", &body(place("io", 4, 16), None)).await.json();
    assert_eq!(answer["outputs"][0]["data"], json!([1.0, 2.5, -3.0, 4.0]));
    let mut out = json_body(&named([("x", tensor([1, 2], [7_f32, 8.]))]));
    out["outputs"] = json!([{ "name": "y", "parameters": place("io", 0, 8) }]);
    let answer = http.infer("identity_fp32", &out).await.json();
    let without_offset = json!({ "shared_memory_region": "io", "shared_memory_byte_size": 8, "binary_data_size": 0 });
    assert_eq!(answer["outputs"][0]["parameters"], without_offset);
    assert_eq!(shared.bytes("io", 4, 8), floats(&[7.0, 8.0]));
}

#[tokio::test]
async fn strings_lie_in_regions_with_their_lengths_and_go_beside_binary_tensors() {
    let shared = Shared::start().await;
    let mut http = shared.server.http().await;
    let words = strings([1, 2], &["größe", ""]);
    let mut content = words.data().to_vec();
    let size = content.len();
    content.resize(64, 0);
    shared.put("words", &content);
    register(&mut http, "words", "words", 0, 64).await;
    let body = json!({
        "inputs": [{ "name": "x", "datatype": "BYTES", "shape": [1, 2], "parameters": place("words", 0, size) }],
        "outputs": [{ "name": "y", "parameters": place("words", 32, 32) }],
    });
    let answer = http.infer("identity_bytes", &body).await.json();
    assert_eq!(answer["outputs"][0]["parameters"], told_of("words", 32, size));
    assert_eq!(shared.bytes("words", 32, size), words.data()[..]);
    // More bytes than the two strings take are not those of the tensor.
    let mut longer = body;
    longer["inputs"][0]["parameters"] = place("words", 0, size + 1);
    let answer = http.infer("identity_bytes", &longer).await;
    assert!(answer.status == 400 && answer.error().contains("input 'x'"), "{answer:?}");
}

#[tokio::test]
async fn a_large_tensor_is_copied_whole() {
    let shared = Shared::start().await;
    let mut http = shared.server.http().await;
    let values: Vec<f32> = (0..1 << 20).map(|value| value as f32).collect();
    let (bytes, size) = (floats(&values), values.len() * 4);
    let mut content = bytes.clone();
    content.resize(2 * size, 0);
    shared.put("large", &content);
    register(&mut http, "large", "large", 0, 2 * size as u64).await;
    let mut body = body(place("large", 0, size), Some(place("large", size as u64, size)));
    body["inputs"][0]["shape"] = json!([1, values.len()]);
    assert_eq!(http.infer("identity_fp32", &body).await.status, 200);
    assert!(shared.bytes("large", size as u64, size) == bytes);
}

fn choice(choice: ParameterChoice) -> InferParameter {
    InferParameter { parameter_choice: Some(choice) }
}

fn parameters(region: &str, offset: i64, byte_size: i64) -> std::collections::HashMap<String, InferParameter> {
    [
        ("shared_memory_region".to_owned(), choice(ParameterChoice::StringParam(region.into()))),
        ("shared_memory_offset".to_owned(), choice(ParameterChoice::Int64Param(offset))),
        ("shared_memory_byte_size".to_owned(), choice(ParameterChoice::Int64Param(byte_size))),
    ]
    .into()
}

fn placed_input(name: &str, shape: &[i64], region: &str, offset: i64, byte_size: i64) -> InferInputTensor {
    InferInputTensor {
        name: name.into(),
        datatype: "FP32".into(),
        shape: shape.into(),
        parameters: parameters(region, offset, byte_size),
        contents: None,
    }
}

#[tokio::test]
async fn tensors_go_in_and_out_through_regions_over_grpc_beside_raw_ones() {
    let shared = Shared::start().await;
    let (mut http, mut grpc) = (shared.server.http().await, shared.server.grpc().await);
    let mut content = floats(&[1.0, 2.0]);
    content.resize(32, 0);
    shared.put("io", &content);
    register(&mut http, "io", "/io", 0, 32).await;
    // The first input lies in the region, the second has the only raw contents.
    let second =
        InferInputTensor { name: "b".into(), datatype: "INT64".into(), shape: vec![1, 2], ..Default::default() };
    let message = ModelInferRequest {
        model_name: "two_inputs".into(),
        inputs: vec![placed_input("a", &[1, 2], "io", 0, 8), second],
        outputs: vec![InferRequestedOutputTensor { name: "y".into(), parameters: parameters("io", 16, 16) }],
        raw_input_contents: vec![tensor([1, 2], [5_i64, -6]).data().clone()],
        ..ModelInferRequest::default()
    };
    let answer = grpc.model_infer(message.clone()).await.unwrap().into_inner();
    assert_eq!((answer.outputs.len(), answer.raw_output_contents.len()), (1, 1));
    assert!(answer.raw_output_contents[0].is_empty());
    let told = &answer.outputs[0].parameters;
    assert_eq!(told["shared_memory_region"], choice(ParameterChoice::StringParam("io".into())));
    assert_eq!(told["shared_memory_offset"], choice(ParameterChoice::Int64Param(16)));
    assert_eq!(told["shared_memory_byte_size"], choice(ParameterChoice::Int64Param(8)));
    assert_eq!(shared.bytes("io", 16, 8), floats(&[-4.0, 8.0]));
    // Raw contents are those of the inputs that are not in shared memory, no more.
    let mut more = message;
    more.raw_input_contents.push(more.raw_input_contents[0].clone());
    let refusal = grpc.model_infer(more).await.unwrap_err();
    assert!(refusal.message().contains("1 inputs that are not in shared memory"), "{refusal}");
}

#[tokio::test]
async fn a_place_that_is_none_is_refused_and_named_over_both_doors() {
    let shared = Shared::start().await;
    let (mut http, mut grpc) = (shared.server.http().await, shared.server.grpc().await);
    shared.put("io", &[0; 32]);
    register(&mut http, "io", "/io", 0, 32).await;
    let half = json!({ "shared_memory_region": "io" });
    for (input, output, said) in [
        (place("nope", 0, 16), None, "'nope'"),
        (place("io", 20, 16), None, "reach beyond it, it has 32 bytes"),
        (place("io", u64::MAX, 16), None, "reach beyond it"),
        (place("io", 0, 12), None, "takes 16 bytes"),
        (half.clone(), None, "shared_memory_byte_size"),
        (json!({ "shared_memory_region": "io", "shared_memory_byte_size": -16 }), None, "is -16"),
        (json!({ "shared_memory_region": "io", "shared_memory_byte_size": 1e30 }), None, "shared_memory_byte_size"),
        (json!({ "shared_memory_byte_size": 16 }), None, "no 'shared_memory_region'"),
        (place("io", 0, 16), Some(place("nope", 0, 16)), "output 'y'"),
        (place("io", 0, 16), Some(place("io", 0, 33)), "reach beyond it"),
        (place("io", 0, 16), Some(place("io", 0, 15)), "output 'y' takes 16 bytes, but its place"),
        (place("io", 0, 16), Some(half), "output 'y'"),
    ] {
        let answer = http.infer("identity_fp32", &body(input.clone(), output.clone())).await;
        assert_eq!(answer.status, 400, "{input} {output:?}: {answer:?}");
        assert!(answer.error().contains(said), "{input} {output:?}: {answer:?}");
    }
    let mut both = body(place("io", 0, 16), None);
    both["inputs"][0]["data"] = json!([1, 2, 3, 4]);
    assert!(http.infer("identity_fp32", &both).await.error().contains("both data and a place"));
    for (offset, size, said) in [(-1, 16, "is -1"), (0, -16, "is -16"), (24, 16, "reach beyond"), (0, 8, "takes 16")] {
        let message = ModelInferRequest {
            model_name: "identity_fp32".into(),
            inputs: vec![placed_input("x", &[1, 4], "io", offset, size)],
            ..ModelInferRequest::default()
        };
        let refusal = grpc.model_infer(message).await.unwrap_err();
        assert!(refusal.code() == Code::InvalidArgument && refusal.message().contains(said), "{refusal}");
    }
    // The connection is as good as before.
    assert_eq!(http.infer("identity_fp32", &body(place("io", 0, 16), None)).await.status, 200);
}

#[tokio::test]
async fn a_file_that_its_client_shortens_or_removes_harms_only_its_own_requests() {
    let shared = Shared::start().await;
    let mut http = shared.server.http().await;
    shared.put("io", &[0; 64]);
    register(&mut http, "io", "/io", 0, 64).await;
    let both = body(place("io", 0, 16), Some(place("io", 16, 16)));
    let file = shared.folder.path().join("io");
    // What is open stays, as with a mapping.
    fs::hard_link(&file, shared.folder.path().join("kept")).unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(http.infer("identity_fp32", &both).await.status, 200);
    let kept = fs::OpenOptions::new().write(true).open(shared.folder.path().join("kept")).unwrap();
    for (length, who) in [(20, "region 'io'"), (8, "input 'x'")] {
        kept.set_len(length).unwrap();
        let answer = http.infer("identity_fp32", &both).await;
        assert!(answer.status == 400 && answer.error().contains("has become shorter"), "{answer:?}");
        assert!(answer.error().contains(who), "{answer:?}");
        assert_eq!(kept.metadata().unwrap().len(), length);
    }
    assert_eq!(http.infer("identity_fp32", &json_body(&named([("x", tensor([1, 2], [1_f32, 2.]))]))).await.status, 200);
}

#[tokio::test]
async fn regions_that_are_none_are_refused_over_http() {
    let shared = Shared::start().await;
    let mut http = shared.server.http().await;
    shared.put("a", &[0; 16]);
    let path = "/v2/systemsharedmemory/region/r/register";
    for (body, said) in [
        (json!({ "key": "/../a", "byte_size": 16 }), "--shared-memory-prefix"),
        (json!({ "key": "/nope", "byte_size": 16 }), "No such file"),
        (json!({ "key": "/a", "byte_size": 17 }), "which has 16 bytes"),
        (json!({ "key": "/a", "offset": 8, "byte_size": 16 }), "which has 16 bytes"),
        (json!({ "key": "/a", "offset": -8, "byte_size": 16 }), "`-8`"),
        (json!({ "key": "/a" }), "byte_size"),
        (json!({ "key": "/a", "byte_size": 0 }), "at least 1"),
        (json!([]), "JSON"),
    ] {
        let answer = http.post(path, body.to_string()).await;
        assert!(answer.status == 400 && answer.error().contains(said), "{body}: {answer:?}");
    }
    for i in 0..4 {
        register(&mut http, &format!("r{i}"), "/a", 0, 16).await;
    }
    let answer = http.post(path, json!({ "key": "/a", "byte_size": 16 }).to_string()).await;
    assert!(answer.status == 413 && answer.error().contains("--shared-memory-regions-max"), "{answer:?}");
    let answer = http.send(request(Method::GET, path, &[], "")).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("POST, OPTIONS")));
}

#[tokio::test]
async fn a_request_for_shared_memory_where_it_is_off_is_told_the_flag() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    let answer = http.infer("identity_fp32", &body(place("io", 0, 16), None)).await;
    assert!(answer.status == 501 && answer.error().contains("--shared-memory-prefix"), "{answer:?}");
    let answer = http.get("/v2/systemsharedmemory/status").await;
    assert!(answer.status == 501 && answer.error().contains("--shared-memory-prefix"), "{answer:?}");
    let message = ModelInferRequest {
        model_name: "identity_fp32".into(),
        inputs: vec![placed_input("x", &[1, 4], "io", 0, 16)],
        ..ModelInferRequest::default()
    };
    let refusal = grpc.model_infer(message).await.unwrap_err();
    assert!(refusal.code() == Code::Unimplemented && refusal.message().contains("is off"), "{refusal}");
}

#[tokio::test]
async fn clients_that_forget_every_kind_of_region_find_none_of_gpus() {
    let shared = Shared::start().await;
    let (mut http, mut grpc) = (shared.server.http().await, shared.server.grpc().await);
    assert_eq!(http.get("/v2/cudasharedmemory/status").await.json(), json!([]));
    assert_eq!(http.post("/v2/cudasharedmemory/unregister", "").await.status, 200);
    let answer = http.post("/v2/cudasharedmemory/region/r/register", "{}").await;
    assert!(answer.status == 501 && answer.error().contains("no memory of GPUs"), "{answer:?}");
    let status = grpc.cuda_shared_memory_status(CudaSharedMemoryStatusRequest::default()).await.unwrap();
    assert!(status.into_inner().regions.is_empty());
    grpc.cuda_shared_memory_unregister(CudaSharedMemoryUnregisterRequest::default()).await.unwrap();
    let refusal = grpc.cuda_shared_memory_register(CudaSharedMemoryRegisterRequest::default()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unimplemented);
}
