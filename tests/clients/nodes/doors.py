"""A case through each door of the server, as tritonclient speaks: HTTP with binary tensors, gRPC with raw contents."""

from collections.abc import Callable

import ml_dtypes
import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import np_to_triton_dtype

from node_cases import Arrays
from server import Server

BF16 = ml_dtypes.bfloat16
# V2 has no names for these: the server speaks of their bits.
FLOAT8 = {
    np.dtype(getattr(ml_dtypes, name))
    for name in "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu".split()
}


class Door:
    """One connection through one door."""

    def __init__(self, library, url: str):
        self._library = library
        self.client = library.InferenceServerClient(url)

    def infer(self, model: str, inputs: Arrays, expected: Arrays) -> Arrays:
        """All outputs in the order that the server gives them, each as an array of its V2 datatype."""
        result = self.client.infer(model, [self._input(name, array) for name, array in inputs.items()])
        found = {}
        for name, datatype, shape in described(result.get_response()):
            array = native(result.as_numpy(name), datatype)
            assert array.shape == shape, f"{name} has {array.shape}, but the answer says {shape}"
            assert datatype == v2_datatype(spoken(expected[name])), f"{name} is {datatype}"
            found[name] = as_asked(array, expected[name])
        return found

    def close(self) -> None:
        self.client.close()

    def _input(self, name: str, value: np.ndarray | list[np.ndarray]):
        array = spoken(value)
        given = self._library.InferInput(name, array.shape, v2_datatype(array))
        given.set_data_from_numpy(array)
        return given


DOORS: dict[str, Callable[[Server], Door]] = {
    "http": lambda server: Door(tritonclient.http, server.http),
    "grpc": lambda server: Door(tritonclient.grpc, server.grpc),
}


def described(response) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, datatype and shape of each output: HTTP's answers are dictionaries, gRPC's are messages."""
    if isinstance(response, dict):
        return [(output["name"], output["datatype"], tuple(output["shape"])) for output in response["outputs"]]
    return [(output.name, output.datatype, tuple(output.shape)) for output in response.outputs]


def spoken(value: np.ndarray | list[np.ndarray]) -> np.ndarray:
    """A value in V2's words: a sequence of one shape is a tensor of one dimension more, an 8-bit float is its bits."""
    array = np.stack(value) if isinstance(value, list) else value
    return array.view(np.uint8) if array.dtype in FLOAT8 else array


def as_asked(array: np.ndarray, expected: np.ndarray | list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
    """The reverse, as what is expected tells."""
    if isinstance(expected, list):
        return [*array]
    return array.view(expected.dtype) if expected.dtype in FLOAT8 else array


def v2_datatype(array: np.ndarray) -> str:
    if array.dtype == BF16:
        return "BF16"
    name = np_to_triton_dtype(array.dtype)
    assert name, f"V2 has no name for {array.dtype}"
    return name


def native(array: np.ndarray, datatype: str) -> np.ndarray:
    if datatype == "BF16":
        return array.astype(BF16)
    if datatype == "BYTES":
        texts = [value.decode() for value in array.ravel()]
        return np.array(texts, np.object_).reshape(array.shape)
    return array
