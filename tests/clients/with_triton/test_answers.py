"""tritonclient's answers are those of ONNX Runtime in this process: for every model, version and client."""

import itertools

import numpy as np
import pytest

import samples
from samples import SAMPLES, Sample, assert_same
from triton_clients import Client

every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=str)
SEVERAL_OUTPUTS = [sample for sample in SAMPLES if len(sample.outputs) > 1]


@every_sample
def test_random_batches_get_the_answers_of_onnx_runtime(client: Client, sample: Sample):
    for rows in range(1, 9):
        inputs = sample.random(rows)
        assert_same(client.answers(sample, inputs), sample.answer(inputs))


@every_sample
def test_the_example_gets_the_expected_answer(client: Client, sample: Sample):
    assert_same(client.answers(sample, sample.example()), sample.expected())


@every_sample
def test_more_rows_than_a_batch_holds_are_answered_in_one_piece(client: Client, sample: Sample):
    inputs = sample.random(rows=150)
    assert_same(client.answers(sample, inputs), sample.answer(inputs))


def test_a_request_of_megabytes_is_answered(client: Client):
    """More than the 4 MiB that gRPC servers take by default."""
    inputs = {"x": np.random.default_rng(0).normal(size=(3000, 512)).astype(np.float32)}
    assert_same(client.answers("mlp", inputs), samples.sample("mlp").answer(inputs))


@pytest.mark.parametrize("sample", SEVERAL_OUTPUTS, ids=str)
def test_outputs_are_those_asked_for_in_the_order_asked_for(client: Client, sample: Sample):
    inputs = sample.random(rows=2)
    expected = sample.answer(inputs)
    for count in range(1, len(expected) + 1):
        for outputs in itertools.permutations(expected, count):
            answer = client.answers(sample, inputs, outputs=list(outputs))
            assert_same(answer, {name: expected[name] for name in outputs})


@pytest.mark.parametrize("sample", SEVERAL_OUTPUTS, ids=str)
def test_the_order_of_inputs_does_not_matter(client: Client, sample: Sample):
    inputs = sample.random(rows=3)
    reversed_inputs = dict(reversed(inputs.items()))
    assert_same(client.answers(sample, reversed_inputs), sample.answer(inputs))


@pytest.mark.parametrize("request_id", ["", "42", "a/b c", "größe-🙂", "x" * 500])
def test_the_request_id_comes_back(client: Client, request_id: str):
    result = client.infer("iris", samples.sample("iris").example(), request_id=request_id)
    assert client.head(result) == {"model_name": "iris", "model_version": "2", "id": request_id}


@pytest.mark.parametrize("sample", samples.NEWEST, ids=str)
def test_the_newest_version_answers_where_none_is_named(client: Client, sample: Sample):
    inputs = sample.random(rows=2)
    result = client.infer(sample.name, inputs)
    assert client.head(result)["model_version"] == sample.version
    assert_same(client.arrays(result), sample.answer(inputs))


def test_parameters_and_priorities_do_not_disturb(client: Client):
    sample = samples.sample("wine")
    parameters = {"text": "größe", "whole": 3, "flag": True}
    more = {"parameters": parameters, "priority": 2, "timeout": 30_000_000}
    inputs = sample.random(rows=2)
    assert_same(client.answers("wine", inputs, more=more), sample.answer(inputs))


@every_sample
def test_json_and_binary_tensors_mean_the_same(http_client: Client, sample: Sample):
    inputs = sample.random(rows=3)
    expected = sample.answer(inputs)
    for binary_in, binary_out in itertools.product([True, False], repeat=2):
        given = [http_client.input(name, array, binary_data=binary_in) for name, array in inputs.items()]
        outputs = [http_client.module.InferRequestedOutput(name, binary_data=binary_out) for name in expected]
        result = http_client.calls.infer(sample.name, given, model_version=sample.version, outputs=outputs)
        assert_same(http_client.arrays(result), expected)
        assert [is_binary(output) for output in result.get_response()["outputs"]] == [binary_out] * len(expected)


def test_json_and_binary_tensors_can_be_mixed_in_a_request(http_client: Client):
    sample = samples.sample("churn")
    inputs = sample.random(rows=5)
    expected = sample.answer(inputs)
    for first in (True, False):
        turns = itertools.cycle([first, not first])
        given = [http_client.input(name, array, binary_data=next(turns)) for name, array in inputs.items()]
        outputs = [http_client.module.InferRequestedOutput(name, binary_data=next(turns)) for name in expected]
        result = http_client.calls.infer("churn", given, outputs=outputs)
        assert_same(http_client.arrays(result), expected)


def test_numpy_strings_of_fixed_width_are_strings_too(client: Client):
    sentences = [b"where is my parcel", b"I forgot my password"]
    given = client.module.InferInput("text", [2], "BYTES")
    given.set_data_from_numpy(np.array(sentences))
    found = client.arrays(client.calls.infer("tickets", [given]))
    expected = samples.sample("tickets").answer({"text": np.array([s.decode() for s in sentences], np.object_)})
    assert_same(found, expected)


def is_binary(output: dict) -> bool:
    return "binary_data_size" in output.get("parameters", {})
