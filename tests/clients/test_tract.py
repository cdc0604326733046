"""A machine without ONNX Runtime: what tract can run gives the same answers, and the rest says why it cannot.

When a model of CANNOT_LOAD begins to load, move it to LOADS: the README tells people which models need the library.
"""

import json

import pytest

import samples
import web
from samples import SAMPLES, Sample, assert_same
from server import Server

LOADS = [
    Sample("digits", "1"),
    Sample("forecast", "1"),
    Sample("iris", "1"),
    Sample("mlp", "1"),
    Sample("recommender", "1"),
    Sample("wine", "1"),
]
CANNOT_LOAD = {  # and the operators that tract lacks
    Sample("anomaly", "1"): ["ai.onnx.ml.LabelEncoder", "ai.onnx.ml.TreeEnsembleRegressor"],
    Sample("churn", "1"): ["ai.onnx.ml.OneHotEncoder", "ai.onnx.ml.Scaler"],
    Sample("fraud", "1"): ["ai.onnx.ml.Scaler"],
    Sample("iris", "2"): ["ai.onnx.ml.Scaler"],
    Sample("tickets", "1"): ["StringNormalizer", "StringSplit", "TfIdfVectorizer"],
}


def test_every_sample_is_known_to_load_or_not():
    assert {*LOADS, *CANNOT_LOAD} == {*SAMPLES}
    assert len(LOADS) + len(CANNOT_LOAD) == len(SAMPLES)


def test_the_index_tells_what_loaded(tract_server: Server):
    _, index = web.urllib_send("POST", f"{tract_server.url}/v2/repository/index", b"{}")
    ready = {Sample(entry["name"], entry["version"]) for entry in index if entry["state"] == "READY"}
    assert ready == {*LOADS}


@pytest.mark.parametrize("sample", LOADS, ids=str)
def test_tract_answers_like_onnx_runtime(tract_server: Server, sample: Sample):
    path = f"{tract_server.url}/v2/models/{sample.name}/versions/{sample.version}"
    _, metadata = web.urllib_send("GET", path)
    assert metadata["platform"] == "tract_onnx"
    for inputs in [sample.example()] + [sample.random(rows) for rows in range(1, 9)]:
        body = json.dumps({"inputs": samples.tensors(inputs)}).encode()
        status, answer = web.urllib_send("POST", f"{path}/infer", body)
        assert status == 200, answer
        assert_same(samples.arrays(answer["outputs"]), sample.answer(inputs))


@pytest.mark.parametrize("sample", CANNOT_LOAD, ids=str)
def test_a_model_that_tract_cannot_run_says_why(tract_server: Server, sample: Sample):
    _, index = web.urllib_send("POST", f"{tract_server.url}/v2/repository/index", b"{}")
    [entry] = [entry for entry in index if (entry["name"], entry["version"]) == (sample.name, sample.version)]
    assert entry["state"] == "UNAVAILABLE"
    body = json.dumps({"inputs": samples.tensors(sample.example())}).encode()
    path = f"{tract_server.url}/v2/models/{sample.name}/versions/{sample.version}/infer"
    status, answer = web.urllib_send("POST", path, body)
    assert status == 503
    for reason in (entry["reason"], answer["error"]):
        assert all(operator in reason for operator in CANNOT_LOAD[sample]), reason
