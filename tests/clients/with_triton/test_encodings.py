"""tritonclient's compression and classification: the same answers, smaller or as the names of classes."""

import numpy as np
import pytest

import samples
from samples import assert_same
from triton_clients import Client

DIGITS = samples.sample("digits")


def compressed(client: Client, request: str | None, response: str | None) -> dict:
    """The arguments by which each client asks for it; gRPC has one for both directions."""
    if client.over_http:
        return {"request_compression_algorithm": request, "response_compression_algorithm": response}
    return {"compression_algorithm": request or response}


@pytest.mark.parametrize("response", [None, "gzip", "deflate"])
@pytest.mark.parametrize("request_coding", [None, "gzip", "deflate"])
def test_compressed_requests_and_answers_say_the_same(client: Client, request_coding: str | None, response: str | None):
    more = compressed(client, request_coding, response)
    for model in ("mlp", "tickets", "iris"):
        sample = samples.sample(model)
        inputs = sample.random(rows=8)
        assert_same(client.answers(sample, inputs, more=more), sample.answer(inputs))


def test_a_compressed_request_of_megabytes_is_answered(client: Client):
    inputs = {"x": np.tile(np.random.default_rng(0).normal(size=(100, 512)).astype(np.float32), (20, 1))}
    more = compressed(client, "gzip", "gzip")
    assert_same(client.answers("mlp", inputs, more=more), samples.sample("mlp").answer(inputs))


def test_outputs_come_as_their_best_classes(client: Client):
    scores = next(output for output in DIGITS.outputs if output.datatype == "FP32" and len(output.shape) == 2)
    inputs = DIGITS.random(rows=4)
    expected = DIGITS.answer(inputs)[scores.name]
    wanted = [client.module.InferRequestedOutput(scores.name, class_count=3)]
    found = client.answers(DIGITS, inputs, more={"outputs": wanted})[scores.name]
    assert found.shape == (4, 3)
    for row, best in zip(expected, samples.text(found)):
        values, indices = zip(*(entry.split(":") for entry in best))
        assert [int(index) for index in indices] == np.argsort(-row, kind="stable")[:3].tolist()
        np.testing.assert_allclose([float(value) for value in values], np.sort(row)[::-1][:3], atol=1e-5)
