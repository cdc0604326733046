"""Every datatype through every client and back, bit by bit: models that give back what they are given."""

import shutil
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest

from server import ROOT, Server
from triton_clients import CLIENTS, HTTP_CLIENTS, Client, opened_client

ARRAYS = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
ODD_NUMBERS = [0.0, -0.0, 0.1, 1 / 3, 6e-8, 65504.0, np.nan, np.inf, -np.inf]
# tritonclient sends these as binary tensors alone.
BINARY_ONLY = {"FP16", "BF16"}


@pytest.fixture(scope="module")
def echo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model of each datatype, called by it."""
    repository = tmp_path_factory.mktemp("echo")
    for datatype in ARRAYS:
        version = repository / datatype / "1"
        version.mkdir(parents=True)
        shutil.copy(ROOT / "tests" / "fixtures" / f"identity_{datatype.lower()}.onnx", version / "model.onnx")
    server = Server(repository)
    yield server
    server.stop()


@pytest.fixture(scope="module", params=CLIENTS.values(), ids=CLIENTS)
def echo_client(request: pytest.FixtureRequest, echo_server: Server) -> Iterator[Client]:
    yield from opened_client(request.param(echo_server))


@pytest.fixture(scope="module", params=HTTP_CLIENTS.values(), ids=HTTP_CLIENTS)
def echo_http_client(request: pytest.FixtureRequest, echo_server: Server) -> Iterator[Client]:
    yield from opened_client(request.param(echo_server))


def values(datatype: str, text: bool = False) -> np.ndarray:
    """What a datatype holds at its edges; for `text`, what JSON can say of it."""
    kind = ARRAYS[datatype]
    if datatype == "BOOL":
        return np.array([[True, False, True]])
    if datatype == "BYTES":
        words = ["", "größe", "🙂", 'quoted " and \\', "\u0001", "x" * 70_000]
        return np.array([words if text else [*(word.encode() for word in words), b"\x00\xff"]], np.object_)
    if np.issubdtype(kind, np.integer):
        edges = np.iinfo(kind)
        return np.array([[edges.min, edges.max, 0, 1, edges.max - 1]], kind)
    with np.errstate(over="ignore"):
        return np.array([ODD_NUMBERS], np.float64).astype(kind)


def echoed(client: Client, datatype: str, array: np.ndarray, binary: bool | None = None) -> np.ndarray:
    given = client.module.InferInput("x", list(array.shape), datatype)
    how = {} if binary is None else {"binary_data": binary}
    given.set_data_from_numpy(array, **how)
    wanted = [client.module.InferRequestedOutput("y", **how)]
    return client.calls.infer(datatype, [given], outputs=wanted).as_numpy("y")


def assert_bits(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    if expected.dtype == np.object_:
        plain = lambda array: [one.encode() if isinstance(one, str) else one for one in array.ravel()]
        assert plain(found) == plain(expected)
    else:
        assert found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("datatype", ARRAYS)
def test_values_at_the_edges_come_back_bit_by_bit(echo_client: Client, datatype: str):
    array = values(datatype)
    assert_bits(echoed(echo_client, datatype, array), array)


@pytest.mark.parametrize("datatype", ARRAYS)
def test_no_elements_are_a_tensor_too(echo_client: Client, datatype: str):
    array = values(datatype)[:, :0]
    assert echoed(echo_client, datatype, array).shape == (1, 0)


@pytest.mark.parametrize("datatype", [name for name in ARRAYS if name not in BINARY_ONLY])
def test_values_at_the_edges_come_back_through_json(echo_http_client: Client, datatype: str):
    array = values(datatype, text=True)
    found = echoed(echo_http_client, datatype, array, binary=False)
    if np.issubdtype(array.dtype, np.floating):
        # A NaN in text has no bits of its own.
        np.testing.assert_array_equal(found, array)
        array, found = array[~np.isnan(array)], found[~np.isnan(found)]
    assert_bits(found, array)
