"""V1 as CloudEvents, made and read by the SDK that KServe itself uses, and bytes in base64."""

import base64
import json

import httpx
import numpy as np
import pytest
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent, from_http

import samples
from samples import NEWEST, Sample
from server import Server

ATTRIBUTES = {"type": "org.example.scan", "source": "tests/clients"}


def instances(sample: Sample, rows: int) -> tuple[list, samples.Arrays]:
    """Rows in V1's form, and the same as arrays."""
    inputs = sample.random(rows)
    lists = {name: array.tolist() for name, array in inputs.items()}
    if len(lists) == 1:
        return next(iter(lists.values())), inputs
    return [{name: values[row] for name, values in lists.items()} for row in range(rows)], inputs


def send(server: Server, model: str, headers: dict, body: bytes) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/models/{model}:predict", headers=headers, content=body, timeout=60)


@pytest.mark.parametrize("to_http", [to_structured, to_binary], ids=["structured", "binary"])
@pytest.mark.parametrize("sample", NEWEST, ids=str)
def test_an_event_is_answered_by_an_event(server: Server, sample: Sample, to_http):
    rows, inputs = instances(sample, rows=2)
    headers, body = to_http(CloudEvent(ATTRIBUTES, {"instances": rows}))
    answer = send(server, sample.name, headers, body)
    assert answer.status_code == 200, answer.text
    event = from_http(dict(answer.headers), answer.content)
    assert event["type"] == "io.kserve.inference.response"
    assert event["source"] == f"io.kserve.inference.{sample.name}"
    assert event["id"] and event["time"]
    plain = send(server, sample.name, {}, json.dumps({"instances": rows}).encode()).json()
    assert event.get_data() == plain
    expected = sample.answer(inputs)
    for name, array in expected.items():
        columns = [prediction[name] if len(expected) > 1 else prediction for prediction in plain["predictions"]]
        found = np.array(columns, array.dtype).reshape(array.shape)
        if array.dtype == np.float32:
            np.testing.assert_allclose(found, array, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(found, array)


def test_an_event_that_is_none_is_refused_in_words(server: Server):
    headers = {"content-type": "application/cloudevents+json"}
    answer = send(server, "iris", headers, b'{"instances": [[1, 2, 3, 4]]}')
    assert answer.status_code == 400
    assert "CloudEvent" in answer.json()["error"]


def test_text_may_come_in_base64(server: Server):
    text = "the printer is größer than 🙂"
    coded = {"b64": base64.b64encode(text.encode()).decode()}
    for form in ("instances", "inputs"):
        plain, same = (send(server, "tickets", {}, json.dumps({form: [value]}).encode()).json() for value in (text, coded))
        assert plain["predictions"]
        assert same == plain
