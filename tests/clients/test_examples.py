"""The examples of models/README.md: every example.json posts as it is, and every expected.json comes back."""

import json

import pytest

import samples
import web
from samples import Sample, assert_same
from server import Server

senders = pytest.mark.parametrize("send", web.SENDERS.values(), ids=web.SENDERS)


@senders
@pytest.mark.parametrize("sample", samples.NEWEST, ids=str)
def test_the_example_of_a_model_gets_the_answer_beside_it(server: Server, sample: Sample, send):
    body = (sample.home / "example.json").read_bytes()
    status, answer = send("POST", f"{server.url}/v2/models/{sample.name}/infer", body)
    assert status == 200, answer
    assert answer["id"] == json.loads(body)["id"]
    assert (answer["model_name"], answer["model_version"]) == (sample.name, sample.version)
    assert_same(samples.arrays(answer["outputs"]), sample.expected())


@senders
@pytest.mark.parametrize("sample", samples.SAMPLES, ids=str)
def test_a_version_is_named_in_the_path(server: Server, sample: Sample, send):
    body = (sample.home / "example.json").read_bytes()
    status, answer = send("POST", f"{server.url}/v2/models/{sample.name}/versions/{sample.version}/infer", body)
    assert status == 200, answer
    assert answer["model_version"] == sample.version
    assert_same(samples.arrays(answer["outputs"]), sample.expected())


@senders
def test_a_broken_body_is_an_error_in_json_that_says_where(server: Server, send):
    status, answer = send("POST", f"{server.url}/v2/models/iris/infer", b'{"inputs": [')
    assert status == 400
    assert list(answer) == ["error"]
    assert "byte 12" in answer["error"]


def test_the_models_really_run_on_onnx_runtime(server: Server):
    """Otherwise every comparison here would be one of tract with ONNX Runtime."""
    for sample in samples.SAMPLES:
        _, metadata = web.urllib_send("GET", f"{server.url}/v2/models/{sample.name}/versions/{sample.version}")
        assert metadata.get("platform") == "onnxruntime_onnx", f"{metadata}; `make build` fetches libonnxruntime.so"
