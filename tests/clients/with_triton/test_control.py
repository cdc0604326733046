"""Everything that tritonclient asks but inference: health, metadata, the repository's index, loading and unloading."""

import json

import pytest
from tritonclient.utils import InferenceServerException

import samples
from samples import NEWEST, SAMPLES, Sample, Tensor, assert_same
from triton_clients import Client

WINE = samples.sample("wine")


def test_the_server_is_live_and_ready(client: Client):
    assert client.calls.is_server_live()
    assert client.calls.is_server_ready()


def test_the_server_says_what_it_is(client: Client):
    metadata = client.metadata("get_server_metadata")
    assert metadata["name"] == "tensorgate"
    assert metadata["version"]
    assert {"binary_tensor_data", "model_repository", "parameters"} <= {*metadata["extensions"]}


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_model_is_described_as_its_artifact_is(client: Client, sample: Sample):
    metadata = client.metadata("get_model_metadata", sample.name, sample.version)
    assert metadata["name"] == sample.name
    assert metadata["versions"] == [other.version for other in SAMPLES if other.name == sample.name]
    assert metadata["platform"] == "onnxruntime_onnx"
    assert [described(tensor) for tensor in metadata["inputs"]] == sample.inputs
    assert [described(tensor) for tensor in metadata["outputs"]] == sample.outputs


@pytest.mark.parametrize("sample", NEWEST, ids=str)
def test_a_model_without_a_version_is_described_as_the_newest(client: Client, sample: Sample):
    newest = client.metadata("get_model_metadata", sample.name, sample.version)
    assert client.metadata("get_model_metadata", sample.name) == newest


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_every_version_is_ready(client: Client, sample: Sample):
    assert client.calls.is_model_ready(sample.name)
    assert client.calls.is_model_ready(sample.name, sample.version)


def test_the_index_lists_every_version(client: Client):
    assert client.index() == {sample: "READY" for sample in SAMPLES}


def test_a_model_is_served_from_load_to_unload(explicit_client: Client):
    client = explicit_client
    assert client.index()[WINE] == "UNAVAILABLE"
    client.calls.load_model("wine")
    assert client.index()[WINE] == "READY"
    assert client.calls.is_model_ready("wine")
    inputs = WINE.random(rows=3)
    assert_same(client.answers("wine", inputs), WINE.answer(inputs))
    client.calls.unload_model("wine")
    assert client.index()[WINE] == "UNAVAILABLE"
    assert not client.calls.is_model_ready("wine")
    refused(client, "unavailable", "wine", lambda: client.infer("wine", inputs))


def test_loading_what_is_loaded_changes_nothing(explicit_client: Client):
    inputs = samples.sample("iris").random(rows=2)
    for _ in range(2):
        explicit_client.calls.load_model("iris")
        assert_same(explicit_client.answers("iris", inputs), samples.sample("iris").answer(inputs))


def test_unloading_what_is_not_loaded_is_done_already(explicit_client: Client):
    explicit_client.calls.unload_model("churn")
    assert explicit_client.index()[samples.sample("churn")] == "UNAVAILABLE"


def test_an_unknown_model_can_be_neither_loaded_nor_unloaded(explicit_client: Client):
    refused(explicit_client, "unknown", "nope", lambda: explicit_client.calls.load_model("nope"))
    refused(explicit_client, "unknown", "nope", lambda: explicit_client.calls.unload_model("nope"))


def test_loading_needs_explicit_control(client: Client):
    for call in (client.calls.load_model, client.calls.unload_model):
        refused(client, "conflict", "--model-control explicit", lambda: call("iris"))
    assert client.calls.is_model_ready("iris")


def test_a_load_may_bring_a_configuration(explicit_client: Client):
    client = explicit_client
    inputs = WINE.random(rows=3)
    client.calls.load_model("wine", config=json.dumps({"name": "wine", "max_batch_size": 2}))
    assert configured(client, "wine")["max_batch_size"] == 2
    two = {name: array[:2] for name, array in inputs.items()}
    assert_same(client.answers("wine", two), WINE.answer(two))
    refused(client, "invalid", "'other' must equal", lambda: client.calls.load_model("wine", config='{"name": "other"}'))
    client.calls.load_model("wine")
    assert configured(client, "wine")["max_batch_size"] > 2
    assert_same(client.answers("wine", inputs), WINE.answer(inputs))
    client.calls.unload_model("wine")


def test_a_load_may_bring_the_model_itself(explicit_client: Client):
    """In the place of one of the repository, and as one that no repository has."""
    client = explicit_client
    content = (WINE.home / WINE.version / "model.onnx").read_bytes()
    inputs = WINE.random(rows=3)
    for name in ("churn", "brought"):
        refused(client, "invalid", "'config'", lambda: client.calls.load_model(name, files={"file:7/model.onnx": content}))
        client.calls.load_model(name, config="{}", files={"file:7/model.onnx": content})
        assert client.index()[Sample(name, "7")] == "READY"
        assert_same(client.answers(Sample(name, "7"), inputs), WINE.answer(inputs))
        client.calls.unload_model(name)
        assert Sample(name, "7") not in client.index()
    assert client.index()[samples.sample("churn")] == "UNAVAILABLE"
    refused(client, "unknown", "brought", lambda: client.calls.load_model("brought"))
    outside = {"file:../7/model.onnx": content}
    refused(client, "invalid", "inside", lambda: client.calls.load_model("wine", config="{}", files=outside))


def configured(client: Client, name: str) -> dict:
    config = client.metadata("get_model_config", name)
    return config if client.over_http else config["config"]


def described(tensor: dict) -> Tensor:
    return Tensor(tensor["name"], tensor["datatype"], tuple(int(size) for size in tensor["shape"]))


def refused(client: Client, kind: str, word: str, call) -> None:
    with pytest.raises(InferenceServerException) as refusal:
        call()
    assert refusal.value.status() == client.status(kind), refusal.value
    assert word in refusal.value.message()
