"""Tensors as V2 (Open Inference Protocol) JSON, and models run in this process by ONNX Runtime."""

import json
from pathlib import Path

import numpy as np
import onnxruntime

# The V2 datatypes of numpy's; strings are BYTES there and objects here.
DATATYPES = {"float32": "FP32", "int64": "INT64", "bool": "BOOL", "object": "BYTES"}
ARRAYS = {datatype: name for name, datatype in DATATYPES.items()}


def run(model: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All outputs of a model, by name; strings are arrays of dtype object."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


def tensors(arrays: dict[str, np.ndarray]) -> list[dict]:
    """V2 JSON tensors, data flat in row-major order."""
    return [
        {"name": name, "datatype": DATATYPES[str(array.dtype)], "shape": list(array.shape), "data": flat(array)}
        for name, array in arrays.items()
    ]


def flat(array: np.ndarray) -> list:
    """FP32 as the shortest decimals that read back to the same value."""
    if array.dtype == np.float32:
        return [float(str(value)) for value in array.ravel()]
    return array.ravel().tolist()


def arrays(tensors: list[dict]) -> dict[str, np.ndarray]:
    """The arrays that `tensors` was made from."""
    return {t["name"]: np.array(t["data"], ARRAYS[t["datatype"]]).reshape(t["shape"]) for t in tensors}


def write(path: Path, body: dict | list) -> None:
    """Writes a request or a list of tensors for human eyes, a row of each tensor's last dimension to a line."""
    if isinstance(body, dict):
        text = '{"id": %s, "inputs": %s}' % (json.dumps(body["id"]), lines(body["inputs"]))
    else:
        text = lines(body)
    path.write_text(text + "\n")


def lines(tensors: list[dict]) -> str:
    return "[\n" + ",\n".join(map(tensor_lines, tensors)) + "\n]"


def tensor_lines(tensor: dict) -> str:
    values, shape = [json.dumps(value) for value in tensor["data"]], tensor["shape"]
    column = len(shape) == 1 or shape[-1] == 1  # a column of numbers goes on one line; strings have theirs each
    width = shape[-1] if not column else 1 if tensor["datatype"] == "BYTES" else len(values)
    rows = [", ".join(values[i : i + width]) for i in range(0, len(values), width)]
    head = json.dumps({key: tensor[key] for key in ("name", "datatype", "shape")})[:-1]
    return head + ', "data": [\n  ' + ",\n  ".join(rows) + "\n]}"
