"""tritonclient asks an inference graph over gRPC as it asks a model: the router's real binary before the server of all samples."""

import json
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton

from server import BINARY, Server

ROUTER = BINARY.with_name("tensorgate-controller")


@pytest.fixture(scope="module")
def client(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[triton.InferenceServerClient]:
    """A Switch by the numbers: an ensemble of iris over both protocols, or iris over gRPC."""
    grpc, http = f"grpc://{server.grpc}/iris", f"{server.url}/v2/models/iris/infer"
    graph = {"name": "flowers", "nodes": {
        "root": {"routerType": "Switch", "steps": [
            {"node": "both", "condition": "inputs.0.data.#(>100)"},
            {"url": grpc, "condition": "inputs"},
        ]},
        "both": {"routerType": "Ensemble", "steps": [{"name": "grpc", "url": grpc}, {"name": "http", "url": http}]},
    }}
    file = tmp_path_factory.mktemp("graph") / "graph.json"
    file.write_text(json.dumps(graph))
    flags = ["--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--log-format=json", "--drain-delay=0", f"--graph={file}"]
    process = subprocess.Popen([ROUTER, "router", *flags], stderr=subprocess.PIPE, encoding="utf-8")
    address = json.loads(process.stderr.readline())["fields"]["address"]
    yield triton.InferenceServerClient(address)
    process.kill()
    process.wait()


def asked(rows: np.ndarray) -> list[triton.InferInput]:
    features = triton.InferInput("features", rows.shape, "FP32")
    features.set_data_from_numpy(rows)
    return [features]


def test_a_graph_is_live_and_ready_and_tells_its_name(client: triton.InferenceServerClient):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("flowers")
    assert client.get_model_metadata("flowers").name == "flowers"


def test_a_graph_answers_as_its_step_does(client: triton.InferenceServerClient):
    rows = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.0, 1.7]], dtype=np.float32)
    answer = client.infer("flowers", asked(rows), request_id="7", client_timeout=30)
    assert answer.get_response().model_name == "flowers" and answer.get_response().id == "7"
    assert answer.as_numpy("label").shape == (2,) and answer.as_numpy("label")[0] == 0


def test_an_ensemble_answers_with_its_steps_outputs_by_their_names(client: triton.InferenceServerClient):
    rows = np.array([[101, 3.5, 1.4, 0.2]], dtype=np.float32)
    answer = client.infer("flowers", asked(rows))
    both = [answer.as_numpy(f"{step}/label") for step in ("grpc", "http")]
    assert both[0] is not None and np.array_equal(*both)


def test_what_is_no_request_of_the_graph_is_refused_as_a_server_would(client: triton.InferenceServerClient):
    rows = np.zeros((1, 4), dtype=np.float32)
    with pytest.raises(triton.InferenceServerException, match="there is no model 'iris' here"):
        client.infer("iris", asked(rows))
    wrong = triton.InferInput("petals", [1, 4], "FP32")
    wrong.set_data_from_numpy(rows)
    with pytest.raises(triton.InferenceServerException, match="petals") as refused:
        client.infer("flowers", [wrong])
    assert "INVALID_ARGUMENT" in str(refused.value.status())
