"""Triton's extensions beside inference: statistics, configuration, trace and log settings, shared memory."""

import time

import pytest
from tritonclient.utils import InferenceServerException

import samples
from samples import NEWEST, Sample
from triton_clients import Client

DURATIONS = {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"}
TYPES = {"FP32": "TYPE_FP32", "INT64": "TYPE_INT64", "BOOL": "TYPE_BOOL", "BYTES": "TYPE_STRING"}


def statistics(client: Client, sample: Sample) -> dict:
    (stats,) = client.metadata("get_inference_statistics", sample.name, sample.version)["model_stats"]
    return stats


def test_statistics_count_what_was_answered_and_what_was_not(client: Client):
    wine = samples.sample("wine")
    before = statistics(client, wine)
    for _ in range(3):
        client.infer(wine, wine.random(rows=2))
    with pytest.raises(InferenceServerException):
        client.infer(wine, {})
    after = statistics(client, wine)
    grown = lambda *path: number(after, *path) - number(before, *path)
    assert grown("inference_count") == 6
    assert grown("execution_count") == 3
    assert grown("inference_stats", "success", "count") == 3
    assert grown("inference_stats", "fail", "count") == 1
    assert grown("inference_stats", "compute_infer", "count") == 3
    assert grown("inference_stats", "compute_infer", "ns") > 0
    assert abs(number(after, "last_inference") / 1000 - time.time()) < 60
    assert {*after["inference_stats"]} == DURATIONS
    assert 2 in [number(size, "batch_size") for size in after["batch_stats"]]


def test_statistics_of_all_models(client: Client):
    named = {stats["name"] for stats in client.metadata("get_inference_statistics")["model_stats"]}
    assert named == {sample.name for sample in NEWEST}


@pytest.mark.parametrize("sample", NEWEST, ids=str)
def test_a_configuration_says_what_the_metadata_say(client: Client, sample: Sample):
    config = client.metadata("get_model_config", sample.name, sample.version)
    config = config if client.over_http else config["config"]
    assert (config["name"], config["platform"], config["backend"]) == (sample.name, "onnxruntime_onnx", "onnxruntime")
    rows = int(config.get("max_batch_size", 0))
    assert ("dynamic_batching" in config) == (rows > 1)
    for described, tensors in ((config["input"], sample.inputs), (config["output"], sample.outputs)):
        assert [each["name"] for each in described] == [tensor.name for tensor in tensors]
        assert [each["data_type"] for each in described] == [TYPES[tensor.datatype] for tensor in tensors]
        for each, tensor in zip(described, tensors):
            dims = tuple(int(size) for size in each.get("dims", []))
            assert dims == (tensor.shape[1:] if rows else tensor.shape)
    assert config["version_policy"] == {"all": {}}
    assert int(config["instance_group"][0]["count"]) >= 1


def test_trace_settings_are_set_for_a_model_and_taken_back(client: Client):
    def rate(settings: dict) -> str:
        return settings["trace_rate"] if client.over_http else settings["settings"]["trace_rate"]["value"][0]

    assert rate(client.metadata("get_trace_settings", "iris")) == "1000"
    settings = {"trace_rate": "17", "trace_level": ["TIMESTAMPS", "TENSORS"]}
    assert rate(client.metadata("update_trace_settings", "iris", settings)) == "17"
    assert rate(client.metadata("get_trace_settings")) == "1000"
    back = client.metadata("update_trace_settings", "iris", {"trace_rate": None, "trace_level": None})
    assert rate(back) == "1000"
    assert back == client.metadata("get_trace_settings")


def test_log_settings_are_set_and_told(client: Client):
    def level(settings: dict) -> int:
        return settings["log_verbose_level"] if client.over_http else number(
            settings, "settings", "log_verbose_level", "uint32_param"
        )

    assert level(client.metadata("update_log_settings", {"log_verbose_level": 1, "log_info": True})) == 1
    assert level(client.metadata("get_log_settings")) == 1
    assert level(client.metadata("update_log_settings", {"log_verbose_level": 0})) == 0
    with pytest.raises(InferenceServerException) as refusal:
        client.calls.update_log_settings({"log_colour": True})
    assert refusal.value.status() == client.status("invalid")
    assert "log_colour" in refusal.value.message()


@pytest.mark.parametrize("kind", ["system", "cuda"])
def test_shared_memory_is_refused_by_name(client: Client, kind: str):
    with pytest.raises(InferenceServerException) as refusal:
        getattr(client.calls, f"get_{kind}_shared_memory_status")()
    assert refusal.value.status() == ("501" if client.over_http else "StatusCode.UNIMPLEMENTED")
    assert f"{kind}_shared_memory" in refusal.value.message()


def number(tree: dict, *path: str) -> int:
    """protobuf's JSON has strings for 64-bit numbers and leaves out zeros."""
    for key in path[:-1]:
        tree = tree.get(key, {})
    return int(tree.get(path[-1], 0))
