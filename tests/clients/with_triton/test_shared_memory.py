"""Tensors in system shared memory, as tritonclient and its `utils.shared_memory` put them there."""

import contextlib
import os
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

import samples
from samples import Sample, assert_same, datatype
from server import Server
from triton_clients import CLIENTS, Client, opened_client

NAMES = f"tensorgate-clients-{os.getpid()}-"
SIZE = 1 << 20  # of each region: room for every sample's inputs and outputs


@pytest.fixture(scope="module", params=CLIENTS.values(), ids=CLIENTS)
def sharing_client(request: pytest.FixtureRequest, sharing_server: Server) -> Iterator[Client]:
    """Each of the four, connected to a server that takes regions whose names start with `NAMES`."""
    yield from opened_client(request.param(sharing_server))


@pytest.fixture(scope="module")
def sharing_server(repository) -> Iterator[Server]:
    server = Server(repository, "--shared-memory-prefix", f"/dev/shm/{NAMES}")
    yield server
    server.stop()


@contextlib.contextmanager
def region(client: Client, name: str, size: int = SIZE):
    """A region that is registered, and gone afterwards."""
    handle = shm.create_shared_memory_region(name, f"/{NAMES}{name}", size)
    try:
        client.calls.register_system_shared_memory(name, f"/{NAMES}{name}", size)
        yield handle
    finally:
        client.calls.unregister_system_shared_memory(name)
        shm.destroy_shared_memory_region(handle)


def in_bytes(array: np.ndarray) -> bytes:
    return serialize_byte_tensor(array).item() if array.dtype == np.object_ else array.tobytes()


def placed(client: Client, handle, inputs: samples.Arrays) -> list:
    """The inputs, one behind the other in the region "in"."""
    made, offset = [], 0
    for name, array in inputs.items():
        content = in_bytes(array)
        shm.set_shared_memory_region(handle, [np.frombuffer(content, np.uint8)], offset)
        one = client.module.InferInput(name, list(array.shape), datatype(array))
        one.set_shared_memory("in", len(content), offset)
        made.append(one)
        offset += len(content)
    return made


def wanted(client: Client, sample: Sample) -> list:
    """Every output in a quarter of the region "out"."""
    made = []
    for position, output in enumerate(sample.outputs):
        one = client.module.InferRequestedOutput(output.name)
        one.set_shared_memory("out", SIZE // 4, position * (SIZE // 4))
        made.append(one)
    return made


def told(client: Client, result, name: str) -> tuple[str, list[int]]:
    """The datatype and shape that the answer tells of an output."""
    output = result.get_output(name)
    if client.over_http:
        assert output["parameters"]["shared_memory_region"] == "out"
        return output["datatype"], output["shape"]
    assert output.parameters["shared_memory_region"].string_param == "out"
    return output.datatype, list(output.shape)


@pytest.mark.parametrize("sample", samples.NEWEST, ids=str)
def test_inputs_and_outputs_lie_in_regions(sharing_client: Client, sample: Sample):
    client = sharing_client
    inputs = sample.random(rows=3)
    with region(client, "in") as source, region(client, "out") as target:
        result = client.calls.infer(
            sample.name, placed(client, source, inputs), outputs=wanted(client, sample)
        )
        found = {}
        for position, output in enumerate(sample.outputs):
            kind, shape = told(client, result, output.name)
            assert kind == output.datatype
            found[output.name] = shm.get_contents_as_numpy(
                target, samples.ARRAYS[kind], shape, position * (SIZE // 4)
            ).copy()
    assert_same(found, sample.answer(inputs))


def test_inputs_in_regions_are_answered_in_the_answer(sharing_client: Client):
    wine = samples.sample("wine")
    inputs = wine.random(rows=2)
    with region(sharing_client, "in") as source:
        result = sharing_client.calls.infer("wine", placed(sharing_client, source, inputs))
        assert_same(sharing_client.arrays(result), wine.answer(inputs))


def test_regions_are_told(sharing_client: Client):
    client = sharing_client
    with region(client, "in"), region(client, "out"):
        status = client.metadata("get_system_shared_memory_status")
        names = [one["name"] for one in status] if client.over_http else sorted(status["regions"])
        assert names == ["in", "out"]
        client.calls.unregister_system_shared_memory()
        status = client.metadata("get_system_shared_memory_status")
        assert not (status if client.over_http else status.get("regions"))


@pytest.mark.parametrize(
    ("name", "key", "size", "kind", "word"),
    [
        ("other", "/somebody-elses", 16, "invalid", "--shared-memory-prefix"),
        ("other", f"/{NAMES}nowhere", 16, "invalid", "No such file"),
        ("other", f"/{NAMES}in", SIZE + 1, "invalid", str(SIZE)),
        ("in", f"/{NAMES}in", SIZE, "conflict", "already"),
    ],
)
def test_regions_that_cannot_be_had_are_refused(sharing_client: Client, name, key, size, kind, word):
    with region(sharing_client, "in"), pytest.raises(InferenceServerException) as refusal:
        sharing_client.calls.register_system_shared_memory(name, key, size)
    assert refusal.value.status() == sharing_client.status(kind)
    assert word in refusal.value.message()


def test_a_region_that_is_too_small_is_told_with_both_sizes(sharing_client: Client):
    client, iris = sharing_client, samples.sample("iris")
    inputs = iris.random(rows=4)
    with region(client, "in") as source, region(client, "out"):
        label = client.module.InferRequestedOutput("label")
        label.set_shared_memory("out", 31)
        with pytest.raises(InferenceServerException) as refusal:
            client.calls.infer("iris", placed(client, source, inputs), outputs=[label])
    assert refusal.value.status() == client.status("invalid")
    assert "32 bytes" in refusal.value.message() and "31" in refusal.value.message()


def test_a_region_that_is_not_registered_is_refused_by_name(sharing_client: Client):
    client = sharing_client
    one = client.module.InferInput("features", [1, 4], "FP32")
    one.set_shared_memory("nope", 16)
    with pytest.raises(InferenceServerException) as refusal:
        client.calls.infer("iris", [one])
    assert refusal.value.status() == client.status("invalid")
    assert "nope" in refusal.value.message()
